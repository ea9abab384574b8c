"""The loss of a step: both branches for some frames, their cameras, and what the teachers say of them (paper section 3.3)."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from st4rtrack.adapt.batches import Batch
from st4rtrack.adapt.config import AdaptConfig
from st4rtrack.adapt.forward import Solved, predict, solve_cameras
from st4rtrack.adapt.inputs import AdaptVideo, held_points
from st4rtrack.geometry.differentiable_cameras import project_everywhere
from st4rtrack.geometry.sampling import inside_image, sample_frames
from st4rtrack.geometry.transforms import transform_maps, transform_points
from st4rtrack.losses.adaptation import AdaptationLoss, adaptation_loss
from st4rtrack.model.network import St4RTrack
from st4rtrack.types import TwoPointmaps


@dataclass
class StepLoss:
    """Of one step.

    Attributes:
        total: differentiable.
        parts: its terms before they are weighted, plain numbers.
        cameras_not_found: frames that were left out.
    """

    total: Tensor
    parts: dict[str, float]
    cameras_not_found: int


def step_loss(model: St4RTrack, video: AdaptVideo, batch: Batch, config: AdaptConfig, loss: AdaptationLoss) -> StepLoss:
    """Prediction, cameras, loss.

    A frame whose camera is not found is left out of all terms. Where the video has no depth, its term is nothing.

    Raises:
        UserError: the anchor's pointmap fits no camera.
    """
    maps = predict(model, video.inputs, batch.frames, config.precision)
    solved = solve_cameras(maps, refine=True)
    frames = batch.frames[solved.rows]
    points = np.flatnonzero(~video.held_out)[batch.points]
    found = adaptation_loss(
        loss, **_track_terms(maps, solved, video, frames, points), **_depth_terms(maps, solved, video, frames)
    )
    total, parts = found.total, {name: float(value.detach()) for name, value in found.parts.items()}
    if video.held is not None:
        kept = reconstruction_change(maps.reconstruction.points_world, torch.from_numpy(video.held[batch.frames]))
        total, parts = total + config.anchored_weight * kept, {**parts, "anchored": float(kept.detach())}
    return StepLoss(total, parts, len(batch.frames) - len(frames))


def reconstruction_change(points: Tensor, held: Tensor) -> Tensor:
    """Mean squared distance of the reconstruction [F, H, W, 3] from what it was [F, h, w, 3], relative to the distance of the point."""
    held = held.to(points)
    known = held.isfinite().all(dim=-1)
    change = (held_points(points) - held).square().sum(-1) / held.square().sum(-1).clamp(min=1e-12)
    return change[known].mean()


def _track_terms(
    maps: TwoPointmaps, solved: Solved, video: AdaptVideo, frames: np.ndarray, points: np.ndarray
) -> dict[str, Tensor]:
    """What the trajectory and the alignment terms compare: S frames, P points."""
    tracks, (height, width) = video.priors.tracks, video.inputs.size
    surface = maps.reconstruction.points_world[solved.rows]
    query_px, tracks_px = (
        torch.from_numpy(np.asarray(each)).to(surface) for each in (tracks.query_px[points], tracks.tracks_px[frames][:, points])
    )
    visible = torch.from_numpy(tracks.visible[frames][:, points]).to(surface.device)
    tracking = sample_frames(maps.tracking.points_world[solved.rows], query_px.expand(len(frames), -1, -1))
    return {
        "projected_px": project_everywhere(transform_points(solved.camera_from_world, tracking), solved.intrinsics),
        "tracks_px": tracks_px,
        "visible": visible,
        "centre_px": surface.new_tensor([width / 2, height / 2]),
        "tracking_points": tracking,
        "reconstruction_points": sample_frames(surface, tracks_px),
        "both_visible": visible & inside_image(tracks_px, height, width),
    }


def _depth_terms(maps: TwoPointmaps, solved: Solved, video: AdaptVideo, frames: np.ndarray) -> dict[str, Tensor]:
    """What the depth term compares: S frames, all pixels; as one frame, which has one scale, where the teacher's frames share theirs."""
    teacher = video.priors.depth
    if teacher is None:
        return {}
    surface = maps.reconstruction.points_world[solved.rows]
    wanted = torch.from_numpy(teacher.depth[frames]).to(surface)
    depth = transform_maps(solved.camera_from_world, surface)[..., 2]
    if teacher.world_from_camera is not None:
        depth, wanted = depth.flatten()[None], wanted.flatten()[None]
    return {"depth": depth, "teacher_depth": wanted, "depth_valid": wanted > 0}
