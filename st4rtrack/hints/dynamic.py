"""Dynamic pixels of a frame, and the depth of the objects they belong to.

A pixel is dynamic if no static point on its ray explains its flow to the neighbouring frames. Motion along the epipolar line is
missed, but errors of the prior are not mistaken for motion.

Monocular depth places objects off the ground too far away, near their background. Such objects end high in the image and, being
near, move fast: two weights, fitted by performance/dynamic_depth.py on rendered sequences, move them nearer. Across sets of
sequences the weights vary from 0.65 to 1.75 per height and from 0.11 to 0.25 per log speed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch

from st4rtrack.classical.flow import reached, returns, sample_flow
from st4rtrack.geometry.camera import pixel_grid
from st4rtrack.geometry.vectors import length
from st4rtrack.hints.fusion import fill_in
from st4rtrack.hints.steps import Flows

OFFSETS = (-8, -4, -2, -1, 1, 2, 4, 8)
"""Offsets of the frames that a frame is compared with: distant ones reveal slow motion, near ones objects with unreliable
flow."""
NEAREST = 3.0
"""Ratio by which a static point may be nearer than the depth: an error of the prior is not motion."""
MAX_RESIDUAL, NOISE_FACTOR = 0.004, 3.0
"""Minimum mean distance from the flow of a dynamic pixel: long sides of the image (1 px at 256), and multiples of static
pixels'."""
MIN_VIEWS = 2
MIN_DIFFERENCE = 1.0
"""Grey levels by which a dynamic pixel must differ more from the static point than from the target of the flow."""
RING_PX, RING_RATIO, MIN_OBJECT_DIFFERENCE = 9, 2.0, 4.0
"""Around a region of noisy flow, in a ring of this width, the residual is hardly smaller than inside: an object's is, by this
factor. Grey levels by which an object must differ in the median. On six sequences they keep 98.7 % of the area of true objects
and 34 % of that of other regions."""
MEDIAN_PX = 5
MASK_MEDIAN_PX, CLOSE_PX = 9, 9
"""Mask filters: spots of wrong flow are smaller than objects, and gaps and holes of an object are dynamic."""
MIN_OBJECT_SHARE = 0.0005
"""Minimum share of the image of an object: smaller regions are flow noise."""
CONTACT_LOG_DEPTH = np.log(1.25)
"""Maximum log ratio of the prior depth of an object's lowest pixels and of the ground below, for an object standing on the
ground."""
MIN_STANDING_OUT = 0.05
"""Minimum log ratio of the depths of an object's surroundings and of the object."""
CONTACT_SHARE = 0.1
"""Lowest share of an object's height that may touch the ground."""


GROUND_ROW, PER_HEIGHT = 0.65, 0.85
"""Row (share of the image height) below which objects may stand on the ground; log depth per image height of a lower end above
it."""
FAST, MAX_LOG_SPEED, PER_LOG_SPEED = 0.01, 2.0, 0.2
"""Motion relative to the static scene, in long sides per frame, above which objects are nearer; log limit; log depth per log
speed."""
FOLLOW = 0.25
"""Share of the single-frame estimate in the update of an object's correction."""
MIN_COVERED = 0.3
"""Minimum share of an object that was dynamic in the previous frame; otherwise its correction is reset."""


@dataclass(frozen=True)
class OtherFrame:
    """A neighbouring frame of the current one.

    Attributes:
        grey: [H, W] uint8.
        flows: flow from the current frame to it, and back.
        camera: `other_from_frame` [4, 4].
        focal_px: its focal length.
    """

    grey: np.ndarray
    flows: Flows
    camera: np.ndarray
    focal_px: float


def dynamic_pixels(
    grey: np.ndarray,
    depth: np.ndarray,
    measured: np.ndarray,
    others: Sequence[OtherFrame],
    focal_px: float,
) -> np.ndarray:
    """Detect the dynamic pixels [H, W] bool of a frame.

    Args:
        grey: [H, W] uint8.
        depth: [H, W] depth of the frame under the assumption that it is static.
        measured: [H, W] bool, pixels with multi-view static depth.
        others: neighbouring frames.
        focal_px: focal length of the frame.
    """
    size = (depth.shape[0], depth.shape[1])
    if not others:
        return np.zeros(size, bool)
    total, count, looks = (np.zeros(size, np.float32) for _ in range(3))
    for other in others:
        forward, backward = other.flows
        returned = returns(forward, backward)
        there, looked_at = reached(forward), other.grey.astype(np.float32)
        static = _nearest_static(depth, there, other.camera, focal_px, other.focal_px)
        total += returned * length(static - there)
        looks += returned * (_difference(grey, looked_at, static) - _difference(grey, looked_at, there))
        count += returned
    # pixels without valid flow do not count as dynamic: they may as well be occluded
    residual, looks = total / np.maximum(count, 1), looks / np.maximum(count, 1)
    static = measured & (count > 0)
    noise = float(np.median(residual[static])) if static.any() else 0.0
    found = (count >= min(MIN_VIEWS, len(others))) & (residual > max(MAX_RESIDUAL * max(size), NOISE_FACTOR * noise))
    found &= looks > MIN_DIFFERENCE  # without texture, any flow fits
    candidates = _filled(_without_specks(cv2.medianBlur(found.astype(np.uint8), MASK_MEDIAN_PX)))
    result = np.zeros(size, bool)
    for region in objects(candidates):
        around = (cv2.dilate(region.astype(np.uint8), np.ones((RING_PX, RING_PX), np.uint8)) > 0) & ~region
        inside = region & found if (region & found).any() else region
        stands_out = not around.any() or np.median(residual[inside]) > RING_RATIO * np.median(residual[around])
        if stands_out and np.median(looks[inside]) > MIN_OBJECT_DIFFERENCE:
            result |= region
    return result


def objects(mask: np.ndarray) -> list[np.ndarray]:
    """Connected regions of a mask [H, W] bool, each [H, W] bool."""
    num, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)
    return [labels == k for k in range(1, num)]


def _background(depth: np.ndarray, dynamic: np.ndarray) -> np.ndarray:
    """Depth [H, W] with dynamic objects removed and filled in smoothly."""
    static = cv2.dilate(dynamic.astype(np.uint8), np.ones((MEDIAN_PX, MEDIAN_PX), np.uint8)) == 0
    log_depth = torch.from_numpy(np.log(depth).astype(np.float32))[None]
    return np.exp(fill_in(log_depth, torch.from_numpy(static)[None])[0].numpy())


def _nearest_static(
    depth: np.ndarray, there: np.ndarray, camera: np.ndarray, focal_px: float, other_focal_px: float
) -> np.ndarray:
    """Pixel [H, W, 2] of the static point on each ray, not far in front of the depth, that projects closest to the target."""
    height, width = depth.shape
    turned, (tx, ty, tz) = camera[:3, :3].astype(np.float32), camera[:3, 3].astype(np.float32)
    focal, other_focal = np.float32(focal_px), np.float32(other_focal_px)
    centre = np.float32(width / 2), np.float32(height / 2)
    x, y = ((np.arange(side, dtype=np.float32) + 0.5 - middle) / focal for side, middle in zip((width, height), centre))
    ax, ay, az = (row[0] * x + (row[1] * y + row[2])[:, None] for row in turned)  # the rays in the other camera
    u, v = ((part - middle) / other_focal for part, middle in zip(cv2.split(there), centre))
    across_x, across_y = tx - u * tz, ty - v * tz
    inverse = across_x * (u * az - ax) + across_y * (v * az - ay)
    inverse = np.clip(inverse / np.maximum(across_x * across_x + across_y * across_y, 1e-12), 0, NEAREST / depth)
    scale = other_focal / np.maximum(az + inverse * tz, 1e-3)
    return cv2.merge([(ax + inverse * tx) * scale + centre[0], (ay + inverse * ty) * scale + centre[1]])


def _difference(grey: np.ndarray, other: np.ndarray, there: np.ndarray) -> np.ndarray:
    """Mean difference [H, W] in grey levels between patches around pixels and around pixels [H, W, 2] of another frame."""
    return cv2.blur(np.abs(sample_flow(other, there) - grey), (MEDIAN_PX, MEDIAN_PX))


def _without_specks(mask: np.ndarray) -> np.ndarray:
    """Remove small regions of a mask [H, W] uint8; returns bool."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=4)
    large = np.flatnonzero(stats[:, cv2.CC_STAT_AREA] >= MIN_OBJECT_SHARE * mask.size)
    return np.isin(labels, large[large > 0])


def _filled(mask: np.ndarray) -> np.ndarray:
    """Close the gaps and fill the holes of a mask [H, W] bool."""
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (CLOSE_PX, CLOSE_PX))
    closed = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_CLOSE, kernel)
    outlines, _ = cv2.findContours(closed, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(np.zeros_like(closed), outlines, -1, 1, cv2.FILLED).astype(bool)


def _depth_at_contact(depth: np.ndarray, region: np.ndarray) -> float | None:
    """Depth of the ground just below an object's lowest pixels, `None` if it differs from their depth."""
    rows = np.flatnonzero(region.any(axis=1))
    lowest = np.zeros_like(region)
    first = int(rows[-1] - CONTACT_SHARE * (rows[-1] - rows[0]))
    lowest[first:] = region[first:]
    reach = np.array([[0, 0, 0], [0, 1, 0], [1, 1, 1]], np.uint8)  # grows downwards
    below = (cv2.dilate(lowest.astype(np.uint8), reach[::-1], iterations=3) > 0) & ~region
    if below.sum() < 3:
        return None
    ground, feet = float(np.median(depth[below])), float(np.median(depth[lowest]))
    return ground if abs(np.log(feet / ground)) < CONTACT_LOG_DEPTH else None


class ObjectDepth:
    """Temporally smooth correction of the depth of dynamic objects, in one direction through a video.

    Monocular depth bends the upper part of people and animals towards the background: an object that stands on the ground is
    nowhere farther than there. Fast and high objects are nearer than their prior.
    """

    def __init__(self) -> None:
        self._last: np.ndarray | None = None

    def next(self, depth: np.ndarray, dynamic: np.ndarray, motion_px: np.ndarray, back: np.ndarray | None) -> np.ndarray:
        """Corrected depth [H, W] of the next frame.

        Args:
            depth: [H, W] depth of the frame.
            dynamic: [H, W] bool, dynamic pixels.
            motion_px: [H, W, 2] per frame, relative to the static scene.
            back: [H, W, 2] flow to the previous frame; `None` for the first one.
        """
        state = np.full(depth.shape, np.nan, np.float32)
        before = state
        if self._last is not None and back is not None:
            there = (pixel_grid(*depth.shape) + back - 0.5).astype(np.float32)
            before = cv2.remap(self._last, there[..., 0], there[..., 1], cv2.INTER_NEAREST, borderValue=float("nan"))
        around = _background(depth, dynamic) if dynamic.any() else depth
        result = depth.copy()
        for region in objects(dynamic):
            placed = np.minimum(depth[region], _ground(depth, around, region))
            nearer = float(np.median(np.log(placed / depth[region])))
            now = nearer + log_correction(region, motion_px)
            last = before[region]
            last = last[np.isfinite(last)]
            if len(last) >= MIN_COVERED * region.sum():
                now = float(np.median(last)) + FOLLOW * (now - float(np.median(last)))
            state[region] = now
            result[region] = placed * np.exp(now - nearer)
        self._last = state
        return result.astype(np.float32)


def _ground(depth: np.ndarray, around: np.ndarray, region: np.ndarray) -> float:
    """Depth of the ground below an object; infinite if it does not stand there.

    A region whose depth does not differ from its surroundings `around` [H, W] is no object, but wrong flow.
    """
    ground = _depth_at_contact(depth, region)
    stands_out = np.median(np.log(around[region] / depth[region])) > MIN_STANDING_OUT
    return float("inf") if ground is None or not stands_out else ground


def log_correction(region: np.ndarray, motion_px: np.ndarray) -> float:
    """Log factor <= 0 for the depth of an object [H, W] from its motion [H, W, 2] per frame relative to the static scene."""
    end = (np.flatnonzero(region.any(axis=1))[-1] + 1) / len(region)
    speed = float(length(np.median(motion_px[region], axis=0))) / max(region.shape)
    fast = np.clip(np.log(max(speed, 1e-6) / FAST), 0, MAX_LOG_SPEED)
    return float(-PER_HEIGHT * max(0.0, GROUND_ROW - end) - PER_LOG_SPEED * fast)
