"""Unit of the lengths of a scene, as a sentence for exports and for the end of a run."""

from typing import Any

NOT_METRES = "lengths are in world units, not metres (unless --metres-per-unit or --known-distance is given to st4rtrack run)"
METRES = "lengths are in metres (scale provided by the user)"


def lengths(info: dict[str, Any]) -> str:
    """Sentence with the unit of lengths of a scene, from its `Scene.info`."""
    known = info.get("known")
    scaled = isinstance(known, dict) and any(known.get(name) is not None for name in ("metres_per_unit", "known_distance"))
    return METRES if scaled else NOT_METRES
