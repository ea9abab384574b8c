"""What temporal smoothing gains and costs: `python performance/refinement.py DATA... [--work FOLDER]`.

DATA are folders of WorldTrack sequences with tracks. The network predicts each once, to disk (WORK), and smoothing reworks that.
Without DATA, 30 sequences of the procedural world are made from seeds of which neither training nor tests know. Corrected protocol:
tracking EPE in metres, all points, after the global median scale. Jitter: median second difference of the tracks, against none.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import procedural_sequences
import torch
import tyro
from machine import machine

from st4rtrack.bench.protocol import protocol_named
from st4rtrack.bench.score import score_tracking
from st4rtrack.geometry.sampling import sample_map
from st4rtrack.io.scene import load_scene
from st4rtrack.io.worldtrack import WorldTrackSequence, find_worldtrack, read_worldtrack
from st4rtrack.model.checkpoint import load_model
from st4rtrack.pipeline.reconstruct import reconstruct
from st4rtrack.pipeline.smoothing import Predicted, smoothed_frames
from st4rtrack.scene import Scene
from st4rtrack.types import Pointmap, TwoPointmaps, UserError

KEPT_ASIDE = 777000
"""Seed of the procedural sequences."""

ROWS = {"none": False, "smoothness": True}


def main(
    data: tyro.conf.Positional[tuple[Path, ...]] = (),
    work: Path = Path("refinement"),
    count: int = 30,
    model: Annotated[str | None, tyro.conf.arg(name="model")] = None,
) -> None:
    """Predicts what is missing in WORK, and prints one table: a row per sequence and the mean, a column without and with smoothing."""
    if not data:
        procedural_sequences.main(work / "sequences", count=count, seed=KEPT_ASIDE)
        data = (work / "sequences",)
    print(f"{machine()}\n\n| sequence | {' | '.join(ROWS)} |\n|---|{'---|' * len(ROWS)}")
    errors, seconds, jitters = [], [], []
    for name, path in sorted(found for folder in data for found in find_worldtrack(folder)):
        sequence = read_worldtrack(path, name=name)
        if sequence.tracks_world is None:
            continue
        scene = predicted(sequence, work / "predicted" / name, model)
        found = [row(scene, sequence, smooth=smooth) for smooth in ROWS.values()]
        for column, values in zip((errors, jitters, seconds), zip(*found, strict=True), strict=True):
            column.append(values)
        print(f"| {name} | {' | '.join(f'{error:.4f} ({error / errors[-1][0] - 1:+.1%})' for error in errors[-1])} |", flush=True)
    mean, relative = np.mean(errors, axis=0), np.mean(np.divide(errors, np.array(errors)[:, :1]), axis=0) - 1
    print(f"| mean | {' | '.join(f'{error:.4f} ({change:+.1%})' for error, change in zip(mean, relative, strict=True))} |")
    print(f"| jitter | {' | '.join(f'{share:.2f}' for share in np.mean(np.divide(jitters, np.array(jitters)[:, :1]), axis=0))} |")
    print(f"| ms a frame | {' | '.join(f'{1000 * cost:.1f}' for cost in np.mean(seconds, axis=0))} |")


def predicted(sequence: WorldTrackSequence, folder: Path, model: str | None) -> Scene:
    """The scene as the network gives it, made where it is not there; what that takes is said."""
    try:
        return load_scene(folder)
    except UserError:
        start = time.perf_counter()
        reconstruct(sequence.video, model=load_model(model), fit="stretch", output=folder, refine=False)
        print(f"{sequence.name}: predicted in {(time.perf_counter() - start) / len(sequence):.3f} s a frame", flush=True)
    return load_scene(folder)


def row(scene: Scene, sequence: WorldTrackSequence, *, smooth: bool) -> tuple[float, float, float]:
    """Tracking EPE, jitter, and the processor seconds per frame of smoothing."""
    assert sequence.visible is not None
    seen = sequence.visible[0]
    query_px = scene.pixel_map.network_from_source(sequence.query_px[seen])
    tracks = np.full((len(scene), len(seen), 3), np.nan)
    frames, spent = _Frames(scene), 0.0
    last = time.process_time()
    for index, _, maps in smoothed_frames(frames, frames.anchor, scene.anchor_index) if smooth else frames:
        spent += time.process_time() - last
        tracks[index, seen] = sample_map(np.asarray(maps.tracking.points_world), query_px)
        last = time.process_time()
    found, _ = score_tracking(tracks, sequence, protocol_named("corrected"))
    jitter = float(np.median(np.linalg.norm(np.diff(tracks[:, seen], 2, axis=0), axis=-1)))
    return found["all"]["median"]["epe"], jitter, max(spent - frames.seconds, 0.0) / len(scene)


class _Frames:
    """The stored predictions in the order of a run; `seconds` is what reading them took."""

    def __init__(self, scene: Scene) -> None:
        self._scene, self.seconds = scene, 0.0
        self.anchor = self._maps(scene.anchor_index).tracking

    def __iter__(self) -> Iterator[Predicted]:
        for index in (*range(self._scene.anchor_index, len(self._scene)), *range(self._scene.anchor_index - 1, -1, -1)):
            start = time.process_time()
            frame = index, np.zeros(0, np.uint8), self._maps(index)
            self.seconds += time.process_time() - start
            yield frame

    def _maps(self, index: int) -> TwoPointmaps:
        return TwoPointmaps(*[_at(part, index) for part in (self._scene.tracking, self._scene.reconstruction)])


def _at(over_time: Pointmap, index: int) -> Pointmap:
    """One frame, read from disk."""
    assert over_time.confidence is not None
    return Pointmap(np.asarray(over_time.points_world[index]), np.asarray(over_time.confidence[index]))


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    tyro.cli(main)
