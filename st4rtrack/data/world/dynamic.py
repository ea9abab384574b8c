"""Dynamic objects: people, animals, and small moving objects."""

from dataclasses import replace

import numpy as np

from st4rtrack.data.world import motion, people
from st4rtrack.data.world.assets import Model
from st4rtrack.data.world.layout import Layout, surface_height
from st4rtrack.data.world.objects import turned
from st4rtrack.data.world.placement import has_word, is_animal, is_person, small_models

SITTING_WORDS = ("sit", "lying")
LONGEST_S = 6.0
SEATS = ("chair", "sofa", "couch", "bench", "stool")
PERSON_SIZE = np.array([0.4, 1, 0.4])
HIPS_M = 0.1
"""Height of the pelvis centre above a seat."""


def _spot(layout: Layout, clearance: float) -> np.ndarray | None:
    spots = layout.free_spots(clearance)
    return spots[int(layout.rng.integers(len(spots)))] if len(spots) else None


def _path(layout: Layout, clearance: float, speed: float) -> motion.Path | None:
    """Draw a path over free ground that lasts as long as the scene; if there is none, the longest of several tries."""
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


def add_people(layout: Layout, count: int, clearance: float) -> None:
    """Add people who walk, turn, lift their arms, sit or crouch; some carry an object."""
    rng = layout.rng
    ready = [m for m in layout.models("Characters") if is_person(m)]
    for _ in range(count):
        spot = _spot(layout, clearance)
        if spot is None:
            return
        place = turned(rng.uniform(0, 2 * np.pi), (spot[0], -layout.height(spot), spot[1]))
        body = layout.make_body() if rng.random() < 0.7 or not ready else None
        if body is None:
            _ready_person(layout, ready[int(rng.integers(len(ready)))], place, clearance)
        elif (rng.random() < 0.3 and _sit(layout, body)) or (rng.random() < 0.45 and _walk(layout, body, clearance)):
            continue
        else:
            _act(layout, body, place)
        layout.take(PERSON_SIZE, place)


def _walk(layout: Layout, body: people.Body, clearance: float) -> bool:
    """Let a person walk along a free path; returns False if there is none."""
    path = _path(layout, clearance, layout.rng.uniform(0.5, 1.5))
    if path is None or path.speed <= 0.15:
        return False
    layout.add_dynamic(body.mesh, "person", posed=motion.walker(body, path, layout.height, layout.rng.uniform(0, 6)))
    for t in np.linspace(0, LONGEST_S, 10):
        at = path.at(float(t))[0]
        layout.take(PERSON_SIZE, turned(0, (at[0], 0, at[1])))
    return True


def _sit(layout: Layout, body: people.Body) -> bool:
    """Seat a person on a free chair, sofa or bench; returns False if there is none."""
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
    layout.add_dynamic(
        body.mesh, "person", posed=motion.Acting(body, tuple(poses), rng.uniform(0.7, 2.0), place, 0.0, HIPS_M - top)
    )
    return True


def _act(layout: Layout, body: people.Body, place: np.ndarray) -> None:
    """Add a person who acts without walking."""
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
    layout.add_dynamic(body.mesh, "person", posed=acting)
    if rng.random() < 0.3:
        model = layout.pick([m for m in small_models(layout) if max(m.width_m, m.depth_m) < 0.3])
        if model:
            mesh = layout.use(model)
            layout.add_dynamic(mesh, model.name, place=acting.held("R", np.array([0, mesh.size[1] * 0.3, 0])))


def _ready_person(layout: Layout, model: Model, place: np.ndarray, clearance: float) -> None:
    """Add a person with photographed clothes (no rig) who sways, slides along a path or turns."""
    rng = layout.rng
    mesh = layout.use(model)
    still = has_word(model, SITTING_WORDS)
    path = None if still or rng.random() < 0.5 else _path(layout, clearance, rng.uniform(0.3, 1.2))
    if path is not None:
        swaying = motion.bending(mesh, path.place(layout.height), rng.uniform(0.1, 0.3), 4.0, rng.uniform(0, 6))
    else:
        turn = 0.0 if still else rng.normal(0, 0.4)
        amount = rng.uniform(0.05, 0.2) if still else rng.uniform(0.1, 0.5)
        spin = lambda t: place @ turned(turn * t, (0, 0, 0))  # noqa: E731
        swaying = motion.bending(mesh, spin, amount, rng.uniform(1, 3), rng.uniform(0, 6))
    layout.add_dynamic(mesh, model.name, posed=swaying)


def add_animals(layout: Layout, count: int, largest_m: float) -> None:
    """Add animals that walk or stand."""
    rng = layout.rng
    models = [m for m in layout.models("Characters") if is_animal(m) and m.depth_m < largest_m]
    for _ in range(count):
        model = layout.pick(models)
        if model is None:
            return
        path = _path(layout, 0.3 if model.depth_m < 1 else 1.2, rng.uniform(0.1, 0.9) * max(model.height_m, 0.4))
        if path is None:
            return
        mesh = layout.use(model)
        layout.add_dynamic(mesh, model.name, posed=motion.striding(mesh, path, layout.height, rng.uniform(3, 9)))
        layout.take(mesh.size, turned(path.yaw, (path.start[0], 0, path.start[1])), 0.1)


def add_loose_objects(layout: Layout, count: int) -> None:
    """Add balls that drop and roll, toys that drive and boxes that are pushed, nearly always on the ground."""
    rng = layout.rng
    balls = [
        m
        for m in layout.models("Miscellaneous")
        if has_word(m, ("ball",)) and max(m.width_m, m.height_m) < 1.1 * min(m.depth_m, m.height_m)
    ]
    boxes = [m for m in small_models(layout) if m.height_m > 0.1]
    for _ in range(count):
        spot = _spot(layout, 0.3)
        if spot is None:
            return
        rest = turned(rng.uniform(0, 6.3), (spot[0], -layout.height(spot), spot[1]))
        model = layout.pick(balls)
        if rng.random() < 0.4 and model:
            place = motion.falling(
                rest, model.height_m / 2, rng.uniform(0.02, 1.2), rng.normal(0, 0.4, 2), int(rng.choice([0, 2]))
            )
        else:
            model = layout.pick(boxes)
            if model is None:
                return
            path = _path(layout, 0.25, rng.uniform(0.05, 0.5))
            lift = rng.uniform(0.2, 0.8) if rng.random() < 0.25 else 0.0
            if lift or path is None:
                drift, turn = rng.normal(0, 0.3, 2), rng.normal(0, 2)
                place = motion.picked_up(rest, lift, drift, turn, rng.uniform(0, 1), rng.uniform(1, 3))
            else:
                place = path.place(layout.height)
        layout.add_dynamic(layout.use(model), model.name, place=place)
