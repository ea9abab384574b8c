"""Precomputed inputs of an adaptation, which no optimiser step changes.

The encoder is frozen, so its tokens are stored, together with classical geometry per frame and the output of the teachers.
Arrays with a time axis are memory-mapped from disk, so that memory does not grow with the videos.
"""

import logging
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch

from st4rtrack.adapt.priors import Priors
from st4rtrack.classical.two_view import TwoView
from st4rtrack.geometry.sampling import ArrayT
from st4rtrack.geometry.transforms import rigid
from st4rtrack.hints.depth_prior.builtin import BuiltinPrior
from st4rtrack.hints.provider import ordered_frames, takes_hints
from st4rtrack.io.known.known import KnownVideo
from st4rtrack.model.encoder import Tokens
from st4rtrack.model.hints import Hints, assemble_hints
from st4rtrack.model.network import St4RTrack
from st4rtrack.pipeline.pointmaps import automatic_batch_size
from st4rtrack.preprocess import normalize_images
from st4rtrack.types import UserError, Video

logger = logging.getLogger(__name__)

ANCHOR = 0
"""Index of the anchor: the first of the selected frames, as in the paper."""


@dataclass(frozen=True)
class FrameInputs:
    """Decoder inputs of every frame of a video.

    Attributes:
        name: name of the video.
        rgb: [T, H, W, 3] uint8, network size.
        tokens: encoder output, float32: features [T, tokens, width], then the levels of `Tokens`.
        grid: (rows, columns) of patches.
        views: fields of `TwoView` with a time axis, anchor against every frame; `None` for a network with decoders.
        intrinsics: [T, 3, 3] user-provided intrinsics in network pixels, or `None`.
        world_from_camera: [T, 4, 4] user-provided poses in units of the hints, NaN where unknown; `None` without poses or hints.
        unsolved: indices of frames whose pose cannot be estimated (`OrderedFrames.unsolved`); they are not solved again.
    """

    name: str
    rgb: np.ndarray
    tokens: tuple[np.ndarray, ...]
    grid: tuple[int, int]
    views: dict[str, np.ndarray] | None
    intrinsics: np.ndarray | None = None
    world_from_camera: np.ndarray | None = None
    unsolved: frozenset[int] = frozenset()

    def __len__(self) -> int:
        return len(self.rgb)

    @property
    def size(self) -> tuple[int, int]:
        """Network image size (height, width) in pixels."""
        return self.rgb.shape[1], self.rgb.shape[2]

    def tokens_of(self, frames: np.ndarray, device: torch.device) -> Tokens:
        """Encoder tokens of frames [F] on a device."""
        features, *levels = (torch.from_numpy(values[frames]).to(device) for values in self.tokens)
        return Tokens(features, self.grid, tuple(levels))

    def hints_of(self, frames: np.ndarray, device: torch.device) -> Hints:
        """Hints of the pairs (anchor, frame) for frames [F]; requires `views`."""
        assert self.views is not None
        return assemble_hints(
            **{name: torch.from_numpy(values[frames]).float().to(device) for name, values in self.views.items()}
        )


@dataclass(frozen=True)
class AdaptVideo:
    """A video prepared for adaptation.

    Attributes:
        inputs: decoder inputs.
        priors: tracks and depth of the teachers.
        moving: [N] bool, dynamic tracks: those inconsistent with a static point.
        held_out: [N] bool, tracks that are held out for measurement.
        held: [T, h, w, 3] float32, reconstruction of the base model at every `HELD_STRIDE`-th pixel.
        still: [N, 3] float32, points of the tracks at the anchor time, predicted by the base model.
    """

    inputs: FrameInputs
    priors: Priors
    moving: np.ndarray
    held_out: np.ndarray
    held: np.ndarray
    still: np.ndarray


HELD_STRIDE = 4
"""Pixel stride of the retention term; neighbouring pixels are redundant."""


@torch.no_grad()
def frame_inputs(
    model: St4RTrack,
    video: Video,
    folder: Path,
    known: KnownVideo | None = None,
    *,
    source: Video | None = None,
    scale: tuple[float, float] = (1.0, 1.0),
) -> FrameInputs:
    """Compute frames, tokens and views of a video.

    Args:
        video: at network size.
        folder: empty folder for the arrays.
        known: user-provided intrinsics and cameras, which are then not estimated.
        source: the video at source size, for the camera solver; default: `video`.
        scale: network pixels per source pixel, horizontal and vertical.
    Raises:
        UserError: the video has one frame.
    """
    if len(video) < 2:
        raise UserError(f"{video.name} has one frame; adaptation learns from motion and needs at least two")
    prior = BuiltinPrior(model.monocular_network()) if takes_hints(model.config) else None
    ordered = ordered_frames(video, ANCHOR, prior, known=known, content=source, scale=scale)
    rgb = _mapped(folder, "rgb", (len(video), video.height, video.width, 3), np.uint8)
    views: dict[str, np.ndarray] = {}
    for index, image, view in ordered.frames([False] * len(video)):
        rgb[index] = image
        if view is not None:
            _keep_view(views, folder, index, len(video), view)
    patch = model.config.patch_size
    grid = (video.height // patch, video.width // patch)
    tokens: list[np.ndarray] = []
    batch = automatic_batch_size(model.config, model.device, video.height, video.width)
    for start in range(0, len(video), batch):
        images = normalize_images(rgb[start : start + batch]).to(model.device)
        found = model.encode(images)
        for number, part in enumerate((found.features, *found.levels)):
            if start == 0:
                tokens.append(_mapped(folder, f"tokens{number}", (len(video), *part.shape[1:]), np.float32))
            tokens[number][start : start + batch] = part.float().cpu().numpy()
    intrinsics, cameras = (None, None) if known is None else (known.intrinsics, known.world_from_camera)
    if cameras is not None and ordered.units.cameras is not None:
        cameras = rigid(cameras[:, :3, :3], cameras[:, :3, 3] / ordered.units.cameras)
    else:  # the unit of a network with decoders is unrelated to that of the user's cameras
        cameras = None
    if ordered.unsolved:
        logger.warning("%s: no pose for %d of %d frames, left out", video.name, len(ordered.unsolved), len(video))
    return FrameInputs(video.name, rgb, tuple(tokens), grid, views or None, intrinsics, cameras, frozenset(ordered.unsolved))


def _keep_view(views: dict[str, np.ndarray], folder: Path, index: int, count: int, view: TwoView) -> None:
    for field in fields(TwoView):
        value = np.asarray(getattr(view, field.name))
        if field.name not in views:
            views[field.name] = _mapped(folder, field.name, (count, *value.shape), np.float32)
        views[field.name][index] = value


def _mapped(folder: Path, name: str, shape: tuple[int, ...], dtype: type) -> np.ndarray:
    return np.lib.format.open_memmap(folder / f"{name}.npy", mode="w+", dtype=dtype, shape=shape)


def held_pixels(maps: ArrayT) -> ArrayT:
    """Subsample maps [F, H, W(, 3)] to the pixels [F, h, w(, 3)] of the retention term."""
    start = HELD_STRIDE // 2
    return maps[:, start::HELD_STRIDE, start::HELD_STRIDE]  # pyright: ignore[reportReturnType]


def empty_held(inputs: FrameInputs, folder: Path) -> np.ndarray:
    """Allocate the memory-mapped array of `AdaptVideo.held`."""
    height, width = (len(range(HELD_STRIDE // 2, side, HELD_STRIDE)) for side in inputs.size)
    return _mapped(folder, "held", (len(inputs), height, width, 3), np.float32)
