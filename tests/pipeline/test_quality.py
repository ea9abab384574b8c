"""Figures and warnings of the quality report."""

from dataclasses import replace

import numpy as np
import pytest

from st4rtrack.classical.anchor import Units
from st4rtrack.classical.anchored import AnchoredGeometry
from st4rtrack.data.procedural import ProceduralClip, ProceduralConfig, procedural_clip
from st4rtrack.geometry.camera import pixel_grid, project
from st4rtrack.geometry.transforms import invert_rigid, rigid, transform_points
from st4rtrack.pipeline.quality import (
    camera_steps,
    focal_evidence,
    frame_quality,
    parallax_of_cameras,
)
from st4rtrack.pipeline.quality_warnings import WARNINGS, cut_warning, frame_ranges, quality_warning
from st4rtrack.types import KnownVideo, PixelMap, Pointmap, QualityReport, TwoPointmaps

HALF = PixelMap((0.5, 0.5), (0.0, 0.0))
"""A source of twice the network's size."""


@pytest.fixture(scope="module")
def clip() -> ProceduralClip:
    return procedural_clip(3, ProceduralConfig(num_frames=4, setting="room"), anchor=0)


def quality_of(clip: ProceduralClip, t: int, camera: np.ndarray, *, with_flow: bool) -> dict[str, float]:
    """`frame_quality` of exact pointmaps and flow under a camera."""
    tracking, intrinsics = clip.tracking_points_world[t].astype(np.float32), clip.intrinsics[t]
    maps = TwoPointmaps(Pointmap(tracking), Pointmap(clip.reconstruction_points_world[t].astype(np.float32)))
    height, width = tracking.shape[:2]
    seen = transform_points(invert_rigid(clip.world_from_camera[t]), tracking.reshape(-1, 3).astype(np.float64))
    flow = project(seen, intrinsics).reshape(height, width, 2) - pixel_grid(height, width) if with_flow else None
    error = np.zeros((height, width)) if with_flow else None
    start = clip.tracking_points_world[0].astype(np.float32)
    return frame_quality(start, maps, camera, intrinsics, clip.visible[t], HALF, flow=flow, cycle_error=error)


@pytest.mark.parametrize("with_flow", [True, False])
def test_frame_quality_exact_scene_is_near_zero(clip: ProceduralClip, with_flow: bool) -> None:
    found = quality_of(clip, 3, clip.world_from_camera[3], with_flow=with_flow)
    assert found["reprojection_px"] < 0.05
    assert np.isnan(found["flow_agreement_px"]) != with_flow
    assert not found["flow_agreement_px"] > 0.05


@pytest.mark.parametrize("with_flow", [True, False])
def test_frame_quality_turned_camera_is_its_error_in_source_pixels(clip: ProceduralClip, with_flow: bool) -> None:
    angle = np.deg2rad(1.0)
    turn = rigid(np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]]), np.zeros(3))
    found = quality_of(clip, 3, clip.world_from_camera[3] @ turn, with_flow=with_flow)
    expected = 2 * angle * clip.intrinsics[3, 0, 0]  # source pixels are half as large
    assert expected < found["reprojection_px"] < 1.4 * expected  # more towards the border


def test_frame_quality_flow_that_does_not_return_is_unknown(clip: ProceduralClip) -> None:
    points = clip.tracking_points_world[3].astype(np.float32)
    flow, lost = np.zeros((*points.shape[:2], 2)), np.full(points.shape[:2], np.nan)
    maps = TwoPointmaps(Pointmap(points), Pointmap(points))
    found = frame_quality(points, maps, np.eye(4), clip.intrinsics[3], clip.visible[3], HALF, flow=flow, cycle_error=lost)
    assert np.isnan([found["reprojection_px"], found["flow_agreement_px"]]).all()


def path(steps: list[float]) -> np.ndarray:
    """Cameras that move right by these distances, looking ahead."""
    cameras = np.tile(np.eye(4), (len(steps) + 1, 1, 1))
    cameras[1:, 0, 3] = np.cumsum(steps)
    return cameras


def test_camera_steps_one_jump_is_the_largest_ratio() -> None:
    steps = camera_steps(path([0.1, 0.1, 0.1, 1.0, 0.1, 0.1]), np.ones(7, bool), 1.0)
    assert np.argmax(steps) == 3
    assert steps[3] == pytest.approx(10)
    assert steps[0] == pytest.approx(1)


def test_camera_steps_noise_of_a_fixed_camera_is_no_jump() -> None:
    steps = camera_steps(path([0.0, 0.0, 0.001, 0.0, 0.0]), np.ones(6, bool), 1.0)
    assert np.nanmax(steps) < 1


def test_camera_steps_to_unsolved_frames_are_unknown() -> None:
    solved = np.array([True, True, True, False, True, True, True])
    steps = camera_steps(path([0.1, 0.1, 9.0, 0.1, 0.1, 0.1]), solved, 1.0)
    assert np.isnan(steps[[2, 3]]).all()
    assert np.nanmax(steps) == pytest.approx(1)


def test_parallax_of_cameras_tells_the_four_classes() -> None:
    turned = np.tile(np.eye(4), (2, 1, 1))
    turned[1, :2, :2] = [[0.9, -np.sqrt(0.19)], [np.sqrt(0.19), 0.9]]
    cases = {"none": path([0.0, 0.0]), "rotation": turned, "weak": path([0.01, 0.01]), "good": path([0.05, 0.05])}
    assert {name: parallax_of_cameras(cameras, np.eye(4), 1.0) for name, cameras in cases.items()} == {n: n for n in cases}


@pytest.mark.parametrize(("focal", "at_limit"), [(0.427, True), (0.9, False), (1.677, True)])
def test_focal_evidence_of_solved_cameras_knows_unusual_lenses(focal: float, at_limit: bool) -> None:
    known = KnownVideo(256 * focal, np.tile(np.eye(4), (2, 1, 1)), focal_source="video")
    solved = AnchoredGeometry(np.zeros((32, 48, 3), np.uint8), known=known, units=Units(cameras=1.0))
    assert focal_evidence(None, solved, 256 * focal, 256) == ("video", at_limit)
    assert focal_evidence(100.0, solved, 100.0, 256) == ("user", False)


def test_focal_evidence_of_the_metadata_is_at_no_limit() -> None:
    given = KnownVideo(500.0, np.tile(np.eye(4), (2, 1, 1)), focal_source="metadata")
    geometry = AnchoredGeometry(np.zeros((32, 48, 3), np.uint8), known=given, units=Units(cameras=1.0))
    assert focal_evidence(None, geometry, 500.0, 256) == ("metadata", False)


def test_focal_evidence_without_cameras_is_the_prior_and_of_a_pointmap_the_video() -> None:
    alone = AnchoredGeometry(np.zeros((32, 48, 3), np.uint8), None)
    assert focal_evidence(None, alone, alone.focal_px, 48) == ("prior", False)
    assert focal_evidence(None, None, 12.0 * 48, 48) == ("video", True)


@pytest.mark.parametrize(
    ("frames", "text"),
    [
        ([], "some frames"),
        ([3], "frame 3"),
        ([3, 4, 5, 9], "frames 3-5, 9"),
        (list(range(0, 20, 2)), "frames 0, 2, 4, 6, 8, 10, and 4 more"),
    ],
)
def test_frame_ranges_in_words(frames: list[int], text: str) -> None:
    assert frame_ranges(frames) == text


FACTS = {
    "shots": "--start 0 --stop 3",
    "bars": "12 px at the top",
    "count": 4,
    "needed": 13,
    "percent": 25.0,
    "unknown": "the focal length",
    "ratio": 9.0,
    "error_px": 7.0,
    "asked": 0,
    "used": 4,
    "wide": 1.0,
    "tele": 1.8,
    "k1": -0.18,
    "focal_px": 1200.0,
}


@pytest.mark.parametrize("code", WARNINGS)
def test_quality_warning_every_code_is_one_sentence(code: str) -> None:
    warning = quality_warning(code, [2, 1, 1], **FACTS)
    assert warning.frames == (1, 2)
    assert "{" not in warning.sentence
    assert 40 < len(warning.sentence) < 260
    assert quality_warning(code, serious=not warning.serious, **FACTS).serious != warning.serious


def test_cut_warning_names_each_shot_in_source_frames() -> None:
    warning = cut_warning([12], np.arange(100, 148, 2))
    assert warning.frames == (12,)
    assert "frame 12" in warning.sentence
    assert "--start 100 --stop 124; --start 124 --stop 147" in warning.sentence


def test_cut_warning_does_not_recommend_a_shot_of_one_frame() -> None:
    sentence = cut_warning([1], np.arange(16)).sentence
    assert "--start 1 --stop 16" in sentence and "--start 0" not in sentence


def test_summary_names_what_was_checked_and_what_was_not_measured() -> None:
    report = QualityReport(1.0, 0.84, parallax="good", focal_source="video", measured_share=0.954)
    assert report.summary(64) == (
        "quality: consistent with the video; 64/64 frames solved, reprojection 0.8 px, parallax good; "
        "depth: measured for 95 % of the pixels, else estimated by the monocular prior"
    )
    pan = replace(
        report, parallax="rotation", focal_source="prior", measured_share=0.0, warnings=(quality_warning("rotation_only"),)
    )
    assert pan.summary(64) == (
        "quality: consistent with the video, with warnings (rotation_only); 64/64 frames solved, reprojection 0.8 px, "
        "parallax rotation; depth: estimated by the monocular prior, not measured; focal length: from a prior, not measured"
    )
    broken = QualityReport(0.5, warnings=(quality_warning("low_light"), quality_warning("overlay")))
    assert broken.summary(24) == (
        "quality: UNRELIABLE (low_light, overlay); 12/24 frames solved, parallax none; "
        "depth: predicted by the network, not measured; focal length: from a prior, not measured"
    )
    assert replace(report, measured_share=1.0).summary(64).endswith("; depth: measured")
