"""Storage of further anchors of a scene: `anchors/NNNNNN/...`, with the arrays of `tracking/`.

An anchor is written for the frames in which it is tracked. zarr stores no unwritten chunks, so its size does not depend on the
length of the video; therefore scenes in memory use zarr too. A journal line marks an anchor as complete, so that a killed run
resumes with the next one.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NotRequired, TypedDict, Unpack

import numpy as np
import zarr
from zarr.codecs import ZstdCodec

from st4rtrack.io.json_text import parse_json
from st4rtrack.io.lazy import LazyArray
from st4rtrack.io.scene.arrays import FrameChunks, damaged, frame_chunks
from st4rtrack.io.scene.header import SceneHeader
from st4rtrack.io.scene.table import ArraySpec, stored_path
from st4rtrack.io.store import stored_array
from st4rtrack.types import TrackingOverTime

ANCHORS_JOURNAL = "anchors.journal"
_IMAGE = ("time", "height", "width")
ANCHOR_ARRAYS = (
    ArraySpec("points", "points", (*_IMAGE, 3), None),
    ArraySpec("confidence", "confidence", _IMAGE, "float32"),
    ArraySpec("visible", "visible", _IMAGE, "bool"),
    ArraySpec("valid", "valid", _IMAGE, "bool"),
    ArraySpec("visibility", "visibility", _IMAGE, "float16", required=False),
)
"""Arrays of one anchor; NaN (`points`) or zero where it is not tracked or an earlier anchor has the content."""


class AnchorFields(TypedDict):
    """Arrays of one frame of an anchor: [height, width, 3] and [height, width] as in `ANCHOR_ARRAYS`."""

    points: np.ndarray
    confidence: np.ndarray
    visible: np.ndarray
    valid: np.ndarray
    visibility: NotRequired[np.ndarray]


class AnchorStore:
    """Writes the further anchors of a scene.

    Args:
        group: zarr group of the scene.
        header: metadata of the scene.
        folder: folder of the journal; `None` writes no journal.
        goes_on: whether to resume, keeping the anchors in the journal.

    Attributes:
        records: plain data of each complete anchor, with its `frame`, in the order of writing.
    """

    def __init__(self, group: zarr.Group, header: SceneHeader, folder: Path | None = None, *, goes_on: bool = False) -> None:
        self._group, self._header = group, header
        self._folder, self._journal = folder, None if folder is None else folder / ANCHORS_JOURNAL
        self._arrays: dict[int, dict[str, zarr.Array]] = {}
        self.records: list[dict[str, Any]] = []
        if self._journal is not None and goes_on and self._journal.exists():
            self._continue(self._journal)
        elif self._journal is not None:
            self._journal.unlink(missing_ok=True)

    @property
    def frames(self) -> list[int]:
        """Frame indices of the complete anchors."""
        return [record["frame"] for record in self.records]

    def write(self, anchor: int, index: int, **fields: Unpack[AnchorFields]) -> None:
        """Write one frame of an anchor; the first call creates its arrays from the fields."""
        if anchor not in self._arrays:
            self._arrays[anchor] = {spec.field: self._create(anchor, spec) for spec in ANCHOR_ARRAYS if spec.field in fields}
        for name, array in self._arrays[anchor].items():
            with np.errstate(over="ignore"):
                self._frames_of(array)[index] = fields[name].astype(array.dtype, copy=False)

    def close(self, anchor: int, record: dict[str, Any]) -> None:
        """Mark an anchor as complete and store its record."""
        self.records.append({"frame": anchor, **record})
        if self._journal is not None:
            with self._journal.open("a", encoding="utf-8") as journal:
                journal.write(json.dumps(self.records[-1]) + "\n")

    def read(self, anchor: int, name: str, index: int) -> np.ndarray:
        """Read one field of `ANCHOR_ARRAYS` of an anchor in a frame."""
        return np.asarray(self._frames_of(self._arrays[anchor][name])[index])

    def maps(self, anchor: int) -> TrackingOverTime:
        """Tracking maps of an anchor over time, read on access."""
        return _over_time(self._arrays[anchor], None)

    def finish(self) -> dict[int, TrackingOverTime]:
        """Return all complete anchors by frame index and remove the journal."""
        if self._journal is not None:
            self._journal.unlink(missing_ok=True)
        return {anchor: self.maps(anchor) for anchor in self.frames}

    def _frames_of(self, array: zarr.Array) -> FrameChunks | zarr.Array:
        return array if self._folder is None else frame_chunks(self._folder, array)

    def _create(self, anchor: int, spec: ArraySpec) -> zarr.Array:
        shape, dtype = self._header.shape(spec), self._header.dtype(spec)
        return self._group.create_array(
            _path(anchor, spec),
            shape=shape,
            chunks=(1, *shape[1:]),
            dtype=dtype,
            compressors=ZstdCodec(),
            fill_value=np.nan if spec.field == "points" else dtype.type(0),
            dimension_names=[axis if isinstance(axis, str) else None for axis in spec.axes],
            overwrite=True,
        )

    def _continue(self, journal: Path) -> None:
        """Read the complete anchors in the journal, and truncate an incomplete last line."""
        whole = journal.read_bytes().rpartition(b"\n")[0]
        for line in whole.splitlines():
            try:
                record = parse_json(line)
                frame = int(record["frame"])
            except (ValueError, KeyError, TypeError) as error:
                raise damaged(journal.parent, f"{journal.name} cannot be read") from error
            self.records.append(record)
            self._arrays[frame] = open_anchor(self._group, self._header, frame, journal.parent)
        journal.write_bytes(whole + b"\n" if whole else b"")


def open_anchor(group: zarr.Group, header: SceneHeader, anchor: int, folder: Path) -> dict[str, zarr.Array]:
    """Open the arrays of an anchor, by field.

    Raises:
        UserError: a required array is missing, or an array has another shape or dtype.
    """
    arrays = {}
    for spec in ANCHOR_ARRAYS:
        path = stored_path(_path(anchor, spec), group)
        if not spec.required and path not in group:
            continue
        try:
            array = stored_array(group, path)
        except ValueError as error:
            raise damaged(folder, str(error)) from error
        if array.shape != header.shape(spec) or array.dtype != header.dtype(spec):
            raise damaged(folder, f"the array {path} is not {list(header.shape(spec))} {header.dtype(spec)}")
        arrays[spec.field] = array
    return arrays


def load_anchors(group: zarr.Group, header: SceneHeader, anchors: Sequence[int], folder: Path) -> dict[int, TrackingOverTime]:
    """Load the further anchors of a scene on disk by frame index; maps are read on access."""
    return {anchor: _over_time(open_anchor(group, header, anchor, folder), folder) for anchor in anchors}


def copy_anchors(anchors: dict[int, TrackingOverTime], store: AnchorStore, num_frames: int) -> None:
    """Copy the anchors of another scene to a store, without the frames in which an anchor is not tracked."""
    for anchor, maps in anchors.items():
        for index in range(num_frames):
            points = np.asarray(maps.points_world[index])
            if index == anchor or np.isfinite(points).any():
                visible, valid = (
                    np.ones(points.shape[:2], bool) if values is None else np.asarray(values[index])
                    for values in (maps.visible, maps.valid)
                )
                sure = np.ones(points.shape[:2]) if maps.confidence is None else np.asarray(maps.confidence[index])
                fields: AnchorFields = {"points": points, "confidence": sure, "visible": visible, "valid": valid}
                if maps.visibility is not None:
                    fields["visibility"] = np.asarray(maps.visibility[index])
                store.write(anchor, index, **fields)
        store.close(anchor, {})


def _over_time(arrays: dict[str, zarr.Array], source: Path | None) -> TrackingOverTime:
    lazy = {name: LazyArray(array, source=source) for name, array in arrays.items()}
    likely = lazy.get("visibility")
    return TrackingOverTime(lazy["points"], lazy["confidence"], lazy["valid"], visible=lazy["visible"], visibility=likely)


def _path(anchor: int, spec: ArraySpec) -> str:
    return f"anchors/{anchor:06d}/{spec.path}"
