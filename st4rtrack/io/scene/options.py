"""Differences between the options of two scenes, as command-line options."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from st4rtrack.io.scene.description import FROM_SCENE, source_paths
from st4rtrack.io.scene.table import ARRAYS, DEFERRED, FRAME_QUALITY

Fields = dict[str, Any]
"""Content of `scene.json`, flattened: `{"info.options.refine": ["smoothness"]}`."""


def option_differences(found: dict[str, Any], wanted: dict[str, Any], folder: Path) -> tuple[list[str], list[str]]:
    """Compare the options of an existing scene and of a run; two lists of differing options with their values.

    Args:
        found, wanted: content of `scene.json` of the existing scene, and of the run.
        folder: folder of the existing scene.
    """
    old, new = dict(_fields(found)), dict(_fields(wanted))
    source, video = found.get("info", {}).get("source"), "info.source.video"
    if isinstance(source, dict) and Path(os.path.realpath(str(new.get(video)))) in source_paths(source, folder):
        old[video] = new[video]  # the same file by another path
    changed = {name for name in old.keys() | new.keys() if old.get(name) != new.get(name)}
    pairs = [(words(old), words(new)) for names, words in _OPTIONS if changed.intersection(names)]
    pairs += [_frames(old, new)] if changed.intersection(_FRAME_FIELDS) and video not in changed else []
    named = {name for names, _ in _OPTIONS for name in names}
    others = sorted(name for name in changed - named if name.startswith(("info.options.", "info.known.")))
    pairs += [(_option(old, name), _option(new, name)) for name in others]
    pairs = [pair for pair in pairs if pair[0] != pair[1]]
    if changed and not pairs:  # the difference corresponds to no option
        name = min(changed)
        pairs = [(f"{name} = {json.dumps(old.get(name))}", f"{name} = {json.dumps(new.get(name))}")]
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


def _fields(data: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Fields of `scene.json` that must be equal to resume a run, flattened."""
    same_for_all = ("format", "format_version", "st4rtrack_version", "status", "arrays", "anchors", "quality")
    deferred = {spec.path for spec in (*DEFERRED, *ARRAYS) if spec in DEFERRED or spec.field in FRAME_QUALITY}
    data = {name: value for name, value in data.items() if name not in same_for_all} | {
        "arrays": sorted({*data.get("arrays", [])} - deferred),
        "info": {name: value for name, value in data.get("info", {}).items() if name != "results"},
    }
    return _flat(data)


def _flat(data: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in data.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        elif name != FROM_SCENE:
            yield prefix + name, value


def _option(fields: Fields, name: str) -> str:
    """Option named after the last part of a field, with its value, or "no --option"."""
    option = "--" + name.rpartition(".")[2].replace("_", "-")
    return f"{option} {fields[name]}" if fields.get(name) is not None else f"no {option}"


def _model(fields: Fields) -> str:
    return f"--model {fields.get('info.model.name')} ({str(fields.get('info.model.hash'))[:12]})"


def _size(fields: Fields) -> str:
    return f"--size {max(_number(fields, 'height'), _number(fields, 'width')):g}"


def _anchor(fields: Fields) -> str:
    return f"--anchor {fields.get('info.options.anchor', fields.get('anchor_index'))}"


def _refine(fields: Fields) -> str:
    return "--refine" if fields.get("info.options.refine") else "--no-refine"


_OPTIONS: list[tuple[tuple[str, ...], Callable[[Fields], str]]] = [
    (("info.source.video",), lambda fields: f"video {fields.get('info.source.video')}"),
    (("info.model.name", "info.model.hash"), _model),
    (("info.model.dtype",), lambda fields: _option(fields, "info.model.dtype")),
    (("height", "width"), _size),
    (("anchor_index", "info.options.anchor"), _anchor),
    (("points_dtype",), lambda fields: f"--points {fields.get('points_dtype')}"),
    (("info.options.depth_prior",), lambda fields: _option(fields, "info.options.depth_prior")),
    (("info.options.refine",), _refine),
]
_FRAME_FIELDS = ("info.source.first_frame", "info.source.last_frame", "num_frames", "info.source.fps")


def _frames(old: Fields, new: Fields) -> tuple[str, str]:
    """Frame selection options that differ between two runs, as text for each."""
    first, last, count, rate = ([_number(fields, name) for fields in (old, new)] for name in _FRAME_FIELDS)
    steps = [(b - a) / max(n - 1, 1) for a, b, n in zip(first, last, count, strict=True)]
    words: list[list[str]] = [[], []]
    for index, found in enumerate(words):
        if first[0] != first[1]:
            found.append(f"--start {first[index]:.0f}")
        # With a stride, the last frame may differ by less than one step although --stop is equal.
        if last[0] != last[1] and abs(last[0] - last[1]) >= max(steps):
            found.append(f"--stop {last[index] + 1:.0f}")
        if steps[0] != steps[1] and all(step.is_integer() for step in steps):
            found.append(f"--stride {steps[index]:.0f} (or --fps {rate[index]:g})")  # both options have this effect
        elif rate[0] != rate[1]:
            found.append(f"--fps {rate[index]:g}")
        if not found and count[0] != count[1]:
            found.append(f"{count[index]:.0f} frames")
    return ", ".join(words[0]), ", ".join(words[1])


def _number(fields: Fields, name: str) -> float:
    """Value of a field; 0 if it is not a number, as the file is untrusted."""
    value = fields.get(name)
    return float(value) if isinstance(value, int | float) else 0.0
