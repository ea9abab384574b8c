"""Cameras by the global solver and static depth from known cameras, on rendered walks with exact truth."""

import os
import signal
import subprocess
import sys
from dataclasses import replace

import cv2
import numpy as np
import pytest

from st4rtrack.classical.solver.cameras import solve_video
from st4rtrack.classical.solver.evidence import PRIOR_FOCAL, Evidence, distrust, likely_focal, not_solved
from st4rtrack.classical.solver.key_frames import key_frames
from st4rtrack.classical.static_depth import PairFlows, StaticDepth, neighbours, static_depth
from st4rtrack.geometry.camera import pixel_grid
from st4rtrack.io.video import open_video
from st4rtrack.io.worldtrack import read_worldtrack
from st4rtrack.metrics.cameras import camera_errors
from tests.moving_camera import FOCAL, HEIGHT, WIDTH, Walk, points_on_walls, walk
from tests.shared_data import shared

pytest.importorskip("pycolmap")


@pytest.fixture(scope="module")
def moving() -> Walk:
    return walk(16)


def test_solve_video_moving_camera_gives_cameras_and_focal_length(moving: Walk) -> None:
    solved = solve_video(open_video(moving.rgb))
    assert solved.trusted, solved.distrust
    assert solved.solved.all()
    assert np.array_equal(solved.world_from_camera[0], np.eye(4))
    assert solved.focal_px == pytest.approx(FOCAL, rel=0.04)
    errors = camera_errors(solved.world_from_camera, moving.world_from_camera)
    assert errors.ate_m < 0.02  # of 2 units of path
    assert errors.rpe_rotation_deg < 0.3


def test_solve_video_in_windows_agrees_with_truth_and_anchor_is_world(moving: Walk) -> None:
    solved = solve_video(open_video(moving.rgb), anchor_index=9, focal_px=FOCAL, window=8)
    assert solved.solved.all()
    assert solved.focal_px == pytest.approx(FOCAL)
    assert np.array_equal(solved.world_from_camera[9], np.eye(4))
    assert camera_errors(solved.world_from_camera, moving.world_from_camera).ate_m < 0.04
    assert np.median(solved.points_world[solved.point[solved.frame == 9], 2]) == pytest.approx(1, rel=1e-6)


def test_solve_video_same_input_gives_same_cameras(moving: Walk) -> None:
    one, other = (solve_video(open_video(moving.rgb[:8])) for _ in range(2))
    assert np.array_equal(one.world_from_camera, other.world_from_camera, equal_nan=True)


def test_likely_focal_precise_estimate_outweighs_the_prior_and_a_vague_one_does_not() -> None:
    assert likely_focal([(1.2, 0.01), (1.2, 0.01)]) == pytest.approx(1.2, rel=0.01)
    assert PRIOR_FOCAL < likely_focal([(1.2, 0.5)]) < 0.9
    assert likely_focal([(0.6, 0.05), (1.2, 0.05)]) < 1.05 * PRIOR_FOCAL  # they contradict each other


@pytest.mark.parametrize("estimates", [[], [(0.9, np.nan)], [(9.0, 0.01), (1.2, 0.01)], [(2.4, 0.02)]])
def test_likely_focal_without_evidence_is_the_priors(estimates: list[tuple[float, float]]) -> None:
    assert likely_focal(estimates) == PRIOR_FOCAL


def test_solve_video_few_frames_are_solved_with_the_help_of_the_prior_over_lenses(moving: Walk) -> None:
    solved = solve_video(open_video(moving.rgb[:6]))
    assert solved.trusted and solved.focal_by_prior
    assert solved.focal_px == pytest.approx(FOCAL, rel=0.1)  # the prior alone is 9 % off
    assert camera_errors(solved.world_from_camera, moving.world_from_camera[:6]).rpe_rotation_deg < 0.3


@pytest.mark.parametrize("frames", [1, 2, 12])
def test_solve_video_fixed_camera_is_not_trusted(frames: int) -> None:
    solved = solve_video(open_video(walk(frames, moves=False).rgb))
    assert not solved.trusted
    assert len(solved.world_from_camera) == frames


def test_solve_video_blank_frames_are_unsolved(moving: Walk) -> None:
    rgb = moving.rgb.copy()
    rgb[6] = 0
    solved = solve_video(open_video(rgb))
    assert not solved.solved[6]
    assert solved.solved[[0, 5, 7, 15]].all()


GOOD = Evidence(1.0, 100.0, 5.0, 0.001, 0.3)


@pytest.mark.parametrize(
    ("change", "focal", "reason"),
    [
        ({}, 0.8, ""),
        ({"solved_share": 0.3}, 0.8, "frames"),
        ({"points_per_frame": 19.0}, 0.8, "points"),
        ({"parallax_deg": 0.4}, 0.8, "parallax"),
        ({}, 3.89, "degenerate"),
        ({"focal_deviation": 0.1, "forward": 0.99}, 0.8, "forward motion"),
        ({"focal_deviation": float("nan")}, 0.8, "undetermined"),
    ],
)
def test_distrust_weak_evidence_gives_reason(change: dict[str, float], focal: float, reason: str) -> None:
    found = distrust(replace(GOOD, **change), focal)
    assert reason in found if reason else not found


@pytest.mark.parametrize(
    ("frames", "solved", "reason"),
    [
        (2, [], "too few frames (2, at least 3"),
        (9, [], "no solution: too few matches or no parallax"),
        (9, [5, 6], "too few frames are solved (2 of 9)"),
        (9, range(1, 9), "the solution has 8 of 9 frames, but not the anchor frame 0"),
    ],
)
def test_not_solved_names_the_reason(frames: int, solved: list[int], reason: str) -> None:
    assert not_solved(np.isin(np.arange(frames), list(solved)), 0).startswith(reason)


def test_solve_video_black_anchor_frame_is_named(moving: Walk) -> None:
    rgb = moving.rgb[:8].copy()
    rgb[0] = 0
    assert solve_video(open_video(rgb)).distrust == "the solution has 7 of 8 frames, but not the anchor frame 0"


def test_key_frames_use_static_pixels_only(moving: Walk) -> None:
    left = np.zeros((HEIGHT, WIDTH), bool)
    left[:, : WIDTH // 2] = True
    keys = list(key_frames(enumerate(moving.rgb[:6]), static=lambda _: left))
    scale = 512 / WIDTH
    assert all((key.px[:, 0] <= scale * (WIDTH / 2 + 1)).all() and len(key.px) for key in keys)
    numbers = sorted([key.index for key in keys] + [frame.index for key in keys for frame in key.between])
    assert numbers == list(range(6))


def pair_flows(clip: Walk, cameras: np.ndarray) -> PairFlows:
    return PairFlows([cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY) for rgb in clip.rgb].__getitem__, cameras, FOCAL)


def depth_of_first(clip: Walk, cameras: np.ndarray) -> StaticDepth:
    return static_depth(pair_flows(clip, cameras), 0, cameras, FOCAL, 4.0, (HEIGHT, WIDTH))


def test_static_depth_known_cameras_gives_depth_and_error(moving: Walk) -> None:
    found = depth_of_first(moving, moving.world_from_camera)
    truth = points_on_walls(pixel_grid(HEIGHT, WIDTH).reshape(-1, 2))[:, 2].reshape(HEIGHT, WIDTH)
    error = np.abs(np.log(found.depth[found.known] / truth[found.known]))
    assert found.known.mean() > 0.6
    assert np.median(error) < 0.02
    assert np.median(error) < np.median(found.log_error[found.known]) * 2
    assert np.isinf(found.log_error[~found.known]).all()


def test_static_depth_without_motion_or_camera_is_unknown() -> None:
    still = walk(4, moves=False)
    assert neighbours(still.world_from_camera, 0, 4.0) == []
    assert not depth_of_first(still, still.world_from_camera).known.any()
    unsolved = np.full((4, 4, 4), np.nan)
    assert not depth_of_first(still, unsolved).known.any()


def test_neighbours_prefers_a_frame_whose_flow_is_known_at_about_the_baseline() -> None:
    straight = np.tile(np.eye(4), (9, 1, 1))
    straight[:, 0, 3] = 0.02 * np.arange(9)
    assert neighbours(straight, 0, 1.0) == [2, 6]
    assert neighbours(straight, 0, 1.0, at_hand={3, 8}) == [3, 8]
    assert neighbours(straight, 0, 1.0, at_hand={1, 4}) == [2, 6]


def test_pair_flows_keep_a_pair_and_give_it_reversed(moving: Walk, monkeypatch: pytest.MonkeyPatch) -> None:
    flows = pair_flows(moving, moving.world_from_camera)
    [(forward, backward)] = flows.between(2, [4], 4.0)
    monkeypatch.setattr(flows, "_flow", None)  # computing it again would raise
    [(reversed_forward, reversed_backward)] = flows.between(4, [2], 4.0)
    np.testing.assert_array_equal(reversed_forward, backward)
    np.testing.assert_array_equal(reversed_backward, forward)
    assert not np.array_equal(forward, backward)


TERMINATED_AFTER_IMPORT = """
import os, signal, threading
from st4rtrack.classical.solver.colmap import pycolmap
thread = threading.Thread(target=pycolmap)
thread.start()
thread.join()
os.kill(os.getpid(), signal.SIGTERM)
"""


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_pycolmap_imported_in_a_thread_leaves_sigterm_as_it_was() -> None:
    ended = subprocess.run([sys.executable, "-c", TERMINATED_AFTER_IMPORT], capture_output=True, timeout=120)
    assert ended.returncode == -signal.SIGTERM
    assert ended.stderr == b""  # no stack trace


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "ate_m"),
    [
        ("real/sequences/hololens_office", 0.066),
        ("real/sequences/tartan_hospital", 0.01),
        ("sequences/kitchen_static", 0.0165),
        ("sequences/fall_arc", 0.0045),
        ("sequences/dog_skin", 0.003),
        ("sequences/quadruped_track", 0.035),
    ],
)
def test_solve_video_shared_sequence_is_solved(name: str, ate_m: float) -> None:
    sequence = read_worldtrack(shared(f"{name}.npz"))
    solved = solve_video(sequence.video)
    assert solved.trusted and solved.solved.all()
    assert solved.focal_px == pytest.approx(sequence.intrinsics[0, 0], rel=0.05)
    assert camera_errors(solved.world_from_camera, sequence.world_from_camera).ate_m < ate_m
