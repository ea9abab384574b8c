"""Preparation of a video for adaptation: decoder inputs, teacher priors, dynamic and held-out tracks."""

import logging
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from st4rtrack.adapt.config import AdaptConfig
from st4rtrack.adapt.inputs import ANCHOR, AdaptVideo, FrameInputs, empty_held, frame_inputs, held_pixels
from st4rtrack.adapt.measure import FramePredictions, predict_all
from st4rtrack.adapt.priors import DepthTeacher, Priors, TeacherDepth, TeacherTracks, TrackTeacher
from st4rtrack.adapt.teachers import gather_priors, gather_tracks
from st4rtrack.geometry.camera import project
from st4rtrack.geometry.sampling import inside_image, nearest_pixel, sample_map
from st4rtrack.geometry.transforms import invert_rigid, transform_points
from st4rtrack.io.known.known import KnownVideo
from st4rtrack.model.network import St4RTrack
from st4rtrack.types import UserError, Video

logger = logging.getLogger(__name__)

LITTLE_MEASURED = 0.5
"""Share of visible dynamic track positions with teacher depth below which a warning is logged."""


def prepare_video(
    model: St4RTrack,
    video: Video,
    teachers: tuple[TrackTeacher, DepthTeacher | None],
    config: AdaptConfig,
    *,
    frames: int,
    folder: Path,
    cache: Path | None,
    known: KnownVideo | None = None,
) -> AdaptVideo:
    """Precompute all constant inputs of a video at network size; arrays go to an empty folder.

    Args:
        frames: number of frames to predict at once.
        cache: folder of the teachers' output.
        known: user-provided intrinsics of the video.
    Raises:
        UserError: the video has one frame, or a teacher provides no usable tracks.
    """
    inputs = frame_inputs(model, video, folder, known)
    first_points = empty_held(inputs, folder)
    static = _static_world(model, inputs, frames, config.precision, first_points)
    rgb, (height, width) = np.asarray(inputs.rgb), inputs.size
    query_px = grid_queries(height, width, config.queries)
    if teachers[0].follows_any:
        first = gather_tracks(rgb, query_px, ANCHOR, teachers[0], cache=cache)
        dynamic = moving_tracks(_in_solved_frames(first, inputs.unsolved), *static)
        more = more_queries(first.query_px, dynamic, height, width, config.queries)
        query_px = np.concatenate([query_px, more])
    priors = gather_priors(rgb, query_px, ANCHOR, *teachers, cache=cache)
    tracks = _in_solved_frames(_inside(priors.tracks, height, width), inputs.unsolved)
    moving = moving_tracks(tracks, *static)
    held_out = held_out_tracks(tracks.query_px, moving, height, width, config.held_out_share, config.seed)
    _require_tracks(tracks, held_out, video.name)
    track_depth = depth = None
    if priors.depth is not None:
        depth = _in_units_of(priors.depth, first_points, static[1])
        track_depth, training = hold_out_depth(depth.depth, tracks, held_out)
        depth = replace(depth, depth=training)
    still = sample_map(static[0], tracks.query_px.astype(np.float32)).astype(np.float32)
    found = AdaptVideo(inputs, Priors(tracks, depth), track_depth, moving, held_out, first_points, still)
    _log(found, video.name)
    return found


def _require_tracks(tracks: TeacherTracks, held_out: np.ndarray, name: str) -> None:
    for purpose, chosen in (("learn from", ~held_out), ("measure on", held_out)):
        if not np.delete(tracks.visible[:, chosen], ANCHOR, axis=0).any():
            raise UserError(
                f"{name}: {tracks.name} has no points to {purpose} that are tracked beyond the first frame; "
                "choose other frames with --start and --stop, or another teacher with --tracks"
            )


def _log(found: AdaptVideo, name: str) -> None:
    tracks, depth = found.priors.tracks, found.priors.depth
    logger.info(
        "%s: %d frames, %d tracks by %s (%d dynamic, %d held out); depth by %s",
        *(name, len(found.inputs), len(found.held_out), tracks.name, int(found.moving.sum()), int(found.held_out.sum())),
        "no teacher" if depth is None else depth.name,
    )
    dynamic = tracks.visible & found.moving
    measured = np.zeros(1) if found.track_depth is None else (found.track_depth > 0)[dynamic]
    if dynamic.any() and measured.mean() < LITTLE_MEASURED:
        logger.warning(
            "%s: no teacher measures the depth of most dynamic points; their tracks will improve in 2D, but their depth "
            "remains a guess; pass a depth model or depth files with --depth",
            name,
        )


def _static_world(
    model: St4RTrack, inputs: FrameInputs, frames: int, precision: str, first_points: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Base-model anchor points [H, W, 3], `camera_from_world` [T, 4, 4] and intrinsics [3, 3]."""
    cameras = np.empty((len(inputs), 4, 4))
    seen: FramePredictions | None = None
    for seen in predict_all(model, inputs, frames, precision):
        cameras[seen.frames] = seen.camera_from_world
        first_points[seen.frames] = held_pixels(seen.maps.reconstruction.points_world).cpu().numpy()
    assert seen is not None
    return seen.maps.tracking.points_world[ANCHOR].cpu().numpy(), cameras, seen.intrinsics


def _in_units_of(teacher: TeacherDepth, points: np.ndarray, camera_from_world: np.ndarray) -> TeacherDepth:
    """Scale the teacher's depth to the units of the base model's reconstructed points [T, h, w, 3]."""
    depth = np.stack([transform_points(camera, each.reshape(-1, 3))[:, 2] for camera, each in zip(camera_from_world, points)])
    scales = np.exp(log_scales(teacher, depth.reshape(points.shape[:3]), invert_rigid(camera_from_world)))
    return replace(teacher, depth=(teacher.depth * scales[:, None, None]).astype(np.float32))


def _in_solved_frames(tracks: TeacherTracks, unsolved: Collection[int]) -> TeacherTracks:
    """Mark all tracks invisible in unsolved frames, which excludes these from training and measurement."""
    visible = tracks.visible.copy()
    visible[list(unsolved)] = False
    return replace(tracks, visible=visible)


def _inside(tracks: TeacherTracks, height: int, width: int) -> TeacherTracks:
    """Keep the tracks with a query inside the network image; a file may cover the whole source video."""
    inside = inside_image(tracks.query_px, height, width)
    return TeacherTracks(tracks.query_px[inside], tracks.tracks_px[:, inside], tracks.visible[:, inside], tracks.name)


FAR_CAMERAS = 0.5
"""Minimum baseline to the first frame, relative to the longest one, for frames used to estimate scale."""

LEAST_BASELINE = 0.02
"""Minimum baseline, relative to the teacher's median depth, for estimating scale."""


def log_scales(teacher: TeacherDepth, depth: np.ndarray, world_from_camera: np.ndarray) -> np.ndarray:
    """Log scale factors from the teacher's depth to the units of the prediction.

    A teacher without cameras has one scale per frame: the median ratio of base-model to teacher depth. A teacher with cameras has
    one scale for all frames: from the camera baselines, on which both agree best; for static cameras, from all depth.
    """
    ratios = []
    for predicted, wanted in zip(depth, teacher_pixels(teacher.depth, depth), strict=True):
        counts = (predicted > 0) & (wanted > 0)
        ratios.append(np.log(predicted[counts] / wanted[counts]))
    if teacher.world_from_camera is None:
        return np.array([float(np.median(each)) if len(each) else 0.0 for each in ratios])
    known = teacher.depth[teacher.depth > 0]
    by_distance = _log_ratio_of_distances(teacher.world_from_camera, world_from_camera, LEAST_BASELINE * float(np.median(known)))
    every = np.concatenate(ratios)
    return np.full(len(depth), by_distance if by_distance is not None else float(np.median(every)) if len(every) else 0.0)


def teacher_pixels(teacher_depth: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """Sample the teacher's depth [T, H, W] at the pixels [T, h, w] of the prediction."""
    rows, columns = (
        np.minimum(((np.arange(few) + 0.5) * many / few).astype(np.int64), many - 1)
        for few, many in zip(depth.shape[1:], teacher_depth.shape[1:], strict=True)
    )
    return teacher_depth[:, rows[:, None], columns]


def _log_ratio_of_distances(wanted: np.ndarray, predicted: np.ndarray, least: float) -> float | None:
    """Median log ratio of camera distances from the first frame, over frames far from it; `None` for nearly static cameras."""
    wanted_distance, distance = (
        np.nan_to_num(np.linalg.norm(each[:, :3, 3] - each[0, :3, 3], axis=1)) for each in (wanted, predicted)
    )
    counts = (wanted_distance > FAR_CAMERAS * wanted_distance.max()) & (wanted_distance > least) & (distance > 0)
    return float(np.median(np.log(distance[counts] / wanted_distance[counts]))) if counts.any() else None


MOVES_LONG_SIDES = 0.01
"""Deviation from the projection of a static point, in long image sides, above which a track is dynamic; if most tracks deviate,
three times their median deviation."""

HELD_OUT_CELL = 1 / 16
"""Side of the squares held out together, in long image sides; single tracks next to training tracks would not be independent."""


def grid_queries(height: int, width: int, count: int) -> np.ndarray:
    """Pixel grid [about count, 2] (u, v), float64, over the image."""
    spacing = max(1.0, float(np.sqrt(height * width / count)))
    columns, rows = max(1, round(width / spacing)), max(1, round(height / spacing))
    u, v = np.meshgrid((np.arange(columns) + 0.5) * width / columns, (np.arange(rows) + 0.5) * height / rows)
    return np.stack([u.ravel(), v.ravel()], axis=1)


def more_queries(query_px: np.ndarray, moving: np.ndarray, height: int, width: int, most: int) -> np.ndarray:
    """Additional queries [at most `most`, 2] around the dynamic ones, evenly selected."""
    quarter = 0.25 * max(1.0, float(np.sqrt(height * width / len(query_px))))
    around = np.array([[-1, -1], [1, -1], [-1, 1], [1, 1]]) * quarter
    more = (query_px[moving][:, None] + around).reshape(-1, 2)
    more = more[((more > 0) & (more < (width, height))).all(axis=1)]
    return more[np.linspace(0, len(more) - 1, min(most, len(more))).round().astype(np.int64)] if len(more) else more


def moving_tracks(
    tracks: TeacherTracks, anchor_points: np.ndarray, camera_from_world: np.ndarray, intrinsics: np.ndarray
) -> np.ndarray:
    """Classify tracks as dynamic [N] bool if they deviate from the projection of a static point."""
    height, width = anchor_points.shape[:2]
    points = sample_map(anchor_points.astype(np.float64), tracks.query_px.astype(np.float64))
    departs = np.full(tracks.visible.shape, np.nan)
    for t, camera in enumerate(camera_from_world):
        in_camera = transform_points(camera, points)
        with np.errstate(all="ignore"):
            far = np.linalg.norm(project(in_camera, intrinsics) - tracks.tracks_px[t], axis=-1)
        departs[t] = np.where(tracks.visible[t] & (in_camera[:, 2] > 0), far, np.nan)
    known = np.isfinite(departs).any(axis=0)
    furthest = np.zeros(len(points))
    furthest[known] = np.nanquantile(departs[:, known], 0.9, axis=0)
    usual = float(np.median(furthest[known])) if known.any() else 0.0
    return furthest > max(MOVES_LONG_SIDES * max(height, width), 3 * usual)


def hold_out_depth(
    depth: np.ndarray, tracks: TeacherTracks, held_out: np.ndarray, cell: float = HELD_OUT_CELL
) -> tuple[np.ndarray, np.ndarray]:
    """Sample teacher depth [T, H, W] at the tracks, and remove it around the held-out ones [N].

    Returns:
        Depth [T, N] at the tracks, 0 where unknown, and depth [T, H, W] for training.
    """
    height, width = depth.shape[1:]
    row, column = nearest_pixel(tracks.tracks_px, height, width)
    at_tracks = np.take_along_axis(depth.reshape(len(depth), -1), row * width + column, axis=1)
    side = max(3, round(cell * max(height, width) / 2))
    training = depth.copy()
    for t, visible in enumerate(tracks.visible):
        near = np.zeros((height, width), np.uint8)
        near[row[t, visible & held_out], column[t, visible & held_out]] = 1
        training[t][cv2.dilate(near, np.ones((side, side), np.uint8)) > 0] = 0
    return at_tracks, training


def held_out_tracks(
    query_px: np.ndarray, moving: np.ndarray, height: int, width: int, share: float, seed: int, *, cell: float = HELD_OUT_CELL
) -> np.ndarray:
    """Select the held-out tracks [N] bool: those in a share of the image squares, drawn at random from a seed.

    The same share of squares with dynamic points and of the others is drawn, so that both are measured. Of several squares, at
    least one is held out and at least one is not. `cell`: side of the squares relative to the long image side.
    """
    side = cell * max(height, width)
    cells = np.floor(query_px / side).astype(np.int64) @ (1 << 20, 1)
    dynamic = np.unique(cells[moving])
    rng = np.random.default_rng([seed, 1])
    held = np.zeros(len(cells), bool)
    for names in (dynamic, np.setdiff1d(cells, dynamic)):
        if len(names):
            count = int(np.clip(round(share * len(names)), 1, max(1, len(names) - 1)))
            held |= np.isin(cells, rng.permutation(names)[:count])
    if held.all():  # all in one square
        held[1:] = False
    return held
