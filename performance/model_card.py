"""What the model card says beside the benchmark: `python performance/model_card.py --pairs FOLDER`, FOLDER holding held-out pairs.

Prints the table of the held-out pairs and the error of static depth by baseline, and draws docs/images/failures.jpg: depth of the anchor
and errors of tracks on the test sequences, the wrong beside the right.
"""

import argparse
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import torch

from st4rtrack.data.procedural import ProceduralConfig, render_clips, tracking_points
from st4rtrack.io.worldtrack import WorldTrackSequence, read_worldtrack
from st4rtrack.metrics.points import end_point_error
from st4rtrack.model.checkpoint import load_model
from st4rtrack.model.network import St4RTrack
from st4rtrack.pipeline.reconstruct import reconstruct
from st4rtrack.preprocess import normalize_images
from st4rtrack.render.draw import INK, dot, fit_image, map_colours, put_text, rgb_tuple, robust_range
from st4rtrack.train.forward import PairNetwork
from st4rtrack.train.source import held_out_pairs
from st4rtrack.train.validate import validate, validate_still

DOCS = Path(__file__).parent.parent / "docs"
TRACKED = ("dog_skin", "fall_arc", "quadruped_track", "two_cmu_static")
SCENES_AT_ONCE = 25
BASELINE_EDGES = (0.0, 0.005, 0.02, 0.05, 0.1, np.inf)
SHOWN_FRAME = 32
WORST_M = 1.5
PANEL = (240, 320)
BAND = 26


def depth_by_baseline(model: St4RTrack, scenes: int) -> list[tuple[str, int, float]]:
    """Two views and nothing else: |depth / truth - 1| of what stands still in the anchor, after one median scale per pair.

    Returns:
        For each range of the baseline over the anchor's median depth: its name, how many pairs, median over pairs of their median error.
    """
    rows = []
    for start in range(0, scenes, SCENES_AT_ONCE):
        clips = render_clips(SCENES_AT_ONCE, ProceduralConfig(), seed=9_500_000 + start)
        there = tracking_points(clips, 0)[0]
        relative = torch.linalg.inv(clips.world_from_camera[:, 0]) @ clips.world_from_camera[:, 1]
        with torch.inference_mode():
            maps = model(*(normalize_images(clips.rgb[:, k].numpy()) for k in (0, 1)))
        for k in range(SCENES_AT_ONCE):
            true = clips.depth[k, 0].numpy()
            still = clips.valid[k, 0].numpy() & ((there[k, 1] - there[k, 0]).norm(dim=-1).numpy() < 0.01)
            if still.mean() < 0.1:
                continue
            ratio = maps.tracking.points_world[k, ..., 2].numpy()[still] / true[still]
            error = np.median(np.abs(ratio / np.median(ratio) - 1))
            rows.append((float(relative[k, :3, 3].norm()) / float(np.median(true[still])), error))
    baseline, error = np.array(rows).T
    table = []
    for low, high in pairwise(BASELINE_EDGES):
        chosen = (baseline >= low) & (baseline < high)
        name = f"{100 * low:g} - {100 * high:g} %" if np.isfinite(high) else f"over {100 * low:g} %"
        table.append((name, int(chosen.sum()), float(np.median(error[chosen])) if chosen.any() else np.nan))
    return table


def sequence_row(model: St4RTrack, sequence: WorldTrackSequence, name: str) -> np.ndarray:
    """The anchor, its true and its predicted depth, and the error of its tracks some frames later; scaled by what stands still."""
    scene = reconstruct(sequence.video, model=model, fit="stretch")
    assert sequence.visible is not None and sequence.tracks_world is not None and sequence.query_px is not None
    seen = sequence.visible[0]
    true, query_px = sequence.tracks_world[:, seen], sequence.query_px[seen]
    tracks = scene.tracks(query_px).points_world
    still = np.linalg.norm(true - true[0], axis=-1).max(0) < 0.01
    ratio = np.linalg.norm(true[0], axis=-1) / np.linalg.norm(tracks[0], axis=-1)
    scale = np.median(ratio[still])
    true_depth, depth = sequence.read_depth()[0], np.asarray(scene.tracking.points_world[0])[..., 2] * scale
    limits = robust_range(np.log(true_depth[true_depth > 0]))
    error = end_point_error(tracks[SHOWN_FRAME] * scale, true[SHOWN_FRAME])
    anchor = next(iter(sequence.video.frames()))
    dots = fit_image(anchor, *PANEL) // 3
    for position, colour in zip(query_px, map_colours(error, (0, WORST_M), cv2.COLORMAP_TURBO), strict=True):
        dot(dots, position * np.array([PANEL[1] / anchor.shape[1], PANEL[0] / anchor.shape[0]]), 2.2, rgb_tuple(colour))
    panels = {
        f"{name}: anchor": fit_image(anchor, *PANEL),
        "true depth": _depth_picture(true_depth, limits),
        f"predicted depth (what moves: x {np.median(scale / ratio[~still]):.2f})": _depth_picture(depth, limits),
        f"errors, frame {SHOWN_FRAME}: still {np.median(error[still]):.2f} m, moving {np.median(error[~still]):.2f} m": dots,
    }
    return np.hstack([_captioned(picture, caption) for caption, picture in panels.items()])


def _depth_picture(depth: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    known = np.where(depth > 0, depth, np.nan)
    return fit_image(map_colours(np.log(known), limits, cv2.COLORMAP_TURBO, reverse=True), *PANEL, smooth=False)


def _captioned(picture: np.ndarray, caption: str) -> np.ndarray:
    band = np.full((BAND, picture.shape[1], 3), 255, np.uint8)
    put_text(band, caption, 4, BAND - 9, 13, INK)
    return np.vstack([band, picture])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=Path, help="folder of held-out pairs, as runs/tiny/validation")
    parser.add_argument("--sequences", type=Path, default=Path("../shared/sequences"))
    parser.add_argument("--scenes", type=int, default=300, help="for the table of baselines")
    parser.add_argument("--model", default=None)
    options = parser.parse_args()
    model = load_model(options.model, device="cpu", dtype="float32")
    if options.pairs:
        held_out = held_out_pairs(options.pairs)
        print(f"{sum(len(each.examples) for each in held_out)} held-out pairs, this model: ", end="")
        print(validate(PairNetwork(model), held_out, torch.device("cpu")))
        print("true first depth, no motion:", validate_still(each.examples for each in held_out))
    print("\n| baseline / depth | pairs | median error of static depth |\n|---|---|---|")
    for name, count, error in depth_by_baseline(model, options.scenes):
        print(f"| {name} | {count} | {100 * error:.1f} % |")
    rows = [sequence_row(model, read_worldtrack(options.sequences / f"{name}.npz"), name) for name in TRACKED]
    path = DOCS / "images" / "failures.jpg"
    cv2.imwrite(str(path), np.vstack(rows)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])
    print(f"\nwrote {path}")


if __name__ == "__main__":
    main()
