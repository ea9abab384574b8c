"""Fits the weights of hints/dynamic.py on rendered sequences, and measures the depth of dynamic objects before and after.

python performance/dynamic_depth.py [--count 24] [--frames 24] [--seed 731000]

Two kinds: boxes that fly (data.procedural), and people, animals and cars on the ground (data.world, whose assets must be cached). Cameras
are the true ones. Sequences with an even number fit, the others are held out.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import torch
import tyro

from st4rtrack.data.procedural import ProceduralConfig, render_clips
from st4rtrack.data.world.clips import WorldClips
from st4rtrack.geometry.vectors import length
from st4rtrack.hints import fused
from st4rtrack.hints.depth_prior.open import open_depth_prior
from st4rtrack.hints.dynamic import FAST, GROUND_ROW, MAX_LOG_SPEED, ObjectDepth, objects
from st4rtrack.hints.frame_order import OrderedFrames
from st4rtrack.hints.steps import GreyFrames, StepFlows
from st4rtrack.io.video import open_video
from st4rtrack.types import KnownVideo

MOVING_SHARE = (0.03, 0.4)
MIN_OVERLAP, MIN_PIXELS = 0.6, 60
"""Share of a region that truly moves, and its pixels, to be fitted."""
EVERY = 3
MIN_RESIDUAL = 0.03


@dataclass(frozen=True)
class Sequence:
    """[T, ...] images, true depth (0: sky), moving pixels, `world_from_camera`; focal length in pixels."""

    rgb: np.ndarray
    depth: np.ndarray
    moving: np.ndarray
    cameras: np.ndarray
    focal_px: float


class Recorder(ObjectDepth):
    """Keeps what comes in and what goes out."""

    frames: ClassVar[list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]] = []

    def next(self, depth: np.ndarray, dynamic: np.ndarray, motion_px: np.ndarray, back: np.ndarray | None) -> np.ndarray:
        """Depth [H, W] of the next frame, as it would be without the recorder."""
        corrected = super().next(depth, dynamic, motion_px, back)
        self.frames.append((depth, dynamic, motion_px, corrected))
        return corrected


def flying(seed: int, count: int, frames: int) -> Iterator[Sequence]:
    """Sequences of the procedural world."""
    number = 0
    while count:
        clips = render_clips(1, ProceduralConfig(num_frames=frames), seed=seed, first=number)
        part, number = clips.part_index[0], number + 1
        moving = (clips.part_moves[0][part.clamp(min=0)] & (part >= 0)).numpy()
        if MOVING_SHARE[0] <= moving[0].mean() <= MOVING_SHARE[1]:
            count -= 1
            focal_px = float(clips.intrinsics[0, 0, 0])
            yield Sequence(clips.rgb[0].numpy(), clips.depth[0].numpy(), moving, clips.world_from_camera[0].numpy(), focal_px)


def standing(seed: int, count: int, frames: int) -> Iterator[Sequence]:
    """Sequences of the rendered world."""
    source, number = WorldClips(frames=frames, seed=seed, rate=(4.0, 24.0)), 0
    while count:
        clip, number = source.clip(number), number + 1
        if MOVING_SHARE[0] <= clip.dynamic[0].mean() <= MOVING_SHARE[1]:
            count -= 1
            yield Sequence(clip.rgb, clip.depth, clip.dynamic, clip.world_from_camera, float(clip.intrinsics[0, 0, 0]))


def record(sequence: Sequence) -> list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """Depth, dynamic pixels, motion and corrected depth of every frame, with the true cameras."""
    Recorder.frames, fused.ObjectDepth = [], Recorder
    video = open_video(sequence.rgb)
    cameras = np.linalg.inv(sequence.cameras[0]) @ sequence.cameras
    cameras[:, :3, 3] /= np.median(sequence.depth[0][sequence.depth[0] > 0])
    solved = KnownVideo(focal_px=sequence.focal_px, focal_source="video", world_from_camera=cameras)
    steps = StepFlows(GreyFrames(video))
    ordered = OrderedFrames(video, 0, with_geometry=True, solve=lambda _: solved, step_flow=steps.chain)
    prior = open_depth_prior("builtin", video)
    assert prior is not None
    geometry = fused.FusedGeometry(ordered, prior, steps)
    for _ in geometry.frames(ordered.frames(np.zeros(len(video), bool))):
        pass
    return Recorder.frames


def errors(sequence: Sequence, frames: list) -> tuple[np.ndarray, np.ndarray]:
    """Terms of the correction and log of true over fused depth, [n, 3] of regions; |log errors| before and after, [m, 2] of pixels."""
    regions, pixels = [], []
    for index, (depth, dynamic, motion, corrected) in enumerate(frames):
        true = sequence.depth[index]
        static, moving = (true > 0) & ~sequence.moving[index], (true > 0) & sequence.moving[index]
        if index % EVERY or not static.any():
            continue
        ratio = np.log(np.where(true > 0, true, 1) / depth)
        ratio -= np.median(ratio[static])
        after = ratio - np.log(corrected / depth)
        seen = moving & dynamic
        pixels.append(np.abs(np.stack([ratio[seen], after[seen]], axis=1)))
        for region in objects(dynamic):
            if region.sum() < MIN_PIXELS or (region & moving).sum() < MIN_OVERLAP * region.sum():
                continue
            end = (np.flatnonzero(region.any(axis=1))[-1] + 1) / len(region)
            speed = float(length(np.median(motion[region], axis=0))) / max(region.shape)
            fast = np.clip(np.log(max(speed, 1e-6) / FAST), 0, MAX_LOG_SPEED)
            regions.append((max(0.0, GROUND_ROW - end), fast, float(np.median(ratio[region & moving]))))
    return np.reshape(regions, (-1, 3)), np.concatenate(pixels)


def fit(regions: list[np.ndarray]) -> np.ndarray:
    """Weights [2] of the least absolute residuals; every sequence counts the same."""
    rows = np.concatenate(regions)
    weight = np.concatenate([np.full(len(each), 1 / max(len(each), 1)) for each in regions])
    terms, found = rows[:, :2], np.zeros(2)
    for _ in range(30):
        robust = weight / np.maximum(np.abs(rows[:, 2] - terms @ found), MIN_RESIDUAL)
        found = np.linalg.solve((terms * robust[:, None]).T @ terms + 1e-6 * np.eye(2), (terms * robust[:, None]).T @ rows[:, 2])
    return found


def main(count: int = 24, frames: int = 24, seed: Annotated[int, tyro.conf.arg(name="seed")] = 731000) -> None:
    """Prints a line per sequence, then per kind, and the weights."""
    fitted, held_out = [], {}
    for kind, source in (("flying", flying), ("standing", standing)):
        for number, sequence in enumerate(source(seed, count, frames)):
            regions, pixels = errors(sequence, record(sequence))
            if not len(pixels):
                continue
            before, after = np.median(pixels, axis=0)
            print(f"{kind} {number}: |log error| of dynamic pixels {before:.3f}, corrected {after:.3f}", flush=True)
            if number % 2:
                held_out.setdefault(kind, []).append((before, after))
            else:
                fitted.append(regions)
    print("weights per image height, per log speed:", fit(fitted))
    for kind, found in held_out.items():
        print(f"{kind}, held out, mean and median over sequences (before, after):", np.mean(found, 0), np.median(found, 0))


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    tyro.cli(main)
