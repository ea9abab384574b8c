"""Training micro-batches: images, pair indices and ground truth of the pairs."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from st4rtrack.data.clip import Clip
from st4rtrack.losses.objective import Supervision
from st4rtrack.preprocess import normalize_images
from st4rtrack.types import Pointmap, TwoPointmaps


@dataclass
class Examples:
    """A micro-batch of image pairs. Pairs refer to images by index, so that each image is encoded only once."""

    images: Tensor  # [images, 3, height, width] in [-1, 1]
    # anchor_index, frame_index: [pairs] int64, the two images of each pair
    anchor_index: Tensor
    frame_index: Tensor
    supervision: Supervision  # ground truth of the pairs
    names: list[str] = field(default_factory=list)  # names of the clips of the pairs

    def __len__(self) -> int:
        return len(self.frame_index)


def from_clips(clips: Sequence[Clip], *, with_anchor: bool = True) -> Examples:
    """Build the pairs (frame 0, frame t) of clips of one length and one size.

    Args:
        clips: read or rendered clips.
        with_anchor: include the pair (frame 0, frame 0); without it, clips of two frames are the release's "pair" training.
    """
    frames, first = len(clips[0].rgb), 0 if with_anchor else 1
    starts = torch.arange(len(clips)) * frames
    pairs = frames - first
    return Examples(
        images=torch.cat([normalize_images(clip.rgb) for clip in clips]),
        anchor_index=starts.repeat_interleave(pairs),
        frame_index=(starts[:, None] + torch.arange(first, frames)).flatten(),
        supervision=_supervision(clips, first),
        names=[clip.name for clip in clips],
    )


def anchors_with_themselves(examples: Examples) -> Examples:
    """Keep only the pair (anchor, anchor) of every clip, for prediction; the ground truth is unchanged."""
    anchors = examples.anchor_index[:: examples.supervision.frames_per_clip]
    return dataclasses.replace(examples, anchor_index=anchors, frame_index=anchors)


def _supervision(clips: Sequence[Clip], first: int) -> Supervision:
    def stack(maps: Sequence[np.ndarray]) -> Tensor:
        return torch.from_numpy(np.concatenate([m[first:] for m in maps]))

    tracking_valid = [clip.tracking_valid if clip.supervised is None else clip.tracking_valid & clip.supervised for clip in clips]
    pairs = len(clips[0].rgb) - first
    anchor_points = np.repeat(np.stack([clip.tracking_points_world[0] for clip in clips]), pairs, axis=0)
    moving = [clip.moving for clip in clips if clip.moving is not None]
    limited = torch.tensor([clip.supervised is not None for clip in clips])
    return Supervision(
        truth=TwoPointmaps(
            Pointmap(stack([c.tracking_points_world for c in clips]).float(), valid=stack(tracking_valid)),
            Pointmap(
                stack([c.reconstruction_points_world for c in clips]).float(),
                valid=stack([c.reconstruction_valid for c in clips]),
            ),
        ),
        anchor_points=torch.from_numpy(anchor_points).float(),
        moving=torch.from_numpy(np.repeat(np.stack(moving), pairs, axis=0)) if len(moving) == len(clips) else None,
        frames_per_clip=pairs,
        unit=_units(clips, pairs),
        foreground_only=limited.repeat_interleave(pairs) if limited.any() else None,
    )


def _units(clips: Sequence[Clip], pairs: int) -> Tensor:
    """Mean distance of the anchor points in metres, repeated for each pair."""
    units = []
    for clip in clips:
        valid = clip.reconstruction_valid[0]
        distance = np.linalg.norm(clip.reconstruction_points_world[0][valid], axis=-1)
        units.append(max(float(distance.mean()), 1e-6) if valid.any() else 1.0)
    return torch.tensor(units).repeat_interleave(pairs)


def to_device(value: Any, device: torch.device) -> Any:
    """Copy the tensors of a data class to a device, recursively."""
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=True)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        changes = {field.name: to_device(getattr(value, field.name), device) for field in dataclasses.fields(value)}
        return dataclasses.replace(value, **changes)
    return value
