"""Scene <-> folder, one frame at a time.

`SceneWriter` (disk) and `SceneBuffer` (memory) take the same frames, so that whoever makes a scene is written once. On disk the
big arrays (with height and width) are stored as they come, one chunk per frame. The small values of a frame (time, camera) are
one fixed-size record, appended to a journal after the big arrays: the record is what says that a frame is done, so a run may be
killed anywhere. `finish` turns the journal into arrays in large chunks.
"""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, NotRequired, TypedDict, Unpack

import numpy as np
import zarr
from zarr.storage import MemoryStore

from st4rtrack.io.lazy import LazyArray
from st4rtrack.io.lock import FolderLock, locked
from st4rtrack.io.scene_anchors import AnchorStore, copy_anchors, load_anchors
from st4rtrack.io.scene_format import FORMAT_VERSION as FORMAT_VERSION
from st4rtrack.io.scene_format import (
    JOURNAL,
    JOURNAL_RECORD,
    LATE,
    MOVING,
    MOVING_IN_FRAMES,
    SCENE_JSON,
    SCENE_ZARR,
    ArraySpec,
    count_done,
    create_array,
    header_of,
    make_folder,
    open_array,
    open_group,
    read_journal,
    read_json,
    read_small,
    write_json,
)
from st4rtrack.io.scene_format import SceneHeader as SceneHeader
from st4rtrack.io.scene_format import holds_scene as holds_scene
from st4rtrack.io.scene_format import prepare_folder as prepare_folder
from st4rtrack.types import Array, Cameras, Pointmap, Scene, TrackingOverTime, UserError


class FrameFields(TypedDict):
    """What is known about one frame: the arrays of a `Scene` without their time axis. `*_valid` is for truth only."""

    rgb: Array
    time_s: float
    tracking_points: Array
    tracking_confidence: NotRequired[Array]
    tracking_valid: NotRequired[Array]
    visible: NotRequired[Array]
    visible_probability: NotRequired[Array]
    reconstruction_points: Array
    reconstruction_confidence: NotRequired[Array]
    reconstruction_valid: NotRequired[Array]
    world_from_camera: Array
    intrinsics: Array
    solved: NotRequired[bool]


class SceneSink(ABC):
    """Takes the frames of a scene in any order, one at a time, and gives the scene at the end.

    Attributes:
        anchors: takes the further anchors, after the frames.
    """

    complete = False
    anchors: AnchorStore

    def __init__(self, header: SceneHeader) -> None:
        self.header = header
        self._maps: dict[str, Any] = {}
        # The small values of all frames stay in memory: 0.2 kB per frame, beside a megabyte or more of maps.
        self._rows = np.zeros(header.num_frames, JOURNAL_RECORD)

    @property
    def frames_done(self) -> np.ndarray:
        """[time] bool, frames that are written."""
        return self._rows["done"].copy()

    @property
    def first_missing_frame(self) -> int:
        """Index of the first frame that is not written; the number of frames when all are."""
        missing = np.flatnonzero(~self._rows["done"])
        return int(missing[0]) if len(missing) else self.header.num_frames

    def write_frame(self, index: int, **fields: Unpack[FrameFields]) -> None:
        """Takes one frame; it counts as done when this returns.

        Args:
            index: which frame.
            fields: see `FrameFields`; exactly those that the header names.
        """
        if self.complete:
            raise RuntimeError("the scene is complete, no frame can be written")
        if not 0 <= index < self.header.num_frames:
            raise ValueError(f"frame {index} is not one of {self.header.num_frames}")
        if set(fields) != set(self.header.fields):
            raise ValueError(f"a frame needs {sorted(self.header.fields)}, got {sorted(fields)}")
        values = {spec.field: self._checked(spec, fields[spec.field]) for spec in self.header.specs}
        row = np.zeros((), JOURNAL_RECORD)
        row["index"], row["done"] = index, True
        for spec in self.header.specs:
            if spec.small:
                row[spec.field] = values[spec.field]
            else:
                self._maps[spec.field][index] = values[spec.field]
        self._mark_done(row)
        self._rows[index] = row

    def read(self, name: str, index: int) -> np.ndarray:
        """One field of a frame that is done, as `write_frame` took it: what a continued run has to look back at."""
        if not self._rows["done"][index]:
            raise ValueError(f"frame {index} is not written yet")
        return np.asarray(self._maps[name][index] if name in self._maps else self._rows[name][index])

    def __enter__(self) -> "SceneSink":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @abstractmethod
    def close(self) -> None:
        """Gives up what only a writer needs; what was written can be gone on with."""

    @abstractmethod
    def finish(
        self,
        *,
        moving: Array | None = None,
        moving_in_frames: Iterable[Array] | None = None,
        results: Mapping[str, Any] | None = None,
    ) -> Scene:
        """Closes the scene and gives it.

        Args:
            moving: [height, width] bool, see `TrackingOverTime`.
            moving_in_frames: of every frame in order [height, width] bool, see `Pointmap`; taken one at a time.
            results: plain data to keep in `info["results"]`: what was found out rather than asked for.
        """

    @abstractmethod
    def _mark_done(self, row: np.ndarray) -> None:
        """All maps of a frame are stored: keep its small values where they outlive this process, if that is the point."""

    def _close(self, moving: Array | None, results: Mapping[str, Any] | None) -> tuple[SceneHeader, np.ndarray | None]:
        if self.first_missing_frame < self.header.num_frames:
            raise ValueError(f"frame {self.first_missing_frame} of {self.header.num_frames} is not written")
        info = self.header.info if results is None else {**self.header.info, "results": dict(results)}
        return dataclasses.replace(self.header, info=info), None if moving is None else self._checked(MOVING, moving)

    def _fill(self, array: Any, frames: Iterable[Array]) -> None:
        """An array [time, height, width] from its frames."""
        for index, (_, values) in enumerate(zip(range(self.header.num_frames), frames, strict=True)):
            array[index] = self._checked(MOVING_IN_FRAMES, values)

    def _checked(self, spec: ArraySpec, value: Any) -> np.ndarray:
        value, dtype = np.asarray(value), self.header.dtype(spec)
        shape = self.header.shape(spec)[1 if spec.axes[0] == "time" else 0 :]
        if value.shape != shape or not np.can_cast(value.dtype, dtype, "same_kind"):
            raise ValueError(f"{spec.field} must be {list(shape)} {dtype}, got {list(value.shape)} {value.dtype}")
        with np.errstate(over="ignore"):  # beyond float16 is infinite, which readers skip
            return value.astype(dtype, copy=False)


class SceneBuffer(SceneSink):
    """A scene in memory."""

    def __init__(self, header: SceneHeader) -> None:
        super().__init__(header)
        self._maps = {spec.field: np.zeros(header.shape(spec), header.dtype(spec)) for spec in header.specs if not spec.small}
        self.anchors = AnchorStore(zarr.open_group(store=MemoryStore(), mode="w", zarr_format=3), header)

    def finish(
        self,
        *,
        moving: Array | None = None,
        moving_in_frames: Iterable[Array] | None = None,
        results: Mapping[str, Any] | None = None,
    ) -> Scene:
        self.header, moving = self._close(moving, results)
        late: dict[str, Array] = {} if moving is None else {MOVING.field: moving}
        if moving_in_frames is not None:
            late[MOVING_IN_FRAMES.field] = np.zeros(self.header.shape(MOVING_IN_FRAMES), bool)
            self._fill(late[MOVING_IN_FRAMES.field], moving_in_frames)
        self.complete = True
        small = {spec.field: self._rows[spec.field].copy() for spec in self.header.specs if spec.small}
        return dataclasses.replace(_scene(self.header, {**self._maps, **small, **late}), anchors=self.anchors.finish())

    def close(self) -> None:
        pass

    def _mark_done(self, row: np.ndarray) -> None:
        pass


class SceneWriter(SceneSink):
    """A scene in a folder; memory does not grow with its maps, and a killed run goes on where it was.

    Make it with `create`. It is the folder's only writer until `finish` or `close`, or its process ends. When `complete` is true the
    folder already held this scene, finished: `finish()` just loads it.
    """

    @classmethod
    def create(cls, folder: str | Path, header: SceneHeader, *, overwrite: bool = False) -> "SceneWriter":
        """Starts a scene, or goes on with an unfinished one of the same options; see `prepare_folder`.

        Raises:
            UserError: something else is there, or another process writes to it.
        """
        lock = FolderLock(make_folder(folder))
        try:
            return cls(lock, header, prepare_folder(folder, header, overwrite=overwrite))
        except BaseException:
            lock.release()
            raise

    def __init__(self, lock: FolderLock, header: SceneHeader, state: Literal["new", "continue", "done"]) -> None:
        super().__init__(header)
        self.folder, self._lock = lock.folder, lock
        folder = lock.folder
        self.complete = state == "done"
        if state == "new":
            write_json(folder, header, complete=False)
        if state == "continue":
            self._rows = read_journal(folder, header.num_frames)
            _cut_torn_record(folder / JOURNAL)
        if not self.frames_done.any() and not self.complete:
            # Not even the arrays are known to be whole: start them afresh.
            (folder / JOURNAL).unlink(missing_ok=True)
            self._group = zarr.open_group(store=folder / SCENE_ZARR, mode="w", zarr_format=3)
            self._maps = {spec.field: create_array(self._group, header, spec) for spec in header.specs if not spec.small}
            self.anchors = AnchorStore(self._group, header, folder)
            return
        self._group = open_group(folder, "r" if self.complete else "r+")
        self._maps = {spec.field: open_array(folder, self._group, header, spec) for spec in header.specs if not spec.small}
        if not self.complete:
            self.anchors = AnchorStore(self._group, header, folder, goes_on=True)
        else:
            self.close()  # nothing is left to write
            self._rows["done"] = True
            for spec in header.specs:
                if spec.small:
                    self._rows[spec.field] = read_small(folder, open_array(folder, self._group, header, spec), spec)

    def write_frame(self, index: int, **fields: Unpack[FrameFields]) -> None:
        if not self.complete:
            self._lock.require_folder()
        super().write_frame(index, **fields)

    def close(self) -> None:
        self._lock.release()

    def finish(
        self,
        *,
        moving: Array | None = None,
        moving_in_frames: Iterable[Array] | None = None,
        results: Mapping[str, Any] | None = None,
    ) -> Scene:
        if not self.complete:
            self._lock.require_folder()
            self.header, moving = self._close(moving, results)
            late = []
            for spec in self.header.specs:
                if spec.small:
                    create_array(self._group, self.header, spec)[:] = self._rows[spec.field]
            if moving is not None:
                create_array(self._group, self.header, MOVING)[:] = moving
                late.append(MOVING)
            if moving_in_frames is not None:
                self._fill(create_array(self._group, self.header, MOVING_IN_FRAMES), moving_in_frames)
                late.append(MOVING_IN_FRAMES)
            write_json(self.folder, self.header, complete=True, late=late, anchors=self.anchors.frames)
            self.anchors.finish()
            (self.folder / JOURNAL).unlink(missing_ok=True)
            self.complete = True
            self.close()
        return load_scene(self.folder)

    def _mark_done(self, row: np.ndarray) -> None:
        self._lock.require_folder()
        with (self.folder / JOURNAL).open("ab") as journal:
            journal.write(row.tobytes())


def save_scene(
    scene: Scene, folder: str | Path, *, points_dtype: Literal["float32", "float16"] | None = None, overwrite: bool = False
) -> Path:
    """Writes a scene to a folder, frame by frame.

    Args:
        scene: in memory, or read from another folder.
        folder: new or empty, unless `overwrite`.
        points_dtype: of the points on disk; default: float16 where the scene has float16, else float32.
        overwrite: replaces a scene that is there; files of others stay.
    Returns:
        The folder.
    """
    folder = Path(folder)
    fields = {name: values for name, values in _fields(scene).items() if values is not None}
    for values in fields.values():
        if isinstance(values, LazyArray) and values.source is not None and values.source.resolve() == folder.resolve():
            raise UserError(f"this scene is read from {folder}, it cannot be saved over itself; choose another folder")
    late = {spec.field: fields.pop(spec.field, None) for spec in LATE}
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
        if state != "new":  # same options do not make it the same scene
            raise UserError(
                f"{folder} already holds a scene; choose another folder, or replace it with overwrite=True (--overwrite)"
            )
        writer = SceneWriter(lock, header, state)
        for index in range(num_frames):
            writer.write_frame(index, **{name: values[index] for name, values in fields.items()})  # pyright: ignore[reportArgumentType]
        copy_anchors(scene.anchors, writer.anchors, num_frames)
        writer.finish(**late)
    return folder


def load_scene(path: str | Path) -> Scene:
    """Opens a scene; its maps are read from disk when they are looked at.

    Args:
        path: the folder, or the `scene.json` or `scene.zarr` in it.
    Raises:
        UserError: there is no complete scene that this version can read.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f"there is no scene at {path}")
    folder = path.parent if path.name in (SCENE_JSON, SCENE_ZARR) else path
    if not (folder / SCENE_JSON).is_file():
        raise UserError(f"{path} is not a scene: a scene is a folder with {SCENE_JSON} in it, as `st4rtrack run` writes it")
    data = read_json(folder)
    header = header_of(folder, data)
    if data.get("status") != "complete":
        done = f"{count_done(folder, header.num_frames)} of {header.num_frames} frames"
        raise UserError(f"the scene in {folder} is incomplete ({done}); run the same command again to go on with it")
    group = open_group(folder, "r")
    arrays: dict[str, Array] = {}
    for spec in (*header.specs, *(spec for spec in LATE if spec.path in data["arrays"])):
        array = open_array(folder, group, header, spec)
        is_small = spec.small or spec is MOVING
        whole = spec.dtype in (None, "float32")  # the others of older scenes lack frames that are all 0
        arrays[spec.field] = read_small(folder, array, spec) if is_small else LazyArray(array, source=folder, whole=whole)
    anchors = load_anchors(group, header, data.get("anchors", []), folder)
    return dataclasses.replace(_scene(header, arrays), anchors=anchors)


def _cut_torn_record(journal: Path) -> None:
    """Cuts off a record that was not written whole, so that the next one lines up."""
    if journal.exists():
        with journal.open("r+b") as file:
            file.truncate(journal.stat().st_size // JOURNAL_RECORD.itemsize * JOURNAL_RECORD.itemsize)


def _scene(header: SceneHeader, arrays: Mapping[str, Array]) -> Scene:
    return Scene(
        rgb=arrays["rgb"],
        time_s=arrays["time_s"],
        tracking=TrackingOverTime(
            arrays["tracking_points"],
            arrays.get("tracking_confidence"),
            arrays.get("tracking_valid"),
            visible=arrays.get("visible"),
            moving=arrays.get("moving"),
            visible_probability=arrays.get("visible_probability"),
        ),
        reconstruction=Pointmap(
            arrays["reconstruction_points"],
            arrays.get("reconstruction_confidence"),
            arrays.get("reconstruction_valid"),
            moving=arrays.get("moving_in_frames"),
        ),
        cameras=Cameras(arrays["world_from_camera"], arrays["intrinsics"], arrays.get("solved")),
        anchor_index=header.anchor_index,
        pixel_map=header.pixel_map,
        source_size=header.source_size,
        info=header.info,
    )


def _fields(scene: Scene) -> dict[str, Array | None]:
    """The reverse of `_scene`."""
    return {
        "rgb": scene.rgb,
        "time_s": scene.time_s,
        "tracking_points": scene.tracking.points_world,
        "tracking_confidence": scene.tracking.confidence,
        "tracking_valid": scene.tracking.valid,
        "visible": scene.tracking.visible,
        "visible_probability": scene.tracking.visible_probability,
        "moving": scene.tracking.moving,
        "reconstruction_points": scene.reconstruction.points_world,
        "reconstruction_confidence": scene.reconstruction.confidence,
        "reconstruction_valid": scene.reconstruction.valid,
        "moving_in_frames": scene.reconstruction.moving,
        "world_from_camera": scene.cameras.world_from_camera,
        "intrinsics": scene.cameras.intrinsics,
        "solved": scene.cameras.solved,
    }
