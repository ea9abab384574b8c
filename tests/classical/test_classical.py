"""Flow tracks, structure from motion and triangulation, on a rendered walk whose truth is known."""

import sys

import numpy as np
import pytest

from st4rtrack.classical.flow_tracks import follow, follow_first
from st4rtrack.classical.structure_from_motion import structure_from_motion, triangulate
from st4rtrack.geometry.camera import pixel_grid
from st4rtrack.geometry.transforms import rotation_angle
from st4rtrack.metrics.cameras import camera_errors
from st4rtrack.types import UserError
from tests.moving_camera import HEIGHT, INTRINSICS, WIDTH, Walk, path, points_on_walls, seen_at, walk

QUERIES = pixel_grid(HEIGHT, WIDTH)[6:-6:6, 6:-6:6].reshape(-1, 2)


@pytest.fixture(scope="module")
def clip() -> Walk:
    return walk()


def inside(pixels_px: np.ndarray, margin: float = 2.0) -> np.ndarray:
    return np.asarray(((pixels_px > margin) & (pixels_px < np.array([WIDTH, HEIGHT]) - margin)).all(axis=-1))


def test_points_of_the_first_frame_are_followed(clip: Walk) -> None:
    tracks = follow_first(iter(clip.rgb), QUERIES)
    truth = seen_at(points_on_walls(QUERIES), clip.world_from_camera)
    error = np.linalg.norm(tracks.pixels_px - truth, axis=-1)
    assert np.median(error[-1][tracks.visible[-1]]) < 0.5
    assert (error[tracks.visible] < 3).mean() > 0.93
    assert tracks.visible[0].all() and not tracks.visible[~inside(truth, -3.0)].any()
    covered = (points_on_walls(QUERIES)[:, 2] == 5) & (truth[-1, :, 1] > HEIGHT / 2 + 8)  # the near wall has come before them
    assert tracks.visible[-1][inside(truth[-1]) & ~covered].mean() > 0.7


def test_looking_back_to_the_first_frame_takes_out_drift(clip: Walk) -> None:
    truth = seen_at(points_on_walls(QUERIES), clip.world_from_camera)
    direct = follow_first(iter(clip.rgb), QUERIES)
    chained = follow(iter(clip.rgb), reseed_every=100, spacing_px=6)
    own = seen_at(points_on_walls(chained.pixels_px[0]), clip.world_from_camera)
    drift = np.linalg.norm(chained.pixels_px - own, axis=-1)[-1][chained.visible[-1]]
    assert np.median(np.linalg.norm(direct.pixels_px - truth, axis=-1)[-1][direct.visible[-1]]) < 0.7 * np.median(drift)


def test_new_tracks_start_where_none_is_left(clip: Walk) -> None:
    tracks = follow(iter(clip.rgb), reseed_every=4, spacing_px=8)
    assert set(tracks.start) <= {0, 4, 8, 12} and (tracks.start > 0).any()
    for track in np.flatnonzero(tracks.start > 0)[::20]:
        first = tracks.start[track]
        assert not tracks.visible[:first, track].any() and tracks.visible[first, track]
        assert (tracks.pixels_px[:first, track] == tracks.pixels_px[first, track]).all()
    lost = ~tracks.visible & (np.arange(len(tracks.visible))[:, None] > tracks.start)
    assert (np.maximum.accumulate(lost, axis=0) == lost).all()  # lost stays lost
    for t in (4, 8, 12):  # every cell is held then
        cells = (tracks.pixels_px[t][tracks.visible[t]] // 8).astype(int)
        assert len({tuple(cell) for cell in cells}) == (HEIGHT // 8) * (WIDTH // 8)


def test_a_static_point_is_triangulated_and_a_moving_one_is_not(clip: Walk) -> None:
    cameras = path(20)
    rng = np.random.default_rng(0)
    points = points_on_walls(QUERIES)
    velocity = np.zeros_like(points)
    velocity[::5] = (0.0, 0.05, 0.02)  # up, across the camera's way
    pixels = seen_at(points + velocity * np.arange(20)[:, None, None], cameras)
    visible = inside(pixels, 0)
    noisy = pixels + rng.normal(0, 0.2, pixels.shape)
    noisy[7] += 15 * (rng.random(len(points)) < 0.1)[:, None]  # a few wrong matches
    static = triangulate(noisy, visible, cameras, INTRINSICS)
    enough = visible.sum(axis=0) >= 10
    still = enough & (velocity == 0).all(axis=1)
    relative = np.linalg.norm(static.points_world - points, axis=-1) / points[:, 2]
    assert np.median(relative[still]) < 0.005 and np.quantile(relative[still], 0.95) < 0.03
    assert (static.residual_px[still] < 0.6).all()
    assert (static.residual_px[enough & ~still] > 1.0).all()
    exact = triangulate(pixels, visible, cameras, INTRINSICS)
    np.testing.assert_allclose(exact.points_world[still], points[still], atol=1e-4)
    once = triangulate(pixels[:2], visible[:2], cameras[:2], INTRINSICS)
    assert np.isnan(once.points_world).all() and np.isinf(once.residual_px).all()


def test_parallax_is_the_angle_between_rays() -> None:
    cameras = path(3)
    points = np.array([[0.0, 0.0, 5.0], [0.0, 0.0, 5000.0]])
    parallax = triangulate(seen_at(points, cameras), np.ones((3, 2), bool), cameras, INTRINSICS).parallax_rad
    to_first, to_last = points[0] - cameras[0, :3, 3], points[0] - cameras[2, :3, 3]
    cosine = to_first @ to_last / np.linalg.norm(to_first) / np.linalg.norm(to_last)
    assert parallax[0] == pytest.approx(np.arccos(cosine), rel=1e-3) and parallax[1] < 0.001


def test_cameras_are_recovered_from_images(clip: Walk) -> None:
    pytest.importorskip("pycolmap")
    grid = follow(iter(clip.rgb), reseed_every=4, spacing_px=6)
    scene = structure_from_motion(grid.pixels_px, grid.visible, HEIGHT, WIDTH)
    assert scene is not None and np.isfinite(scene.world_from_camera).all()
    errors = camera_errors(scene.world_from_camera, clip.world_from_camera)
    assert errors.ate_m < 0.02 * 2.0
    turned = rotation_angle(scene.world_from_camera[:, :3, :3].swapaxes(1, 2) @ clip.world_from_camera[:, :3, :3])
    assert np.degrees(turned).max() < 1.5
    again = structure_from_motion(grid.pixels_px, grid.visible, HEIGHT, WIDTH)
    assert again is not None
    np.testing.assert_allclose(again.world_from_camera, scene.world_from_camera, atol=1e-6)


def test_cameras_and_structure_are_recovered_from_exact_tracks_among_moving_ones() -> None:
    """With six seeds, pycolmap 4.1 and 4.2: focal length 0.2 to 3.6 % off, rotations 0.1 to 1.1 degrees, points 0.1 to 1.5 %."""
    pytest.importorskip("pycolmap")
    cameras = path(12)
    rng = np.random.default_rng(1)
    points = np.stack([rng.uniform(-2.5, 3.5, 400), rng.uniform(-1.8, 1.8, 400), rng.uniform(3, 6, 400)], axis=-1)
    velocity = np.where(np.arange(400)[:, None] < 80, rng.normal(0, 0.3, (400, 3)), 0.0)
    pixels = seen_at(points + velocity * np.arange(12)[:, None, None], cameras)
    scene = structure_from_motion(pixels, inside(pixels, 0), HEIGHT, WIDTH)
    assert scene is not None
    assert scene.intrinsics[0, 0] == pytest.approx(INTRINSICS[0, 0], rel=0.06)
    turned = rotation_angle(scene.world_from_camera[:, :3, :3].swapaxes(1, 2) @ cameras[:, :3, :3])
    assert np.degrees(turned).max() < 2
    found = np.isfinite(scene.points_world[:, 0]) & (np.arange(400) >= 80)
    scale = np.median(np.linalg.norm(points[found], axis=-1) / np.linalg.norm(scene.points_world[found], axis=-1))
    relative = np.linalg.norm(scale * scene.points_world[found] - points[found], axis=-1) / points[found, 2]
    assert found.sum() > 150 and np.median(relative) < 0.03
    assert np.isfinite(scene.points_world[:80, 0]).mean() < 0.5


def test_no_motion_gives_no_scene() -> None:
    pytest.importorskip("pycolmap")
    pixels = seen_at(points_on_walls(QUERIES), path(6, moves=False))
    assert structure_from_motion(pixels, inside(pixels), HEIGHT, WIDTH) is None
    assert structure_from_motion(pixels[:, :5], inside(pixels[:, :5]), HEIGHT, WIDTH) is None  # too few tracks


def test_a_fixed_camera_is_known_without_mapping(monkeypatch: pytest.MonkeyPatch) -> None:
    pycolmap = pytest.importorskip("pycolmap")

    def must_not_map(*_: object) -> None:
        raise AssertionError("mapped")

    monkeypatch.setattr(pycolmap, "incremental_mapping", must_not_map)
    rng = np.random.default_rng(0)
    pixels = seen_at(points_on_walls(QUERIES), path(6, moves=False)) + rng.normal(0, 0.2, (6, len(QUERIES), 2))
    pixels[:, ::3] += 4.0 * np.arange(6)[:, None, None]  # a third of the image moves before the camera
    assert structure_from_motion(pixels, np.ones(pixels.shape[:2], bool), HEIGHT, WIDTH) is None
    with pytest.raises(AssertionError, match="mapped"):
        structure_from_motion(seen_at(points_on_walls(QUERIES), path(6)), np.ones(pixels.shape[:2], bool), HEIGHT, WIDTH)


def test_a_missing_pycolmap_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pycolmap", None)
    with pytest.raises(UserError, match='pip install "pycolmap'):
        structure_from_motion(np.zeros((2, 3, 2)), np.ones((2, 3), bool), 10, 10)
