"""Drawing primitives: text, colour maps, colour bars, labels. Images are [height, width, 3] uint8 RGB throughout."""

from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np


def printable(text: str) -> str:
    """Replace bytes of a file name that are not UTF-8 by "?": OpenCV crashes on them, HTML and the viewer cannot hold them."""
    return text.encode("utf-8", "replace").decode()


def video_name(info: dict[str, Any]) -> str:
    """Printable name of the video from `Scene.info`, or the last part of its path; "Scene" if neither is known."""
    source = info.get("source")
    if not isinstance(source, dict):
        return printable(Path(str(source)).name) if source else "Scene"
    return printable(str(source.get("name") or Path(str(source.get("path") or source.get("video") or "Scene")).name))


def model_name(info: dict[str, Any]) -> str:
    """Printable name of the model from `Scene.info`; empty if unknown."""
    model = info.get("model")
    return printable(str(model.get("name") or "") if isinstance(model, dict) else str(model or ""))


Colour = tuple[int, int, int]

PAGE: Colour = (255, 255, 255)
PANEL: Colour = (38, 42, 50)
INK: Colour = (32, 36, 44)
GREY: Colour = (112, 118, 128)
NOTHING: Colour = (214, 217, 222)
ACCENT: Colour = (232, 93, 4)
TRACKING: Colour = (74, 144, 255)
RECONSTRUCTION: Colour = (255, 178, 46)
"""Colours of the two outputs where both are drawn together."""

DEPTH_MAP = cv2.COLORMAP_TURBO
CONFIDENCE_MAP = cv2.COLORMAP_VIRIDIS
TIME_MAP = cv2.COLORMAP_SPRING

_SHIFT_BITS = 4
_STROKE_ENLARGED = 4
_REGULAR, _BOLD = 400, 600


def text_width(text: str, size: int, *, bold: bool = False) -> int:
    """Width of a line of text in pixels, for a letter height of `size` (ascent and descent)."""
    text = printable(text)
    if hasattr(cv2, "FontFace"):
        _, _, width, _ = cv2.getTextSize((0, 0), text, (0, 0), cv2.FontFace("sans"), size, _BOLD if bold else _REGULAR)
        return int(width)
    (width, _), _ = cv2.getTextSize(_ascii(text), cv2.FONT_HERSHEY_SIMPLEX, _STROKE_ENLARGED * size / 31, 6 if bold else 4)
    return round(width / _STROKE_ENLARGED)


def put_text(
    image: np.ndarray,
    text: str,
    x: float,
    baseline: float,
    size: int,
    colour: Colour = INK,
    *,
    bold: bool = False,
    align: Literal["left", "right"] = "left",
) -> int:
    """Draw a line of text into the image and return its width in pixels; `x` is its left or right end."""
    text = printable(text)
    width = text_width(text, size, bold=bold)
    left, bottom = round(x - (width if align == "right" else 0)), round(baseline)
    if hasattr(cv2, "FontFace"):
        cv2.putText(image, text, (left, bottom), colour, cv2.FontFace("sans"), size, _BOLD if bold else _REGULAR)
    else:
        _put_stroke_text(image, text, left, bottom, size, colour, bold=bold)
    return width


def _put_stroke_text(image: np.ndarray, text: str, left: int, baseline: int, size: int, colour: Colour, *, bold: bool) -> None:
    """Draw text with the stroke fonts of OpenCV before 5: large, then shrunk, because small stroke fonts are ugly."""
    enlarged, pad = _STROKE_ENLARGED, size
    width, height = text_width(text, size, bold=bold) + 2 * pad, 3 * pad
    cover = np.zeros((enlarged * height, enlarged * width), np.uint8)
    origin, thickness = (enlarged * pad, enlarged * 2 * pad), (6 if bold else 4)
    cv2.putText(cover, _ascii(text), origin, cv2.FONT_HERSHEY_SIMPLEX, enlarged * size / 31, 255, thickness, cv2.LINE_AA)
    alpha = cv2.resize(cover, (width, height), interpolation=cv2.INTER_AREA)[..., None] / 255.0
    x0, y0 = max(left - pad, 0), max(baseline - 2 * pad, 0)
    x1, y1 = min(left - pad + width, image.shape[1]), min(baseline - 2 * pad + height, image.shape[0])
    if x1 <= x0 or y1 <= y0:
        return
    alpha = alpha[y0 - baseline + 2 * pad :, x0 - left + pad :][: y1 - y0, : x1 - x0]
    region = image[y0:y1, x0:x1]
    region[:] = np.rint(region * (1 - alpha) + np.array(colour) * alpha)


def _ascii(text: str) -> str:
    return text.encode("ascii", "replace").decode("ascii")


def number(value: float) -> str:
    """Format a number with about three digits: 0.083, 1.25, 42, 1300."""
    if not np.isfinite(value):
        return "-"
    if value == 0 or 1e-4 <= abs(value) < 1e5:
        digits = 2 - int(np.floor(np.log10(abs(value)))) if value else 1
        return f"{value:.{min(max(digits, 0), 6)}f}"
    return f"{value:.1e}"


def robust_range(values: np.ndarray, *, percentiles: tuple[float, float] = (2, 98)) -> tuple[float, float]:
    """Non-empty range that contains nearly all finite values."""
    values = values[np.isfinite(values)]
    if not len(values):
        return 0.0, 1.0
    low, high = (float(x) for x in np.percentile(values, percentiles))
    if high - low <= 1e-3 * max(abs(low), abs(high), 1e-6):
        half = 0.05 * max(abs(low), abs(high), 1e-3)
        return low - half, high + half
    return low, high


def map_colours(values: np.ndarray, limits: tuple[float, float], colour_map: int, *, reverse: bool = False) -> np.ndarray:
    """Colours [..., 3] uint8 of values [...]; non-finite values become `NOTHING`."""
    finite = np.isfinite(values)
    share = np.clip((np.where(finite, values, limits[0]) - limits[0]) / (limits[1] - limits[0]), 0, 1)
    table = cv2.applyColorMap(np.arange(256, dtype=np.uint8)[:, None], colour_map)[:, 0, ::-1]
    colours = (table[::-1] if reverse else table)[np.rint(share * 255).astype(np.int64)]
    colours[~finite] = NOTHING
    return colours


def colour_bar(
    image: np.ndarray, left: int, top: int, width: int, height: int, colour_map: int, *, reverse: bool = False
) -> None:
    """Draw a horizontal gradient of the whole colour map."""
    ramp = map_colours(np.linspace(0, 1, width), (0.0, 1.0), colour_map, reverse=reverse)
    image[top : top + height, left : left + width] = ramp


def fit_image(image: np.ndarray, height: int, width: int, *, smooth: bool = True) -> np.ndarray:
    """Resize an image; `smooth=False` keeps sharp pixel borders when a map is enlarged."""
    enlarging = cv2.INTER_CUBIC if smooth else cv2.INTER_NEAREST
    method = cv2.INTER_AREA if height * width < image.shape[0] * image.shape[1] else enlarging
    return np.ascontiguousarray(cv2.resize(np.ascontiguousarray(image), (width, height), interpolation=method))


def chip(
    image: np.ndarray, text: str, size: int, *, fill: Colour = (0, 0, 0), alpha: float = 0.6, upper_right: bool = False
) -> None:
    """Draw a small label in the lower left (or upper right) corner, readable on any picture; omitted if it is too long."""
    pad = max(size // 3, 2)
    width, height = text_width(text, size) + 2 * pad, size + 2 * pad
    if width + 2 * pad > image.shape[1] or height + 2 * pad > image.shape[0]:
        return
    top, left = (pad, image.shape[1] - width - pad) if upper_right else (image.shape[0] - height - pad, pad)
    region = image[top : top + height, left : left + width]
    region[:] = np.rint(region * (1 - alpha) + np.array(fill) * alpha)
    put_text(image, text, left + pad, top + pad + 0.82 * size, size, (255, 255, 255))


def dot(
    image: np.ndarray,
    xy: np.ndarray,
    radius: float,
    colour: Colour,
    *,
    hollow: bool = False,
    rim: Colour | None = None,
    thickness: int = 1,
) -> None:
    """Draw an anti-aliased disc or ring around a continuous position (u, v) of the image."""
    centre = _fixed(xy)
    fixed_radius = round(radius * 2**_SHIFT_BITS)
    if hollow:
        cv2.circle(image, centre, fixed_radius, colour, thickness, cv2.LINE_AA, _SHIFT_BITS)
        return
    if rim is not None:
        cv2.circle(image, centre, fixed_radius + 2**_SHIFT_BITS, rim, -1, cv2.LINE_AA, _SHIFT_BITS)
    cv2.circle(image, centre, fixed_radius, colour, -1, cv2.LINE_AA, _SHIFT_BITS)


def line(image: np.ndarray, start: np.ndarray, end: np.ndarray, colour: Colour, thickness: int = 1) -> None:
    """Draw an anti-aliased segment between continuous positions (u, v); nothing if an end is not finite or far outside."""
    lines(image, np.asarray(start)[None], np.asarray(end)[None], np.array([colour]), thickness)


def lines(image: np.ndarray, starts: np.ndarray, ends: np.ndarray, colours: np.ndarray, thickness: np.ndarray | int = 1) -> None:
    """Draw segments like `line`, in order.

    Args:
        image: image to draw into.
        starts, ends: [segments, 2] positions (u, v).
        colours: [segments, 3] uint8.
        thickness: [segments] or a single value, in pixels.
    """
    both = np.concatenate([starts, ends], axis=1).astype(np.float64)
    near = np.flatnonzero(np.all(np.abs(both) < 4 * max(image.shape), axis=1))  # false for NaN
    fixed = np.rint((both[near] - 0.5) * 2**_SHIFT_BITS).astype(int).tolist()
    chosen = np.asarray(colours)[near].tolist(), np.broadcast_to(thickness, len(both))[near].tolist()
    for (x0, y0, x1, y1), colour, width in zip(fixed, *chosen, strict=True):
        cv2.line(image, (x0, y0), (x1, y1), colour, width, cv2.LINE_AA, _SHIFT_BITS)


def _fixed(xy: np.ndarray) -> tuple[int, int]:
    """Convert to OpenCV's fixed-point coordinates: from pixel centres, in 1/16 pixels."""
    x, y = np.rint((np.asarray(xy, np.float64) - 0.5) * 2**_SHIFT_BITS).astype(int)
    return int(x), int(y)


def rgb_tuple(colour: np.ndarray) -> Colour:
    """Convert a colour from an array to a tuple for OpenCV."""
    red, green, blue = (int(channel) for channel in colour)
    return red, green, blue
