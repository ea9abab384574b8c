"""A video as an adaptation needs it: all that no step changes, computed once.

The encoder does not learn, so its tokens are kept; so is what classical geometry knows of each frame, and what the teachers say.
Arrays with a time axis are on disk and mapped, so that memory does not grow with the videos.
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
from st4rtrack.hints.provider import provide_hints
from st4rtrack.io.known.known import KnownVideo
from st4rtrack.model.encoder import Tokens
from st4rtrack.model.hints import Hints, assemble_hints
from st4rtrack.model.network import St4RTrack
from st4rtrack.pipeline.pointmaps import automatic_batch_size
from st4rtrack.preprocess import normalize_images
from st4rtrack.types import UserError, Video

logger = logging.getLogger(__name__)

ANCHOR = 0
"""The first of the chosen frames, as in the paper."""


@dataclass(frozen=True)
class FrameInputs:
    """What the decoders need of every frame.

    Attributes:
        name: of the video.
        rgb: [T, H, W, 3] uint8, network size.
        tokens: [T, tokens, width] float32 of the encoder.
        grid: (rows, columns) of patches.
        views: fields of `TwoView` with a time axis, anchor against every frame; `None` for a network without hints.
        intrinsics: [T, 3, 3] network pixels, where the user knows them.
        world_from_camera: [T, 4, 4] in units of the hints, where the user knows the cameras and the hints hold them; NaN where unknown.
        unsolved: numbers of frames whose pose cannot be estimated from the image (`Outward.unsolved`); no camera is sought for them.
    """

    name: str
    rgb: np.ndarray
    tokens: np.ndarray
    grid: tuple[int, int]
    views: dict[str, np.ndarray] | None
    intrinsics: np.ndarray | None = None
    world_from_camera: np.ndarray | None = None
    unsolved: frozenset[int] = frozenset()

    def __len__(self) -> int:
        return len(self.rgb)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.rgb.shape[1], self.rgb.shape[2]

    @property
    def shares_anchor(self) -> bool:
        """Whether all frames start from one content of the anchor, as the pipeline has it when the anchor's depth was surveyed."""
        return self.views is not None and bool(self.views["anchor_depth"][ANCHOR].any())

    def tokens_of(self, frames: np.ndarray, device: torch.device) -> Tokens:
        """Tokens of frames [F]."""
        return Tokens(torch.from_numpy(self.tokens[frames]).to(device), self.grid)

    def hints_of(self, frames: np.ndarray, device: torch.device) -> Hints:
        """Hints of the pairs (anchor, frame) for frames [F], of a network that has some."""
        assert self.views is not None
        known = {name: torch.from_numpy(values[frames]).float().to(device) for name, values in self.views.items()}
        anchor, images = (normalize_images(self.rgb[index]).to(device) for index in (np.array([ANCHOR]), frames))
        return assemble_hints(anchor.expand_as(images), images, **known)


@dataclass(frozen=True)
class AdaptVideo:
    """A video to adapt to.

    Attributes:
        inputs: what the decoders need.
        priors: what the teachers say.
        moving: [N] bool, tracks that are not where a static point would be.
        held_out: [N] bool, tracks that are only measured on.
        held: [T, h, w, 3] float32, what the base reconstructs, at every `HELD_STRIDE`-th pixel.
        still: [N, 3] float32, where the base has the tracks' content at the anchor's time.
    """

    inputs: FrameInputs
    priors: Priors
    moving: np.ndarray
    held_out: np.ndarray
    held: np.ndarray
    still: np.ndarray


HELD_STRIDE = 4
"""Of the pixels at which the reconstruction is held: neighbours say the same."""


@torch.no_grad()
def frame_inputs(model: St4RTrack, video: Video, folder: Path, known: KnownVideo | None = None) -> FrameInputs:
    """Frames, tokens and views of a video.

    Args:
        video: at network size.
        folder: for the arrays; an empty one of its own.
        known: intrinsics and cameras of the video, which then are not estimated.
    Raises:
        UserError: the video has one frame.
    """
    if len(video) < 2:
        raise UserError(f"{video.name} has one frame; adaptation learns from motion and needs at least two")
    outward, _ = provide_hints(model.config, video, ANCHOR, known=known)
    rgb = _mapped(folder, "rgb", (len(video), video.height, video.width, 3), np.uint8)
    views: dict[str, np.ndarray] = {}
    for index, image, view in outward.frames([False] * len(video)):
        rgb[index] = image
        if view is not None:
            _keep_view(views, folder, index, len(video), view)
    patch = model.config.patch_size
    grid = (video.height // patch, video.width // patch)
    tokens = _mapped(folder, "tokens", (len(video), grid[0] * grid[1], model.config.encoder_width), np.float32)
    batch = automatic_batch_size(model, video.height, video.width)
    for start in range(0, len(video), batch):
        images = normalize_images(rgb[start : start + batch]).to(model.device)
        tokens[start : start + batch] = model.encode(images).features.float().cpu().numpy()
    intrinsics, cameras = (None, None) if known is None else (known.intrinsics, known.world_from_camera)
    if cameras is not None and outward.units.cameras is not None:
        cameras = rigid(cameras[:, :3, :3], cameras[:, :3, 3] / outward.units.cameras)
    else:  # a network without hints has a unit of its own
        cameras = None
    if outward.unsolved:
        logger.warning("%s: %d of %d frames are unsolved and left out", video.name, len(outward.unsolved), len(video))
    return FrameInputs(video.name, rgb, tokens, grid, views or None, intrinsics, cameras, frozenset(outward.unsolved))


def _keep_view(views: dict[str, np.ndarray], folder: Path, index: int, count: int, view: TwoView) -> None:
    for field in fields(TwoView):
        value = np.asarray(getattr(view, field.name))
        if field.name not in views:
            views[field.name] = _mapped(folder, field.name, (count, *value.shape), np.float32)
        views[field.name][index] = value


def _mapped(folder: Path, name: str, shape: tuple[int, ...], dtype: type) -> np.ndarray:
    return np.lib.format.open_memmap(folder / f"{name}.npy", mode="w+", dtype=dtype, shape=shape)


def held_pixels(maps: ArrayT) -> ArrayT:
    """The pixels [F, h, w(, 3)] of maps [F, H, W(, 3)] at which the reconstruction is held."""
    start = HELD_STRIDE // 2
    return maps[:, start::HELD_STRIDE, start::HELD_STRIDE]  # pyright: ignore[reportReturnType]


def empty_held(inputs: FrameInputs, folder: Path) -> np.ndarray:
    """Where `AdaptVideo.held` goes."""
    height, width = (len(range(HELD_STRIDE // 2, side, HELD_STRIDE)) for side in inputs.size)
    return _mapped(folder, "held", (len(inputs), height, width, 3), np.float32)
