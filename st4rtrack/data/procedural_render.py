"""Analytic ray casting and shading of procedural scenes.

Everything works on V views (one scene at one time each) and N rays per view, so that one function serves eager CPU, compiled
CPU and GPU. All geometry is in the camera frame of the view, which is accurate enough in float32: the only matrices are
`camera_from_part` and its inverse, composed in float64 beforehand.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch

from st4rtrack.data.procedural_config import SETTINGS, ProceduralConfig
from st4rtrack.data.procedural_ground import columns_of, ground_slope
from st4rtrack.data.procedural_paint import SKY_FACE
from st4rtrack.data.procedural_solids import affine_rows, combine, enter_distance, meet_backdrop
from st4rtrack.data.procedural_texture import sample_texture, texture_atlas

SHADOW_SLACK_M = 0.02
OCCLUSION_SLACK_M = 0.003
NEAREST_M = 0.05
FARTHEST_M = 50.0
"""Ground beyond this distance has no depth, like the sky."""
CLOUDS_M = 0.15  # curvature of the cloud layer towards the horizon, relative to its height
RAYS_PER_CALL_CPU = 8192
RAYS_PER_CALL_EAGER = 4096
RAYS_PER_CALL_GPU = 1 << 22


@dataclass(frozen=True)
class ViewBatch:
    """Inputs of the ray caster, float32 on the device, one row per view; directions and positions in the camera frame."""

    part_from_camera: torch.Tensor  # [V, P, 12]: 3x3 part and translation
    quadric: torch.Tensor  # [V, P, 3]
    power: torch.Tensor  # [V, S, 2] of parts 1 to S
    present: torch.Tensor  # [V, P]
    waves: torch.Tensor  # [V, 4, K]
    size_m: torch.Tensor  # [V, P, 3]
    faces: torch.Tensor  # [V, 19, P * 6]
    light: torch.Tensor  # [V, 3]
    ambient: torch.Tensor  # [V, 3]
    diffuse: torch.Tensor  # [V, 3]
    haze: torch.Tensor  # [V, 4]
    up: torch.Tensor  # [V, 3] upward direction of the world
    pixel: torch.Tensor  # [V, 1] width of a pixel at unit depth

    def tensors(self) -> tuple[torch.Tensor, ...]:
        return tuple(vars(self).values())


def _take(table: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """Gather columns [V, K, N] of a table [V, K, P] by index [V, N]."""
    return torch.gather(table, 2, index[:, None].expand(-1, table.shape[1], -1))


def _objects(
    part_from_camera: torch.Tensor, quadric: torch.Tensor, present: torch.Tensor, rounded: int, compact: bool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Pose, quadric and number of the parts to intersect, without the backdrop.

    compact: drop absent parts, except the first `rounded`; requires a single view.
    """
    number = torch.arange(1, quadric.shape[1], device=quadric.device)
    if compact and not torch.compiler.is_compiling():
        number = number[(present[0, 1:] > 0) | (number <= rounded)]
    return part_from_camera[:, number], quadric[:, number], number


def _surface(
    setting: str, local: torch.Tensor, quadric: torch.Tensor, rounded: torch.Tensor, waves: torch.Tensor, part: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Normal in the part's frame [V, 3, N] (not unit; outwards, inwards for the room) and face number [V, N] in 0..5.

    rounded [3, V, S, N]: normals of the superquadrics, parts 1 to S.
    """
    backdrop = part == 0
    largest, axis = local.abs().max(1)
    curved = (quadric * local * local).sum(1) > largest
    sign = torch.where(local >= 0, 1.0, -1.0)
    flat = torch.stack([(axis == k) * sign[:, k] for k in range(3)], 1)
    normal = torch.where(curved[:, None], quadric * local, flat)
    for number in range(rounded.shape[2]):
        normal = torch.where(part[:, None] == number + 1, rounded[:, :, number].transpose(0, 1), normal)
    face = axis * 2 + (torch.gather(local, 1, axis[:, None])[:, 0] >= 0)
    if setting == "room":
        return torch.where(backdrop[:, None], -normal, normal), face
    slope_x = slope_z = torch.zeros_like(local[:, 0])
    if setting == "terrain":
        slope_x, slope_z = ground_slope(columns_of(waves), local[:, 0], local[:, 2])
    ground = torch.stack([slope_x, torch.full_like(slope_x, -1.0), slope_z], 1)
    return torch.where(backdrop[:, None], ground, normal), torch.where(backdrop, SKY_FACE - 1, face)


def _paint(
    local: torch.Tensor, size_m: torch.Tensor, face: torch.Tensor, paint: torch.Tensor, footprint_m: torch.Tensor,
    texels: torch.Tensor, num_textures: int,
) -> torch.Tensor:  # fmt: skip
    """Colour [V, 3, N] of surface points from the row of their face in the table `paint` [V, 19, N]."""
    metres = local * size_m
    axis = face // 2
    across = torch.where(axis == 0, metres[:, 2], metres[:, 0])
    along = torch.where(axis == 1, metres[:, 2], metres[:, 1])
    u = paint[:, 0] * across + paint[:, 1] * along + paint[:, 4]
    v = paint[:, 2] * across + paint[:, 3] * along + paint[:, 5]
    tiles_per_m = (paint[:, 0] * paint[:, 3] - paint[:, 1] * paint[:, 2]).abs().sqrt()
    texture = sample_texture(texels, paint[:, 6].long(), torch.stack([u, v], 1), footprint_m * tiles_per_m, num_textures)
    return affine_rows(paint[:, 7:19].unbind(1), texture).clamp(0.02, 0.98)


def _sky_layer(part_from_camera: torch.Tensor, ray: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Intersection of rays with the cloud layer [V, 3, N], in units of its height, and sine of their elevation [V, N]."""
    m = part_from_camera[:, 0, :, None]
    world = torch.stack([combine(m[:, 3 * row : 3 * row + 3].unbind(1), ray.unbind(1)) for row in range(3)], 1)
    world = world * torch.rsqrt((world * world).sum(1, keepdim=True))
    up = (-world[:, 1]).clamp(min=0.0)
    return world / (up + CLOUDS_M)[:, None], up


def _shade_rays(
    views: tuple[torch.Tensor, ...], ray: torch.Tensor, texels: torch.Tensor, num_textures: int, shadows: bool, compact: bool,
    setting: str,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:  # fmt: skip
    """Cast camera rays [V, 3, N] (z = 1): depth [V, N], part [V, N], point in the part's frame and colour [V, 3, N].

    For sky, and ground beyond `FARTHEST_M`: depth 0, part -1, point 0. `views`: `ViewBatch.tensors`.
    """
    part_from_camera, quadric, power, present, waves, size_m, faces, light, ambient, diffuse, haze, up, pixel = views
    eye = torch.zeros_like(light)
    objects, object_quadric, number = _objects(part_from_camera, quadric, present, power.shape[1], compact)
    entries, rounded = enter_distance(objects, object_quadric, power, eye, ray, compact)
    entered, nearest = entries.min(1)
    wall = meet_backdrop(setting, part_from_camera, waves, eye, ray, entered, compact)
    backdrop = wall <= entered
    depth = torch.where(backdrop, wall, entered).clamp(max=20 * FARTHEST_M)
    part = torch.where(backdrop, 0, number[nearest])

    point = ray * depth[:, None]
    table = torch.cat([part_from_camera, quadric, size_m], 2).transpose(1, 2)
    own = _take(table, part)
    local = affine_rows(own.unbind(1)[:12], point)
    normal, face = _surface(setting, local, own[:, 12:15], rounded, waves, part)
    # Normals transform with the transpose of part_from_camera.
    normal = torch.stack([combine(own[:, k:9:3].unbind(1), normal.unbind(1)) for k in range(3)], 1)
    normal = normal * torch.rsqrt((normal * normal).sum(1, keepdim=True) + 1e-12)

    facing = (normal * ray).sum(1).abs() * torch.rsqrt((ray * ray).sum(1))
    footprint = depth * pixel * torch.rsqrt(facing.clamp(min=0.02))
    sky, elevation, painted = depth > 10 * FARTHEST_M, depth, local
    if setting != "room":
        layer, elevation = _sky_layer(part_from_camera, ray)
        painted, face = torch.where(sky[:, None], layer, local), torch.where(sky, SKY_FACE, face)
        footprint = torch.where(sky, pixel / (elevation + CLOUDS_M), footprint)
    colour = _paint(painted, own[:, 15:18], face, _take(faces, part * 6 + face), footprint, texels, num_textures)

    to_light = light[:, :, None] - point
    distance = (to_light * to_light).sum(1).sqrt()
    lit = ((normal * to_light).sum(1) / distance).clamp(min=0.0)
    if shadows:
        entered = enter_distance(objects, object_quadric, power, light, -to_light, compact)[0].amin(1)
        lit = torch.where(entered < 1 - SHADOW_SLACK_M / distance, 0.0, lit)
    open_ = 0.75 + 0.25 * (normal * up[:, :, None]).sum(1)
    radiance = colour * (ambient[:, :, None] * open_[:, None] + diffuse[:, :, None] * lit[:, None])
    if setting == "room":
        return depth, part, local, radiance
    radiance = torch.where(sky[:, None], colour, radiance)
    clear = torch.where(sky, 1 - torch.exp(-8 * elevation), torch.exp(-depth * haze[:, 3:]))
    radiance = torch.lerp(haze[:, :3, None], radiance, clear[:, None])
    known = depth < FARTHEST_M
    return torch.where(known, depth, 0.0), torch.where(known, part, -1), torch.where(known[:, None], local, 0.0), radiance


def _follow_points(
    part_from_camera: torch.Tensor, quadric: torch.Tensor, power: torch.Tensor, present: torch.Tensor, waves: torch.Tensor,
    placed: torch.Tensor, part: torch.Tensor, local: torch.Tensor, compact: bool, setting: str,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:  # fmt: skip
    """Transform points of parts to another time, with their visibility at that time.

    placed [V, 24, P]: affine rows from each part to the anchor's camera and to the view's. part [V, N], local [V, 3, N].
    Returns points in the anchor's camera and in the view's [V, 3, N], and bool [V, N]: not occluded, up to `OCCLUSION_SLACK_M`.
    """
    own = _take(placed, part)
    in_anchor = affine_rows(own.unbind(1)[:12], local)
    in_camera = affine_rows(own.unbind(1)[12:], local)
    eye = torch.zeros_like(in_camera[:, :, 0])
    objects, object_quadric, _ = _objects(part_from_camera, quadric, present, power.shape[1], compact)
    entered = enter_distance(objects, object_quadric, power, eye, in_camera, compact)[0].amin(1)
    wall = meet_backdrop(setting, part_from_camera, waves, eye, in_camera, torch.ones_like(entered), compact)
    reach = torch.minimum(entered, wall)
    clear = reach >= 1 - OCCLUSION_SLACK_M / in_camera[:, 2].clamp(min=NEAREST_M)
    return in_anchor, in_camera, clear


@lru_cache(maxsize=4)
def _compiled(function: Callable) -> Callable:
    return torch.compile(function, dynamic=False)


class RayCaster:
    """Ray caster that works in calls of fixed size, so that a function is compiled once per setting and number of parts.

    On the CPU, one view at a time in chunks that fit the cache; on a GPU, as many views of one setting at once as fit.
    """

    def __init__(self, config: ProceduralConfig, device: torch.device) -> None:
        self.config, self.device = config, device
        self.compact = device.type == "cpu" and not config.compile

    def shade(self, setting: torch.Tensor, views: ViewBatch, ray: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Depth [V, N], part [V, N], local [V, 3, N] and colour [V, 3, N] of rays [V, 3, N]; setting [V]."""
        shade = self._kernel(_shade_rays)
        constants = (*texture_atlas(self.device), self.config.shadows, self.compact)
        return self._by_setting(
            setting, lambda *tensors: shade(tensors[:-2], tensors[-2], *constants, tensors[-1]), views.tensors(), (ray,)
        )

    def follow(
        self, setting: torch.Tensor, per_view: tuple[torch.Tensor, ...], part: torch.Tensor, local: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        """Points [V, 3, N] in the anchor's camera and in the view's, and visibility [V, N]: see `_follow_points`."""
        follow = self._kernel(_follow_points)
        return self._by_setting(
            setting, lambda *tensors: follow(*tensors[:-1], self.compact, tensors[-1]), per_view, (part, local)
        )

    def _kernel(self, function: Callable[..., tuple[torch.Tensor, ...]]) -> Callable[..., tuple[torch.Tensor, ...]]:
        return _compiled(function) if self.config.compile else function

    def _by_setting(
        self, setting: torch.Tensor, call: Callable[..., tuple[torch.Tensor, ...]], per_view: tuple[torch.Tensor, ...],
        per_ray: tuple[torch.Tensor, ...],
    ) -> tuple[torch.Tensor, ...]:  # fmt: skip
        """Run `call(*per_view, *per_ray, setting name)` on the views of each setting; results are in the original order."""
        order, done = [], []
        for index in setting.unique().tolist():
            rows = (setting == index).nonzero()[:, 0].to(self.device)
            order.append(rows)
            here = [tuple(x[rows] for x in tensors) for tensors in (per_view, per_ray)]
            done.append(self._in_pieces(lambda *tensors, name=SETTINGS[index]: call(*tensors, name), *here))
        back = torch.cat(order).argsort()
        return tuple(torch.cat(parts)[back] for parts in zip(*done, strict=True))

    def _in_pieces(
        self, call: Callable[..., tuple[torch.Tensor, ...]], per_view: tuple[torch.Tensor, ...],
        per_ray: tuple[torch.Tensor, ...],
    ) -> tuple[torch.Tensor, ...]:  # fmt: skip
        """Run `call` on chunks of the views (first axis) and of the rays (last axis), and concatenate the results."""
        views, rays = per_ray[0].shape[0], per_ray[0].shape[-1]
        views_per_call, size = 1, RAYS_PER_CALL_CPU if self.config.compile else RAYS_PER_CALL_EAGER
        if self.device.type != "cpu":
            views_per_call, size = max(1, RAYS_PER_CALL_GPU // rays), rays
        padding = -rays % size
        if padding:
            per_ray = tuple(torch.cat([x, x[..., -1:].expand(*x.shape[:-1], padding)], -1) for x in per_ray)
        done = []
        for first in range(0, views, views_per_call):
            here = slice(first, first + views_per_call)
            some = tuple(x[here] for x in per_view)
            pieces = [
                call(*some, *(x[here, ..., start : start + size].contiguous() for x in per_ray)) for start in range(0, rays, size)
            ]
            done.append([torch.cat(column, -1)[..., :rays] for column in zip(*pieces, strict=True)])
        return tuple(torch.cat(column) for column in zip(*done, strict=True))
