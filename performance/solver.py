"""Cameras and static depth by the global solver, against the truth and against the cameras of the present pipeline.

python performance/solver.py ../shared/sequences ../shared/real/sequences [--clips CLIP.mp4 ...] [--pipeline]

WorldTrack sequences, 64 frames. Static depth of every 16th frame against the true depth after one scale per sequence. `--pipeline` runs
the network of the embedded model twice (published protocol): as it is, and with the solver's cameras and focal length given to it.
"""

import argparse
import time
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from machine import machine

from st4rtrack.bench.methods.pairwise import scene_prediction
from st4rtrack.bench.protocol import protocol_named
from st4rtrack.bench.score import score_sequence
from st4rtrack.classical.solver.cameras import SolvedCameras, solve_video
from st4rtrack.classical.static_depth import PairFlows, StaticDepth, static_depth
from st4rtrack.geometry.transforms import invert_rigid, rotation_angle, transform_points
from st4rtrack.io.known.known import Known
from st4rtrack.io.video import open_video
from st4rtrack.io.worldtrack import WorldTrackSequence, find_worldtrack, read_worldtrack
from st4rtrack.metrics.cameras import camera_errors
from st4rtrack.model.checkpoint import load_model
from st4rtrack.pipeline.reconstruct import reconstruct

DEPTH_STEP = 16
CAMERA_COLUMNS = "solved | focal / true | ATE m | rotation deg (median) | points per frame | wall s | CPU s | trusted"


def depth_rows(sequence: WorldTrackSequence, solved: SolvedCameras) -> str:
    """Median relative error of the static depth where it is known, share of the pixels, CPU seconds per frame."""
    greys = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in sequence.video.frames()]
    frames = [k for k in range(0, len(sequence), DEPTH_STEP) if solved.solved[k]]
    start = time.process_time()
    found = [depth_of(greys, solved, k) for k in frames]
    seconds = (time.process_time() - start) / max(len(frames), 1)
    truth = sequence.read_depth()
    true = np.concatenate([truth[k].ravel() for k in frames])
    depth = np.concatenate([each.depth.ravel() for each in found])
    has_truth = np.isfinite(true) & (true > 0)
    both = has_truth & (depth > 0)
    ratio = np.log(depth[both] / true[both])
    error = np.abs(ratio - np.median(ratio))
    return f"{both.sum() / has_truth.sum():.0%} | {100 * np.median(error):.1f} % | {seconds:.2f}"


def depth_of(greys: list[np.ndarray], solved: SolvedCameras, frame: int) -> StaticDepth:
    """Static depth of one frame."""
    points = solved.points_world[solved.point[solved.frame == frame]]
    z = transform_points(invert_rigid(solved.world_from_camera[frame]), points)[:, 2]
    flows = PairFlows(greys.__getitem__, solved.world_from_camera, solved.focal_px)
    size = (greys[frame].shape[0], greys[frame].shape[1])
    return static_depth(flows, frame, solved.world_from_camera, solved.focal_px, float(np.median(z)), size)


def camera_figures(cameras: np.ndarray, focal_ratio: float, sequence: WorldTrackSequence) -> str:
    """Focal ratio, ATE, median rotation error."""
    truth, known = sequence.world_from_camera, np.isfinite(cameras[:, 0, 0])
    turn = rotation_angle(cameras[known, :3, :3].swapaxes(1, 2) @ truth[known, :3, :3])
    rotation = float(np.rad2deg(np.median(turn))) if known.any() else np.nan
    return f"{known.sum()}/{len(known)} | {focal_ratio:.3f} | {camera_errors(cameras, truth).ate_m:.4f} | {rotation:.2f}"


@cache
def _model() -> Any:
    return load_model(device="cpu", dtype="float32")


def pipeline_rows(name: str, sequence: WorldTrackSequence, solved: SolvedCameras) -> None:
    """The network of the embedded model as it is, and with the solver's cameras."""
    intrinsics = np.array(
        [[solved.focal_px, 0, sequence.video.width / 2], [0, solved.focal_px, sequence.video.height / 2], [0, 0, 1]]
    )
    kinds: dict[str, Known | None] = {"as it is": None}
    if solved.trusted:
        kinds["solver's cameras"] = Known(intrinsics=intrinsics, cameras=solved.world_from_camera)
    published = protocol_named("published")
    for kind, known in kinds.items():
        scene = reconstruct(sequence.video, model=_model(), fit="stretch", known=known, depth_prior="none")
        row = score_sequence(sequence, scene_prediction(scene, sequence, published), published)
        parts = [row["tracking"][group]["median"]["apd"] for group in ("all", "dynamic")] if "tracking" in row else [np.nan] * 2
        parts.append(row["reconstruction"]["median"]["apd"])
        ratio = float(np.asarray(scene.cameras.intrinsics)[0, 0, 0]) / scene.pixel_map.scale[0] / sequence.intrinsics[0, 0]
        cameras = camera_figures(np.asarray(scene.cameras.world_from_camera), ratio, sequence)
        print(f"| {name} | {kind} | {' | '.join(f'{part:.1f}' for part in parts)} | {cameras} |", flush=True)


def timed(video: Any) -> tuple[SolvedCameras, str]:
    """A solution, and wall and CPU seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    solved = solve_video(video)
    return solved, f"{time.perf_counter() - wall:.1f} | {time.process_time() - cpu:.1f}"


def clip_row(path: Path) -> str:
    """A clip without truth: focal length in long sides, largest step over the median, jitter, points."""
    video = open_video(path)
    solved, seconds = timed(video)
    centres = solved.world_from_camera[:, :3, 3]
    step = np.linalg.norm(np.diff(centres, axis=0), axis=1)
    bend = np.linalg.norm(centres[2:] - 2 * centres[1:-1] + centres[:-2], axis=1)
    known = np.isfinite(step).any()
    steps = f"{np.nanmax(step) / np.nanmedian(step):.2f} | {np.nanmedian(bend) / np.nanmedian(step):.2f}" if known else "- | -"
    focal = solved.focal_px / max(video.height, video.width)
    share = f"{solved.solved.sum()}/{len(video)}"
    why = solved.distrust or "yes"
    return f"| {path.stem} | {share} | {focal:.3f} | {steps} | {solved.evidence.points_per_frame:.0f} | {seconds} | {why} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="*", type=Path)
    parser.add_argument("--clips", nargs="*", type=Path, default=[])
    parser.add_argument("--pipeline", action="store_true")
    options = parser.parse_args()
    sequences = [(name, read_worldtrack(path)) for folder in options.data for name, path in find_worldtrack(folder)]
    print(f"{machine()}\n\n| sequence | {CAMERA_COLUMNS} | static depth known | its median error | CPU s per frame |")
    print("|" + "---|" * 12)
    solutions = {}
    for name, sequence in sequences:
        solved, seconds = timed(sequence.video)
        solutions[name] = solved
        cameras = camera_figures(solved.world_from_camera, solved.focal_px / sequence.intrinsics[0, 0], sequence)
        depth = depth_rows(sequence, solved) if sequence.has_depth and solved.trusted else "- | - | -"
        points = f"{solved.evidence.points_per_frame:.0f}"
        print(f"| {name} | {cameras} | {points} | {seconds} | {solved.distrust or 'yes'} | {depth} |", flush=True)
    if options.clips:
        print(
            "\n| clip | solved | focal / long side | largest / median step | jitter / step | points per frame | wall s | CPU s | trusted |"
        )
        print("|" + "---|" * 9)
        for path in options.clips:
            print(clip_row(path), flush=True)
    if options.pipeline:
        print(
            "\n| sequence | embedded model | tracking all APD | dynamic | reconstruction | solved | focal / true | ATE m | rotation deg |"
        )
        print("|" + "---|" * 9)
        for name, sequence in sequences:
            pipeline_rows(name, sequence, solutions[name])


if __name__ == "__main__":
    main()
