"""Accuracy against the faults of a video: `python performance/robustness.py [DATA] [-o FOLDER] [--workers 2]`.

Two WorldTrack sequences with blur, noise, compression, low light, a low frame rate and a low resolution, two levels each: tracking
APD of all and of dynamic points, focal error and ATE (protocol published). Writes robustness.json, .md and .png.
"""

import argparse
import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
from machine import machine
from matplotlib.figure import Figure

from st4rtrack.bench.methods.pairwise import scene_prediction
from st4rtrack.bench.protocol import Protocol, protocol_named
from st4rtrack.bench.score import score_sequence
from st4rtrack.io.video import open_video
from st4rtrack.io.worldtrack import WorldTrackSequence, read_worldtrack
from st4rtrack.model.checkpoint import load_model
from st4rtrack.pipeline.reconstruct import reconstruct

SEQUENCES = ("dog_skin", "fall_arc")
FULL_WELL = 400.0
"""Photons at which a pixel of the low-light frames is white before the exposure is reduced."""
FAULTS: dict[str, tuple[str, tuple[float, ...]]] = {
    "blur": ("standard deviation, px of 256", (1, 3)),
    "noise": ("standard deviation, of 255", (10, 30)),
    "compression": ("JPEG quality", (30, 8)),
    "low light": ("exposure", (1 / 4, 1 / 16)),
    "frame rate": ("every n-th frame", (2, 4)),
    "resolution": ("share of the width", (1 / 2, 1 / 4)),
}
COLUMNS = ("APD", "APD dynamic", "focal error %", "ATE m")


def degraded(rgb: np.ndarray, fault: str, level: float, rng: np.random.Generator) -> np.ndarray:
    """Apply one fault to an image [height, width, 3] uint8."""
    height, width = rgb.shape[:2]
    if fault == "blur":
        return cv2.GaussianBlur(rgb, (0, 0), level * width / 256)
    if fault == "noise":
        return np.clip(rgb + rng.normal(0, level, rgb.shape), 0, 255).astype(np.uint8)
    if fault == "compression":
        encoded = cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, int(level)])[1]
        return np.ascontiguousarray(np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR))[..., ::-1])
    if fault == "low light":  # linear light, photon noise, then the camera's tone curve without gain
        linear = (rgb / 255.0) ** 2.2 * level * FULL_WELL
        return (255 * np.clip(rng.poisson(linear) / FULL_WELL, 0, 1) ** (1 / 2.2)).astype(np.uint8)
    small = cv2.resize(rgb, (round(width * level), round(height * level)), interpolation=cv2.INTER_AREA)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)


def with_fault(sequence: WorldTrackSequence, fault: str, level: float) -> tuple[WorldTrackSequence, np.ndarray]:
    """Sequence and its frames [time, height, width, 3] with a fault; a lower frame rate keeps every n-th frame of both."""
    rgb = np.stack(list(sequence.video.frames()))
    if fault == "frame rate":
        assert sequence.tracks_world is not None and sequence.visible is not None
        kept = slice(None, None, int(level))
        cameras, tracks, visible = sequence.world_from_camera[kept], sequence.tracks_world[kept], sequence.visible[kept]
        return replace(sequence, world_from_camera=cameras, tracks_world=tracks, visible=visible, has_depth=False), rgb[kept]
    rng = np.random.default_rng(0)
    return sequence, np.stack([degraded(frame, fault, level, rng) for frame in rgb]) if fault else rgb


def measure(path: Path, fault: str, level: float) -> list[float]:
    """The `COLUMNS` of a sequence with a fault, by the embedded model; "" is no fault."""
    protocol = protocol_named("published")
    assert isinstance(protocol, Protocol)
    sequence, rgb = with_fault(read_worldtrack(path), fault, level)
    scene = reconstruct(open_video(rgb), model=load_model(device="cpu"), fit="stretch")
    row = score_sequence(sequence, scene_prediction(scene, sequence, protocol), protocol)
    tracking, cameras = row["tracking"], row["cameras"]
    values = (*(tracking[part]["median"]["apd"] for part in ("all", "dynamic")), cameras["focal_error"], cameras["ate"])
    return [float("nan") if value is None else float(value) for value in values]


def table(results: dict[str, list[float]]) -> str:
    """Markdown table of mean values over the sequences."""
    lines = [f"| fault | level | {' | '.join(COLUMNS)} |", "|---|---|" + "---|" * len(COLUMNS)]
    for key, row in results.items():
        fault, _, level = key.partition(" ~ ")
        unit = FAULTS[fault][0] if fault in FAULTS else ""
        lines.append(
            f"| {fault} | {unit} {level} | "
            + " | ".join(f"{v:.3f}" if c == "ATE m" else f"{v:.1f}" for c, v in zip(COLUMNS, row, strict=True))
            + " |"
        )
    return "\n".join(lines)


def plot(results: dict[str, list[float]], path: Path) -> None:
    """Small multiples: APD of all and of dynamic points over the levels of each fault."""
    figure = Figure(figsize=(9, 4.6), layout="constrained")
    for axes, (fault, (unit, levels)) in zip(figure.subplots(2, 3, sharey=True).flat, FAULTS.items(), strict=True):
        rows = np.array([results["none"], *(results[f"{fault} ~ {level:.3g}"] for level in levels)])
        for column, label, colour in ((0, "all points", "#0072B2"), (1, "dynamic points", "#D55E00")):
            axes.plot(range(len(rows)), rows[:, column], "o-", color=colour, label=label)
        axes.set_xticks(range(len(rows)), ["none", *(f"{level:.3g}" for level in levels)])
        axes.set_title(fault, fontsize=10)
        axes.set_xlabel(unit, fontsize=8)
        axes.set_ylim(0)
    figure.axes[0].legend(fontsize=8)
    figure.supylabel("tracking APD, %", fontsize=9)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", default=Path("../shared/sequences"))
    parser.add_argument("-o", "--output", type=Path, default=Path("performance/worldtrack"))
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    cases = [("", 0.0), *((fault, level) for fault, (_, levels) in FAULTS.items() for level in levels)]
    results: dict[str, list[float]] = {}
    with ProcessPoolExecutor(options.workers, mp_context=get_context("spawn")) as pool:
        futures = {case: [pool.submit(measure, options.data / f"{name}.npz", *case) for name in SEQUENCES] for case in cases}
        for (fault, level), both in futures.items():
            key = f"{fault} ~ {level:.3g}" if fault else "none"
            results[key] = np.mean([future.result() for future in both], axis=0).round(4).tolist()
            print(f"{len(results)}/{len(cases)} {key}: {results[key]}", flush=True)
    options.output.mkdir(parents=True, exist_ok=True)
    text = f"{machine()}; mean of {' and '.join(SEQUENCES)}\n\n{table(results)}\n"
    (options.output / "robustness.json").write_text(json.dumps({"columns": COLUMNS, "rows": results}, indent=1) + "\n")
    (options.output / "robustness.md").write_text(text)
    plot(results, options.output / "robustness.png")
    print(text)


if __name__ == "__main__":
    main()
