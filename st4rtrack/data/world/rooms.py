"""Indoor scenes: rooms and table tops."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from st4rtrack.data.world import build, motion, patterns
from st4rtrack.data.world.assets import Assets, Model
from st4rtrack.data.world.dynamic import add_animals, add_loose_objects, add_people
from st4rtrack.data.world.layout import Layout
from st4rtrack.data.world.mesh import Materials, plain_materials
from st4rtrack.data.world.objects import Light, SceneObject, WorldScene, turned
from st4rtrack.data.world.placement import draw_sky, draw_sun, finished, picture, small_models, surface, tables_among

Opening = tuple[float, float, float, float]
"""Start and end along the wall, sill and top above the ground, in metres."""

THEMES = {"Living room": 0.34, "Bedroom": 0.18, "Kitchen": 0.16, "Office": 0.15, "Bathroom": 0.07, "Miscellaneous": 0.1}
"""Shares of the categories of furniture."""


def make_room(assets: Assets, split: str, rng: np.random.Generator, pictures: Sequence[Path]) -> WorldScene:
    layout = Layout(assets, split, rng.uniform(1.6, 3.8), rng.uniform(1.6, 4.2), 0.05, rng)
    world_scene = _shell(layout, pictures)
    _furnish(layout, pictures)
    add_people(layout, int(rng.choice(4, p=[0.15, 0.45, 0.28, 0.12])), 0.28)
    add_animals(layout, int(rng.random() < 0.25), 1.0)
    add_loose_objects(layout, int(rng.integers(0, 3)))
    return finished(layout, world_scene)


@dataclass(frozen=True)
class Wall:
    """Wall of a room; the room is on the right when looking from start to end."""

    start: np.ndarray  # [2] (x, z)
    end: np.ndarray
    height: float
    openings: list[Opening]

    @property
    def length(self) -> float:
        return float(np.linalg.norm(self.end - self.start))

    @property
    def along(self) -> np.ndarray:
        """Unit vector [2] from start to end."""
        return (self.end - self.start) / self.length

    @property
    def inward(self) -> np.ndarray:
        """Unit normal [2] that points into the room."""
        return np.array([self.along[1], -self.along[0]])

    @property
    def yaw(self) -> float:
        """Heading of objects on the wall that face the room."""
        return float(np.arctan2(-self.along[1], self.along[0]))


def _shell(layout: Layout, pictures: Sequence[Path]) -> WorldScene:
    """Make an empty room: floor, ceiling, walls with windows and doors, lamps."""
    rng, (hx, hz) = layout.rng, layout.half
    height = rng.uniform(2.35, 3.3)
    polished = rng.uniform(0.02, 0.07) if rng.random() < 0.5 else 0.0
    floor = surface(layout, patterns.FLOORS, pictures, polished, 0.06)
    tile = rng.uniform(0.9, 2.2)
    mesh = build.ground(1.0, np.zeros((2, 2)), floor, tile / max(hx, hz))
    layout.add_static(mesh, np.diag([hx + 0.2, 1, hz + 0.2, 1]), "floor")
    ceiling = plain_materials(np.square(patterns.random_colour(rng, 0.1, 0.8, 0.98)))
    corner = np.array([-hx, -height, -hz])
    layout.add_static(build.rectangle(corner, np.array([2 * hx, 0, 0]), np.array([0, 0, 2 * hz]), ceiling), name="ceiling")
    paint = surface(layout, patterns.WALLS, pictures, 0.0, 0.02)
    trim = plain_materials(np.square(patterns.random_colour(rng, 0.3, 0.3, 0.95)))
    corners = [np.array(c) for c in ((hx, -hz), (-hx, -hz), (-hx, hz), (hx, hz))]
    windows: list[tuple[np.ndarray, np.ndarray]] = []
    for k in range(4):
        wall = _draw_wall(rng, corners[k], corners[(k + 1) % 4], height)
        windows += [_window(wall, opening) for opening in wall.openings]
        _add_wall(layout, wall, paint, trim, pictures)
    return _lighting(layout, height, windows)


def _draw_wall(rng: np.random.Generator, start: np.ndarray, end: np.ndarray, height: float) -> Wall:
    """Draw the windows of a wall; every second wall has some."""
    wall = Wall(start, end, height, [])
    if rng.random() < 0.5 and wall.length > 2:
        at = rng.uniform(0.3, 0.5)
        while at < wall.length - 1.4:
            wide = min(rng.uniform(0.7, 1.8), wall.length - at - 0.3)
            sill = rng.choice([0.02, 0.8, 1.0], p=[0.15, 0.45, 0.4])
            wall.openings.append((at, at + wide, sill, rng.uniform(1.9, height - 0.2)))
            at += wide + rng.uniform(0.3, 2.0)
    return wall


def _window(wall: Wall, opening: Opening) -> tuple[np.ndarray, np.ndarray]:
    """Centre [3] and half edges [2, 3] of an opening."""
    a, b, low, high = opening
    middle = wall.start + wall.along * (a + b) / 2
    half = np.array([[wall.along[0] * (b - a) / 2, 0, wall.along[1] * (b - a) / 2], [0, (high - low) / 2, 0]])
    return np.array([middle[0], -(low + high) / 2, middle[1]]), half


def _add_wall(layout: Layout, wall: Wall, paint: Materials, trim: Materials, pictures: Sequence[Path]) -> None:
    """Add a wall with its window frames, pictures, doors and skirting."""
    rng = layout.rng
    own = surface(layout, patterns.WALLS, pictures, 0.0, 0.02) if rng.random() < 0.2 else paint
    mesh = build.wall(wall.start, wall.end, wall.height, own, rng.uniform(1.5, 3.0), wall.openings)
    layout.add_static(mesh, name="wall")
    _window_frames(layout, wall, trim)
    _on_wall(layout, wall, pictures)
    skirting = build.box(np.array([wall.length, rng.uniform(0.05, 0.14), 0.02]), trim)
    middle = (wall.start + wall.end) / 2
    layout.add_static(skirting, turned(wall.yaw, (middle[0], 0, middle[1])), "skirting")


def _lighting(layout: Layout, height: float, windows: list[tuple[np.ndarray, np.ndarray]]) -> WorldScene:
    """Make the scene of a room with lamps, sky, and light through its windows."""
    rng = layout.rng
    day = bool(windows) and rng.random() < 0.75
    warm = np.array([1.0, rng.uniform(0.75, 1.0), rng.uniform(0.5, 1.0)])
    lights = [_add_lamp(layout, height, warm) for _ in range(int(rng.integers(1, 3)) if not day or rng.random() < 0.5 else 0)]
    sky = draw_sky(layout, 0.6)
    if day:
        lights += draw_sun(rng, low=0.3) if rng.random() < 0.6 else []
        sky = sky * np.float32(rng.uniform(1.0, 3.0))
        bright = sky[len(sky) // 4 : 3 * len(sky) // 4].mean((0, 1))
        shining = rng.permutation(len(windows))[:2]
        bright = bright * len(windows) / len(shining)
        for at, half in (windows[int(k)] for k in shining):
            area = float(np.linalg.norm(half[0]) * np.linalg.norm(half[1]))
            lights.append(Light(at, 0.0, bright * (4 / np.pi * area), window=half))
    else:
        sky = sky * np.float32(rng.uniform(0.01, 0.3))
    level = 0.25 * sum(light.power.mean() / (3.0 if light.sun else 4.0) for light in lights) + 0.03
    ambient = warm * min(level, 1.2) * rng.uniform(0.5, 1.0)
    return WorldScene([], lights, sky.astype(np.float32), layout.texture_set.textures(), ambient)


def _add_lamp(layout: Layout, height: float, warm: np.ndarray) -> Light:
    """Add a lamp that hangs from the ceiling; returns its light."""
    rng, (hx, hz) = layout.rng, layout.half
    at = np.array([rng.uniform(-0.6, 0.6) * hx, -height + rng.uniform(0.12, 0.6), rng.uniform(-0.6, 0.6) * hz])
    radius = rng.uniform(0.06, 0.25)
    light = Light(at, radius * 1.3, warm * rng.uniform(2.0, 6.0))
    layout.add_static(build.ball(radius, warm * 12), turned(0.0, at), "lamp")
    if at[1] > -height + 0.3:
        cord = build.box(np.array([0.015, height + at[1] - radius, 0.015]), plain_materials([0.02] * 3))
        layout.add_static(cord, turned(0, at - [0, radius, 0]))
    return light


def _window_frames(layout: Layout, wall: Wall, trim: Materials) -> None:
    """Add frames to the openings, and curtains to some."""
    rng = layout.rng
    cloth = layout.texture_set.material(patterns.cloth(rng)) if rng.random() < 0.5 else None

    def bar(a: float, b: float, low: float, high: float, deep: float, material: Materials, inward: float = 0.0) -> None:
        middle = wall.start + wall.along * (a + b) / 2 + wall.inward * inward
        mesh = build.box(np.array([b - a, high - low, deep]), material, 0.7)
        layout.add_static(mesh, turned(wall.yaw, (middle[0], -low, middle[1])), "frame")

    for a, b, low, high in wall.openings:
        w = 0.05
        for x in (a, (a + b) / 2 - w / 2, b - w):
            bar(x, x + w, low, high, 0.06, trim)
        for y in (low, high - w) + (((low + high) / 2,) if rng.random() < 0.5 else ()):
            bar(a, b, y, y + w, 0.06, trim)
        if cloth is not None:
            bottom = 0.03 if rng.random() < 0.6 else low
            for side in (a - 0.2, b - 0.1):
                for fold in range(4):
                    x = side + fold * 0.085
                    bar(x, x + 0.1, bottom, high + 0.1, 0.07, cloth, 0.09 + 0.03 * (fold % 2))


def _on_wall(layout: Layout, wall: Wall, pictures: Sequence[Path]) -> None:
    """Add framed pictures, doors and wall-mounted models to a wall."""
    rng = layout.rng
    busy = [(a - 0.3, b + 0.3) for a, b, _, _ in wall.openings]
    hanging = [
        m
        for m in layout.models()
        if m.elevation_m > 0.4 and m.category not in ("Doors and windows", "Exterior") and m.depth_m < 0.7 and m.width_m < 1.8
    ]
    doors = [m for m in layout.models("Doors and windows") if "door" in m.title.lower() and m.height_m < wall.height]
    for _ in range(int(rng.integers(1, 6))):
        kind = rng.random()
        model = layout.pick(doors) if kind < 0.15 else layout.pick(hanging) if kind < 0.5 else None
        wide = model.width_m if model else rng.uniform(0.3, 1.1)
        if wall.length < wide + 0.4:
            continue
        at = rng.uniform(wide / 2 + 0.1, wall.length - wide / 2 - 0.1)
        if any(at + wide / 2 > a and at - wide / 2 < b for a, b in busy):
            continue
        busy.append((at - wide / 2 - 0.05, at + wide / 2 + 0.05))
        if model:
            _hang_model(layout, wall, model, at, door=kind < 0.15)
        else:
            _hang_picture(layout, wall, at, wide, pictures)


def _hang_model(layout: Layout, wall: Wall, model: Model, at: float, *, door: bool) -> None:
    """Add a door or a wall-mounted model `at` metres along a wall, if the wall is high enough."""
    if model.elevation_m + model.height_m > wall.height:
        return
    centre = wall.start + wall.along * at + wall.inward * (model.depth_m / 2 - (0.06 if door else -0.005))
    up = 0.0 if door else model.elevation_m
    matrix = turned(wall.yaw, (centre[0], -up, centre[1]))
    layout.add(model, matrix)
    if up < 1.2 or door:
        layout.take(np.array([model.width_m, 1, model.depth_m + (0.5 if door else 0.1)]), matrix)


def _hang_picture(layout: Layout, wall: Wall, at: float, wide: float, pictures: Sequence[Path]) -> None:
    """Add a framed picture `at` metres along a wall, if the wall is high enough."""
    rng = layout.rng
    high = wide * rng.uniform(0.6, 1.4)
    base = rng.uniform(1.1, 1.6)
    if base + high > wall.height - 0.1:
        return
    centre = wall.start + wall.along * at + wall.inward * 0.02
    border = plain_materials(np.square(patterns.random_colour(rng, 0.4, 0.05, 0.9)), gloss=0.04)
    frame = build.box(np.array([wide + 0.08, high + 0.08, 0.03]), border)
    layout.add_static(frame, turned(wall.yaw, (centre[0], -base + 0.04, centre[1])), "frame")
    front = centre + wall.inward * 0.017
    side = -wall.along * wide / 2
    image = layout.texture_set.material(picture(layout, pictures), 0.02)
    corner = np.array([front[0] - side[0], -base, front[1] - side[1]])
    mesh = build.rectangle(corner, np.array([2 * side[0], 0, 2 * side[1]]), np.array([0, -high, 0]), image)
    layout.add_static(mesh, name="picture")


def _furnish(layout: Layout, pictures: Sequence[Path]) -> None:
    """Add furniture along the walls, tables with chairs, small objects on top, and a carpet."""
    rng = layout.rng
    theme = str(rng.choice(list(THEMES), p=list(THEMES.values())))
    standing = [
        m for m in layout.models(theme, "Living room" if rng.random() < 0.5 else theme, "Lights")
        if m.elevation_m < 0.05 and max(m.width_m, m.depth_m) > 0.25 and m.height_m > 0.3 and max(m.width_m, m.depth_m) < 2.6
    ]  # fmt: skip
    small = small_models(layout)
    if rng.random() < 0.45:
        size = rng.uniform(1.2, 2.8, 2)
        at = rng.uniform(-0.3, 0.3, 2) * layout.half
        carpet = layout.texture_set.material(picture(layout, pictures) if rng.random() < 0.4 else patterns.wallpaper(rng))
        mesh = build.box(np.array([size[0], 0.012, size[1]]), carpet, size[0])
        layout.add_static(mesh, turned(rng.uniform(0, 0.3), (at[0], 0, at[1])), "carpet")
    if rng.random() < 0.7:
        table = layout.pick(tables_among(layout))
        if table:
            yaw = rng.choice([0, np.pi / 2]) + rng.normal(0, 0.1)
            x, z = rng.uniform(-0.4, 0.4) * layout.half[0], rng.uniform(-0.4, 0.4) * layout.half[1]
            item = layout.put(table, turned(yaw, (x, 0, z)), 0.05)
            if item:
                layout.on_top(item, small, int(rng.integers(1, 7)))
                _chairs(layout, item)
    for _ in range(int(rng.integers(5, 16))):
        model = layout.pick(standing)
        if model is None:
            break
        for _ in range(6):
            if rng.random() < 0.85:
                matrix = _against_wall(layout, model)
            else:
                yaw, x, z = rng.uniform(0, 6.3), rng.uniform(-1, 1), rng.uniform(-1, 1)
                matrix = turned(yaw, (x * layout.half[0], 0, z * layout.half[1]))
            item = layout.put(model, matrix)
            if item:
                if model.height_m < 1.5 and rng.random() < 0.7 and "chair" not in model.title.lower():
                    layout.on_top(item, small, int(rng.integers(1, 4)))
                break
    layout.scatter([m for m in small if m.height_m > 0.08], int(rng.integers(0, 4)))


def _against_wall(layout: Layout, model: Model) -> np.ndarray:
    """Draw a pose with the back against a random wall."""
    rng, (hx, hz) = layout.rng, layout.half
    side = int(rng.integers(4))
    gap = model.depth_m / 2 + 0.06
    along = rng.uniform(-1, 1)
    x, z, normal = [
        (-hx + gap, along * hz, (1, 0)), (hx - gap, along * hz, (-1, 0)),
        (along * hx, -hz + gap, (0, 1)), (along * hx, hz - gap, (0, -1)),
    ][side]  # fmt: skip
    return turned(float(np.arctan2(-normal[0], -normal[1])), (x, 0, z))


def _chairs(layout: Layout, table: SceneObject) -> None:
    """Add chairs of one kind around a table, facing it."""
    rng = layout.rng
    chair = layout.pick(
        [m for m in layout.models() if "chair" in m.title.lower() and m.category in ("Living room", "Office", "Kitchen")]
    )
    if chair is None:
        return
    matrix = table.matrix(0.0)
    for side in range(4):
        if rng.random() < 0.6:
            angle = side * np.pi / 2
            reach = table.mesh.size[0 if side % 2 else 2] / 2 + chair.depth_m * rng.uniform(0.3, 0.6)
            local = turned(angle, (0, 0, 0)) @ turned(0.0, (rng.normal(0, 0.05), 0, reach))
            layout.put(chair, matrix @ local @ turned(rng.normal(0, 0.15), (0, 0, 0)), -0.1)


def make_table(assets: Assets, split: str, rng: np.random.Generator, pictures: Sequence[Path]) -> WorldScene:
    """Make a room around a table with many objects, some of which are picked up and put down."""
    layout = Layout(assets, split, rng.uniform(1.6, 3.0), rng.uniform(1.6, 3.0), 0.05, rng)
    world_scene = _shell(layout, pictures)
    table = layout.pick(tables_among(layout))
    small = small_models(layout)
    if table is not None and rng.random() < 0.6:
        top = layout.put(table, turned(rng.uniform(0, 6.3), (0, 0, 0)))
    else:
        size = np.array([rng.uniform(0.9, 1.8), rng.uniform(0.4, 0.8), rng.uniform(0.7, 1.2)])
        makers = (patterns.wood, patterns.wood, patterns.tiles, patterns.cloth, patterns.plaster)
        material = surface(layout, makers, pictures, rng.choice([0, 0.05]), 0.2)
        mesh = build.box(size, material, rng.uniform(0.5, 1.5))
        top = layout.add_static(mesh, turned(rng.uniform(0, 6.3), (0, 0, 0)), "table")
        layout.take(size, top.matrix(0.0), 0.05)
    placed = layout.on_top(top, small, int(rng.integers(3, 14)), 0.85) if top else []
    if top:
        world_scene.focus = top.matrix(0.0)[:3, 3] - np.array([0, top.mesh.size[1], 0])
    for item in placed:
        if rng.random() < 0.3:
            _pick_up(layout, item)
    _furnish(layout, pictures)
    add_people(layout, int(rng.choice(2, p=[0.4, 0.6])), 0.2)
    return finished(layout, world_scene)


def _pick_up(layout: Layout, item: SceneObject) -> None:
    """Animate an object: lifted, turned and put down, or pushed across the table."""
    rng = layout.rng
    lift = rng.uniform(0.05, 0.3) if rng.random() < 0.6 else 0.0
    drift = rng.normal(0, 0.06, 2)
    place = motion.picked_up(item.matrix(0.0), lift, drift, rng.normal(0, 1.5), rng.uniform(0, 1), rng.uniform(1, 3))
    moved = replace(item, place=place, moves=True)
    layout.objects = [moved if other is item else other for other in layout.objects]
