"""Depth priors by their names on the command line, and depth maps from files. File contents are never executed."""

from pathlib import Path

import numpy as np

from st4rtrack.hints.depth_prior import DepthPrior, Kind, PriorDepth, digest
from st4rtrack.hints.depth_prior.networks import BuiltinPrior, MoGePrior, TransformersPrior
from st4rtrack.io.files import expanded
from st4rtrack.io.known.maps import DEPTH_ARRAYS, DEPTH_SUFFIXES, frame_files, open_depth
from st4rtrack.io.known.matching import SourceSize
from st4rtrack.io.npz import npz_keys
from st4rtrack.model.checkpoint import load_monocular
from st4rtrack.model.device import choose_device
from st4rtrack.model.hub import fetch_folder, is_hub_id
from st4rtrack.timing import timed
from st4rtrack.types import PixelMap, UserError, Video

SOURCES = "builtin, none, a hub id or folder of a depth model of transformers, moge:FILE, or a file or folder of depth maps"
INVERSE_ARRAYS = ("inverse_depth", "disparity")
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
        return BuiltinPrior(load_monocular(None if source == "builtin" else path, device=device))
    if word == "moge":
        return MoGePrior(_existing(source, rest), str(choose_device(device)))
    if path.is_dir() and (path / "config.json").is_file():
        return TransformersPrior(path, str(choose_device(device)))
    if source and path.exists():
        return FilePrior(path, video, source_size)
    return TransformersPrior(_model_folder(source, word, rest), str(choose_device(device)), kind=KINDS.get(word))


def _model_folder(source: str, word: str, rest: str) -> Path:
    """Folder of a model of transformers, else its files from the hub."""
    name = rest if word in KINDS else source
    if word in KINDS and expanded(name).is_dir():
        return expanded(name)
    if is_hub_id(name):
        return fetch_folder(name, "*.json", "*.safetensors")
    if word in KINDS or any(mark in source for mark in "./\\"):
        _existing(source, name)
    raise UserError(f"unknown depth prior {source!r}; choose one of: {SOURCES}")


def _existing(source: str, path: str) -> Path:
    if not path or not expanded(path).exists():
        raise UserError(f"depth prior {source!r}: {path or 'its path'} does not exist; pass an existing file or folder")
    return expanded(path)


class FilePrior:
    """Depth of an `.npz` with `depth` or `inverse_depth`, or of a folder with a file per frame; any image size, 0 is unknown."""

    def __init__(self, path: Path, video: Video, source: SourceSize | None = None) -> None:
        kind, arrays = _kind(path)
        self._kind: Kind = kind
        maps = open_depth(path, per_unit=1.0, arrays=arrays)
        size = (video.height, video.width)
        self._read = maps.of_video(video, source or SourceSize(*size, PixelMap()), size)
        self.name = f"{path.name} ({digest(_files(path))})"

    @timed("prior", settles=True)
    def __call__(self, rgb: np.ndarray, index: int, focal_px: float | None = None) -> PriorDepth:
        """Read the depth of one frame."""
        return PriorDepth.of(self._kind, self._read(index), rgb, self.name)


def _files(path: Path) -> list[Path]:
    return frame_files(path, DEPTH_SUFFIXES) if path.is_dir() else [path]


def _kind(path: Path) -> tuple[Kind, tuple[str, ...]]:
    """Kind of the depth, and the accepted names of its array."""
    first = next(iter(_files(path)), path)
    inverse = first.suffix.lower() == ".npz" and set(npz_keys(first)) & set(INVERSE_ARRAYS)
    return ("inverse_depth", INVERSE_ARRAYS) if inverse else ("depth", DEPTH_ARRAYS)
