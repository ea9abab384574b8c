"""Line plots without a plotting library: curves over a common axis on a light background."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np

from st4rtrack.render.draw import ACCENT, GREY, INK, NOTHING, PAGE, Colour, dot, line, number, put_text, text_width

BLUE: Colour = (0, 114, 178)
_ENLARGED = 2


@dataclass(frozen=True)
class Curve:
    """Curve of a plot.

    Attributes:
        name: name in the legend.
        x, y: [points]; non-finite values are skipped.
        colour: line colour.
        marks: whether to draw discs at the points, for short curves.
    """

    name: str
    x: np.ndarray
    y: np.ndarray
    colour: Colour = BLUE
    marks: bool = False


def draw_curves(
    title: str,
    curves: Sequence[Curve],
    size: tuple[int, int],
    *,
    text: int = 14,
    marked_x: float | None = None,
    across: str = "step",
) -> np.ndarray:
    """Draw curves over a common axis that starts at the smallest x; y starts at zero if the values come near it.

    Args:
        title: text above the plot.
        curves: curves, drawn in order.
        size: (height, width) in pixels.
        text: letter height in pixels.
        marked_x: position of a vertical line, such as the selected step.
        across: label of the x axis.
    Returns:
        [height, width, 3] uint8 RGB.
    """
    height, width = size
    image = np.full((height, width, 3), PAGE, np.uint8)
    put_text(image, title, 0, 1.1 * text, text, INK, bold=True)
    x, y = (np.concatenate([np.asarray(getattr(curve, axis), np.float64) for curve in curves] or [[]]) for axis in "xy")
    known = np.isfinite(x) & np.isfinite(y)
    if not known.any():
        put_text(image, "no data", 0, height / 2, text, GREY)
        return image
    box = _Box(_limits(x[known], pad=False), _limits(y[known], pad=True), size, text)
    _draw_axes(image, box, text, across)
    large = cv2.resize(image, (width * _ENLARGED, height * _ENLARGED), interpolation=cv2.INTER_NEAREST)
    if marked_x is not None:
        ends = box.pixels(np.array([marked_x, marked_x]), np.array(box.y))
        line(large, ends[0] * _ENLARGED, ends[1] * _ENLARGED, ACCENT, _ENLARGED)
    for curve in curves:
        _draw_curve(large, curve, box)
    image = np.ascontiguousarray(cv2.resize(large, (width, height), interpolation=cv2.INTER_AREA))
    _draw_legend(image, curves, text)
    return image


@dataclass(frozen=True)
class _Box:
    """Plot box that maps values to pixels."""

    x: tuple[float, float]
    y: tuple[float, float]
    size: tuple[int, int]
    text: int

    @property
    def left(self) -> int:
        return max(text_width(number(value), self.text) for value in self.y) + self.text // 2

    @property
    def right(self) -> int:
        return self.size[1] - self.text // 2

    @property
    def top(self) -> int:
        return round(2.0 * self.text)

    @property
    def bottom(self) -> int:
        return self.size[0] - round(1.8 * self.text)

    def pixels(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Pixels [points, 2] of values [points]."""
        across = (np.asarray(x, np.float64) - self.x[0]) / (self.x[1] - self.x[0])
        up = (np.asarray(y, np.float64) - self.y[0]) / (self.y[1] - self.y[0])
        return np.stack([self.left + across * (self.right - self.left), self.bottom - up * (self.bottom - self.top)], axis=-1)


def _limits(values: np.ndarray, *, pad: bool) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    if pad:
        low = 0.0 if 0 <= low < 0.5 * high else low - 0.08 * (high - low)
        high += 0.08 * (high - low)
    if high - low <= 1e-9 * max(abs(low), abs(high), 1e-6):
        high = low + max(abs(low), 1.0)
    return low, high


def _draw_axes(image: np.ndarray, box: _Box, text: int, across: str) -> None:
    for share in (0.0, 0.5, 1.0):
        value = box.y[0] + share * (box.y[1] - box.y[0])
        level = float(box.pixels(np.array([box.x[0]]), np.array([value]))[0, 1])
        line(image, np.array([box.left, level]), np.array([box.right, level]), NOTHING)
        put_text(image, number(value), box.left - text // 2, level + 0.35 * text, text, GREY, align="right")
    put_text(image, f"{box.x[0]:g}", box.left, image.shape[0] - 0.4 * text, text, GREY)
    put_text(image, f"{across} {box.x[1]:g}", box.right, image.shape[0] - 0.4 * text, text, GREY, align="right")


def _draw_curve(large: np.ndarray, curve: Curve, box: _Box) -> None:
    known = np.isfinite(curve.x) & np.isfinite(curve.y)
    pixels = box.pixels(curve.x[known], curve.y[known]) * _ENLARGED
    for start, end in pairwise(pixels):
        line(large, start, end, curve.colour, 3)
    if curve.marks or len(pixels) == 1:
        for centre in pixels:
            dot(large, centre, 2.5 * _ENLARGED, curve.colour)


def _draw_legend(image: np.ndarray, curves: Sequence[Curve], text: int) -> None:
    """Draw curve names in their colours at the right of the title; nothing for a single curve."""
    right: float = image.shape[1]
    for curve in reversed(curves if len(curves) > 1 else []):
        right -= put_text(image, curve.name, right, 1.1 * text, text, curve.colour, align="right") + text
