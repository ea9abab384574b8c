"""Options and random numbers of the procedural world, and its cameras: lenses and paths over time.

The world has y pointing down, the floor at y = 0, and is in metres. Everything is sampled in float64 on the CPU (a few
hundred numbers per clip), so that truth is exact to float32 once composed. Times of a clip run over a part of [0, 1].
"""

import math
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class ProceduralConfig:
    """What to render.

    height, width: pixels, landscape or portrait. num_frames: frames per clip, spread evenly over the clip's time.
    max_parts: convex parts beside the room. shadows: cast shadows of one point light (a third of the cost).
    motion, camera_motion: scale of the motion of objects and of the camera. compile: fuse the ray caster with
    `torch.compile` (slow first call). rays_per_call: rays cast at once, None chooses by device.
    """

    height: int = 192
    width: int = 256
    num_frames: int = 2
    max_parts: int = 12
    shadows: bool = True
    motion: float = 1.0
    camera_motion: float = 1.0
    moving_share: float = 0.52
    noise: float = 1.0
    min_fov_deg: float = 38.0
    max_fov_deg: float = 80.0
    compile: bool = False
    rays_per_call: int | None = None


class Sampler:
    """Random numbers in float64 from one seed."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def uniform(self, low: float, high: float, *shape: int) -> torch.Tensor:
        return low + (high - low) * torch.rand(shape, generator=self.generator, dtype=torch.float64)

    def log_uniform(self, low: float, high: float, *shape: int) -> torch.Tensor:
        return torch.exp(self.uniform(math.log(low), math.log(high), *shape))

    def normal(self, scale: float, *shape: int) -> torch.Tensor:
        return scale * torch.randn(shape, generator=self.generator, dtype=torch.float64)

    def chance(self, probability: float, *shape: int) -> torch.Tensor:
        return torch.rand(shape, generator=self.generator) < probability

    def sign(self, *shape: int) -> torch.Tensor:
        return self.chance(0.5, *shape).double() * 2 - 1

    def integer(self, count: int, *shape: int) -> torch.Tensor:
        return torch.randint(count, shape, generator=self.generator)

    def direction(self, *shape: int) -> torch.Tensor:
        return torch.nn.functional.normalize(self.normal(1.0, *shape, 3), dim=-1)


def axis_rotation(axis: torch.Tensor, angle: torch.Tensor) -> torch.Tensor:
    """Rotation matrices [..., 3, 3] about unit axes [..., 3] by angles [...] in radians."""
    x, y, z = axis.unbind(-1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).reshape(*axis.shape[:-1], 3, 3)
    sine, cosine = torch.sin(angle)[..., None, None], torch.cos(angle)[..., None, None]
    eye = torch.eye(3, dtype=axis.dtype)
    return eye * cosine + sine * cross + (1 - cosine) * axis[..., :, None] * axis[..., None, :]


def affine(linear: torch.Tensor, translation: torch.Tensor) -> torch.Tensor:
    """[..., 3, 3] and [..., 3] to [..., 4, 4]."""
    top = torch.cat([linear, translation[..., None]], -1)
    bottom = torch.tensor([0.0, 0.0, 0.0, 1.0], dtype=top.dtype).expand(*top.shape[:-2], 1, 4)
    return torch.cat([top, bottom], -2)


def sample_times(sampler: Sampler, batch: int, num_frames: int) -> torch.Tensor:
    """Frame times [B, F]: evenly spaced, centred on 0.5, over a random share of the clip's motion, forwards or back."""
    span = sampler.log_uniform(0.2, 1.0, batch, 1) * sampler.sign(batch, 1)
    return 0.5 + span * (torch.linspace(-0.5, 0.5, num_frames, dtype=torch.float64) if num_frames > 1 else 0.0)


def sample_intrinsics(sampler: Sampler, batch: int, config: ProceduralConfig) -> torch.Tensor:
    """[B, 3, 3], field of view across the long side, principal point at the centre of the image."""
    fov = torch.deg2rad(sampler.uniform(config.min_fov_deg, config.max_fov_deg, batch))
    focal = 0.5 * max(config.height, config.width) / torch.tan(fov / 2)
    intrinsics = torch.eye(3, dtype=torch.float64).repeat(batch, 1, 1)
    intrinsics[:, 0, 0] = intrinsics[:, 1, 1] = focal
    intrinsics[:, 0, 2], intrinsics[:, 1, 2] = config.width / 2, config.height / 2
    return intrinsics


@dataclass(frozen=True)
class CameraPath:
    centre: torch.Tensor  # [B, 3] at mid-clip
    target: torch.Tensor  # [B, 3] what the camera looks at
    distance: torch.Tensor  # [B] between the two
    travel: torch.Tensor  # [B, 3] over the clip
    orbit: torch.Tensor  # [B] radians over the clip
    pan: torch.Tensor  # [B, 3] motion of the target over the clip
    shake: torch.Tensor  # [B, 2, 3] amplitude at the camera and at the target
    frequency: torch.Tensor  # [B, 2, 3]
    phase: torch.Tensor  # [B, 2, 3]
    roll: torch.Tensor  # [B, 2] radians: constant, over the clip

    def world_from_camera(self, time: torch.Tensor) -> torch.Tensor:
        """Cameras [B, F, 4, 4] at times [B, F]; smooth in time."""
        s = (time - 0.5)[..., None]
        wave = torch.sin(2 * math.pi * (self.frequency[:, None] * time[..., None, None]) + self.phase[:, None])
        shake = self.shake[:, None] * wave
        target = self.target[:, None] + self.pan[:, None] * s + shake[:, :, 1]
        down = torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64)
        turn = axis_rotation(down.expand_as(target), self.orbit[:, None] * s[..., 0])
        arm = (turn @ (self.centre - self.target)[:, None, :, None])[..., 0]
        centre = self.target[:, None] + arm + self.travel[:, None] * s + shake[:, :, 0]
        forward = torch.nn.functional.normalize(target - centre, dim=-1)
        right = torch.nn.functional.normalize(torch.linalg.cross(down.expand_as(forward), forward), dim=-1)
        rotation = torch.stack([right, torch.linalg.cross(forward, right), forward], -1)
        roll = self.roll[:, None, 0] + self.roll[:, None, 1] * s[..., 0]
        forward_axis = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64).expand_as(centre)
        return affine(rotation @ axis_rotation(forward_axis, roll), centre)


def sample_camera(sampler: Sampler, batch: int, scale: float) -> CameraPath:
    """Camera paths: fixed, hand-held, dolly, orbit or pan, at eye level, looking a little down."""
    distance = sampler.log_uniform(2.5, 5.4, batch)
    height, target_height = sampler.uniform(0.7, 2.2, batch), sampler.uniform(0.3, 1.3, batch)
    yaw = sampler.uniform(0, 2 * math.pi, batch)
    ahead = torch.stack([torch.sin(yaw), torch.zeros_like(yaw), torch.cos(yaw)], -1)
    side = torch.stack([torch.cos(yaw), torch.zeros_like(yaw), -torch.sin(yaw)], -1)
    down = torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64)
    centre = -height[:, None] * down
    target = ahead * distance[:, None] - target_height[:, None] * down

    kind = sampler.uniform(0, 1, batch)
    fixed, dolly = kind < 0.06, (kind >= 0.25) & (kind < 0.56)
    orbit, pan = (kind >= 0.56) & (kind < 0.85), kind >= 0.85
    step = sampler.normal(1.0, batch, 3)
    length = sampler.log_uniform(0.04, 0.4, batch) * distance * dolly * scale
    step = step[:, :1] * side + 0.35 * step[:, 1:2] * down + 0.8 * step[:, 2:] * ahead
    travel = torch.nn.functional.normalize(step, dim=-1) * length[:, None]
    swing = sampler.log_uniform(0.03, 0.3, batch) * distance * sampler.sign(batch) * pan * scale
    tilt = sampler.normal(0.08, batch) * distance * pan * scale
    free = (~fixed).double()[:, None, None] * scale
    shake = sampler.log_uniform(0.01, 0.12, batch, 1, 1) * sampler.uniform(0.3, 1.0, batch, 2, 3) * free
    return CameraPath(
        centre=centre,
        target=target,
        distance=distance,
        travel=travel,
        orbit=sampler.log_uniform(0.04, 0.6, batch) * sampler.sign(batch) * orbit * scale,
        pan=swing[:, None] * side + tilt[:, None] * down,
        shake=shake,
        frequency=sampler.uniform(0.3, 1.6, batch, 2, 3),
        phase=sampler.uniform(0, 2 * math.pi, batch, 2, 3),
        roll=torch.stack([sampler.normal(0.04, batch), sampler.normal(0.04, batch) * free[:, 0, 0]], -1),
    )
