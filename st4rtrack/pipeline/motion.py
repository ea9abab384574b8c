"""Segmentation of dynamic objects: dynamic points of the anchor, and dynamic pixels of every frame.

Two passes over the finished frames of a scene, a few at a time, so that memory does not grow with the video and a resumed run
gives the same result. A point of the anchor is dynamic if its displacement exceeds the noise of the tracks. A pixel of a frame is
dynamic if such a point is visible there. Pixels without a visible anchor point are new, and classified by optical flow: they are
dynamic if the flow to frames before and after differs from that of a static scene under the camera motion.
"""

from collections.abc import Callable, Iterator

import cv2
import numpy as np

from st4rtrack.classical.flow import dense_flow
from st4rtrack.geometry.camera import pixel_grid, project_world
from st4rtrack.geometry.sampling import covered_pixels, inside_image
from st4rtrack.geometry.vectors import length
from st4rtrack.io.scene import SceneSink
from st4rtrack.threads import parallel_stream
from st4rtrack.timing import timed, timed_items
from st4rtrack.types import DepthSource

ReadField = Callable[[str, int], np.ndarray]
"""Function that reads a field of a finished frame, as `SceneSink.read`."""

MOVES = 3.0
"""Minimum ratio of displacement to noise of a dynamic point, averaged over the frames in which it is visible."""

MOST = 10.0
"""Maximum ratio of displacement to noise of one frame: a point that is lost in a few frames is not dynamic."""

LEAST_TURN, LEAST_STRETCH = 0.002, 0.02
"""Minimum noise level of displacements: across the ray, in radians from the camera, and along it, as relative distance."""

FLOW_FACTOR = 5.0
"""Factor over the median distance between the flow and that of a static scene, above which it is motion."""

HOLE_PX = 5
"""Maximum size of holes of a mask that are filled: points spread apart as they come nearer."""

REACH = 4
"""Offset of the frames before and after that new content is compared with."""

FLOW_LONG_SIDE = 256
"""Maximum long side of the images of the flow that classifies new content."""
LEAST_FLOW = 0.006
"""Flow difference, in long sides of the image, below which it is never motion."""

LEAST_NEW_SHARE = 0.002


def dynamic_objects(
    sink: SceneSink, *, fused: bool, static: Callable[[int], np.ndarray] | None
) -> tuple[np.ndarray, Iterator[np.ndarray]]:
    """Dynamic points of the anchor [height, width] bool, and dynamic pixels of each frame in order.

    Args:
        sink: a scene with all frames written.
        fused: whether the scene has fused geometry, which stores the dynamic pixels.
        static: function from a frame index to [height, width] bool, user-provided static pixels.
    """
    num_frames, anchor_index = sink.header.num_frames, sink.header.anchor_index
    moving = moving_points(sink.read, num_frames, anchor_index)
    if static is not None:
        moving &= ~static(anchor_index)
    return moving, dynamic_masks(sink.read, num_frames) if fused else moving_masks(sink.read, num_frames, anchor_index, moving)


@timed("motion")
def moving_points(read: ReadField, num_frames: int, anchor_index: int) -> np.ndarray:
    """Dynamic points of the anchor, [height, width] bool.

    Displacements across and along the ray of the frame's camera (errors are largest along it), relative to the noise: the median
    of the frame, since most points are static. The mean is taken over the frames in which the point is visible.
    """
    start = np.asarray(read("tracking_points", anchor_index), np.float32)

    def of_frame(t: int) -> tuple[np.ndarray, np.ndarray]:
        visible = np.asarray(read("visible", t), bool)
        points = np.asarray(read("tracking_points", t), np.float32)
        centre = np.asarray(read("world_from_camera", t), np.float32)[:3, 3]
        return displacement(start - centre, points - centre, visible), visible

    total, count = np.zeros(start.shape[:2], np.float32), np.zeros(start.shape[:2], np.float32)
    for moved, visible in parallel_stream(of_frame, (t for t in range(num_frames) if t != anchor_index)):
        total += moved
        count += visible
    return cv2.medianBlur(total / np.maximum(count, 1), 5) > MOVES


@timed_items("motion")
def moving_masks(read: ReadField, num_frames: int, anchor_index: int, moving: np.ndarray) -> Iterator[np.ndarray]:
    """Dynamic pixels of each frame, [height, width] bool, frame by frame.

    Args:
        read, num_frames, anchor_index: see `moving_points`.
        moving: result of `moving_points`.
    """

    def mask(t: int) -> np.ndarray:
        if t == anchor_index:
            return moving.copy()
        if not read("solved", t):
            return np.zeros_like(moving)
        shows, still = _shown(read, t, moving)
        new = ~shows & ~still
        if new.mean() > LEAST_NEW_SHARE:
            shows |= new & _flow_differs(read, t, num_frames)
        return cv2.medianBlur(shows.astype(np.uint8), 5) > 0

    return parallel_stream(mask, range(num_frames))


def dynamic_masks(read: ReadField, num_frames: int) -> Iterator[np.ndarray]:
    """Dynamic pixels of each frame, [height, width] bool, of a scene with fused geometry, which stores them."""
    return ((read("reconstruction_source", t) == DepthSource.DYNAMIC) & read("solved", t) for t in range(num_frames))


def displacement(start: np.ndarray, now: np.ndarray, visible: np.ndarray) -> np.ndarray:
    """Ratio of displacement to noise [height, width] of points [height, width, 3] relative to the camera; 0 where unknown."""
    with np.errstate(divide="ignore", invalid="ignore"):
        distance_start, distance = (length(x) for x in (start, now))
        turn = length(now / distance[..., None] - start / distance_start[..., None])
        stretch = np.abs(np.log(distance / distance_start))
    known = visible & np.isfinite(turn) & np.isfinite(stretch)
    if not known.any():
        return np.zeros(known.shape, np.float32)
    across = turn / max(float(np.median(turn[known])), LEAST_TURN)
    along = stretch / max(float(np.median(stretch[known])), LEAST_STRETCH)
    return np.where(known, np.minimum(np.maximum(across, along / 2), MOST), 0).astype(np.float32)


def _shown(read: ReadField, t: int, moving: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pixels [height, width] bool of a frame that show dynamic, and static, points of the anchor."""
    height, width = moving.shape
    visible = np.asarray(read("visible", t), bool)
    points = np.asarray(read("tracking_points", t))[visible]
    pixels, _ = project_world(points, read("world_from_camera", t), read("intrinsics", t))
    moves = moving[visible]
    shows, still = (covered_pixels(pixels[chosen], height, width, hole_px=HOLE_PX) for chosen in (moves, ~moves))
    return shows, still & ~shows


def _flow_differs(read: ReadField, t: int, num_frames: int) -> np.ndarray:
    """Mask [height, width]: the flow to every compared frame (before, after) differs from that of a static scene."""
    others = [other for other in (t - REACH, t + REACH) if 0 <= other < num_frames and read("solved", other)]
    if not others:
        others = [other for other in [0 if t > num_frames // 2 else num_frames - 1] if read("solved", other)]
    height, width = np.shape(read("visible", t))
    if not others:
        return np.zeros((height, width), bool)
    apart = np.min([_flow_excess(read, t, other) for other in others], axis=0) > 1
    return cv2.resize(apart.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST) > 0


def _flow_excess(read: ReadField, t: int, other: int) -> np.ndarray:
    """Flow difference from a static scene over its tolerance, on every n-th pixel; 0 where static flow leaves the image."""
    points = np.asarray(read("reconstruction_points", t))
    step = -(-max(points.shape[:2]) // FLOW_LONG_SIDE)
    size = points.shape[1] // step, points.shape[0] // step
    points = points[step // 2 :: step, step // 2 :: step][: size[1], : size[0]]
    grey, other_grey = (
        cv2.resize(cv2.cvtColor(np.asarray(read("rgb", k)), cv2.COLOR_RGB2GRAY), size, interpolation=cv2.INTER_AREA)
        for k in (t, other)
    )
    pixels, _ = project_world(points.reshape(-1, 3), read("world_from_camera", other), read("intrinsics", other))
    pixels = pixels.reshape(points.shape[:2] + (2,)) / step
    known = inside_image(pixels, size[1], size[0])
    excess = length(pixel_grid(size[1], size[0]) + dense_flow(grey, other_grey) - pixels)
    if not known.any():
        return np.zeros(known.shape)
    tolerance = max(FLOW_FACTOR * float(np.median(excess[known])), LEAST_FLOW * max(size))
    return np.where(known, excess / tolerance, 0.0)
