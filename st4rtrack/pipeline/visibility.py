"""Visibility probability of tracked points, from the two pointmaps of a frame, their confidences and the image.

A point is occluded if it lies behind the reconstruction of the same frame at its projection, or behind other tracked points. It
is not visible if it projects outside the image. A different colour or a low confidence makes visibility less likely. The cues are
normalised to be independent of the network, the scene scale and the image size, and weighed by a logistic model.
"""

import cv2
import numpy as np
import torch
from torch import Tensor

from st4rtrack.classical.flow import return_error
from st4rtrack.classical.two_view import TwoView
from st4rtrack.geometry.camera import pixel_grid
from st4rtrack.geometry.sampling import inside_image
from st4rtrack.geometry.transforms import invert_rigid
from st4rtrack.pipeline.device_maps import (
    box_mean,
    median_filter,
    sample_bilinear,
    sampled_median,
    to_device,
    vector_maps,
)
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

Evidence = dict[str, Tensor]
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


@timed("visibility", settles=True)
def visibility_probability(
    maps: TwoPointmaps,
    world_from_camera: np.ndarray,
    intrinsics: np.ndarray,
    anchor_rgb: np.ndarray,
    rgb: np.ndarray,
    *,
    cycle_error: np.ndarray | None = None,
    device: torch.device | str = "cpu",
) -> np.ndarray:
    """Visibility probability of each point of the anchor in a frame.

    Args:
        maps: pointmaps of (anchor, frame), [height, width, 3], and confidences [height, width]; world units.
        world_from_camera: [4, 4] of the frame.
        intrinsics: [3, 3] network pixels.
        anchor_rgb, rgb: [height, width, 3] uint8, the anchor and the frame.
        cycle_error: [height, width] cycle error: distance between the start and the end of a point tracked to the frame and back,
            by optical flow or by tracks that start there, in long sides of the image; NaN where unknown; `None` if not computed.
        device: where it is computed.
    Returns:
        [height, width] float32; 0 for points that are not finite or not in front of the camera.
    """
    evidence, possible = gather_evidence(maps, world_from_camera, intrinsics, anchor_rgb, rgb, device)
    odds = _log_odds(evidence, 0)
    if cycle_error is not None:
        error = to_device(cycle_error, device)
        odds = torch.where(error.isfinite(), _log_odds(evidence | {"cycle_error": cycle_error_cue(error)}, 1), odds)
    return torch.where(possible, odds.clamp(-30, 30).sigmoid(), 0).cpu().numpy()


def cycle_error(view: TwoView) -> np.ndarray:
    """Cycle error [height, width] of the anchor pixels by optical flow to the frame and back, in long sides of the image.

    NaN where the flow leaves the image and the error is unknown.
    """
    height, width = view.forward_flow.shape[:2]
    inside = inside_image(pixel_grid(height, width) + view.forward_flow, height, width)
    return np.where(inside, return_error(view.forward_flow, view.backward_flow) / max(height, width), np.nan)


def cycle_error_cue(error: Tensor) -> Tensor:
    """Cycle-error cue [height, width]: logarithm of one plus the error over `VISIBLE_CYCLE_ERROR`; 0 where it is not finite."""
    error = torch.nan_to_num(error, nan=0.0, posinf=0.0)
    return torch.log1p(error.clamp(max=MAX_CYCLE_ERROR) / VISIBLE_CYCLE_ERROR)


def gather_evidence(
    maps: TwoPointmaps,
    world_from_camera: np.ndarray,
    intrinsics: np.ndarray,
    anchor_rgb: np.ndarray,
    rgb: np.ndarray,
    device: torch.device | str = "cpu",
) -> tuple[Evidence, Tensor]:
    """Cues for and against the visibility of each point, and the mask [height, width] bool of points in front of the camera.

    Args: see `visibility_probability`.
    """
    height, width = rgb.shape[:2]
    camera_from_world = invert_rigid(np.asarray(world_from_camera, np.float64))
    branches = (maps.tracking, maps.reconstruction)
    (depth, u, v, possible), (surface, _, _, _) = (
        _projected(vector_maps(branch.points_world, device), camera_from_world, intrinsics) for branch in branches
    )
    inside = possible & (u >= 0) & (u < width) & (v >= 0) & (v < height)
    beyond = torch.minimum(torch.minimum(u, width - u), torch.minimum(v, height - v)) / max(height, width)
    x, y = u.clamp(0, width), v.clamp(0, height)
    behind, before, precise = _depth_test(depth.log(), surface.log(), x, y, inside)
    around = median_filter(behind, 5)
    images = [cv2.GaussianBlur(image.astype(np.float32), (0, 0), COLOUR_BLUR_PX) for image in (anchor_rgb, rgb)]
    then, now = (vector_maps(image, device) for image in images)
    confidences = [_log_confidence(branch.confidence, (height, width), device) for branch in branches]
    seen = sample_bilinear(torch.cat([now, confidences[1][None]]), x, y)
    difference = _photometric_error(then, seen[:3], inside)
    evidence = {
        "depth_behind": behind,
        "depth_in_front": before,
        "depth_behind_around": around,
        "depth_behind_precise": behind * precise,
        "depth_in_front_precise": before * precise,
        "depth_behind_around_precise": around * precise,
        "occluded_by_tracks": _occluded_by_tracks(depth.log(), x, y, inside),
        "back_facing": _back_facing(u, v, possible),
        "photometric_error": difference,
        "photometric_error_around": box_mean(difference[None], 5)[0],
        "outside": (~inside).float(),
        "border_distance": beyond.clamp(-MAX_BORDER_DISTANCE, MAX_BORDER_DISTANCE) / MAX_BORDER_DISTANCE,
        "tracking_log_confidence": confidences[0],
        "reconstruction_log_confidence": inside * seen[3],
    }
    return evidence, possible


def _log_odds(evidence: Evidence, column: int) -> Tensor:
    odds = torch.full_like(evidence["outside"], WEIGHTS["bias"][column])
    for name, values in evidence.items():
        odds.add_(values, alpha=WEIGHTS[name][column])
    return odds


def _projected(points: Tensor, camera_from_world: np.ndarray, intrinsics: np.ndarray) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """z-depth (1 if not in front), pixel columns and rows [height, width] in a camera, and mask of points in front."""
    rotation, translation = (to_device(part, points.device) for part in (camera_from_world[:3, :3], camera_from_world[:3, 3:]))
    moved = (rotation @ points.flatten(1) + translation).view_as(points)
    possible = moved.isfinite().all(dim=0) & (moved[2] > 1e-9)
    depth = torch.where(possible, moved[2], 1)
    x, y = (torch.where(possible, part, 0) / depth for part in moved[:2])
    u, v = ((float(row[0]) * x + float(row[1]) * y + float(row[2])).clamp(-1e4, 1e4) for row in intrinsics[:2])
    return depth, u, v, possible


def _depth_test(log_depth: Tensor, log_surface: Tensor, u: Tensor, v: Tensor, inside: Tensor) -> tuple[Tensor, Tensor, float]:
    """Depth behind and in front of the surface [height, width]: logarithms of one plus relative depth over the noise.

    Also the precision of the depth in this frame, 0 to 1: with little disagreement, a small depth step is more informative.

    The noise is the median disagreement of the branches in this frame, since most points are visible. A point is behind the
    surface if it is behind the deepest of the four pixels around its projection, so that object borders do not occlude it; in
    front likewise.
    """
    height, width = log_surface.shape
    left, top = (u - 0.5).floor(), (v - 0.5).floor()
    across, down = u - 0.5 - left, v - 0.5 - top
    columns, rows = (
        [low.clamp(0, side - 1).long(), (low + 1).clamp(0, side - 1).long()] for low, side in ((left, width), (top, height))
    )
    four = [log_surface.flatten()[row * width + column] for row in rows for column in columns]
    middle = torch.lerp(torch.lerp(four[0], four[1], across), torch.lerp(four[2], four[3], across), down)
    median = sampled_median((log_depth - middle).abs(), inside)
    noise = float(np.clip(NOISE_LIMITS[1] if median is None else float(median), *NOISE_LIMITS))
    deepest, nearest = (change(change(*four[:2]), change(*four[2:])) for change in (torch.maximum, torch.minimum))
    behind, before = ((gap.clamp(min=0) / noise).log1p() * inside for gap in (log_depth - deepest, nearest - log_depth))
    precise = np.log(noise / PRECISE[1]) / np.log(PRECISE[0] / PRECISE[1])
    return behind, before, float(np.clip(precise, 0, 1))


def _occluded_by_tracks(log_depth: Tensor, u: Tensor, v: Tensor, inside: Tensor) -> Tensor:
    """Logarithmic distance of points [height, width] behind the nearest tracked point of their cell, beyond `OCCLUSION_MARGIN`."""
    height, width = log_depth.shape
    across = -(-width // TRACK_CELL_PX) + 1
    cell = (v / TRACK_CELL_PX).long() * across + (u / TRACK_CELL_PX).long()
    nearest = log_depth.new_full(((-(-height // TRACK_CELL_PX) + 1) * across,), torch.inf)
    nearest.scatter_reduce_(0, cell.flatten(), torch.where(inside, log_depth, torch.inf).flatten(), "amin")
    gap = torch.where(inside, log_depth - nearest[cell], 0)
    return (gap / OCCLUSION_MARGIN - 1).clamp(min=0).log1p()


def _back_facing(u: Tensor, v: Tensor, possible: Tensor) -> Tensor:
    """Back-facing cue [height, width], 0 to 1: one minus the signed area of an anchor pixel projected to the frame."""
    smooth = box_mean(torch.where(possible, torch.stack([u, v]), 0), 5)
    down, across = torch.gradient(smooth, dim=(1, 2))
    area = across[0] * down[1] - across[1] * down[0]
    return 1 - box_mean(area[None], 3)[0].clamp(0, 1)


def _photometric_error(then: Tensor, now: Tensor, inside: Tensor) -> Tensor:
    """Photometric cue [height, width]: log of one plus the colour change, after matching median colours, over its median."""
    medians = [sampled_median(image, inside) for image in (now, then)]
    if medians[0] is None or medians[1] is None:
        return torch.zeros_like(now[0])
    gain = medians[0] / medians[1].clamp(min=1.0)
    change = (then * gain[:, None, None] - now).abs().mean(dim=0)
    median = sampled_median(change, inside)
    return (inside * change / max(float(median), MIN_COLOUR_NOISE)).log1p()  # pyright: ignore[reportArgumentType] (some are inside)


def _log_confidence(confidence: np.ndarray | None, size: tuple[int, int], device: torch.device | str) -> Tensor:
    """Confidence cue [height, width]: logarithm over the frame median, -1 to 1, saturated at `MAX_LOG_CONFIDENCE`; 0 without confidence."""
    if confidence is None:
        return torch.zeros(size, device=device)
    excess = (torch.nan_to_num(to_device(confidence, device), nan=1.0).clamp(min=1.0) - 1 + 1e-6).log()
    median = sampled_median(excess, torch.ones_like(excess, dtype=torch.bool))
    assert median is not None
    return (excess - median).clamp(-MAX_LOG_CONFIDENCE, MAX_LOG_CONFIDENCE) / MAX_LOG_CONFIDENCE
