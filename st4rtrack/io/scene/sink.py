"""Writing of a scene frame by frame, in memory (`SceneBuffer`) or to disk (`SceneWriter`), by one interface.

On disk, maps (arrays with height and width) are stored immediately, one chunk per frame. The small values of a frame (time,
camera) are appended to the journal as one record after its maps, so a run may be killed at any point. `finish` converts the
journal to arrays in large chunks.
"""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import zarr
from zarr.storage import MemoryStore

from st4rtrack.io.lazy import LazyArray
from st4rtrack.io.lock import FolderLock, locked
from st4rtrack.io.scene.anchors import AnchorStore, copy_anchors
from st4rtrack.io.scene.arrays import (
    JOURNAL,
    JOURNAL_RECORD,
    SCENE_ZARR,
    FrameChunks,
    create_array,
    cut_torn_record,
    frame_chunks,
    open_array,
    open_group,
    read_journal,
    read_small,
    remove_frame,
)
from st4rtrack.io.scene.description import write_json
from st4rtrack.io.scene.folder import make_folder, prepare_folder, require_space, scene_bytes
from st4rtrack.io.scene.load import load_scene
from st4rtrack.io.scene.table import DEFERRED, MOVING, MOVING_IN_FRAMES, ArraySpec, SceneHeader, arrays_of, scene_of
from st4rtrack.scene import Scene
from st4rtrack.timing import timed
from st4rtrack.types import Array, QualityReport, UserError


class SceneSink(ABC):
    """Accepts the frames of a scene in any order, one at a time, and returns the scene at the end.

    Attributes:
        anchors: store for the further anchors, which are written after the frames.
    """

    complete = False
    anchors: AnchorStore

    def __init__(self, header: SceneHeader) -> None:
        self.header = header
        self._maps: dict[str, Any] = {}
        # The small values of all frames stay in memory: 0.2 kB per frame, compared with a megabyte or more of maps.
        self._rows = np.zeros(header.num_frames, JOURNAL_RECORD)

    @property
    def frames_done(self) -> np.ndarray:
        """Mask [time] of the frames that are written."""
        return self._rows["done"].copy()

    @property
    def first_missing_frame(self) -> int:
        """Index of the first frame that is not written; the number of frames if all are."""
        missing = np.flatnonzero(~self._rows["done"])
        return int(missing[0]) if len(missing) else self.header.num_frames

    @timed("write")
    def write_frame(self, index: int, **fields: Any) -> None:
        """Write one frame; it is marked as done when this returns.

        Args:
            index: frame index.
            fields: exactly those of `header.fields`: the arrays of a `Scene` without their time axis, see `ARRAYS`.
        """
        self._require_open()
        if not 0 <= index < self.header.num_frames:
            raise ValueError(f"frame {index} is not one of {self.header.num_frames}")
        if set(fields) != set(self.header.fields):
            raise ValueError(f"a frame needs {sorted(self.header.fields)}, got {sorted(fields)}")
        values = {spec.field: self._checked(spec, fields[spec.field]) for spec in self.header.specs}
        row = np.zeros((), JOURNAL_RECORD)
        row["index"], row["done"] = index, True
        self._store(row, values)

    def update_frame(self, index: int, **fields: Any) -> None:
        """Replace those fields of a written frame that differ; fields that are not in the header are ignored."""
        self._require_open()
        checked = {spec.field: self._checked(spec, fields[spec.field]) for spec in self.header.specs if spec.field in fields}
        changed = {
            name: value
            for name, value in checked.items()
            if not np.array_equal(value, self.read(name, index), equal_nan=value.dtype.kind == "f")
        }
        if changed:
            self._store(self._rows[index].copy(), changed)

    def read(self, name: str, index: int) -> np.ndarray:
        """Read one field of a written frame, in the form of `write_frame`; needed by resumed runs."""
        if not self._rows["done"][index]:
            raise ValueError(f"frame {index} is not written yet")
        return np.asarray(self._maps[name][index] if name in self._maps else self._rows[name][index])

    @timed("write")
    def finish(
        self,
        *,
        moving: Array | None = None,
        moving_in_frames: Iterable[Array] | None = None,
        results: Mapping[str, Any] | None = None,
        quality: QualityReport | Callable[[float], QualityReport] | None = None,
    ) -> Scene:
        """Complete the scene and return it.

        Args:
            moving: [height, width] bool, see `TrackingOverTime`.
            moving_in_frames: masks [height, width] bool of all frames in order, see `Pointmap`; consumed one at a time.
            results: plain data for `info["results"]`: results of the run, as opposed to its options.
            quality: quality report of the scene, or a function of the mean share of dynamic pixels in `moving_in_frames`.
        """
        if self.complete:
            return self._result(None)
        if self.first_missing_frame < self.header.num_frames:
            raise ValueError(f"frame {self.first_missing_frame} of {self.header.num_frames} is not written")
        self._require_open()
        if results is not None:
            self.header = dataclasses.replace(self.header, info={**self.header.info, "results": dict(results)})
        deferred, shares = [], []
        if moving is not None:
            self._deferred_array(MOVING)[:] = self._checked(MOVING, moving)
            deferred.append(MOVING)
        if moving_in_frames is not None:
            array = self._deferred_array(MOVING_IN_FRAMES)
            for index, (_, values) in enumerate(zip(range(self.header.num_frames), moving_in_frames, strict=True)):
                array[index] = self._checked(MOVING_IN_FRAMES, values)
                shares.append(float(np.mean(values)))
            deferred.append(MOVING_IN_FRAMES)
        report = quality(sum(shares) / max(len(shares), 1)) if callable(quality) else quality
        self._complete(deferred, report)
        self.complete = True
        return self._result(report)

    def __enter__(self) -> "SceneSink":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:  # noqa: B027
        """Release locks and other resources; an incomplete scene can be resumed."""

    @abstractmethod
    def _deferred_array(self, spec: ArraySpec) -> Any:
        """Create the storage of an array of `DEFERRED`."""

    def _mark_done(self, row: np.ndarray) -> None:  # noqa: B027
        """Persist the small values of a frame, if the sink is persistent; called after its maps are stored."""

    def _complete(self, deferred: list[ArraySpec], quality: QualityReport | None) -> None:  # noqa: B027
        """Persist the completed scene, if the sink is persistent."""

    @abstractmethod
    def _result(self, quality: QualityReport | None) -> Scene:
        """The completed scene."""

    def _require_open(self) -> None:
        if self.complete:
            raise RuntimeError("the scene is complete, no frame can be written")

    def _store(self, row: np.ndarray, values: Mapping[str, np.ndarray]) -> None:
        """Store the fields of a frame: maps first, then the journal record with the small values."""
        index = int(row["index"])
        for spec in self.header.specs:
            if spec.field in values:
                target, key = (row, spec.field) if spec.small else (self._maps[spec.field], index)
                target[key] = values[spec.field]
        self._mark_done(row)
        self._rows[index] = row

    def _checked(self, spec: ArraySpec, value: Any) -> np.ndarray:
        value, dtype = np.asarray(value), self.header.dtype(spec)
        shape = self.header.shape(spec)[1 if spec.axes[0] == "time" else 0 :]
        if value.shape != shape or not np.can_cast(value.dtype, dtype, "same_kind"):
            raise ValueError(f"{spec.field} must be {list(shape)} {dtype}, got {list(value.shape)} {value.dtype}")
        with np.errstate(over="ignore"):  # values beyond float16 become infinite, which readers skip
            return value.astype(dtype, copy=False)


class SceneBuffer(SceneSink):
    """Collects the frames of a scene in memory."""

    def __init__(self, header: SceneHeader) -> None:
        super().__init__(header)
        self._maps = {spec.field: np.zeros(header.shape(spec), header.dtype(spec)) for spec in header.specs if not spec.small}
        self.anchors = AnchorStore(zarr.open_group(store=MemoryStore(), mode="w", zarr_format=3), header)

    def _deferred_array(self, spec: ArraySpec) -> np.ndarray:
        self._maps[spec.field] = np.zeros(self.header.shape(spec), bool)
        return self._maps[spec.field]

    def _result(self, quality: QualityReport | None) -> Scene:
        small = {spec.field: self._rows[spec.field].copy() for spec in self.header.specs if spec.small}
        return dataclasses.replace(scene_of(self.header, {**self._maps, **small}), anchors=self.anchors.finish(), quality=quality)


class SceneWriter(SceneSink):
    """Writes a scene to a folder with constant memory for maps; a killed run can be resumed.

    Use `create`. It is the only writer of the folder until `finish`, `close` or the end of the process. If `complete` is true,
    the folder already contains this scene: `finish()` only loads it.
    """

    @classmethod
    @timed("write")
    def create(cls, folder: str | Path, header: SceneHeader, *, overwrite: bool = False) -> "SceneWriter":
        """Start a scene, or resume an incomplete one with the same options; see `prepare_folder`.

        Raises:
            UserError: the folder has other content, another process writes to it, or the disk is too small.
        """
        require_space(folder, scene_bytes(header))  # before anything is replaced
        lock = FolderLock(make_folder(folder))
        try:
            return cls(lock, header, prepare_folder(folder, header, overwrite=overwrite))
        except BaseException:
            lock.release()
            raise

    def __init__(self, lock: FolderLock, header: SceneHeader, state: Literal["new", "continue", "done"]) -> None:
        super().__init__(header)
        self.folder, self._lock, self.complete = lock.folder, lock, state == "done"
        folder = lock.folder
        if state == "new":
            write_json(folder, header, complete=False)
        if state == "continue":
            records = read_journal(folder, header.num_frames)
            self._rows[records["index"]] = records
            cut_torn_record(folder)
        resume = self.complete or self.frames_done.any()
        if resume:
            self._group = open_group(folder, "r" if self.complete else "r+")
        else:  # the arrays themselves may be incomplete: create them again
            (folder / JOURNAL).unlink(missing_ok=True)
            self._group = zarr.open_group(store=folder / SCENE_ZARR, mode="w", zarr_format=3)
        for spec in header.specs:
            if not spec.small:
                array = open_array(folder, self._group, header, spec) if resume else create_array(self._group, header, spec)
                self._maps[spec.field] = frame_chunks(folder, array)
            elif self.complete:
                self._rows[spec.field] = read_small(folder, open_array(folder, self._group, header, spec), spec)
        if self.complete:
            self.close()  # nothing is left to write
            self._rows["done"] = True
        else:
            if resume:
                self._remove_torn_frames()
            self.anchors = AnchorStore(self._group, header, folder, resume=bool(resume))

    def close(self) -> None:
        self._lock.release()

    def _require_open(self) -> None:
        super()._require_open()
        self._lock.require_folder()

    def _complete(self, deferred: list[ArraySpec], quality: QualityReport | None) -> None:
        for spec in self.header.specs:
            if spec.small:
                create_array(self._group, self.header, spec)[:] = self._rows[spec.field]
        anchors = self.anchors.frames
        write_json(self.folder, self.header, complete=True, deferred=deferred, anchors=anchors, quality=quality)
        self.anchors.finish()
        (self.folder / JOURNAL).unlink(missing_ok=True)
        self.close()

    def _result(self, quality: QualityReport | None) -> Scene:
        return load_scene(self.folder)

    def _remove_torn_frames(self) -> None:
        for index in np.flatnonzero(~self.frames_done):
            for spec in self.header.specs:
                if not spec.small:
                    remove_frame(self.folder, spec, int(index))

    def _deferred_array(self, spec: ArraySpec) -> FrameChunks | zarr.Array:
        return frame_chunks(self.folder, create_array(self._group, self.header, spec))

    def _mark_done(self, row: np.ndarray) -> None:
        self._lock.require_folder()
        with (self.folder / JOURNAL).open("ab") as journal:
            journal.write(row.tobytes())


def save_scene(
    scene: Scene, folder: str | Path, *, points_dtype: Literal["float32", "float16"] | None = None, overwrite: bool = False
) -> Path:
    """Save a scene to a folder, frame by frame.

    Args:
        scene: in memory, or loaded from another folder.
        folder: new or empty, unless `overwrite`.
        points_dtype: dtype of the points on disk; default: float16 if the scene has float16, else float32.
        overwrite: replace an existing scene; other files are kept.
    Returns:
        The folder.
    """
    folder = Path(folder)
    fields = arrays_of(scene)
    for values in fields.values():
        if isinstance(values, LazyArray) and values.source is not None and values.source.resolve() == folder.resolve():
            raise UserError(f"this scene is read from {folder}, it cannot be saved over itself; choose another folder")
    deferred = {spec.field: fields.pop(spec.field, None) for spec in DEFERRED}
    num_frames, height, width = scene.rgb.shape[:3]
    header = SceneHeader(
        num_frames=num_frames,
        height=height,
        width=width,
        anchor_index=scene.anchor_index,
        pixel_map=scene.pixel_map,
        source_size=scene.source_size,
        info=scene.info,
        points_dtype=points_dtype or ("float16" if scene.tracking.points_world.dtype == np.float16 else "float32"),
        fields=tuple(fields),
    )
    with locked(make_folder(folder)) as lock:
        state = prepare_folder(folder, header, overwrite=overwrite)
        if state != "new":  # a scene with equal options may still have other content
            raise UserError(f"{folder} already holds a scene; choose another folder, or replace it with overwrite (--overwrite)")
        writer = SceneWriter(lock, header, state)
        for index in range(num_frames):
            writer.write_frame(index, **{name: values[index] for name, values in fields.items()})
        copy_anchors(scene.anchors, writer.anchors, num_frames)
        writer.finish(**deferred, quality=scene.quality)
    return folder
