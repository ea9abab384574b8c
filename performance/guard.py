"""Guard against slower runs, by hand: `python performance/guard.py`.

Processor time per frame of a fixed rendered clip with the embedded model, over that of a calibration loop in the same process, in
one thread. Fails if the ratio exceeds the reference (guard.json, not in the repository) by more than 15 %. `--write` stores the
reference, also after an accepted change of the work per frame.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # before NumPy and PyTorch are imported

import cv2
import numpy as np
from end_to_end import write_clip
from machine import machine

import st4rtrack

REFERENCE = Path(__file__).with_name("guard.json")
MAX_GROWTH = 1.15
FRAMES, SIZE, ROUNDS = 32, (144, 256), 3


def calibration() -> float:
    """Processor time in seconds of work like that of a run: optical flow, sampling, products of matrices, element-wise arithmetic."""
    rng = np.random.default_rng(0)
    grey = cv2.GaussianBlur(rng.integers(0, 255, (288, 512), np.uint8), (0, 0), 2)
    moved, maps = np.roll(grey, 3, axis=1), rng.random((288, 512), np.float32)
    matrix = rng.random((512, 512), np.float32)
    index = rng.random((288, 512, 2), np.float32) * 280
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    start = time.process_time()
    for _ in range(20):
        flow.calc(grey, moved, None)  # pyright: ignore[reportCallIssue, reportArgumentType] (the stubs need a start)
        for _ in range(10):
            cv2.remap(maps, index, None, cv2.INTER_LINEAR)  # pyright: ignore[reportCallIssue, reportArgumentType] (as above)
            np.sqrt(maps * maps + 1)
            np.matmul(matrix, matrix)
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write the measured ratio as the new reference")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    model, ratios = st4rtrack.load_model(dtype="float32"), []
    with tempfile.TemporaryDirectory() as folder:
        video = Path(folder) / "clip.mp4"
        write_clip(video, FRAMES, *SIZE)
        st4rtrack.reconstruct(str(video), model=model, output=f"{folder}/warm", stop=4)
        for number in range(ROUNDS):
            before, start = calibration(), time.process_time()
            st4rtrack.reconstruct(str(video), model=model, output=f"{folder}/{number}")
            spent = (time.process_time() - start) / FRAMES
            ratios.append(2 * spent / (before + calibration()))
            print(f"{1000 * spent:.0f} ms of processor time per frame, {ratios[-1]:.4f} of the calibration loop")
    ratio = float(np.median(ratios))
    if options.write:
        REFERENCE.write_text(json.dumps({"ratio": round(ratio, 4), "machine": machine()}, indent=2) + "\n")
        return
    reference = json.loads(REFERENCE.read_text())["ratio"]
    print(f"{machine()}\nmedian {ratio:.4f}, reference {reference:.4f}: {ratio / reference:.2f} of it, at most {MAX_GROWTH}")
    if ratio > MAX_GROWTH * reference:
        sys.exit("slower than the reference; see where with `st4rtrack doctor --benchmark`, or accept it with --write")


if __name__ == "__main__":
    main()
