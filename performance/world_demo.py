"""Render the demo clip of the package from CC0 assets alone: `python performance/world_demo.py OUT.mp4`."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from st4rtrack.data.world.assets import open_assets
from st4rtrack.data.world.camera_effects import CameraEffects
from st4rtrack.data.world.camera_path import find_camera_path
from st4rtrack.data.world.cast import Caster, Geometry
from st4rtrack.data.world.clips import render_clip
from st4rtrack.data.world.frames import scene_rng
from st4rtrack.data.world.scenes import make_scene
from st4rtrack.io.video import write_video

FREE_SOURCE = "BlendSwap-CC-0"
"""Library of models in the public domain; people and skies are also CC0."""
SEED, START_S, FRAMES, RATE, SIZE = 1, 0.7, 36, 12.0, (288, 512)


def write_demo_clip(path: Path) -> None:
    """Render a hen that walks over a wooden floor, from an orbiting camera: 36 frames of 512x288 at 12 frames per second.

    Raises:
        UserError: the assets are not cached.
    """
    assets = open_assets()
    free = replace(assets, models={name: model for name, model in assets.models.items() if model.source == FREE_SOURCE})
    rng = scene_rng(SEED, "train", 0)
    geometry = Geometry(make_scene(free, "train", rng, "room"))
    times_s = START_S + np.arange(FRAMES) / RATE
    ends = [(float(t), Caster(geometry, float(t))) for t in times_s[[0, -1]]]
    camera_path = find_camera_path(ends, rng, "orbit")
    clip = render_clip(geometry.world_scene, camera_path, times_s, SIZE, rng, CameraEffects(noise=0.01), geometry)
    write_video(path, iter(clip.rgb), fps=RATE)


if __name__ == "__main__":
    write_demo_clip(Path(sys.argv[1]))
