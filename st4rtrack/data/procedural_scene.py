"""Random scenes over time: cameras, ground or room, moving objects, appearance, light and camera effects."""

from dataclasses import dataclass

import torch

from st4rtrack.data.procedural_camera import CameraPath, sample_camera, sample_intrinsics, sample_times
from st4rtrack.data.procedural_config import SETTING_SHARES, SETTINGS, ProceduralConfig, Sampler, affine, named_choice
from st4rtrack.data.procedural_ground import sample_waves
from st4rtrack.data.procedural_motion import CLEARANCE_M, fall, place_parts, sample_motion, sample_parts, settle
from st4rtrack.data.procedural_objects import sample_groups, sample_shapes
from st4rtrack.data.procedural_paint import Light, Optics, sample_faces, sample_light, sample_optics


@dataclass(frozen=True)
class SceneBatch:
    """B scenes at F times with P parts; part 0 is the backdrop: a room from inside, or the ground.

    Every other part is the unit cube [-1, 1]^3 cut with the quadric `quadric . x^2 <= 1` or a superquadric (see `Shapes`), mapped
    to the world by an affine `world_from_part`. The frame of the ground is the world. Floating-point tensors are float64.
    """

    time: torch.Tensor  # [B, F] in [0, 1]
    intrinsics: torch.Tensor  # [B, 3, 3]
    world_from_camera: torch.Tensor  # [B, F, 4, 4]
    world_from_part: torch.Tensor  # [B, F, P, 4, 4]
    quadric: torch.Tensor  # [B, P, 3]
    power: torch.Tensor  # [B, P, 2]
    size_m: torch.Tensor  # [B, P, 3] half sizes at rest
    faces: torch.Tensor  # [B, 19, P * 6], see `sample_faces`
    waves: torch.Tensor  # [B, 4, K], see `ground_y`
    setting: torch.Tensor  # [B] index into `SETTINGS`
    object_of_part: torch.Tensor  # [B, P], 0 for the backdrop
    present: torch.Tensor  # [B, P] bool
    grounded: torch.Tensor  # [B, P] bool, the part's object stands or rolls
    light: Light
    optics: Optics


def sample_room(
    sampler: Sampler, path: CameraPath, cameras: torch.Tensor, world_from_part: torch.Tensor, present: torch.Tensor
) -> torch.Tensor:
    """Room `world_from_room` [B, 4, 4]: an axis-aligned box around the target that contains the camera and all parts."""
    reach = path.distance[:, None] * sampler.log_uniform(0.4, 1.5, 6)
    low, high = path.target - reach[:, :3], path.target + reach[:, 3:]
    low[:, 1] = -sampler.uniform(2.3, 4.5)
    centre = world_from_part[..., :3, 3]
    extent = world_from_part[..., :3, :3].abs().sum(-1)
    here = present[:, None, :, None].expand_as(centre)
    part_low = torch.where(here, centre - extent, torch.inf).amin((1, 2))
    part_high = torch.where(here, centre + extent, -torch.inf).amax((1, 2))
    eye = cameras[..., :3, 3]
    margin = CLEARANCE_M + 0.1
    low = torch.minimum(torch.minimum(low, part_low - 0.01), eye.amin(1) - margin)
    high = torch.maximum(torch.maximum(high, part_high + 0.01), eye.amax(1) + margin)
    high[:, 1] = 0.0
    return affine(torch.diag_embed((high - low) / 2), (high + low) / 2)


def sample_scenes(batch: int, config: ProceduralConfig, seed: int, first: int = 0) -> SceneBatch:
    """Sample scenes `first` to `first + batch - 1` of a seed; a scene does not depend on its batch."""
    sampler = Sampler(seed, first, batch)
    setting = named_choice(sampler, config.setting, SETTINGS, SETTING_SHARES)
    outdoors = setting != SETTINGS.index("room")
    time = sample_times(sampler, config)
    intrinsics = sample_intrinsics(sampler, config)
    path = sample_camera(sampler, config, outdoors)
    cameras = path.world_from_camera(time)
    # The whole trajectory, not only the frames: more frames show the same scene.
    whole = path.world_from_camera(torch.linspace(0, 1, 33, dtype=torch.float64).expand(batch, -1))
    waves = sample_waves(sampler, setting == SETTINGS.index("terrain"), -whole[..., 1, 3].amax(1))
    tan_half = torch.stack([config.width / 2 / intrinsics[:, 0, 0], config.height / 2 / intrinsics[:, 1, 1]], -1)
    groups = sample_groups(sampler, path, tan_half, outdoors, config)
    shapes = sample_shapes(sampler, groups, config)
    motion = sample_motion(sampler, groups, path, time, waves, config.motion)
    if config.falling_share > 0:
        groups, motion = fall(sampler, groups, motion, time, config)
    parts = sample_parts(sampler, groups, motion.deform, time, config)
    world_from_group = settle(motion, parts, shapes, groups, waves)
    world_from_part, present = place_parts(parts, world_from_group, cameras)
    room = sample_room(sampler, path, cameras, world_from_part, present)
    backdrop = torch.where(outdoors[:, None, None], torch.eye(4, dtype=torch.float64), room)
    size_m = torch.cat([backdrop[:, None].diagonal(dim1=-2, dim2=-1)[..., :3], parts.half_size], 1)
    return SceneBatch(
        time=time,
        intrinsics=intrinsics,
        world_from_camera=cameras,
        world_from_part=torch.cat([backdrop[:, None, None].expand(-1, config.num_frames, -1, -1, -1), world_from_part], 2),
        quadric=_with_backdrop(shapes.quadric, 0.0),
        power=_with_backdrop(shapes.power, 0.0),
        size_m=size_m,
        faces=sample_faces(sampler, config.max_parts + 1, outdoors),
        waves=waves,
        setting=setting,
        object_of_part=_with_backdrop(parts.group + 1, 0),
        present=_with_backdrop(present, True),
        grounded=_with_backdrop(torch.gather(groups.standing | groups.rolling, 1, parts.group), False),
        light=sample_light(sampler, path, outdoors),
        optics=sample_optics(sampler, time, config),
    )


def _with_backdrop(per_part: torch.Tensor, value: float | bool) -> torch.Tensor:
    """Prepend an entry for part 0 to per-part values: [B, P, ...]."""
    return torch.cat([torch.full_like(per_part[:, :1], value), per_part], 1)
