"""Whether what `scene.json` says can be true, before memory is given to it."""

import math
from typing import Any

from st4rtrack.io.memory import MAX_PIXELS

MAX_FRAMES = 10**7
"""Of a scene: more than four days of video."""


def require_possible(data: dict[str, Any]) -> None:
    """Looks at the values of a header.

    Raises:
        ValueError: names one that cannot be.
        KeyError: one is missing.
    """
    for name in ("num_frames", "height", "width", "anchor_index"):
        if type(data[name]) is not int:
            raise ValueError(f"{name} is not a whole number")
    if data["num_frames"] > MAX_FRAMES or data["height"] * data["width"] > MAX_PIXELS:
        raise ValueError(f"{data['num_frames']} frames of {data['width']}x{data['height']} cannot be")
    scale, offset_px = data["pixel_map"]["scale"], data["pixel_map"]["offset_px"]
    if not (_are_numbers(scale) and _are_numbers(offset_px) and min(scale) > 0):
        raise ValueError("pixel_map is not a scale above 0 and an offset_px, two numbers each")
    if not _are_numbers(data["source_size"]) or min(data["source_size"]) < 0:
        raise ValueError("source_size is not a height and a width")
    if not isinstance(data["info"], dict):
        raise ValueError("info is not a table")
    anchors = data.get("anchors", [])
    if not isinstance(anchors, list) or not all(type(a) is int and 0 <= a < data["num_frames"] for a in anchors):
        raise ValueError("anchors is not a list of frames")
    if not isinstance(data["arrays"], list) or not all(isinstance(path, str) for path in data["arrays"]):
        raise ValueError("arrays is not a list of names")


def _are_numbers(values: Any) -> bool:
    """Whether these are two finite numbers."""
    return isinstance(values, list) and len(values) == 2 and all(type(v) in (int, float) and math.isfinite(v) for v in values)
