"""Augmentation of clips that keeps the ground truth exact. All off by default, as in the published training.

Frames and image region are drawn before a sequence is read, while the original pixels and all tracks are available.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import cv2
import numpy as np

from st4rtrack.data.clip import Clip
from st4rtrack.data.resample import Framing
from st4rtrack.types import UserError

MIRROR_X = np.diag([-1.0, 1.0, 1.0, 1.0])
GREY = np.array([0.299, 0.587, 0.114])
"""Rec. 601 luma weights."""


@dataclass(frozen=True)
class Augmentation:
    """Augmentation strengths and probabilities; the defaults change nothing."""

    # crop the image region at a random position instead of the centre. This has an effect if the aspect ratio of the image
    # differs from that of the clip, or with `focal`.
    crop: bool = False
    focal: float = 1.0  # largest factor by which the focal length is increased, by a smaller crop; log-uniform, at least 1
    # strength of changes of exposure, contrast, gamma, saturation and white balance, in [0, 1]; one draw per clip
    colour: float = 0.0
    mirror: float = 0.0  # probability of a horizontal flip
    reverse: float = 0.0  # probability of time reversal, before the anchor is chosen
    # probability that a frame other than the first is the anchor. The anchor is moved to the front, the others keep their order:
    # losses on neighbouring frames (a velocity loss) must skip the first difference.
    random_anchor: float = 0.0

    def __post_init__(self) -> None:
        if not self.focal >= 1:
            raise UserError(f"augmentation: focal must be at least 1, got {self.focal}")
        for field in fields(self)[2:]:
            if not 0 <= getattr(self, field.name) <= 1:
                raise UserError(f"augmentation: {field.name} must be in 0..1, got {getattr(self, field.name)}")


def draw_frames(frames: Sequence[int], augmentation: Augmentation, rng: np.random.Generator) -> list[int]:
    """Draw the frames of a clip in reading order, the anchor first."""
    order = list(frames)
    reverse, other_anchor, anchor = rng.random(), rng.random(), rng.integers(len(order))
    if reverse < augmentation.reverse:
        order.reverse()
    if other_anchor < augmentation.random_anchor:
        order.insert(0, order.pop(anchor))
    return order


def draw_framing(augmentation: Augmentation, rng: np.random.Generator) -> Framing:
    """Draw the image region to read."""
    longer, place = rng.uniform(0, np.log(augmentation.focal)), rng.random(2)
    return Framing(float(np.exp(-longer)), (float(place[0]), float(place[1])) if augmentation.crop else (0.5, 0.5))


def augment_clip(clip: Clip, augmentation: Augmentation, rng: np.random.Generator) -> Clip:
    """Jitter the colours and flip the clip horizontally, at random."""
    mirrored = rng.random() < augmentation.mirror
    if augmentation.colour > 0:
        clip = replace(clip, rgb=jitter_colour(clip.rgb, augmentation.colour, rng))
    return mirror_clip(clip) if mirrored else clip


def mirror_clip(clip: Clip) -> Clip:
    """Flip a clip horizontally: the images, and the world (x changes its sign)."""
    width = clip.rgb.shape[2]
    intrinsics = clip.intrinsics.copy()
    intrinsics[:, 0, 2] = width - intrinsics[:, 0, 2]
    intrinsics[:, 0, 1] *= -1
    return replace(
        clip,
        rgb=_flipped(clip.rgb, 2),
        depth=_flipped(clip.depth, 2),
        intrinsics=intrinsics,
        world_from_camera=MIRROR_X @ clip.world_from_camera @ MIRROR_X,
        tracking_points_world=_flipped(clip.tracking_points_world, 2) * np.array([-1, 1, 1], np.float32),
        tracking_valid=_flipped(clip.tracking_valid, 2),
        moving=None if clip.moving is None else _flipped(clip.moving, 1),
        supervised=None if clip.supervised is None else _flipped(clip.supervised, 1),
    )


def jitter_colour(rgb: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Change exposure, contrast, gamma, saturation and white balance of images [..., height, width, 3] uint8, all alike.

    At a `strength` of 1, exposure, contrast and saturation change by up to a factor of 1.5, gamma by 1.25, channels by 1.15.
    """

    def factor(largest: float, size: int | None = None) -> np.ndarray:
        return largest ** (strength * rng.uniform(-1, 1, size))

    exposure, contrast, gamma, saturation = factor(1.5), factor(1.5), factor(1.25), factor(1.5)
    balance = factor(1.15, 3)
    level = (np.arange(256) / 255) ** gamma
    level = (level - 0.5) * contrast + 0.5
    mix = np.diag(exposure * balance) @ (saturation * np.eye(3) + (1 - saturation) * np.ones((3, 1)) * GREY)
    images = rgb.reshape(-1, *rgb.shape[-2:])  # as one tall image
    light = cv2.transform(level.astype(np.float32)[images], mix.astype(np.float32))
    return (np.clip(light, 0, 1) * 255 + 0.5).astype(np.uint8).reshape(rgb.shape)


def through_jpeg(rgb: np.ndarray, quality: int) -> np.ndarray:
    """Compress and decompress an image [height, width, 3] uint8."""
    data = cv2.imencode(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return cv2.cvtColor(np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR)), cv2.COLOR_BGR2RGB)


def _flipped(array: np.ndarray, axis: int) -> np.ndarray:
    return np.ascontiguousarray(np.flip(array, axis))
