"""Storage of further anchors of a scene: `anchors/NNNNNN/...`, with the arrays of `tracking/`.

An anchor is written for the frames in which it is tracked. zarr stores no unwritten chunks, so its size does not depend on the
length of the video; therefore scenes in memory use zarr too. A journal line marks an anchor as complete, so that a killed run
resumes with the next one.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import ZstdCodec

from st4rtrack.io.lazy import LazyArray
from st4rtrack.io.scene.arrays import FrameChunks, damaged, frame_chunks, open_array
from st4rtrack.io.scene.table import ArraySpec, SceneHeader, stored_path
from st4rtrack.io.text import parse_json
from st4rtrack.types import TrackingOverTime

ANCHORS_JOURNAL = "anchors.journal"
_IMAGE = ("time", "height", "width")
_ARRAYS = (
    ArraySpec("points", "points", (*_IMAGE, 3), None, "points_world"),
    ArraySpec("confidence", "confidence", _IMAGE, "float32", "confidence"),
    ArraySpec("visible", "visible", _IMAGE, "bool", "visible"),
    ArraySpec("valid", "valid", _IMAGE, "bool", "valid"),
    ArraySpec("visibility", "visibility", _IMAGE, "float16", "visibility", required=False),
)
"""Arrays of one anchor; NaN (`points`) or zero where it is not tracked or an earlier anchor has the content."""


class AnchorStore:
    """Writes the further anchors of a scene.

    Args:
        group: zarr group of the scene.
        header: metadata of the scene.
        folder: folder of the journal; `None` writes no journal.
        resume: whether to keep the anchors in the journal.

    Attributes:
        records: plain data of each complete anchor, with its `frame`, in the order of writing.
    """

    def __init__(self, group: zarr.Group, header: SceneHeader, folder: Path | None = None, *, resume: bool = False) -> None:
        self._group, self._header = group, header
        self._folder, self._journal = folder, None if folder is None else folder / ANCHORS_JOURNAL
        self._arrays: dict[int, dict[str, zarr.Array]] = {}
        self.records: list[dict[str, Any]] = []
        if self._journal is not None and resume and self._journal.exists():
            self._continue(self._journal)
        elif self._journal is not None:
            self._journal.unlink(missing_ok=True)

    @property
    def frames(self) -> list[int]:
        """Frame indices of the complete anchors."""
        return [record["frame"] for record in self.records]

    def write(self, anchor: int, index: int, **fields: np.ndarray) -> None:
        """Write one frame of an anchor.

        Args:
            anchor: frame index of the anchor; the first call creates its arrays from the fields.
            index: frame index.
            fields: points [height, width, 3]; confidence, visible, valid and optionally visibility [height, width].
        """
        if anchor not in self._arrays:
            self._arrays[anchor] = {spec.field: self._create(anchor, spec) for spec in _ARRAYS if spec.field in fields}
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
        """Read one field of an anchor in a frame."""
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
            _parent(anchor) + spec.path,
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
            self._arrays[frame] = _open(self._group, self._header, frame, journal.parent)
        journal.write_bytes(whole + b"\n" if whole else b"")


def load_anchors(group: zarr.Group, header: SceneHeader, anchors: list[int], folder: Path) -> dict[int, TrackingOverTime]:
    """Load the further anchors of a scene on disk by frame index; maps are read on access.

    Raises:
        UserError: a required array is missing, or an array has another shape or dtype.
    """
    return {anchor: _over_time(_open(group, header, anchor, folder), folder) for anchor in anchors}


def copy_anchors(anchors: dict[int, TrackingOverTime], store: AnchorStore, num_frames: int) -> None:
    """Copy the anchors of another scene to a store, without the frames in which an anchor is not tracked."""
    for anchor, maps in anchors.items():
        known = {spec.field: getattr(maps, spec.attribute) for spec in _ARRAYS}
        for index in range(num_frames):
            fields = {name: np.asarray(values[index]) for name, values in known.items() if values is not None}
            if index == anchor or np.isfinite(fields["points"]).any():
                unknown = [spec.field for spec in _ARRAYS if spec.required and spec.field not in fields]
                store.write(anchor, index, **fields, **{name: np.ones(fields["points"].shape[:2]) for name in unknown})
        store.close(anchor, {})


def _open(group: zarr.Group, header: SceneHeader, anchor: int, folder: Path) -> dict[str, zarr.Array]:
    parent = _parent(anchor)
    specs = [spec for spec in _ARRAYS if spec.required or stored_path(parent + spec.path, group) in group]
    return {spec.field: open_array(folder, group, header, spec, parent) for spec in specs}


def _over_time(arrays: dict[str, zarr.Array], source: Path | None) -> TrackingOverTime:
    lazy = {spec.attribute: LazyArray(arrays[spec.field], source=source) for spec in _ARRAYS if spec.field in arrays}
    return TrackingOverTime(**lazy)  # pyright: ignore[reportArgumentType] (the required ones exist)


def _parent(anchor: int) -> str:
    return f"anchors/{anchor:06d}/"
