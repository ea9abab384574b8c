"""Procedural meshes: boxes, walls with openings, grounds, spheres, and billboards for distant trees."""

import numpy as np

from st4rtrack.data.world.mesh import Materials, Mesh, build_mesh, plain_materials

CARDS = 3
REVEAL_M = 0.2
BALL_RINGS = 8
_QUAD = np.array([[0, 1, 2], [0, 2, 3]])


def _quads(corners: np.ndarray, uv: np.ndarray, materials: Materials) -> Mesh:
    """Mesh of quadrilaterals [Q, 4, 3] of one material with texture coordinates [Q, 4, 2]."""
    count = len(corners)
    faces = (_QUAD[None] + 4 * np.arange(count)[:, None, None]).reshape(-1, 3)
    return build_mesh(corners.reshape(-1, 3), faces, uv.reshape(-1, 2)[faces], materials)


def box(size: np.ndarray, materials: Materials, tile_m: float = 1.0) -> Mesh:
    """Box of size [3] (width, height, depth) standing at y = 0; textures repeat every `tile_m`."""
    w, h, d = (float(x) for x in size)
    x, z = w / 2, d / 2
    sides = [
        ((-x, -z), (x, -z), w), ((x, -z), (x, z), d), ((x, z), (-x, z), w), ((-x, z), (-x, -z), d),
    ]  # fmt: skip
    corners, uv = [], []
    for (x0, z0), (x1, z1), length in sides:
        corners.append([(x0, 0, z0), (x1, 0, z1), (x1, -h, z1), (x0, -h, z0)])
        uv.append([(0, 0), (length, 0), (length, h), (0, h)])
    for y in (-h, 0.0):
        corners.append([(-x, y, -z), (x, y, -z), (x, y, z), (-x, y, z)])
        uv.append([(0, 0), (w, 0), (w, d), (0, d)])
    return _quads(np.array(corners, float), np.array(uv, float) / tile_m, materials)


def rectangle(start: np.ndarray, across: np.ndarray, up: np.ndarray, materials: Materials) -> Mesh:
    """Flat rectangle spanned by two edges [3] from a corner; the texture covers it once."""
    corners = np.array([start, start + across, start + across + up, start + up])[None]
    uv = np.array([(0, 0), (1, 0), (1, 1), (0, 1)], float)[None]
    return _quads(corners, uv, materials)


def cards(width: float, height: float, materials: Materials) -> Mesh:
    """Crossed upright rectangles (billboards) for distant trees."""
    corners = []
    for k in range(CARDS):
        x, z = width / 2 * np.cos(np.pi * k / CARDS), width / 2 * np.sin(np.pi * k / CARDS)
        corners.append([(-x, 0, -z), (x, 0, z), (x, -height, z), (-x, -height, -z)])
    uv = np.tile(np.array([(0, 0.002), (1, 0.002), (1, 0.998), (0, 0.998)]), (CARDS, 1, 1))
    return _quads(np.array(corners), uv, materials)


def wall(
    start: np.ndarray, end: np.ndarray, height: float, materials: Materials, tile_m: float,
    openings: list[tuple[float, float, float, float]],
) -> Mesh:  # fmt: skip
    """Wall between two points [2] (x, z) with rectangular openings, whose reveals lie on the left, looking from start to end.

    Args:
        start, end: ends of the wall on the ground.
        height, tile_m: height of the wall, and width of the texture.
        materials: a single material.
        openings: start and end along the wall, sill and top above the ground; metres, without overlap.
    """
    along = np.array([end[0] - start[0], 0, end[1] - start[1]], float)
    length = float(np.linalg.norm(along))
    along /= length
    out = np.array([along[2], 0, -along[0]])
    origin = np.array([start[0], 0, start[1]], float)
    corners, uv = [], []

    def patch(a: float, b: float, low: float, high: float) -> None:
        if b - a < 1e-3 or high - low < 1e-3:
            return
        ends = [(a, low), (b, low), (b, high), (a, high)]
        corners.append([origin + along * s - np.array([0, y, 0]) for s, y in ends])
        uv.append([(s, y) for s, y in ends])

    def reveal(p: tuple[float, float], q: tuple[float, float]) -> None:
        ends = [origin + along * s - np.array([0, y, 0]) for s, y in (p, q)]
        corners.append([ends[0], ends[1], ends[1] - out * REVEAL_M, ends[0] - out * REVEAL_M])
        uv.append([(0, 0), (1, 0), (1, 0.2), (0, 0.2)])

    last = 0.0
    for a, b, low, high in sorted(openings):
        patch(last, a, 0, height)
        patch(a, b, 0, low)
        patch(a, b, high, height)
        for p, q in (((a, low), (b, low)), ((a, high), (b, high)), ((a, low), (a, high)), ((b, low), (b, high))):
            reveal(p, q)
        last = b
    patch(last, length, 0, height)
    return _quads(np.array(corners), np.array(uv) / tile_m, materials)


def ground(half: float, heights: np.ndarray, materials: Materials, tile_m: float) -> Mesh:
    """Square of ground around the origin with heights [n, n] (rows along z), metres above y = 0."""
    n = len(heights)
    axis = np.linspace(-half, half, n)
    x, z = np.meshgrid(axis, axis)
    points = np.stack([x, -heights, z], -1).reshape(-1, 3)
    k = (np.arange(n - 1)[:, None] * n + np.arange(n - 1)).ravel()
    faces = np.concatenate([np.stack([k, k + 1, k + n + 1], 1), np.stack([k, k + n + 1, k + n], 1)])
    return build_mesh(points, faces, points[:, [0, 2]][faces] / tile_m, materials)


def ball(radius: float, colour: np.ndarray) -> Mesh:
    """Sphere around the origin."""
    theta = np.linspace(0, np.pi, BALL_RINGS + 1)
    phi = np.linspace(0, 2 * np.pi, 2 * BALL_RINGS + 1)[:-1]
    t, p = np.meshgrid(theta, phi, indexing="ij")
    points = radius * np.stack([np.sin(t) * np.cos(p), -np.cos(t), np.sin(t) * np.sin(p)], -1).reshape(-1, 3)
    n = len(phi)
    i, j = np.meshgrid(np.arange(BALL_RINGS), np.arange(n), indexing="ij")
    a, b = i * n + j, i * n + (j + 1) % n
    faces = np.concatenate([np.stack([a, b, b + n], -1).reshape(-1, 3), np.stack([a, b + n, a + n], -1).reshape(-1, 3)])
    return build_mesh(points, faces, np.zeros((len(faces), 3, 2)), plain_materials(colour))
