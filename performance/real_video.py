"""The embedded model on real video: depth, cameras, 2D tracks and pictures, against truth where there is some.

python performance/real_video.py [--shared ../shared] [--only depth,cameras] [--stop N] [--depth-prior PRIOR] [-o OUTPUT]

Writes OUTPUT.json and OUTPUT.md; parts that are not run keep the figures that the JSON file holds. Where `real_video_before.json` lies
beside it, its figures stand in parentheses. Pictures go to `--pictures`. docs/real-video.md says what each figure means.
"""

import argparse
import json
import logging
import math
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from depth_teacher import open_teacher, teacher_inverse_depth
from machine import machine
from real_video_figures import (
    abs_rel_to_inverse_depth,
    camera_figures,
    depth_figures,
    is_fixed,
    log_disagreement,
    motion_percent,
    path_ate_percent,
    projected,
    static_depth_figures,
    static_reprojection_px,
    step_ratio,
    track_figures,
)
from real_video_reference import reference_mapping
from real_video_report import COLUMNS, LONG, SHORT, Row, camera_depth, contact_sheet, markdown

from st4rtrack.bench.protocol import protocol_named
from st4rtrack.classical.solver.cameras import solve_video
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
from st4rtrack.types import DepthSource, Video

NUM_FRAMES = 64
DEPTH_SEQUENCES = ("hololens_office", "tartan_hospital", "kitchen_static")
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


def depth_part(runner: Runner) -> Iterator[Row]:
    """Depth of sequences that have it, beside a constant plane and the teacher."""
    teacher = teacher_session(runner)
    for sequence in (sequence for sequence in runner.sequences() if sequence.name in DEPTH_SEQUENCES):
        scene = runner.scene(sequence.video, fit="stretch")
        grid = source_grid(scene)
        row, column = nearest_pixel(grid, sequence.video.height, sequence.video.width)
        true = sequence.read_depth()[:, row, column]
        inverse = np.stack([teacher_at(teacher, rgb, grid) for rgb in sequence.video.frames()])
        depth = {
            "constant plane": np.ones_like(true),
            "teacher, 1 / output": 1 / np.where(inverse > 0, inverse, np.nan),
            "this model": np.stack([camera_depth(scene, t) for t in range(len(scene))]),
        }
        for kind, predicted in depth.items():
            yield {"name": sequence.name, "kind": kind, **depth_figures(predicted, true)}


def static_part(runner: Runner) -> Iterator[Row]:
    """Depth of the pixels that the scene takes for static, and of those of them that several views measure."""
    for sequence in (sequence for sequence in runner.sequences() if sequence.has_depth):
        scene = runner.scene(sequence.video, fit="stretch")
        row, column = nearest_pixel(source_grid(scene), sequence.video.height, sequence.video.width)
        true = sequence.read_depth()[:, row, column]
        predicted = np.stack([camera_depth(scene, t) for t in range(len(scene))])
        source = np.asarray(scene.reconstruction.source)
        groups = {"measured": source == DepthSource.MEASURED, "all static": source != DepthSource.DYNAMIC}
        for kind, figures in static_depth_figures(predicted, true, groups).items():
            yield {"name": sequence.name, "kind": kind, **figures}


def cameras_part(runner: Runner) -> Iterator[Row]:
    """Cameras of all sequences, beside those of the solver alone."""
    for sequence in runner.sequences():
        scene, cpu_s = runner.scene(sequence.video, fit="stretch"), runner.cpu_s(sequence.video, fit="stretch")
        true, true_focal = sequence.world_from_camera, sequence.intrinsics[0, 0]
        found = {"this model": (solved_cameras(scene), focal_source_px(scene), camera_depth(scene, 0), cpu_s)}
        start = time.process_time()
        solved = solve_video(sequence.video)
        depth = np.ones(1)  # the unit of the solver is the median depth of the anchor
        found["solver alone"] = (solved.world_from_camera, solved.focal_px, depth, time.process_time() - start)
        for kind, (cameras, focal_px, depth, seconds) in found.items():
            figures = camera_figures(cameras, true, focal_px / true_focal)
            if is_fixed(true):
                figures |= {"ate_m": np.nan, "motion_percent": motion_percent(cameras, depth)}
            yield {"name": sequence.name, "kind": kind, **figures, "cpu_s": seconds}


def tracks_part(runner: Runner) -> Iterator[Row]:
    """2D accuracy of the tracks, projected with the cameras of the scene."""
    least_path_m = protocol_named("published").dynamic_path_m
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
    "depth": ("Depth, one median scale per sequence", depth_part),
    "static": ("Depth of static pixels, one median scale per sequence", static_part),
    "cameras": ("Cameras of sequences with truth", cameras_part),
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
    before = chosen.output.with_name("real_video_before.json")
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
        how = f"{machine()}, stop {chosen.stop}, depth prior {chosen.depth_prior}"
        results["parts"][part] = {"machine": how, "rows": rows}
        output.write_text(json.dumps(results, indent=1) + "\n")
        old = read_results(before) if before != output else {}
        output.with_suffix(".md").write_text(markdown(results, old, titles))
    print(output.with_suffix(".md").read_text())


if __name__ == "__main__":
    main()
