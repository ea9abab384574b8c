"""Queries of any frame, with one anchor and with those that `--anchor auto` adds: `python performance/anchors.py DATA [NAME...]`.

Sequences in WorldTrack's format, with truth for all tracks in all frames. For each: time per frame of the first anchor's pass and of what
is added to it; how much of the frames belongs to tracks; the mean error of queries from ten random frames against that of the same points
asked for in frame 0 (metres, one global median scale found on the queries of frame 0).
"""

import argparse
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from machine import machine

from st4rtrack.geometry.align import median_scale
from st4rtrack.geometry.camera import project
from st4rtrack.geometry.track_assignment import tracked_view
from st4rtrack.geometry.transforms import invert_rigid, transform_points
from st4rtrack.io.worldtrack import WorldTrackSequence, find_worldtrack, read_worldtrack
from st4rtrack.model.checkpoint import load_model
from st4rtrack.pipeline.reconstruct import reconstruct
from st4rtrack.scene import FrameSurface, Scene

QUERY_FRAMES = 10
HEAD = (
    "sequence             s/frame one  auto  pairs  anchors  covered one  auto  worst  drift %"
    "  EPE from 0  from others: one  ratio  auto  ratio"
)


@dataclass(frozen=True)
class Errors:
    """Mean errors in metres: queries from other frames, and the same points asked for in frame 0."""

    other: float
    same_from_first: float

    @property
    def ratio(self) -> float:
        return self.other / self.same_from_first


def inside(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return np.asarray((pixels >= 0).all(axis=-1) & (pixels <= size[::-1]).all(axis=-1))


def errors(sequence: WorldTrackSequence, scene: Scene, frames: np.ndarray) -> tuple[float, Errors]:
    """Error of all queries of frame 0, and of those from the given frames."""
    assert sequence.tracks_world is not None and sequence.visible is not None
    first = sequence.visible[0] & inside(sequence.query_px, scene.source_size)
    found = scene.tracks(sequence.query_px[first]).points_world
    scale = median_scale(found, sequence.tracks_world[:, first])
    from_first = np.full(sequence.visible.shape, np.nan)
    from_first[:, first] = np.linalg.norm(scale * found - sequence.tracks_world[:, first], axis=-1)
    other, same = [], []
    for frame in frames:
        camera_from_world = invert_rigid(sequence.world_from_camera[frame])
        pixels = project(transform_points(camera_from_world, sequence.tracks_world[frame]), sequence.intrinsics)
        chosen = first & sequence.visible[frame] & inside(pixels, scene.source_size)
        tracks = scene.tracks(pixels[chosen], frame=int(frame))
        other.append(np.linalg.norm(scale * tracks.points_world - sequence.tracks_world[:, chosen], axis=-1).mean())
        same.append(from_first[:, chosen].mean())
    return float(np.nanmean(from_first)), Errors(float(np.mean(other)), float(np.mean(same)))


def covered_by_first(scene: Scene) -> float:
    """Mean share of the frames' pixels that belong to the first anchor's tracks."""
    shares = []
    for frame in range(len(scene)):
        surface = FrameSurface.of(scene.reconstruction, scene.cameras, frame)
        points = np.asarray(scene.tracking.points_world[frame], np.float64).reshape(-1, 3)
        usable = np.asarray(scene.tracking.visible[frame]).reshape(-1)  # pyright: ignore[reportOptionalSubscript]
        view = tracked_view(points, usable, surface.depth, surface.world_from_camera, surface.intrinsics)
        shares.append(view.covered(surface.depth, np.ones(surface.depth.shape, bool)).mean())
    return float(np.mean(shares))


def row(name: str, path: Path, folder: Path, *, seed: int = 0) -> str:
    sequence, model = read_worldtrack(path, name=name), load_model()
    scenes, seconds = {}, {}
    for anchor in (0, "auto"):
        start = time.perf_counter()
        scenes[anchor] = reconstruct(
            sequence.video, model=model, anchor=anchor, fit="stretch", output=folder / f"{path.stem}-{anchor}"
        )
        seconds[anchor] = (time.perf_counter() - start) / len(sequence)
    frames = np.random.default_rng(seed).choice(np.arange(1, len(sequence)), QUERY_FRAMES, replace=False)
    first, one = errors(sequence, scenes[0], frames)
    _, auto = errors(sequence, scenes["auto"], frames)
    results = scenes["auto"].info["results"]
    drift = np.mean([record["drift_percent"] for record in results["anchors"] if record["drift_percent"] is not None] or [0.0])
    return (
        f"{name:20s} {seconds[0]:11.2f} {seconds['auto']:5.2f} {results['pairs_per_frame']:6.2f} {len(results['anchors']):8d} "
        f"{covered_by_first(scenes[0]):12.3f} {results['coverage']['mean']:5.3f} {results['coverage']['worst']:6.3f} {drift:8.2f} "
        f"{first:11.3f} {one.other:17.3f} {one.ratio:6.2f} {auto.other:5.3f} {auto.ratio:6.2f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Queries of any frame with one anchor and with those that are added.")
    parser.add_argument("data", type=Path)
    parser.add_argument("names", nargs="*", help="default: all with tracks")
    arguments = parser.parse_args()
    print(machine())
    print(HEAD)
    with TemporaryDirectory() as folder:
        for name, path in find_worldtrack(arguments.data):
            if (arguments.names and name not in arguments.names) or read_worldtrack(path).tracks_world is None:
                continue
            print(row(name, path, Path(folder)), flush=True)


if __name__ == "__main__":
    main()
