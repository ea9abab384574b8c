"""Correction of dynamic objects that the depth prior places too far away.

Monocular depth places objects off the ground near their background. Such objects end high in the image and, being near, move
fast.
The two weights are fitted by performance/dynamic_depth.py on rendered sequences: flying boxes, and people, animals and cars on
the ground. Across sets of sequences they vary from 0.65 to 1.75 per height and from 0.11 to 0.25 per log speed.
"""

import cv2
import numpy as np

from st4rtrack.geometry.camera import pixel_grid
from st4rtrack.geometry.vectors import length
from st4rtrack.hints.dynamic import objects

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


class ObjectDepth:
    """Temporally smooth correction of the depth of dynamic objects, in one direction through a video."""

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
        correction = np.full(depth.shape, np.nan, np.float32)
        before = correction
        if self._last is not None and back is not None:
            index = (pixel_grid(*depth.shape) + back - 0.5).astype(np.float32)
            before = cv2.remap(self._last, index[..., 0], index[..., 1], cv2.INTER_NEAREST, borderValue=float("nan"))
        for region in objects(dynamic):
            now, known = log_correction(region, motion_px), before[region]
            known = known[np.isfinite(known)]
            if known.size >= MIN_COVERED * region.sum():
                last = float(np.median(known))
                now = last + FOLLOW * (now - last)
            correction[region] = now
        self._last = correction
        return (depth * np.exp(np.nan_to_num(correction))).astype(np.float32)


def log_correction(region: np.ndarray, motion_px: np.ndarray) -> float:
    """Log factor <= 0 for the depth of an object.

    Args:
        region: [H, W] bool, pixels of the object.
        motion_px: [H, W, 2] per frame, relative to the static scene.
    """
    end = (np.flatnonzero(region.any(axis=1))[-1] + 1) / len(region)
    speed = float(length(np.median(motion_px[region], axis=0))) / max(region.shape)
    fast = np.clip(np.log(max(speed, 1e-6) / FAST), 0, MAX_LOG_SPEED)
    return float(-PER_HEIGHT * max(0.0, GROUND_ROW - end) - PER_LOG_SPEED * fast)
