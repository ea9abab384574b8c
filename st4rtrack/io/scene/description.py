"""The description of a scene, `scene.json`: atomic writing, validated reading, differences between the options of two scenes."""

import contextlib
import dataclasses
import importlib
import json
import math
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

from st4rtrack.geometry.lens import Lens, LensModel
from st4rtrack.io.memory import MAX_PIXELS
from st4rtrack.io.scene.arrays import damaged
from st4rtrack.io.scene.table import ARRAYS, DEFERRED, FRAME_QUALITY, ArraySpec, SceneHeader, current_path, plain
from st4rtrack.io.text import parse_json
from st4rtrack.types import FocalSource, Parallax, PixelMap, QualityReport, QualityWarning, UserError

_NUMBERS = ("frames_solved", "reprojection_px", "flow_agreement_px", "max_camera_step", "moving_share", "measured_share")
_OPTIONAL = ("reprojection_px", "flow_agreement_px", "max_camera_step", "measured_share")


def quality_to_json(report: QualityReport) -> dict[str, Any]:
    """Convert a report to plain data: all fields, `reliable`, and warnings (code, frames, sentence, serious)."""
    data = dataclasses.asdict(report)
    warnings = data.pop("warnings")
    return plain({**data, "reliable": report.reliable, "warnings": warnings})


def quality_from_json(data: Any) -> QualityReport:
    """Parse the output of `quality_to_json`.

    Raises:
        ValueError: a field is missing or has an invalid value; the message names it.
    """
    try:
        data = {"measured_share": None, **data}  # reports of earlier versions lack it
        for name in _NUMBERS:
            value = data[name]
            number = value if type(value) in (int, float) else math.nan
            if not (value is None and name in _OPTIONAL) and not math.isfinite(number):
                raise ValueError(f"{name} is not a number")
        if data["focal_source"] not in get_args(FocalSource) or data["parallax"] not in get_args(Parallax):
            raise ValueError("focal_source or parallax is not a known word")
        fields = {name: data[name] for name in (*_NUMBERS, "focal_source", "parallax")}
        warnings = tuple(_warning_from_json(warning) for warning in data["warnings"])
        return QualityReport(**fields, focal_at_limit=bool(data["focal_at_limit"]), warnings=warnings)
    except (KeyError, TypeError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error


def _warning_from_json(data: Any) -> QualityWarning:
    if not all(type(frame) is int for frame in data["frames"]):
        raise ValueError("the frames of a warning are not whole numbers")
    return QualityWarning(str(data["code"]), tuple(data["frames"]), str(data["sentence"]), bool(data["serious"]))


FORMAT = "st4rtrack scene"
FORMAT_VERSION = 1
SCENE_JSON = "scene.json"
TEMPORARY = f".{SCENE_JSON}.tmp"
FROM_SCENE = "video_from_scene"
"""Key in `info["source"]` with the path of the video relative to the scene folder."""


def to_json(header: SceneHeader) -> dict[str, Any]:
    """Content of `scene.json` for an incomplete scene."""
    return plain(
        {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "st4rtrack_version": importlib.import_module("st4rtrack").__version__,
            "status": "incomplete",
            "num_frames": header.num_frames,
            "height": header.height,
            "width": header.width,
            "anchor_index": header.anchor_index,
            "pixel_map": {name: value for name, value in dataclasses.asdict(header.pixel_map).items() if value is not None},
            "source_size": header.source_size,
            "points_dtype": header.points_dtype,
            "arrays": [spec.path for spec in header.specs],
            "info": header.info,
        }
    )


def write_json(
    folder: Path,
    header: SceneHeader,
    *,
    complete: bool,
    deferred: Sequence[ArraySpec] = (),
    anchors: Sequence[int] = (),
    quality: QualityReport | None = None,
) -> None:
    """Write `scene.json`; `deferred`: the arrays of `DEFERRED` that exist; `anchors`: frame indices of the further anchors."""
    data = to_json(header)
    info = data.pop("info")
    data["status"] = "complete" if complete else "incomplete"
    data["arrays"] += [spec.path for spec in deferred]
    data |= {"anchors": list(anchors)} if anchors else {}
    data |= {} if quality is None else {"quality": quality_to_json(quality)}
    data["info"] = info  # last, as it is the longest
    _locate_source(data, folder)
    write_whole(folder, data)


def _locate_source(data: dict[str, Any], folder: Path) -> None:
    """Store the path of the video relative to the scene folder."""
    source = data["info"].get("source")
    if isinstance(source, dict) and Path(str(source.get("video"))).is_absolute():
        with contextlib.suppress(ValueError):  # on another drive (Windows)
            source[FROM_SCENE] = os.path.relpath(os.path.realpath(source["video"]), os.path.realpath(folder))


def read_results(folder: Path) -> dict[str, Any]:
    """Field `info.results` of a complete scene; empty without one."""
    if not (folder / SCENE_JSON).exists():
        return {}
    data = read_json(folder)
    results = data.get("info", {}).get("results") if data.get("status") == "complete" else None
    return results if isinstance(results, dict) else {}


def record_result(folder: Path, name: str, value: dict[str, Any], *, place: Path | None = None) -> None:
    """Add a result to the description of a complete scene.

    Args:
        place: folder to which the scene will be moved; default: it stays.
    """
    data = read_json(folder)
    data["info"] = {**data["info"], "results": {**data["info"].get("results", {}), name: plain(value)}}
    _locate_source(data, place or folder)
    write_whole(folder, data)


def source_paths(source: dict[str, Any], folder: Path | None) -> list[Path]:
    """Candidate paths of the source video: the original path, then paths relative to the (possibly moved) scene.

    Args:
        source: `info["source"]` of the scene; in scenes of earlier versions its path is relative to the folder of the run.
        folder: scene folder; `None` for a scene in memory.
    """
    path = Path(str(source.get("video", "array")))
    beside = [] if folder is None else [folder.resolve().parent / path]
    if folder is not None and FROM_SCENE in source:
        beside.append(folder.resolve() / str(source[FROM_SCENE]))
    return list(dict.fromkeys(Path(os.path.realpath(str(each).replace("\0", ""))) for each in (path, *beside)))


def write_whole(folder: Path, data: dict[str, Any]) -> None:
    """Replace `scene.json` atomically: a reader sees the old or the new content."""
    temporary = folder / TEMPORARY
    temporary.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
    temporary.replace(folder / SCENE_JSON)


def read_json(folder: Path) -> dict[str, Any]:
    """Read `scene.json` and check its format version."""
    path = folder / SCENE_JSON
    try:
        data = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}); make the scene again with --overwrite") from error
    if not isinstance(data, dict) or data.get("format") != FORMAT or type(data.get("format_version")) is not int:
        raise UserError(f"{path} was not written by st4rtrack")
    if data["format_version"] > FORMAT_VERSION:
        raise UserError(
            f"{path} has format {data['format_version']}, made by st4rtrack {data.get('st4rtrack_version')}; "
            f"this version reads up to format {FORMAT_VERSION}: upgrade st4rtrack"
        )
    if isinstance(data.get("arrays"), list):
        data["arrays"] = [current_path(path) if isinstance(path, str) else path for path in data["arrays"]]
    return data


def header_of(folder: Path, data: dict[str, Any]) -> SceneHeader:
    """Header of a scene from the content of `scene.json`."""
    try:
        require_possible(data)
        return SceneHeader(
            num_frames=data["num_frames"],
            height=data["height"],
            width=data["width"],
            anchor_index=data["anchor_index"],
            pixel_map=_pixel_map_of(data["pixel_map"]),
            source_size=tuple(data["source_size"]),
            info=data["info"],
            points_dtype=data["points_dtype"],
            fields=tuple(spec.field for spec in ARRAYS if spec.path in data["arrays"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise damaged(folder, f"{SCENE_JSON} is invalid ({error})") from error


def _pixel_map_of(data: dict[str, Any]) -> PixelMap:
    lens = None
    if "lens" in data:
        coefficients = tuple(float(each) for each in data["lens"]["coefficients"])
        (fx, fy, cx, cy), (ideal_fx, ideal_fy, ideal_cx, ideal_cy) = (
            map(float, data["lens"][name]) for name in ("camera", "ideal")
        )
        if data["lens"]["model"] not in get_args(LensModel) or len(coefficients) > 8 or min(fx, fy, ideal_fx, ideal_fy) <= 0:
            raise ValueError("lens is not a distortion model with fx, fy, cx, cy of both images")
        lens = Lens(data["lens"]["model"], coefficients, (fx, fy, cx, cy), (ideal_fx, ideal_fy, ideal_cx, ideal_cy))
    return PixelMap(tuple(data["scale"]), tuple(data["offset_px"]), lens)


MAX_FRAMES = 10**7
"""Maximum number of frames of a scene, more than three days of video at 30 fps."""


def require_possible(data: dict[str, Any]) -> None:
    """Validate the values of `scene.json` before memory is allocated for them."""
    for name in ("num_frames", "height", "width", "anchor_index"):
        if type(data[name]) is not int:
            raise ValueError(f"{name} is not a whole number")
    if data["num_frames"] > MAX_FRAMES or data["height"] * data["width"] > MAX_PIXELS:
        raise ValueError(f"{data['num_frames']} frames of {data['width']}x{data['height']} pixels are too large")
    scale, offset_px = data["pixel_map"]["scale"], data["pixel_map"]["offset_px"]
    if not (_are_numbers(scale) and _are_numbers(offset_px) and min(scale) > 0):
        raise ValueError("pixel_map is not a scale above 0 and an offset_px, two numbers each")
    if not _are_numbers(data["source_size"]) or min(data["source_size"]) < 0:
        raise ValueError("source_size is not a height and a width")
    if not isinstance(data["info"], dict):
        raise ValueError("info is not an object")
    anchors = data.get("anchors", [])
    if not isinstance(anchors, list) or not all(type(a) is int and 0 <= a < data["num_frames"] for a in anchors):
        raise ValueError("anchors is not a list of frame indices")
    if not isinstance(data["arrays"], list) or not all(isinstance(path, str) for path in data["arrays"]):
        raise ValueError("arrays is not a list of names")


def _are_numbers(values: Any) -> bool:
    """Whether a JSON value is a list of two finite numbers."""
    return isinstance(values, list) and len(values) == 2 and all(type(v) in (int, float) and math.isfinite(v) for v in values)


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


_OPTIONS: list[tuple[tuple[str, ...], Callable[[Fields], str]]] = [
    (("info.source.video",), lambda fields: f"video {fields.get('info.source.video')}"),
    (
        ("info.model.name", "info.model.hash"),
        lambda fields: f"--model {fields.get('info.model.name')} ({str(fields.get('info.model.hash'))[:12]})",
    ),
    (("info.model.dtype",), lambda fields: _option(fields, "info.model.dtype")),
    (("height", "width"), lambda fields: f"--size {max(_number(fields, 'height'), _number(fields, 'width')):g}"),
    (
        ("anchor_index", "info.options.anchor"),
        lambda fields: f"--anchor {fields.get('info.options.anchor', fields.get('anchor_index'))}",
    ),
    (("points_dtype",), lambda fields: f"--dtype-points {fields.get('points_dtype')}"),
    (("info.options.refine",), lambda fields: "--refine" if fields.get("info.options.refine") else "--no-refine"),
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
