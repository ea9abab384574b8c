"""Random scenes over time: rigid, articulated and deforming parts, a room around them, paint and light."""

import math
from dataclasses import dataclass, fields

import torch

from st4rtrack.data.procedural_camera import (
    CameraPath,
    ProceduralConfig,
    Sampler,
    affine,
    axis_rotation,
    sample_camera,
    sample_intrinsics,
    sample_times,
)
from st4rtrack.data.procedural_texture import NUM_TEXTURES

CLEARANCE_M = 0.5  # from the camera to anything: z-depth at the image corner stays above 0.3 m
FAR_BELOW_M = 1000.0  # where absent parts are kept: under the floor no ray meets them


@dataclass(frozen=True)
class SceneBatch:
    """B scenes at F times, P parts, of which part 0 is the room (seen from inside).

    A part is the unit cube [-1, 1]^3 cut with the quadric `quadric . x^2 <= 1`, brought into the world by an affine
    `world_from_part`. float64: time [B, F] in [0, 1], intrinsics [B, 3, 3], world_from_camera [B, F, 4, 4],
    world_from_part [B, F, P, 4, 4], quadric [B, P, 3], size_m [B, P, 3] half sizes at rest, faces [B, 19, P * 6]
    (texture frames and colours, see `sample_faces`), light_world [B, 3], ambient and diffuse [B, 3],
    gain [B, F, 3], gamma, blur and noise [B].
    """

    time: torch.Tensor
    intrinsics: torch.Tensor
    world_from_camera: torch.Tensor
    world_from_part: torch.Tensor
    quadric: torch.Tensor
    size_m: torch.Tensor
    faces: torch.Tensor
    light_world: torch.Tensor
    ambient: torch.Tensor
    diffuse: torch.Tensor
    gain: torch.Tensor
    gamma: torch.Tensor
    blur: torch.Tensor
    noise: torch.Tensor

    def select(self, scenes: slice) -> "SceneBatch":
        """Some of the scenes."""
        return SceneBatch(**{field.name: getattr(self, field.name)[scenes] for field in fields(self)})


@dataclass(frozen=True)
class _Groups:
    """G groups of parts that move together; the first part of a group is its root, at the group's origin."""

    centre: torch.Tensor  # [B, G, 3] at mid-clip
    half_size: torch.Tensor  # [B, G, 3] of the root
    standing: torch.Tensor  # [B, G] bool
    moving: torch.Tensor  # [B, G] bool
    present: torch.Tensor  # [B, G] bool
    yaw: torch.Tensor  # [B, G] radians at rest


def sample_groups(sampler: Sampler, path: CameraPath, tan_half: torch.Tensor, groups: int, config: ProceduralConfig) -> _Groups:
    """Groups placed by image position and depth at mid-clip, most on the floor, the others in the air.

    tan_half [B, 2]: tangent of half the field of view, across and down.
    """
    batch = tan_half.shape[0]
    camera = path.world_from_camera(torch.full((batch, 1), 0.5, dtype=torch.float64))[:, 0]
    ray = torch.cat([sampler.uniform(-0.85, 0.85, batch, groups, 2) * tan_half[:, None],
                     torch.ones(batch, groups, 1, dtype=torch.float64)], -1)  # fmt: skip
    ray = (camera[:, None, :3, :3] @ ray[..., None])[..., 0]
    origin = camera[:, None, :3, 3]
    depth = path.distance[:, None] * sampler.uniform(0.45, 1.4, batch, groups)
    floor = (-0.2 - origin[..., 1]) / ray[..., 1].clamp(min=1e-3)
    depth = torch.minimum(depth.clamp(min=1.1), floor)
    point = origin + ray * depth[..., None]
    half_size = depth[..., None] * sampler.log_uniform(0.07, 0.26, batch, groups, 1)
    half_size = half_size * sampler.uniform(0.55, 1.5, batch, groups, 3)
    standing = sampler.chance(0.65, batch, groups)
    # A standing thing reaches from the floor up to the chosen point, a floating one is around it.
    top = (-point[..., 1] / 2).clamp(0.1, 1.1)
    tall = torch.where(standing, top, half_size[..., 1])
    half_size = torch.stack([half_size[..., 0], tall, half_size[..., 2]], -1)
    lowest = torch.where(standing, -tall, -half_size.norm(dim=-1) - 0.05)
    y = torch.where(standing, lowest, torch.minimum(point[..., 1], lowest))
    present = sampler.uniform(0, 1, batch, groups) < sampler.uniform(0.45, 1.0, batch, 1)
    return _Groups(
        centre=torch.stack([point[..., 0], y, point[..., 2]], -1),
        half_size=half_size,
        standing=standing,
        moving=sampler.chance(config.moving_share, batch, groups),
        present=present,
        yaw=sampler.uniform(0, 2 * math.pi, batch, groups),
    )


def _curve(sampler: Sampler, time: torch.Tensor, *shape: int) -> torch.Tensor:
    """Smooth random progress [B, F, ...] at times [B, F], about one unit long over the whole clip."""
    moments = time.reshape(*time.shape, *([1] * (len(shape) - 1)))
    wave = sampler.uniform(0, 0.35, *shape)[:, None]
    frequency, phase = sampler.uniform(0.4, 1.3, *shape)[:, None], sampler.uniform(0, 2 * math.pi, *shape)[:, None]
    return (moments - 0.5) + wave * torch.sin(2 * math.pi * frequency * moments + phase)


def group_motion(sampler: Sampler, groups: _Groups, time: torch.Tensor, motion: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Rigid `world_from_group` [B, F, G, 4, 4] and the root's deformation [B, F, G, 3, 3] at times [B, F]."""
    batch, count = groups.moving.shape
    amount = groups.moving.double() * motion
    standing = groups.standing[..., None]
    down = torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64)

    heading = sampler.normal(1.0, batch, count, 3)
    heading = torch.where(standing, heading * torch.tensor([1.0, 0.0, 1.0]), heading)
    reach = sampler.log_uniform(0.08, 1.1, batch, count) * sampler.chance(0.85, batch, count) * amount
    travel = torch.nn.functional.normalize(heading, dim=-1) * reach[..., None]
    axis = torch.where(standing, down, sampler.direction(batch, count))
    angle = sampler.log_uniform(0.05, 1.2, batch, count) * sampler.chance(0.6, batch, count) * amount
    turn = axis_rotation(axis[:, None].expand(-1, time.shape[1], -1, -1),
                         angle[:, None] * _curve(sampler, time, batch, count))  # fmt: skip
    rest = axis_rotation(torch.where(standing, down, sampler.direction(batch, count)), groups.yaw)

    soft = sampler.chance(0.3, batch, count) * amount
    squash = torch.exp(sampler.uniform(0.1, 0.5, batch, count)[:, None] * soft[:, None]
                       * _curve(sampler, time, batch, count))  # fmt: skip
    lean = sampler.normal(0.3, batch, count, 2)[:, None] * (soft[:, None] * _curve(sampler, time, batch, count))[..., None]
    zero = torch.zeros_like(squash)
    rows = [squash**-0.5, lean[..., 0], zero, zero, squash, zero, zero, lean[..., 1], squash**-0.5]
    deform = torch.stack(rows, -1).reshape(*squash.shape, 3, 3)

    place = groups.centre[:, None] + travel[:, None] * _curve(sampler, time, batch, count)[..., None]
    # A squashed standing thing keeps its foot on the floor.
    foot = torch.where(groups.standing[:, None], groups.half_size[:, None, :, 1] * (1 - squash), zero)
    place = torch.cat([place[..., :1], place[..., 1:2] + foot[..., None], place[..., 2:]], -1)
    return affine(turn @ rest[:, None], place), deform


def sample_quadrics(sampler: Sampler, batch: int, parts: int) -> torch.Tensor:
    """[B, P, 3]: what rounds the unit cube. Boxes (nothing), ellipsoids, cylinders along y, boxes with cut corners."""
    kind = torch.multinomial(torch.tensor([0.4, 0.2, 0.2, 0.2]), batch * parts, True, generator=sampler.generator)
    shapes = torch.tensor([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0], [1.0, 0.0, 1.0], [1.0, 1.0, 1.0]], dtype=torch.float64)
    roundness = torch.where(kind == 3, sampler.uniform(0.5, 0.8, batch * parts), 1.0)
    return (shapes[kind] * roundness[:, None]).reshape(batch, parts, 3)


@dataclass(frozen=True)
class _Parts:
    group: torch.Tensor  # [B, P] int
    half_size: torch.Tensor  # [B, P, 3]
    quadric: torch.Tensor  # [B, P, 3]
    group_from_part: torch.Tensor  # [B, F, P, 4, 4]


def sample_parts(sampler: Sampler, groups: _Groups, deform: torch.Tensor, time: torch.Tensor, config: ProceduralConfig) -> _Parts:
    """Roots, and limbs that hang on a joint at the surface of a root and swing there when their group moves."""
    batch, count = groups.moving.shape
    limbs = config.max_parts - count
    parent = sampler.integer(count, batch, limbs)
    root_size = torch.gather(groups.half_size, 1, parent[..., None].expand(-1, -1, 3))
    outward = sampler.direction(batch, limbs)
    outward = torch.cat([outward[..., :1], -outward[..., 1:2].abs(), outward[..., 2:]], -1)
    joint = outward / outward.abs().amax(-1, keepdim=True) * root_size * 0.9
    mean_size = root_size.prod(-1, keepdim=True) ** (1 / 3)
    limb_size = mean_size * sampler.uniform(0.2, 0.75, batch, limbs, 3)
    limb_size[..., 1] = mean_size[..., 0] * sampler.uniform(0.4, 1.2, batch, limbs)

    # The limb's own y axis points outwards from its joint.
    side = torch.nn.functional.normalize(torch.linalg.cross(outward, sampler.direction(batch, limbs)), dim=-1)
    rest = torch.stack([side, outward, torch.linalg.cross(side, outward)], -1)
    swing = sampler.uniform(0.15, 1.2, batch, limbs) * sampler.chance(0.7, batch, limbs) * config.motion
    swing = swing * torch.gather(groups.moving, 1, parent).double()
    angle = swing[:, None] * _curve(sampler, time, batch, limbs)
    axis = torch.nn.functional.normalize(side + sampler.normal(0.3, batch, limbs, 3), dim=-1)
    hinge = axis_rotation(axis[:, None].expand(-1, time.shape[1], -1, -1), angle) @ rest[:, None]
    arm = torch.zeros_like(limb_size)
    arm[..., 1] = limb_size[..., 1] * 0.9
    place = joint[:, None] + (hinge @ arm[:, None, ..., None])[..., 0]
    limb_pose = affine(hinge * limb_size[:, None, :, None, :], place)
    root_pose = affine(deform * groups.half_size[:, None, :, None, :], torch.zeros_like(deform[..., 0]))

    roots = torch.arange(count).expand(batch, count)
    return _Parts(
        group=torch.cat([roots, parent], 1),
        half_size=torch.cat([groups.half_size, limb_size], 1),
        quadric=sample_quadrics(sampler, batch, config.max_parts),
        group_from_part=torch.cat([root_pose, limb_pose], 2),
    )


def place_parts(parts: _Parts, groups: _Groups, world_from_group: torch.Tensor, cameras: torch.Tensor) -> torch.Tensor:
    """`world_from_part` [B, F, P, 4, 4]; parts that are absent or come near a camera go far below the floor."""
    frames = world_from_group.shape[1]
    index = parts.group[:, None, :, None, None].expand(-1, frames, -1, 4, 4)
    world_from_part = torch.gather(world_from_group, 2, index) @ parts.group_from_part
    local = torch.linalg.solve(world_from_part, cameras[:, :, None, :, 3:].expand(-1, -1, index.shape[2], -1, -1))
    outside = (local[..., :3, 0].abs() - 1).clamp(min=0) * world_from_part[..., :3, :3].norm(dim=-2)
    near = (outside.norm(dim=-1) < CLEARANCE_M).any(1)
    absent = near | ~torch.gather(groups.present, 1, parts.group)
    shift = torch.zeros_like(world_from_part)
    shift[..., 1, 3] = FAR_BELOW_M * absent[:, None].double()
    return world_from_part + shift


def sample_room(sampler: Sampler, path: CameraPath, cameras: torch.Tensor, world_from_part: torch.Tensor) -> torch.Tensor:
    """`world_from_room` [B, 4, 4]: an axis-aligned box around the target that holds the camera and all parts."""
    batch = cameras.shape[0]
    reach = path.distance[:, None] * sampler.log_uniform(0.4, 1.5, batch, 6)
    low, high = path.target - reach[:, :3], path.target + reach[:, 3:]
    low[:, 1] = -sampler.uniform(2.3, 4.5, batch)
    centre = world_from_part[..., :3, 3]
    extent = world_from_part[..., :3, :3].abs().sum(-1)
    here = (centre[..., 1:2] < 0.5 * FAR_BELOW_M).expand_as(centre)
    part_low = torch.where(here, centre - extent, torch.inf).amin((1, 2))
    part_high = torch.where(here, centre + extent, -torch.inf).amax((1, 2))
    eye = cameras[..., :3, 3]
    margin = CLEARANCE_M + 0.1
    low = torch.minimum(torch.minimum(low, part_low - 0.01), eye.amin(1) - margin)
    high = torch.maximum(torch.maximum(high, part_high + 0.01), eye.amax(1) + margin)
    high[:, 1] = 0.0
    return affine(torch.diag_embed((high - low) / 2), (high + low) / 2)


def sample_faces(sampler: Sampler, size_m: torch.Tensor) -> torch.Tensor:
    """How each of the six sides of each part is painted, [B, 19, P * 6].

    Rows: 2x2 matrix from metres on the face to texture tiles (0-3), offset in tiles (4-5), texture number (6), and
    the colour as a 3x3 matrix on the texture's channels (7-15) with an offset (16-18).
    """
    batch, parts = size_m.shape[:2]
    room = torch.arange(parts) == 0
    tile_m = torch.where(room[:, None], sampler.log_uniform(1.2, 4.0, batch, parts, 1),
                         sampler.log_uniform(0.35, 1.6, batch, parts, 1))  # fmt: skip
    tile_m = tile_m.expand(-1, -1, 6) * torch.where(room[:, None], sampler.uniform(0.7, 1.4, batch, parts, 6), 1.0)
    angle = sampler.chance(0.4, batch, parts, 6) * sampler.uniform(0, 2 * math.pi, batch, parts, 6)
    frame = torch.stack([torch.cos(angle), torch.sin(angle), -torch.sin(angle), torch.cos(angle)], 2) / tile_m[:, :, None]
    offset = sampler.uniform(0, 1, batch, parts, 2, 6)
    shared = sampler.integer(NUM_TEXTURES, batch, parts, 1).expand(-1, -1, 6)
    single = sampler.integer(NUM_TEXTURES, batch, parts, 6)
    own = (room | sampler.chance(0.2, batch, parts))[..., None]
    texture = torch.where(own, single, shared)[:, :, None].double()

    # Dark and light ends of a ramp, and two differences in hue; walls are paler and flatter than things.
    strength = torch.where(room, 0.7, 1.0)[:, None]
    base = sampler.uniform(0.02, 0.55, batch, parts, 1, 6) + sampler.uniform(-0.15, 0.25, batch, parts, 3, 6)
    ramp = sampler.uniform(0.25, 0.9, batch, parts, 1, 1, 6) * sampler.sign(batch, parts, 1, 1, 6)
    weights = torch.softmax(sampler.normal(1.0, batch, parts, 1, 3, 6), 3)
    hue = sampler.normal(0.22, batch, parts, 3, 3, 6)
    mix = (ramp * weights + hue) * strength[:, None, None]
    base = torch.where(ramp[:, :, 0] < 0, base + 0.45, base)
    # The sides of one thing are mostly painted alike.
    alike = (~own).expand(-1, -1, 6)[:, :, None]
    base = torch.where(alike, base[..., :1] + 0.15 * (base - base[..., :1]), base)
    mix = torch.where(alike[:, :, None], mix[..., :1], mix).reshape(batch, parts, 9, 6)
    # Mostly muted colours: a saturation per scene and per part.
    saturation = sampler.uniform(0.4, 1.0, batch, 1) * sampler.uniform(0.4, 1.0, batch, parts)
    muted = saturation[..., None, None] * torch.eye(3, dtype=base.dtype) + (1 - saturation[..., None, None]) / 3
    base, mix = muted @ base, (muted @ mix.reshape(batch, parts, 3, 18)).reshape(batch, parts, 9, 6)
    rows = torch.cat([frame, offset, texture, mix, base], 2)
    return rows.transpose(1, 2).reshape(batch, 19, parts * 6)


def sample_scenes(batch: int, config: ProceduralConfig, seed: int) -> SceneBatch:
    """`batch` different scenes, all from one seed."""
    sampler = Sampler(seed)
    time = sample_times(sampler, batch, config.num_frames)
    intrinsics = sample_intrinsics(sampler, batch, config)
    path = sample_camera(sampler, batch, config.camera_motion)
    cameras = path.world_from_camera(time)
    tan_half = torch.stack([config.width / 2 / intrinsics[:, 0, 0], config.height / 2 / intrinsics[:, 1, 1]], -1)
    groups = sample_groups(sampler, path, tan_half, max(1, config.max_parts // 2), config)
    world_from_group, deform = group_motion(sampler, groups, time, config.motion)
    parts = sample_parts(sampler, groups, deform, time, config)
    world_from_part = place_parts(parts, groups, world_from_group, cameras)
    world_from_room = sample_room(sampler, path, cameras, world_from_part)
    rooms = world_from_room[:, None, None].expand(-1, config.num_frames, -1, -1, -1)
    size_m = torch.cat([world_from_room[:, None].diagonal(dim1=-2, dim2=-1)[..., :3], parts.half_size], 1)
    quadric = torch.cat([torch.zeros_like(parts.quadric[:, :1]), parts.quadric], 1)
    light = path.target + torch.cat([sampler.normal(1.5, batch, 1), -sampler.uniform(1.8, 7.0, batch, 1),
                                     sampler.normal(1.5, batch, 1)], 1)  # fmt: skip
    tint = 1 + sampler.normal(0.06, batch, 3)
    return SceneBatch(
        time=time,
        intrinsics=intrinsics,
        world_from_camera=cameras,
        world_from_part=torch.cat([rooms, world_from_part], 2),
        quadric=quadric,
        size_m=size_m,
        faces=sample_faces(sampler, size_m),
        light_world=light,
        ambient=sampler.uniform(0.35, 0.75, batch, 1) * (1 + sampler.normal(0.05, batch, 3)),
        diffuse=sampler.uniform(0.4, 1.0, batch, 1) * tint,
        gain=torch.exp(sampler.normal(0.06, batch, config.num_frames, 1) + sampler.normal(0.01, batch, config.num_frames, 3)),
        gamma=torch.exp(sampler.normal(0.15, batch)),
        blur=sampler.uniform(0.0, 0.2, batch),
        noise=sampler.uniform(0.0, 0.025, batch) * config.noise,
    )
