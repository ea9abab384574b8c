"""Checkpoints: load from any source, save as safetensors with the configuration. Downloads only for an explicit hub id."""

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
from torch import Tensor, nn

from st4rtrack.io.files import expanded, require_downloaded
from st4rtrack.io.text import parse_json
from st4rtrack.model.config import ModelConfig
from st4rtrack.model.device import choose_device, choose_dtype
from st4rtrack.model.hub import fetch_folder, is_hub_id
from st4rtrack.model.monocular import MonocularNetwork
from st4rtrack.model.named import FILES, NAMED, suggestion
from st4rtrack.model.network import St4RTrack, network_of
from st4rtrack.model.official import config_from_official, convert_weights, is_official, read_official
from st4rtrack.model.precision_check import checked_dtype
from st4rtrack.types import UserError

logger = logging.getLogger(__name__)

CONFIG_KEY = "st4rtrack_config"
BASE_KEY = "st4rtrack_base"
"""Header key of a file with changed weights only: JSON with `name`, `source` and `hash` of the base weights."""
EMBEDDED = "tiny.safetensors"


def load_model(source: str | Path | None = None, *, device: str = "auto", dtype: str = "auto") -> St4RTrack:
    """Load a network with trained weights, ready for inference.

    Args:
        source: `None` or "tiny" for the embedded model; a named model (`named.NAMED`, downloaded on first use); a `.safetensors`
            file of st4rtrack, complete or with changes of a base model (`save_changes`); an official `.pth` (DUSt3R-512-dpt,
            MASt3R, MonST3R, St4RTrack); a folder with `config.json` and `model.safetensors`; or a hub id "org/name" or
            "org/name:subfolder", which is downloaded.
        device: "auto" (CUDA, else MPS, else CPU) or a PyTorch device.
        dtype: "auto" (bfloat16 if the hardware accelerates it and the network has decoders), "float32" or "bfloat16". Falls back
            to float32, with a warning, if the bfloat16 points of this model are wrong on this machine (`precision_check`).
    Raises:
        UserError: the file does not exist, cannot be downloaded, or is not a checkpoint of this architecture.
    """
    chosen_device = choose_device(device)
    config, weights, name = _read(source)
    model = _build(config, weights, name)
    model.name = name
    model.weights_hash = _hash(weights)
    precision = checked_dtype(model.eval(), chosen_device, chosen_dtype(config, dtype, chosen_device))
    memory_format = torch.channels_last if config.encoder == "efficientnet" else torch.preserve_format
    return model.to(chosen_device, precision).to(memory_format=memory_format)  # pyright: ignore[reportCallIssue]


def chosen_dtype(config: ModelConfig, dtype: str, device: torch.device) -> torch.dtype:
    """Precision of a network for the `dtype` of `load_model`, before the self-check.

    Raises:
        UserError: not one of auto, float32, bfloat16.
    """
    # without decoders float32 is fast, and log depth in bfloat16 has visible steps
    return choose_dtype("float32" if dtype == "auto" and config.head == "monocular" else dtype, device)


def load_monocular(source: str | Path | None = None, *, device: str = "auto") -> MonocularNetwork:
    """Load encoder and monocular head of a checkpoint for inference in float32, without precision check.

    Args:
        source: `None` for the embedded model; a file of `st4rtrack train mono`; or a whole network with a monocular head.
        device: as for `load_model`.
    Raises:
        UserError: the checkpoint has no monocular head, or is damaged.
    """
    config, weights, name = _read(source)
    if not config.monocular:
        raise UserError(f"checkpoint {name} has no monocular depth head; train one with: st4rtrack train mono")
    with torch.device("meta"):
        network = MonocularNetwork(config)
    _fill(network, {key: value for key, value in weights.items() if key in network.state_dict()}, name)
    network.name, network.weights_hash = name, _hash(weights)
    return network.to(choose_device(device), memory_format=torch.channels_last).eval()  # pyright: ignore[reportCallIssue]


def save_model(
    model: St4RTrack | MonocularNetwork, path: str | Path, *, info: dict[str, str] | None = None, dtype: torch.dtype | None = None
) -> None:
    """Save the weights with their configuration as one `.safetensors` file; its folder must exist.

    Args:
        info: additional header entries, such as training details.
        dtype: stored type, default that of the weights.
    """
    weights = {key: value.detach().cpu().to(dtype or value.dtype).contiguous() for key, value in model.state_dict().items()}
    _write(weights, model.config, Path(path), info or {})


@dataclass(frozen=True)
class Base:
    """Base model of a file of weight changes: its name, a named model or absolute path, and the hash of its weights."""

    name: str
    source: str
    hash: str


def find_base(model: St4RTrack, source: str | Path) -> Base:
    """Describe a loaded model, `load_model(source)`, as the base for `save_changes`.

    Raises:
        UserError: the source is not a local file or folder, or itself has only weight changes.
    """
    if str(source) in NAMED:
        return Base(model.name, str(source), model.weights_hash)
    path = expanded(source)
    if not path.exists():
        raise UserError(f"the base {str(source)!r} is not a local file, so changes cannot refer to it; save the whole model")
    if _is_changes(path):
        raise UserError(f"{path} itself has only weight changes of another model; save the whole model")
    return Base(model.name, str(path.resolve()), model.weights_hash)


def save_changes(
    model: St4RTrack, path: str | Path, *, base: Base, names: Collection[str], info: dict[str, str] | None = None
) -> None:
    """Save only the changed weights as a small `.safetensors` file, which `load_model` combines with the base.

    Args:
        base: base model, before the changes.
        names: names of the changed tensors in `model.state_dict()`; may be empty.
        info: additional header entries.
    """
    weights = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items() if key in names}
    _write(weights, model.config, Path(path), {BASE_KEY: json.dumps(asdict(base)), **(info or {})})


def convert_checkpoint(source: str | Path, output: str | Path, *, overwrite: bool = False) -> list[Path]:
    """Convert any checkpoint that `load_model` reads to safetensors with configuration, keeping the types of the weights.

    Args:
        source: as for `load_model`.
        output: a `.safetensors` file, or a folder for `model.safetensors` and `config.json`.
        overwrite: replace existing files.
    Returns:
        Paths of the written files.
    Raises:
        UserError: the source cannot be read, or the output exists.
    """
    output = Path(output)
    to_file = output.suffix == ".safetensors"
    if not to_file and (output.is_file() or output.suffix):
        raise UserError(f"{output} must end in .safetensors, or be a folder")
    targets = [output] if to_file else [output / "model.safetensors", output / "config.json"]
    for path in targets:
        if path.exists() and not overwrite:
            raise UserError(f"{path} already exists; choose another path, or replace it with --overwrite")
    config, weights, name = _read(source)
    _build(config, weights, name)  # rejects incomplete weights before anything is written
    try:
        targets[0].parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"could not create the folder {targets[0].parent}: {error.strerror}; choose another path") from None
    partial = targets[0].with_suffix(".partial")
    _write({key: value.contiguous() for key, value in weights.items()}, config, partial, {})
    partial.replace(targets[0])
    if not to_file:
        write_config(config, targets[1])
    return targets


def write_config(config: ModelConfig, path: Path) -> None:
    """Write a `config.json`."""
    path.write_text(json.dumps(config.to_dict(), indent=1) + "\n")


def read_info(path: str | Path) -> dict[str, str]:
    """Read the header entries of a `.safetensors` file."""
    with safe_open(Path(path), framework="pt") as file:
        return dict(file.metadata() or {})


def _write(weights: dict[str, Tensor], config: ModelConfig, path: Path, info: dict[str, str]) -> None:
    path.touch()
    mode = path.stat().st_mode  # safetensors creates files readable only by their owner
    save_file(weights, path, metadata={CONFIG_KEY: json.dumps(config.to_dict()), **info})
    path.chmod(mode)


def is_embedded(model: St4RTrack) -> bool:
    """Whether the network is the embedded model, and not another one with its name."""
    return model.name == EMBEDDED.removesuffix(".safetensors") and model.weights_hash == embedded_hash()


@cache
def embedded_hash() -> str:
    """Hash of the embedded weights."""
    return _hash(_read(None)[1])


def _read(source: str | Path | None) -> tuple[ModelConfig, dict[str, Tensor], str]:
    if source is None or str(source) == "tiny":
        embedded = resources.files("st4rtrack.model") / "weights" / EMBEDDED
        with resources.as_file(embedded) as path:
            return (*_read_safetensors(path), "tiny")
    if str(source) in NAMED:  # before paths: a clone of the release is a folder with the same name
        return (*_read_folder(NAMED[str(source)].fetch()), str(source))
    path = expanded(source)
    if path.is_dir():
        return (*_read_folder(path), path.name)
    if path.is_file():
        return (*_read_file(path), path.stem)
    if isinstance(source, str) and is_hub_id(source):
        return (*_read_folder(fetch_folder(source, *FILES)), source)
    raise UserError(
        f"no model {str(source)!r}: {suggestion(str(source))}pass a name ({', '.join(NAMED)}), a checkpoint file, a folder with "
        "config.json, or a hub id such as org/name"
    )


def _read_file(path: Path) -> tuple[ModelConfig, dict[str, Tensor]]:
    with path.open("rb") as file:
        start = file.read(10)
    if not start:
        raise UserError(f"{path} is empty; download or copy it again")
    if path.suffix == ".safetensors" or start[8:9] == b"{":
        return _read_safetensors(path)
    config, weights = read_official(path)
    return config, _from_official(weights)


def _with_base(path: Path, record: str, changes: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights of the base model named in the header of a file of changes, with the changes applied."""
    try:
        base = Base(**parse_json(record))
        source = Path(base.source)
        places = [source, path.parent / source.name]
        there = [place for place in places if place.exists() and place.resolve() != path.resolve()]
    except (ValueError, TypeError, OSError):  # invalid JSON, fields or path
        raise UserError(f"{path} is damaged: it does not name its base model; download or create it again") from None
    # a cached model, the original path, or next to the changes; never a hub, because a file must not trigger a download
    found = base.source if base.source in NAMED else next(iter(there), None)
    if base.source in NAMED and not NAMED[base.source].cached:
        missing = f"{base.source}, which is not downloaded; run: st4rtrack models {base.source}"
        raise UserError(f"{path} has only weight changes of {missing}")
    if found is None:
        wanted = f"{base.name}, which is not at {source}"
        raise UserError(f"{path} has only weight changes of {wanted}; put it there, or next to {path.name}")
    if found not in NAMED and _is_changes(Path(found)):
        raise UserError(f"{path} has only weight changes of {found}, which has only weight changes too; use a complete base")
    weights = _read(found)[1]
    if _hash(weights) != base.hash:
        raise UserError(
            f"{path} has only weight changes of {base.name}, but {found} has other weights than that base; restore the base model"
        )
    return {**weights, **changes}


def _is_changes(path: Path) -> bool:
    try:
        return path.is_file() and path.suffix == ".safetensors" and BASE_KEY in read_info(path)
    except (SafetensorError, OSError):
        return False


def _read_safetensors(path: Path, options: dict[str, Any] | None = None) -> tuple[ModelConfig, dict[str, Tensor]]:
    """Read configuration and weights; `options` is the content of a `config.json` next to the file."""
    require_downloaded(path)
    try:
        with safe_open(path, framework="pt") as file:
            header = dict(file.metadata() or {})
            weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
    except Exception as error:  # for example unsupported types raise various exceptions
        why = " ".join(str(error).split())[:160]
        raise UserError(f"could not read {path} as a safetensors file: {why}") from None
    if is_official(set(weights)):
        return config_from_official(options or {}, weights, path), _from_official(weights)
    try:
        values = parse_json(header[CONFIG_KEY]) if CONFIG_KEY in header else options
    except ValueError:
        raise UserError(f"the configuration in {path} is not valid JSON; download or create it again") from None
    if not isinstance(values, dict):
        raise UserError(f"{path} has no configuration: it is not a checkpoint of st4rtrack")
    if BASE_KEY in header:
        weights = _with_base(path, header[BASE_KEY], weights)
    return ModelConfig.from_dict(values), weights


def _read_folder(folder: Path) -> tuple[ModelConfig, dict[str, Tensor]]:
    config_path, weights_path = (folder / name for name in FILES)
    for path in (config_path, weights_path):
        if not path.is_file():
            raise UserError(f"{folder} is not a model folder: it has no {path.name}")
    try:
        options = parse_json(config_path.read_text(encoding="utf-8"))
    except (ValueError, OSError):  # ValueError includes wrong text encoding
        raise UserError(f"{config_path} is not valid JSON; download or create it again") from None
    if not isinstance(options, dict):
        raise UserError(f"{config_path} must be a JSON object; download or create it again")
    return _read_safetensors(weights_path, options)


def _from_official(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    converted, notes = convert_weights(weights)
    for note in notes:
        logger.warning(note)
    return converted


def _build(config: ModelConfig, weights: dict[str, Tensor], name: str) -> St4RTrack:
    if config.encoder_depth + config.decoder_depth > len(weights):  # checked before allocating the layers
        raise UserError(
            f"checkpoint {name} has another architecture: {len(weights)} tensors are too few for its configured layers"
        )
    model = network_of(config)
    _fill(model, weights, name)
    return model


def _fill(model: nn.Module, weights: dict[str, Tensor], name: str) -> None:
    """Load weights into a network without memory."""
    expected = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    missing, unknown = sorted(set(expected) - set(weights)), sorted(set(weights) - set(expected))
    wrong = [key for key in expected if key in weights and tuple(weights[key].shape) != expected[key]]
    for kind, keys in (("lacks", missing), ("has the unknown tensor", unknown), ("has the wrong shape of", wrong)):
        if keys:
            more = f" and {len(keys) - 1} more" if len(keys) > 1 else ""
            raise UserError(f"checkpoint {name} has another architecture: it {kind} {keys[0]}{more}")
    model.load_state_dict({key: _as_float(value, key, name) for key, value in weights.items()}, assign=True)


def _as_float(value: Tensor, key: str, name: str) -> Tensor:
    if not value.is_floating_point():
        raise UserError(f"checkpoint {name} is damaged: {key} is {value.dtype}, not floating point; download or create it again")
    value = value.float()
    if not bool(value.isfinite().all()):
        raise UserError(f"checkpoint {name} is damaged: {key} has non-finite values; download or create it again")
    return value


def _hash(weights: dict[str, Tensor]) -> str:
    """SHA-256 of names and values, independent of the file format."""
    digest = hashlib.sha256()
    for key in sorted(weights):
        digest.update(key.encode())
        digest.update(weights[key].detach().reshape(-1).contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()
