"""Zoom and lens distortion from matches of key frames, on made-up points with exact truth."""

from dataclasses import replace

import numpy as np
import pytest

from st4rtrack.classical.anchor import Matches
from st4rtrack.classical.layout import is_panorama
from st4rtrack.classical.solver.cameras import SolvedCameras, radial_distortion
from st4rtrack.classical.solver.evidence import Evidence
from st4rtrack.classical.solver.key_frames import KeyFrame
from st4rtrack.classical.solver.turning import turning_camera
from st4rtrack.classical.solver.zoom import MAX_DEVIATION, add_zoom, key_frame_zoom, pair_zoom
from st4rtrack.classical.static_depth import depth_from_flow
from st4rtrack.classical.two_view import pixels_of_points
from st4rtrack.geometry.camera import pixel_grid
from st4rtrack.geometry.transforms import invert_rigid, rigid, rotation_angle, transform_points
from tests.cases.world import pose

SIZE, FOCAL, FRAMES = (384, 512), 420.0, 12
LINE = np.linspace(0, 1, FRAMES)
TURNING = np.stack([pose(yaw_deg=20 * s, pitch_deg=4 * s) for s in LINE])
SLIDING = np.stack([pose(0.9 * s, -0.1 * s, 0.3 * s, yaw_deg=-6 * s, roll_deg=2 * s) for s in LINE])
FORWARD = np.stack([pose(z=1.5 * s) for s in LINE])


def points() -> np.ndarray:
    return np.random.default_rng(0).uniform((-3, -2, 3), (3, 2, 8), (500, 3))


def observed(cameras: np.ndarray, zoom: np.ndarray, noise_px: float = 0.3) -> np.ndarray:
    """[T, points, 2] pixels with noise."""
    seen = [
        pixels_of_points(transform_points(invert_rigid(c), points()), FOCAL * f, SIZE) for c, f in zip(cameras, zoom, strict=True)
    ]
    return np.stack(seen) + np.random.default_rng(1).normal(0, noise_px, (len(cameras), len(points()), 2))


def keys(cameras: np.ndarray, zoom: np.ndarray) -> list[KeyFrame]:
    """Key frames whose features are the points in view, with the same descriptors everywhere."""
    descriptors = np.random.default_rng(2).normal(0, 1, (len(points()), 128)).astype(np.float32)
    descriptors /= np.linalg.norm(descriptors, axis=1, keepdims=True)
    px = observed(cameras, zoom)
    inside = np.all((px >= 0) & (px < SIZE[::-1]), axis=-1)
    return [KeyFrame(k, px[k][inside[k]], descriptors[inside[k]]) for k in range(len(px))]


ZOOM, CONSTANT = 1 + 0.6 * LINE, np.ones(FRAMES)


def test_key_frame_zoom_of_translating_camera_within_two_percent() -> None:
    z = key_frame_zoom(keys(SLIDING, ZOOM), SIZE, 1.1 * FOCAL)
    assert z is not None
    np.testing.assert_allclose(z, np.log(ZOOM), atol=0.02)


@pytest.mark.parametrize("cameras", [SLIDING, FORWARD], ids=["sliding", "forward"])
def test_key_frame_zoom_of_constant_focal_length_is_none(cameras: np.ndarray) -> None:
    assert key_frame_zoom(keys(cameras, CONSTANT), SIZE, 1.1 * FOCAL) is None


def test_pair_zoom_of_dolly_zoom_is_undetermined() -> None:
    frames = keys(FORWARD, 1 - 0.35 * LINE)
    found = pair_zoom(frames[0], frames[5], SIZE, FOCAL)
    assert found is not None and found.deviation > MAX_DEVIATION
    assert key_frame_zoom(frames, SIZE, FOCAL) is None


def test_add_zoom_refined_with_all_points_within_one_percent() -> None:
    pytest.importorskip("pycolmap")
    log_zoom = np.full(FRAMES, np.nan)
    add_zoom(log_zoom, keys(SLIDING, ZOOM), SIZE, 1.05 * FOCAL)
    np.testing.assert_allclose(log_zoom, np.log(ZOOM), atol=0.01)


def test_turning_camera_zoom_rotation_and_focal_length() -> None:
    found = turning_camera(keys(TURNING, ZOOM), FRAMES, SIZE, 1.3 * FOCAL, known=False)
    assert found is not None and found.decided
    assert found.focal_px == pytest.approx(FOCAL, rel=0.03)
    np.testing.assert_allclose(found.z, np.log(ZOOM), atol=0.005)
    assert np.rad2deg(rotation_angle(found.first_from_frame.swapaxes(1, 2) @ TURNING[:, :3, :3])).max() < 0.6


def test_turning_camera_of_pure_zoom_keeps_the_prior_focal_length() -> None:
    fixed = np.tile(np.eye(4), (FRAMES, 1, 1))
    found = turning_camera(keys(fixed, ZOOM), FRAMES, SIZE, 1.3 * FOCAL, known=False)
    assert found is not None and not found.decided and found.focal_px == 1.3 * FOCAL
    np.testing.assert_allclose(found.z, np.log(ZOOM), atol=0.002)


@pytest.mark.parametrize(("cameras", "zoom"), [(TURNING, CONSTANT), (SLIDING, ZOOM)], ids=["constant", "translating"])
def test_turning_camera_without_zoom_or_with_translation_is_none(cameras: np.ndarray, zoom: np.ndarray) -> None:
    assert turning_camera(keys(cameras, zoom), FRAMES, SIZE, FOCAL, known=False) is None


def test_matches_at_one_focal_have_no_zoom() -> None:
    px, plain = (observed(SLIDING, zoom, 0.0) for zoom in (ZOOM, CONSTANT))
    matches = Matches(px[0], px[1:], np.ones(px[1:, :, 0].shape, bool), SIZE)
    np.testing.assert_allclose(matches.at_one_focal(ZOOM[1:]).frame_px, plain[1:], atol=1e-9)


def test_depth_from_flow_to_frames_of_other_focal_lengths_is_exact() -> None:
    size, grid = (48, 64), pixel_grid(48, 64)
    here, focals, depth = 60.0, [75.0, 50.0, 60.0], 3.0
    wall = np.concatenate([(grid - (32, 24)) / here * depth, np.full((*size, 1), depth)], -1)
    cameras = [rigid(np.eye(3), np.array([x, 0.05, 0.0])) for x in (0.3, -0.3, 0.5)]
    flows = [pixels_of_points(wall + c[:3, 3], f, size) - grid for c, f in zip(cameras, focals, strict=True)]
    found = depth_from_flow([f.astype(np.float32) for f in flows], [np.ones(size, bool)] * 3, cameras, here, size, focals)
    assert found.known.mean() > 0.99
    np.testing.assert_allclose(found.depth[found.known], depth, rtol=1e-3)


@pytest.mark.parametrize("k1", [-0.2, 0.0])
def test_radial_distortion_is_found_where_there_is_any(k1: float) -> None:
    pytest.importorskip("pycolmap")
    cameras = np.stack([pose(1.2 * s, 0.3 * s, yaw_deg=-12 * s, pitch_deg=8 * s, roll_deg=10 * s) for s in LINE])
    px, centre = observed(cameras, CONSTANT), np.array(SIZE[::-1]) / 2
    px = centre + (px - centre) * (1 + k1 * (((px - centre) / FOCAL) ** 2).sum(-1, keepdims=True))
    frame, point = np.nonzero(((px >= 0) & (px < SIZE[::-1])).all(-1))
    solved = SolvedCameras(cameras, FOCAL, points(), frame, point, px[frame, point], Evidence())
    found = radial_distortion(solved, SIZE)
    assert (found is None) == (k1 == 0)
    if found is not None:
        assert found.k1 / found.focal_px**2 == pytest.approx(k1 / FOCAL**2, rel=0.15)
    few = replace(solved, frame=frame[:500], point=point[:500], px=solved.px[:500])
    assert radial_distortion(few, SIZE) is None


def test_is_panorama_needs_seam_and_poles() -> None:
    v, u = np.mgrid[:128, :256]
    longitude, latitude = u / 256 * 2 * np.pi, (0.5 - (v + 0.5) / 128) * np.pi
    ray = np.stack([np.cos(latitude) * np.cos(longitude), np.cos(latitude) * np.sin(longitude), np.sin(latitude)], -1)
    waves = np.random.default_rng(0).normal(0, 6, (3, 24))
    sphere = 127 + 10 * np.sin(ray @ waves).sum(-1)
    plane = 127 + 10 * np.sin(np.stack([u / 40, v / 40, 0 * u], -1) @ waves).sum(-1)
    images = [np.repeat(each[..., None], 3, -1).clip(0, 255).astype(np.uint8) for each in (sphere, plane)]
    assert is_panorama(images[:1]) and not is_panorama(images[1:]) and not is_panorama([images[0][:, :200]])
