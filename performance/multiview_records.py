"""Depth of real clips from many views as records for `st4rtrack train mono --data multiview=FOLDER`.

    python performance/multiview_records.py --real REAL -o FOLDER

Every fifth frame of the clips whose licence permits training, where the camera moves with enough parallax: pixels whose depth is
measured are known, all others NaN. The focal length is written where the video tells it. Clips that have their records are left out.
"""

import argparse
from pathlib import Path

import numpy as np
from depth_teacher import HELD_OUT_CLIPS, rows

import st4rtrack
from st4rtrack.data.depth_frames import frame_record
from st4rtrack.geometry.transforms import invert_rigid, transform_maps
from st4rtrack.io.files import whole_file
from st4rtrack.scene import Scene
from st4rtrack.types import DepthSource, UserError

FRAME_STEP, MAX_FRAMES = 5, 100
MIN_KNOWN = 0.2
"""Share of the pixels of a frame that must be known."""


def records(scene: Scene) -> np.ndarray:
    """Frames of a scene with enough measured depth."""
    found = []
    height, width = scene.rgb.shape[1:3]
    source = scene.reconstruction.source
    assert scene.quality is not None and source is not None
    focal_is_measured = scene.quality.focal_source == "video"
    for index in range(0, len(scene.rgb), FRAME_STEP):
        known = np.asarray(source[index]) == DepthSource.MEASURED
        if not scene.solved_frames[index] or known.mean() < MIN_KNOWN:
            continue
        camera_from_world = invert_rigid(np.asarray(scene.cameras.world_from_camera[index]))
        depth = transform_maps(camera_from_world, np.asarray(scene.reconstruction.points_world[index]))[..., 2]
        record = np.zeros((), frame_record(height, width))
        record["rgb"], record["depth"] = scene.rgb[index], np.where(known, depth / np.median(depth[known]), np.nan)
        record["focal_px"] = scene.cameras.intrinsics[index, 0, 0] if focal_is_measured else np.nan
        found.append(record)
    return np.array(found, frame_record(height, width))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real", type=Path, required=True, help="folder with clips/ and index_clips.csv")
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    model = st4rtrack.load_model(device="cpu")
    for row in rows(options.real / "index_clips.csv"):
        name = Path(row["file"]).stem
        target = options.output / "train" / f"{name}.npy"
        if target.exists() or name.removesuffix("_b") in HELD_OUT_CLIPS:
            continue
        try:
            scene = st4rtrack.reconstruct(options.real / row["folder"] / row["file"], model=model, stop=MAX_FRAMES)
        except UserError as error:
            print(name, error, flush=True)
            continue
        assert scene.quality is not None
        good = scene.quality.parallax in ("weak", "good") and scene.quality.reliable
        found = records(scene) if good else np.zeros(0)
        print(f"{name}: parallax {scene.quality.parallax}, {len(found)} frames", flush=True)
        if len(found):
            target.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(target) as file:
                np.save(file, found)


if __name__ == "__main__":
    main()
