"""Checkpoints: safetensors, official pickles, folders."""

import io
import json
import pickle
import struct
import zipfile
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor

from st4rtrack.model.checkpoint import BASE_KEY, CONFIG_KEY, load_model, save_model
from st4rtrack.model.config import ModelConfig
from st4rtrack.model.network import St4RTrack
from tests.reliability.case import Case, End, Make
from tests.reliability.damage import DAMAGES
from tests.reliability.hostile_arrays import bomb, payload
from tests.reliability.videos import written

CONFIG = ModelConfig(
    encoder_width=8, encoder_depth=1, encoder_heads=1, decoder_width=8, decoder_depth=1, decoder_heads=1, head="conv"
)


def read_model(path: Path) -> None:
    """Loads it; what is loaded has finite weights only."""
    model = load_model(path, device="cpu", dtype="float32")
    assert all(bool(value.isfinite().all()) for value in model.state_dict().values())


@cache
def whole() -> bytes:
    """A valid checkpoint of a very small network."""
    torch.manual_seed(0)
    with TemporaryDirectory() as folder:
        save_model(St4RTrack(CONFIG), Path(folder) / "model.safetensors")
        return (Path(folder) / "model.safetensors").read_bytes()


@cache
def weights() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return {key: value.detach().contiguous() for key, value in St4RTrack(CONFIG).state_dict().items()}


def safetensors(
    change: Callable[[dict[str, Tensor]], dict[str, Tensor]] | None = None, header: dict[str, str] | None = None
) -> bytes:
    content = {key: value.clone() for key, value in weights().items()}
    return save(change(content) if change else content, {CONFIG_KEY: json.dumps(CONFIG.to_dict()), **(header or {})})


def configured(**options: Any) -> bytes:
    """With another configuration than its weights."""
    return safetensors(header={CONFIG_KEY: json.dumps({**CONFIG.to_dict(), **options})})


def with_header(length: int | None, header: bytes, data: bytes = bytes(64)) -> bytes:
    """A safetensors file of any header and header length."""
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def tensor_header(**values: Any) -> bytes:
    return json.dumps({"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16], **values}}).encode()


def one_changed(change: Callable[[Tensor], Tensor]) -> bytes:
    """With one of its tensors changed."""

    def changed(content: dict[str, Tensor]) -> dict[str, Tensor]:
        key = sorted(content)[0]
        return {**content, key: change(content[key]).contiguous()}

    return safetensors(changed)


def saved(content: Any, **how: Any) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, **how)
    return file.getvalue()


def official(**args: Any) -> bytes:
    """The official container around next to nothing."""
    import argparse

    return saved({"model": {"patch_embed.proj.weight": torch.zeros(1)}, "args": argparse.Namespace(**args)})


def wide_view() -> bytes:
    """Tensors of a terabyte that are all one number."""
    names = {
        "patch_embed.proj.weight": (60000, 3, 16, 16),
        "decoder_embed.weight": (60000, 60000),
        "enc_blocks.0.attn.qkv.weight": (180000, 60000),
    }
    return saved({"model": {name: torch.zeros(1).expand(shape) for name, shape in names.items()}})


def packed_bomb() -> bytes:
    """A container whose storage is four gigabytes of zeros, packed."""
    with zipfile.ZipFile(io.BytesIO(saved({"model": {"a": torch.zeros(4)}}))) as source:
        members = {name: source.read(name) for name in source.namelist()}
    return bomb(members, next(name for name in members if name.endswith("/data/0")))


def folder_of(config: bytes | None, model: Callable[[], bytes] | None = whole) -> Make:
    """A model folder."""

    def make(folder: Path, rng: np.random.Generator) -> Path:
        (folder / "model").mkdir()
        if config is not None:
            written(folder / "model" / "config.json", config)
        if model is not None:
            written(folder / "model" / "model.safetensors", model())
        return folder / "model"

    return make


def base(**values: Any) -> bytes:
    """Changes of another model, as its header says."""
    said = {"name": "other", "source": "tiny", "hash": "0" * 64, **values}
    return safetensors(lambda content: {}, {BASE_KEY: json.dumps(said)})


TENSORS: list[tuple[str, Callable[[], bytes], End]] = [
    ("as-it-is", whole, "result"),
    ("nan", lambda: one_changed(lambda t: t * float("nan")), "sentence"),
    ("infinite", lambda: one_changed(lambda t: t / 0), "sentence"),
    ("float64", lambda: one_changed(lambda t: t.double()), "result"),
    ("float16", lambda: one_changed(lambda t: t.half()), "result"),
    ("float8", lambda: one_changed(lambda t: t.to(torch.float8_e4m3fn)), "result"),
    ("beyond-float32", lambda: one_changed(lambda t: torch.full(t.shape, 1e300, dtype=torch.float64)), "sentence"),
    ("integers", lambda: one_changed(lambda t: t.to(torch.int64)), "sentence"),
    # as large as float64, and an old safetensors cannot write it
    ("complex", lambda: one_changed(lambda t: t.double()).replace(b'"F64"', b'"C64"'), "sentence"),
    ("other-shape", lambda: one_changed(lambda t: torch.zeros(5)), "sentence"),
    ("one-missing", lambda: safetensors(lambda c: {k: c[k] for k in sorted(c)[1:]}), "sentence"),
    ("one-more", lambda: safetensors(lambda c: {**c, "more": torch.zeros(1)}), "sentence"),
    ("none", lambda: safetensors(lambda c: {}), "sentence"),
    ("empty", lambda: b"", "sentence"),
    ("seven-bytes", lambda: bytes(7), "sentence"),
    ("header-of-exabytes", lambda: with_header(2**63, b"{}"), "sentence"),
    ("header-of-gigabytes", lambda: with_header(2**32, b"{}"), "sentence"),
    ("header-of-100-mb", lambda: with_header(99_999_999, b"{}"), "sentence"),
    ("header-negative", lambda: with_header(2**64 - 1, b"{}"), "sentence"),
    ("header-deep", lambda: with_header(None, b"[" * 100000), "sentence"),
    ("header-no-json", lambda: with_header(None, b"hello"), "sentence"),
    ("header-list", lambda: with_header(None, b"[]"), "sentence"),
    ("header-no-text", lambda: with_header(None, b"\xff\xfe{}"), "sentence"),
    ("offsets-beyond", lambda: with_header(None, tensor_header(data_offsets=[0, 2**40])), "sentence"),
    ("offsets-negative", lambda: with_header(None, tensor_header(data_offsets=[-16, 0])), "sentence"),
    ("shape-enormous", lambda: with_header(None, tensor_header(shape=[2**40, 2**40])), "sentence"),
    ("shape-negative", lambda: with_header(None, tensor_header(shape=[-4])), "sentence"),
    ("dtype-unknown", lambda: with_header(None, tensor_header(dtype="F99")), "sentence"),
    ("metadata-numbers", lambda: with_header(None, b'{"__metadata__": {"a": 1}}'), "sentence"),
    ("no-config", lambda: save(weights()), "sentence"),
    ("config-no-json", lambda: safetensors(header={CONFIG_KEY: "{"}), "sentence"),
    ("config-list", lambda: safetensors(header={CONFIG_KEY: "[]"}), "sentence"),
    ("config-deep", lambda: safetensors(header={CONFIG_KEY: "[" * 100000}), "sentence"),
    ("config-long-number", lambda: safetensors(header={CONFIG_KEY: '{"patch_size": ' + "9" * 10000 + "}"}), "sentence"),
    ("config-new-option", lambda: configured(fly=True), "sentence"),
    ("config-text-width", lambda: configured(encoder_width="8"), "sentence"),
    ("config-zero", lambda: configured(encoder_heads=0), "sentence"),
    ("config-negative", lambda: configured(patch_size=-16), "sentence"),
    ("config-bool", lambda: configured(decoder_depth=True), "sentence"),
    ("config-wide", lambda: configured(encoder_width=4 * 10**9, encoder_heads=10**9), "sentence"),
    ("config-deep-network", lambda: configured(encoder_depth=10**9), "sentence"),
    ("config-deep-decoder", lambda: configured(decoder_depth=10**9), "sentence"),
    ("config-huge-patch", lambda: configured(patch_size=2**40), "sentence"),
    ("config-huge-image", lambda: configured(image_size=10**18), "sentence"),
    ("config-rope-zero", lambda: configured(rope_base=0.0), "sentence"),
    ("config-rope-nan", lambda: configured(rope_base=float("nan")), "sentence"),
    ("config-head", lambda: configured(head="exec"), "sentence"),
    ("base-other-weights", base, "sentence"),
    ("base-missing", lambda: base(source="/nowhere/model.safetensors"), "sentence"),
    ("base-device", lambda: base(source="/dev/zero"), "sentence"),
    ("base-hub-id", lambda: base(source="org/name"), "sentence"),
    ("base-long-path", lambda: base(source="a" * 5000), "sentence"),
    ("base-zero-path", lambda: base(source="a\0b"), "sentence"),
    ("base-number", lambda: base(source=5), "sentence"),
    ("base-itself", lambda: base(source="model.safetensors"), "sentence"),
    ("base-no-json", lambda: safetensors(lambda c: {}, {BASE_KEY: "{"}), "sentence"),
    ("base-list", lambda: safetensors(lambda c: {}, {BASE_KEY: "[]"}), "sentence"),
    ("base-deep", lambda: safetensors(lambda c: {}, {BASE_KEY: "[" * 100000}), "sentence"),
]
PICKLES: list[tuple[str, Callable[[], bytes]]] = [
    ("empty", lambda: b""),
    ("text", lambda: b"hello"),
    ("code", lambda: pickle.dumps(payload())),
    ("code-of-torch", lambda: saved({"model": payload()})),
    ("code-old", lambda: saved({"model": payload()}, _use_new_zipfile_serialization=False)),
    ("code-in-args", lambda: saved({"model": {"a": torch.zeros(1)}, "args": payload()})),
    ("huge-memo", lambda: b"\x80\x02Nr\xff\xff\xff\x7f."),
    ("list", lambda: saved([1, 2])),
    ("numbers", lambda: saved({"model": {"a": 1}})),
    ("keys-of-numbers", lambda: saved({"model": {1: torch.zeros(1)}})),
    ("nothing", lambda: saved({})),
    ("empty-archive", lambda: b"PK\x05\x06" + bytes(18)),
    ("patch-embed-flat", lambda: official(model="AsymmetricCroCo3DStereo(head_type='dpt')")),
    ("architecture-of-code", lambda: official(model="__import__('os').mkdir('executed')")),
    ("architecture-deep", lambda: official(model="(" * 100000)),
    ("architecture-of-minus", lambda: official(model="AsymmetricCroCo3DStereo(img_size=" + "-" * 5000 + "1)")),
    ("architecture-of-nothing", lambda: official(model="")),
    ("terabytes-of-one-number", wide_view),
    ("bomb", packed_bomb),
    ("old-container", lambda: saved({"model": {"a": torch.zeros(4)}}, _use_new_zipfile_serialization=False)),
]
CONFIGS: list[tuple[str, Make, End]] = [
    ("as-it-is", folder_of(json.dumps(CONFIG.to_dict()).encode()), "result"),
    ("empty", folder_of(b""), "sentence"),
    ("list", folder_of(b"[]"), "sentence"),
    ("deep", folder_of(b"[" * 100000), "sentence"),
    ("no-text", folder_of(b"\xff\xfe"), "sentence"),
    ("missing", folder_of(None), "sentence"),
    ("no-weights", folder_of(b"{}", None), "sentence"),
    ("weights-empty", folder_of(b"{}", lambda: b""), "sentence"),
    ("weights-text", folder_of(b"{}", lambda: b"hello, what is this?"), "sentence"),
]


def checkpoint_cases() -> list[Case]:
    """All of them."""
    cases = [Case("checkpoint", name, _held("model.safetensors", content), read_model, end) for name, content, end in TENSORS]
    cases += [
        Case("checkpoint", f"pickle-{name}", _held("model.pth", content), read_model, "sentence", heavy=name == "bomb")
        for name, content in PICKLES
    ]
    cases += [Case("checkpoint", f"folder-{name}", make, read_model, end) for name, make, end in CONFIGS]
    files = {"model.safetensors": whole, "model.pth": partial(saved, {"model": dict(weights())})}
    for name, content in files.items():
        for damage in DAMAGES:
            cases += [Case("checkpoint", f"{name}-{damage}-{i}", _damaged(name, content, damage), read_model) for i in range(2)]
    return cases


def _held(name: str, content: Callable[[], bytes]) -> Make:
    return lambda folder, rng: written(folder / name, content())


def _damaged(name: str, content: Callable[[], bytes], damage: str) -> Make:
    return lambda folder, rng: written(folder / name, DAMAGES[damage](content(), rng))
