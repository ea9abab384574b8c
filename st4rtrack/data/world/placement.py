"""Selection of models and materials, and placement of objects, lights and skies in a layout."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from st4rtrack.data.world import patterns
from st4rtrack.data.world.assets import Model
from st4rtrack.data.world.layout import Layout
from st4rtrack.data.world.mesh import Materials
from st4rtrack.data.world.objects import Light, WorldScene

ANIMALS = ("chicken", "horse2", "bulldog", "horse", "siameseCat", "cat", "dog", "rabbit")


def is_animal(model: Model) -> bool:
    """Whether a model is an animal (dog, cat, horse ...)."""
    return model.category == "Characters" and model.name.split("-", 1)[1].split("-")[-1] in ANIMALS


def is_person(model: Model) -> bool:
    """Whether a model is a person with textured clothes."""
    return model.category == "Characters" and not is_animal(model)


def has_word(model: Model, words: Sequence[str]) -> bool:
    return any(word.lower() in model.name.lower() for word in words)


def small_models(layout: Layout) -> list[Model]:
    """Models that fit on a table."""
    kinds = ("Kitchen", "Office", "Living room", "Miscellaneous", "Bathroom", "Bedroom", "Lights")
    return [
        m for m in layout.models(*kinds)
        if max(m.width_m, m.depth_m) < 0.45 and 0.03 < m.height_m < 0.6 and m.elevation_m < 0.05
        and m.height_m < 5 * max(m.width_m, m.depth_m)
    ]  # fmt: skip


def tables_among(layout: Layout) -> list[Model]:
    return [
        m for m in layout.models("Living room", "Office", "Kitchen", "Exterior", "Miscellaneous")
        if any(word in m.title.lower() for word in ("table", "desk", "cabinet", "island"))
        and 0.35 < m.height_m < 1.1 and m.width_m > 0.5 and m.elevation_m < 0.05
    ]  # fmt: skip


def picture(layout: Layout, pictures: Sequence[Path]) -> np.ndarray:
    """Photograph, or a procedural image."""
    if len(pictures):
        image = patterns.read_picture(pictures[int(layout.rng.integers(len(pictures)))], layout.rng)
        if image is not None:
            return image
    return patterns.cloth(layout.rng)


def surface(layout: Layout, makers: Sequence, pictures: Sequence[Path], gloss: float = 0.0, photo: float = 0.05) -> Materials:
    """Material of a wall or floor: a pattern, or sometimes a mirrored photograph."""
    if len(pictures) and layout.rng.random() < photo:
        return layout.texture_set.material(patterns.mirrored_tile(picture(layout, pictures)), gloss)
    return layout.texture_set.material(makers[int(layout.rng.integers(len(makers)))](layout.rng), gloss)


def draw_sky(layout: Layout, hdri: float) -> np.ndarray:
    """Draw a sky of the split, rotated at random and with its sun removed, or a procedural one."""
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


def draw_sun(rng: np.random.Generator, low: float, spread_deg: float = 1.5) -> list[Light]:
    """Draw a sun at a random position, at least `low` radians above the horizon."""
    height, heading = rng.uniform(low, 1.25), rng.uniform(0, 2 * np.pi)
    way = np.array([np.cos(height) * np.cos(heading), -np.sin(height), np.cos(height) * np.sin(heading)])
    colour = np.array([1.0, 0.92 - 0.2 * (height < 0.5), 0.82 - 0.35 * (height < 0.5)])
    return [Light(way * 1000, 1000 * np.radians(spread_deg) / 2, colour * rng.uniform(1.2, 3.5), True)]


def finished(layout: Layout, world_scene: WorldScene) -> WorldScene:
    """Complete a scene with the objects of its layout."""
    world_scene.objects, world_scene.layout = layout.objects, layout
    world_scene.textures = layout.texture_set.textures()
    return world_scene
