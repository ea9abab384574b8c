"""Scenes from a random number: rooms, table tops, streets, gardens, with people, animals, cars and small things that move."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from st4rtrack.data.world import build, motion, patterns, people
from st4rtrack.data.world.assets import Assets, Model
from st4rtrack.data.world.layout import Layout, surface_height
from st4rtrack.data.world.mesh import Materials, Mesh, plain_materials
from st4rtrack.data.world.objects import Light, SceneObject, WorldScene, turned

SETTINGS = ("room", "table", "street", "garden")
SETTING_SHARES = (0.42, 0.16, 0.2, 0.22)
ANIMALS = ("chicken", "horse2", "bulldog", "horse", "siameseCat", "cat", "dog", "rabbit")
SITTING_WORDS = ("sit", "lying")
WHEELED = ("ford", "sedan", "beetle", "seat_leon", "peugeot", "renault", "suv", "chevrolet", "van", "smart", "truck", "bus")
TREES = (
    "bush", "hedge", "acacia", "bamboo", "ficus", "blue", "coconut", "beech", "cypress", "maple", "poplar", "palm", "peach", "pine",
    "sabal",
)  # fmt: skip
GROUND_MARKS = ("fleche", "stationnement", "passage", "rails", "concrete-sidewalk", "swimming-pool", "diving", "entry-bell")
LONGEST_S = 6.0
SEATS = ("chair", "sofa", "couch", "bench", "stool")
HIPS_M = 0.1
"""Height of the pelvis' middle above a seat."""


def is_animal(model: Model) -> bool:
    """Dogs, cats, horses ..."""
    return model.category == "Characters" and model.name.split("-", 1)[1].split("-")[-1] in ANIMALS


def is_person(model: Model) -> bool:
    """A person with the clothes of its own texture."""
    return model.category == "Characters" and not is_animal(model)


def _word(model: Model, words: Sequence[str]) -> bool:
    return any(word.lower() in model.name.lower() for word in words)


def small_models(layout: Layout) -> list[Model]:
    """Things that stand on tables."""
    kinds = ("Kitchen", "Office", "Living room", "Miscellaneous", "Bathroom", "Bedroom", "Lights")
    return [
        m for m in layout.models(*kinds)
        if max(m.width_m, m.depth_m) < 0.45 and 0.03 < m.height_m < 0.6 and m.elevation_m < 0.05
        and m.height_m < 5 * max(m.width_m, m.depth_m)
    ]  # fmt: skip


def _tables(layout: Layout) -> list[Model]:
    return [
        m for m in layout.models("Living room", "Office", "Kitchen", "Exterior", "Miscellaneous")
        if ("table" in m.title.lower() or "desk" in m.title.lower() or "cabinet" in m.title.lower() or "island" in m.title.lower())
        and 0.35 < m.height_m < 1.1 and m.width_m > 0.5 and m.elevation_m < 0.05
    ]  # fmt: skip


def make_scene(
    assets: Assets, split: str, rng: np.random.Generator, setting: str | None = None, pictures: Sequence[Path] = ()
) -> WorldScene:
    """A scene.

    Args:
        assets: models, skies, people.
        split: "train" or "validation": which models, bodies, skies and pictures are used.
        rng: draws everything.
        setting: one of `SETTINGS`, None for a mixture.
        pictures: photographs of the split, for frames on walls, carpets and some surfaces.
    """
    setting = setting or str(rng.choice(SETTINGS, p=SETTING_SHARES))
    make = {"room": _room, "table": _table, "street": _street, "garden": _garden}[setting]
    world_scene = make(assets, split, rng, pictures)
    world_scene.notes["setting"] = setting
    return world_scene


def _picture(layout: Layout, pictures: Sequence[Path]) -> np.ndarray:
    """A photograph, or an image by formula."""
    if len(pictures):
        image = patterns.read_picture(pictures[int(layout.rng.integers(len(pictures)))], layout.rng)
        if image is not None:
            return image
    return patterns.cloth(layout.rng)


def _surface(layout: Layout, makers: Sequence, pictures: Sequence[Path], gloss: float = 0.0, photo: float = 0.05) -> Materials:
    """A material of a wall or floor: a pattern, or now and then a photograph mirrored into a tile."""
    if len(pictures) and layout.rng.random() < photo:
        return layout.texture_set.material(patterns.mirrored_tile(_picture(layout, pictures)), gloss)
    return layout.texture_set.material(makers[int(layout.rng.integers(len(makers)))](layout.rng), gloss)


def _fixed(layout: Layout, mesh: Mesh, matrix: np.ndarray | None = None, name: str = "") -> SceneObject:
    item = SceneObject(mesh, np.eye(4) if matrix is None else matrix, name=name)
    layout.objects.append(item)
    return item


# Rooms


def _room(assets: Assets, split: str, rng: np.random.Generator, pictures: Sequence[Path]) -> WorldScene:
    layout = Layout(assets, split, rng.uniform(1.6, 3.8), rng.uniform(1.6, 4.2), 0.05, rng)
    world_scene = _shell(layout, pictures)
    _furnish(layout, pictures)
    _people_in(layout, int(rng.choice(4, p=[0.15, 0.45, 0.28, 0.12])), 0.28)
    _animals_in(layout, int(rng.random() < 0.25), 1.0)
    _loose_things(layout, int(rng.integers(0, 3)))
    return _finish(layout, world_scene)


def _shell(layout: Layout, pictures: Sequence[Path]) -> WorldScene:
    """Floor, ceiling, walls with windows and doors, lamps."""
    rng, (hx, hz) = layout.rng, layout.half
    height = rng.uniform(2.35, 3.3)
    polished = rng.uniform(0.02, 0.07) if rng.random() < 0.5 else 0.0
    floor = _surface(layout, patterns.FLOORS, pictures, polished, 0.06)
    tile = rng.uniform(0.9, 2.2)
    _fixed(layout, build.ground(1.0, np.zeros((2, 2)), floor, tile / max(hx, hz)), np.diag([hx + 0.2, 1, hz + 0.2, 1]), "floor")
    ceiling = plain_materials(np.square(patterns.random_colour(rng, 0.1, 0.8, 0.98)))
    _fixed(
        layout,
        build.rectangle(np.array([-hx, -height, -hz]), np.array([2 * hx, 0, 0]), np.array([0, 0, 2 * hz]), ceiling),
        name="ceiling",
    )
    paint = _surface(layout, patterns.WALLS, pictures, 0.0, 0.02)
    corners = [np.array(c) for c in ((hx, -hz), (-hx, -hz), (-hx, hz), (hx, hz))]
    trim = plain_materials(np.square(patterns.random_colour(rng, 0.3, 0.3, 0.95)))
    windows: list[tuple[np.ndarray, np.ndarray]] = []
    for k in range(4):
        start, end = corners[k], corners[(k + 1) % 4]
        length = float(np.linalg.norm(end - start))
        openings: list[tuple[float, float, float, float]] = []
        if rng.random() < 0.5 and length > 2:
            at = rng.uniform(0.3, 0.5)
            while at < length - 1.4:
                wide = min(rng.uniform(0.7, 1.8), length - at - 0.3)
                sill = rng.choice([0.02, 0.8, 1.0], p=[0.15, 0.45, 0.4])
                openings.append((at, at + wide, sill, rng.uniform(1.9, height - 0.2)))
                at += wide + rng.uniform(0.3, 2.0)
        direction = (end - start) / length
        for a, b, low, high in openings:
            middle = start + direction * (a + b) / 2
            half = np.array([[direction[0] * (b - a) / 2, 0, direction[1] * (b - a) / 2], [0, (high - low) / 2, 0]])
            windows.append((np.array([middle[0], -(low + high) / 2, middle[1]]), half))
        own = _surface(layout, patterns.WALLS, pictures, 0.0, 0.02) if rng.random() < 0.2 else paint
        _fixed(layout, build.wall(start, end, height, own, rng.uniform(1.5, 3.0), openings), name="wall")
        _window_frames(layout, start, end, openings, trim)
        _on_wall(layout, start, end, height, openings, pictures)
        skirting = build.box(np.array([length, rng.uniform(0.05, 0.14), 0.02]), trim)
        middle = (start + end) / 2
        _fixed(layout, skirting, turned(float(np.arctan2(-direction[1], direction[0])), (middle[0], 0, middle[1])), "skirting")
    lights: list[Light] = []
    day = bool(windows) and rng.random() < 0.75
    warm = np.array([1.0, rng.uniform(0.75, 1.0), rng.uniform(0.5, 1.0)])
    for _ in range(int(rng.integers(1, 3)) if not day or rng.random() < 0.5 else 0):
        at = np.array([rng.uniform(-0.6, 0.6) * hx, -height + rng.uniform(0.12, 0.6), rng.uniform(-0.6, 0.6) * hz])
        radius = rng.uniform(0.06, 0.25)
        lights.append(Light(at, radius * 1.3, warm * rng.uniform(2.0, 6.0)))
        _fixed(layout, build.ball(radius, warm * 12), turned(0.0, at), "lamp")
        if at[1] > -height + 0.3:
            _fixed(
                layout,
                build.box(np.array([0.015, height + at[1] - radius, 0.015]), plain_materials([0.02] * 3)),
                turned(0, at - [0, radius, 0]),
            )
    sky = _sky(layout, 0.6)
    if day:
        lights += _sun(rng, low=0.3) if rng.random() < 0.6 else []
        sky = sky * np.float32(rng.uniform(1.0, 3.0))
        bright = sky[len(sky) // 4 : 3 * len(sky) // 4].mean((0, 1))
        shining = rng.permutation(len(windows))[:2]
        bright = bright * len(windows) / len(shining)
        windows = [windows[int(k)] for k in shining]
        lights += [
            Light(at, 0.0, bright * (4 / np.pi * float(np.linalg.norm(half[0]) * np.linalg.norm(half[1]))), window=half)
            for at, half in windows
        ]
    else:
        sky = sky * np.float32(rng.uniform(0.01, 0.3))
    level = 0.25 * sum(light.power.mean() / (3.0 if light.sun else 4.0) for light in lights) + 0.03
    return WorldScene(
        [], lights, sky.astype(np.float32), layout.texture_set.textures(), warm * min(level, 1.2) * rng.uniform(0.5, 1.0)
    )


def _window_frames(
    layout: Layout, start: np.ndarray, end: np.ndarray, openings: list[tuple[float, float, float, float]], trim: Materials
) -> None:
    """Bars in the openings, and curtains beside some."""
    rng = layout.rng
    along = (end - start) / np.linalg.norm(end - start)
    yaw = float(np.arctan2(-along[1], along[0]))
    cloth = layout.texture_set.material(patterns.cloth(rng)) if rng.random() < 0.5 else None

    def bar(a: float, b: float, low: float, high: float, deep: float, material: Materials, inward: float = 0.0) -> None:
        middle = start + along * (a + b) / 2 + np.array([along[1], -along[0]]) * inward
        mesh = build.box(np.array([b - a, high - low, deep]), material, 0.7)
        _fixed(layout, mesh, turned(yaw, (middle[0], -low, middle[1])), "frame")

    for a, b, low, high in openings:
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


def _on_wall(
    layout: Layout,
    start: np.ndarray,
    end: np.ndarray,
    height: float,
    openings: list[tuple[float, float, float, float]],
    pictures: Sequence[Path],
) -> None:
    """Framed pictures, doors and whatever hangs on walls."""
    rng = layout.rng
    length = float(np.linalg.norm(end - start))
    along = (end - start) / length
    inward = np.array([along[1], -along[0]])
    yaw = float(np.arctan2(-inward[0], -inward[1]))
    busy = [(a - 0.3, b + 0.3) for a, b, _, _ in openings]
    hanging = [
        m
        for m in layout.models()
        if m.elevation_m > 0.4 and m.category not in ("Doors and windows", "Exterior") and m.depth_m < 0.7 and m.width_m < 1.8
    ]
    doors = [m for m in layout.models("Doors and windows") if "door" in m.title.lower() and m.height_m < height]
    for _ in range(int(rng.integers(1, 6))):
        kind = rng.random()
        model = layout.pick(doors) if kind < 0.15 else layout.pick(hanging) if kind < 0.5 else None
        wide = model.width_m if model else rng.uniform(0.3, 1.1)
        if length < wide + 0.4:
            continue
        at = rng.uniform(wide / 2 + 0.1, length - wide / 2 - 0.1)
        if any(at + wide / 2 > a and at - wide / 2 < b for a, b in busy):
            continue
        busy.append((at - wide / 2 - 0.05, at + wide / 2 + 0.05))
        centre = start + along * at
        if model:
            if model.elevation_m + model.height_m > height:
                continue
            centre = centre + inward * (model.depth_m / 2 - (0.06 if kind < 0.15 else -0.005))
            up = 0.0 if kind < 0.15 else model.elevation_m
            matrix = turned(yaw, (centre[0], -up, centre[1]))
            layout.add(model, matrix)
            if up < 1.2 or kind < 0.15:
                layout.take(
                    layout.footprint(np.array([model.width_m, 1, model.depth_m + (0.5 if kind < 0.15 else 0.1)]), matrix, 0.0)
                )
        else:
            high = wide * rng.uniform(0.6, 1.4)
            base = rng.uniform(1.1, 1.6)
            if base + high > height - 0.1:
                continue
            centre = centre + inward * 0.02
            border = plain_materials(np.square(patterns.random_colour(rng, 0.4, 0.05, 0.9)), gloss=0.04)
            _fixed(
                layout,
                build.box(np.array([wide + 0.08, high + 0.08, 0.03]), border),
                turned(yaw, (centre[0], -base + 0.04, centre[1])),
                "frame",
            )
            front = centre + inward * 0.017
            side = -along * wide / 2
            image = layout.texture_set.material(_picture(layout, pictures), 0.02)
            corner = np.array([front[0] - side[0], -base, front[1] - side[1]])
            _fixed(
                layout,
                build.rectangle(corner, np.array([2 * side[0], 0, 2 * side[1]]), np.array([0, -high, 0]), image),
                name="picture",
            )


def _furnish(layout: Layout, pictures: Sequence[Path]) -> None:
    """Furniture along the walls, tables with chairs, things on top, a carpet."""
    rng = layout.rng
    theme = str(
        rng.choice(
            ["Living room", "Bedroom", "Kitchen", "Office", "Bathroom", "Miscellaneous"], p=[0.34, 0.18, 0.16, 0.15, 0.07, 0.1]
        )
    )
    standing = [
        m for m in layout.models(theme, "Living room" if rng.random() < 0.5 else theme, "Lights")
        if m.elevation_m < 0.05 and max(m.width_m, m.depth_m) > 0.25 and m.height_m > 0.3 and max(m.width_m, m.depth_m) < 2.6
    ]  # fmt: skip
    small = small_models(layout)
    if rng.random() < 0.45:
        size = rng.uniform(1.2, 2.8, 2)
        at = rng.uniform(-0.3, 0.3, 2) * layout.half
        carpet = layout.texture_set.material(_picture(layout, pictures) if rng.random() < 0.4 else patterns.wallpaper(rng))
        mesh = build.box(np.array([size[0], 0.012, size[1]]), carpet, size[0])
        _fixed(layout, mesh, turned(rng.uniform(0, 0.3), (at[0], 0, at[1])), "carpet")
    if rng.random() < 0.7:
        table = layout.pick(_tables(layout))
        if table:
            yaw = rng.choice([0, np.pi / 2]) + rng.normal(0, 0.1)
            item = layout.put(
                table,
                turned(yaw, (*(rng.uniform(-0.4, 0.4) * layout.half[:1]), 0, rng.uniform(-0.4, 0.4) * layout.half[1])),
                0.05,
            )
            if item:
                layout.on_top(item, small, int(rng.integers(1, 7)))
                _chairs(layout, item, yaw)
    for _ in range(int(rng.integers(5, 16))):
        model = layout.pick(standing)
        if model is None:
            break
        for _ in range(6):
            matrix = (
                _against_wall(layout, model)
                if rng.random() < 0.85
                else turned(
                    rng.uniform(0, 6.3), (*(rng.uniform(-1, 1, 1) * layout.half[0]), 0, rng.uniform(-1, 1) * layout.half[1])
                )
            )
            item = layout.put(model, matrix)
            if item:
                if model.height_m < 1.5 and rng.random() < 0.7 and "chair" not in model.title.lower():
                    layout.on_top(item, small, int(rng.integers(1, 4)))
                break
    layout.scatter([m for m in small if m.height_m > 0.08], int(rng.integers(0, 4)))


def _against_wall(layout: Layout, model: Model) -> np.ndarray:
    """A pose with the back at a random wall."""
    rng, (hx, hz) = layout.rng, layout.half
    side = int(rng.integers(4))
    gap = model.depth_m / 2 + 0.06
    along = rng.uniform(-1, 1)
    x, z, normal = [
        (-hx + gap, along * hz, (1, 0)), (hx - gap, along * hz, (-1, 0)), (along * hx, -hz + gap, (0, 1)), (along * hx, hz - gap, (0, -1)),
    ][side]  # fmt: skip
    return turned(float(np.arctan2(-normal[0], -normal[1])), (x, 0, z))


def _chairs(layout: Layout, table: SceneObject, yaw: float) -> None:
    """Chairs of one kind around a table, facing it."""
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


def _table(assets: Assets, split: str, rng: np.random.Generator, pictures: Sequence[Path]) -> WorldScene:
    """A room whose middle is a table with many things, of which some are taken and put down."""
    layout = Layout(assets, split, rng.uniform(1.6, 3.0), rng.uniform(1.6, 3.0), 0.05, rng)
    world_scene = _shell(layout, pictures)
    table = layout.pick(_tables(layout))
    small = small_models(layout)
    if table is not None and rng.random() < 0.6:
        top = layout.put(table, turned(rng.uniform(0, 6.3), (0, 0, 0)))
    else:
        size = np.array([rng.uniform(0.9, 1.8), rng.uniform(0.4, 0.8), rng.uniform(0.7, 1.2)])
        material = _surface(
            layout,
            (patterns.wood, patterns.wood, patterns.tiles, patterns.cloth, patterns.plaster),
            pictures,
            rng.choice([0, 0.05]),
            0.2,
        )
        top = _fixed(layout, build.box(size, material, rng.uniform(0.5, 1.5)), turned(rng.uniform(0, 6.3), (0, 0, 0)), "table")
        layout.take(layout.footprint(size, top.matrix(0.0), 0.05))
    placed = layout.on_top(top, small, int(rng.integers(3, 14)), 0.85) if top else []
    if top:
        world_scene.notes["focus"] = top.matrix(0.0)[:3, 3] - np.array([0, top.mesh.size[1], 0])
    for item in placed:
        if rng.random() < 0.3:
            _pick_up(layout, item)
    _furnish(layout, pictures)
    _people_in(layout, int(rng.choice(2, p=[0.4, 0.6])), 0.2)
    return _finish(layout, world_scene)


def _replace(layout: Layout, item: SceneObject, place: motion.Place) -> None:
    """Replace a static object by the same one, moving."""
    moved = SceneObject(item.mesh, place, moves=True, subject=True, name=item.name)
    layout.objects = [moved if other is item else other for other in layout.objects]


def _pick_up(layout: Layout, item: SceneObject) -> None:
    """Lifted, turned and put down, or pushed over the table."""
    rng = layout.rng
    lift = rng.uniform(0.05, 0.3) if rng.random() < 0.6 else 0.0
    drift = rng.normal(0, 0.06, 2)
    _replace(
        layout, item, motion.picked_up(item.matrix(0.0), lift, drift, rng.normal(0, 1.5), rng.uniform(0, 1), rng.uniform(1, 3))
    )


# Dynamic objects


def _moving(layout: Layout, mesh: Mesh, place: motion.Place | np.ndarray, posed: object = None, name: str = "") -> None:
    layout.objects.append(SceneObject(mesh, place, posed, True, True, name))  # type: ignore[arg-type]


def _spot(layout: Layout, clearance: float) -> np.ndarray | None:
    spots = layout.free_spots(clearance)
    return spots[int(layout.rng.integers(len(spots)))] if len(spots) else None


def _path(layout: Layout, clearance: float, speed: float) -> motion.Path | None:
    """A path over free ground for the length of a scene, or as much of it as there is."""
    rng = layout.rng
    best, longest = None, -1.0
    for _ in range(12):
        start = _spot(layout, clearance)
        if start is None:
            return None
        path = motion.Path(start, rng.uniform(0, 2 * np.pi), speed, rng.normal(0, 0.25))
        steps = np.linspace(0, LONGEST_S, 25)
        cells = np.round((np.array([path.at(t)[0] for t in steps]) + layout.half) / layout.cell_m).astype(int)
        inside: np.ndarray = np.all((cells >= 0) & (cells < np.array(layout.taken.shape[::-1])), axis=1)
        column, row = np.where(inside[:, None], cells, 0).T
        blocked = np.flatnonzero(~inside | (layout.taken[row, column] > 0))
        free = float(steps[blocked[0]]) if len(blocked) else LONGEST_S
        if free > longest:
            best, longest = path, free
    if best is not None and longest < LONGEST_S:
        slower = max(longest - 0.3, 0.0) / LONGEST_S
        best = motion.Path(best.start, best.yaw, best.speed * slower, best.turn * slower)
    return best


def _people_in(layout: Layout, count: int, clearance: float) -> None:
    """People who walk, turn, lift their arms, sit or crouch; some carry an object."""
    rng = layout.rng
    ready = [m for m in layout.models("Characters") if is_person(m)]
    for _ in range(count):
        spot = _spot(layout, clearance)
        if spot is None:
            return
        yaw = rng.uniform(0, 2 * np.pi)
        place = turned(yaw, (spot[0], -layout.height(spot), spot[1]))
        body = layout.make_body() if rng.random() < 0.7 or not ready else None
        area = layout.footprint(np.array([0.4, 1, 0.4]), place, 0.0)
        if body is None:
            _ready_person(layout, ready[int(rng.integers(len(ready)))], place, clearance)
        elif rng.random() < 0.3 and _sit(layout, body):
            continue
        elif rng.random() < 0.45:
            path = _path(layout, clearance, rng.uniform(0.5, 1.5))
            if path is not None and path.speed > 0.15:
                _moving(layout, body.mesh, np.eye(4), motion.walker(body, path, layout.height, rng.uniform(0, 6)), "person")
                for t in np.linspace(0, LONGEST_S, 10):
                    at = path.at(float(t))[0]
                    layout.take(layout.footprint(np.array([0.4, 1, 0.4]), turned(0, (at[0], 0, at[1])), 0.0))
                continue
            _act(layout, body, place)
        else:
            _act(layout, body, place)
        layout.take(area)


def _sit(layout: Layout, body: people.Body) -> bool:
    """Seat a person on a free chair, sofa or bench, if there is one."""
    rng = layout.rng
    seats = [
        t for t in layout.objects if not t.moves and any(word in t.name.lower() for word in SEATS) and t.name not in layout.seated
    ]
    if not seats:
        return False
    seat = seats[int(rng.integers(len(seats)))]
    top = surface_height(seat.mesh, np.array([0.0, -0.05]), 0.1)
    if top is None or not -0.75 < top < -0.3:
        return False
    layout.seated.append(seat.name)
    place = seat.matrix(0.0) @ turned(rng.normal(0, 0.1), (0, 0, 0.02))
    poses = []
    for k in rng.integers(len(people.GESTURES), size=4):
        gesture = people.GESTURES[int(k)]
        arms = replace(people.SITTING, swing=gesture.swing, elbow=gesture.elbow, look=gesture.look, nod=gesture.nod)
        poses += [people.SITTING, people.blend(people.SITTING, arms, rng.uniform(0.4, 1.0))]
    _moving(
        layout, body.mesh, np.eye(4), motion.Acting(body, tuple(poses), rng.uniform(0.7, 2.0), place, 0.0, HIPS_M - top), "person"
    )
    return True


def _act(layout: Layout, body: people.Body, place: np.ndarray) -> None:
    """A person on the spot."""
    rng = layout.rng
    stand = people.Pose(swing=tuple(rng.normal(0.05, 0.12, 2)), elbow=tuple(rng.uniform(0.1, 0.6, 2)), look=rng.normal(0, 0.3))
    gestures = [people.GESTURES[int(k)] for k in rng.integers(len(people.GESTURES), size=4)]
    poses = [stand]
    for gesture in gestures:
        poses += [people.blend(stand, gesture, rng.uniform(0.5, 1.1))] + ([stand] if rng.random() < 0.4 else [])
    if rng.random() < 0.5:
        poses = poses[1:]
    turn = rng.normal(0, 0.5) if rng.random() < 0.4 else 0.0
    acting = motion.Acting(body, tuple(poses), rng.uniform(0.7, 2.0), place, turn)
    _moving(layout, body.mesh, np.eye(4), acting, "person")
    if rng.random() < 0.3:
        model = layout.pick([m for m in small_models(layout) if max(m.width_m, m.depth_m) < 0.3])
        if model:
            mesh = layout.texture_set.adopt(layout.assets.mesh(model.name))
            _moving(layout, mesh, acting.held("R", np.array([0, mesh.size[1] * 0.3, 0])), None, model.name)
            layout.models_used.append(model.name)


def _ready_person(layout: Layout, model: Model, place: np.ndarray, clearance: float) -> None:
    """A person with photographed clothes, who sways, slides along a path or turns."""
    rng = layout.rng
    mesh = layout.texture_set.adopt(layout.assets.mesh(model.name))
    layout.models_used.append(model.name)
    still = _word(model, SITTING_WORDS)
    path = None if still or rng.random() < 0.5 else _path(layout, clearance, rng.uniform(0.3, 1.2))
    if path is not None:
        _moving(
            layout,
            mesh,
            np.eye(4),
            motion.bending(mesh, path.place(layout.height), rng.uniform(0.1, 0.3), 4.0, rng.uniform(0, 6)),
            model.name,
        )
        return
    turn = 0.0 if still else rng.normal(0, 0.4)
    amount = rng.uniform(0.05, 0.2) if still else rng.uniform(0.1, 0.5)
    spin = lambda t: place @ turned(turn * t, (0, 0, 0))  # noqa: E731
    _moving(layout, mesh, np.eye(4), motion.bending(mesh, spin, amount, rng.uniform(1, 3), rng.uniform(0, 6)), model.name)


def _animals_in(layout: Layout, count: int, largest_m: float) -> None:
    """Animals that walk or stand."""
    rng = layout.rng
    models = [m for m in layout.models("Characters") if is_animal(m) and m.depth_m < largest_m]
    for _ in range(count):
        model = layout.pick(models)
        if model is None:
            return
        path = _path(layout, 0.3 if model.depth_m < 1 else 1.2, rng.uniform(0.1, 0.9) * max(model.height_m, 0.4))
        if path is None:
            return
        mesh = layout.texture_set.adopt(layout.assets.mesh(model.name))
        layout.models_used.append(model.name)
        _moving(layout, mesh, np.eye(4), motion.striding(mesh, path, layout.height, rng.uniform(3, 9)), model.name)
        layout.take(layout.footprint(mesh.size, turned(path.yaw, (path.start[0], 0, path.start[1])), 0.1))


def _loose_things(layout: Layout, count: int) -> None:
    """Balls that drop and roll, toys that drive, boxes that are pushed: on the ground nearly always."""
    rng = layout.rng
    balls = [
        m
        for m in layout.models("Miscellaneous")
        if _word(m, ("ball",)) and max(m.width_m, m.height_m) < 1.1 * min(m.depth_m, m.height_m)
    ]
    for _ in range(count):
        spot = _spot(layout, 0.3)
        if spot is None:
            return
        rest = turned(rng.uniform(0, 6.3), (spot[0], -layout.height(spot), spot[1]))
        model = layout.pick(balls)
        if rng.random() < 0.4 and model:
            mesh = layout.texture_set.adopt(layout.assets.mesh(model.name))
            place = motion.falling(
                rest, model.height_m / 2, rng.uniform(0.02, 1.2), rng.normal(0, 0.4, 2), int(rng.choice([0, 2]))
            )
            _moving(layout, mesh, place, None, model.name)
            layout.models_used.append(model.name)
            continue
        model = layout.pick([m for m in small_models(layout) if m.height_m > 0.1])
        if model is None:
            return
        mesh = layout.texture_set.adopt(layout.assets.mesh(model.name))
        layout.models_used.append(model.name)
        path = _path(layout, 0.25, rng.uniform(0.05, 0.5))
        lift = rng.uniform(0.2, 0.8) if rng.random() < 0.25 else 0.0
        place = (
            motion.picked_up(rest, lift, rng.normal(0, 0.3, 2), rng.normal(0, 2), rng.uniform(0, 1), rng.uniform(1, 3))
            if lift or path is None
            else path.place(layout.height)
        )
        _moving(layout, mesh, place, None, model.name)


# Outdoors


def _street(assets: Assets, split: str, rng: np.random.Generator, pictures: Sequence[Path]) -> WorldScene:
    """A road along z with pavements, house fronts, trees, parked and moving cars, people."""
    road, walk = rng.uniform(2.8, 5.5), rng.uniform(1.8, 4.5)
    layout = Layout(assets, split, road + walk, 30.0, 0.2, rng)
    world_scene = _outdoors(layout, haze=float(rng.choice([0, 0, 0.003, 0.01])))
    asphalt = _surface(layout, (patterns.asphalt, patterns.asphalt, patterns.paving, patterns.rough), pictures, 0.0, 0.03)
    _fixed(layout, build.ground(70.0, np.zeros((2, 2)), asphalt, rng.uniform(1.5, 4)), name="road")
    pavement = _surface(layout, (patterns.paving, patterns.rough, patterns.tiles), pictures, 0.0, 0.05)
    for side in (-1, 1):
        kerb = build.box(np.array([walk, 0.13, 140.0]), pavement, rng.uniform(1, 2.5))
        _fixed(layout, kerb, turned(0, (side * (road + walk / 2), 0, 0)), "pavement")
        _house_fronts(layout, side * (road + walk), side)
    paint = plain_materials([0.7, 0.7, 0.65])
    for k in range(-14, 15) if rng.random() < 0.7 else ():
        _fixed(layout, build.box(np.array([0.12, 0.006, 1.8]), paint), turned(0, (0, 0, k * 4.0)), "mark")
    kerb_m = 0.13
    layout.heights = None
    level = lambda at: kerb_m if abs(at[0]) > road else 0.0  # noqa: E731
    layout.height = level  # type: ignore[method-assign]
    cars = [m for m in layout.models("Vehicles") if _word(m, WHEELED)]
    for side in (-1, 1):
        z = -28.0
        while z < 26 and cars:
            model = layout.pick(cars)
            assert model is not None
            if rng.random() < 0.55 and model.depth_m < 7:
                layout.put(
                    model,
                    turned(
                        rng.choice([0, np.pi]) + rng.normal(0, 0.03),
                        (side * (road - model.width_m / 2 - 0.2), 0, z + model.depth_m / 2),
                    ),
                    0.0,
                )
            z += model.depth_m + rng.uniform(0.5, 6)
        furniture = [
            m
            for m in layout.models("Exterior", "Lights")
            if (
                m.height_m > 0.4
                and m.width_m < 2
                and m.depth_m < 2
                and not _word(m, GROUND_MARKS)
                and m.elevation_m < 0.05
                and m.category != "Lights"
            )
            or _word(m, ("lamppost", "farola", "candelabre", "park-light"))
        ]
        trees = [m for m in layout.models("Exterior") if _word(m, TREES) and m.height_m > 1.5]
        step = rng.uniform(5, 11)
        tree = layout.pick(trees)
        for k in range(-4, 5):
            if tree and rng.random() < 0.6:
                x, z = side * (road + 0.6), k * step + rng.normal(0, 0.5)
                matrix = turned(rng.uniform(0, 6.3), (x, -kerb_m, z), 1.0)
                corners = layout.footprint(np.array([0.5, 1, 0.5]), matrix, 0.0)
                if layout.free(corners):
                    layout.take(corners)
                    layout.add(tree, matrix)
        for _ in range(int(rng.integers(2, 10))):
            model = layout.pick(furniture)
            if model:
                x, z = side * (road + rng.uniform(0.4, walk - 0.4)), rng.uniform(-15, 15)
                layout.put(model, turned(rng.choice(4) * np.pi / 2 + rng.normal(0, 0.1), (x, -kerb_m, z)), 0.05)
    for _ in range(int(rng.choice(4, p=[0.3, 0.4, 0.2, 0.1]))):
        model = layout.pick(cars)
        if model:
            side = rng.choice([-1, 1])
            mesh = layout.texture_set.adopt(assets.mesh(model.name))
            layout.models_used.append(model.name)
            start = np.array([side * road * rng.uniform(0.15, 0.35), rng.uniform(-12, 12)])
            _moving(
                layout, mesh, motion.Path(start, 0.0 if side < 0 else np.pi, rng.uniform(1, 10)).place(level), None, model.name
            )
    _people_in(layout, int(rng.choice([0, 1, 2, 4, 6], p=[0.1, 0.3, 0.3, 0.2, 0.1])), 0.4)
    _animals_in(layout, int(rng.random() < 0.15), 1.0)
    return _finish(layout, world_scene)


def _house_fronts(layout: Layout, x: float, side: int) -> None:
    """A row of houses whose fronts lie at x; some gaps, some doors and steps."""
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
            _fixed(layout, build.box(np.array([deep + 0.5, 0.25, wide]), roof), turned(0, (at, -high, z + wide / 2)), "roof")
        z += wide + (rng.uniform(1, 5) if rng.random() < 0.15 else 0.0)


def _garden(assets: Assets, split: str, rng: np.random.Generator, pictures: Sequence[Path]) -> WorldScene:
    """Uneven ground with trees, bushes, rocks, furniture, perhaps a house or a fence; people and animals."""
    half = rng.uniform(6, 16)
    layout = Layout(assets, split, half, half, 0.15, rng)
    world_scene = _outdoors(layout, haze=float(rng.choice([0, 0, 0.003, 0.01, 0.03])))
    n = 49
    bumps = patterns.noise(int(rng.integers(40)), 2.0)[:: 256 // n, :: 256 // n, 0][:n, :n] * rng.choice([0.0, 0.05, 0.15, 0.3])
    heights = bumps.astype(np.float64)
    layout.heights = heights
    lawn = _surface(
        layout, (patterns.grass, patterns.grass, patterns.grass, patterns.rough, patterns.paving), pictures, 0.0, 0.02
    )
    _fixed(layout, build.ground(half, heights, lawn, rng.uniform(1.0, 3.0)), name="ground")
    _fixed(
        layout,
        build.ground(
            150.0, np.full((2, 2), -0.35), _surface(layout, (patterns.grass, patterns.rough), pictures), rng.uniform(2, 5)
        ),
        name="far",
    )
    if rng.random() < 0.5:
        _house_behind(layout)
    exterior = layout.models("Exterior")
    trees = [m for m in exterior if _word(m, TREES)]
    some = [trees[int(k)] for k in rng.integers(len(trees), size=min(3, len(trees)))] if trees else []
    for _ in range(int(rng.integers(3, 20)) if some else 0):
        model = some[int(rng.integers(len(some)))]
        x, z = rng.uniform(-1, 1, 2) * layout.half
        matrix = turned(rng.uniform(0, 6.3), (x, -layout.height(np.array([x, z])) + 0.03, z), 1.0)
        corners = layout.footprint(np.array([0.8, 1, 0.8]), matrix, 0.0)
        if layout.free(corners):
            layout.take(corners)
            layout.add(model, matrix)
    objects = [
        m
        for m in exterior + layout.models("Vehicles")
        if not _word(m, (*TREES, *GROUND_MARKS)) and max(m.width_m, m.depth_m) < 5 and m.elevation_m < 0.05
    ]
    tables = layout.scatter(objects, int(rng.integers(4, 20)))
    for item in tables:
        if "table" in item.name.lower():
            layout.on_top(item, small_models(layout), 4)
    if rng.random() < 0.4:
        _fence(layout)
    if rng.random() < 0.75:
        _distance(layout)
    _people_in(layout, int(rng.choice(5, p=[0.15, 0.35, 0.25, 0.15, 0.1])), 0.4)
    _animals_in(layout, int(rng.choice(4, p=[0.3, 0.4, 0.2, 0.1])), 3.0)
    _loose_things(layout, int(rng.integers(0, 3)))
    return _finish(layout, world_scene)


def _house_behind(layout: Layout) -> None:
    """A house along one border."""
    rng, (hx, hz) = layout.rng, layout.half
    size = np.array([rng.uniform(6, 2 * hx), int(rng.integers(1, 4)) * 2.9, 6.0])
    place = turned(rng.choice([0, np.pi / 2]), (0, 0, 0)) @ turned(0, (rng.uniform(-0.3, 0.3) * hx, 0.3, hz + 2.5))
    _house(layout, size, place, 2.9)


def _distance(layout: Layout) -> None:
    """Trees and houses beyond the garden."""
    rng = layout.rng
    kinds = [layout.texture_set.material(patterns.leafage(rng)) for _ in range(3)]
    heading, spread = rng.uniform(0, 2 * np.pi), rng.uniform(1.5, 2 * np.pi)
    for _ in range(int(rng.integers(10, 90))):
        angle, away = heading + rng.uniform(-0.5, 0.5) * spread, layout.half[0] * 1.5 + rng.exponential(15)
        at = (np.cos(angle) * away, 0.35, np.sin(angle) * away)
        if rng.random() < 0.92:
            high = rng.uniform(2, 9)
            tree = build.cards(high * rng.uniform(0.5, 0.9), high, kinds[int(rng.integers(3))])
            _fixed(layout, tree, turned(rng.uniform(0, 6.3), at), "tree")
        elif away > layout.half[0] * 1.5 + 8:
            size = np.array([rng.uniform(6, 14), rng.uniform(3, 12), rng.uniform(6, 12)])
            _house(layout, size, turned(rng.uniform(0, 6.3), at), 2.9)


def _house(layout: Layout, size: np.ndarray, place: np.ndarray, storey_m: float) -> None:
    """A box whose fronts have windows; storeys of about `storey_m`."""
    front = layout.texture_set.material(patterns.facade(layout.rng))
    mesh = build.box(size, front, 1.0)
    width, storeys = float(max(size[0], size[2])), max(1, round(size[1] / storey_m))
    axes = max(1, round(width / layout.rng.uniform(2.2, 3.6)))
    scale = np.array([axes / width, storeys / size[1]], np.float32)
    _fixed(layout, replace(mesh, uv=mesh.uv * scale), place, "house")


def _fence(layout: Layout) -> None:
    """Boards along one border."""
    rng, (hx, hz) = layout.rng, layout.half
    material = layout.texture_set.material(patterns.wood(rng))
    high, step = rng.uniform(0.8, 2.0), rng.uniform(0.14, 0.4)
    for x in np.arange(-hx, hx, step):
        _fixed(
            layout,
            build.box(np.array([min(step * 0.85, 0.2), high, 0.03]), material),
            turned(0, (x, -layout.height(np.array([x, -hz + 0.2])) + 0.05, -hz + 0.2)),
            "fence",
        )


def _outdoors(layout: Layout, haze: float) -> WorldScene:
    """Sky and sun."""
    rng = layout.rng
    sky = _sky(layout, 0.55)
    cloudy = rng.random() < 0.3
    lights = _sun(rng, 0.25, 60.0 if cloudy else rng.uniform(0.5, 4.0))
    if cloudy:
        lights[0] = Light(lights[0].position, lights[0].radius, lights[0].power * 0.3, True)
    if rng.random() < 0.1:
        sky, lights = (
            sky * np.float32(0.06),
            [Light(np.array([rng.uniform(-5, 5), -rng.uniform(3, 6), rng.uniform(-6, 6)]), 0.3, np.array([14.0, 9, 4]))],
        )
    mean = sky[: sky.shape[0] // 2].mean((0, 1))
    return WorldScene(
        [],
        lights,
        sky,
        layout.texture_set.textures(),
        np.minimum(mean, 1.0) * 0.35 + 0.1 * sum(x.power for x in lights if x.sun) + 0.02,
        haze,
    )


def _sky(layout: Layout, hdri: float) -> np.ndarray:
    """A sky of the split, turned at random, its sun removed; or one by formula."""
    rng = layout.rng
    from_assets = [
        s
        for name, s in layout.assets.skies.items()
        if name not in ("studio", "warehouse", "workshop", "lobby", "lab", "hall", "apartment")
    ]
    if from_assets and rng.random() < hdri:
        sky = from_assets[int(rng.integers(len(from_assets)))].astype(np.float32)
        sky = sky / max(float(np.median(sky[: len(sky) // 2])), 0.05) * rng.uniform(0.5, 1.1)
        return np.ascontiguousarray(np.roll(np.minimum(sky, 8.0), int(rng.integers(sky.shape[1])), 1), np.float32)
    return patterns.gradient_sky(rng)


def _sun(rng: np.random.Generator, low: float, spread_deg: float = 1.5) -> list[Light]:
    """The sun at a random place above `low` radians."""
    height, heading = rng.uniform(low, 1.25), rng.uniform(0, 2 * np.pi)
    way = np.array([np.cos(height) * np.cos(heading), -np.sin(height), np.cos(height) * np.sin(heading)])
    colour = np.array([1.0, 0.92 - 0.2 * (height < 0.5), 0.82 - 0.35 * (height < 0.5)])
    return [Light(way * 1000, 1000 * np.radians(spread_deg) / 2, colour * rng.uniform(1.2, 3.5), True)]


def _finish(layout: Layout, world_scene: WorldScene) -> WorldScene:
    """The scene with everything that was placed."""
    world_scene.objects = layout.objects
    world_scene.textures = layout.texture_set.textures()
    world_scene.notes["layout"] = layout
    world_scene.notes["models"] = layout.models_used
    return world_scene
