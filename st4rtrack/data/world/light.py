"""Lighting by lamps, the sun, windows and the sky, along rays and at points."""

import cv2
import numpy as np

from st4rtrack.data.world.cast import Caster
from st4rtrack.data.world.mesh import unit
from st4rtrack.geometry.vectors import dot

LIFT_M = 2e-3
"""Offset of the origins of secondary rays from the surface."""
BRIGHTEST = 6.0
"""Maximum sky radiance as a source of indirect light; the sun is a separate light."""


def sky_radiance(sky: np.ndarray, rays: np.ndarray) -> np.ndarray:
    """Sky radiance [N, 3] of the sky map [H, W, 3] in directions [N, 3]."""
    height, width = sky.shape[:2]
    x = (np.arctan2(rays[:, 0], rays[:, 2]) / (2 * np.pi) + 0.5) * width - 0.5
    y = np.arctan2(np.hypot(rays[:, 0], rays[:, 2]), -rays[:, 1]) / np.pi * height - 0.5
    maps = [m.astype(np.float32)[None] for m in (x, y)]
    rows = [cv2.remap(sky, a, b, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)[0] for a, b in zip(*(_split(m) for m in maps))]
    return np.concatenate(rows).reshape(-1, 3)


def _split(row: np.ndarray) -> list[np.ndarray]:
    """Split a map into pieces, as OpenCV limits the width of maps."""
    return [row[:, k : k + 16384] for k in range(0, row.shape[1], 16384)]


def spread_values(height: int, width: int, rng: np.random.Generator, step: int = 1) -> np.ndarray:
    """Stratified values [H, W, 3] in [0, 1), evenly spread within every block of 4x4 pixels."""
    cells = np.stack(
        [rng.permutation(16).reshape(4, 4), rng.permutation(16).reshape(4, 4), rng.permutation(16).reshape(4, 4)], -1
    )
    tile = (cells + rng.random(3)) / 16 % 1
    repeats = (-(-height // (4 * step)), -(-width // (4 * step)), 1)
    jitter = rng.random((height // step, width // step, 3), np.float32) / 16
    return ((np.tile(tile, repeats)[: height // step, : width // step] + jitter) % 1).astype(np.float32)


def direct_light(caster: Caster, position: np.ndarray, normal: np.ndarray, random: np.ndarray) -> np.ndarray:
    """Irradiance [P, 3] from one lamp or the sun, sampled per point in proportion to its unoccluded irradiance; random [P, 3]."""
    lights = caster.geometry.world_scene.lights
    if not lights:
        return np.zeros_like(position)
    angle, height = 2 * np.pi * random[:, 0], 2 * random[:, 1] - 1
    ring = np.sqrt(np.maximum(1 - height * height, 0))
    ball = np.stack([ring * np.cos(angle), height, ring * np.sin(angle)], 1)
    irradiances, to_lights = [], []
    for light in lights:
        to_light = light.position.astype(np.float32) - position
        to_light += (
            np.float32(light.radius) * ball if light.window is None else (2 * random[:, :2] - 1) @ light.window.astype(np.float32)
        )
        squares = dot(to_light, to_light)
        irradiance = np.maximum(dot(to_light, normal), 0) / np.sqrt(squares)
        if light.window is not None:
            irradiance *= np.abs(dot(to_light, unit(np.cross(*light.window)).astype(np.float32)[None])) / np.sqrt(squares)
        irradiances.append(irradiance if light.sun else irradiance / np.maximum(squares, 0.04))
        to_lights.append(to_light)
    power = np.stack([light.power for light in lights]).astype(np.float32)
    weight = np.stack(irradiances, 1) * power.mean(1)
    total = weight.sum(1) if len(lights) > 1 else weight[:, 0]
    rows = np.flatnonzero(total > 1e-5)
    result = np.zeros_like(position)
    if len(lights) == 1:
        to_light, light_of_row, irradiance = to_lights[0][rows], 0, irradiances[0][rows]
    else:
        edges = np.cumsum(weight[rows, :-1], 1)
        light_of_row = (random[rows, 2, None] * total[rows, None] > edges).sum(1)
        to_light = np.stack(to_lights, 1)[rows, light_of_row]
        irradiance = total[rows] / power.mean(1)[light_of_row]
    clear = ~caster.blocked(position[rows] + normal[rows] * LIFT_M, to_light, np.full(len(rows), 0.999, np.float32))
    result[rows] = power[light_of_row] * (irradiance * clear)[:, None]
    return result


def cosine_directions(normal: np.ndarray, random: np.ndarray) -> np.ndarray:
    """Cosine-weighted random directions [P, 3] about normals."""
    angle, height = 2 * np.pi * random[:, 0], 1 - 2 * random[:, 1]
    ring = np.sqrt(np.maximum(1 - height * height, 0))
    ball = np.stack([ring * np.cos(angle), height, ring * np.sin(angle)], 1)
    return unit(normal * 1.001 + ball).astype(np.float32)


def radiance(caster: Caster, start: np.ndarray, directions: np.ndarray, random: np.ndarray, mirror: bool = False) -> np.ndarray:
    """Radiance [P, 3] along rays, with untextured diffuse materials."""
    world_scene, limit = caster.geometry.world_scene, 2 * BRIGHTEST if mirror else BRIGHTEST
    hits = caster.trace(start, directions, cutouts=False)
    light = np.minimum(sky_radiance(world_scene.sky, directions), limit)
    if not mirror and any(lamp.window is not None for lamp in world_scene.lights):
        light[:] = 0  # window lights already include this light
    met = np.flatnonzero(hits.face >= 0)
    face = hits.face[met]
    index = caster.geometry.faces[face]
    normal = unit(caster.normals[index[:, 0]]).astype(np.float32)
    normal *= np.where(dot(normal, directions[met]) > 0, -1, 1).astype(np.float32)[:, None]
    position = caster.points(face, hits.u[met], hits.v[met])
    albedo = caster.geometry.colour[caster.geometry.material[face]]
    light[met] = albedo * (direct_light(caster, position, normal, random[met]) + world_scene.ambient.astype(np.float32))
    return np.minimum(light, limit)
