"""Static baselines without weights, as reference for scores: a plane, and the ground-truth depth of frame 0."""

import cv2
import numpy as np

from st4rtrack.bench.predictions import Method, Prediction
from st4rtrack.geometry.camera import pixel_grid, scale_intrinsics, unproject
from st4rtrack.io.worldtrack import WorldTrackSequence
from st4rtrack.options import MethodOptions

MAP_SIDE = 256
"""Long side of the baselines' pointmaps in pixels: the scorer resizes them, and a plane needs no more."""


def plane(options: MethodOptions) -> Method:
    """Baseline: a plane at depth 1 in front of a static camera, with true intrinsics. Any method should beat it."""
    return lambda sequence: plane_prediction(sequence, sequence.intrinsics)


def static(options: MethodOptions) -> Method:
    """Baseline: the ground-truth geometry of frame 0 for all frames, with a static camera: the score without any motion."""
    return static_prediction


def plane_prediction(sequence: WorldTrackSequence, intrinsics: np.ndarray) -> Prediction:
    """Static plane z = 1 projected by intrinsics [3, 3] (pixels of the sequence's images)."""
    height, width = _map_size(sequence.video.height, sequence.video.width)
    surface = _unprojected(np.ones((height, width)), sequence, intrinsics)
    tracks = None
    if sequence.tracks_world is not None:
        tracks = unproject(sequence.query_px, np.ones(len(sequence.query_px)), intrinsics)
    return _without_motion(sequence, tracks, surface)


def static_prediction(sequence: WorldTrackSequence) -> Prediction:
    """Ground-truth tracks and depth of frame 0 repeated for all frames; unknown depth is filled from the nearest known pixel."""
    surface = None
    if sequence.has_depth:
        depth = _filled(sequence.read_depth()[0])
        height, width = _map_size(*depth.shape)
        depth = cv2.resize(depth, (width, height), interpolation=cv2.INTER_NEAREST)
        surface = _unprojected(depth, sequence, sequence.intrinsics)
    tracks = None if sequence.tracks_world is None else sequence.tracks_world[0]
    return _without_motion(sequence, tracks, surface)


def _without_motion(sequence: WorldTrackSequence, tracks: np.ndarray | None, surface: np.ndarray | None) -> Prediction:
    """Prediction that repeats tracks [points, 3] and a surface [height, width, 3] over time."""
    frames = len(sequence)
    prediction = Prediction(world_from_camera=np.tile(np.eye(4), (frames, 1, 1)))
    if surface is not None:
        prediction.reconstruction_world = np.broadcast_to(surface.astype(np.float32), (frames, *surface.shape))
    if tracks is not None:
        assert sequence.visible is not None
        seen = sequence.visible[0]
        prediction.tracks_world = np.tile(np.where(seen[:, None], tracks, np.nan), (frames, 1, 1))
        prediction.visible = np.tile(seen, (frames, 1))
        prediction.query_px = sequence.query_px
    return prediction


def _map_size(height: int, width: int) -> tuple[int, int]:
    scale = min(1.0, MAP_SIDE / max(height, width))
    return round(height * scale), round(width * scale)


def _unprojected(depth: np.ndarray, sequence: WorldTrackSequence, intrinsics: np.ndarray) -> np.ndarray:
    """Points [height, width, 3] of a depth map of any size, for intrinsics of the sequence's images."""
    height, width = depth.shape
    scale = (width / sequence.video.width, height / sequence.video.height)
    return unproject(pixel_grid(height, width), depth.astype(np.float64), scale_intrinsics(intrinsics, scale, (0.0, 0.0)))


def _filled(depth: np.ndarray) -> np.ndarray:
    known = np.isfinite(depth) & (depth > 0)
    if known.all() or not known.any():
        return depth
    _, found = cv2.distanceTransformWithLabels((~known).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    label = np.asarray(found, np.int64)
    value_of_label = np.zeros(label.max() + 1, depth.dtype)
    value_of_label[label[known]] = depth[known]
    return value_of_label[label]
