"""The folder of a scene: which arrays, what `scene.json` says, and whether a folder may be written to.

`scene.zarr` holds the arrays of the table `ARRAYS`, `scene.json` what they are; `frames.journal` exists while a scene is
incomplete. Knows nothing of how the frames come or go: that is `scene.py`.
"""

import dataclasses
import importlib
import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import zarr
from zarr.codecs import ZstdCodec

from st4rtrack.io.json_text import parse_json
from st4rtrack.io.lock import LOCK, FolderLock
from st4rtrack.io.private import without_secrets
from st4rtrack.io.scene_values import require_possible
from st4rtrack.io.store import open_store, stored_array
from st4rtrack.types import PixelMap, UserError

FORMAT = "st4rtrack scene"
FORMAT_VERSION = 1
SCENE_JSON, SCENE_ZARR, JOURNAL, OVERVIEW = "scene.json", "scene.zarr", "frames.journal", "overview.png"
ANCHORS_JOURNAL = "anchors.journal"
SMALL_CHUNK_FRAMES = 4096

_TEMPORARY = f".{SCENE_JSON}.tmp"
_NOT_CONTENT = frozenset({_TEMPORARY, LOCK, ".DS_Store", "Thumbs.db", "desktop.ini"})  # a folder with only these is empty
_WAY_OUT = "choose another folder, or replace it with --overwrite"


@dataclass(frozen=True)
class ArraySpec:
    """One array of a scene.

    Attributes:
        field: its name in Python: the keyword of `write_frame` (or `finish`).
        path: its name in `scene.zarr`.
        axes: names are sizes of the scene, numbers are themselves.
        dtype: `None` is the scene's choice for points.
        required: a scene without it is no scene; the others may be unknown.
        default: a run writes it unless told otherwise.
    """

    field: str
    path: str
    axes: tuple[str | int, ...]
    dtype: str | None
    required: bool = True
    default: bool = True

    @property
    def small(self) -> bool:
        """Whether a frame of it is a few numbers."""
        return "height" not in self.axes


_IMAGE = ("time", "height", "width")
MOVING = ArraySpec("moving", "tracking/moving", ("height", "width"), "bool", required=False)
MOVING_IN_FRAMES = ArraySpec("moving_in_frames", "reconstruction/moving", _IMAGE, "bool", required=False)
LATE = (MOVING, MOVING_IN_FRAMES)
"""What is only known when all frames are done."""

ARRAYS = (
    ArraySpec("rgb", "rgb", (*_IMAGE, 3), "uint8"),
    ArraySpec("time_s", "time_s", ("time",), "float64"),
    ArraySpec("tracking_points", "tracking/points", (*_IMAGE, 3), None),
    ArraySpec("tracking_confidence", "tracking/confidence", _IMAGE, "float32", required=False),
    ArraySpec("tracking_valid", "tracking/valid", _IMAGE, "bool", required=False, default=False),
    ArraySpec("visible", "tracking/visible", _IMAGE, "bool", required=False),
    ArraySpec("visible_probability", "tracking/visible_probability", _IMAGE, "float16", required=False),
    ArraySpec("reconstruction_points", "reconstruction/points", (*_IMAGE, 3), None),
    ArraySpec("reconstruction_confidence", "reconstruction/confidence", _IMAGE, "float32", required=False),
    ArraySpec("reconstruction_valid", "reconstruction/valid", _IMAGE, "bool", required=False, default=False),
    ArraySpec("world_from_camera", "cameras/world_from_camera", ("time", 4, 4), "float64"),
    ArraySpec("intrinsics", "cameras/intrinsics", ("time", 3, 3), "float64"),
    ArraySpec("solved", "cameras/solved", ("time",), "bool", required=False),
)
"""The arrays that a frame is written with."""

DEFAULT_FIELDS = tuple(spec.field for spec in ARRAYS if spec.default)

JOURNAL_RECORD = np.dtype(
    [("index", "<i8"), ("done", "?")]
    + [(spec.field, np.dtype(spec.dtype).newbyteorder("<"), spec.axes[1:]) for spec in ARRAYS if spec.small]
)
"""What is kept of a frame beside its maps; also the record of the journal. `done` is false in a record of zeros."""


@dataclass(frozen=True)
class SceneHeader:
    """What is known of a scene before its first frame.

    Attributes:
        num_frames, height, width: of the arrays; pixels of the network.
        anchor_index: which of the frames is the anchor.
        pixel_map: source pixels to network pixels.
        source_size: (height, width) of the source video in pixels.
        info: model name and hash, options, source path and rate; plain data. Two runs are the same run when their `info` is
            equal, so nothing belongs here that differs from call to call (`finish` takes results).
        points_dtype: "float32" or "float16".
        fields: the per-frame arrays that will be given; a run gives the default ones.
    """

    num_frames: int
    height: int
    width: int
    anchor_index: int = 0
    pixel_map: PixelMap = field(default_factory=PixelMap)
    source_size: tuple[int, int] = (0, 0)
    info: dict[str, Any] = field(default_factory=dict)
    points_dtype: Literal["float32", "float16"] = "float32"
    fields: tuple[str, ...] = DEFAULT_FIELDS

    def __post_init__(self) -> None:
        object.__setattr__(self, "info", _plain(self.info))  # the same in memory as read back
        if min(self.num_frames, self.height, self.width) < 1:
            raise ValueError(f"a scene needs frames with pixels, got {self.num_frames} of {self.height} x {self.width}")
        if not 0 <= self.anchor_index < self.num_frames:
            raise ValueError(f"anchor_index {self.anchor_index} is not one of {self.num_frames} frames")
        if self.points_dtype not in ("float32", "float16"):
            raise ValueError(f"points_dtype is float32 or float16, got {self.points_dtype!r}")
        known, required = {spec.field for spec in ARRAYS}, {spec.field for spec in ARRAYS if spec.required}
        if wrong := sorted(set(self.fields) - known | required - set(self.fields)):
            raise ValueError(f"fields must hold {sorted(required)} and only what ARRAYS names; look at {wrong}")

    @property
    def specs(self) -> tuple[ArraySpec, ...]:
        """The per-frame arrays of this scene."""
        return tuple(spec for spec in ARRAYS if spec.field in self.fields)

    def shape(self, spec: ArraySpec) -> tuple[int, ...]:
        """Whole shape of an array."""
        sizes = {"time": self.num_frames, "height": self.height, "width": self.width}
        return tuple(sizes[axis] if isinstance(axis, str) else axis for axis in spec.axes)

    def dtype(self, spec: ArraySpec) -> np.dtype[Any]:
        """Type of an array."""
        return np.dtype(spec.dtype or self.points_dtype)


def prepare_folder(folder: str | Path, header: SceneHeader, *, overwrite: bool = False) -> Literal["new", "continue", "done"]:
    """Looks whether a scene may be written to a folder, and makes the folder.

    Args:
        folder: made when it does not exist, with its parents.
        header: of the scene to write.
        overwrite: removes what an earlier run wrote there; files of others stay.
    Returns:
        "new": no scene is there (any more); "continue": an incomplete one with the same options; "done": the same, complete.
    Raises:
        UserError: anything else is there.
    """
    folder = make_folder(folder)
    if overwrite:
        _remove_ours(folder)
        return "new"
    content = sorted(path.name for path in folder.iterdir() if path.name not in _NOT_CONTENT)
    if not content:
        return "new"
    if SCENE_JSON not in content:
        names = ", ".join(content[:3]) + (", ..." if len(content) > 3 else "")
        raise UserError(f"{folder} holds other files ({names}); choose another folder, or write beside them with --overwrite")
    try:
        found = read_json(folder)
    except UserError as error:
        raise UserError(f"{error}; {_WAY_OUT}") from error
    wanted = _to_json(header, complete=False)
    if difference := _difference(found, wanted):
        raise UserError(f"{folder} holds a scene made with {difference}; {_WAY_OUT}")
    if found.get("status") == "complete":
        return "done"
    if found.get("st4rtrack_version") != wanted["st4rtrack_version"]:  # half a scene each of two versions would be neither
        raise UserError(f"{folder} holds an incomplete scene of st4rtrack {found.get('st4rtrack_version')}; {_WAY_OUT}")
    return "continue"


def make_folder(folder: str | Path) -> Path:
    """Makes the folder of a scene, with its parents, where it does not exist.

    Raises:
        UserError: it is a file, or cannot be made or written to.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file, not a folder to write a scene to; choose another with -o")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"the folder {folder} cannot be made ({error.strerror}); choose another with -o") from error
    if not os.access(folder, os.W_OK):
        raise UserError(f"the folder {folder} may not be written to; choose another with -o")
    return folder


def holds_scene(folder: str | Path, header: SceneHeader) -> bool:
    """Whether a folder holds this scene, complete; nothing is made or changed.

    Raises:
        UserError: something else is there, see `prepare_folder`; or another process writes to it.
    """
    if not Path(folder).exists():
        return False
    if prepare_folder(folder, header) == "done":
        return True
    FolderLock(folder).release()  # refuses now what the writer would refuse after much work
    return False


def create_array(group: zarr.Group, header: SceneHeader, spec: ArraySpec) -> zarr.Array:
    """A new array of the table: maps in one chunk per frame, small values in large chunks."""
    shape = header.shape(spec)
    frames_per_chunk = min(SMALL_CHUNK_FRAMES, shape[0]) if spec.small else 1
    chunks = (frames_per_chunk, *shape[1:]) if spec.axes[0] == "time" else shape
    return group.create_array(
        spec.path,
        shape=shape,
        chunks=chunks,
        dtype=header.dtype(spec),
        compressors=ZstdCodec(),
        fill_value=0,
        config={"write_empty_chunks": True},  # so that a chunk that is not there is missing, and not black
        dimension_names=[axis if isinstance(axis, str) else None for axis in spec.axes],
        overwrite=True,
    )


def open_group(folder: Path, mode: Literal["r", "r+"]) -> zarr.Group:
    """The `scene.zarr` of a folder."""
    try:
        return open_store(folder / SCENE_ZARR, mode)
    except ValueError as error:
        raise damaged(folder, str(error)) from error


def open_array(folder: Path, group: zarr.Group, header: SceneHeader, spec: ArraySpec) -> zarr.Array:
    """An array of the table, of the shape and type that the header says."""
    try:
        array = stored_array(group, spec.path)
    except ValueError as error:
        raise damaged(folder, str(error)) from error
    if array.shape != header.shape(spec) or array.dtype != header.dtype(spec):
        raise damaged(folder, f"the array {spec.path} is not {list(header.shape(spec))} {header.dtype(spec)}")
    return array


def read_small(folder: Path, array: zarr.Array, spec: ArraySpec) -> np.ndarray:
    """All of an array of small values."""
    try:
        values = np.asarray(array[:])
    except Exception as error:  # a damaged chunk can fail with any kind of error
        raise damaged(folder, f"the array {spec.path} cannot be read") from error
    if spec.axes[1:] in ((4, 4), (3, 3)) and not values.any(axis=(1, 2)).all():
        raise damaged(folder, f"values of the array {spec.path} are missing")
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise damaged(folder, f"values of the array {spec.path} are not finite")
    return values


def damaged(folder: Path, what: str) -> UserError:
    """What to raise when a scene is not as its description says."""
    return UserError(f"the scene in {folder} is damaged: {what}; make it again with --overwrite")


def read_journal(folder: Path, num_frames: int) -> np.ndarray:
    """[time] records of the frames that are done, zeros elsewhere; a record that was not written whole does not count."""
    rows, records = np.zeros(num_frames, JOURNAL_RECORD), _records(folder, num_frames)
    rows[records["index"]] = records  # of two records of a frame the later one counts
    return rows


def count_done(folder: Path, num_frames: int) -> int:
    """How many frames the journal says are done."""
    return len(np.unique(_records(folder, num_frames)["index"]))


def _records(folder: Path, num_frames: int) -> np.ndarray:
    journal = folder / JOURNAL
    if not journal.exists():
        return np.zeros(0, JOURNAL_RECORD)
    whole = journal.stat().st_size // JOURNAL_RECORD.itemsize
    records = np.fromfile(journal, JOURNAL_RECORD, count=whole)
    return records[records["done"] & (records["index"] >= 0) & (records["index"] < num_frames)]


def _remove_ours(folder: Path) -> None:
    """Removes an earlier scene and nothing else; killed at any point, what is left is still known as ours."""
    if not (folder / SCENE_JSON).exists():
        if (folder / SCENE_ZARR).exists():
            raise UserError(
                f"{folder / SCENE_ZARR} has no {SCENE_JSON} beside it, so it may not be ours to replace; move it away"
            )
        return
    try:
        found = parse_json((folder / SCENE_JSON).read_text(encoding="utf-8"))
    except ValueError:
        found = {"format": FORMAT}  # cut short; nothing else says whose it was
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise UserError(f"{folder / SCENE_JSON} was not written by st4rtrack; choose another folder")
    _write_whole(folder, {**found, "status": "incomplete"})
    for journal in (JOURNAL, ANCHORS_JOURNAL):
        (folder / journal).unlink(missing_ok=True)
    if (folder / SCENE_ZARR).is_symlink():
        (folder / SCENE_ZARR).unlink()
    elif (folder / SCENE_ZARR).exists():
        shutil.rmtree(folder / SCENE_ZARR)
    (folder / OVERVIEW).unlink(missing_ok=True)
    (folder / SCENE_JSON).unlink()


def _to_json(
    header: SceneHeader, *, complete: bool, late: Sequence[ArraySpec] = (), anchors: Sequence[int] = ()
) -> dict[str, Any]:
    return _plain(
        {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "st4rtrack_version": importlib.import_module("st4rtrack").__version__,
            "status": "complete" if complete else "incomplete",
            "num_frames": header.num_frames,
            "height": header.height,
            "width": header.width,
            "anchor_index": header.anchor_index,
            "pixel_map": dataclasses.asdict(header.pixel_map),
            "source_size": header.source_size,
            "points_dtype": header.points_dtype,
            "arrays": [spec.path for spec in (*header.specs, *late)],
            **({"anchors": list(anchors)} if anchors else {}),
            "info": header.info,
        }
    )


def header_of(folder: Path, data: dict[str, Any]) -> SceneHeader:
    """The header in what `scene.json` says."""
    try:
        require_possible(data)
        return SceneHeader(
            num_frames=data["num_frames"],
            height=data["height"],
            width=data["width"],
            anchor_index=data["anchor_index"],
            pixel_map=PixelMap(tuple(data["pixel_map"]["scale"]), tuple(data["pixel_map"]["offset_px"])),
            source_size=tuple(data["source_size"]),
            info=data["info"],
            points_dtype=data["points_dtype"],
            fields=tuple(spec.field for spec in ARRAYS if spec.path in data["arrays"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise damaged(folder, f"{SCENE_JSON} does not describe it ({error})") from error


def write_json(
    folder: Path, header: SceneHeader, *, complete: bool, late: Sequence[ArraySpec] = (), anchors: Sequence[int] = ()
) -> None:
    """Writes `scene.json`; `late`: which of the arrays of `LATE` are there; `anchors`: frame numbers of the further anchors."""
    _write_whole(folder, _to_json(header, complete=complete, late=late, anchors=anchors))


def _write_whole(folder: Path, data: dict[str, Any]) -> None:
    """Replaces `scene.json` in one step: a reader sees the old one or the new one."""
    temporary = folder / _TEMPORARY
    temporary.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
    temporary.replace(folder / SCENE_JSON)


def read_json(folder: Path) -> dict[str, Any]:
    """What `scene.json` says, if this version can read it."""
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
    return data


def _difference(found: dict[str, Any], wanted: dict[str, Any]) -> str | None:
    """The first option in which a scene on disk differs from the one to be made, in words; None if there is none."""
    old, new = dict(_options(found)), dict(_options(wanted))
    for name in sorted(old.keys() | new.keys(), key=lambda name: (not name.startswith("info."), name)):
        if old.get(name) != new.get(name):
            short = name.removeprefix("info.").removeprefix("options.")
            return f"{short} = {json.dumps(old.get(name))}, not {json.dumps(new.get(name))}"
    return None


def _options(data: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """What makes two scenes the same run, flat: ("info.options.size", 512)."""
    same_for_all = ("format", "format_version", "st4rtrack_version", "status", "arrays", "anchors")
    data = {name: value for name, value in data.items() if name not in same_for_all} | {
        "arrays": sorted({*data.get("arrays", [])} - {spec.path for spec in LATE}),
        "info": {name: value for name, value in data.get("info", {}).items() if name != "results"},
    }
    return _flat(data)


def _flat(data: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in data.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _plain(value: Any) -> Any:
    """The same as JSON knows it; what is not a finite number is unknown."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, str | Path):
        return without_secrets(str(value)) if ":/" in str(value) else str(value)
    return value
