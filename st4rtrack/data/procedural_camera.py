"""Cameras of the procedural world: intrinsics and trajectories.

The world has y pointing down and the floor at y = 0, in metres. Everything is sampled in float64 on the CPU (a few
hundred numbers per clip), so that the composed ground truth is exact to float32. The times of a clip cover a part of [0, 1].
"""

import math
from dataclasses import dataclass

import torch

from st4rtrack.data.procedural_config import (
    CAMERA_SHARES,
    CAMERAS,
    ProceduralConfig,
    Sampler,
    affine,
    axis_rotation,
    named_choice,
)

LOWEST_EYE_M = 0.6
DOWN = torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64)


def sample_times(sampler: Sampler, config: ProceduralConfig) -> torch.Tensor:
    """Frame times [B, F]: centred on 0.5, over a random share of the clip's motion, forwards or backwards."""
    span = sampler.log_uniform(0.25, 1.0, 1) * sampler.sign(1)
    if config.times:
        return 0.5 + span * (torch.tensor(config.times, dtype=torch.float64) - 0.5)
    return 0.5 + span * (torch.linspace(-0.5, 0.5, config.num_frames, dtype=torch.float64) if config.num_frames > 1 else 0.0)


def sample_intrinsics(sampler: Sampler, config: ProceduralConfig) -> torch.Tensor:
    """Intrinsics [B, 3, 3]: field of view across the long side, principal point at the image centre."""
    fov = torch.deg2rad(sampler.uniform(config.min_fov_deg, config.max_fov_deg))
    focal = 0.5 * max(config.height, config.width) / torch.tan(fov / 2)
    intrinsics = torch.eye(3, dtype=torch.float64).repeat(sampler.batch, 1, 1)
    intrinsics[:, 0, 0] = intrinsics[:, 1, 1] = focal
    intrinsics[:, 0, 2], intrinsics[:, 1, 2] = config.width / 2, config.height / 2
    return intrinsics


@dataclass(frozen=True)
class CameraPath:
    centre: torch.Tensor  # [B, 3] at mid-clip
    target: torch.Tensor  # [B, 3] the point that the camera looks at
    distance: torch.Tensor  # [B] between the two
    travel: torch.Tensor  # [B, 3] over the clip
    orbit: torch.Tensor  # [B] radians over the clip
    pan: torch.Tensor  # [B, 3] motion of the target over the clip
    shake: torch.Tensor  # [B, 2, 3] amplitude at the camera and at the target
    frequency: torch.Tensor  # [B, 2, 3]
    phase: torch.Tensor  # [B, 2, 3]
    roll: torch.Tensor  # [B, 2] radians: constant, over the clip

    def world_from_camera(self, time: torch.Tensor) -> torch.Tensor:
        """Camera poses [B, F, 4, 4] at times [B, F]; smooth in time, and always above the ground."""
        s = (time - 0.5)[..., None]
        wave = torch.sin(2 * math.pi * (self.frequency[:, None] * time[..., None, None]) + self.phase[:, None])
        shake = self.shake[:, None] * wave
        target = self.target[:, None] + self.pan[:, None] * s + shake[:, :, 1]
        turn = axis_rotation(DOWN.expand_as(target), self.orbit[:, None] * s[..., 0])
        arm = (turn @ (self.centre - self.target)[:, None, :, None])[..., 0]
        centre = self.target[:, None] + arm + self.travel[:, None] * s + shake[:, :, 0]
        # Soft minimum height, so that a trajectory that dips too low flattens out smoothly.
        above = torch.nn.functional.softplus(-centre[..., 1] - LOWEST_EYE_M, beta=12)
        centre = torch.stack([centre[..., 0], -LOWEST_EYE_M - above, centre[..., 2]], -1)
        forward = torch.nn.functional.normalize(target - centre, dim=-1)
        right = torch.nn.functional.normalize(torch.linalg.cross(DOWN.expand_as(forward), forward), dim=-1)
        rotation = torch.stack([right, torch.linalg.cross(forward, right), forward], -1)
        roll = self.roll[:, None, 0] + self.roll[:, None, 1] * s[..., 0]
        forward_axis = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64).expand_as(centre)
        return affine(rotation @ axis_rotation(forward_axis, roll), centre)


def sample_camera(sampler: Sampler, config: ProceduralConfig, outdoors: torch.Tensor) -> CameraPath:
    """Sample trajectories at eye level: fixed, hand-held, dolly, orbit or pan.

    Cameras are tilted slightly down, outdoors [B] bool farther away, and never reach the target, whatever `camera_motion` is.
    """
    scale = config.camera_motion
    distance = sampler.log_uniform(2.5, 5.4) * torch.where(outdoors, sampler.log_uniform(1.0, 2.0), 1.0)
    height, target_height = sampler.uniform(0.8, 2.2), sampler.uniform(0.3, 1.3)
    height = height * torch.where(outdoors, sampler.log_uniform(1.0, 1.9), 1.0)
    yaw = sampler.uniform(0, 2 * math.pi)
    ahead = torch.stack([torch.sin(yaw), torch.zeros_like(yaw), torch.cos(yaw)], -1)
    side = torch.stack([torch.cos(yaw), torch.zeros_like(yaw), -torch.sin(yaw)], -1)
    centre = -height[:, None] * DOWN
    target = ahead * distance[:, None] - target_height[:, None] * DOWN

    kind = named_choice(sampler, config.camera, CAMERAS, CAMERA_SHARES)
    fixed, dolly, orbit, pan = (kind == CAMERAS.index(name) for name in ("fixed", "dolly", "orbit", "pan"))
    step = sampler.normal(1.0, 3)
    length = (sampler.log_uniform(0.05, 0.6) * scale).clamp(max=1.2) * distance * dolly
    step = step[:, :1] * side + 0.35 * step[:, 1:2] * DOWN + 0.8 * step[:, 2:] * ahead
    swing = (sampler.log_uniform(0.04, 0.4) * scale).clamp(max=1.5) * distance * sampler.sign() * pan
    tilt = sampler.normal(0.08).clamp(-0.2, 0.2) * min(scale, 2.0) * distance * pan
    turn = (sampler.log_uniform(0.05, 0.9) * scale).clamp(max=2.4) * sampler.sign() * orbit
    free = (~fixed).double()[:, None, None] * min(scale, 2.5)
    return CameraPath(
        centre=centre,
        target=target,
        distance=distance,
        travel=torch.nn.functional.normalize(step, dim=-1) * length[:, None],
        orbit=turn,
        pan=swing[:, None] * side + tilt[:, None] * DOWN,
        shake=sampler.log_uniform(0.01, 0.12, 1, 1) * sampler.uniform(0.3, 1.0, 2, 3) * free,
        frequency=sampler.uniform(0.3, 1.6, 2, 3),
        phase=sampler.uniform(0, 2 * math.pi, 2, 3),
        roll=torch.stack([sampler.normal(0.04), sampler.normal(0.04) * free[:, 0, 0]], -1),
    )
