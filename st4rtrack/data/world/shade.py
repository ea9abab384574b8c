"""Shading of a view in linear colour: direct and indirect light, soft shadows, gloss, haze.

Every pixel has one shadow ray; every second pixel in both directions has one ray for indirect light (sky, one bounce). Directions
vary within blocks of 4x4 pixels, and an edge-preserving filter averages neighbours on the same surface.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from st4rtrack.data.world.cast import Caster, Hits, corners_at
from st4rtrack.data.world.light import LIFT_M, cosine_directions, direct_light, radiance, sky_radiance, spread_values
from st4rtrack.data.world.mesh import unit
from st4rtrack.data.world.objects import WorldScene
from st4rtrack.data.world.textures import sample
from st4rtrack.geometry.vectors import dot

EDGE_SAMPLES = np.array([[-0.3, -0.25], [0.3, -0.1], [-0.05, 0.35]], np.float32)
FAINT = 0.04
"""Minimum share of light of a specular reflection; weaker ones are left out."""


@dataclass(frozen=True)
class View:
    """Rendered view with ground truth."""

    colour: np.ndarray  # [H, W, 3] float32 linear
    depth: np.ndarray  # [H, W] float32, z, 0 for sky
    face: np.ndarray  # [H, W] int64, -1 for sky
    # u, v: [H, W] float32 barycentric coordinates
    u: np.ndarray
    v: np.ndarray
    object_index: np.ndarray  # [H, W] int32 object, -1 for sky


@dataclass(frozen=True)
class Surface:
    """Surface points hit by P of N rays: `ray` [P] is the index of the ray, the others [P, ...] are properties of the point."""

    ray: np.ndarray
    position: np.ndarray
    normal: np.ndarray
    albedo: np.ndarray
    material: np.ndarray
    object_index: np.ndarray


def camera_rays(intrinsics: np.ndarray, world_from_camera: np.ndarray, pixels_px: np.ndarray) -> np.ndarray:
    """World directions [N, 3] float32 of pixels [N, 2], with z = 1 in the camera."""
    x = (pixels_px[:, 0] - intrinsics[0, 2]) / intrinsics[0, 0]
    y = (pixels_px[:, 1] - intrinsics[1, 2]) / intrinsics[1, 1]
    rays = np.stack([x, y, np.ones_like(x)], 1)
    return (rays @ world_from_camera[:3, :3].T).astype(np.float32)


def render_view(
    caster: Caster, intrinsics: np.ndarray, world_from_camera: np.ndarray, height: int, width: int, rng: np.random.Generator
) -> View:
    """Render one view of the scene at the time of `caster`; `rng` draws the sampling patterns."""
    world_scene = caster.geometry.world_scene
    v, u = np.meshgrid(np.arange(height) + 0.5, np.arange(width) + 0.5, indexing="ij")
    pixels = np.stack([u.ravel(), v.ravel()], 1)
    rays = camera_rays(intrinsics, world_from_camera, pixels)
    eye = world_from_camera[:3, 3].astype(np.float32)
    hits = caster.trace(np.broadcast_to(eye, rays.shape), rays)
    pixel = 1.0 / intrinsics[0, 0]
    surface = read_surface(caster, hits, rays, pixel)
    object_index = np.full(height * width, -1, np.int32)
    object_index[surface.ray] = surface.object_index
    normal, position = np.zeros((height * width, 3), np.float32), np.zeros((height * width, 3), np.float32)
    normal[surface.ray], position[surface.ray] = surface.normal, surface.position
    shape = (height, width)
    edge = _edges(object_index.reshape(shape), hits.distance.reshape(shape), normal.reshape(*shape, 3))
    light = _light(caster, surface, normal.reshape(*shape, 3), position.reshape(*shape, 3), edge, rng)
    colour = sky_radiance(world_scene.sky, rays)
    colour[surface.ray] = surface.albedo * light[surface.ray]
    _add_gloss(caster, surface, rays, colour, shape, rng)
    _haze(world_scene, hits.distance, colour)
    _smooth_edges(caster, edge, (object_index, normal, position, light), colour, intrinsics, world_from_camera)
    depth = np.where(hits.face >= 0, hits.distance, 0).astype(np.float32)
    maps = (depth, hits.face, hits.u, hits.v, object_index)
    return View(colour.reshape(*shape, 3), *(values.reshape(shape) for values in maps))


def read_surface(caster: Caster, hits: Hits, rays: np.ndarray, pixel: float) -> Surface:
    """Material and geometry at hits; `pixel` is the width of a pixel per metre of distance."""
    geometry = caster.geometry
    ray = np.flatnonzero(hits.face >= 0)
    face, u, v, direction = hits.face[ray], hits.u[ray], hits.v[ray], rays[ray]
    index = geometry.faces[face]
    corners = caster.vertices[index]
    flat = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    area = np.sqrt(dot(flat, flat))
    normal = unit(corners_at(caster.normals[index], u, v)).astype(np.float32)
    facing = dot(flat, direction)
    flat *= np.where(facing > 0, -1, 1)[:, None] / np.maximum(area, 1e-12)[:, None]
    normal *= np.where(dot(normal, flat) < 0, -1, 1).astype(np.float32)[:, None]
    material = geometry.material[face]
    albedo = geometry.colour[material]
    textured = np.flatnonzero(geometry.texture[material] >= 0)
    if len(textured):
        uv = geometry.uv[face[textured]]
        a, b = uv[:, 1] - uv[:, 0], uv[:, 2] - uv[:, 0]
        density = np.sqrt(np.abs(a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]) / np.maximum(area[textured], 1e-12))
        slant = np.abs(facing[textured]) / np.maximum(area[textured], 1e-12)
        width = hits.distance[ray[textured]] * np.float32(pixel) / np.sqrt(np.clip(slant, 0.05, 1))
        at = corners_at(uv, u[textured], v[textured])
        rgba = sample(geometry.world_scene.textures, geometry.texture[material[textured]], at, width * density)
        albedo[textured] = rgba[:, :3] * rgba[:, :3]
    return Surface(ray, corners_at(corners, u, v), normal, albedo, material, geometry.object_index[face])


def _light(
    caster: Caster, surface: Surface, normal: np.ndarray, position: np.ndarray, edge: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Irradiance [H W, 3] at the surface of every pixel; normal, position [H, W, 3], edge [H, W]."""
    height, width = edge.shape
    direct, valid = np.zeros((height * width, 3), np.float32), np.zeros((height, width, 1), np.float32)
    random = spread_values(height, width, rng).reshape(-1, 3)[surface.ray]
    direct[surface.ray] = direct_light(caster, surface.position, surface.normal, random)
    valid.reshape(-1)[surface.ray] = 1
    direct = _filter(direct.reshape(height, width, 3), normal, position, valid, radius=2)
    half = [np.ascontiguousarray(a[::2, ::2]) for a in (normal, position, valid)]
    indirect = _filter(_indirect(caster, half[0], half[1], half[2][..., 0] > 0, rng), *half, radius=4)
    coarse = cv2.resize(indirect, (width, height), interpolation=cv2.INTER_LINEAR)
    direct += coarse
    near = np.nonzero(cv2.dilate(edge.astype(np.uint8), np.ones((3, 3), np.uint8)))
    direct[near] += _upsample(indirect, half, normal, position, near) - coarse[near]
    return np.maximum(direct, 0).reshape(-1, 3)


def _indirect(
    caster: Caster, normal: np.ndarray, position: np.ndarray, valid: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Indirect light [h, w, 3] from the sky and other surfaces."""
    height, width = valid.shape
    random = spread_values(height, width, rng)[valid]
    start_normal = normal[valid]
    directions = cosine_directions(start_normal, random)
    start = position[valid] + start_normal * LIFT_M
    result = np.zeros((height, width, 3), np.float32)
    result[valid] = radiance(caster, start, directions, rng.random((len(start), 3)).astype(np.float32))
    return result


def _filter(values: np.ndarray, normal: np.ndarray, position: np.ndarray, valid: np.ndarray, radius: int) -> np.ndarray:
    """Average over neighbours on the same surface, along rows, then columns; the outermost have half the weight."""
    depth_scale = 1 / np.maximum(dot(np.abs(position), np.ones(3, np.float32))[..., None] * 0.004 + 0.02, 1e-6)
    for axis in (0, 1):
        total, weight = values * valid, valid.copy()
        for step in range(1, radius + 1):
            head, tail = [slice(None)] * 2, [slice(None)] * 2
            head[axis], tail[axis] = slice(step, None), slice(None, -step)
            a, b = tuple(head), tuple(tail)
            apart = position[a] - position[b]
            na, nb = normal[a], normal[b]
            plane = (np.abs(dot(apart, na)) + np.abs(dot(apart, nb)))[..., None]
            same = (
                (1.0 if step < radius else 0.5)
                * np.maximum(1 - plane * depth_scale[a], 0)
                * np.maximum(dot(na, nb) * 4 - 3, 0)[..., None]
            )
            wa, wb = same * valid[a], same * valid[b]
            total[a] += wb * values[b]
            weight[a] += wb
            total[b] += wa * values[a]
            weight[b] += wa
        values = total / np.maximum(weight, 1e-6)
    return values


def _upsample(
    low: np.ndarray, half: list[np.ndarray], normal: np.ndarray, position: np.ndarray, at: tuple[np.ndarray, ...]
) -> np.ndarray:
    """Values of half the resolution at pixels `at`, interpolated from those of the four neighbours on the same surface."""
    rows, columns = at
    normal, position = normal[at], position[at]
    total, weight = np.zeros((len(rows), 3), np.float32), np.full((len(rows), 1), 1e-6, np.float32)
    scale = 1 / (dot(np.abs(position), np.ones(3, np.float32)) * 0.004 + 0.02)
    for dr in (0, 1):
        r = np.minimum(rows // 2 + dr * (rows % 2), low.shape[0] - 1)
        for dc in (0, 1):
            c = np.minimum(columns // 2 + dc * (columns % 2), low.shape[1] - 1)
            plane = np.abs(dot(position - half[1][r, c], normal))
            same = np.maximum(1 - plane * scale, 0.003) * np.maximum(dot(normal, half[0][r, c]), 0.003) * half[2][r, c, 0]
            total += same[:, None] * low[r, c]
            weight += same[:, None]
    return total / weight


def _add_gloss(
    caster: Caster, surface: Surface, rays: np.ndarray, colour: np.ndarray, shape: tuple[int, int], rng: np.random.Generator
) -> None:
    """Add reflections on glossy materials, in place."""
    geometry = caster.geometry
    some = np.flatnonzero(geometry.gloss[surface.material] > 0.01)
    direction, normal = unit(rays[surface.ray[some]]), surface.normal[some]
    cosine, rough = -dot(direction, normal), geometry.rough[surface.material[some]]
    base = geometry.gloss[surface.material[some]]
    share = base + (1 - base) * 0.8 * np.clip(1 - cosine, 0, 1) ** 5 * np.clip(1 - 2 * rough, 0, 1)
    seen = share > FAINT
    if not seen.any():
        return
    some, share, rough = some[seen], share[seen], rough[seen]
    direction, normal, cosine, ray = direction[seen], normal[seen], cosine[seen], surface.ray[some]
    scatter = rng.standard_normal((len(some), 3)).astype(np.float32) * rough[:, None] * 0.15
    mirrored = unit(direction + 2 * np.maximum(cosine, 0.02)[:, None] * normal + scatter).astype(np.float32)
    start = surface.position[some] + normal * LIFT_M
    light = radiance(caster, start, mirrored, rng.random((len(some), 3)).astype(np.float32), mirror=True)
    light = _smooth_by_object(light, ray, surface.object_index[some], shape)
    colour[ray] += (share[:, None] * (light - 0.5 * colour[ray])).astype(np.float32)


def _smooth_by_object(values: np.ndarray, ray: np.ndarray, object_index: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Mean [P, 3] over 3x3 pixels of one object."""
    grid, weight = np.zeros((shape[0] * shape[1], 3), np.float32), np.zeros(shape[0] * shape[1], np.float32)
    key = object_index % 2 + 1  # neighbouring objects rarely share it
    result = values
    for parity in (1, 2):
        own = key == parity
        grid[:], weight[:] = 0, 0
        grid[ray[own]], weight[ray[own]] = values[own], 1
        total = cv2.blur(grid.reshape(*shape, 3), (3, 3)).reshape(-1, 3)[ray[own]]
        result[own] = total / np.maximum(cv2.blur(weight.reshape(shape), (3, 3)).ravel()[ray[own], None], 1e-6)
    return result


def _haze(world_scene: WorldScene, distance: np.ndarray, colour: np.ndarray) -> None:
    """Add haze between the camera and distant surfaces, in place."""
    if world_scene.haze <= 0:
        return
    met = np.isfinite(distance)
    share = 1 - np.exp(np.float32(-world_scene.haze) * distance[met])
    horizon = world_scene.sky[world_scene.sky.shape[0] * 2 // 5 : world_scene.sky.shape[0] // 2].mean((0, 1))
    colour[met] += share[:, None].astype(np.float32) * (np.minimum(horizon, 2) - colour[met])


def _smooth_edges(
    caster: Caster,
    edge: np.ndarray,
    pixels: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
    colour: np.ndarray,
    intrinsics: np.ndarray,
    world_from_camera: np.ndarray,
) -> None:
    """Anti-alias edges in place with three rays per pixel; each takes its light from the best matching neighbour.

    edge [H, W]; pixels: object [H W], normal, position and light [H W, 3].
    """
    object_index, normal, position, light = pixels
    height, width = edge.shape
    rows = np.flatnonzero(edge)
    if not len(rows):
        return
    r, c = np.divmod(rows, width)
    eye = world_from_camera[:3, 3].astype(np.float32)
    finer_px = (np.stack([c + 0.5, r + 0.5], 1)[:, None] + EDGE_SAMPLES).reshape(-1, 2)
    rays = camera_rays(intrinsics, world_from_camera, finer_px)
    fine = caster.trace(np.broadcast_to(eye, rays.shape), rays)
    seen = read_surface(caster, fine, rays, 0.5 / intrinsics[0, 0])
    result = sky_radiance(caster.geometry.world_scene.sky, rays)
    own, quadrant = np.divmod(seen.ray, len(EDGE_SAMPLES))
    best, score = rows[own], np.full(len(own), -np.inf, np.float32)
    for dr, dc in ((0, 0), (0, 1), (1, 0), (1, 1)):
        side_r, side_c = np.sign(EDGE_SAMPLES[quadrant, 1]) * dr, np.sign(EDGE_SAMPLES[quadrant, 0]) * dc
        other = (np.clip(r[own] + side_r, 0, height - 1) * width + np.clip(c[own] + side_c, 0, width - 1)).astype(np.int64)
        apart = np.abs(dot(position[other] - seen.position, seen.normal))
        fit = (
            3.0 * (object_index[other] == seen.object_index)
            + dot(normal[other], seen.normal)
            - 5 * np.minimum(apart, 1)
            - 9 * (object_index[other] < 0)
        )
        better = fit > score
        best, score = np.where(better, other, best), np.where(better, fit, score)
    result[seen.ray] = seen.albedo * light[best]
    _haze(caster.geometry.world_scene, fine.distance, result)
    colour[rows] = np.minimum(result, 4.0).reshape(len(rows), len(EDGE_SAMPLES), 3).mean(1)


def _edges(object_index: np.ndarray, distance: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """Pixels with a neighbour on another surface: [H, W] bool."""
    edge = np.zeros(object_index.shape, bool)
    inverse = np.where(np.isfinite(distance), 1 / np.maximum(distance, 1e-6), 0)
    for axis in (0, 1):
        a, b = ([slice(None)] * 2 for _ in range(2))
        a[axis], b[axis] = slice(1, None), slice(None, -1)
        a, b = tuple(a), tuple(b)
        differ = (object_index[a] != object_index[b]) | (np.abs(inverse[a] - inverse[b]) > 0.04 * inverse[a])
        differ |= dot(normal[a], normal[b]) < 0.6
        edge[a] |= differ
        edge[b] |= differ
    return edge
