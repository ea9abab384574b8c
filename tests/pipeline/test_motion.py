import numpy as np
import pytest

from st4rtrack.geometry.camera import intrinsics_from_focal, pixel_grid, unproject
from st4rtrack.geometry.transforms import invert_rigid, transform_points
from st4rtrack.pipeline.motion import dynamic_masks, moving_masks, moving_points
from st4rtrack.types import DepthSource

HEIGHT, WIDTH, FRAMES, SIDE = 72, 96, 9, 22
INTRINSICS = intrinsics_from_focal(90.0, HEIGHT, WIDTH)
GRID = pixel_grid(HEIGHT, WIDTH)
WALL_M, THING_M, STEP_M = 4.0, 3.0, 0.12


class World:
    """A textured wall, and before it a textured square that moves to the right; the camera moves up. Anchor: frame 0."""

    def __init__(self, noise: float, *, thing: bool = True, late: bool = False) -> None:
        rng = np.random.default_rng(0)
        self.noise, self.rng, self.thing, self.late = noise, rng, thing, late
        self.wall, self.paint = (rng.integers(30, 220, (64, 64, 3)).astype(np.uint8) for _ in range(2))

    def left_px(self, t: int) -> float:
        """Left edge of the square, in the anchor's pixels; what comes late comes from outside."""
        return 20.0 + (t * STEP_M / THING_M * 90.0) - (44.0 if self.late else 0.0)

    def camera(self, t: int) -> np.ndarray:
        world_from_camera = np.eye(4)
        world_from_camera[1, 3] = -0.02 * t
        return world_from_camera

    def content(self, t: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Points in the world [height, width, 3], which pixels show the square, and the image."""
        rise = 0.02 * t * 90.0
        on = ((GRID - (self.left_px(t), 24 + rise / THING_M)) >= 0) & ((GRID - (self.left_px(t), 24 + rise / THING_M)) < SIDE)
        on = on.all(axis=-1) & self.thing
        depth = np.where(on, THING_M, WALL_M)
        points = transform_points(self.camera(t), unproject(GRID.reshape(-1, 2), depth.ravel(), INTRINSICS)).reshape(
            HEIGHT, WIDTH, 3
        )
        own = points - (t * STEP_M, 0, 0)
        cell = np.floor(np.where(on[..., None], own, points)[..., :2] * 8).astype(int) % 64
        rgb = np.where(on[..., None], self.paint[cell[..., 1], cell[..., 0]], self.wall[cell[..., 1], cell[..., 0]])
        return points, on, rgb.astype(np.uint8)

    def read(self, name: str, t: int) -> np.ndarray:
        start, moves, _ = self.content(0)
        points, _, rgb = self.content(t)
        tracks = start + np.where(moves[..., None], (t * STEP_M, 0, 0), 0.0)
        if name == "visible":
            return np.ones((HEIGHT, WIDTH), bool) & ~self._covered(tracks, moves, t)
        fields = {"rgb": rgb, "world_from_camera": self.camera(t), "intrinsics": INTRINSICS, "solved": np.True_}
        if name in fields:
            return fields[name]
        wrong = np.exp(self.noise * self.rng.standard_normal((HEIGHT, WIDTH, 1)))
        return wrong * (tracks if name == "tracking_points" else points)

    def _covered(self, tracks: np.ndarray, moves: np.ndarray, t: int) -> np.ndarray:
        """Points of the wall that the square hides, or that leave the image."""
        seen = transform_points(invert_rigid(self.camera(t)), tracks.reshape(-1, 3)).reshape(tracks.shape)
        pixel = np.floor(seen[..., :2] / seen[..., 2:] * 90.0 + (WIDTH / 2, HEIGHT / 2)).astype(int)
        inside = ((pixel >= 0) & (pixel < (WIDTH, HEIGHT))).all(axis=-1)
        on = self.content(t)[1][pixel[..., 1].clip(0, HEIGHT - 1), pixel[..., 0].clip(0, WIDTH - 1)]
        return ~inside | (on & ~moves)


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


@pytest.mark.parametrize("noise", [0.0, 0.003])
def test_what_moves_is_found_in_the_anchor_and_in_every_frame(noise: float) -> None:
    world = World(noise)
    moving = moving_points(world.read, FRAMES, 0)
    assert overlap(moving, world.content(0)[1]) > 0.9
    masks = list(moving_masks(world.read, FRAMES, 0, moving))
    assert len(masks) == FRAMES and all(mask.shape == (HEIGHT, WIDTH) and mask.dtype == bool for mask in masks)
    assert np.mean([overlap(mask, world.content(t)[1]) for t, mask in enumerate(masks)]) > 0.8


@pytest.mark.parametrize("noise", [0.0, 0.003])
def test_nothing_moves_in_a_static_world(noise: float) -> None:
    world = World(noise, thing=False)
    moving = moving_points(world.read, FRAMES, 0)
    assert moving.mean() < 0.001
    assert np.mean([mask.mean() for mask in moving_masks(world.read, FRAMES, 0, moving)]) < 0.01


def test_what_comes_later_is_found_by_its_flow() -> None:
    world = World(0.0, late=True)
    moving = moving_points(world.read, FRAMES, 0)
    assert not moving.any()
    shown = [(mask, world.content(t)[1]) for t, mask in enumerate(moving_masks(world.read, FRAMES, 0, moving))]
    there = [(mask & true).sum() / true.sum() for mask, true in shown if true.sum() > 200]
    assert there and np.mean(there) > 0.5
    assert np.mean([(mask & ~true).mean() for mask, true in shown]) < 0.03


def test_a_single_frame() -> None:
    world = World(0.0)
    moving = moving_points(world.read, 1, 0)
    assert not moving.any() and [mask.any() for mask in moving_masks(world.read, 1, 0, moving)] == [False]


def test_points_that_are_not_finite_do_not_move() -> None:
    world = World(0.0, thing=False)

    def read(name: str, t: int) -> np.ndarray:
        values = np.array(world.read(name, t))
        if name.endswith("points") and t:
            values[10:30] = np.nan
        return values

    moving = moving_points(read, FRAMES, 0)
    assert not moving.any()
    assert all(np.isfinite(mask).all() for mask in moving_masks(read, FRAMES, 0, moving))


def test_moving_masks_of_an_unsolved_frame_are_empty() -> None:
    world = World(0.0)

    def read(name: str, t: int) -> np.ndarray:
        return np.array(t != 2) if name == "solved" else world.read(name, t)

    masks = list(moving_masks(read, FRAMES, 0, moving_points(world.read, FRAMES, 0)))
    assert not masks[2].any()
    assert masks[1].any()


def test_dynamic_masks_are_the_dynamic_pixels_of_solved_frames() -> None:
    source = np.array([[DepthSource.MEASURED, DepthSource.DYNAMIC], [DepthSource.PRIOR, DepthSource.DYNAMIC]], np.uint8)
    masks = list(dynamic_masks(lambda name, t: source if name == "reconstruction_source" else np.array(t == 0), 2))
    np.testing.assert_array_equal(masks[0], [[False, True], [False, True]])
    assert not masks[1].any()
