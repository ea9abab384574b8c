"""Network inference on pairs of the anchor and every frame, in batches; the anchor is encoded once."""

import logging
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from st4rtrack.classical.two_view import TwoView
from st4rtrack.hints.cameras import HintInputs
from st4rtrack.hints.depth_prior import DepthPrior
from st4rtrack.hints.frame_order import OrderedFrames
from st4rtrack.hints.provider import provide_hints
from st4rtrack.model.config import ModelConfig
from st4rtrack.model.encoder import Tokens
from st4rtrack.model.network import St4RTrack
from st4rtrack.options import positive_int
from st4rtrack.pipeline.preparation import PreparedVideo
from st4rtrack.preprocess import normalize_images
from st4rtrack.timing import timed
from st4rtrack.types import Pointmap, TwoPointmaps, Video

logger = logging.getLogger(__name__)

Frame = tuple[int, np.ndarray, TwoView | None]
"""Index and image [height, width, 3] uint8 of a frame, and its two-view geometry with the anchor, if computed."""

LARGEST_BATCH = {"cpu": (1200, 8), "mps": (10_000, 64), "cuda": (20_000, 128)}
"""Maximum tokens and frames of a batch per device type: enough to fill the matrix units, few enough to fit into memory. Frames at
512x288 have 576 tokens. As many frames are queued before and after the network, so that doubling takes a third more memory on a
CPU, for hardly any speed-up."""


@dataclass
class Anchor:
    """The anchor as encoded for the network: `image` [1, 3, height, width] in [-1, 1], and its encoder tokens."""

    image: Tensor
    tokens: Tokens


class TokenFile:
    """Encoder tokens by frame index in an unnamed file, in the dtype of the network: every image is encoded once for all its pairs.

    Args:
        num_frames: number of frames of the video.
        folder: on a disk with enough space; default: the folder for temporary files.
    """

    def __init__(self, num_frames: int, folder: Path | None = None) -> None:
        self._have, self._folder = np.zeros(num_frames, bool), folder
        self._bytes: np.ndarray | None = None
        self._like: Tokens | None = None

    def keep(self, indices: Sequence[int], tokens: Tokens) -> None:
        """Store the tokens [frames, ...] of some frames."""
        parts = [tokens.features, *tokens.levels]
        flat = np.concatenate([_as_bytes(part) for part in parts], axis=1)
        if self._bytes is None:
            # the mapping outlives the file name
            with tempfile.TemporaryDirectory(dir=self._folder, ignore_cleanup_errors=True) as folder:
                self._bytes = np.memmap(Path(folder) / "tokens", np.uint8, mode="w+", shape=(len(self._have), flat.shape[1]))
            self._like = tokens.map(lambda x: x[:1].clone())
        self._bytes[list(indices)] = flat
        self._have[list(indices)] = True

    def find(self, indices: Sequence[int]) -> Tokens | None:
        """Tokens of some frames; `None` unless those of all these frames are stored."""
        if self._bytes is None or self._like is None or not self._have[list(indices)].all():
            return None
        flat, start = torch.from_numpy(self._bytes[list(indices)]), 0

        def restore(like: Tensor) -> Tensor:
            nonlocal start
            part = flat[:, start : start + like.nbytes].contiguous()
            start += like.nbytes
            return part.view(like.dtype).reshape(len(indices), *like.shape[1:]).to(like.device)

        return self._like.map(restore)


def _as_bytes(part: Tensor) -> np.ndarray:
    """View a tensor [frames, ...] as bytes [frames, bytes]."""
    return part.detach().cpu().contiguous().reshape(len(part), -1).view(torch.uint8).numpy()


class PointmapSource(Protocol):
    """Source of the pointmaps of (anchor, frame): a network, or fused geometry (`hints.fused`).

    Attributes:
        sequential: whether a frame depends on those between the anchor and it.
    """

    sequential: bool

    @property
    def own(self) -> TwoPointmaps:
        """Pointmaps of the anchor with itself."""
        ...

    def frames(self, frames: Iterable[Frame]) -> Iterator[tuple[int, np.ndarray, TwoPointmaps]]:
        """Index, image and pointmaps of frames, in their order."""
        ...

    def reconstructions(self, indices: Sequence[int]) -> Iterator[tuple[int, Pointmap]]:
        """Index and reconstruction of selected frames."""
        ...


class NetworkPointmaps:
    """Pointmaps of (anchor, frame) by a network, the anchor encoded once; tokens of the frames are added to `kept`."""

    sequential = False

    def __init__(
        self, model: St4RTrack, video: Video, anchor_index: int, *, batch_size: int, kept: TokenFile | None = None
    ) -> None:
        self._model, self._video, self._batch_size, self._kept = model, video, batch_size, kept
        rgb = video.frame(anchor_index)
        self._anchor = encode_anchor(model, rgb)
        self._own = predict_batch(model, self._anchor, rgb[None])[0]

    @property
    def own(self) -> TwoPointmaps:
        """See `PointmapSource`."""
        return self._own

    def frames(self, frames: Iterable[Frame]) -> Iterator[tuple[int, np.ndarray, TwoPointmaps]]:
        """See `PointmapSource`; in batches."""
        images = ((index, rgb) for index, rgb, _ in frames)
        return predict_frames(self._model, self._anchor, images, batch_size=self._batch_size, kept=self._kept)

    def reconstructions(self, indices: Sequence[int]) -> Iterator[tuple[int, Pointmap]]:
        """See `PointmapSource`; each pair on its own, without the tracking branch."""
        for index in indices:
            with torch.inference_mode():
                image = normalize_images(self._video.frame(index)[None]).to(self._model.device)
                hints = self._model.hints(self._anchor.image, image)
                found = self._model.decode_reconstruction(self._anchor.tokens, self._model.encode(image), hints)
            yield index, _to_numpy(found)[0]


def pointmap_source(
    model: St4RTrack,
    prepared: PreparedVideo,
    prior: DepthPrior | None,
    *,
    batch_size: int,
    kept: TokenFile | None,
    zoom: bool = False,
) -> tuple[OrderedFrames, PointmapSource]:
    """Frames of a video in processing order, and the source of their pointmaps.

    Args:
        prior: depth prior of single frames; with it, the pointmaps are those of fused geometry.
        batch_size: frames per batch of the network.
        kept: cache for their tokens.
        zoom: whether the focal length may change.
    """
    static = None if prepared.user is None else prepared.user.static
    inputs = HintInputs(
        prepared.video, prepared.anchor_index, prepared.known, prepared.content, prepared.pixel_map.scale, static, zoom
    )
    ordered, fused = provide_hints(model, inputs, prior)
    return ordered, fused or NetworkPointmaps(model, prepared.video, prepared.anchor_index, batch_size=batch_size, kept=kept)


@torch.inference_mode()
@timed("points", settles=True)
def encode_anchor(model: St4RTrack, rgb: np.ndarray) -> Anchor:
    """Encode the anchor from its image [height, width, 3] uint8."""
    image = normalize_images(rgb[None]).to(model.device)
    return Anchor(image, model.encode(image))


@torch.inference_mode()
@timed("points", settles=True)
def predict_batch(
    model: St4RTrack,
    anchor: Anchor,
    rgb: np.ndarray,
    tokens: Tokens | None = None,
) -> list[TwoPointmaps]:
    """Pointmaps of the anchor and frames [batch, height, width, 3] uint8 (with their tokens, if known), as arrays per frame."""
    images = normalize_images(rgb).to(model.device)
    tokens = model.encode(images) if tokens is None else tokens
    out = model.decode(anchor.tokens, tokens, model.hints(anchor.image, images))
    tracking, reconstruction = _to_numpy(out.tracking), _to_numpy(out.reconstruction)
    return [TwoPointmaps(tracking[k], reconstruction[k]) for k in range(len(rgb))]


def predict_frames(
    model: St4RTrack,
    anchor: Anchor,
    frames: Iterable[tuple[int, np.ndarray]],
    *,
    batch_size: int,
    kept: TokenFile | None = None,
) -> Iterator[tuple[int, np.ndarray, TwoPointmaps]]:
    """Index, image [height, width, 3] uint8 and pointmaps of frames, in order; at most one batch is in memory.

    A batch that does not fit into the memory of the accelerator is retried in halves, with one warning. Tokens in `kept` are
    reused; others are added to it.
    """
    remaining = iter(frames)
    while batch := list(islice(remaining, batch_size)):
        indices, rgb = zip(*batch, strict=True)
        yield from zip(indices, rgb, _predict_or_halve(model, anchor, indices, rgb, kept), strict=True)


def chosen_batch_size(choice: int | str | None, model: St4RTrack, size: tuple[int, int]) -> int:
    """Frames per batch for frames of (height, width): the user's choice, or by device."""
    if choice in (None, "auto"):
        return automatic_batch_size(model.config, model.device, *size)
    return positive_int(choice, "batch_size")


def automatic_batch_size(config: ModelConfig, device: torch.device, height: int, width: int) -> int:
    """Frames per batch for a network size, by device type."""
    tokens, frames = LARGEST_BATCH.get(device.type, LARGEST_BATCH["cpu"])
    return max(1, min(frames, tokens * config.patch_size**2 // (height * width)))


def _predict_or_halve(
    model: St4RTrack, anchor: Anchor, indices: Sequence[int], rgb: Sequence[np.ndarray], kept: TokenFile | None
) -> list[TwoPointmaps]:
    try:
        return predict_batch(model, anchor, np.stack(rgb), None if kept is None else _tokens(model, indices, rgb, kept))
    except torch.OutOfMemoryError:
        if len(rgb) == 1:
            raise
        torch.cuda.empty_cache()
    middle = len(rgb) // 2
    logger.warning("a batch of %d frames did not fit into memory; retrying with %d; set a smaller --batch-size", len(rgb), middle)
    halves = (slice(None, middle), slice(middle, None))
    return [maps for half in halves for maps in _predict_or_halve(model, anchor, indices[half], rgb[half], kept)]


@torch.inference_mode()
def _tokens(model: St4RTrack, indices: Sequence[int], rgb: Sequence[np.ndarray], kept: TokenFile) -> Tokens:
    found = kept.find(indices)
    if found is None:
        found = model.encode(normalize_images(np.stack(rgb)).to(model.device))
        kept.keep(indices, found)
    return found


def _to_numpy(pointmaps: Pointmap) -> list[Pointmap]:
    points, confidence = pointmaps.points_world.cpu().numpy(), pointmaps.confidence
    assert confidence is not None
    return [Pointmap(p, c) for p, c in zip(points, confidence.cpu().numpy(), strict=True)]
