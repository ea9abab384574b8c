"""Unsolved frames: interpolated poses for display, and no visible points."""

from collections.abc import Collection

import numpy as np

from st4rtrack.geometry.transforms import interpolate_rigid
from st4rtrack.io.scene import SceneSink
from st4rtrack.io.scene.table import FRAME_QUALITY


def hide_unsolved(sink: SceneSink, also: Collection[int] = ()) -> np.ndarray:
    """Interpolate the poses of unsolved frames and clear the visibility of all points in them.

    The pose is interpolated over time between the nearest solved frames, and repeated beyond the first and the last of them. The
    operation is idempotent, so that an interrupted run can be resumed.

    Args:
        sink: a scene with all frames written; its anchor is solved.
        also: indices of frames found to be unsolved after they were written, for example after a hard cut.
    Returns:
        [frames] indices of the unsolved frames.
    """
    num_frames = sink.header.num_frames
    solved = np.array([bool(sink.read("solved", index)) for index in range(num_frames)])
    solved[list(also)] = False
    known = np.flatnonzero(solved)
    unsolved = np.flatnonzero(~solved)
    for index in unsolved.tolist():
        position = int(np.searchsorted(known, index))
        before, after = known[max(position - 1, 0)], known[min(position, len(known) - 1)]
        pose = _pose_between(sink, int(before), int(after), float(sink.read("time_s", index)))
        size = (sink.header.height, sink.header.width)
        hidden = {"visible": np.zeros(size, bool), "visibility": np.zeros(size, np.float16)}
        unknown = dict.fromkeys(FRAME_QUALITY, np.float32(np.nan))  # the metrics belong to the replaced pose
        sink.update_frame(index, world_from_camera=pose, solved=False, **hidden, **unknown)
    return unsolved


def _pose_between(sink: SceneSink, before: int, after: int, time_s: float) -> np.ndarray:
    """Interpolated `world_from_camera` [4, 4] at a time between two solved frames, which may be the same frame."""
    start_s, end_s = (float(sink.read("time_s", index)) for index in (before, after))
    share = float(np.clip((time_s - start_s) / (end_s - start_s), 0, 1)) if end_s > start_s else 0.0
    start, end = (sink.read("world_from_camera", index) for index in (before, after))
    return interpolate_rigid(start, end, share)
