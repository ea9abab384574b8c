"""Checkpoints: load from any source, save as safetensors with the configuration inside. Nothing is fetched unless a hub is named."""

import hashlib
import json
import logging
from collections.abc import Collection
from dataclasses import asdict, dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from st4rtrack.io.files import expanded, require_downloaded
from st4rtrack.io.json_text import parse_json
from st4rtrack.model.config import ModelConfig
from st4rtrack.model.device import choose_device, choose_dtype
from st4rtrack.model.hub import fetch_folder, is_hub_id
from st4rtrack.model.monocular import MonocularNetwork
from st4rtrack.model.network import St4RTrack
from st4rtrack.model.official import config_from_official, convert_weights, is_official, read_official
from st4rtrack.model.precision_check import checked_dtype
from st4rtrack.types import UserError

logger = logging.getLogger(__name__)

CONFIG_KEY = "st4rtrack_config"
BASE_KEY = "st4rtrack_base"
"""In the header of a file that holds only what changed: JSON with the `name`, the `source` and the `hash` of the other weights."""
EMBEDDED = "tiny.safetensors"
EMBEDDED_MONOCULAR = "monocular.safetensors"


def load_model(source: str | Path | None = None, *, device: str = "auto", dtype: str = "auto") -> St4RTrack:
    """The network with trained weights, ready for inference.

    Args:
        source: `None` or "tiny" for the embedded model; a `.safetensors` file of ours, whole or what changed of another
            (`save_changes`); an official `.pth` (DUSt3R-512-dpt, MASt3R, MonST3R, St4RTrack); a folder with `config.json` and
            `model.safetensors`; or a hub id "org/name" or "org/name:subfolder", which is fetched.
        device: "auto" (CUDA, else MPS, else CPU) or a PyTorch device.
        dtype: "auto" (bfloat16 where the hardware is fast at it), "float32" or "bfloat16". float32 is used, with a warning, where
            the bfloat16 points of this model are wrong on this machine (`precision_check`).
    Raises:
        UserError: there is no such file, or it is no checkpoint of this architecture.
    """
    chosen_device = choose_device(device)
    config, weights, name = _read(source)
    model = _build(config, weights, name)
    model.name = name
    model.weights_hash = _hash(weights)
    chosen_dtype = checked_dtype(model.eval(), chosen_device, choose_dtype(dtype, chosen_device))
    return model.to(chosen_device, chosen_dtype)


def load_monocular(source: str | Path | None = None, *, device: str = "auto") -> MonocularNetwork:
    """Load encoder and monocular head of a checkpoint, ready for inference in float32: fast enough, and no precision check.

    Args:
        source: `None` for the embedded weights; a file of `st4rtrack train mono`; or a whole network with a monocular head.
        device: as of `load_model`.
    Raises:
        UserError: the checkpoint has no monocular head, or is damaged.
    """
    config, weights, name = _read_monocular(source)
    if not config.monocular:
        raise UserError(f"checkpoint {name} has no monocular depth head; train one with: st4rtrack train mono")
    with torch.device("meta"):
        network = MonocularNetwork(config)
    expected = network.state_dict()
    for key, value in expected.items():
        if key not in weights or weights[key].shape != value.shape:
            raise UserError(f"checkpoint {name} is damaged: {key} is missing or has another shape; make or fetch it again")
    network.load_state_dict({key: _as_float(weights[key], key, name) for key in expected}, assign=True)
    network.name, network.weights_hash = name, _hash(weights)
    return network.to(choose_device(device), memory_format=torch.channels_last).eval()  # pyright: ignore[reportCallIssue]


def _read_monocular(source: str | Path | None) -> tuple[ModelConfig, dict[str, Tensor], str]:
    if source is not None:
        return _read(source)
    with resources.as_file(resources.files("st4rtrack.model") / "weights" / EMBEDDED_MONOCULAR) as path:
        if not path.is_file():
            raise UserError("this installation has no monocular weights; pass a file of: st4rtrack train mono")
        return (*_read_safetensors(path), "monocular")


def save_model(
    model: St4RTrack | MonocularNetwork, path: str | Path, *, info: dict[str, str] | None = None, dtype: torch.dtype | None = None
) -> None:
    """Weights with their configuration, as one `.safetensors` file.

    Args:
        model: the network.
        path: of the file; its folder must exist.
        info: further texts for the file's header, such as how it was trained.
        dtype: type to store, default that of the weights.
    """
    weights = {key: value.detach().cpu().to(dtype or value.dtype).contiguous() for key, value in model.state_dict().items()}
    _write(weights, model.config, Path(path), info or {})


@dataclass(frozen=True)
class Base:
    """The weights that a file of changes completes.

    Attributes:
        name: of the model.
        source: "tiny", or the whole path of its file or folder.
        hash: of its weights.
    """

    name: str
    source: str
    hash: str


def find_base(model: St4RTrack, source: str | Path) -> Base:
    """The base for changes of a model, as it was loaded.

    Args:
        model: what `load_model` gave.
        source: what `load_model` was given.
    Raises:
        UserError: it is no file that can be found again, or itself holds changes only.
    """
    if str(source) == "tiny":
        return Base(model.name, "tiny", model.weights_hash)
    path = expanded(source)
    if not path.exists():
        raise UserError(f"the base {str(source)!r} is no file here, so its changes alone could not be used; save the whole model")
    if _is_changes(path):
        raise UserError(f"{path} itself holds only what changed of another model; save the whole model")
    return Base(model.name, str(path.resolve()), model.weights_hash)


def save_changes(
    model: St4RTrack, path: str | Path, *, base: Base, names: Collection[str], info: dict[str, str] | None = None
) -> None:
    """What changed of a model, as a small `.safetensors` file that `load_model` completes with the base.

    Args:
        model: the network.
        path: of the file; its folder must exist.
        base: what it was before.
        names: of the tensors that changed, among those of `model.state_dict()`; may be none.
        info: further texts for the file's header.
    """
    weights = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items() if key in names}
    _write(weights, model.config, Path(path), {BASE_KEY: json.dumps(asdict(base)), **(info or {})})


def convert_checkpoint(source: str | Path, output: str | Path, *, overwrite: bool = False) -> list[Path]:
    """Any checkpoint that `load_model` reads, written as safetensors with its configuration; types of the weights are kept.

    Args:
        source: as of `load_model`.
        output: a `.safetensors` file, or a folder, which gets `model.safetensors` and `config.json`.
        overwrite: replace files that are there.
    Returns:
        The files written.
    Raises:
        UserError: the source cannot be read, or the output exists.
    """
    output = Path(output)
    to_file = output.suffix == ".safetensors"
    if not to_file and (output.is_file() or output.suffix):
        raise UserError(f"{output} should end in .safetensors, or be a folder")
    targets = [output] if to_file else [output / "model.safetensors", output / "config.json"]
    for path in targets:
        if path.exists() and not overwrite:
            raise UserError(f"{path} exists already; choose another path, or replace it with --overwrite")
    config, weights, name = _read(source)
    _build(config, weights, name)  # refuses what is incomplete, before anything is written
    try:
        targets[0].parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"the folder {targets[0].parent} cannot be made: {error.strerror}") from None
    partial = targets[0].with_suffix(".partial")
    save_file(
        {key: value.contiguous() for key, value in weights.items()}, partial, metadata={CONFIG_KEY: json.dumps(config.to_dict())}
    )
    partial.replace(targets[0])
    if not to_file:
        targets[1].write_text(json.dumps(config.to_dict(), indent=1) + "\n")
    return targets


def read_info(path: str | Path) -> dict[str, str]:
    """Texts of a `.safetensors` header."""
    with safe_open(Path(path), framework="pt") as file:
        return dict(file.metadata() or {})


def _write(weights: dict[str, Tensor], config: ModelConfig, path: Path, info: dict[str, str]) -> None:
    path.touch()
    mode = path.stat().st_mode  # the library makes files that only their owner may read
    save_file(weights, path, metadata={CONFIG_KEY: json.dumps(config.to_dict()), **info})
    path.chmod(mode)


def is_embedded(model: St4RTrack) -> bool:
    """The network is the one inside the package, and not another one of its name."""
    return model.name == EMBEDDED.removesuffix(".safetensors") and model.weights_hash == _embedded_hash()


@cache
def _embedded_hash() -> str:
    return _hash(_read(None)[1])


def _read(source: str | Path | None) -> tuple[ModelConfig, dict[str, Tensor], str]:
    if source is None or str(source) == "tiny":
        embedded = resources.files("st4rtrack.model") / "weights" / EMBEDDED
        with resources.as_file(embedded) as path:
            return (*_read_safetensors(path), "tiny")
    path = expanded(source)
    if path.is_dir():
        return (*_read_folder(path), path.name)
    if path.is_file():
        return (*_read_file(path), path.stem)
    if isinstance(source, str) and is_hub_id(source):
        return (*_read_folder(fetch_folder(source, "config.json", "model.safetensors")), source)
    raise UserError(f"no model {str(source)!r}: give a checkpoint file, a folder with config.json, or a hub id such as org/name")


def _read_file(path: Path) -> tuple[ModelConfig, dict[str, Tensor]]:
    with path.open("rb") as file:
        start = file.read(10)
    if not start:
        raise UserError(f"{path} is empty; fetch or copy it again")
    if path.suffix == ".safetensors" or start[8:9] == b"{":
        return _read_safetensors(path)
    config, weights = read_official(path)
    return config, _from_official(weights)


def _with_base(path: Path, record: str, changes: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights of the base that the header of a file of changes names, with the changes."""
    try:
        base = Base(**parse_json(record))
        source = Path(base.source)
        places = [source, path.parent / source.name]
        there = [place for place in places if place.exists() and place.resolve() != path.resolve()]
    except (ValueError, TypeError, OSError):  # no such JSON, or no path that could be
        raise UserError(f"{path} is damaged: it does not say which model it changes; fetch or write it again") from None
    found: Path | str | None = "tiny" if base.source == "tiny" else None
    if found is None:  # where it was, or beside the changes; never a hub: a file may not make this program fetch another
        found = next(iter(there), None)
    if found is None:
        raise UserError(
            f"{path} holds only what changed of {base.name}, which is not at {source}; put it there, or beside {path.name}"
        )
    if found != "tiny" and _is_changes(Path(found)):
        raise UserError(f"{path} holds only what changed of {found}, which itself holds only changes; it cannot be used")
    weights = _read(found)[1]
    if _hash(weights) != base.hash:
        raise UserError(
            f"{path} holds only what changed of {base.name}, but {found} has other weights than those it was made from"
        )
    return {**weights, **changes}


def _is_changes(path: Path) -> bool:
    try:
        return path.is_file() and path.suffix == ".safetensors" and BASE_KEY in read_info(path)
    except (SafetensorError, OSError):
        return False


def _read_safetensors(path: Path, options: dict[str, Any] | None = None) -> tuple[ModelConfig, dict[str, Tensor]]:
    """`options` are those of a `config.json` beside the file."""
    require_downloaded(path)
    try:
        with safe_open(path, framework="pt") as file:
            header = dict(file.metadata() or {})
            weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
    except Exception as error:  # a type that this PyTorch has not, for one, fails with any kind of error
        why = " ".join(str(error).split())[:160]
        raise UserError(f"{path} is not a safetensors file that can be read: {why}") from None
    if is_official(set(weights)):
        return config_from_official(options or {}, weights, path), _from_official(weights)
    try:
        values = parse_json(header[CONFIG_KEY]) if CONFIG_KEY in header else options
    except ValueError:
        raise UserError(f"{path} carries a configuration that is not JSON") from None
    if not isinstance(values, dict):
        raise UserError(f"{path} carries no configuration: it is not a checkpoint of st4rtrack")
    if BASE_KEY in header:
        weights = _with_base(path, header[BASE_KEY], weights)
    return ModelConfig.from_dict(values), weights


def _read_folder(folder: Path) -> tuple[ModelConfig, dict[str, Tensor]]:
    config_path, weights_path = folder / "config.json", folder / "model.safetensors"
    for path in (config_path, weights_path):
        if not path.is_file():
            raise UserError(f"{folder} is not a model folder: it has no {path.name}")
    try:
        options = parse_json(config_path.read_text(encoding="utf-8"))
    except (ValueError, OSError):  # text in another encoding is a ValueError too
        raise UserError(f"{config_path} is not JSON") from None
    if not isinstance(options, dict):
        raise UserError(f"{config_path} holds no options; fetch or write it again")
    return _read_safetensors(weights_path, options)


def _from_official(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    converted, notes = convert_weights(weights)
    for note in notes:
        logger.warning(note)
    return converted


def _build(config: ModelConfig, weights: dict[str, Tensor], name: str) -> St4RTrack:
    if config.encoder_depth + config.decoder_depth > len(weights):  # before as many layers are made
        raise UserError(
            f"checkpoint {name} is of another architecture: it has {len(weights)} tensors for the layers it announces"
        )
    with torch.device("meta"):
        model = St4RTrack(config)
    expected = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    missing, unknown = sorted(set(expected) - set(weights)), sorted(set(weights) - set(expected))
    wrong = [key for key in expected if key in weights and tuple(weights[key].shape) != expected[key]]
    for kind, keys in (("lacks", missing), ("has the unknown tensor", unknown), ("has the wrong shape of", wrong)):
        if keys:
            more = f" and {len(keys) - 1} more" if len(keys) > 1 else ""
            raise UserError(f"checkpoint {name} is of another architecture: it {kind} {keys[0]}{more}")
    values = {key: _as_float(value, key, name) for key, value in weights.items()}
    model.load_state_dict(values, assign=True)
    return model


def _as_float(value: Tensor, key: str, name: str) -> Tensor:
    if not value.is_floating_point():
        raise UserError(f"checkpoint {name} is damaged: {key} holds {value.dtype}, not weights; fetch or write it again")
    value = value.float()
    if not bool(value.isfinite().all()):
        raise UserError(f"checkpoint {name} is damaged: {key} holds values that are not finite; fetch or write it again")
    return value


def _hash(weights: dict[str, Tensor]) -> str:
    """SHA-256 of names and values, the same for every container."""
    digest = hashlib.sha256()
    for key in sorted(weights):
        digest.update(key.encode())
        digest.update(weights[key].detach().contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()
