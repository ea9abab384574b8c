"""Visibility probability of tracked points, from the two pointmaps of a frame, their confidences and the image.

A point is occluded if it lies behind the reconstruction of the same frame at its projection, or behind other tracked points. It
is not visible if it projects outside the image. A different colour or a low confidence makes visibility less likely. The cues are
normalised to be independent of the network, the scene scale and the image size, and weighed by a logistic model.
"""

import cv2
import numpy as np

from st4rtrack.classical.flow import return_error
from st4rtrack.classical.two_view import TwoView
from st4rtrack.geometry.camera import pixel_grid, project
from st4rtrack.geometry.sampling import inside_image, remap
from st4rtrack.geometry.transforms import invert_rigid, transform_points
from st4rtrack.geometry.vectors import all_finite, mean
from st4rtrack.timing import timed
from st4rtrack.types import TwoPointmaps

NOISE_LIMITS = (0.003, 0.1)
"""Limits of the noise level, the typical disagreement of the two branches in a frame, as relative depth."""

PRECISE = (0.01, 0.02)
"""Noise levels at which the depth of a frame counts as fully precise, and as not precise."""

TRACK_CELL_PX = 2
"""Cell size, in pixels, within which tracked points occlude each other: points spread apart as they come nearer."""

OCCLUSION_MARGIN = 0.03
"""Relative depth up to which tracked points do not occlude each other: points of one cell lie on a slope."""

MAX_BORDER_DISTANCE = 0.02
"""Distance to the border, in long sides of the image, at which it saturates."""

COLOUR_BLUR_PX = 1.5
MIN_COLOUR_NOISE = 4.0
"""Minimum noise level of the colour difference of a point between two frames, in grey levels."""

VISIBLE_CYCLE_ERROR, MAX_CYCLE_ERROR = 0.003, 0.1
"""Cycle error, in long sides of the image, that is typical of visible points, and value at which it saturates."""

MAX_LOG_CONFIDENCE = 2.0
"""Natural logarithm of the confidence over the median of the frame at which it saturates."""

Evidence = dict[str, np.ndarray]
"""Cues: [height, width] float32 each, by the names of `WEIGHTS` (except `bias`)."""

WEIGHTS = {
    "bias": (2.159, 2.690),
    "depth_behind": (-0.341, -0.414),
    "depth_in_front": (-0.743, -0.662),
    "depth_behind_around": (-0.803, -0.653),
    "depth_behind_precise": (-0.095, -0.064),
    "depth_in_front_precise": (1.001, 0.938),
    "depth_behind_around_precise": (-0.382, -0.350),
    "occluded_by_tracks": (-0.838, -0.744),
    "back_facing": (-1.347, -1.265),
    "photometric_error": (-0.687, -0.600),
    "photometric_error_around": (-0.020, -0.117),
    "outside": (-2.418, -2.256),
    "border_distance": (3.296, 3.348),
    "tracking_log_confidence": (0.263, 0.163),
    "reconstruction_log_confidence": (-0.302, -0.337),
    "cycle_error": (0.000, -0.612),
}
"""Log-odds per unit of a cue, without and with a cycle error. Fitted and evaluated by `python performance/visibility.py`."""


@timed("visibility")
def visibility_probability(
    maps: TwoPointmaps,
    world_from_camera: np.ndarray,
    intrinsics: np.ndarray,
    anchor_rgb: np.ndarray,
    rgb: np.ndarray,
    *,
    cycle_error: np.ndarray | None = None,
) -> np.ndarray:
    """Visibility probability of each point of the anchor in a frame.

    Args:
        maps: pointmaps of (anchor, frame), [height, width, 3], and confidences [height, width]; world units.
        world_from_camera: [4, 4] of the frame.
        intrinsics: [3, 3] network pixels.
        anchor_rgb, rgb: [height, width, 3] uint8, the anchor and the frame.
        cycle_error: [height, width] cycle error: distance between the start and the end of a point tracked to the frame and back,
            by optical flow or by tracks that start there, in long sides of the image; NaN where unknown; `None` if not computed.
    Returns:
        [height, width] float32; 0 for points that are not finite or not in front of the camera.
    """
    evidence, possible = gather_evidence(maps, world_from_camera, intrinsics, anchor_rgb, rgb)
    odds = _log_odds(evidence, 0)
    if cycle_error is not None:
        back = {"cycle_error": cycle_error_cue(cycle_error)}
        odds = np.where(np.isfinite(cycle_error), _log_odds(evidence | back, 1), odds)
    return np.where(possible, 1 / (1 + np.exp(-np.clip(odds, -30, 30))), 0).astype(np.float32)


def cycle_error(view: TwoView) -> np.ndarray:
    """Cycle error [height, width] of the anchor pixels by optical flow to the frame and back, in long sides of the image.

    NaN where the flow leaves the image and the error is unknown.
    """
    height, width = view.forward_flow.shape[:2]
    inside = inside_image(pixel_grid(height, width) + view.forward_flow, height, width)
    return np.where(inside, return_error(view.forward_flow, view.backward_flow) / max(height, width), np.nan)


def cycle_error_cue(error: np.ndarray) -> np.ndarray:
    """Cycle-error cue [height, width]: logarithm of one plus the error over `VISIBLE_CYCLE_ERROR`; 0 where it is not finite."""
    error = np.nan_to_num(error, nan=0.0, posinf=0.0)
    return np.log1p(np.minimum(error, MAX_CYCLE_ERROR) / VISIBLE_CYCLE_ERROR).astype(np.float32)


def gather_evidence(
    maps: TwoPointmaps, world_from_camera: np.ndarray, intrinsics: np.ndarray, anchor_rgb: np.ndarray, rgb: np.ndarray
) -> tuple[Evidence, np.ndarray]:
    """Cues for and against the visibility of each point, and the mask [height, width] bool of points in front of the camera.

    Args: see `visibility_probability`.
    """
    height, width = rgb.shape[:2]
    depth, pixels, possible = _projected(maps.tracking.points_world, world_from_camera, intrinsics)
    surface, _, _ = _projected(maps.reconstruction.points_world, world_from_camera, intrinsics)
    inside = possible & inside_image(pixels, height, width)
    at_image = np.clip(pixels, 0, (width, height)).astype(np.float32)
    behind, before, precise = _depth_test(depth, surface, at_image, inside)
    around = cv2.medianBlur(behind, 5)
    beyond = _to_border(pixels, height, width) / max(height, width)
    difference = _photometric_error(anchor_rgb, rgb, at_image, inside)
    evidence = {
        "depth_behind": behind,
        "depth_in_front": before,
        "depth_behind_around": around,
        "depth_behind_precise": behind * precise,
        "depth_in_front_precise": before * precise,
        "depth_behind_around_precise": around * precise,
        "occluded_by_tracks": _occluded_by_tracks(depth, at_image, inside),
        "back_facing": _back_facing(pixels, possible),
        "photometric_error": difference,
        "photometric_error_around": cv2.blur(difference, (5, 5)),
        "outside": (~inside).astype(np.float32),
        "border_distance": (np.clip(beyond, -MAX_BORDER_DISTANCE, MAX_BORDER_DISTANCE) / MAX_BORDER_DISTANCE).astype(np.float32),
        "tracking_log_confidence": _log_confidence(maps.tracking.confidence, (height, width)),
        "reconstruction_log_confidence": inside
        * remap(_log_confidence(maps.reconstruction.confidence, (height, width)), at_image),
    }
    return evidence, possible


def _log_odds(evidence: Evidence, column: int) -> np.ndarray:
    weighed = [np.float32(WEIGHTS[name][column]) * values for name, values in evidence.items()]
    return np.asarray(sum(weighed)) + np.float32(WEIGHTS["bias"][column])


def _projected(
    points_world: np.ndarray, world_from_camera: np.ndarray, intrinsics: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """z-depth [height, width] in a camera, pixels [height, width, 2], and mask of finite points in front of it."""
    height, width = points_world.shape[:2]
    with np.errstate(invalid="ignore"):  # infinite points are masked
        points = transform_points(invert_rigid(world_from_camera), points_world.reshape(-1, 3).astype(np.float64))
    possible = all_finite(points) & (points[:, 2] > 1e-9)
    points = np.where(possible[:, None], points, 1.0)
    pixels = np.clip(project(points, intrinsics), -1e4, 1e4)
    shape = (height, width)
    return points[:, 2].reshape(shape), pixels.reshape(*shape, 2), possible.reshape(shape)


def _depth_test(
    depth: np.ndarray, surface: np.ndarray, pixels_px: np.ndarray, inside: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.float32]:
    """Depth behind and in front of the surface [height, width]: logarithms of one plus relative depth over the noise.

    Also the precision of the depth in this frame, 0 to 1: with little disagreement, a small depth step is more informative.

    The noise is the median disagreement of the branches in this frame, since most points are visible. A point is behind the
    surface if it is behind the deepest of the four pixels around its projection, so that object borders do not occlude it; in
    front likewise.
    """
    log_surface = np.log(surface).astype(np.float32)
    four = np.ones((2, 2), np.uint8)
    deepest, nearest = (change(log_surface, four, anchor=(0, 0)) for change in (cv2.dilate, cv2.erode))
    corner = np.floor(pixels_px - 0.5) + np.float32(0.5)
    log_depth = np.log(depth).astype(np.float32)
    away = np.abs(log_depth - remap(log_surface, pixels_px))[inside]
    noise = np.clip(np.median(away) if away.size else NOISE_LIMITS[1], *NOISE_LIMITS).astype(np.float32)
    behind = np.maximum(log_depth - remap(deepest, corner, cv2.INTER_NEAREST), 0) / noise
    before = np.maximum(remap(nearest, corner, cv2.INTER_NEAREST) - log_depth, 0) / noise
    precise = np.log(noise / PRECISE[1]) / np.log(PRECISE[0] / PRECISE[1])
    return np.log1p(behind) * inside, np.log1p(before) * inside, np.float32(np.clip(precise, 0, 1))


def _occluded_by_tracks(depth: np.ndarray, pixels_px: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Logarithmic distance of points [height, width] behind the nearest tracked point of their cell, beyond `OCCLUSION_MARGIN`."""
    height, width = depth.shape
    across = -(-width // TRACK_CELL_PX) + 1
    column, row = np.moveaxis((pixels_px / TRACK_CELL_PX).astype(np.int64), -1, 0)
    cell = row * across + column
    log_depth = np.log(depth).astype(np.float32)
    nearest = np.full((-(-height // TRACK_CELL_PX) + 1) * across, np.inf, np.float32)
    np.minimum.at(nearest, cell[inside], log_depth[inside])
    gap = np.where(inside, log_depth - np.where(inside, nearest[cell], 0), 0)
    return np.log1p(np.maximum(gap / OCCLUSION_MARGIN - 1, 0)).astype(np.float32)


def _back_facing(pixels_px: np.ndarray, possible: np.ndarray) -> np.ndarray:
    """Back-facing cue of the surface around points [height, width]: 1 if back-facing, 0 if it looks as in the anchor.

    From the signed area in the frame of the neighbourhood of an anchor pixel: it is negative for back-facing surfaces.
    """
    smooth = cv2.blur(np.where(possible[..., None], pixels_px, 0).astype(np.float32), (5, 5))
    across, down = np.gradient(smooth, axis=1), np.gradient(smooth, axis=0)
    area = across[..., 0] * down[..., 1] - across[..., 1] * down[..., 0]
    return (1 - np.clip(cv2.blur(area, (3, 3)), 0, 1)).astype(np.float32)


def _to_border(pixels_px: np.ndarray, height: int, width: int) -> np.ndarray:
    """Signed distance [height, width] in pixels to the nearest image border, negative outside."""
    u, v = np.moveaxis(pixels_px, -1, 0)
    return np.minimum(np.minimum(u, width - u), np.minimum(v, height - v))


def _photometric_error(anchor_rgb: np.ndarray, rgb: np.ndarray, pixels_px: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Photometric cue [height, width]: logarithm of one plus the colour change over its median in this frame.

    Exposure changes are compensated by matching the median colours first.
    """
    then, now = (cv2.GaussianBlur(image.astype(np.float32), (0, 0), COLOUR_BLUR_PX) for image in (anchor_rgb, rgb))
    now = remap(now, pixels_px)
    if not inside.any():
        return np.zeros(inside.shape, np.float32)
    seen = np.flatnonzero(inside)
    median_now, median_then = (np.median(image.reshape(-1, 3)[seen], axis=0) for image in (now, then))
    gain = median_now / np.maximum(median_then, 1.0)
    change = mean(np.abs(then * gain - now))
    return np.log1p(inside * change / max(float(np.median(change[inside])), MIN_COLOUR_NOISE)).astype(np.float32)


def _log_confidence(confidence: np.ndarray | None, size: tuple[int, int]) -> np.ndarray:
    """Confidence cue [height, width]: logarithm over the frame median, -1 to 1, saturated at `MAX_LOG_CONFIDENCE`; 0 without confidence."""
    if confidence is None:
        return np.zeros(size, np.float32)
    excess = np.log(np.maximum(np.nan_to_num(confidence, nan=1.0), 1.0) - 1 + 1e-6)
    return (np.clip(excess - np.median(excess), -MAX_LOG_CONFIDENCE, MAX_LOG_CONFIDENCE) / MAX_LOG_CONFIDENCE).astype(np.float32)
