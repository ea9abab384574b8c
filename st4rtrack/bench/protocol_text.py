"""A protocol in sentences, from the dictionary that a score file carries."""

from typing import Any

_SENTENCES: dict[str, dict[Any, str]] = {
    "sampling": {
        "floor": "A pointmap is read at the pixel that holds a query.",
        "sub-pixel": "A pointmap is read between pixels, at the query itself.",
    },
    "dynamic_alignment": {
        "own": "Dynamic points get an alignment of their own.",
        "all": "Dynamic points keep the alignment of all points.",
    },
    "dynamic_epe_mean": {
        "all": "The mean of the dynamic EPE divides by all sequences, also those without dynamic points.",
        "with dynamic points": "The mean of the dynamic EPE is over the sequences that have dynamic points.",
    },
    "reflection_scale": {
        True: "The scale of SIM(3) ignores that the best orthogonal matrix may be a reflection.",
        False: "The scale of SIM(3) is right for reflections too.",
    },
    "missing_truth": {
        "miss": "A point without finite truth counts as a miss.",
        "left out": "A point without finite truth is left out.",
    },
}


def protocol_paragraph(protocol: dict[str, Any]) -> str:
    """What the protocol counts, in plain words; settings that are not known are passed over."""
    sentences = []
    if frames := protocol.get("num_frames"):
        sentences.append(f"The first {frames} frames count; the camera of the first is the world.")
    sentences.append("Tracks seen in frame 0 count in every frame, hidden or not.")
    thresholds = protocol.get("apd_thresholds_m")
    if isinstance(thresholds, list) and _are_numbers(thresholds):
        sentences.append(f"APD is the mean share of points within {', '.join(f'{t:g}' for t in thresholds)} m of the truth.")
    if _are_numbers([path_m := protocol.get("dynamic_path_m")]):
        sentences.append(f"A point is dynamic when its true path is longer than {path_m:g} m.")
    for key, known in _SENTENCES.items():
        value = protocol.get(key)
        if isinstance(value, str | bool) and value in known:
            sentences.append(known[value])
    if _are_numbers([first := protocol.get("first_pixel_centre")]):
        sentences.append(f"True depth is un-projected with the first pixel's centre at {first:g}.")
    if isinstance(bounds := protocol.get("depth_range_m"), list) and len(bounds) == 2:
        sentences.append(f"In reconstruction, {_depth(bounds)} counts.")
    return " ".join(sentences)


def _depth(bounds: list[float | None]) -> str:
    nearest, farthest = bounds
    if farthest is None:
        return "all valid depth" if not nearest else f"depth beyond {nearest} m"
    return f"depth between {nearest} and {farthest} m"


def _are_numbers(values: list[Any]) -> bool:
    return all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
