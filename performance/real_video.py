"""The embedded model on real video: depth, cameras, 2D tracks and pictures, against truth where there is some.

python performance/real_video.py [--shared ../shared] [--only sequences,tracks] [--stop N] [--depth-prior PRIOR] [-o OUTPUT]

Writes OUTPUT.json and OUTPUT.md; parts that are not run keep the figures that the JSON file holds. Pictures go to `--pictures`.
docs/real-video.md says what each figure means.
"""

import argparse
import json
import logging
import math
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from depth_teacher import open_teacher, teacher_inverse_depth
from machine import machine
from real_video_figures import (
    abs_rel_to_inverse_depth,
    log_disagreement,
    motion_percent,
    path_ate_percent,
    projected,
    static_reprojection_px,
    step_ratio,
    track_figures,
)
from real_video_reference import reference_mapping
from real_video_report import COLUMNS, LONG, SHORT, Row, camera_depth, contact_sheet, markdown

from st4rtrack.bench.methods.bounds import plane_prediction
from st4rtrack.bench.methods.pairwise import scene_prediction
from st4rtrack.bench.predictions import Prediction
from st4rtrack.bench.protocol import CORRECTED
from st4rtrack.bench.score import score_sequence
from st4rtrack.classical.solver.colmap import Mapping
from st4rtrack.geometry.camera import intrinsics_from_focal, pixel_grid
from st4rtrack.geometry.sampling import nearest_pixel, sample_map
from st4rtrack.geometry.transforms import invert_rigid
from st4rtrack.io.video import open_video
from st4rtrack.io.worldtrack import WorldTrackSequence, find_worldtrack, read_worldtrack, tracks_in_camera
from st4rtrack.model.checkpoint import load_model
from st4rtrack.model.network import St4RTrack
from st4rtrack.pipeline.reconstruct import reconstruct
from st4rtrack.scene import Scene
from st4rtrack.types import Video

NUM_FRAMES = 64
REAL_CLIPS = (
    "any4d_catjump",  # animal, fixed camera
    "any4d_climbing",  # person, portrait
    "any4d_mobilerobot",  # robot in a room, portrait
    "any4d_stroller",  # person, moving camera
    "carnd_whiteright",  # car that drives forward
    "imageai_traffic",  # traffic, fixed camera
    "intel_person",  # person, fixed camera
    "sam2_bedroom",  # people in a room, moving camera
    "sam2_dog",  # animal, fixed camera
    "sam2_juggle",  # person, fixed camera
    "vdpm_camel",  # animal, large steps between frames
    "vipe_dog",  # animal, moving camera
)
MIN_TRACKS = 20


@dataclass
class Runner:
    """Runs the embedded model, each video once.

    Attributes:
        shared: folder with `sequences`, `clips` and `real`.
        stop: most frames of a video.
        depth_prior: passed on to `reconstruct`; `{name}` in it is the name of the video.
        pictures: folder of the contact sheets.
    """

    shared: Path
    stop: int | None
    depth_prior: str | None
    pictures: Path
    model: St4RTrack = field(default_factory=lambda: load_model(device="cpu"))
    _scenes: dict[tuple[str, int], tuple[Scene, float]] = field(default_factory=dict)

    def sequences(self) -> Iterator[WorldTrackSequence]:
        """All shared sequences with truth."""
        frames = min(self.stop or NUM_FRAMES, NUM_FRAMES)
        for folder in (self.shared / "sequences", self.shared / "real" / "sequences"):
            for name, path in find_worldtrack(folder):
                yield read_worldtrack(path, name=name, num_frames=frames)

    def clip(self, name: str, *, stop: int | None = None) -> Video:
        """A clip without truth."""
        found = [self.shared / folder / f"{name}.mp4" for folder in ("clips", "real/clips")]
        return open_video(next(path for path in found if path.exists()), stop=stop or self.stop)

    def scene(self, video: Video, *, fit: str = "crop") -> Scene:
        """The scene of a video."""
        return self._run(video, fit)[0]

    def cpu_s(self, video: Video, *, fit: str = "crop") -> float:
        """CPU seconds that the scene took."""
        return self._run(video, fit)[1]

    def _run(self, video: Video, fit: str) -> tuple[Scene, float]:
        key = (video.source, len(video))
        if key not in self._scenes:
            say(f"  {Path(video.source).stem}: {len(video)} frames")
            options: Row = {} if self.depth_prior is None else {"depth_prior": self.depth_prior.replace("{name}", video.name)}
            start = time.process_time()
            scene = reconstruct(video, model=self.model, fit=fit, **options)  # pyright: ignore[reportArgumentType]
            self._scenes[key] = (scene, time.process_time() - start)
        return self._scenes[key]

    def forget(self) -> None:
        """Releases the scenes."""
        self._scenes.clear()


def say(text: str) -> None:
    """Progress, on stderr."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def solved_cameras(scene: Scene) -> np.ndarray:
    """`world_from_camera` [time, 4, 4], NaN in unsolved frames."""
    return np.where(scene.solved_frames[:, None, None], np.asarray(scene.cameras.world_from_camera, np.float64), np.nan)


def focal_source_px(scene: Scene) -> float:
    """Focal length of the anchor, source pixels."""
    return float(np.asarray(scene.cameras.intrinsics[scene.anchor_index])[0, 0]) / scene.pixel_map.scale[0]


def source_grid(scene: Scene) -> np.ndarray:
    """Source pixels [height, width, 2] at the centres of the network pixels."""
    return scene.pixel_map.source_from_network(pixel_grid(*scene.rgb.shape[1:3]))


def teacher_at(teacher: Any, rgb: np.ndarray, source_px: np.ndarray) -> np.ndarray:
    """Inverse depth of the teacher at source pixels [height, width, 2]."""
    inverse = teacher_inverse_depth(teacher, rgb)
    return sample_map(inverse, source_px * (inverse.shape[1] / rgb.shape[1], inverse.shape[0] / rgb.shape[0]))


def teacher_session(runner: Runner) -> Any:
    """The depth teacher."""
    return open_teacher(next((runner.shared / "real" / "teacher").glob("*.onnx")))


def sequences_part(runner: Runner) -> Iterator[Row]:
    """Depth, cameras and static points of all sequences with truth, as `st4rtrack bench score` measures them."""
    for sequence in runner.sequences():
        scene, cpu_s = runner.scene(sequence.video, fit="stretch"), runner.cpu_s(sequence.video, fit="stretch")
        yield {
            "name": sequence.name,
            "kind": "constant plane",
            **scored(sequence, plane_prediction(sequence, sequence.intrinsics)),
        }
        yield {
            "name": sequence.name,
            "kind": "this model",
            **scored(sequence, scene_prediction(scene, sequence, CORRECTED)),
            "cpu_s": cpu_s,
        }


def scored(sequence: WorldTrackSequence, prediction: Prediction) -> Row:
    """Figures of a row of a score file."""
    row = score_sequence(sequence, replace(prediction, tracks_world=None), CORRECTED)
    depth, cameras = row.get("depth", {}), row.get("cameras", {})
    measured = depth.get("measured")
    return {
        "abs_rel": depth.get("abs_rel"),
        "within_percent": depth.get("delta_1_25"),
        "scale_drift": depth.get("scale_drift"),
        "measured_percent": measured and 100 * measured["points"] / depth["points"],
        "measured_near_percent": measured and measured["delta_1_03"],
        "ate_m": cameras.get("ate"),
        "rpe_deg": cameras.get("rpe_rotation"),
        "focal_error_percent": cameras.get("focal_error"),
        "static_motion_m": row.get("static", {}).get("static_motion"),
    }


def tracks_part(runner: Runner) -> Iterator[Row]:
    """2D accuracy of the tracks, projected with the cameras of the scene."""
    least_path_m = CORRECTED.dynamic_path_m
    for sequence in (sequence for sequence in runner.sequences() if sequence.tracks_world is not None):
        scene = runner.scene(sequence.video, fit="stretch")
        assert sequence.visible is not None and sequence.tracks_world is not None
        seen = sequence.visible[0]
        found = scene.tracks(sequence.query_px[seen]).points_world
        cameras, intrinsics = (np.asarray(each) for each in (scene.cameras.world_from_camera, scene.cameras.intrinsics))
        predicted_px = scene.pixel_map.source_from_network(projected(found, cameras, intrinsics))
        true_px = projected(tracks_in_camera(sequence)[:, seen], np.eye(4)[None], sequence.intrinsics)
        rows, columns = nearest_pixel(scene.pixel_map.network_from_source(sequence.query_px[seen]), *scene.rgb.shape[1:3])
        moving = np.asarray(scene.tracking.moving)[rows, columns]
        path_m = np.linalg.norm(np.diff(sequence.tracks_world[:, seen], axis=0), axis=-1).sum(axis=0)
        for kind, group in {"static": path_m <= least_path_m, "dynamic": path_m > least_path_m}.items():
            size = (sequence.video.height, sequence.video.width)
            figures = track_figures(predicted_px[:, group], true_px[:, group], sequence.visible[:, seen][:, group], size)
            yield {
                "name": sequence.name,
                "kind": f"{kind} ({group.sum()} points)",
                **figures,
                "moving_percent": 100 * moving[group].mean(),
            }


def clips_part(runner: Runner) -> Iterator[Row]:
    """Clips without truth: apple against pycolmap, steps of feng, frame 0 of sheep with few and with many frames."""
    apple, feng = runner.clip("apple"), runner.clip("feng")
    yield {"name": "apple", "kind": "against pycolmap", **against_mapping(runner.scene(apple), reference_mapping(apple))}
    yield {"name": "feng", "kind": "steps", "step_ratio": step_ratio(solved_cameras(runner.scene(feng)))}
    scenes = [runner.scene(runner.clip("sheep", stop=count)) for count in (SHORT, LONG)]
    depths = [camera_depth(scene, 0) for scene in scenes]
    inverse = teacher_at(teacher_session(runner), runner.clip("sheep").frame(0), source_grid(scenes[0]))
    short, long = (abs_rel_to_inverse_depth(depth, inverse) for depth in depths)
    yield {
        "name": "sheep",
        "kind": "frame 0",
        "disagreement": log_disagreement(*depths),
        "abs_rel_short": short,
        "abs_rel_long": long,
    }


def against_mapping(scene: Scene, mapping: Mapping | None) -> Row:
    """Focal length, camera path and static tracks of a scene against a mapping of all frames."""
    if mapping is None:
        return {"quality": "pycolmap found no model"}
    height, width = scene.source_size
    reference = invert_rigid(mapping.camera_from_world)
    intrinsics = intrinsics_from_focal(mapping.focal_px, height, width)
    last = int(np.flatnonzero(mapping.registered)[-1])
    points = mapping.points_world[np.unique(mapping.point[mapping.image == 0])]
    start_px, end_px = (projected(points[None], reference[t : t + 1], intrinsics)[0] for t in (0, last))
    network_px = scene.pixel_map.network_from_source(start_px)
    rows, columns = nearest_pixel(network_px, *scene.rgb.shape[1:3])
    with np.errstate(invalid="ignore"):
        inside = (network_px > 0).all(axis=1) & (network_px < scene.rgb.shape[2:0:-1]).all(axis=1)
        inside &= (end_px > 0).all(axis=1) & (end_px < (width, height)).all(axis=1)
    use = inside & ~np.asarray(scene.tracking.moving)[rows, columns]
    figures: Row = {
        "focal_ratio": focal_source_px(scene) / mapping.focal_px,
        "ate_percent": path_ate_percent(solved_cameras(scene), reference),
    }
    if use.sum() >= MIN_TRACKS:
        tracks = scene.tracks(start_px[use]).points_world.astype(np.float64)
        camera_from_world = mapping.camera_from_world[last]
        figures["reprojection_px"] = static_reprojection_px(tracks[0], tracks[last], points[use], camera_from_world, intrinsics)
    return figures


def pictures_part(runner: Runner) -> Iterator[Row]:
    """Quality report and a contact sheet of every clip."""
    names = [path.stem for path in sorted((runner.shared / "clips").glob("*.mp4"))] + list(REAL_CLIPS)
    runner.pictures.mkdir(parents=True, exist_ok=True)
    for name in names:
        video = runner.clip(name)
        scene, cpu_s = runner.scene(video), runner.cpu_s(video)
        cv2.imwrite(str(runner.pictures / f"{name}.png"), contact_sheet(scene, name)[..., ::-1])
        cameras, quality = solved_cameras(scene), scene.quality
        yield {
            "name": name,
            "kind": f"{len(scene)} frames",
            "motion_percent": motion_percent(cameras, camera_depth(scene, 0)),
            "step_ratio": step_ratio(cameras),
            "cpu_s": cpu_s,
            "quality": "" if quality is None else quality.summary(len(scene)).removeprefix("quality: "),
        }
        runner.forget()


PARTS: dict[str, tuple[str, Callable[[Runner], Iterator[Row]]]] = {
    "sequences": ("Depth and cameras of sequences with truth, corrected protocol of the benchmark", sequences_part),
    "tracks": ("2D tracks, pixels of an image with a long side of 256", tracks_part),
    "clips": ("Clips without truth", clips_part),
    "pictures": ("Clips to look at", pictures_part),
}


def plain(row: Row) -> Row:
    """A row for JSON: NaN becomes null."""
    return {key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in row.items()}


def read_results(path: Path) -> Row:
    """Results of an earlier run; empty where there are none."""
    return json.loads(path.read_text()) if path.exists() else {"parts": {}}


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=Path("../shared"), help="folder with the sequences and clips")
    parser.add_argument("--only", default=",".join(PARTS), help=f"parts to run, of {', '.join(PARTS)}")
    parser.add_argument("--stop", type=int, help="most frames of each video")
    parser.add_argument("--depth-prior", help="depth prior, as of `st4rtrack run`; {name} is the name of each video")
    parser.add_argument("--pictures", type=Path, default=Path("build/real_video"), help="folder of the contact sheets")
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).with_name("real_video"), help="path without ending")
    chosen = parser.parse_args()
    unknown = set(chosen.only.split(",")) - set(PARTS)
    if unknown:
        parser.error(f"unknown part {sorted(unknown)[0]!r}; --only takes {', '.join(PARTS)}")
    return chosen


def main() -> None:
    chosen = options()
    logging.getLogger("st4rtrack").setLevel(logging.ERROR)  # the quality line says it
    runner = Runner(chosen.shared, chosen.stop, chosen.depth_prior, chosen.pictures)
    output = chosen.output.with_suffix(".json")
    titles = {part: title for part, (title, _) in PARTS.items()}
    for part in (part for part in PARTS if part in chosen.only.split(",")):
        say(PARTS[part][0])
        rows = []
        for row in PARTS[part][1](runner):
            rows.append(plain(row))
            say(
                "  "
                + ", ".join(
                    f"{key} {COLUMNS[key][1].format(value)}" if key in COLUMNS and value is not None else f"{value}"
                    for key, value in rows[-1].items()
                )
            )
        results = read_results(output)
        results["parts"] = {name: rows_of for name, rows_of in results["parts"].items() if name in PARTS}
        how = f"{machine()}, stop {chosen.stop}, depth prior {chosen.depth_prior}"
        results["parts"][part] = {"machine": how, "rows": rows}
        output.write_text(json.dumps(results, indent=1) + "\n")
        output.with_suffix(".md").write_text(markdown(results, titles))
    print(output.with_suffix(".md").read_text())


if __name__ == "__main__":
    main()
