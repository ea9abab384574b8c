"""A video made ready: inputs of the decoders, priors of the teachers, what moves, what is held out."""

import logging
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import numpy as np

from st4rtrack.adapt.config import AdaptConfig
from st4rtrack.adapt.inputs import ANCHOR, AdaptVideo, FrameInputs, empty_held, frame_inputs, held_pixels
from st4rtrack.adapt.measure import Seen, predict_all
from st4rtrack.adapt.priors import Priors, TeacherDepth, TeacherTracks
from st4rtrack.adapt.queries import grid_queries, held_out_tracks, more_queries, moving_tracks
from st4rtrack.adapt.scale import log_scales
from st4rtrack.adapt.teachers import DepthTeacher, TrackTeacher, gather_priors, gather_tracks
from st4rtrack.geometry.sampling import inside_image, nearest_pixel, sample_map
from st4rtrack.geometry.transforms import invert_rigid, transform_points
from st4rtrack.io.known.known import KnownVideo
from st4rtrack.model.network import St4RTrack
from st4rtrack.types import UserError, Video

logger = logging.getLogger(__name__)

LITTLE_MEASURED = 0.5
"""Share of what moves whose depth a teacher should know."""


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
    """All that is computed once of a video.

    Args:
        model: the base.
        video: at network size.
        teachers: of tracks and of depth; asked once.
        frames: predicted at once.
        folder: for the arrays; an empty one of its own.
        cache: where the teachers' answers are kept.
        known: intrinsics and cameras of the video.
    Raises:
        UserError: the video has one frame, or a teacher says nothing that can be learnt from.
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
    for what, chosen in (("learn from", ~held_out), ("measure on", held_out)):
        if not np.delete(tracks.visible[:, chosen], ANCHOR, axis=0).any():
            raise UserError(
                f"{video.name}: {tracks.name} follows no point beyond the first frame to {what}; "
                "choose other frames with --start and --stop, or another teacher with --tracks"
            )
    depth = None if priors.depth is None else _in_units_of(priors.depth, first_points, static[1])
    still = sample_map(static[0], tracks.query_px.astype(np.float32)).astype(np.float32)
    found = AdaptVideo(inputs, Priors(tracks, depth), moving, held_out, first_points, still)
    logger.info(
        "%s: %d frames, %d tracks of %s, %d of them move, %d are held out; depth of %s",
        video.name,
        len(inputs),
        len(held_out),
        tracks.name,
        int(found.moving.sum()),
        int(held_out.sum()),
        "no teacher" if priors.depth is None else priors.depth.name,
    )
    if found.moving.any() and _measured_share(found) < LITTLE_MEASURED:
        logger.warning(
            "%s: no teacher knows how far away most of what moves is; its tracks will follow the image better, at distances that "
            "remain guesses; a depth model or files would know them, see --depth",
            video.name,
        )
    return found


def _measured_share(video: AdaptVideo) -> float:
    """Of the places where moving tracks are seen, the share whose depth a teacher knows."""
    tracks, teacher = video.priors.tracks, video.priors.depth
    if teacher is None:
        return 0.0
    row, column = nearest_pixel(tracks.tracks_px, *teacher.depth.shape[1:])
    known = np.take_along_axis(teacher.depth.reshape(len(row), -1), row * teacher.depth.shape[2] + column, axis=1) > 0
    return float(known[tracks.visible & video.moving].mean())


def _static_world(
    model: St4RTrack, inputs: FrameInputs, frames: int, precision: str, first_points: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Content of the anchor [H, W, 3], `camera_from_world` [T, 4, 4] and intrinsics [3, 3] as the base sees them.

    What it reconstructs goes to `first_points`.
    """
    cameras = np.empty((len(inputs), 4, 4))
    seen: Seen | None = None
    for seen in predict_all(model, inputs, frames, precision):
        cameras[seen.frames] = seen.camera_from_world
        first_points[seen.frames] = held_pixels(seen.maps.reconstruction.points_world).cpu().numpy()
    assert seen is not None
    return seen.maps.tracking.points_world[ANCHOR].cpu().numpy(), cameras, seen.intrinsics


def _in_units_of(teacher: TeacherDepth, points: np.ndarray, camera_from_world: np.ndarray) -> TeacherDepth:
    """The teacher's depth in the units of the base, which reconstructs points [T, h, w, 3]."""
    depth = np.stack([transform_points(camera, each.reshape(-1, 3))[:, 2] for camera, each in zip(camera_from_world, points)])
    scales = np.exp(log_scales(teacher, depth.reshape(points.shape[:3]), invert_rigid(camera_from_world)))
    return replace(teacher, depth=(teacher.depth * scales[:, None, None]).astype(np.float32))


def _in_solved_frames(tracks: TeacherTracks, unsolved: Collection[int]) -> TeacherTracks:
    """Visible nowhere in unsolved frames, so that nothing is learnt from them or measured in them."""
    visible = tracks.visible.copy()
    visible[list(unsolved)] = False
    return replace(tracks, visible=visible)


def _inside(tracks: TeacherTracks, height: int, width: int) -> TeacherTracks:
    """Those whose query the network sees: a file may be of the whole source video."""
    inside = inside_image(tracks.query_px, height, width)
    if inside.all():
        return tracks
    return TeacherTracks(tracks.query_px[inside], tracks.tracks_px[:, inside], tracks.visible[:, inside], tracks.name)
