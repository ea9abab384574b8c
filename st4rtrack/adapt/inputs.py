"""Precomputed inputs of the adaptation of a pair network, which no optimiser step changes.

The encoder is frozen, so its tokens are stored, together with the output of the teachers. Arrays with a time axis are
memory-mapped from disk, so that memory does not grow with the videos.
"""

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from st4rtrack.adapt.priors import Priors
from st4rtrack.classical.frame_checks import FrameChecks
from st4rtrack.geometry.sampling import ArrayT
from st4rtrack.io.known.known import KnownVideo
from st4rtrack.model.encoder import Tokens
from st4rtrack.model.network import St4RTrack
from st4rtrack.pipeline.pointmaps import automatic_batch_size
from st4rtrack.preprocess import normalize_images
from st4rtrack.types import Video

logger = logging.getLogger(__name__)

ANCHOR = 0
"""Index of the anchor: the first of the selected frames, as in the paper."""


@dataclass(frozen=True)
class FrameInputs:
    """Decoder inputs of every frame of a video.

    Attributes:
        rgb: [T, H, W, 3] uint8, network size.
        tokens: encoder output, float32: features [T, tokens, width], then the levels of `Tokens`.
        grid: (rows, columns) of patches.
        intrinsics: [T, 3, 3] user-provided intrinsics in network pixels, or `None`.
        unsolved: indices of frames whose pose cannot be estimated: black, blank, or beyond a cut.
    """

    rgb: np.ndarray
    tokens: tuple[np.ndarray, ...]
    grid: tuple[int, int]
    intrinsics: np.ndarray | None = None
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


@dataclass(frozen=True)
class AdaptVideo:
    """A video prepared for the adaptation of a pair network.

    Attributes:
        inputs: decoder inputs.
        priors: tracks and depth of the teachers; depth is unknown around held-out tracks.
        track_depth: [T, N] teacher depth at the tracks, 0 where unknown; `None` without a depth teacher.
        moving: [N] bool, dynamic tracks: those inconsistent with a static point.
        held_out: [N] bool, tracks that are held out for measurement.
        held: [T, h, w, 3] float32, reconstruction of the base model at every `HELD_STRIDE`-th pixel.
        still: [N, 3] float32, points of the tracks at the anchor time, predicted by the base model.
    """

    inputs: FrameInputs
    priors: Priors
    track_depth: np.ndarray | None
    moving: np.ndarray
    held_out: np.ndarray
    held: np.ndarray
    still: np.ndarray


HELD_STRIDE = 4
"""Pixel stride of the retention term; neighbouring pixels are redundant."""


@torch.no_grad()
def frame_inputs(model: St4RTrack, video: Video, folder: Path, known: KnownVideo | None = None) -> FrameInputs:
    """Compute frames and tokens of a video at network size; arrays go to an empty folder."""
    rgb = mapped(folder, "rgb", (len(video), video.height, video.width, 3), np.uint8)
    unsolved = copy_frames(video, rgb)
    patch = model.config.patch_size
    grid = (video.height // patch, video.width // patch)
    tokens: list[np.ndarray] = []
    batch = automatic_batch_size(model.config, model.device, video.height, video.width)
    for start in range(0, len(video), batch):
        images = normalize_images(rgb[start : start + batch]).to(model.device)
        found = model.encode(images)
        for number, part in enumerate((found.features, *found.levels)):
            if start == 0:
                tokens.append(mapped(folder, f"tokens{number}", (len(video), *part.shape[1:]), np.float32))
            tokens[number][start : start + batch] = part.float().cpu().numpy()
    if unsolved:
        logger.warning("%s: %d of %d frames have no pose and are left out", video.name, len(unsolved), len(video))
    return FrameInputs(rgb, tuple(tokens), grid, None if known is None else known.intrinsics, unsolved)


def copy_frames(video: Video, rgb: np.ndarray) -> frozenset[int]:
    """Copy the frames of a video to an array; returns the indices of black and blank frames and of those beyond a cut."""
    checks, unsolved = FrameChecks(), set[int]()
    for index, image in enumerate(video.frames()):
        rgb[index] = image
        if checks.add(index, image) != "usable" and index != ANCHOR:
            unsolved.add(index)
    return frozenset(unsolved | set(range(min(checks.finish(), default=len(video)), len(video))))


def mapped(folder: Path, name: str, shape: tuple[int, ...], dtype: type) -> np.ndarray:
    """Create a memory-mapped array in a folder."""
    return np.lib.format.open_memmap(folder / f"{name}.npy", mode="w+", dtype=dtype, shape=shape)


def held_pixels(maps: ArrayT) -> ArrayT:
    """Subsample maps [F, H, W(, 3)] to the pixels [F, h, w(, 3)] of the retention term."""
    start = HELD_STRIDE // 2
    return maps[:, start::HELD_STRIDE, start::HELD_STRIDE]  # pyright: ignore[reportReturnType]


def empty_held(inputs: FrameInputs, folder: Path) -> np.ndarray:
    """Allocate the memory-mapped array of `AdaptVideo.held`."""
    height, width = (len(range(HELD_STRIDE // 2, side, HELD_STRIDE)) for side in inputs.size)
    return mapped(folder, "held", (len(inputs), height, width, 3), np.float32)
