"""Time and memory of scoring, each job in a process of its own: `python performance/scoring.py`.

Tracking: 50 sequences of 64 frames and 1000 tracks. Reconstruction: a sequence of 64 frames whose truth has the size of Point Odyssey's
(960x540) and whose prediction is 512x288.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from machine import machine

FRAMES, TRACKS = 64, 1000


def make_tracking(folder: Path, sequences: int) -> None:
    """Sequences with tracks and predictions with visibility; the contents do not matter, the sizes do."""
    from st4rtrack.bench.predictions import Prediction, write_prediction
    from st4rtrack.io.worldtrack import encode_jpeg, write_worldtrack

    rng = np.random.default_rng(0)
    images = [encode_jpeg(rng.integers(0, 255, (288, 512, 3), np.uint8))] * FRAMES
    cameras = np.tile(np.eye(4), (FRAMES, 1, 1))
    for k in range(sequences):
        tracks = rng.uniform((-1, -1, 2), (1, 1, 4), (FRAMES, TRACKS, 3))
        visible = rng.random((FRAMES, TRACKS)) < 0.9
        write_worldtrack(
            folder / "data" / f"{k:03d}.npz",
            images_jpeg=images,
            fx_fy_cx_cy=np.array([400.0, 400.0, 256.0, 144.0]),
            camera_from_world=cameras,
            visibility=visible,
            tracks_camera=tracks,
        )
        noisy = tracks + rng.normal(0, 0.2, tracks.shape)
        write_prediction(folder / "predictions" / f"{k:03d}.npz", Prediction(noisy, None, visible, cameras))


def make_reconstruction(folder: Path, sequences: int) -> None:
    """Sequences with depth and predictions with pointmaps and cameras."""
    from st4rtrack.bench.predictions import Prediction, write_prediction
    from st4rtrack.io.worldtrack import encode_jpeg, write_worldtrack

    rng = np.random.default_rng(0)
    images = [encode_jpeg(rng.integers(0, 255, (540, 960, 3), np.uint8))] * FRAMES
    cameras = np.tile(np.eye(4), (FRAMES, 1, 1))
    for k in range(sequences):
        depth = rng.uniform(1, 6, (FRAMES, 540, 960)).astype(np.float32)
        write_worldtrack(
            folder / "data" / f"{k:03d}.npz",
            images_jpeg=images,
            fx_fy_cx_cy=np.array([800.0, 800.0, 480.0, 270.0]),
            camera_from_world=cameras,
            visibility=depth > 0,
            depth=depth,
        )
        points = rng.uniform((-1, -1, 1), (1, 1, 6), (FRAMES, 288, 512, 3)).astype(np.float32)
        write_prediction(folder / "predictions" / f"{k:03d}.npz", Prediction(None, points, None, cameras))


def measure(folder: Path, protocol: str) -> tuple[float, float]:
    """Seconds and MiB of one `bench score`, its start included."""
    command = [sys.executable, __file__, "--child", str(folder), protocol]
    start = time.perf_counter()
    peak = float(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])
    return time.perf_counter() - start, peak


def score_once(folder: str, protocol: str) -> None:
    from st4rtrack.cli.main import main as st4rtrack

    data, predictions = (str(Path(folder) / name) for name in ("data", "predictions"))
    st4rtrack(
        ["bench", "score", "--data", data, "--predictions", predictions, "--protocol", protocol, "-o", f"{folder}/scores.json"]
    )
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--child", nargs=2, metavar=("FOLDER", "PROTOCOL"))
    options = parser.parse_args()
    if options.child:
        score_once(*options.child)
        return
    print(f"{machine()}; medians of {options.rounds} rounds\n")
    print("| job | protocol | seconds | peak memory, MiB |\n|---|---|---|---|")
    jobs = (
        (f"tracking, 50 sequences of {FRAMES} frames and {TRACKS} tracks", make_tracking, 50),
        (f"reconstruction, 1 sequence of {FRAMES} frames, truth 960x540", make_reconstruction, 1),
    )
    for name, make, sequences in jobs:
        with tempfile.TemporaryDirectory() as folder:
            make(Path(folder), sequences)
            for protocol in ("published", "corrected"):
                rounds = np.array([measure(Path(folder), protocol) for _ in range(options.rounds)])
                seconds, peak = np.median(rounds, axis=0)
                print(f"| {name} | {protocol} | {seconds:.1f} | {peak:.0f} |", flush=True)


if __name__ == "__main__":
    main()
