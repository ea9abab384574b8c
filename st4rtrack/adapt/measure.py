"""Measurement of a network on held-out tracks, over all frames of its videos."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from st4rtrack.adapt.forward import predict, solve_cameras
from st4rtrack.adapt.inputs import ANCHOR, AdaptVideo, FrameInputs
from st4rtrack.geometry.camera import project
from st4rtrack.geometry.sampling import sample_frames
from st4rtrack.geometry.transforms import transform_points
from st4rtrack.model.network import St4RTrack
from st4rtrack.types import TwoPointmaps


@dataclass(frozen=True)
class Measurement:
    """Track errors and branch agreement, averaged over the videos.

    Attributes:
        error_px: distance of the projected tracking from the teacher's held-out tracks, where visible, in network pixels. Each
            frame is scaled about the image centre by the median ratio, which cancels a wrong focal length. Average of the means
            over dynamic and static tracks, because dynamic objects are a small but essential part of most videos.
        moving_px: the same distance over dynamic tracks only, `None` without any.
        learnt_px: `error_px` of the training tracks.
        agreement: median distance of the two branches at held-out visible points, relative to the distance of the point; `None`
            for a network without branches.
        depth_error: mean |log-depth error| at held-out visible points against the teacher, after one scale per frame; `None`
            without a depth teacher.
        unsupervised: median |log ratio| of the depth of dynamic points to that of the base model, where no teacher knows it;
            `None` if the teachers do, or nothing is dynamic.
        cameras_not_found: number of unsolved frames, of all videos.
    """

    error_px: float
    moving_px: float | None
    learnt_px: float
    agreement: float | None
    depth_error: float | None = None
    unsupervised: float | None = None
    cameras_not_found: int = 0


def errors_of(row: Mapping[str, Any]) -> tuple[float, float | None]:
    """Errors in 2D and in depth of a measurement as plain values; without a depth teacher, 2D error and branch distance."""
    return row["error_px"], row["agreement"] if row["depth_error"] is None else row["depth_error"]


def measure(model: St4RTrack, videos: Sequence[AdaptVideo], frames: Sequence[int], precision: str) -> Measurement:
    """Measure a network on videos.

    Args:
        frames: number of frames of each video to predict at once.
    """
    rows = [_measure_video(model, video, count, precision) for video, count in zip(videos, frames, strict=True)]
    means = {
        name: [value for row in rows if (value := getattr(row, name)) is not None]
        for name in ("error_px", "moving_px", "learnt_px", "agreement", "depth_error")
    }
    return Measurement(
        **{name: float(np.mean(values)) if values else None for name, values in means.items()},  # pyright: ignore[reportArgumentType]
        cameras_not_found=sum(row.cameras_not_found for row in rows),
    )


def _measure_video(model: St4RTrack, video: AdaptVideo, count: int, precision: str) -> Measurement:
    far, apart, off = (np.full(video.priors.tracks.visible.shape, np.nan) for _ in range(3))
    not_found = 0
    for seen in predict_all(model, video.inputs, count, precision):
        far[seen.frames], apart[seen.frames], off[seen.frames] = _errors(seen, video)
        not_found += int((~seen.solved).sum())
    far[ANCHOR] = apart[ANCHOR] = np.nan  # in the anchor all tracks are at their queries
    held = video.held_out
    moving, agree = far[:, held & video.moving], apart[:, held]
    return Measurement(
        error_px=_half_moving(far, held, video.moving),
        moving_px=mean_of_finite(moving) if np.isfinite(moving).any() else None,
        learnt_px=_half_moving(far, ~held, video.moving),
        agreement=float(np.nanmedian(agree)) if np.isfinite(agree).any() else float("nan"),
        depth_error=mean_of_finite(off[:, held]) if np.isfinite(off[:, held]).any() else None,
        cameras_not_found=not_found,
    )


@dataclass
class FramePredictions:
    """Predictions for some frames of a video.

    Attributes:
        frames: [F] frame indices, the anchor first.
        maps: pointmaps of both branches.
        camera_from_world: [F, 4, 4] float64; an unsolved frame has the pose of the previous frame, as in a scene.
        solved: [F] bool, frames with an estimated pose.
        intrinsics: [3, 3] in network pixels.
    """

    frames: np.ndarray
    maps: TwoPointmaps
    camera_from_world: np.ndarray
    solved: np.ndarray
    intrinsics: np.ndarray


@torch.no_grad()
def predict_all(model: St4RTrack, inputs: FrameInputs, count: int, precision: str) -> Iterator[FramePredictions]:
    """Predict the whole video in batches that each start with the anchor."""
    last = np.eye(4)
    for start in range(1, len(inputs), count - 1):
        frames = np.concatenate([[ANCHOR], np.arange(start, min(start + count - 1, len(inputs)))])
        maps = predict(model, inputs, frames, precision)
        found = solve_cameras(maps, refine=False, inputs=inputs, frames=frames)
        solved = np.isin(np.arange(len(frames)), found.rows)
        cameras = np.empty((len(frames), 4, 4))
        cameras[found.rows] = found.camera_from_world.double().cpu().numpy()
        for row in range(1, len(frames)):
            last = cameras[row] = cameras[row] if solved[row] else last
        yield FramePredictions(frames, maps, cameras, solved, found.intrinsics.double().cpu().numpy())


def _errors(seen: FramePredictions, video: AdaptVideo) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """2D error in pixels, relative distance of the branches, and |log-depth error| [F, N] at visible tracks, NaN elsewhere."""
    tracks, surface = video.priors.tracks, seen.maps.tracking.points_world
    visible, tracks_px = tracks.visible[seen.frames], tracks.tracks_px[seen.frames]
    tracking = sample_frames(surface, torch.from_numpy(tracks.query_px).to(surface).expand(len(surface), -1, -1))
    reconstruction = sample_frames(seen.maps.reconstruction.points_world, torch.from_numpy(tracks_px).to(surface))
    apart = (tracking - reconstruction).norm(dim=-1) / reconstruction.norm(dim=-1).clamp(min=1e-9)
    in_camera = transform_points(seen.camera_from_world, tracking.double().cpu().numpy())
    far = _far_px(in_camera, seen.intrinsics, tracks_px.astype(np.float64), visible, video.inputs.size)
    off = np.full(far.shape, np.nan)
    if video.track_depth is not None:
        off = _depth_error(in_camera[..., 2], video.track_depth[seen.frames], visible)
    return np.where(visible, far, np.nan), np.where(visible, apart.cpu().numpy(), np.nan), off


def _far_px(
    in_camera: np.ndarray, intrinsics: np.ndarray, tracks_px: np.ndarray, visible: np.ndarray, size: tuple[int, int]
) -> np.ndarray:
    """Distance [F, N] in pixels of the projected tracking from the teacher's tracks, after one scale per frame."""
    height, width = size
    with np.errstate(all="ignore"):
        pixels = project(in_camera, intrinsics)
    pixels[in_camera[..., 2] <= 0] = np.inf
    centre = np.array([width / 2, height / 2])
    # points beyond twice the image size are lost; limit their error
    found = np.clip(np.nan_to_num(pixels - centre, nan=np.inf), -2 * max(size), 2 * max(size))
    wanted = tracks_px - centre
    for row, chosen in enumerate(visible):
        lengths, wanted_lengths = (np.linalg.norm(each[row, chosen], axis=-1) for each in (found, wanted))
        ratios = wanted_lengths[lengths > 0] / lengths[lengths > 0]
        if len(ratios):
            found[row] *= np.median(ratios)
    return np.linalg.norm(found - wanted, axis=-1)


def _depth_error(depth: np.ndarray, teacher: np.ndarray, visible: np.ndarray) -> np.ndarray:
    """|Log-depth error| [F, N] against the teacher, minus the median of each frame; NaN where unknown."""
    known = visible & (teacher > 0) & (depth > 0)
    error = np.where(known, np.log(np.where(known, depth, 1) / np.where(known, teacher, 1)), np.nan)
    for row in np.flatnonzero(known.any(axis=1)):
        error[row] -= np.nanmedian(error[row])
    return np.abs(error)


def _half_moving(values: np.ndarray, chosen: np.ndarray, moving: np.ndarray) -> float:
    """Average of the means over dynamic and static points of a selection; the mean of one kind if the other is absent."""
    parts = [values[:, chosen & kind] for kind in (moving, ~moving)]
    return mean_of_finite(np.array([mean_of_finite(part) for part in parts]))


def mean_of_finite(values: np.ndarray) -> float:
    """Mean of the finite values, NaN without any."""
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")
