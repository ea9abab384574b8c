"""How far visibility and motion can be trusted: fits the weights of visibility, and measures both on sequences with truth.

python performance/visibility.py CACHE [--data ../shared/sequences] [--count 3] [--frames 32]

Sequences of the procedural world are predicted by the embedded model, once: what it said is kept in CACHE. The weights of
`pipeline.visibility` are fitted on some of them, and measured on others and on the sequences of --data, on which nothing is fitted. Half of
the sequences are livelier than usual, so that more is hidden. Half of what is fitted on is truth with noise of several strengths, so that
the weights also serve networks that are better than this one.
"""

from pathlib import Path

import numpy as np
import torch
import tyro

from st4rtrack.data.procedural import procedural_clip, render_clips
from st4rtrack.data.procedural_config import ProceduralConfig
from st4rtrack.geometry.camera import pixel_grid, unproject
from st4rtrack.geometry.sampling import nearest_pixel
from st4rtrack.geometry.transforms import transform_points
from st4rtrack.hints.cameras import HintInputs
from st4rtrack.hints.depth_prior.networks import BuiltinPrior
from st4rtrack.hints.provider import ordered_frames
from st4rtrack.io.files import whole_file
from st4rtrack.io.video import open_video
from st4rtrack.io.worldtrack import WorldTrackSequence, find_worldtrack, read_worldtrack
from st4rtrack.metrics.tapvid3d import expected_calibration_error
from st4rtrack.model.checkpoint import load_model
from st4rtrack.model.network import St4RTrack
from st4rtrack.pipeline.motion import moving_masks, moving_points
from st4rtrack.pipeline.reconstruct import reconstruct
from st4rtrack.pipeline.visibility import WEIGHTS, cycle_error, cycle_error_cue, gather_evidence, visibility_probability
from st4rtrack.types import KnownVideo, Pointmap, TwoPointmaps

FIT_SEED, HELD_SEED = 771_000, 772_000
USUAL, LIVELY = 1, 100
"""Number of the first sequence of either kind."""

SIZE = 256
NOISE = (0.0, 0.005, 0.02, 0.05)
"""Relative depth, standard deviations of the noise that truth is given."""

STEP = 3
"""Every so many-th frame is looked at: neighbours say nearly the same."""

POINTS = 3000
RIDGE = 1e-6

Samples = tuple[np.ndarray, np.ndarray]
"""Evidence [samples, kinds] in the order of `WEIGHTS`, and whether the point is seen [samples] bool."""


def main(cache: tyro.conf.Positional[Path], data: Path = Path("../shared/sequences"), count: int = 3, frames: int = 32) -> None:
    """Prints the weights, and a line of figures per set of sequences: `count` of either kind to fit on, and as many held out."""
    model = load_model()
    numbers = [first + k for first in (USUAL, LIVELY) for k in range(count)]
    fitted_on, held_out = ([predicted(cache, model, seed, k, frames) for k in numbers] for seed in (FIT_SEED, HELD_SEED))
    parts = [samples(path, noise) for path in fitted_on for noise in (None, *NOISE)]
    weights = [fitted(parts, with_cycle=with_cycle) for with_cycle in (False, True)]
    for name, without, with_cycle in zip(WEIGHTS, *weights, strict=True):
        print(f'    "{name}": ({without:.3f}, {with_cycle:.3f}),')
    for label, paths in (("fitted on", fitted_on), ("held out", held_out)):
        for noise in (None, *NOISE):
            what = "the model" if noise is None else f"truth with noise of {noise:.1%}"
            parts = [samples(path, noise) for path in paths]
            report(f"{label}, {what}", parts, weights[0])
            report(f"{label}, {what}, with the cycle error", parts, weights[1])
    for path in held_out:
        show_motion(path)
    for name, path in find_worldtrack(data):
        sequence = read_worldtrack(path, name=name)
        if sequence.tracks_world is not None:
            measure_sequence(sequence, model, cache)


def predicted(cache: Path, model: St4RTrack, seed: int, number: int, frames: int) -> Path:
    """A file with what the model says about a procedural sequence, and the truth; made where it is not there."""
    path = cache / f"{seed}_{number}_{frames}.npz"
    if path.exists():
        return path
    motion, camera_motion = (2.0, 1.6) if number >= LIVELY else (1.0, 1.0)
    config = ProceduralConfig(num_frames=frames, motion=motion, camera_motion=camera_motion)
    clip, clips = procedural_clip(seed, config, number=number), render_clips(1, config, seed=seed, first=number)
    moves = torch.gather(clips.part_moves, 1, clips.part_index.clamp(min=0).flatten(1)).reshape(clips.depth.shape) & clips.valid
    scene = reconstruct(clip.rgb, model=model, size=SIZE, fit="stretch")
    video = open_video(clip.rgb)
    ordered = ordered_frames(HintInputs(video, 0, KnownVideo(), video), BuiltinPrior(model.monocular_network()))
    errors = [cycle_error(view) for _, _, view in ordered.frames([False] * frames) if view is not None]
    cache.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as file:
        np.savez(
            file,  # pyright: ignore[reportArgumentType]
            rgb=scene.rgb,
            tracking=scene.tracking.points_world.astype(np.float16),
            tracking_confidence=np.asarray(scene.tracking.confidence, np.float16),
            reconstruction=scene.reconstruction.points_world.astype(np.float16),
            reconstruction_confidence=np.asarray(scene.reconstruction.confidence, np.float16),
            cycle_error=np.stack(errors).astype(np.float16),
            world_from_camera=scene.cameras.world_from_camera,
            intrinsics=scene.cameras.intrinsics,
            true_tracking=clip.tracking_points_world.astype(np.float16),
            true_depth=clip.depth.astype(np.float16),
            true_world_from_camera=clip.world_from_camera,
            true_intrinsics=clip.intrinsics,
            visible=clip.visible,
            valid=clip.tracking_valid[0],
            moving=clip.moving,
            moving_in_frames=moves[0].numpy(),
        )
    return path


def samples(path: Path, noise: float | None) -> Samples:
    """Evidence of a procedural sequence: of what the model said, or of truth with noise."""
    rng = np.random.default_rng(0)
    with np.load(path) as file:
        told = {name: file[name] for name in file.files}
    rows, seen = [], []
    for t in range(1, len(told["rgb"]), STEP):
        maps, camera, intrinsics = said(told, t) if noise is None else noisy_truth(told, t, noise, rng)
        evidence, possible = gather_evidence(maps, camera, intrinsics, told["rgb"][0], told["rgb"][t])
        evidence["cycle_error"] = cycle_error_cue(torch.from_numpy(told["cycle_error"][t].astype(np.float32)))
        known = told["valid"] & possible.numpy()
        groups = [rng.permutation(np.flatnonzero(known & kind))[: POINTS // 2] for kind in (told["moving"], ~told["moving"])]
        chosen = np.concatenate(groups)
        rows.append(stacked(evidence).reshape(len(WEIGHTS), -1)[:, chosen].T)
        seen.append(told["visible"][t].ravel()[chosen])
    return np.concatenate(rows), np.concatenate(seen)


def said(told: dict[str, np.ndarray], t: int) -> tuple[TwoPointmaps, np.ndarray, np.ndarray]:
    """What the model said about a frame."""
    branches = ("tracking", "reconstruction")
    maps = [Pointmap(*(told[name][t].astype(np.float32) for name in (branch, f"{branch}_confidence"))) for branch in branches]
    return TwoPointmaps(*maps), told["world_from_camera"][t], told["intrinsics"][t]


def noisy_truth(
    told: dict[str, np.ndarray], t: int, noise: float, rng: np.random.Generator
) -> tuple[TwoPointmaps, np.ndarray, np.ndarray]:
    """Truth of a frame, half of the noise in every pixel for itself, half in the whole frame; a hundredth of the points anywhere."""
    camera, intrinsics, depth = (
        told["true_world_from_camera"][t],
        told["true_intrinsics"],
        told["true_depth"][t].astype(np.float64),
    )
    intrinsics = intrinsics if intrinsics.ndim == 2 else intrinsics[t]
    height, width = depth.shape
    depth = np.where(depth > 0, depth, 1e3)
    in_camera = unproject(pixel_grid(height, width).reshape(-1, 2), depth.ravel(), intrinsics)
    surface = transform_points(camera, in_camera).reshape(height, width, 3)
    maps = []
    for points in (told["true_tracking"][t].astype(np.float64), surface):
        wrong = np.exp(noise * (rng.standard_normal((height, width)) + rng.standard_normal()))
        wrong = np.where(rng.random((height, width)) < 0.01, np.exp(rng.normal(0, 0.5, (height, width))), wrong)
        away = points - camera[:3, 3]
        maps.append(Pointmap((camera[:3, 3] + away * wrong[..., None]).astype(np.float32)))
    return TwoPointmaps(*maps), camera, intrinsics


def measure_sequence(sequence: WorldTrackSequence, model: St4RTrack, cache: Path) -> None:
    """Prints the figures of a sequence's tracks, as a run gives their visibility with the weights in the code, after the first frame."""
    assert sequence.visible is not None
    scene = reconstruct(sequence.video, model=model, fit="stretch", output=cache / sequence.name)
    seen = sequence.visible[0]
    row, column = nearest_pixel(scene.pixel_map.network_from_source(sequence.query_px[seen]), *scene.rgb.shape[1:3])
    seen_likely = scene.tracking.visibility
    assert seen_likely is not None
    likely = np.stack([np.asarray(seen_likely[t], np.float64)[row, column] for t in range(1, len(scene))])
    show(sequence.name, [(likely.ravel(), sequence.visible[1:, seen].ravel())])


def show_motion(path: Path) -> None:
    """Prints how well what moves is found in a procedural sequence: intersection over union, in the anchor and in all frames."""
    with np.load(path) as file:
        told = {name: file[name] for name in file.files}
    names = {"tracking_points": "tracking", "reconstruction_points": "reconstruction", "visible": "said_visible"}
    frames = len(told["rgb"])
    likely = [visibility_probability(*said(told, t), told["rgb"][0], told["rgb"][t]) for t in range(frames)]
    told |= {"said_visible": np.stack(likely) > 0.5, "solved": np.ones(frames, bool)}

    def read(name: str, t: int) -> np.ndarray:
        return told[names.get(name, name)][t]

    moving = moving_points(read, frames, 0)
    masks = np.stack(list(moving_masks(read, frames, 0, moving)))
    overlaps = [(a & b).sum() / max((a | b).sum(), 1) for a, b in ((moving, told["moving"]), (masks, told["moving_in_frames"]))]
    what = f"{told['moving'].mean():.0%} of the anchor moves, {moving.mean():.0%} are said to"
    print(f"{path.stem}: {what}; intersection over union {overlaps[0]:.2f}, in all frames {overlaps[1]:.2f}")


def stacked(evidence: dict[str, torch.Tensor]) -> np.ndarray:
    """[kinds, height, width] in the order of `WEIGHTS`; the bias is one."""
    one = torch.ones_like(next(iter(evidence.values())))
    return torch.stack([one if name == "bias" else evidence[name] for name in WEIGHTS]).numpy()


def fitted(parts: list[Samples], *, with_cycle: bool) -> np.ndarray:
    """Weights [kinds] of the logistic model that makes the samples most likely: Newton's method.

    What the model said counts as much as truth with all kinds of noise.
    """
    used = np.array([with_cycle or name != "cycle_error" for name in WEIGHTS])
    rows, seen = (np.concatenate(column).astype(np.float64) for column in zip(*parts, strict=True))
    kind = np.concatenate([np.full(len(outcome), k % (1 + len(NOISE)) == 0) for k, (_, outcome) in enumerate(parts)])
    share = np.where(kind, 0.5 / kind.sum(), 0.5 / (~kind).sum())
    rows, weights = rows[:, used], np.zeros(used.sum())
    for _ in range(30):
        likely = 1 / (1 + np.exp(-rows @ weights))
        slope = rows.T @ (share * (seen - likely)) - RIDGE * weights
        curvature = (rows * (share * likely * (1 - likely))[:, None]).T @ rows + RIDGE * np.eye(len(weights))
        weights += np.linalg.solve(curvature, slope)
    found = np.zeros(len(used))
    found[used] = weights
    return found


def report(label: str, parts: list[Samples], weights: np.ndarray) -> None:
    show(label, [(1 / (1 + np.exp(-rows @ weights)), seen) for rows, seen in parts])


def show(label: str, parts: list[tuple[np.ndarray, np.ndarray]]) -> None:
    """Prints how many are seen (what calling all seen is right about), how often the model is right, and its calibration error."""
    seen = np.mean([outcome.mean() for _, outcome in parts])
    right = np.mean([np.mean((likely > 0.5) == outcome) for likely, outcome in parts])
    found = np.mean([np.mean(likely[~outcome] <= 0.5) for likely, outcome in parts if not outcome.all()])
    error = np.mean([expected_calibration_error(likely, outcome) for likely, outcome in parts])
    print(
        f"{label}: always visible {seen:.3f}, right {right:.3f}, of the hidden {found:.2f}, calibration error {error:.3f} ({len(parts)})"
    )


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    tyro.cli(main)
