"""Atomic writing and validated reading of `scene.json`, the description of a scene."""

import contextlib
import dataclasses
import importlib
import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from st4rtrack.geometry.lens import Lens, LensModel
from st4rtrack.io.json_text import parse_json
from st4rtrack.io.memory import MAX_PIXELS
from st4rtrack.io.scene.arrays import damaged
from st4rtrack.io.scene.header import SceneHeader, plain
from st4rtrack.io.scene.quality import quality_to_json
from st4rtrack.io.scene.table import ARRAYS, ArraySpec, current_path
from st4rtrack.types import PixelMap, QualityReport, UserError

FORMAT = "st4rtrack scene"
FORMAT_VERSION = 1
SCENE_JSON = "scene.json"
TEMPORARY = f".{SCENE_JSON}.tmp"
FROM_SCENE = "video_from_scene"
"""Key in `info["source"]` with the path of the video relative to the scene folder."""


def to_json(
    header: SceneHeader,
    *,
    complete: bool,
    deferred: Sequence[ArraySpec] = (),
    anchors: Sequence[int] = (),
    quality: QualityReport | None = None,
) -> dict[str, Any]:
    """Content of `scene.json` for a scene; see `write_json`."""
    return plain(
        {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "st4rtrack_version": importlib.import_module("st4rtrack").__version__,
            "status": "complete" if complete else "incomplete",
            "num_frames": header.num_frames,
            "height": header.height,
            "width": header.width,
            "anchor_index": header.anchor_index,
            "pixel_map": _pixel_map_to_json(header.pixel_map),
            "source_size": header.source_size,
            "points_dtype": header.points_dtype,
            "arrays": [spec.path for spec in (*header.specs, *deferred)],
            **({"anchors": list(anchors)} if anchors else {}),
            **({} if quality is None else {"quality": quality_to_json(quality)}),
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
    data = to_json(header, complete=complete, deferred=deferred, anchors=anchors, quality=quality)
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


def _pixel_map_to_json(pixel_map: PixelMap) -> dict[str, Any]:
    return {name: value for name, value in dataclasses.asdict(pixel_map).items() if value is not None}


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
    """Validate the values of `scene.json` before memory is allocated for them.

    Raises:
        ValueError: a value is impossible; the message names it.
        KeyError: a value is missing.
    """
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
    """Whether these are two finite numbers."""
    return isinstance(values, list) and len(values) == 2 and all(type(v) in (int, float) and math.isfinite(v) for v in values)
