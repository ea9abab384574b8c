"""Cameras from points that say too little, are not there, or are given in a unit of any size."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from st4rtrack.geometry.camera import intrinsics_from_focal, pixel_grid, unproject
from st4rtrack.geometry.transforms import invert_rigid, rigid, transform_points
from st4rtrack.pipeline.cameras import anchor_intrinsics, solve_camera
from st4rtrack.pipeline.visibility import visibility_probability
from st4rtrack.types import Pointmap, TwoPointmaps, UserError
from tests.properties import CLOUDS, SCALES, SEEDS, cloud, is_rotation

HEIGHT, WIDTH = 24, 32
INTRINSICS = intrinsics_from_focal(40.0, HEIGHT, WIDTH)


def camera(seed: int, unit: float) -> np.ndarray:
    """`world_from_camera` [4, 4] a little off the identity."""
    rng = np.random.default_rng(seed)
    skew = np.cross(np.eye(3), 0.05 * rng.normal(size=3))
    turn = np.linalg.solve(np.eye(3) - skew, np.eye(3) + skew)  # Cayley: a rotation
    return rigid(turn, 0.1 * unit * rng.normal(size=3))


def seen_by(world_from_camera: np.ndarray, seed: int, unit: float) -> np.ndarray:
    """Points [height, width, 3] in the world that each pixel of a camera sees."""
    depth = unit * np.random.default_rng(seed).uniform(2, 4, HEIGHT * WIDTH)
    points = unproject(pixel_grid(HEIGHT, WIDTH).reshape(-1, 2), depth, INTRINSICS)
    return transform_points(world_from_camera, points).reshape(HEIGHT, WIDTH, 3)


@settings(max_examples=15)
@given(seed=SEEDS, unit=SCALES, lost=st.floats(0, 0.5), spoil=st.sampled_from([np.nan, np.inf, -np.inf]))
def test_a_camera_is_found_in_any_unit_whatever_is_missing(seed: int, unit: float, lost: float, spoil: float) -> None:
    true = camera(seed, unit)
    points = seen_by(true, seed, unit).astype(np.float32)
    points[np.random.default_rng(seed).random((HEIGHT, WIDTH)) < lost] = spoil
    found = solve_camera(Pointmap(points, np.full((HEIGHT, WIDTH), 1.0, np.float32)), INTRINSICS)
    assert found is not None and is_rotation(found[:3, :3])
    np.testing.assert_allclose(found[:3, :3], true[:3, :3], atol=1e-4)
    np.testing.assert_allclose(found[:3, 3], true[:3, 3], atol=1e-3 * unit)


@settings(max_examples=20)
@given(seed=SEEDS, kind=CLOUDS, confidence=st.sampled_from([0.0, 1.0]), turned=st.booleans())
def test_points_that_are_no_picture_have_no_camera_or_one_that_is_rigid(
    seed: int, kind: str, confidence: float, turned: bool
) -> None:
    points = cloud(kind, seed, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH, 3) * (1, 1, -1 if turned else 1)
    found = solve_camera(Pointmap(points, np.full((HEIGHT, WIDTH), confidence)), INTRINSICS)
    assert found is None or (np.isfinite(found).all() and is_rotation(found[:3, :3]))
    nothing = np.full_like(points, np.nan)
    nothing[3, 4] = points[3, 4]
    assert solve_camera(Pointmap(nothing), INTRINSICS) is None


@settings(max_examples=15)
@given(seed=SEEDS, unit=SCALES)
def test_the_anchor_has_the_same_focal_length_in_any_unit(seed: int, unit: float) -> None:
    points = seen_by(np.eye(4), seed, unit)
    found = anchor_intrinsics(Pointmap(points, np.zeros((HEIGHT, WIDTH))))
    np.testing.assert_allclose(found, INTRINSICS, rtol=1e-6)
    for useless in (-points, np.zeros_like(points), np.full_like(points, np.nan)):
        with pytest.raises(UserError, match="could not fit a focal length"):
            anchor_intrinsics(Pointmap(useless))


@settings(max_examples=10)
@given(seed=SEEDS, unit=st.sampled_from([1e-6, 1e6]), spoil=st.sampled_from([np.nan, np.inf, -np.inf]))
def test_what_is_seen_knows_no_unit_and_what_is_behind_or_nowhere_is_not(seed: int, unit: float, spoil: float) -> None:
    rgb = np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    found = []
    for factor in (1.0, unit):
        world_from_camera = camera(seed, factor)
        surface = seen_by(world_from_camera, seed, factor)
        points = surface.copy()
        points[:4] = spoil
        turned = transform_points(invert_rigid(world_from_camera), points[4:8].reshape(-1, 3)) * (1, 1, -1)
        points[4:8] = transform_points(world_from_camera, turned).reshape(4, WIDTH, 3)
        maps = TwoPointmaps(Pointmap(points), Pointmap(surface))
        found.append(visibility_probability(maps, world_from_camera, INTRINSICS, rgb, rgb))
    assert not found[0][:8].any() and (found[0][8:] > 0).all()
    np.testing.assert_allclose(found[1], found[0], atol=1e-3)
