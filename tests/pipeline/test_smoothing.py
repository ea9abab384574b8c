"""Truth with the noise of a network in its place: what is refined is nearer to the truth, and nothing that moves is held back."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest

from st4rtrack.data.procedural import ProceduralConfig, procedural_clip
from st4rtrack.geometry.align import Sim3
from st4rtrack.geometry.camera import intrinsics_from_focal, pixel_grid, unproject
from st4rtrack.pipeline.reconstruct import reconstruct
from st4rtrack.pipeline.smoothing import REACH, Predicted, frames_needed, smoothed_frames
from st4rtrack.types import Pointmap, TwoPointmaps, UserError
from tests.synthetic import TruthNetwork

HEIGHT, WIDTH, FRAMES = 96, 128, 24
INTRINSICS = intrinsics_from_focal(110.0, HEIGHT, WIDTH)
MOVING = (slice(20, 50), slice(30, 70))
STATIC = np.ones((HEIGHT, WIDTH), bool)
STATIC[MOVING] = False


def surface() -> np.ndarray:
    """What the anchor sees [height, width, 3]: hills, from 2 to 6 away."""
    pixels = pixel_grid(HEIGHT, WIDTH)
    depth = 4 + np.sin(pixels[..., 0] / 17) + np.cos(pixels[..., 1] / 11)
    return unproject(pixels.reshape(-1, 2), depth.reshape(-1), INTRINSICS).reshape(HEIGHT, WIDTH, 3)


@dataclass
class World:
    """True and predicted tracks [time, height, width, 3]; anchor in frame 0. A block of pixels moves with constant acceleration."""

    true: np.ndarray
    predicted: np.ndarray
    anchor: Pointmap

    def frames(self, order: Iterator[int] | None = None, *, anchor_index: int = 0) -> Iterator[Predicted]:
        """As the network gives them; reconstruction stands for itself by the same points."""
        for index in range(anchor_index, len(self.true)) if order is None else order:
            points = self.predicted[index]
            yield index, np.zeros(0, np.uint8), TwoPointmaps(Pointmap(points), Pointmap(points))

    def smoothed(self) -> np.ndarray:
        """All frames in order."""
        return np.stack([maps.tracking.points_world for _, _, maps in smoothed_frames(self.frames(), self.anchor, 0)])


def world(*, drift: float = 0.0, jitter: float = 0.0, outliers: float = 0.0, frames: int = FRAMES, seed: int = 0) -> World:
    """Predictions with a similarity per pair (drift in log scale, radians and units), noise and outliers in shares of the distance."""
    rng = np.random.default_rng(seed)
    rest = surface()
    true = np.repeat(rest[None], frames, axis=0)
    time = np.arange(frames)[:, None, None]
    true[:, *MOVING, 0] += 0.02 * time + 0.002 * time**2
    predicted = np.empty(true.shape, np.float32)
    for index, points in enumerate(true):
        if index == 0:
            predicted[index] = points
            continue
        turn, shift = drift * rng.standard_normal(3) / 3, drift * rng.standard_normal(3)
        motion = Sim3(np.exp(drift * rng.standard_normal()), cv2.Rodrigues(turn)[0], shift)
        distance = np.linalg.norm(points, axis=-1, keepdims=True)
        noisy = motion(points) + jitter * distance * rng.standard_normal(points.shape)
        spoiled = rng.random(points.shape[:2]) < outliers
        noisy[spoiled] += distance[spoiled] * rng.uniform(-0.5, 0.5, (int(spoiled.sum()), 3))
        predicted[index] = noisy
    return World(true, predicted, Pointmap(predicted[0]))


def test_jitter_of_what_rests_is_halved_and_what_moves_keeps_moving() -> None:
    made = world(jitter=0.003)
    found = made.smoothed()
    error = [np.sqrt(((tracks - made.true)[1:, STATIC] ** 2).mean()) for tracks in (made.predicted, found)]
    assert error[1] < 0.5 * error[0]
    moved = (found - made.true)[1:, *MOVING, 0].mean(axis=(1, 2))
    step = np.diff(made.true[:, MOVING[0].start, MOVING[1].start, 0])
    assert (np.abs(moved) < 0.02 * step + 0.002).all()  # neither ahead nor behind
    error = [np.sqrt(((tracks - made.true)[1:, *MOVING] ** 2).mean()) for tracks in (made.predicted, found)]
    assert error[1] < 0.7 * error[0]


@pytest.mark.parametrize("anchor_index", [0, 9])
@pytest.mark.parametrize("written", [1, 6, 17])
def test_a_run_that_goes_on_gives_the_same(anchor_index: int, written: int) -> None:
    made = world(drift=0.02, jitter=0.01)
    made.anchor = Pointmap(made.predicted[anchor_index])
    order = [*range(anchor_index, FRAMES), *range(anchor_index - 1, -1, -1)]

    def run(indices: list[int]) -> dict[int, np.ndarray]:
        frames = smoothed_frames(made.frames(iter(indices)), made.anchor, anchor_index)
        return {index: maps.tracking.points_world for index, _, maps in frames}

    whole = run(order)
    assert list(whole) == order
    done = np.isin(np.arange(FRAMES), order[:written])
    needed = frames_needed(done, anchor_index, True)
    assert (done >= needed).all() and (done & ~needed).sum() <= 2 * REACH
    continued = run([index for index in order if not needed[index]])
    for index in np.flatnonzero(~done).tolist():
        np.testing.assert_array_equal(continued[index], whole[index])


def test_the_stream_holds_a_bounded_window() -> None:
    made = world(frames=20)
    pulled: list[int] = []

    def watched() -> Iterator[Predicted]:
        for frame in made.frames():
            pulled.append(frame[0])
            yield frame

    for given, _, _ in smoothed_frames(watched(), made.anchor, 0):
        assert len(pulled) <= given + REACH + 1


def test_short_videos_and_points_that_are_not_finite_pass() -> None:
    for frames in (1, 2, 3):
        made = world(jitter=0.01, frames=frames)
        np.testing.assert_array_equal(made.smoothed(), made.predicted)
    made = world(jitter=0.01)
    made.predicted[5, 0, 0] = np.nan
    found = made.smoothed()
    assert np.isfinite(found[:, 30:]).all()
    assert np.isfinite(found[12]).all()


def test_reconstruct_refine_that_is_no_truth_value_is_refused() -> None:
    with pytest.raises(UserError, match="refine must be True or False"):
        reconstruct(np.zeros((2, 32, 32, 3), np.uint8), refine=["surface"])


def test_refine_is_kept_in_the_scene(tmp_path: Path) -> None:
    clip = procedural_clip(3, ProceduralConfig(num_frames=2, setting="room"))
    scene = reconstruct(clip.rgb, model=TruthNetwork(clip), size=256, output=tmp_path, refine=True)
    assert scene.info["options"]["refine"] == ["smoothness"]
    with pytest.raises(UserError, match="refine"):
        reconstruct(clip.rgb, model=TruthNetwork(clip), size=256, output=tmp_path, refine=False)
