"""Object motion of the procedural world: rigid motion, deformation, swinging limbs, falls, and ground contact."""

import math
from dataclasses import dataclass, replace

import torch
from torch.nn.functional import normalize

from st4rtrack.data.procedural_camera import DOWN, CameraPath
from st4rtrack.data.procedural_config import ProceduralConfig, Sampler, affine, axis_rotation
from st4rtrack.data.procedural_ground import columns_of, ground_slope, ground_y
from st4rtrack.data.procedural_objects import NUM_LEGS, Groups, Shapes, support

AIR_M = 0.02  # minimum height of floating objects above the ground
CLEARANCE_M = 0.6  # from the camera to any object: keeps z-depth at the image corner above 0.3 m
GRAVITY = 9.81  # m/s^2
FAR_BELOW_M = 1000.0  # depth of absent parts: no ray reaches them below the ground


@dataclass(frozen=True)
class Motion:
    """Paths of G objects at F times, before ground contact is applied."""

    rotation: torch.Tensor  # [B, F, G, 3, 3]
    place: torch.Tensor  # [B, F, G, 3]
    deform: torch.Tensor  # [B, F, G, 3, 3] deformation of the root
    hop: torch.Tensor  # [B, F, G] height of standing objects above the ground in metres


@dataclass(frozen=True)
class Parts:
    """P parts: the roots of the objects, then limbs."""

    group: torch.Tensor  # [B, P] int
    half_size: torch.Tensor  # [B, P, 3]
    present: torch.Tensor  # [B, P] bool
    group_from_part: torch.Tensor  # [B, F, P, 4, 4]


def _travels(sampler: Sampler, groups: Groups, path: CameraPath, amount: torch.Tensor) -> torch.Tensor:
    """Displacement [B, G, 3] of each object over the clip: nearby, or across the image in front of and behind other objects."""
    count = amount.shape[1]
    on_ground = (groups.standing | groups.rolling)[..., None]
    heading = sampler.normal(1.0, count, 3)
    heading = torch.where(on_ground, heading * torch.tensor([1.0, 0.0, 1.0]), heading)
    reach = sampler.log_uniform(0.08, 1.1, count) * (sampler.chance(0.85, count) | groups.rolling)
    near = normalize(heading, dim=-1) * reach[..., None]
    ahead = (path.target - path.centre) * torch.tensor([1.0, 0.0, 1.0])
    side = normalize(torch.linalg.cross(DOWN.expand_as(ahead), ahead), dim=-1)[:, None]
    across = side + 0.3 * heading * torch.tensor([1.0, 0.0, 1.0])
    wide = path.distance[:, None] * sampler.uniform(0.35, 0.9, count) * sampler.sign(count)
    return torch.where(groups.crossing[..., None], across * wide[..., None], near) * amount[..., None]


def _escort(sampler: Sampler, groups: Groups, path: CameraPath, time: torch.Tensor) -> torch.Tensor:
    """Displacement [B, F, G, 3] of objects that move along with the camera (tracking shot): in two views they look far away."""
    count = groups.moving.shape[1]
    cameras = path.world_from_camera(time)[..., :3, 3]
    travel = (cameras - cameras[:, :1]) * torch.tensor([1.0, 0.0, 1.0])
    share = sampler.uniform(0.5, 1.1, count) * (sampler.chance(0.25, count) & groups.moving & ~groups.rolling)
    return travel[:, :, None] * share[:, None, :, None]


def _deformation(sampler: Sampler, time: torch.Tensor, soft: torch.Tensor) -> torch.Tensor:
    """Deformation [B, F, G, 3, 3]: volume-preserving squash along y, and shear; identity where `soft` [B, G] is zero."""
    count = soft.shape[1]
    squash = torch.exp(sampler.uniform(0.1, 0.5, count)[:, None] * soft[:, None] * sampler.curve(time, count))
    lean = sampler.normal(0.3, count, 2)[:, None] * (soft[:, None] * sampler.curve(time, count))[..., None]
    zero = torch.zeros_like(squash)
    rows = [squash**-0.5, lean[..., 0], zero, zero, squash, zero, zero, lean[..., 1], squash**-0.5]
    return torch.stack(rows, -1).reshape(*squash.shape, 3, 3)


def _rolling_frame(travel: torch.Tensor, yaw: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Rotation at rest [B, G, 3, 3] of objects that roll along `travel` [B, G, 3], with y as the axis of rolling; and that axis."""
    still = torch.stack([torch.cos(yaw), torch.zeros_like(yaw), torch.sin(yaw)], -1)
    forward = normalize(torch.where(travel.norm(dim=-1, keepdim=True) > 1e-9, travel, still), dim=-1)
    axis = torch.linalg.cross(-DOWN.expand_as(forward), forward)
    return torch.stack([forward, axis, torch.linalg.cross(forward, axis)], -1), axis


def sample_motion(
    sampler: Sampler, groups: Groups, path: CameraPath, time: torch.Tensor, waves: torch.Tensor, motion: float
) -> Motion:
    """Sample the motion of all objects at times [B, F]."""
    count, frames = groups.moving.shape[1], time.shape[1]
    amount = groups.moving.double() * motion
    travel, progress = _travels(sampler, groups, path, amount), sampler.curve(time, count)
    upright = groups.standing[..., None]
    axis = torch.where(upright, DOWN, sampler.direction(count))
    angle = sampler.log_uniform(0.05, 1.2, count) * sampler.chance(0.6, count) * amount
    rest = axis_rotation(torch.where(upright, DOWN, sampler.direction(count)), groups.yaw)
    rolling_rest, rolling_axis = _rolling_frame(travel, groups.yaw)
    rolled = travel.norm(dim=-1) / groups.half_size[..., 0]
    rolling = groups.rolling[..., None]
    rest = torch.where(rolling[..., None], rolling_rest, rest)
    axis = torch.where(rolling, rolling_axis, axis)
    turned = torch.where(groups.rolling[:, None], rolled[:, None] * progress, angle[:, None] * sampler.curve(time, count))
    rotation = axis_rotation(axis[:, None].expand(-1, frames, -1, -1), turned) @ rest[:, None]
    firm = groups.rolling | groups.table
    hopping = sampler.chance(0.12, count) & groups.standing
    height = sampler.log_uniform(0.05, 0.5, count) * hopping * amount
    phase, hops = sampler.uniform(0, math.pi, count), sampler.uniform(1.0, 4.0, count)
    hop = height[:, None] * torch.sin(math.pi * hops[:, None] * time[..., None] + phase[:, None]).abs()
    deform = _deformation(sampler, time, sampler.chance(0.3, count) * ~firm * amount)
    place = groups.centre[:, None] + travel[:, None] * progress[..., None] + _escort(sampler, groups, path, time)
    columns = [column[..., None] for column in columns_of(waves)]
    drift = ground_y(columns, place[..., 0], place[..., 2]) - ground_y(columns, *groups.centre[:, None, :, ::2].unbind(-1))
    place = torch.stack([place[..., 0], place[..., 1] + drift, place[..., 2]], -1)
    return Motion(rotation, place, deform, hop)


def fall(sampler: Sampler, groups: Groups, motion: Motion, time: torch.Tensor, config: ProceduralConfig) -> tuple[Groups, Motion]:
    """Let a share of the moving objects start in the air: free fall with rotation until they land (see `settle`).

    Returns:
        The groups, whose falling objects neither stand nor roll, and their motion.
    """
    count = groups.moving.shape[1]
    falling = sampler.chance(config.falling_share, count) & groups.moving & ~groups.table
    height, seconds = sampler.log_uniform(0.2, 2.0, count), sampler.uniform(1.5, 3.0, 1)
    upward, spin = sampler.uniform(-0.5, 2.0, count), sampler.log_uniform(0.3, 8.0, count)
    start = groups.centre[..., 1] - height
    drop = (-start - groups.half_size.amin(-1)).clamp(min=0)
    landing = (upward + torch.sqrt(upward.square() + 2 * GRAVITY * drop)) / GRAVITY
    elapsed = (time - time[:, :1]).abs()  # clips may run backwards; objects fall from the first frame on
    moment = torch.minimum(elapsed[..., None] * seconds[:, None], landing[:, None])
    travel = motion.place - motion.place[:, :1]
    share = moment / landing[:, None].clamp(min=1e-3)
    end = torch.gather(travel, 1, torch.full_like(travel[:, :1], travel.shape[1] - 1).long())
    flat = groups.centre[:, None] * torch.tensor([1.0, 0.0, 1.0]) + end * share[..., None] * torch.tensor([1.0, 0.0, 1.0])
    y = start[:, None] - upward[:, None] * moment + GRAVITY / 2 * moment.square()
    place = torch.stack([flat[..., 0], y, flat[..., 2]], -1)
    turn = axis_rotation(sampler.direction(count)[:, None].expand_as(place), spin[:, None] * moment)
    chosen = falling[:, None, :, None]
    rotation = torch.where(chosen[..., None], turn @ motion.rotation[:, :1], motion.rotation)
    groups = replace(groups, standing=groups.standing & ~falling, rolling=groups.rolling & ~falling)
    return groups, replace(motion, place=torch.where(chosen, place, motion.place), rotation=rotation)


def sample_parts(sampler: Sampler, groups: Groups, deform: torch.Tensor, time: torch.Tensor, config: ProceduralConfig) -> Parts:
    """Sample roots and limbs: legs of tables, or swinging arms attached to a root or to the end of the previous limb."""
    count, limbs = config.groups, config.max_parts - config.groups
    parent = sampler.integer(count, limbs)
    leg = groups.table[:, [config.rounded_groups]] & (torch.arange(limbs) < NUM_LEGS)
    parent = torch.where(leg, config.rounded_groups, parent)
    chained = sampler.chance(0.45, limbs) & ~leg
    chained[:, 1:] &= ~leg[:, :-1]
    chained[:, :1] = False
    for limb in range(1, limbs):
        parent[:, limb] = torch.where(chained[:, limb], parent[:, limb - 1], parent[:, limb])
    root = torch.gather(groups.half_size, 1, parent[..., None].expand(-1, -1, 3))
    size = _limb_sizes(sampler, root, leg)
    moves = torch.gather(groups.moving, 1, parent) & ~torch.gather(groups.table, 1, parent)
    joints = _joints(
        sampler, root, size, leg, torch.gather(deform, 2, parent[:, None, :, None, None].expand(*deform.shape[:2], -1, 3, 3))
    )
    pose = _limb_poses(sampler, joints, size, chained, moves.double() * config.motion, time)
    limb_pose = torch.stack(pose, 2) if pose else torch.zeros(*deform.shape[:2], 0, 4, 4, dtype=torch.float64)
    root_pose = affine(deform * groups.half_size[:, None, :, None, :], torch.zeros_like(deform[..., 0]))
    group = torch.cat([torch.arange(count).expand(sampler.batch, count), parent], 1)
    # Limbs of rolling objects would hit the ground.
    rolls = torch.gather(groups.rolling, 1, parent)
    present = torch.gather(groups.present, 1, group) & ~torch.cat([torch.zeros_like(groups.rolling), rolls], 1)
    return Parts(group, torch.cat([groups.half_size, size], 1), present, torch.cat([root_pose, limb_pose], 2))


def _limb_sizes(sampler: Sampler, root: torch.Tensor, leg: torch.Tensor) -> torch.Tensor:
    limbs = root.shape[1]
    mean = (root.prod(-1, keepdim=True) ** (1 / 3)).clamp(min=0.04)
    thin = torch.where(sampler.chance(0.3, limbs, 1), 0.3, 1.0)
    size = (mean * sampler.uniform(0.2, 0.7, limbs, 3) * thin).clamp(min=0.006)
    length = mean[..., 0] * sampler.uniform(0.4, 1.2, limbs)
    size = torch.stack([size[..., 0], length, size[..., 2]], -1)
    thick, tall = sampler.uniform(0.012, 0.045, 1, 1), sampler.uniform(0.2, 0.45, 1, 1)
    return torch.where(leg[..., None], torch.cat([thick, tall, thick], -1), size)


def _joints(
    sampler: Sampler, root: torch.Tensor, size: torch.Tensor, leg: torch.Tensor, deform: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Joints of limbs on their roots [B, F, L, 3], inside the surface, and rotation at rest [B, L, 3, 3] (y outwards)."""
    limbs = root.shape[1]
    outward = sampler.direction(limbs)
    outward = torch.stack([outward[..., 0], -outward[..., 1].abs(), outward[..., 2]], -1)
    corner = torch.tensor([[-1.0, 0.0, -1.0], [-1.0, 0.0, 1.0], [1.0, 0.0, -1.0], [1.0, 0.0, 1.0]], dtype=torch.float64)
    corner = torch.cat([corner, corner.new_zeros(max(0, limbs - NUM_LEGS), 3)])[:limbs]
    joint = torch.where(leg[..., None], corner * (0.68 * root - size), outward * root * 0.8)
    outward = torch.where(leg[..., None], DOWN, outward)
    side = normalize(torch.linalg.cross(outward, sampler.direction(limbs)), dim=-1)
    rest = torch.stack([side, outward, torch.linalg.cross(side, outward)], -1)
    return (deform @ joint[:, None, ..., None])[..., 0], rest


def _limb_poses(
    sampler: Sampler, joints: tuple[torch.Tensor, torch.Tensor], size: torch.Tensor, chained: torch.Tensor,
    amount: torch.Tensor, time: torch.Tensor,
) -> list[torch.Tensor]:  # fmt: skip
    """Poses `group_from_part` [B, F, 4, 4] of the limbs; computed in order, as a chained limb is attached to the previous one."""
    (place, rest), frames, limbs = joints, time.shape[1], size.shape[1]
    swing = sampler.uniform(0.15, 1.2, limbs) * sampler.chance(0.7, limbs) * amount
    axis = normalize(rest[..., 0] + sampler.normal(0.3, limbs, 3), dim=-1)
    bend_axis, bend = sampler.direction(limbs), sampler.uniform(0, 0.8, limbs)
    angle = swing[:, None] * sampler.curve(time, limbs)
    poses, before = [], None
    for limb in range(limbs):
        hinge = axis_rotation(axis[:, None, limb].expand(-1, frames, -1), angle[:, :, limb]) @ rest[:, None, limb]
        rigid = affine(hinge, place[:, :, limb])
        if before is not None:
            turn = axis_rotation(bend_axis[:, None, limb].expand(-1, frames, -1), bend[:, None, limb] + angle[:, :, limb])
            tip = (1.8 * size[:, limb - 1, 1])[:, None, None] * DOWN
            linked = before @ affine(turn, tip.expand(-1, frames, -1))
            rigid = torch.where(chained[:, limb, None, None, None], linked, rigid)
        middle = affine(torch.diag_embed(size[:, limb]), 0.9 * size[:, limb, 1, None] * DOWN)
        poses.append(rigid @ middle[:, None])
        before = rigid
    return poses


def _ground_under(waves: torch.Tensor, place: torch.Tensor, radius: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Lowest and highest ground [B, F, G] (y down: largest and smallest y) at the centre and within a radius [B, G]."""
    steps = torch.tensor([[0.0, 0.0], [1, 0], [-1, 0], [0, 1], [0, -1]], dtype=torch.float64)
    x = place[..., 0, None] + radius[:, None, :, None] * steps[:, 0]
    z = place[..., 2, None] + radius[:, None, :, None] * steps[:, 1]
    y = ground_y([column[..., None, None] for column in columns_of(waves)], x, z)
    return y.amax(-1), y.amin(-1)


def settle(motion: Motion, parts: Parts, shapes: Shapes, groups: Groups, waves: torch.Tensor) -> torch.Tensor:
    """Poses `world_from_group` [B, F, G, 4, 4] with ground contact. Standing objects touch the ground or hop above it,
    rolling ones lie on it, floating ones never touch it. On slopes, standing objects are lowered to the lowest ground below."""
    frames = motion.place.shape[1]
    index = parts.group[:, None, :, None].expand(-1, frames, -1, 3)
    down = torch.gather(motion.rotation[..., 1, :], 2, index)
    row = (down[..., None, :] @ parts.group_from_part[..., :3, :3])[..., 0, :]
    reach = (down * parts.group_from_part[..., :3, 3]).sum(-1) + support(row, shapes)
    reach = torch.where(parts.present[:, None], reach, -torch.inf)
    lowest = torch.full_like(motion.hop, -1e3).scatter_reduce(2, index[..., 0], reach, "amax")
    radius = groups.half_size[..., [0, 2]].amax(-1) * 0.7
    deepest, highest = _ground_under(waves, motion.place, radius)
    columns, (x, _, z) = [column[..., None] for column in columns_of(waves)], motion.place.unbind(-1)
    slope_x, slope_z = ground_slope(columns, x, z)
    beneath = ground_y(columns, x, z)
    rolling = beneath - groups.half_size[:, None, :, 0] * torch.sqrt(1 + slope_x**2 + slope_z**2)
    floating = torch.minimum(motion.place[..., 1], highest - lowest - AIR_M)
    y = torch.where(groups.standing[:, None], deepest - lowest - motion.hop, floating)
    y = torch.where(groups.rolling[:, None], rolling, y)
    return affine(motion.rotation, torch.stack([x, y, z], -1))


def place_parts(parts: Parts, world_from_group: torch.Tensor, cameras: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Poses `world_from_part` [B, F, P, 4, 4], and which parts are present [B, P].

    Objects that come near a camera count as absent. Absent parts are moved far below the ground.
    """
    frames = world_from_group.shape[1]
    index = parts.group[:, None, :, None, None].expand(-1, frames, -1, 4, 4)
    world_from_part = torch.gather(world_from_group, 2, index) @ parts.group_from_part
    local = torch.linalg.solve(world_from_part, cameras[:, :, None, :, 3:].expand(-1, -1, index.shape[2], -1, -1))
    outside = (local[..., :3, 0].abs() - 1).clamp(min=0) * world_from_part[..., :3, :3].norm(dim=-2)
    near = (outside.norm(dim=-1) < CLEARANCE_M).any(1) & parts.present
    groups = torch.zeros(near.shape[0], world_from_group.shape[2], dtype=torch.long)
    near_group = groups.scatter_reduce(1, parts.group, near.long(), "amax") > 0
    present = parts.present & ~torch.gather(near_group, 1, parts.group)
    shift = torch.zeros_like(world_from_part)
    shift[..., 1, 3] = FAR_BELOW_M * (~present)[:, None].double()
    return world_from_part + shift, present
