"""3D point metrics: EPE (lower is better) and APD (higher is better), paper section 4.2; motion of static points."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np

from st4rtrack.geometry.align import Moments, Sim3, floored_norm
from st4rtrack.geometry.camera import pixel_grid, project, unproject
from st4rtrack.geometry.sampling import inside_image, nearest_pixel, sample_map
from st4rtrack.geometry.transforms import invert_rigid, transform_points
from st4rtrack.geometry.vectors import all_finite, length

APD_THRESHOLDS_M = (0.1, 0.3, 0.5, 1.0)

Pieces = Callable[[], Iterable[tuple[np.ndarray, np.ndarray]]]
"""Yields chunks of corresponding (predicted, true) points [n, 3]; called once per pass, so that they need not fit in memory."""


def end_point_error(predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
    """End-point error [...]: distance between corresponding points [..., 3], in their unit."""
    return length(np.asarray(predicted, np.float64) - true)


def average_points_within_distance(error_m: np.ndarray) -> float:
    """APD in percent: share of errors [...] (metres) within a threshold, averaged over 0.1, 0.3, 0.5 and 1 m; NaN without any."""
    totals = ErrorTotals()
    totals.add(np.asarray(error_m))
    return totals.apd


def finite_or_nan(points: np.ndarray) -> np.ndarray:
    """Replace infinity by NaN, which passes through a rotation without a warning."""
    return np.where(np.isfinite(points), points, np.nan)


@dataclass
class ErrorTotals:
    """Accumulated point errors in metres. A non-finite error is a miss in APD and excluded from EPE."""

    points: int = 0  # number of errors added
    non_finite: int = 0  # number of non-finite errors among them
    _within: np.ndarray = field(default_factory=lambda: np.zeros(len(APD_THRESHOLDS_M)))
    _sum_m: float = 0.0

    def add(self, error_m: np.ndarray) -> None:
        """Add errors [...] in metres."""
        finite = np.isfinite(error_m)
        self.points += error_m.size
        self.non_finite += int(error_m.size - finite.sum())
        self._within += [np.count_nonzero(error_m <= threshold) for threshold in APD_THRESHOLDS_M]
        self._sum_m += float(error_m[finite].sum(dtype=np.float64))

    @property
    def apd(self) -> float:
        """APD in percent; NaN without points."""
        return float(100 * self._within.mean() / self.points) if self.points else float("nan")

    @property
    def epe(self) -> float:
        """EPE in metres; NaN without finite errors."""
        finite = self.points - self.non_finite
        return self._sum_m / finite if finite else float("nan")


def global_alignments(pieces: Pieces, *, reflection_scale: bool = False) -> dict[str, Sim3]:
    """Global alignments of predicted to true points, by median scale and by Sim(3), over points finite in both.

    Args:
        pieces: corresponding points.
        reflection_scale: see `umeyama`.
    Returns:
        "median" (a scale about the origin) and "sim3" (the least-squares similarity). If no similarity exists (fewer than three
        points, or coincident predicted points), "sim3" maps all points to the mean of the true ones; without points, both are the
        identity.
    """
    moments, norms = Moments(), ([], [])
    for predicted, true in pieces():
        finite = all_finite(predicted) & all_finite(true)
        moments.add(predicted[finite], true[finite])
        norms[0].append(floored_norm(predicted[finite]).ravel())
        norms[1].append(floored_norm(true[finite]).ravel())
    if moments.count == 0:
        unchanged = Sim3(1.0, np.eye(3), np.zeros(3))
        return {"median": unchanged, "sim3": unchanged}
    predicted_norm, true_norm = (np.median(np.concatenate(part)) for part in norms)
    median = Sim3(float(true_norm / predicted_norm), np.eye(3), np.zeros(3))
    try:
        sim3 = moments.similarity(allow_reflection_scale=reflection_scale)
    except ValueError:
        sim3 = Sim3(0.0, np.eye(3), moments.target_mean)
    return {"median": median, "sim3": sim3}


def aligned_errors(pieces: Pieces, alignments: dict[str, Sim3]) -> dict[str, ErrorTotals]:
    """Accumulate the errors under each alignment, in one pass over the points."""
    totals = {name: ErrorTotals() for name in alignments}
    for predicted, true in pieces():
        predicted = finite_or_nan(predicted)
        for name, alignment in alignments.items():
            totals[name].add(end_point_error(alignment(predicted), true))
    return totals


FRAME_GAP = 8
SAME_SURFACE = 0.02
"""Relative difference of true depths below which two frames show the same static point; a moved object differs by more."""
POINTS_PER_FRAME = 3000


def static_motion(
    reconstruction_world: np.ndarray,
    true_depth_m: np.ndarray,
    world_from_camera: np.ndarray,
    intrinsics: np.ndarray,
    *,
    foreground: np.ndarray | None = None,
) -> float:
    """Median distance between the two positions that a reconstruction gives a static point in frames `FRAME_GAP` apart.

    True depth and cameras find the pixel of the same point in the later frame; moved or occluded points are left out.

    Args:
        reconstruction_world: [time, h, w, 3] of any size and unit.
        true_depth_m: [time, height, width], not positive or not finite where unknown.
        world_from_camera: [time, 4, 4], true.
        intrinsics: [3, 3], true, in pixels of the depth maps.
        foreground: [time, height, width] bool, pixels that are not static.
    Returns:
        In the unit of the reconstruction; NaN without a static point.
    """
    height, width = true_depth_m.shape[1:]
    step = max(1, round((height * width / POINTS_PER_FRAME) ** 0.5))
    pixels = pixel_grid(height, width)[step // 2 :: step, step // 2 :: step].reshape(-1, 2)
    gap = min(FRAME_GAP, len(true_depth_m) - 1)
    distances = []
    for start in range(len(true_depth_m) - gap if gap else 0):
        end = start + gap
        depth = _at(true_depth_m[start], pixels)
        use = np.isfinite(depth) & (depth > 0)
        if foreground is not None:
            use &= ~_at(foreground[start], pixels)
        moved = invert_rigid(world_from_camera[end]) @ world_from_camera[start]
        points = transform_points(moved, unproject(pixels[use], depth[use].astype(np.float64), intrinsics))
        points, start_px = (values[points[:, 2] > 0] for values in (points, pixels[use]))
        end_px = project(points, intrinsics)
        same = inside_image(end_px, height, width)
        same &= np.abs(_at(true_depth_m[end], end_px) - points[:, 2]) < SAME_SURFACE * points[:, 2]
        scale = (reconstruction_world.shape[2] / width, reconstruction_world.shape[1] / height)
        places = [
            sample_map(np.asarray(reconstruction_world[t], np.float64), at[same] * scale)
            for t, at in ((start, start_px), (end, end_px))
        ]
        known = all_finite(places[0]) & all_finite(places[1])
        distances.append(length(places[0][known] - places[1][known]))
    every = np.concatenate(distances) if distances else np.empty(0)
    return float(np.median(every)) if len(every) else float("nan")


def _at(values: np.ndarray, pixels_px: np.ndarray) -> np.ndarray:
    row, column = nearest_pixel(pixels_px, *values.shape)
    return values[row, column]
