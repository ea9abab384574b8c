"""Interface for writing a scene frame by frame (`SceneSink`), and its in-memory implementation.

`SceneWriter` (disk, in writer.py) and `SceneBuffer` (memory) accept the same frames, so that the pipeline supports both.
"""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NotRequired, TypedDict, Unpack

import numpy as np
import zarr
from zarr.storage import MemoryStore

from st4rtrack.io.scene.anchors import AnchorStore
from st4rtrack.io.scene.header import SceneHeader
from st4rtrack.io.scene.journal import JOURNAL_RECORD
from st4rtrack.io.scene.load import scene_of
from st4rtrack.io.scene.table import MOVING, MOVING_IN_FRAMES, ArraySpec
from st4rtrack.scene import Scene
from st4rtrack.timing import timed
from st4rtrack.types import Array, QualityReport


class FrameFields(TypedDict):
    """Fields of one frame: the arrays of a `Scene` without their time axis. `*_valid` is for ground truth only."""

    rgb: Array
    time_s: float
    tracking_points: Array
    tracking_confidence: NotRequired[Array]
    tracking_valid: NotRequired[Array]
    visible: NotRequired[Array]
    visibility: NotRequired[Array]
    reconstruction_points: Array
    reconstruction_confidence: NotRequired[Array]
    reconstruction_valid: NotRequired[Array]
    reconstruction_source: NotRequired[Array]
    world_from_camera: Array
    intrinsics: Array
    solved: NotRequired[bool]
    reprojection_px: NotRequired[float]
    flow_agreement_px: NotRequired[float]


class FinalFields(TypedDict, total=False):
    """Fields of a scene that are known only after all frames.

    Attributes:
        moving: [height, width] bool, see `TrackingOverTime`.
        moving_in_frames: masks [height, width] bool of all frames in order, see `Pointmap`; consumed one at a time.
        results: plain data for `info["results"]`: results of the run, as opposed to its options.
        quality: quality report of the scene, or a function of the mean share of dynamic pixels in `moving_in_frames`.
    """

    moving: Array | None
    moving_in_frames: Iterable[Array] | None
    results: Mapping[str, Any] | None
    quality: QualityReport | Callable[[float], QualityReport] | None


class SceneSink(ABC):
    """Accepts the frames of a scene in any order, one at a time, and returns the scene at the end.

    Attributes:
        anchors: store for the further anchors, which are written after the frames.
    """

    complete = False
    anchors: AnchorStore
    _quality: QualityReport | None = None

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
    def write_frame(self, index: int, **fields: Unpack[FrameFields]) -> None:
        """Write one frame; it is marked as done when this returns.

        Args:
            index: frame index.
            fields: see `FrameFields`; exactly those of `header.fields`.
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
        """Replace the fields of a written frame that differ; fields that are not in the header are ignored."""
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

    def __enter__(self) -> "SceneSink":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @abstractmethod
    def close(self) -> None:
        """Release locks and other resources; an incomplete scene can be resumed."""

    @abstractmethod
    def finish(self, **final: Unpack[FinalFields]) -> Scene:
        """Complete the scene and return it; see `FinalFields`."""

    @abstractmethod
    def _deferred_array(self, spec: ArraySpec) -> Any:
        """Create the storage of an array of `DEFERRED`."""

    def _require_open(self) -> None:
        if self.complete:
            raise RuntimeError("the scene is complete, no frame can be written")

    def _store(self, row: np.ndarray, values: Mapping[str, np.ndarray]) -> None:
        """Store the fields of a frame: maps first, then the journal record with the small values."""
        index = int(row["index"])
        for spec in self.header.specs:
            if spec.field not in values:
                continue
            if spec.small:
                row[spec.field] = values[spec.field]
            else:
                self._maps[spec.field][index] = values[spec.field]
        self._mark_done(row)
        self._rows[index] = row

    @abstractmethod
    def _mark_done(self, row: np.ndarray) -> None:
        """Persist the small values of a frame, if the sink is persistent; called after its maps are stored."""

    def _end(self, final: FinalFields) -> list[ArraySpec]:
        """Store the final fields; returns the arrays of `DEFERRED` that were written."""
        if self.first_missing_frame < self.header.num_frames:
            raise ValueError(f"frame {self.first_missing_frame} of {self.header.num_frames} is not written")
        if (results := final.get("results")) is not None:
            self.header = dataclasses.replace(self.header, info={**self.header.info, "results": dict(results)})
        deferred, shares = [], []
        if (moving := final.get("moving")) is not None:
            self._deferred_array(MOVING)[:] = self._checked(MOVING, moving)
            deferred.append(MOVING)
        if (frames := final.get("moving_in_frames")) is not None:
            array = self._deferred_array(MOVING_IN_FRAMES)
            for index, (_, values) in enumerate(zip(range(self.header.num_frames), frames, strict=True)):
                array[index] = self._checked(MOVING_IN_FRAMES, values)
                shares.append(float(np.mean(values)))
            deferred.append(MOVING_IN_FRAMES)
        quality = final.get("quality")
        self._quality = quality(sum(shares) / max(len(shares), 1)) if callable(quality) else quality
        return deferred

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

    def finish(self, **final: Unpack[FinalFields]) -> Scene:
        self._end(final)
        self.complete = True
        small = {spec.field: self._rows[spec.field].copy() for spec in self.header.specs if spec.small}
        scene = scene_of(self.header, {**self._maps, **small})
        return dataclasses.replace(scene, anchors=self.anchors.finish(), quality=self._quality)

    def _deferred_array(self, spec: ArraySpec) -> np.ndarray:
        self._maps[spec.field] = np.zeros(self.header.shape(spec), bool)
        return self._maps[spec.field]

    def close(self) -> None:
        pass

    def _mark_done(self, row: np.ndarray) -> None:
        pass
