"""Random scenes: rooms, table tops, streets and gardens, with people, animals, cars and small dynamic objects."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from st4rtrack.data.world.assets import Assets
from st4rtrack.data.world.objects import WorldScene
from st4rtrack.data.world.outdoors import make_garden, make_street
from st4rtrack.data.world.rooms import make_room, make_table

SETTINGS = ("room", "table", "street", "garden")
SETTING_SHARES = (0.42, 0.16, 0.2, 0.22)


def make_scene(
    assets: Assets, split: str, rng: np.random.Generator, setting: str | None = None, pictures: Sequence[Path] = ()
) -> WorldScene:
    """Make a random scene.

    Args:
        assets: models, skies, people.
        split: "train" or "validation": models, bodies, skies and pictures to use.
        rng: source of all random choices.
        setting: one of `SETTINGS`, None for a mixture.
        pictures: photographs of the split, for picture frames, carpets and some surfaces.
    """
    setting = setting or str(rng.choice(SETTINGS, p=SETTING_SHARES))
    make = {"room": make_room, "table": make_table, "street": make_street, "garden": make_garden}[setting]
    return make(assets, split, rng, pictures)
