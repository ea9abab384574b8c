"""Objects of the procedural world at rest: groups of parts, their positions and shapes."""

import math
from dataclasses import dataclass

import torch

from st4rtrack.data.procedural_camera import CameraPath
from st4rtrack.data.procedural_config import ProceduralConfig, Sampler

NUM_LEGS = 4
LOWEST_POWER, HIGHEST_POWER = 1.4, 8.0


@dataclass(frozen=True)
class Groups:
    """G objects; the first part of each is its root, at the origin of the object. Masks are [B, G] bool."""

    centre: torch.Tensor  # [B, G, 3] at mid-clip, before ground contact is applied
    half_size: torch.Tensor  # [B, G, 3] of the root
    standing: torch.Tensor  # on the ground, upright
    rolling: torch.Tensor  # on the ground, a ball or a horizontal cylinder
    table: torch.Tensor  # standing, a plate with four legs
    crossing: torch.Tensor  # moves across the image
    moving: torch.Tensor
    present: torch.Tensor
    yaw: torch.Tensor  # [B, G] radians at rest


@dataclass(frozen=True)
class Shapes:
    """Shapes of parts: the unit cube intersected with a quadric or, for the first roots, a superquadric."""

    quadric: torch.Tensor  # [B, P, 3] of `quadric . x^2 <= 1`; of a superquadric, its bounding ball
    # [B, P, 2] exponents a across (x, z) and b along (y) of (|x|^a + |z|^a)^(b / a) + |y|^b <= 1; zero for other parts
    power: torch.Tensor


def sample_groups(
    sampler: Sampler, path: CameraPath, tan_half: torch.Tensor, outdoors: torch.Tensor, config: ProceduralConfig
) -> Groups:
    """Sample objects by image position and depth at mid-clip, most on the ground, the others in the air.

    tan_half [B, 2]: tangent of half the field of view, horizontal and vertical; outdoors [B] bool.
    """
    count, batch = config.groups, sampler.batch
    camera = path.world_from_camera(torch.full((batch, 1), 0.5, dtype=torch.float64))[:, 0]
    # The subject of a video is mostly in front of its surroundings, near the centre, and moving.
    subject = (torch.arange(count) == count - 1) & sampler.chance(0.5, 1) & (config.moving_share > 0)
    spread = torch.where(subject, 0.4, 0.85)[..., None]
    position = spread * sampler.uniform(-1, 1, count, 2) * tan_half[:, None].clamp(max=0.9)
    ray = torch.cat([position, torch.ones(batch, count, 1, dtype=torch.float64)], -1)
    ray = (camera[:, None, :3, :3] @ ray[..., None])[..., 0]
    origin = camera[:, None, :3, 3]
    far = torch.where(outdoors[:, None], sampler.log_uniform(0.5, 2.8, count), sampler.uniform(0.45, 1.4, count))
    far = torch.where(subject, sampler.uniform(0.3, 0.75, count), far)
    floor = (-0.2 - origin[..., 1]) / ray[..., 1].clamp(min=1e-3)
    depth = torch.minimum((path.distance[:, None] * far).clamp(min=1.1), floor)
    point = origin + ray * depth[..., None]

    table = sampler.chance(0.25, count) & (torch.arange(count) == config.rounded_groups)
    table = table & (config.max_parts - count >= NUM_LEGS)
    rolling = sampler.chance(0.16, count) & (torch.arange(count) >= config.rounded_groups) & ~table
    standing = (sampler.chance(0.65, count) | table) & ~rolling
    # A standing object reaches from the ground to the sampled point, a floating one is centred on it.
    top = (-point[..., 1] / 2).clamp(0.1, 1.1)
    half_size = _root_sizes(sampler, depth, standing, top)
    half_size = torch.where(table[..., None], _table_tops(sampler, count), half_size)
    half_size = torch.where(rolling[..., None], _rolling_sizes(sampler, depth), half_size)
    present = (sampler.uniform(0, 1, count) < sampler.uniform(0.5, 1.0, 1)) | subject
    return Groups(
        centre=point,
        half_size=half_size,
        standing=standing,
        rolling=rolling,
        table=table,
        crossing=sampler.chance(0.16, count),
        moving=sampler.chance(config.moving_share, count) | subject,
        present=present,
        yaw=sampler.uniform(0, 2 * math.pi, count),
    )


def _root_sizes(sampler: Sampler, depth: torch.Tensor, standing: torch.Tensor, top: torch.Tensor) -> torch.Tensor:
    """Half sizes [B, G, 3] of roots: blocks; one in four is thin (poles and upright plates)."""
    count = depth.shape[1]
    size = depth[..., None] * sampler.log_uniform(0.07, 0.26, count, 1) * sampler.uniform(0.55, 1.5, count, 3)
    tall = torch.where(standing, top, size[..., 1])
    kind = sampler.choice((0.75, 0.13, 0.12), count)
    thin = sampler.log_uniform(0.012, 0.05, count)
    across = torch.where(kind == 1, thin, size[..., 0])
    deep = torch.where(kind > 0, thin, size[..., 2])
    tall = torch.where(kind == 1, tall.clamp(min=0.35), tall)
    return torch.stack([across, tall, deep], -1)


def _table_tops(sampler: Sampler, count: int) -> torch.Tensor:
    return torch.stack([sampler.uniform(a, b, count) for a, b in ((0.3, 0.75), (0.015, 0.04), (0.25, 0.5))], -1)


def _rolling_sizes(sampler: Sampler, depth: torch.Tensor) -> torch.Tensor:
    """Half sizes of rolling objects, equal in x and z (the radius); half of them are balls."""
    count = depth.shape[1]
    radius = (depth * sampler.log_uniform(0.04, 0.14, count)).clamp(max=0.6)
    length = radius * torch.where(sampler.chance(0.5, count), 1.0, sampler.uniform(0.4, 2.0, count))
    return torch.stack([radius, length, radius], -1)


def sample_shapes(sampler: Sampler, groups: Groups, config: ProceduralConfig) -> Shapes:
    """Sample boxes, ellipsoids, cylinders along y and boxes with cut corners; superquadrics for the first roots."""
    parts, count = config.max_parts, config.groups
    kind = sampler.choice((0.4, 0.2, 0.2, 0.2), parts)
    table = torch.tensor([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0], [1.0, 0.0, 1.0], [1.0, 1.0, 1.0]], dtype=torch.float64)
    quadric = table[kind] * torch.where(kind == 3, sampler.uniform(0.5, 0.8, parts), 1.0)[..., None]
    # A rolling object with equal radii is an ellipsoid (ball), any other a cylinder; table tops are boxes or round.
    ball = groups.half_size[..., 0] == groups.half_size[..., 1]
    roller = torch.where(ball[..., None], table[1], table[2])
    roots = torch.where(groups.rolling[..., None], roller, quadric[:, :count])
    flat = torch.where((kind[:, :count] == 2)[..., None], table[2], table[0])
    roots = torch.where(groups.table[..., None], flat, roots)
    quadric = torch.cat([roots, quadric[:, count:]], 1)
    rounded = torch.arange(parts) < config.rounded_groups
    power = sampler.log_uniform(LOWEST_POWER, HIGHEST_POWER, parts, 2) * rounded[:, None]
    return Shapes(quadric=torch.where(rounded[:, None], _ball_around(power)[..., None], quadric), power=power)


def _ball_around(power: torch.Tensor) -> torch.Tensor:
    """Quadric [B, P] of a bounding ball of a superquadric; rays that miss it skip the root search."""
    across, along = power.clamp(min=LOWEST_POWER).unbind(-1)
    return 2.0 ** -((1 - 2 / across).clamp(min=0) + (1 - 2 / along).clamp(min=0)) * 0.9999


def support(row: torch.Tensor, shapes: Shapes) -> torch.Tensor:
    """Support function: maximum of `row . x` over each part, row [B, F, P, 3] to [B, F, P].

    Exact for cubes, quadrics and superquadrics (dual norm); an upper bound for cubes with cut corners, exact along their axes.
    """
    quadric, power = shapes.quadric[:, None], shapes.power[:, None]
    size = row.abs()
    box = size.sum(-1)
    round_ = torch.where(quadric > 0, row.square() / quadric.clamp(min=1e-9), 0.0).sum(-1).sqrt()
    plain = torch.minimum(box, round_ + torch.where(quadric > 0, 0.0, size).sum(-1))
    across, along = ((p / (p - 1)) for p in power.clamp(min=LOWEST_POWER).unbind(-1))
    flat = (size[..., 0] ** across + size[..., 2] ** across) ** (1 / across)
    rounded = (flat**along + size[..., 1] ** along) ** (1 / along)
    return torch.where(power[..., 0] > 0, rounded, plain)
