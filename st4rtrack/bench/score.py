"""Stage 2: score predictions against ground truth, from files alone; no network and no PyTorch.

A row holds the metrics of one sequence; parts that do not apply are absent. See docs/benchmark.md for metrics and protocols.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import cv2
import numpy as np

from st4rtrack.bench.predictions import Prediction
from st4rtrack.bench.protocol import Protocol
from st4rtrack.geometry.align import Sim3
from st4rtrack.geometry.camera import pixel_grid, unproject
from st4rtrack.geometry.transforms import invert_rigid, transform_points
from st4rtrack.io.worldtrack import WorldTrackSequence, tracks_in_camera
from st4rtrack.metrics.cameras import camera_errors
from st4rtrack.metrics.depth import RelativeDepth
from st4rtrack.metrics.points import (
    ErrorTotals,
    Pieces,
    aligned_errors,
    end_point_error,
    finite_or_nan,
    global_alignments,
    static_motion,
)
from st4rtrack.metrics.tapvid3d import SCALINGS, expected_calibration_error, tapvid3d_scores

Row = dict[str, Any]

_FIGURES = {
    "apd": (
        "%",
        "higher",
        "points within 0.1, 0.3, 0.5, 1.0 m (TAPVid-3D: 1 to 16 pixels) of the ground truth, mean of the shares",
    ),
    "epe": ("m", "lower", "mean distance to the ground truth over finite predictions"),
    "scale": ("m per unit", None, "scale of the alignment"),
    "points": ("count", None, "number of counted points; of a row: tracks visible in frame 0"),
    "non_finite": ("count", "lower", "counted points without finite error: misses in APD, not in EPE"),
    "aj": ("%", "higher", "TAPVid-3D average Jaccard, 1 to 16 pixels at 256"),
    "oa": ("%", "higher", "accuracy of the predicted visibility"),
    "calibration_error": (
        "ratio",
        "lower",
        "mean difference between visibility probability and visible share, in ten bins",
    ),
    "ate": ("m", "lower", "root mean square of camera positions after SIM(3)"),
    "rpe_translation": ("m", "lower", "root mean square of frame-to-frame translation errors"),
    "rpe_rotation": ("degrees", "lower", "root mean square of frame-to-frame rotation errors"),
    "focal_error": ("%", "lower", "difference of the focal length, median over the frames"),
    "static_motion": (
        "m",
        "lower",
        "median distance between the places of a static point in frames 8 apart, after the scale of the points",
    ),
    "abs_rel": ("ratio", "lower", "mean |depth - truth| / truth after one median scale"),
    "delta_1_25": ("%", "higher", "pixels whose depth is within a factor of 1.25"),
    "delta_1_03": ("%", "higher", "pixels whose depth is within a factor of 1.03, after their median ratio"),
    "scale_drift": (
        "ratio",
        "lower",
        "standard deviation over the frames of the logarithm of each frame's own median scale",
    ),
}
FIGURES = {name: dict(zip(("unit", "better", "meaning"), row, strict=True)) for name, row in _FIGURES.items()}
"""Unit, better direction and meaning of every metric, stored in score files."""

DISTANCE_EDGES_M = (0.0, 1.0, 2.0, 4.0, 8.0, None)
MOTION_EDGES_M = (0.0, 0.01, 0.1, 0.5, 2.0, None)


def score_sequence(sequence: WorldTrackSequence, prediction: Prediction, protocol: Protocol) -> Row:
    """Compute all metrics of one sequence that its ground truth and the prediction allow.

    Returns:
        Row of a score file: plain numbers, lists and dictionaries.
    """
    if protocol.queries == "file":
        camera = _tapvid3d_camera(prediction, sequence, protocol)
        return {"points": 0 if sequence.visible is None else sequence.visible.shape[1]} | camera
    row: Row = {"points": 0 if sequence.visible is None else int(sequence.visible[0].sum())}
    scale = None
    if prediction.tracks_world is not None and row["points"]:
        row["tracking"], row["curves"] = score_tracking(prediction.tracks_world, sequence, protocol)
        scale = row["tracking"]["all"]["median"]["scale"]
        if prediction.visible is not None:
            row["tapvid3d"] = _tapvid3d(prediction.tracks_world, prediction.visible, sequence)
            if prediction.visibility is not None and sequence.visible is not None:
                probability, seen = np.asarray(prediction.visibility, np.float64), sequence.visible[0]
                error = expected_calibration_error(probability[:, seen], sequence.visible[:, seen])
                row["tapvid3d"]["calibration_error"] = _number(error)
    row |= _tapvid3d_camera(prediction, sequence, protocol)
    if prediction.reconstruction_world is not None and sequence.has_depth:
        depth = sequence.read_depth()
        row["reconstruction"] = score_reconstruction(prediction.reconstruction_world, depth, sequence, protocol)
        own_scale = row["reconstruction"]["median"]["scale"]
        scale, foreground = scale or own_scale, sequence.read_foreground()
        cameras = (sequence.world_from_camera, sequence.intrinsics)
        if own_scale is not None:
            motion = static_motion(prediction.reconstruction_world, depth, *cameras, foreground=foreground)
            row["static"] = {"static_motion": _number(own_scale * motion), "frames": len(depth)}
        if prediction.world_from_camera is not None:
            row["depth"] = _relative_depth(prediction, depth, foreground, protocol)
    if prediction.world_from_camera is not None:
        errors = camera_errors(prediction.world_from_camera, sequence.world_from_camera, scale=scale)
        values = (errors.ate_m, errors.rpe_translation_m, errors.rpe_rotation_deg)
        row["cameras"] = dict(zip(("ate", "rpe_translation", "rpe_rotation"), map(_number, values))) | {"frames": errors.frames}
        if prediction.intrinsics is not None:
            focal = prediction.intrinsics[:, 0, 0] / sequence.intrinsics[0, 0]
            row["cameras"]["focal_error"] = _number(100 * float(np.median(np.abs(focal - 1))))
    return row


def score_tracking(tracks_world: np.ndarray, sequence: WorldTrackSequence, protocol: Protocol) -> tuple[Row, Row]:
    """Score the tracks that are visible in frame 0, in every frame, occluded or not: all and dynamic ones, and error curves.

    Args:
        tracks_world: [time, points, 3] for all tracks of the sequence.
    Returns:
        The parts "tracking" and "curves" of a row. "dynamic" is absent if no point is dynamic.
    """
    assert sequence.tracks_world is not None and sequence.visible is not None
    seen = sequence.visible[0]
    predicted = finite_or_nan(np.asarray(tracks_world[:, seen], np.float64))
    true = sequence.tracks_world[:, seen]
    add_up = np.nansum if protocol.missing_truth == "left out" else np.sum  # a gap in the path is skipped, or makes it unknown
    path_m = add_up(np.linalg.norm(np.diff(true, axis=0), axis=-1), axis=0)
    dynamic = path_m > protocol.dynamic_path_m
    pieces = _track_pieces(predicted, true, protocol)
    of_all = global_alignments(pieces, reflection_scale=protocol.reflection_scale)
    tracking = {"all": _score(pieces, of_all)}
    if dynamic.any():
        pieces = _track_pieces(predicted[:, dynamic], true[:, dynamic], protocol)
        own = protocol.dynamic_alignment == "own"
        alignment = global_alignments(pieces, reflection_scale=protocol.reflection_scale) if own else of_all
        tracking["dynamic"] = _score(pieces, alignment)
    return tracking, _curves(end_point_error(of_all["median"](predicted), true), true, path_m, protocol)


def score_reconstruction(
    reconstruction_world: np.ndarray, depth: np.ndarray, sequence: WorldTrackSequence, protocol: Protocol
) -> Row:
    """Part "reconstruction" of a row: pointmaps resized to the ground truth's size, at counted pixels. Streamed by frame."""
    height, width = depth.shape[1:]
    grid = pixel_grid(height, width) - 0.5 + protocol.first_pixel_centre
    rays = unproject(grid.reshape(-1, 2), np.ones(height * width), sequence.intrinsics).astype(np.float32)

    def pieces() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for t in range(len(sequence)):
            counted = _depth_counts(depth[t], protocol).reshape(-1)
            points_camera = rays[counted] * depth[t].reshape(-1, 1)[counted]
            true = transform_points(sequence.world_from_camera[t].astype(np.float32), points_camera)
            yield _resized(reconstruction_world[t], height, width).reshape(-1, 3)[counted], true

    return _score(pieces, global_alignments(pieces, reflection_scale=protocol.reflection_scale))


def mean_row(rows: list[Row], protocol: Protocol) -> Row:
    """Average every metric over the sequences that have it; counts are summed, curves are weighted by their points.

    The published evaluator divides the dynamic EPE by the number of all tracked sequences, also those without dynamic points.
    """
    mean = _mean_of(rows)
    mean["sequences"] = len(rows)
    dynamic = mean.get("tracking", {}).get("dynamic")
    if dynamic and protocol.dynamic_epe_mean == "all":
        tracked = [row for row in rows if "tracking" in row]
        share = sum("dynamic" in row["tracking"] for row in tracked) / len(tracked)
        for alignment in ("median", "sim3"):
            if dynamic[alignment]["epe"] is not None:
                dynamic[alignment]["epe"] *= share
    if curves := [row["curves"] for row in rows if "curves" in row]:
        mean["curves"] = {name: _mean_curve([curve[name] for curve in curves]) for name in curves[0]}
    return mean


def _track_pieces(predicted: np.ndarray, true: np.ndarray, protocol: Protocol) -> Pieces:
    if protocol.missing_truth == "left out":
        known = np.isfinite(true).all(axis=-1)
        predicted, true = predicted[known], true[known]
    return lambda: [(predicted, true)]


def _score(pieces: Pieces, alignments: dict[str, Sim3]) -> Row:
    totals = aligned_errors(pieces, alignments)
    score: Row = {
        name: _numbers(total, ("apd", "epe")) | {"scale": _number(alignments[name].scale)} for name, total in totals.items()
    }
    return score | _numbers(totals["median"], ("points", "non_finite"))


def _curves(error_m: np.ndarray, true: np.ndarray, path_m: np.ndarray, protocol: Protocol) -> Row:
    """Bin errors [time, points] under median alignment by frame, true distance from the anchor's camera and true path length."""
    counted = np.ones(error_m.shape, bool)
    if protocol.missing_truth == "left out":
        counted &= np.isfinite(true).all(axis=-1)
    distance_m = np.linalg.norm(true, axis=-1)
    motion_m = np.broadcast_to(path_m, error_m.shape)
    return {
        "time": {"frame": list(range(len(error_m))), **_bins(error_m[t][counted[t]] for t in range(len(error_m)))},
        "distance": _by(distance_m[counted], error_m[counted], DISTANCE_EDGES_M),
        "motion": _by(motion_m[counted], error_m[counted], MOTION_EDGES_M),
    }


def _by(value: np.ndarray, error_m: np.ndarray, edges: tuple[float | None, ...]) -> Row:
    which = np.digitize(value, [edge for edge in edges if edge is not None][1:])
    return {"edges_m": list(edges), **_bins(error_m[which == k] for k in range(len(edges) - 1))}


def _bins(errors_m: Iterable[np.ndarray]) -> Row:
    columns: Row = {"points": [], "apd": [], "epe": []}
    for error_m in errors_m:
        totals = ErrorTotals()
        totals.add(error_m)
        for name, column in columns.items():
            column.append(_number(getattr(totals, name)))
    return columns


def _tapvid3d(tracks_world: np.ndarray, visible: np.ndarray, sequence: WorldTrackSequence) -> Row:
    """TAPVid-3D metrics of world points after one scale, of tracks visible in frame 0."""
    assert sequence.tracks_world is not None and sequence.visible is not None
    seen = sequence.visible[0]
    scores = tapvid3d_scores(
        np.asarray(tracks_world[:, seen], np.float64),
        visible[:, seen].astype(bool),
        sequence.tracks_world[:, seen],
        sequence.visible[:, seen],
        tracks_in_camera(sequence)[:, seen, 2],
        _focal_at_256(sequence),
    )
    return _numbers(scores, ("aj", "apd", "oa", "points"))


def _tapvid3d_camera(prediction: Prediction, sequence: WorldTrackSequence, protocol: Protocol) -> Row:
    """Part "tapvid3d_camera" of a row: TAPVid-3D's own metrics, in the camera of each frame; empty where they do not apply."""
    predicted = _tracks_camera(prediction)
    if predicted is None or prediction.visible is None or sequence.visible is None:
        return {}
    chosen, queries = sequence.visible[0], np.zeros(sequence.visible.shape[1], np.int64)
    if protocol.queries == "file":
        chosen, queries = np.ones(len(queries), bool), sequence.query_frame()
    if not chosen.any():
        return {}
    true = tracks_in_camera(sequence)[:, chosen]
    visible, true_visible = prediction.visible[:, chosen].astype(bool), sequence.visible[:, chosen]
    part: Row = {"points": true_visible.size}
    for scaling in SCALINGS:
        arguments = (predicted[:, chosen], visible, true, true_visible, true[..., 2], _focal_at_256(sequence))
        scores = tapvid3d_scores(*arguments, scaling=scaling, query_frame=queries[chosen])
        part[scaling] = _numbers(scores, ("aj", "apd", "oa"))
    return {"tapvid3d_camera": part}


def _tracks_camera(prediction: Prediction) -> np.ndarray | None:
    """Predicted tracks [time, points, 3] in the camera of each frame."""
    if prediction.tracks_camera is not None:
        return np.asarray(prediction.tracks_camera, np.float64)
    if prediction.tracks_world is None or prediction.world_from_camera is None:
        return None
    camera_from_world = invert_rigid(np.asarray(prediction.world_from_camera, np.float64))
    return transform_points(camera_from_world, finite_or_nan(np.asarray(prediction.tracks_world, np.float64)))


def _focal_at_256(sequence: WorldTrackSequence) -> tuple[float, float]:
    """Focal lengths (fx, fy) of the images resized to a shorter side of 256 pixels."""
    scale = 256 / min(sequence.video.height, sequence.video.width)
    return float(sequence.intrinsics[0, 0] * scale), float(sequence.intrinsics[1, 1] * scale)


def _relative_depth(prediction: Prediction, true_depth: np.ndarray, foreground: np.ndarray | None, protocol: Protocol) -> Row:
    """Depth in the predicted cameras, of all pixels, and of the foreground, the background and measured pixels where known."""
    assert prediction.reconstruction_world is not None and prediction.world_from_camera is not None
    height, width = true_depth.shape[1:]
    camera_from_world = invert_rigid(np.asarray(prediction.world_from_camera, np.float64))
    relative, groups = RelativeDepth(), dict[str, np.ndarray]()
    for t in range(len(true_depth)):
        to_depth = camera_from_world[t, 2].astype(np.float32)
        depth = finite_or_nan(prediction.reconstruction_world[t]) @ to_depth[:3] + to_depth[3]
        if foreground is not None:
            groups |= {"foreground": foreground[t], "background": ~foreground[t]}
        if prediction.measured is not None:
            groups["measured"] = _resized(prediction.measured[t], height, width) > 0.5
        true = np.where(_depth_counts(true_depth[t], protocol), true_depth[t], 0.0)
        relative.add(_resized(depth, height, width), true, groups)
    figures = ("abs_rel", "delta_1_25", "delta_1_03", "points", "non_finite")
    scores = relative.result()
    part = _numbers(scores, figures[:3]) | {"scale_drift": _number(relative.scale_drift())} | _numbers(scores, figures[3:])
    return part | {name: _numbers(relative.result(name), figures) for name in groups}


def _depth_counts(depth: np.ndarray, protocol: Protocol) -> np.ndarray:
    nearest, farthest = protocol.depth_range_m
    return np.isfinite(depth) & (depth > nearest) & (depth < (np.inf if farthest is None else farthest))


def _resized(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize to [height, width, ...] float32, bilinear between pixel centres without smoothing, like the published evaluator."""
    image = np.asarray(image, np.float32)
    if image.shape[:2] == (height, width):
        return image
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)


COUNTS = frozenset({"points", "non_finite", "frames"})


def _mean_of(parts: list[Row]) -> Row:
    """Average the parts that have a metric, recursively."""
    mean: Row = {}
    for key in dict.fromkeys(key for part in parts for key in part if key != "curves"):
        values = [part[key] for part in parts if part.get(key) is not None]
        if not values:
            mean[key] = None
        elif isinstance(values[0], dict):
            mean[key] = _mean_of(values)
        else:
            mean[key] = sum(values) if key in COUNTS else float(np.mean(values))
    return mean


def _mean_curve(curves: list[Row]) -> Row:
    """Average error curves of sequences of any length; each bin is weighted by its number of points."""
    longest = max(curves, key=lambda curve: len(curve["points"]))
    pooled: Row = {key: longest[key] for key in longest if key not in ("points", "apd", "epe")}
    bins = [[curve for curve in curves if len(curve["points"]) > k] for k in range(len(longest["points"]))]
    pooled["points"] = [sum(curve["points"][k] for curve in have) for k, have in enumerate(bins)]
    for figure in ("apd", "epe"):
        pooled[figure] = [_weighted([(curve[figure][k], curve["points"][k]) for curve in have]) for k, have in enumerate(bins)]
    return pooled


def _weighted(values: list[tuple[float | None, int]]) -> float | None:
    known = [(value, weight) for value, weight in values if value is not None]
    total = sum(weight for _, weight in known)
    return sum(value * weight for value, weight in known) / total if total else None


def _numbers(scores: object, names: Sequence[str]) -> Row:
    return {name: _number(getattr(scores, name)) for name in names}


def _number(value: float) -> float | None:
    """Convert to a JSON value: None for what could not be computed."""
    return (value if isinstance(value, int) else float(value)) if np.isfinite(value) else None
