import numpy as np
import pytest

from st4rtrack.render.adaptation import BLUE, Curve, draw_curves
from st4rtrack.render.draw import ACCENT, PAGE


def places(image: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """[pixels, 2] (column, row) of a colour."""
    return np.argwhere((np.abs(image.astype(int) - colour) < 40).all(axis=-1))[:, ::-1]


def test_a_falling_line_falls() -> None:
    steps = np.arange(0, 101, 10)
    image = draw_curves("Loss", [Curve("a", steps, 100.0 - steps, BLUE)], (200, 320))
    drawn = places(image, BLUE)
    assert len(drawn) > 150
    assert np.corrcoef(drawn.T)[0, 1] > 0.95  # rows count downwards


def test_what_is_kept_is_marked_at_its_step() -> None:
    curve = Curve("a", np.array([0.0, 100.0]), np.array([1.0, 2.0]), BLUE)
    near, far = (places(draw_curves("Loss", [curve], (200, 320), marked_x=x), ACCENT)[:, 0].mean() for x in (25.0, 75.0))
    assert far - near > 100


@pytest.mark.parametrize("y", [[], [np.nan, np.nan], [3.0, 3.0], [0.0, 0.0], [1.0, np.nan], [1e-12, 1e12]], ids=str)
def test_any_values_make_a_picture(y: list[float]) -> None:
    image = draw_curves("Loss", [Curve("a", np.arange(len(y), dtype=float), np.array(y), BLUE)], (150, 240))
    assert image.shape == (150, 240, 3) and (image != PAGE).any()
