"""A teacher's depth in the units of the network: the scale of each frame, or of all, found once from what the base predicts."""

import numpy as np

from st4rtrack.adapt.priors import TeacherDepth

FAR_CAMERAS = 0.5
"""Of the longest way of the camera from the first frame: frames nearer than that say little of its scale."""

LEAST_BASELINE = 0.02
"""Of the teacher's median depth: a camera that moved less says nothing of scale."""


def log_scales(teacher: TeacherDepth, depth: np.ndarray, world_from_camera: np.ndarray) -> np.ndarray:
    """log of what the teacher's depth is multiplied with to be in the units of a prediction.

    A teacher without cameras has a scale in each frame: the median ratio to what the base predicts there. One with cameras has one
    scale, by the way that the cameras went, in which prediction and teacher agree best; where they stand still, by all depth.

    Args:
        teacher: with depth [T, H, W].
        depth: [T, h, w] of the base in its own cameras, at every n-th pixel of the teacher's; not positive where unknown.
        world_from_camera: [T, 4, 4] of the base; the first the identity.
    Returns:
        [T] float64; 0 in a frame that the teacher says nothing of.
    """
    ratios = [
        _log_ratio(predicted, wanted) for predicted, wanted in zip(depth, teacher_pixels(teacher.depth, depth), strict=True)
    ]
    if teacher.world_from_camera is None:
        return np.array([float(np.median(each)) if len(each) else 0.0 for each in ratios])
    known = teacher.depth[teacher.depth > 0]
    by_way = _log_ratio_of_ways(teacher.world_from_camera, world_from_camera, LEAST_BASELINE * float(np.median(known)))
    every = np.concatenate(ratios)
    return np.full(len(depth), by_way if by_way is not None else float(np.median(every)) if len(every) else 0.0)


def teacher_pixels(teacher_depth: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """The pixels [T, h, w] of the teacher's depth [T, H, W] that those of the prediction lie in."""
    rows, columns = (
        np.minimum(((np.arange(few) + 0.5) * many / few).astype(np.int64), many - 1)
        for few, many in zip(depth.shape[1:], teacher_depth.shape[1:], strict=True)
    )
    return teacher_depth[:, rows[:, None], columns]


def _log_ratio(predicted: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    counts = (predicted > 0) & (wanted > 0)
    return np.log(predicted[counts] / wanted[counts])


def _log_ratio_of_ways(wanted: np.ndarray, predicted: np.ndarray, least: float) -> float | None:
    """Median log ratio of how far the cameras are from the first, over frames in which they are far; `None` where they hardly moved."""
    wanted_way, way = (np.nan_to_num(np.linalg.norm(each[:, :3, 3] - each[0, :3, 3], axis=1)) for each in (wanted, predicted))
    counts = (wanted_way > FAR_CAMERAS * wanted_way.max()) & (wanted_way > least) & (way > 0)
    return float(np.median(np.log(way[counts] / wanted_way[counts]))) if counts.any() else None
