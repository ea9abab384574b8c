"""Official checkpoint formats and key names: DUSt3R-512-dpt, MASt3R, MonST3R, St4RTrack.

A `.pth` file is a pickle, read by PyTorch's restricted unpickler with an allow-list; nothing in it is executed. The
architecture is a Python expression in a string, which is parsed, never evaluated.
"""

import argparse
import ast
import math
import pickle
import re
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path, PosixPath, PurePosixPath
from types import FunctionType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from st4rtrack.io.files import require_downloaded
from st4rtrack.model.config import ModelConfig
from st4rtrack.types import UserError


class _NumpyArray(np.ndarray):
    """NumPy array restricted to numbers and text, such as a random generator state; `np.ndarray` would unpickle any object."""

    __module__, __qualname__ = "numpy", "ndarray"  # PyTorch's unpickler looks classes up by these

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran, data = state
        plain = _plain_dtype(dtype, data, math.prod(shape))
        super().__setstate__((1, shape, plain, bool(fortran), data))  # pyright: ignore[reportArgumentType]


def _numpy_array(*_: Any) -> np.ndarray:
    return np.ndarray.__new__(_NumpyArray, (0,))  # `__setstate__` fills in the values


def _no_bytes() -> bytes:
    return b""


def _numpy_scalar(dtype: np.dtype, data: bytes) -> np.generic:
    """NumPy scalar restricted to numbers and text, such as a best score; NumPy's constructor would take any object."""
    plain = _plain_dtype(dtype, data, 1)
    return np.frombuffer(data, plain)[0] if data else plain.type()


def _plain_dtype(dtype: np.dtype, data: bytes, count: int) -> np.dtype:
    """Validate a dtype of numbers or text and its data size, as a pickle may have changed them."""
    plain = np.dtype(dtype.str)
    if plain.kind not in "biufcSU" or plain.itemsize != dtype.itemsize or len(data) != count * plain.itemsize:
        raise pickle.UnpicklingError("the pickle has NumPy values that are neither numbers nor text")
    return plain


def _under_name(function: FunctionType, module: str, name: str) -> Callable[..., Any]:
    """Copy a function under a NumPy name, by which PyTorch's unpickler looks it up."""
    copy = FunctionType(function.__code__, globals(), name)
    copy.__module__, copy.__qualname__ = module, name
    return copy


NUMPY_CLASSES = [
    np.dtype,
    *{type(np.dtype(code)) for code in "?bhilqBHILQefdFDSU"},
    _NumpyArray,
    _under_name(_no_bytes, "builtins", "bytes"),  # of empty arrays and text; others are encoded
    *(
        _under_name(function, module, name)
        for module in ("numpy.core.multiarray", "numpy._core.multiarray")  # as NumPy 1 and 2 write it
        for function, name in ((_numpy_scalar, "scalar"), (_numpy_array, "_reconstruct"))
    ),
]
ALLOWED_CLASSES = [argparse.Namespace, PosixPath, PurePosixPath, *NUMPY_CLASSES]
ARCHITECTURES = ("AsymmetricCroCo3DStereo", "AsymmetricMASt3R")
HEAD_TYPES = ("dpt", "catmlp+dpt")

_RENAMES = [
    (r"^patch_embed\.proj\.", "encoder.patch_embed."),
    (r"^enc_blocks\.", "encoder.blocks."),
    (r"^enc_norm\.", "encoder.norm."),
    (r"^decoder_embed\.", "decoder.embed."),
    (r"^dec_norm\.", "decoder.norm."),
    (r"^dec_blocks\.", "decoder.tracking_blocks."),
    (r"^dec_blocks2\.", "decoder.reconstruction_blocks."),
    (r"^downstream_head1\.dpt\.", "tracking_head."),
    (r"^downstream_head2\.dpt\.", "reconstruction_head."),
    (r"\.norm1\.", ".norm_self."),
    (r"^(encoder\.blocks\.\d+)\.norm2\.", r"\1.norm_mlp."),
    (r"^(decoder\.\w+_blocks\.\d+)\.norm2\.", r"\1.norm_cross."),
    (r"\.norm3\.", ".norm_mlp."),
    (r"\.norm_y\.", ".norm_other."),
    (r"\.attn\.qkv\.", ".self_attention.qkv."),
    (r"\.attn\.proj\.", ".self_attention.out."),
    (r"\.cross_attn\.projq\.", ".cross_attention.query."),
    (r"\.cross_attn\.projk\.", ".cross_attention.key."),
    (r"\.cross_attn\.projv\.", ".cross_attention.value."),
    (r"\.cross_attn\.proj\.", ".cross_attention.out."),
    (r"\.act_postprocess\.", ".reassemble."),
    (r"\.scratch\.refinenet(\d)\.out_conv\.", lambda m: f".fuse.{int(m[1]) - 1}.out."),
    (r"\.scratch\.refinenet(\d)\.resConfUnit1\.", lambda m: f".fuse.{int(m[1]) - 1}.skip_unit."),
    (r"\.scratch\.refinenet(\d)\.resConfUnit2\.", lambda m: f".fuse.{int(m[1]) - 1}.out_unit."),
    (r"\.scratch\.layer(\d)_rn\.", lambda m: f".project.{int(m[1]) - 1}."),
    (r"\.scratch\.layer_rn\.(\d)\.", r".project.\1."),
    (r"_head\.head\.0\.", "_head.refine1."),
    (r"_head\.head\.2\.", "_head.refine2."),
    (r"_head\.head\.4\.", "_head.out."),
]

_NEVER_USED = re.compile(r"^mask_token$|^(tracking|reconstruction)_head\.fuse\.3\.skip_unit\.")
_LOCAL_FEATURES = re.compile(r"^downstream_head[12]\.head_local_features\.")


def is_official(keys: set[str]) -> bool:
    """Whether weights have official key names."""
    return any(key.removeprefix("module.").startswith(("enc_blocks.", "patch_embed.")) for key in keys)


def our_key(official_key: str) -> str:
    """Convert an official tensor name to that of this project."""
    key = official_key
    for pattern, replacement in _RENAMES:
        key = re.sub(pattern, replacement, key)
    return key


def convert_weights(weights: dict[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Convert official weights to the names of this project.

    Returns:
        Renamed weights without unused tensors, and a note for each intentional omission or addition.
    """
    weights = {key.removeprefix("module."): value for key, value in weights.items()}
    local = [key for key in weights if _LOCAL_FEATURES.match(key)]
    notes = (
        [f"{len(local)} tensors of MASt3R's local-feature heads were ignored: St4RTrack does not match descriptors"]
        if local
        else []
    )
    if not any(key.startswith("dec_blocks2.") for key in weights):
        weights |= {
            key.replace("dec_blocks.", "dec_blocks2.", 1): w for key, w in weights.items() if key.startswith("dec_blocks.")
        }
        notes.append("no second decoder in the file: initialised it with a copy of the first")
    renamed = {our_key(key): value for key, value in weights.items() if key not in set(local)}
    return {key: value for key, value in renamed.items() if not _NEVER_USED.match(key)}, notes


def read_pickle(path: Path) -> dict[str, Any]:
    """Read an official `.pth` with the allow-list."""
    require_downloaded(path)
    _require_unpacked(path)
    try:
        with torch.serialization.safe_globals(ALLOWED_CLASSES), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of unusual pickles: they are either readable or rejected below
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file can raise any exception
        found = re.search(r"GLOBAL ([\w.]+)", str(error))
        if found:
            raise UserError(
                f"{path} is a pickle that asks for {found[1]}, which no model checkpoint needs; it was not executed"
            ) from None
        raise UserError(f"{path} is not a model checkpoint that PyTorch can read; download it again") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} is a {type(content).__name__}, not a model checkpoint")
    return content


def _require_unpacked(path: Path) -> None:
    """Reject compressed archives: PyTorch does not compress, and a decompression bomb would fill the memory."""
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
    except Exception:  # another format or a damaged file, which PyTorch will report
        return
    if size > path.stat().st_size:
        raise UserError(
            f"{path} decompresses to {size / 1e9:.1f} GB, more than its size; it is damaged or malicious, download it again"
        )


def read_official(path: Path) -> tuple[ModelConfig, dict[str, Tensor]]:
    """Read configuration and weights, with official names, of an official `.pth`.

    Raises:
        UserError: the file is not an official checkpoint, or of another architecture.
    """
    content = read_pickle(path)
    weights = content.get("model", content)
    named = isinstance(weights, dict) and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in weights.items())
    if not named or not weights:
        raise UserError(f"{path} has no model weights under 'model'; pass a checkpoint of St4RTrack, DUSt3R, MASt3R or MonST3R")
    if any(value.layout != torch.strided or value.nbytes > value.untyped_storage().nbytes() for value in weights.values()):
        raise UserError(f"{path} is damaged: its weights are larger than its data; download it again")
    expression = getattr(content.get("args"), "model", None)
    options = parse_architecture(expression, path) if isinstance(expression, str) else {}
    return config_from_official(options, weights, path), weights


def parse_architecture(expression: str, path: Path) -> dict[str, Any]:
    """Parse the keyword arguments of an official string such as "AsymmetricCroCo3DStereo(head_type='dpt', ...)"."""
    refusal = UserError(
        f"{path} describes an architecture that is not DUSt3R's with a dpt head: {' '.join(expression.split())[:80]}"
    )
    numbers = re.sub(r"float\(['\"]inf['\"]\)|\b(\w+\.)?inf\b", "1e999", expression)  # a literal that is infinite
    try:
        call = ast.parse(numbers.strip(), mode="eval").body
        if not isinstance(call, ast.Call) or call.args or not all(keyword.arg for keyword in call.keywords):
            raise refusal
        if ast.unparse(call.func).rpartition(".")[2] not in ARCHITECTURES:
            raise refusal
        return {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in call.keywords}
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        raise refusal from None


def config_from_official(options: dict[str, Any], weights: dict[str, Tensor], path: Path) -> ModelConfig:
    """Derive the configuration from official options and, where these omit it, from the shapes of the weights.

    Raises:
        UserError: the head or output mode is unsupported, or expected tensors are missing.
    """
    calls = [value for value in options.values() if isinstance(value, str) and any(f"{name}(" in value for name in ARCHITECTURES)]
    if calls:  # a config.json that has the whole string, under whatever name
        options = parse_architecture(calls[0], path)
    head = options.get("head_type", options.get("head_type1", "dpt"))
    if head not in HEAD_TYPES:
        raise UserError(f"{path} has a {head!r} head; only DUSt3R's dpt head is supported")
    inf = float("inf")
    for name, expected in (("depth_mode", ("exp", -inf, inf)), ("conf_mode", ("exp", 1, inf))):
        if name in options and _as_floats(options[name]) != expected:
            raise UserError(f"{path} was trained with {name} {options[name]}, which is not the released {expected}")
    shapes = {key.removeprefix("module."): tuple(value.shape) for key, value in weights.items()}
    try:
        encoder_width, _, patch, _ = shapes["patch_embed.proj.weight"]
        decoder_width, _ = shapes["decoder_embed.weight"]
    except ValueError:
        raise UserError(f"{path} is a checkpoint of another architecture: its tensors have other shapes than DUSt3R's") from None
    except KeyError as error:
        raise UserError(f"{path} lacks the tensor {error.args[0]}: it is a checkpoint of another architecture") from None
    rope = re.fullmatch(r"RoPE(\d+(?:\.\d+)?)", str(options.get("pos_embed", "RoPE100")))
    if rope is None:
        raise UserError(f"{path} uses the position embedding {options['pos_embed']!r}; only rotary ones are supported")
    image_size = options.get("img_size", (512, 512))
    try:
        return ModelConfig(
            patch_size=patch,
            image_size=int(max(image_size)) if isinstance(image_size, (tuple, list)) else int(image_size),
            encoder_width=encoder_width,
            encoder_depth=_count_blocks(shapes, "enc_blocks"),
            encoder_heads=int(options.get("enc_num_heads", max(1, encoder_width // 64))),
            decoder_width=decoder_width,
            decoder_depth=_count_blocks(shapes, "dec_blocks"),
            decoder_heads=int(options.get("dec_num_heads", max(1, decoder_width // 64))),
            rope_base=float(rope[1]),
        )
    except (UserError, ValueError, TypeError, OverflowError) as error:
        raise UserError(f"{path} is a checkpoint of another architecture: {error}") from None


def _as_floats(mode: Any) -> Any:
    """Convert infinities in a mode tuple, which strict JSON stores as strings."""
    if not isinstance(mode, (tuple, list)):
        return mode
    infinite = ("inf", "infinity")
    return tuple(float(part) if isinstance(part, str) and part.lstrip("+-").lower() in infinite else part for part in mode)


def _count_blocks(shapes: dict[str, tuple[int, ...]], prefix: str) -> int:
    found = {int(match[1]) for key in shapes if (match := re.match(rf"{prefix}\.(\d+)\.", key))}
    return len(found)
