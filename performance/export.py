"""What each export format costs, in a process of its own: `python performance/export.py`.

Seconds are the processor's, all threads together, so that what else the machine does counts little. Besides there are the peak
of resident memory and the size for a scene on disk, and the peaks for scenes that have very many small frames, of which a film
shows every 50th: each picture takes as long as one of a large scene. Scenes are made up: their values differ everywhere, so
nothing compresses better than it would in life.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from peak import peak_mib

from st4rtrack.formats import FORMATS
from st4rtrack.geometry.camera import intrinsics_from_focal, pixel_grid, unproject
from st4rtrack.io.scene import SceneHeader, SceneWriter, load_scene


def make_scene(folder: Path, num_frames: int, height: int, width: int) -> None:
    """A rough wall that is filmed by a camera that moves past it; noise as colours. Written frame by frame."""
    random = np.random.default_rng(0)
    header = SceneHeader(num_frames, height, width, source_size=(height, width), info={"source": {"video": "array"}})
    writer = SceneWriter.create(folder, header)
    intrinsics = intrinsics_from_focal(0.9 * width, height, width)
    rays = unproject(pixel_grid(height, width).reshape(-1, 2), np.ones(height * width), intrinsics).reshape(height, width, 3)
    for index in range(num_frames):
        camera = np.eye(4)
        camera[0, 3] = index / num_frames
        depth = 2 + 0.1 * random.random((height, width, 1), np.float32)
        visibility = random.random((height, width), np.float32).astype(np.float16)
        writer.write_frame(
            index,
            rgb=random.integers(0, 256, (height, width, 3), np.uint8),
            time_s=index / 30,
            tracking_points=(rays * 2 + random.normal(0, 0.001, rays.shape)).astype(np.float32),
            tracking_confidence=1 + random.random((height, width), np.float32),
            visible=visibility > 0.5,
            visibility=visibility,
            reconstruction_points=(rays * depth + camera[:3, 3]).astype(np.float32),
            reconstruction_confidence=1 + random.random((height, width), np.float32),
            world_from_camera=camera,
            intrinsics=intrinsics,
            solved=True,
        )
    writer.finish()


SIZES = {"usual": (64, 288, 512), "short": (200, 48, 64), "long": (2000, 48, 64)}
OF_LONG_SCENES: dict[str, dict[str, Any]] = {"video": {"stride": 50}}


def export_once(folder: str, name: str) -> None:
    """Exports a scene and prints processor seconds, peak of resident memory in MiB, and MB on disk."""
    from st4rtrack.formats import export

    scene = load_scene(folder)
    options = OF_LONG_SCENES.get(name, {}) if len(scene) > 64 else {}
    with tempfile.TemporaryDirectory() as target:
        start = time.process_time()
        export(scene, Path(target) / f"a{FORMATS[name].endings[0]}", format=name, **options)
        seconds = time.process_time() - start
        size = sum(path.stat().st_size for path in Path(target).rglob("*") if path.is_file())
    print(seconds, peak_mib(), size / 1e6)


def in_child(folder: Path, name: str) -> list[float]:
    command = [sys.executable, __file__, "--child", str(folder), name]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [float(value) for value in done.stdout.split()[-3:]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--formats", nargs="+", default=list(FORMATS), choices=list(FORMATS))
    parser.add_argument(
        "--scenes", type=Path, help="Where the scenes are made, once, and kept; default: made anew, and gone in the end."
    )
    parser.add_argument("--child", nargs=2, metavar=("SCENE", "FORMAT"))
    options = parser.parse_args()
    if options.child:
        export_once(*options.child)
        return
    from machine import machine  # it imports PyTorch, which no export does

    print(f"{machine()}; scenes on disk\n")
    print("| format | 64 frames of 512x288: seconds | peak, MiB | MB | 200 frames of 64x48: peak, MiB | 2000 frames: peak, MiB |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as temporary:
        scenes = {name: (options.scenes or Path(temporary)) / name for name in SIZES}
        for name, folder in scenes.items():
            if not (folder / "scene.json").exists():
                make_scene(folder, *SIZES[name])
        for name in options.formats:
            seconds, peak, size = in_child(scenes["usual"], name)
            short, long = (in_child(scenes[length], name)[1] for length in ("short", "long"))
            print(f"| {name} | {seconds:.1f} | {peak:.0f} | {size:.1f} | {short:.0f} | {long:.0f} |", flush=True)


if __name__ == "__main__":
    main()
