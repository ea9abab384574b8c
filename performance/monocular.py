"""Monocular depth against truth: `python performance/monocular.py WEIGHTS [DATA...] [--frames FOLDER] [--teacher ONNX] [--sheet JPG]`.

DATA are WorldTrack sequences with depth, for a last reading only: weights are selected on held-out pictures and frames
(`st4rtrack train mono`), never on these sequences. `--frames` reads the validation part of rendered frames, which may be read at any time.
Each frame is fitted by one scale and one shift in inverse depth (robust), or by one scale; means over frames, then over sequences.
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from depth_teacher import open_teacher, teacher_inverse_depth
from machine import machine

from st4rtrack.data.depth_frames import RenderedFrames
from st4rtrack.hints.depth_prior import DepthPrior
from st4rtrack.hints.depth_prior.networks import BuiltinPrior
from st4rtrack.io.worldtrack import WorldTrackSequence, find_worldtrack, read_worldtrack
from st4rtrack.model.checkpoint import load_monocular
from st4rtrack.render.draw import DEPTH_MAP, map_colours, robust_range
from st4rtrack.train.monocular import FACTOR, fit_inverse_depth

FRAME_STEP = 8
MAX_ABS_REL = 10.0
MIN_KNOWN, MIN_SUBJECT = 0.05, 0.002
"""Smallest share of the pixels with truth, and of those of subjects, for a frame to count."""
NUM_RENDERED = 128
EDGES = np.array([0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 10])
"""Bins of the expected log-depth error in the calibration table."""


def scores(inverse: np.ndarray, depth: np.ndarray, *, fit: np.ndarray, count: np.ndarray, shift: bool) -> tuple[float, float]:
    """AbsRel and percent within 1.25 of an inverse depth [height, width] against depth.

    Args:
        fit: [height, width] bool, pixels that decide scale and shift.
        count: pixels that are counted.
        shift: fit a shift too, else one scale.
    """
    predicted, target = (torch.from_numpy(value.astype(np.float64)) for value in (inverse, 1 / depth))
    scale, offset = (
        fit_inverse_depth(predicted[fit], target[fit])
        if shift
        else ((target / predicted.clamp(min=1e-6))[fit].median(), predicted.new_zeros(()))
    )
    ratio = (scale * predicted + offset)[count].clamp(min=1e-6) / target[count]
    within = torch.maximum(ratio, 1 / ratio) < FACTOR
    return float((1 / ratio - 1).abs().clamp(max=MAX_ABS_REL).mean()), 100 * float(within.double().mean())


def of_sequence(
    sequence: WorldTrackSequence, methods: dict[str, Callable[[np.ndarray], np.ndarray]]
) -> dict[str, tuple[float, ...]]:
    """AbsRel and share after scale and shift, then after scale alone, of every method; means over frames."""
    depths, rows = sequence.read_depth(), {name: [] for name in methods}
    for number, rgb in enumerate(sequence.video.frames()):
        known = np.isfinite(depths[number]) & (depths[number] > 0)
        if number % FRAME_STEP or known.mean() < MIN_KNOWN:
            continue
        for name, method in methods.items():
            inverse, depth = cv2.resize(method(rgb), depths[number].shape[::-1]), np.where(known, depths[number], 1)
            pair = [scores(inverse, depth, fit=known, count=known, shift=shift) for shift in (True, False)]
            rows[name].append((*pair[0], *pair[1]))
    return {name: tuple(np.mean(values, axis=0)) for name, values in rows.items()}


def of_frames(folder: Path, methods: dict[str, Callable[[np.ndarray], np.ndarray]]) -> dict[str, dict[str, tuple[float, ...]]]:
    """The same for held-out rendered frames: all pixels, and those of subjects after the fit of all."""
    frames = RenderedFrames(folder, "validation")
    rows = {part: {name: [] for name in methods} for part in ("all pixels", "subjects")}
    for number in range(0, len(frames), max(1, len(frames) // NUM_RENDERED)):
        frame = frames.frame(number)
        known = frame.inverse_depth > 0
        subject = known & frame.subject
        for name, method in methods.items():
            inverse, depth = method(frame.rgb), 1 / np.where(known, frame.inverse_depth, 1)
            for part, mask in (("all pixels", known), ("subjects", subject)):
                if known.mean() > MIN_KNOWN and mask.mean() > MIN_SUBJECT:
                    pair = [scores(inverse, depth, fit=known, count=mask, shift=shift) for shift in (True, False)]
                    rows[part][name].append((*pair[0], *pair[1]))
    return {part: {name: tuple(np.mean(values, axis=0)) for name, values in each.items()} for part, each in rows.items()}


def calibration(prior: DepthPrior, sequences: list[WorldTrackSequence]) -> str:
    """Table: expected log-depth error, share of pixels, measured mean error after one scale per frame."""
    expected, measured, focals = [], [], []
    for sequence in sequences:
        depths = sequence.read_depth()
        for number, rgb in enumerate(sequence.video.frames()):
            known = np.isfinite(depths[number]) & (depths[number] > 0)
            if number % FRAME_STEP or known.mean() < MIN_KNOWN:
                continue
            predicted = prior(rgb, number)
            assert predicted.focal_px is not None
            residual = np.log(depths[number][known]) - np.log(predicted.values[known])
            expected.append(predicted.log_error[known])
            measured.append(np.abs(residual - np.median(residual)))
            focals.append(predicted.focal_px / sequence.intrinsics[0, 0])
    flat, errors = np.concatenate(expected), np.concatenate(measured)
    index = np.digitize(flat, EDGES) - 1
    lines = ["| expected | pixels | measured |", "|---|---|---|"]
    for k in range(len(EDGES) - 1):
        if (chosen := index == k).any():
            lines.append(f"| {flat[chosen].mean():.3f} | {100 * chosen.mean():.1f} % | {errors[chosen].mean():.3f} |")
    ratio = np.array(focals)
    lines.append(
        f"\nFocal length over the true one: median {np.median(ratio):.2f}, mean |log| {np.abs(np.log(ratio)).mean():.2f}"
    )
    return "\n".join(lines)


def sheet(sequences: list[WorldTrackSequence], methods: Sequence[Callable[[np.ndarray], np.ndarray]]) -> np.ndarray:
    """First frame and the inverse depth of each method, a row for each sequence."""
    rows = []
    for sequence in sequences:
        rgb = cv2.resize(sequence.video.frame(0), (256, 192), interpolation=cv2.INTER_AREA)
        maps = [method(rgb) for method in methods]
        panels = [map_colours(cv2.resize(each, (256, 192)), robust_range(each), DEPTH_MAP) for each in maps]
        rows.append(np.concatenate([rgb, *panels], axis=1))
    return np.concatenate(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path)
    parser.add_argument("data", type=Path, nargs="*")
    parser.add_argument("--frames", type=Path, nargs="*", default=(), help="folders of rendered frames with validation/")
    parser.add_argument("--teacher", type=Path, help="ONNX file of the teacher, for comparison")
    parser.add_argument("--sheet", type=Path, help="picture of the first frames")
    options = parser.parse_args()
    prior = BuiltinPrior(load_monocular(options.weights, device="cpu"))
    methods: dict[str, Callable[[np.ndarray], np.ndarray]] = {"network": lambda rgb: 1 / prior(rgb, 0).values}
    if options.teacher:
        session = open_teacher(options.teacher)
        methods["teacher"] = lambda rgb: cv2.resize(teacher_inverse_depth(session, rgb), rgb.shape[1::-1]).astype(np.float32)
    sequences = [read_worldtrack(path, name=name) for data in options.data for name, path in find_worldtrack(data)]
    sequences = [sequence for sequence in sequences if sequence.has_depth]
    print(f"{machine()}; every {FRAME_STEP}th frame\n")
    print(
        "| sequence | method | scale and shift: AbsRel | within 1.25 | scale: AbsRel | within 1.25 |\n|---|---|---|---|---|---|"
    )
    results = {sequence.name: of_sequence(sequence, methods) for sequence in sequences}
    if results:
        results["mean"] = {name: tuple(np.mean([row[name] for row in results.values()], axis=0)) for name in methods}
    for folder in options.frames:
        results |= {f"{folder.name}, {part}": rows for part, rows in of_frames(folder, methods).items()}
    for sequence, rows in results.items():
        for method, row in rows.items():
            print(f"| {sequence} | {method} | {row[0]:.3f} | {row[1]:.1f} % | {row[2]:.3f} | {row[3]:.1f} % |")
    if sequences:
        print(f"\n{calibration(prior, sequences)}")
    if options.sheet and sequences:
        cv2.imwrite(str(options.sheet), sheet(sequences, list(methods.values()))[..., ::-1])


if __name__ == "__main__":
    main()
