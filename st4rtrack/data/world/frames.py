"""Single frames of the rendered world for monocular depth training, rendered on the fly or as a cached set.

python -m st4rtrack.data.world.frames -o DIR --frames 20000 --seed 0      # resumable; one core
"""

import argparse
import logging
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from st4rtrack.data.depth_frames import write_records
from st4rtrack.data.world.assets import Assets, open_assets, split_of
from st4rtrack.data.world.camera_effects import automatic_exposure, develop, draw_effects
from st4rtrack.data.world.camera_path import find_camera_path
from st4rtrack.data.world.cast import Caster, Geometry
from st4rtrack.data.world.scenes import make_scene
from st4rtrack.data.world.shade import render_view
from st4rtrack.types import UserError

log = logging.getLogger(__name__)

VIEWS_PER_SCENE = 16
VIEWS_PER_MOMENT = 4
SHARD = 256
PICTURE_ENDINGS = (".jpg", ".jpeg", ".png", ".webp")


class Frame(NamedTuple):
    """Image with ground truth; the principal point is the image centre."""

    rgb: np.ndarray  # [H, W, 3] uint8
    depth: np.ndarray  # [H, W] float32, z in metres, 0 where unknown (sky)
    focal_px: float  # pixels
    subject: np.ndarray  # [H, W] bool, people, animals and dynamic objects


def find_pictures(folder: Path | None, split: str) -> tuple[Path, ...]:
    """Find the photographs in a folder that belong to a split, by a hash of their names."""
    if folder is None:
        return ()
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in PICTURE_ENDINGS)
    if not found:
        raise UserError(f"{folder} holds no {', '.join(PICTURE_ENDINGS)} files; pass a folder of photographs to --pictures")
    return tuple(path for path in found if split_of(path.name) == split)


def scene_rng(seed: int, split: str, scene: int, *more: int) -> np.random.Generator:
    """Random generator of one scene, the same in every process."""
    return np.random.default_rng([seed, ("train", "validation").index(split), scene, *more])


def frames(
    seed: int = 0,
    split: str = "train",
    size: tuple[int, int] = (192, 256),
    *,
    first: int = 0,
    pictures: Path | None = None,
    setting: str | None = None,
    views: int = VIEWS_PER_SCENE,
    assets: Assets | None = None,
) -> Iterator[Frame]:
    """Yield frames endlessly; frame k of a seed and split is always the same.

    Args:
        seed: seed of the whole sequence.
        split: "train" or "validation"; they have disjoint models, bodies, pictures and random numbers.
        size: height and width; every scene is landscape or, with height > width, portrait.
        first: number of the first frame; fastest at multiples of `views`.
        pictures: folder of photographs for surfaces.
        setting: kind of scene, None for a mixture.
        views: frames per scene, each by another camera at another time.
    Raises:
        UserError: the assets are not cached, or `split` is unknown.
    """
    if split not in ("train", "validation"):
        raise UserError(f"split must be train or validation, got {split!r}")
    assets = assets or open_assets()
    files = find_pictures(pictures, split)
    scene, skip = divmod(first, views)
    while True:
        yield from scene_frames(assets, seed, split, scene, size, range(skip, views), files, setting)
        scene, skip = scene + 1, 0


def scene_frames(
    assets: Assets,
    seed: int,
    split: str,
    scene: int,
    size: tuple[int, int],
    numbers: Sequence[int],
    pictures: Sequence[Path],
    setting: str | None = None,
) -> Iterator[Frame]:
    """Render some of the frames of one scene."""
    geometry = Geometry(make_scene(assets, split, scene_rng(seed, split, scene), setting, pictures))
    caster, moment = None, -1
    for number in numbers:
        rng = scene_rng(seed, split, scene, number + 1)
        if caster is None or number // VIEWS_PER_MOMENT != moment:
            moment = number // VIEWS_PER_MOMENT
            time_s = float(scene_rng(seed, split, scene, 0, moment).uniform(0, 4))
            caster = Caster(geometry, time_s)
        camera_path = find_camera_path([(time_s, caster)], rng)
        intrinsics = camera_path.intrinsics(time_s, *size)
        view = render_view(caster, intrinsics, camera_path.pose(time_s), *size, rng)
        rgb = develop(view.colour, draw_effects(rng), automatic_exposure(view.colour), time_s, None, rng)
        subject = (view.object_index >= 0) & geometry.moves[view.object_index]
        yield Frame(rgb, view.depth, float(intrinsics[0, 0]), subject)


def write_frames(folder: Path, count: int, seed: int, split: str, size: tuple[int, int], pictures: Path | None = None) -> None:
    """Render a set of frames into shards `SPLIT/world_SEED_NNNNN.npy` for `RenderedFrames`; existing shards are kept."""
    for shard in range(-(-count // SHARD)):
        path = folder / split / f"world_{seed}_{shard:05d}.npy"
        if not path.exists():
            rows = list(islice(frames(seed, split, size, first=shard * SHARD, pictures=pictures), SHARD))
            write_records(path, *(np.stack(column) for column in zip(*rows)))
            log.info("%s", path)


def rendering_parser(description: str, kind: str, count: int) -> argparse.ArgumentParser:
    """Command-line options of rendering; `kind`: plural name of the rendered items, `count`: their default number."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("-o", type=Path, required=True, help="Output folder of the set; existing files are kept")
    parser.add_argument("--count", f"--{kind}", type=int, default=count, help=f"Number of {kind} [%(default)s]")
    parser.add_argument("--seed", type=int, default=0, help="Random seed [%(default)s]")
    parser.add_argument(
        "--split", default="train", choices=("train", "validation"), help="Scenes, models and pictures to use [%(default)s]"
    )
    parser.add_argument("--height", type=int, default=192, help="Image height in pixels [%(default)s]")
    parser.add_argument("--width", type=int, default=256, help="Image width in pixels [%(default)s]")
    parser.add_argument("--pictures", type=Path, default=None, help="Folder of photographs for surfaces [none]")
    return parser


def main() -> None:
    """Entry point of the command line."""
    parser = rendering_parser(str(__doc__).splitlines()[0], "frames", 20000)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        write_frames(options.o, options.count, options.seed, options.split, (options.height, options.width), options.pictures)
    except UserError as error:
        parser.exit(2, f"{error}\n")


if __name__ == "__main__":
    main()
