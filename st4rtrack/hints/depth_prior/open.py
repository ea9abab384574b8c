"""Depth priors by their names on the command line."""

from pathlib import Path

from st4rtrack.hints.depth_prior.files import FilePrior
from st4rtrack.hints.depth_prior.prior import DepthPrior, Kind
from st4rtrack.io.files import expanded
from st4rtrack.io.known.matching import SourceSize
from st4rtrack.types import UserError, Video

SOURCES = "builtin, none, a hub id or folder of a depth model of transformers, moge:FILE, or a file or folder of depth maps"
KINDS: dict[str, Kind | None] = {"transformers": "depth", "transformers-inverse": "inverse_depth"}


def open_depth_prior(
    source: str, video: Video, *, source_size: SourceSize | None = None, device: str = "cpu"
) -> DepthPrior | None:
    """Open a depth prior.

    Args:
        source: "builtin", the monocular head of the embedded network; "none"; a `.safetensors` file of `st4rtrack train mono`; a
            depth model of Hugging Face `transformers`, as hub id (downloaded) or folder, or as "transformers:MODEL" or
            "transformers-inverse:MODEL" if its configuration does not tell depth from inverse depth; "moge:FILE", weights of
            MoGe; or depth maps (`FilePrior`).
        video: the processed frames, at network size.
        source_size: size of the source video, for files in source pixels.
        device: "auto" or a PyTorch device, for networks.
    Returns:
        The prior, `None` for "none".
    Raises:
        UserError: unknown source, missing path, or package that is not installed.
    """
    if source == "none":
        return None
    word, _, rest = source.partition(":")
    path = expanded(source)
    if source == "builtin" or (path.is_file() and path.suffix == ".safetensors"):
        return _builtin(None if source == "builtin" else path, device)
    if word == "moge":
        from st4rtrack.hints.depth_prior.moge import MoGePrior

        return MoGePrior(_existing(source, rest), _torch_device(device))
    if path.is_dir() and (path / "config.json").is_file():
        return _transformers(path, None, device)
    if source and path.exists():
        return FilePrior(path, video, source_size)
    return _model(source, word, rest, device)


def _builtin(weights: Path | None, device: str) -> DepthPrior:
    from st4rtrack.hints.depth_prior.builtin import BuiltinPrior
    from st4rtrack.model.checkpoint import load_monocular

    return BuiltinPrior(load_monocular(weights, device=device))


def _model(source: str, word: str, rest: str, device: str) -> DepthPrior:
    """Model of transformers, from a folder or else from the hub."""
    from st4rtrack.model.hub import fetch_folder, is_hub_id

    name = rest if word in KINDS else source
    if word in KINDS and expanded(name).is_dir():
        return _transformers(expanded(name), KINDS[word], device)
    if is_hub_id(name):
        return _transformers(fetch_folder(name, "*.json", "*.safetensors"), KINDS.get(word), device)
    if word in KINDS or any(mark in source for mark in "./\\"):
        _existing(source, name)
    raise UserError(f"unknown depth prior {source!r}; choose one of: {SOURCES}")


def _transformers(folder: Path, kind: Kind | None, device: str) -> DepthPrior:
    from st4rtrack.hints.depth_prior.huggingface import TransformersPrior

    return TransformersPrior(folder, _torch_device(device), kind=kind)


def _torch_device(device: str) -> str:
    from st4rtrack.model.device import choose_device

    return str(choose_device(device))


def _existing(source: str, path: str) -> Path:
    if not path or not expanded(path).exists():
        raise UserError(f"depth prior {source!r}: {path or 'its path'} does not exist; pass an existing file or folder")
    return expanded(path)
