"""Batch and loss of a step: prediction, camera estimation and comparison with the teachers (paper section 3.3).

A batch is a function of seed and step, so that a resumed adaptation is identical.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from st4rtrack.adapt.config import AdaptConfig
from st4rtrack.adapt.forward import Solved, predict, solve_cameras
from st4rtrack.adapt.inputs import ANCHOR, AdaptVideo, held_pixels
from st4rtrack.geometry.differentiable_cameras import project_everywhere
from st4rtrack.geometry.sampling import inside_image, nearest_pixel, sample_frames
from st4rtrack.geometry.transforms import invert_rigid, transform_maps, transform_points
from st4rtrack.losses.adaptation import AdaptationLoss, adaptation_loss
from st4rtrack.losses.relative import KnownDepth, PoseTerm, RetentionTerm
from st4rtrack.model.network import St4RTrack
from st4rtrack.types import TwoPointmaps


@dataclass(frozen=True)
class Batch:
    """Video, frame indices [F] (the anchor first, then increasing) and indices of training tracks [P] of one optimiser step."""

    video: int
    frames: np.ndarray
    points: np.ndarray


def batch(step: int, lengths: list[int], tracks: list[int], frames: list[int], config: AdaptConfig) -> Batch:
    """Sample the batch of a step from the number of frames, training tracks and frames per step of each video.

    Every video is used once before any is used again.
    """
    video, rng = turn_of(step, len(lengths), config.seed)
    points = np.arange(tracks[video])
    if len(points) > config.points_per_step:
        points = np.sort(rng.permutation(points)[: config.points_per_step])
    return Batch(video, clip_frames(lengths[video], frames[video], config.largest_stride, rng), points)


def turn_of(step: int, count: int, seed: int) -> tuple[int, np.random.Generator]:
    """Index of the video of a step (each of `count` is used once per turn), and the random generator of the step."""
    turn, place = divmod(step, count)
    return int(np.random.default_rng([seed, 2, turn]).permutation(count)[place]), np.random.default_rng([seed, 3, step])


def clip_frames(length: int, count: int, largest_stride: int, rng: np.random.Generator) -> np.ndarray:
    """Frame indices of the anchor and count - 1 other frames with random stride and start; all frames of a shorter video.

    The stride is limited to those that fit into the video; 1 always fits.
    """
    others = min(count, length) - 1
    stride = int(rng.integers(1, max(1, min(largest_stride, (length - 1) // others)) + 1))
    start = int(rng.integers(1, length - (others - 1) * stride))
    return np.concatenate([[0], start + stride * np.arange(others)])


@dataclass
class StepLoss:
    """Loss of one step: the differentiable weighted sum, and the unweighted terms as plain numbers.

    `cameras_not_found`: number of unsolved frames, which are left out.
    """

    total: Tensor
    parts: dict[str, float]
    cameras_not_found: int
    video: int = 0


def step_loss(model: St4RTrack, video: AdaptVideo, batch: Batch, config: AdaptConfig, loss: AdaptationLoss) -> StepLoss:
    """Compute the loss of a step; unsolved frames are left out of all terms except retention.

    Raises:
        UserError: no focal length fits the anchor pointmap.
    """
    maps = predict(model, video.inputs, batch.frames, config.precision)
    solved = solve_cameras(maps, refine=True, inputs=video.inputs, frames=batch.frames)
    frames = batch.frames[solved.rows]
    points = np.flatnonzero(~video.held_out)[batch.points]
    seen = _track_predictions(maps, solved, video, frames, points)
    depths = _depths(maps, solved, video, frames, seen)
    still, agree = None, seen.inside
    if loss.form == "relative":
        measured = depths["tracks"].valid if "tracks" in depths else torch.zeros_like(seen.inside)
        still = _unmeasured_tracks(video, solved, points, seen, measured)
        # unmeasured dynamic depth is a guess in both branches, worse in the reconstruction, which lacks the anchor content
        agree = seen.inside & (measured | torch.from_numpy(~video.moving[points]).to(measured.device))
    centre_px = seen.tracks_px.new_tensor([video.inputs.size[1] / 2, video.inputs.size[0] / 2])
    found = adaptation_loss(
        loss,
        trajectory=(project_everywhere(seen.in_camera, solved.intrinsics), seen.tracks_px, seen.visible, centre_px),
        alignment=(seen.tracking_points, seen.reconstruction_points, agree),
        **depths,
        pose=_poses(solved, video, frames),
        held=RetentionTerm(*_reconstruction(maps, video, batch.frames, everywhere=config.freeze == "anchored"), still),
    )
    parts = {name: float(value.detach()) for name, value in found.parts.items()}
    return StepLoss(found.total, parts, len(batch.frames) - len(frames), batch.video)


@dataclass
class _TrackPredictions:
    """Tracks sampled from both branches and the teacher: S solved frames, P points."""

    tracking_points: Tensor
    in_camera: Tensor
    reconstruction_points: Tensor
    tracks_px: Tensor
    visible: Tensor
    inside: Tensor


def _track_predictions(
    maps: TwoPointmaps, solved: Solved, video: AdaptVideo, frames: np.ndarray, points: np.ndarray
) -> _TrackPredictions:
    tracks = video.priors.tracks
    surface = maps.reconstruction.points_world[solved.rows]
    query_px, tracks_px = (
        torch.from_numpy(np.asarray(each)).to(surface) for each in (tracks.query_px[points], tracks.tracks_px[frames][:, points])
    )
    visible = torch.from_numpy(tracks.visible[frames][:, points]).to(surface.device)
    tracking = sample_frames(maps.tracking.points_world[solved.rows], query_px.expand(len(frames), -1, -1))
    return _TrackPredictions(
        tracking,
        transform_points(solved.camera_from_world, tracking),
        sample_frames(surface, tracks_px),
        tracks_px,
        visible,
        visible & inside_image(tracks_px, *video.inputs.size),
    )


def _depths(
    maps: TwoPointmaps, solved: Solved, video: AdaptVideo, frames: np.ndarray, seen: _TrackPredictions
) -> dict[str, KnownDepth]:
    """Inputs of the depth term: all pixels, and tracks where visible; empty without a depth teacher."""
    teacher = video.priors.depth
    if teacher is None:
        return {}
    surface = maps.reconstruction.points_world[solved.rows]
    wanted = torch.from_numpy(teacher.depth[frames]).to(surface)
    row, column = nearest_pixel(seen.tracks_px.cpu().numpy(), *video.inputs.size)
    at_tracks = torch.from_numpy(teacher.depth[frames[:, None], row, column]).to(surface)
    found = {
        "pixels": KnownDepth(transform_maps(solved.camera_from_world, surface)[..., 2], wanted, wanted > 0),
        "tracks": KnownDepth(seen.in_camera[..., 2], at_tracks, seen.inside & (at_tracks > 0)),
    }
    if teacher.world_from_camera is not None:
        found["pixels"] = found["pixels"].as_one_frame()
    return found


def _poses(solved: Solved, video: AdaptVideo, frames: np.ndarray) -> PoseTerm | None:
    """Solved and teacher poses relative to the anchor; `None` without teacher cameras."""
    teacher = None if video.priors.depth is None else video.priors.depth.world_from_camera
    if teacher is None or not np.isfinite(teacher[ANCHOR]).all():
        return None
    known = np.isfinite(teacher[frames]).all(axis=(1, 2))
    wanted = invert_rigid(invert_rigid(teacher[ANCHOR]) @ teacher[frames[known]])
    now = solved.camera_from_world[torch.from_numpy(np.flatnonzero(known)).to(solved.camera_from_world.device)]
    return PoseTerm(now, torch.from_numpy(wanted).to(now))


def _reconstruction(maps: TwoPointmaps, video: AdaptVideo, frames: np.ndarray, *, everywhere: bool) -> tuple[Tensor, Tensor]:
    """Current and base reconstruction; the base is NaN where the teacher has depth, unless `everywhere`."""
    now = maps.reconstruction.points_world
    before = torch.from_numpy(video.held[frames]).to(now)
    if video.priors.depth is not None and not everywhere:
        known = torch.from_numpy(held_pixels(video.priors.depth.depth[frames]) > 0).to(now.device)
        before = torch.where(known[..., None], torch.nan, before)
    return held_pixels(now), before


def _unmeasured_tracks(
    video: AdaptVideo, solved: Solved, points: np.ndarray, seen: _TrackPredictions, measured: Tensor
) -> KnownDepth:
    """Depth of the tracks without teacher depth, visible or not; and the depth that they would have if they were static."""
    still = torch.from_numpy(video.still[points]).to(seen.in_camera)
    depth = transform_points(solved.camera_from_world, still.expand_as(seen.in_camera)).detach()[..., 2]
    return KnownDepth(seen.in_camera[..., 2], depth, ~measured & (depth > 0))
