"""Outdoor scenes: streets and gardens."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from st4rtrack.data.world import build, motion, patterns
from st4rtrack.data.world.assets import Assets, Model
from st4rtrack.data.world.dynamic import add_animals, add_loose_objects, add_people
from st4rtrack.data.world.layout import Layout, grid_height
from st4rtrack.data.world.mesh import plain_materials
from st4rtrack.data.world.objects import Light, WorldScene, turned
from st4rtrack.data.world.placement import draw_sky, draw_sun, finished, has_word, small_models, surface

WHEELED = ("ford", "sedan", "beetle", "seat_leon", "peugeot", "renault", "suv", "chevrolet", "van", "smart", "truck", "bus")
TREES = (
    "bush", "hedge", "acacia", "bamboo", "ficus", "blue", "coconut", "beech", "cypress", "maple", "poplar", "palm", "peach", "pine",
    "sabal",
)  # fmt: skip
KERB_M = 0.13
GROUND_MARKS = ("fleche", "stationnement", "passage", "rails", "concrete-sidewalk", "swimming-pool", "diving", "entry-bell")


def make_street(assets: Assets, split: str, rng: np.random.Generator, pictures: Sequence[Path]) -> WorldScene:
    """Make a street: a road along z with pavements, house fronts, trees, parked and moving cars, people."""
    road, walk = rng.uniform(2.8, 5.5), rng.uniform(1.8, 4.5)
    layout = Layout(assets, split, road + walk, 30.0, 0.2, rng)
    world_scene = _outdoors(layout, haze=float(rng.choice([0, 0, 0.003, 0.01])))
    asphalt = surface(layout, (patterns.asphalt, patterns.asphalt, patterns.paving, patterns.rough), pictures, 0.0, 0.03)
    layout.add_static(build.ground(70.0, np.zeros((2, 2)), asphalt, rng.uniform(1.5, 4)), name="road")
    pavement = surface(layout, (patterns.paving, patterns.rough, patterns.tiles), pictures, 0.0, 0.05)
    for side in (-1, 1):
        kerb = build.box(np.array([walk, KERB_M, 140.0]), pavement, rng.uniform(1, 2.5))
        layout.add_static(kerb, turned(0, (side * (road + walk / 2), 0, 0)), "pavement")
        _house_fronts(layout, side * (road + walk), side)
    paint = plain_materials([0.7, 0.7, 0.65])
    for k in range(-14, 15) if rng.random() < 0.7 else ():
        layout.add_static(build.box(np.array([0.12, 0.006, 1.8]), paint), turned(0, (0, 0, k * 4.0)), "mark")
    layout.height = lambda at: KERB_M if abs(at[0]) > road else 0.0
    cars = [m for m in layout.models("Vehicles") if has_word(m, WHEELED)]
    for side in (-1, 1):
        _park_cars(layout, cars, road, side)
        _plant_trees(layout, road, side)
        _furnish_pavement(layout, road, walk, side)
    for _ in range(int(rng.choice(4, p=[0.3, 0.4, 0.2, 0.1]))):
        model = layout.pick(cars)
        if model:
            side = rng.choice([-1, 1])
            start = np.array([side * road * rng.uniform(0.15, 0.35), rng.uniform(-12, 12)])
            path = motion.Path(start, 0.0 if side < 0 else np.pi, rng.uniform(1, 10))
            layout.add_dynamic(layout.use(model), model.name, place=path.place(layout.height))
    add_people(layout, int(rng.choice([0, 1, 2, 4, 6], p=[0.1, 0.3, 0.3, 0.2, 0.1])), 0.4)
    add_animals(layout, int(rng.random() < 0.15), 1.0)
    return finished(layout, world_scene)


def _park_cars(layout: Layout, cars: list[Model], road: float, side: int) -> None:
    """Park cars along the kerb."""
    rng = layout.rng
    z = -28.0
    while z < 26 and cars:
        model = layout.pick(cars)
        assert model is not None
        if rng.random() < 0.55 and model.depth_m < 7:
            at = (side * (road - model.width_m / 2 - 0.2), 0, z + model.depth_m / 2)
            layout.put(model, turned(rng.choice([0, np.pi]) + rng.normal(0, 0.03), at), 0.0)
        z += model.depth_m + rng.uniform(0.5, 6)


def _plant_trees(layout: Layout, road: float, side: int) -> None:
    """Plant trees of one kind in a row along the pavement."""
    rng = layout.rng
    step = rng.uniform(5, 11)
    tree = layout.pick([m for m in layout.models("Exterior") if has_word(m, TREES) and m.height_m > 1.5])
    for k in range(-4, 5):
        if tree and rng.random() < 0.6:
            x, z = side * (road + 0.6), k * step + rng.normal(0, 0.5)
            layout.put(tree, turned(rng.uniform(0, 6.3), (x, -KERB_M, z)), 0.0, size=np.array([0.5, 1, 0.5]))


def _furnish_pavement(layout: Layout, road: float, walk: float, side: int) -> None:
    """Put street furniture and lamps on the pavement."""
    rng = layout.rng
    furniture = [
        m
        for m in layout.models("Exterior", "Lights")
        if has_word(m, ("lamppost", "farola", "candelabre", "park-light"))
        or (m.category == "Exterior" and m.height_m > 0.4 and max(m.width_m, m.depth_m) < 2 and _stands(m))
    ]
    for _ in range(int(rng.integers(2, 10))):
        model = layout.pick(furniture)
        if model:
            x, z = side * (road + rng.uniform(0.4, walk - 0.4)), rng.uniform(-15, 15)
            layout.put(model, turned(rng.choice(4) * np.pi / 2 + rng.normal(0, 0.1), (x, -KERB_M, z)), 0.05)


def _stands(model: Model) -> bool:
    """Whether a model stands on the ground: it is no road marking or pool, and does not hang."""
    return not has_word(model, GROUND_MARKS) and model.elevation_m < 0.05


def _house_fronts(layout: Layout, x: float, side: int) -> None:
    """Add a row of houses with fronts at x; some gaps, some doors and steps."""
    rng = layout.rng
    z = -60.0
    while z < 60:
        wide, storeys = rng.uniform(6, 18), int(rng.integers(1, 7))
        storey = rng.uniform(2.7, 3.6)
        if rng.random() < 0.88:
            deep, high = rng.uniform(6, 12), storeys * storey
            at = x + side * (deep / 2 + rng.choice([0, 0, 0.4, 1.5]))
            _house(layout, np.array([deep, high, wide]), turned(0, (at, 0, z + wide / 2)), storey)
            roof = plain_materials(np.square(patterns.random_colour(rng, 0.4, 0.15, 0.5)))
            layout.add_static(build.box(np.array([deep + 0.5, 0.25, wide]), roof), turned(0, (at, -high, z + wide / 2)), "roof")
        z += wide + (rng.uniform(1, 5) if rng.random() < 0.15 else 0.0)


def make_garden(assets: Assets, split: str, rng: np.random.Generator, pictures: Sequence[Path]) -> WorldScene:
    """Make a garden: uneven ground with trees, bushes, rocks, furniture, perhaps a house or a fence; people and animals."""
    half = rng.uniform(6, 16)
    layout = Layout(assets, split, half, half, 0.15, rng)
    world_scene = _outdoors(layout, haze=float(rng.choice([0, 0, 0.003, 0.01, 0.03])))
    n = 49
    bumps = patterns.noise(int(rng.integers(40)), 2.0)[:: 256 // n, :: 256 // n, 0][:n, :n] * rng.choice([0.0, 0.05, 0.15, 0.3])
    heights = bumps.astype(np.float64)
    layout.height = grid_height(heights, half)
    lawn = surface(layout, (patterns.grass, patterns.grass, patterns.grass, patterns.rough, patterns.paving), pictures, 0.0, 0.02)
    layout.add_static(build.ground(half, heights, lawn, rng.uniform(1.0, 3.0)), name="ground")
    far = surface(layout, (patterns.grass, patterns.rough), pictures)
    layout.add_static(build.ground(150.0, np.full((2, 2), -0.35), far, rng.uniform(2, 5)), name="far")
    if rng.random() < 0.5:
        _house_behind(layout)
    exterior = layout.models("Exterior")
    trees = [m for m in exterior if has_word(m, TREES)]
    some = [trees[int(k)] for k in rng.integers(len(trees), size=min(3, len(trees)))] if trees else []
    for _ in range(int(rng.integers(3, 20)) if some else 0):
        model = some[int(rng.integers(len(some)))]
        x, z = rng.uniform(-1, 1, 2) * layout.half
        matrix = turned(rng.uniform(0, 6.3), (x, -layout.height(np.array([x, z])) + 0.03, z))
        layout.put(model, matrix, 0.0, size=np.array([0.8, 1, 0.8]))
    objects = [
        m for m in exterior + layout.models("Vehicles") if not has_word(m, TREES) and max(m.width_m, m.depth_m) < 5 and _stands(m)
    ]
    tables = layout.scatter(objects, int(rng.integers(4, 20)))
    for item in tables:
        if "table" in item.name.lower():
            layout.on_top(item, small_models(layout), 4)
    if rng.random() < 0.4:
        _fence(layout)
    if rng.random() < 0.75:
        _distance(layout)
    add_people(layout, int(rng.choice(5, p=[0.15, 0.35, 0.25, 0.15, 0.1])), 0.4)
    add_animals(layout, int(rng.choice(4, p=[0.3, 0.4, 0.2, 0.1])), 3.0)
    add_loose_objects(layout, int(rng.integers(0, 3)))
    return finished(layout, world_scene)


def _house_behind(layout: Layout) -> None:
    """Add a house along one border."""
    rng, (hx, hz) = layout.rng, layout.half
    size = np.array([rng.uniform(6, 2 * hx), int(rng.integers(1, 4)) * 2.9, 6.0])
    place = turned(rng.choice([0, np.pi / 2]), (0, 0, 0)) @ turned(0, (rng.uniform(-0.3, 0.3) * hx, 0.3, hz + 2.5))
    _house(layout, size, place, 2.9)


def _distance(layout: Layout) -> None:
    """Add trees and houses beyond the garden."""
    rng = layout.rng
    kinds = [layout.texture_set.material(patterns.leafage(rng)) for _ in range(3)]
    heading, spread = rng.uniform(0, 2 * np.pi), rng.uniform(1.5, 2 * np.pi)
    for _ in range(int(rng.integers(10, 90))):
        angle, away = heading + rng.uniform(-0.5, 0.5) * spread, layout.half[0] * 1.5 + rng.exponential(15)
        at = (np.cos(angle) * away, 0.35, np.sin(angle) * away)
        if rng.random() < 0.92:
            high = rng.uniform(2, 9)
            tree = build.cards(high * rng.uniform(0.5, 0.9), high, kinds[int(rng.integers(3))])
            layout.add_static(tree, turned(rng.uniform(0, 6.3), at), "tree")
        elif away > layout.half[0] * 1.5 + 8:
            size = np.array([rng.uniform(6, 14), rng.uniform(3, 12), rng.uniform(6, 12)])
            _house(layout, size, turned(rng.uniform(0, 6.3), at), 2.9)


def _house(layout: Layout, size: np.ndarray, place: np.ndarray, storey_m: float) -> None:
    """Add a box with windows on its sides, in storeys of about `storey_m`."""
    front = layout.texture_set.material(patterns.facade(layout.rng))
    mesh = build.box(size, front, 1.0)
    width, storeys = float(max(size[0], size[2])), max(1, round(size[1] / storey_m))
    axes = max(1, round(width / layout.rng.uniform(2.2, 3.6)))
    scale = np.array([axes / width, storeys / size[1]], np.float32)
    layout.add_static(replace(mesh, uv=mesh.uv * scale), place, "house")


def _fence(layout: Layout) -> None:
    """Add a fence of boards along one border."""
    rng, (hx, hz) = layout.rng, layout.half
    material = layout.texture_set.material(patterns.wood(rng))
    high, step = rng.uniform(0.8, 2.0), rng.uniform(0.14, 0.4)
    z = -hz + 0.2
    for x in np.arange(-hx, hx, step):
        board = build.box(np.array([min(step * 0.85, 0.2), high, 0.03]), material)
        layout.add_static(board, turned(0, (x, -layout.height(np.array([x, z])) + 0.05, z)), "fence")


def _outdoors(layout: Layout, haze: float) -> WorldScene:
    """Make the scene of a layout with sky and sun."""
    rng = layout.rng
    sky = draw_sky(layout, 0.55)
    cloudy = rng.random() < 0.3
    lights = draw_sun(rng, 0.25, 60.0 if cloudy else rng.uniform(0.5, 4.0))
    if cloudy:
        lights[0] = Light(lights[0].position, lights[0].radius, lights[0].power * 0.3, True)
    if rng.random() < 0.1:  # night, with a street lamp
        at = np.array([rng.uniform(-5, 5), -rng.uniform(3, 6), rng.uniform(-6, 6)])
        sky, lights = sky * np.float32(0.06), [Light(at, 0.3, np.array([14.0, 9, 4]))]
    mean = sky[: sky.shape[0] // 2].mean((0, 1))
    ambient = np.minimum(mean, 1.0) * 0.35 + 0.1 * sum(x.power for x in lights if x.sun) + 0.02
    return WorldScene([], lights, sky, layout.texture_set.textures(), ambient, haze)
