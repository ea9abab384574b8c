"""Positions of dynamic points corrected by their appearance in the anchor."""

from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor

from st4rtrack.geometry.camera import pixel_grid
from st4rtrack.hints.matching import AppearanceMatcher
from st4rtrack.model.matching import CELL, MatchingHead

HEIGHT, WIDTH = 48, 64
CELLS = (HEIGHT // CELL, WIDTH // CELL)
MAPS = [torch.zeros(1, 1, HEIGHT // stride, WIDTH // stride) for stride in (2, 4, 8, 16, 32)]
POINT = (18, 30)
"""Row and column of the tested point: the middle of a cell."""


class KnownLikelihood:
    """Matching head that finds every point near one pixel; `None`: everywhere alike."""

    def __init__(self, there: tuple[float, float] | None) -> None:
        self.there = there

    def __call__(self, anchor: tuple[Tensor, ...], frame: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        return anchor[1], frame[1]

    def logits(self, anchor: Tensor, frame: Tensor, pixels: Tensor) -> Tensor:
        row, column = torch.meshgrid(*(torch.arange(n) * CELL + CELL / 2 for n in CELLS), indexing="ij")
        x, y = (0.0, 0.0) if self.there is None else self.there
        spread = 1e9 if self.there is None else 8.0
        found = -((column - x) ** 2 + (row - y) ** 2) / spread
        return found.flatten().expand(1, pixels.shape[1], -1)


def corrected(there: tuple[float, float] | None, drift: float, *, frames: int = 6, everywhere: bool = True) -> np.ndarray:
    """Pixel of the point after some frames with unreliable flow, predicted `drift` pixels right of its place."""
    matcher = AppearanceMatcher(cast(MatchingHead, KnownLikelihood(there)), MAPS, (HEIGHT, WIDTH))
    pixels = pixel_grid(HEIGHT, WIDTH) + (drift, 0.0)
    follows = np.ones((HEIGHT, WIDTH), bool) if everywhere else np.zeros((HEIGHT, WIDTH), bool)
    for _ in range(frames):
        pixels = matcher.corrected(MAPS, pixels, follows, ~follows, np.ones((HEIGHT, WIDTH), bool))
    return pixels[POINT]


def test_appearance_corrects_drift_within_some_frames() -> None:
    place = (30.5, 18.5)
    before, after = 12.0, np.linalg.norm(corrected(place, 12.0) - place)
    assert after < before / 4


def test_equal_appearance_everywhere_leaves_the_prediction() -> None:
    np.testing.assert_allclose(corrected(None, 3.0), (33.5, 18.5), atol=0.05)


def test_points_that_are_not_followed_stay() -> None:
    np.testing.assert_array_equal(corrected((30.5, 18.5), 12.0, everywhere=False), (42.5, 18.5))


def test_predictions_far_outside_the_image_stay_finite() -> None:
    assert np.isfinite(corrected((30.5, 18.5), 1e4)).all()


def test_reliable_flow_is_corrected_less() -> None:
    matchers = [AppearanceMatcher(cast(MatchingHead, KnownLikelihood((30.5, 18.5))), MAPS, (HEIGHT, WIDTH)) for _ in range(2)]
    start, all_pixels = pixel_grid(HEIGHT, WIDTH) + (8.0, 0.0), np.ones((HEIGHT, WIDTH), bool)
    sure, lost = (
        matcher.corrected(MAPS, start, all_pixels, reliable, all_pixels)[POINT]
        for matcher, reliable in zip(matchers, (all_pixels, ~all_pixels))
    )
    assert abs(sure[0] - 38.5) < abs(lost[0] - 38.5)


@pytest.mark.parametrize("size", [(48, 64), (64, 48)])
def test_head_finds_an_image_in_itself(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    head = MatchingHead().eval()
    channels: tuple[Any, ...] = (16, 24, 40, 112, 320)
    maps = tuple(
        torch.randn(1, count, -(-size[0] // stride), -(-size[1] // stride)) for count, stride in zip(channels, (2, 4, 8, 16, 32))
    )
    with torch.inference_mode():
        anchor, frame = head(maps, maps)
        torch.testing.assert_close(anchor, frame)
        pixels = torch.tensor([[[10.0, 10.0], [34.0, 22.0]]])
        found = head.log_likelihood(anchor, frame, pixels)[0].argmax(-1)
    width = size[1] // CELL
    assert [(int(k) % width, int(k) // width) for k in found] == [(2, 2), (8, 5)]
