"""Analytic ray casting and shading of procedural scenes.

Everything here works on V views (one scene at one time each) and N rays per view, with no data-dependent shapes, so
that one function serves eager CPU, compiled CPU and GPU. All geometry is in the camera frame of the view, which keeps
float32 exact enough: the only matrices are `camera_from_part` and its inverse, composed in float64 beforehand.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch

from st4rtrack.data.procedural_texture import sample_texture, texture_atlas

SHADOW_SLACK_M = 0.02
OCCLUSION_SLACK_M = 0.003
NEAREST_M = 0.05
RAYS_PER_CALL_CPU = 8192
RAYS_PER_CALL_EAGER = 4096
RAYS_PER_CALL_GPU = 1 << 22


@dataclass(frozen=True)
class ViewBatch:
    """What the caster needs, float32 on the device, one row per view.

    part_from_camera [V, P, 12]: the 3x3 part and the translation. quadric [V, P, 3]. size_m [V, P, 3].
    faces [V, 19, P * 6]. light [V, 3] in the camera frame. ambient, diffuse [V, 3].
    up [V, 3]: the world's upward direction in the camera frame. pixel [V, 1]: width of a pixel at unit depth.
    """

    part_from_camera: torch.Tensor
    quadric: torch.Tensor
    size_m: torch.Tensor
    faces: torch.Tensor
    light: torch.Tensor
    ambient: torch.Tensor
    diffuse: torch.Tensor
    up: torch.Tensor
    pixel: torch.Tensor

    def tensors(self) -> tuple[torch.Tensor, ...]:
        return (self.part_from_camera, self.quadric, self.size_m, self.faces, self.light, self.ambient, self.diffuse,
                self.up, self.pixel)  # fmt: skip


def _combine(rows: Sequence[torch.Tensor], vector: Sequence[torch.Tensor]) -> torch.Tensor:
    """Sum of three products."""
    return rows[0] * vector[0] + rows[1] * vector[1] + rows[2] * vector[2]


def affine_rows(rows: Sequence[torch.Tensor], point: torch.Tensor) -> torch.Tensor:
    """Points [V, 3, N] through an affine map given as twelve broadcastable rows: the linear part, then the translation."""
    return torch.stack([_combine(rows[3 * row : 3 * row + 3], point.unbind(1)) + rows[9 + row] for row in range(3)], 1)


def enter_distance(
    part_from_camera: torch.Tensor, quadric: torch.Tensor, origin: torch.Tensor, direction: torch.Tensor
) -> torch.Tensor:
    """Ray parameter [V, P, N] at which rays from one origin [V, 3] along [V, 3, N] enter each part; inf if they do not.

    The room (part 0) must not be among the parts given. A part that holds the origin counts as not entered.
    """
    m = part_from_camera[..., None]
    x, y, z = (origin[:, None, k, None] for k in range(3))
    dx, dy, dz = (direction[:, None, k] for k in range(3))
    near, far = torch.zeros_like(dx), torch.full_like(dx, 1e9)
    # The quadric along the ray, a t^2 + 2 b t + c <= 0; a tiny `a` makes "no quadric" an ordinary case.
    a, b, c = torch.full_like(dx, 1e-8), torch.zeros_like(dx), torch.full_like(x, -1.0)
    for row in range(3):
        start = m[:, :, 3 * row] * x + m[:, :, 3 * row + 1] * y + m[:, :, 3 * row + 2] * z + m[:, :, 9 + row]
        along = m[:, :, 3 * row] * dx + m[:, :, 3 * row + 1] * dy + m[:, :, 3 * row + 2] * dz
        inverse = 1.0 / (along + 1e-9)
        middle, half = -start * inverse, inverse.abs()
        near, far = torch.maximum(near, middle - half), torch.minimum(far, middle + half)
        weighted = quadric[:, :, row, None] * along
        a, b, c = a + weighted * along, b + weighted * start, c + quadric[:, :, row, None] * start * start
    meets = b * b - a * c
    root = meets.clamp(min=0.0).sqrt()
    inverse = 1.0 / a
    near, far = torch.maximum(near, (-b - root) * inverse), torch.minimum(far, (root - b) * inverse)
    return torch.where((meets >= 0) & (far > near) & (near > 0), near, torch.inf)


def leave_room(part_from_camera: torch.Tensor, origin: torch.Tensor, direction: torch.Tensor) -> torch.Tensor:
    """Ray parameter [V, N] at which rays from inside the room leave it; part_from_camera [V, P, 12] with the room first."""
    m = part_from_camera[:, 0, :, None]
    far = torch.full_like(direction[:, 0], 1e9)
    for row in range(3):
        along_row = m[:, 3 * row : 3 * row + 3].unbind(1)
        start = _combine(along_row, origin[:, :, None].unbind(1)) + m[:, 9 + row]
        along = _combine(along_row, direction.unbind(1))
        inverse = 1.0 / (along + 1e-9)
        far = torch.minimum(far, inverse.abs() - start * inverse)
    return far


def _take(table: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """Columns [V, K, N] of a table [V, K, P] by index [V, N]."""
    return torch.gather(table, 2, index[:, None].expand(-1, table.shape[1], -1))


def _surface(local: torch.Tensor, quadric: torch.Tensor, room: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Outward normal in the part's frame [V, 3, N] (not unit; inward for the room) and the face number [V, N] in 0..5."""
    size = local.abs()
    largest, axis = size.max(1)
    curved = (quadric * local * local).sum(1) - 1 > largest - 1
    sign = torch.where(local >= 0, 1.0, -1.0)
    flat = torch.stack([(axis == k) * sign[:, k] for k in range(3)], 1)
    normal = torch.where(curved[:, None], quadric * local, flat)
    positive = torch.gather(local, 1, axis[:, None])[:, 0] >= 0
    return torch.where(room[:, None], -normal, normal), axis * 2 + positive


def _paint(
    local: torch.Tensor, size_m: torch.Tensor, face: torch.Tensor, paint: torch.Tensor, footprint_m: torch.Tensor,
    texels: torch.Tensor, num_textures: int,
) -> torch.Tensor:  # fmt: skip
    """Colour [V, 3, N] of surface points from their face's row of the table `paint` [V, 19, N]."""
    metres = local * size_m
    axis = face // 2
    across = torch.where(axis == 0, metres[:, 2], metres[:, 0])
    along = torch.where(axis == 1, metres[:, 2], metres[:, 1])
    u = paint[:, 0] * across + paint[:, 1] * along + paint[:, 4]
    v = paint[:, 2] * across + paint[:, 3] * along + paint[:, 5]
    tiles_per_m = (paint[:, 0] * paint[:, 3] - paint[:, 1] * paint[:, 2]).abs().sqrt()
    texture = sample_texture(texels, paint[:, 6].long(), torch.stack([u, v], 1), footprint_m * tiles_per_m, num_textures)
    return affine_rows(paint[:, 7:19].unbind(1), texture).clamp(0.02, 0.98)


def _shade_rays(
    part_from_camera: torch.Tensor, quadric: torch.Tensor, size_m: torch.Tensor, faces: torch.Tensor,
    light: torch.Tensor, ambient: torch.Tensor, diffuse: torch.Tensor, up: torch.Tensor, pixel: torch.Tensor,
    ray: torch.Tensor, texels: torch.Tensor, num_textures: int, shadows: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:  # fmt: skip
    """Cast camera rays [V, 3, N] (z = 1): depth [V, N], part [V, N], point in the part's frame and colour [V, 3, N]."""
    eye = torch.zeros_like(light)
    objects, object_quadric = part_from_camera[:, 1:], quadric[:, 1:]
    entered, nearest = enter_distance(objects, object_quadric, eye, ray).min(1)
    wall = leave_room(part_from_camera, eye, ray)
    room = wall <= entered
    depth = torch.where(room, wall, entered)
    part = torch.where(room, 0, nearest + 1)

    point = ray * depth[:, None]
    table = torch.cat([part_from_camera, quadric, size_m], 2).transpose(1, 2)
    own = _take(table, part)
    local = affine_rows(own.unbind(1)[:12], point)
    normal, face = _surface(local, own[:, 12:15], room)
    # Normals go with the transpose of part_from_camera.
    normal = torch.stack([_combine(own[:, k:9:3].unbind(1), normal.unbind(1)) for k in range(3)], 1)
    normal = normal * torch.rsqrt((normal * normal).sum(1, keepdim=True) + 1e-12)

    facing = (normal * ray).sum(1).abs() * torch.rsqrt((ray * ray).sum(1))
    footprint = depth * pixel * torch.rsqrt(facing.clamp(min=0.02))
    colour = _paint(local, own[:, 15:18], face, _take(faces, part * 6 + face), footprint, texels, num_textures)

    to_point = point - light[:, :, None]
    distance = (to_point * to_point).sum(1).sqrt()
    lambert = (-(normal * to_point).sum(1) / distance).clamp(min=0.0)
    if shadows:
        blocked = enter_distance(objects, object_quadric, light, to_point).amin(1) < 1 - SHADOW_SLACK_M / distance
        lambert = torch.where(blocked, 0.0, lambert)
    sky = 0.75 + 0.25 * (normal * up[:, :, None]).sum(1)
    radiance = ambient[:, :, None] * sky[:, None] + diffuse[:, :, None] * lambert[:, None]
    return depth, part, local, colour * radiance


def _follow_points(
    part_from_camera: torch.Tensor, quadric: torch.Tensor, placed: torch.Tensor, part: torch.Tensor, local: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Points of parts at another time: in the anchor's camera, in the camera of that time, and whether it sees them.

    placed [V, 24, P]: affine rows from each part to the anchor's camera and to the view's. part [V, N], local [V, 3, N].
    Returns [V, 3, N], [V, 3, N] and [V, N] bool: nothing lies before the point on its ray, to within a slack.
    """
    own = _take(placed, part)
    in_anchor = affine_rows(own.unbind(1)[:12], local)
    in_camera = affine_rows(own.unbind(1)[12:], local)
    eye = torch.zeros_like(in_camera[:, :, 0])
    entered = enter_distance(part_from_camera[:, 1:], quadric[:, 1:], eye, in_camera).amin(1)
    reach = torch.minimum(entered, leave_room(part_from_camera, eye, in_camera))
    clear = reach >= 1 - OCCLUSION_SLACK_M / in_camera[:, 2].clamp(min=NEAREST_M)
    return in_anchor, in_camera, clear


@lru_cache(maxsize=4)
def _compiled(function: Callable) -> Callable:
    return torch.compile(function, dynamic=False)


class RayCaster:
    """Casts many rays in calls of one size, so that a compiled function is compiled once per number of parts.

    On the CPU one view at a time, in pieces that stay in the cache; on a GPU as many views at once as fit.
    """

    def __init__(self, *, compiled: bool, shadows: bool, rays_per_call: int | None = None) -> None:
        self.shadows = shadows
        self.compiled = compiled
        self.rays_per_call = rays_per_call
        self._shade: Callable[..., tuple[torch.Tensor, ...]] = _compiled(_shade_rays) if compiled else _shade_rays
        self._follow: Callable[..., tuple[torch.Tensor, ...]] = _compiled(_follow_points) if compiled else _follow_points

    def _piece(self, device: torch.device, views: int, rays: int) -> tuple[int, int]:
        """Views and rays per call."""
        if device.type == "cpu":
            size = self.rays_per_call or (RAYS_PER_CALL_CPU if self.compiled else RAYS_PER_CALL_EAGER)
            return 1, size
        size = self.rays_per_call or RAYS_PER_CALL_GPU
        return max(1, min(views, size // rays)), rays

    def shade(self, views: ViewBatch, ray: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Depth [V, N], part [V, N], local [V, 3, N], colour [V, 3, N] of rays [V, 3, N]."""
        atlas = texture_atlas(ray.device)
        constants = (atlas.texels, atlas.num_textures, self.shadows)
        return self._in_pieces(lambda *tensors: self._shade(*tensors, *constants), views.tensors(), (ray,))

    def follow(
        self, part_from_camera: torch.Tensor, quadric: torch.Tensor, placed: torch.Tensor,
        part: torch.Tensor, local: torch.Tensor,
    ) -> tuple[torch.Tensor, ...]:  # fmt: skip
        """Points [V, 3, N] in the anchor's camera and in the view's, and whether seen [V, N]: see `_follow_points`."""
        return self._in_pieces(self._follow, (part_from_camera, quadric, placed), (part, local))

    def _in_pieces(
        self, call: Callable[..., tuple[torch.Tensor, ...]], per_view: tuple[torch.Tensor, ...],
        per_ray: tuple[torch.Tensor, ...],
    ) -> tuple[torch.Tensor, ...]:  # fmt: skip
        """Call on pieces of the views (first axis) and of the rays (last axis), and put the results together."""
        views, rays = per_ray[0].shape[0], per_ray[0].shape[-1]
        views_per_call, size = self._piece(per_ray[0].device, views, rays)
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
