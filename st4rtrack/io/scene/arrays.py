"""The arrays in `scene.zarr`, and the journal of completed frames, which exists while a scene is incomplete."""

import shutil
from pathlib import Path
from typing import Literal

import numpy as np
import zarr
from numcodecs import Zstd
from zarr.codecs import ZstdCodec

from st4rtrack.io.lazy import open_store, stored_array
from st4rtrack.io.scene.table import ARRAYS, ArraySpec, SceneHeader, stored_path
from st4rtrack.types import UserError

SCENE_ZARR = "scene.zarr"
SMALL_CHUNK_FRAMES = 4096
ZSTD_LEVEL = 1  # compresses floating-point maps as well as higher levels, in two thirds of the time

JOURNAL = "frames.journal"
JOURNAL_RECORD = np.dtype(
    [("index", "<i8"), ("done", "?")]
    + [(spec.field, np.dtype(spec.dtype).newbyteorder("<"), spec.axes[1:]) for spec in ARRAYS if spec.small]
)
"""Small values of a frame, appended after its maps are stored; marks the frame as done. `done` is false in a record of zeros."""


def create_array(group: zarr.Group, header: SceneHeader, spec: ArraySpec) -> zarr.Array:
    """Create an array: maps with one chunk per frame, small values in large chunks."""
    shape = header.shape(spec)
    frames_per_chunk = min(SMALL_CHUNK_FRAMES, shape[0]) if spec.small else 1
    return group.create_array(
        spec.path,
        shape=shape,
        chunks=(frames_per_chunk, *shape[1:]) if spec.axes[0] == "time" else shape,
        dtype=header.dtype(spec),
        compressors=ZstdCodec(level=ZSTD_LEVEL),
        fill_value=0,
        config={"write_empty_chunks": True},  # so that an absent chunk means missing data, not zeros
        dimension_names=[axis if isinstance(axis, str) else None for axis in spec.axes],
        overwrite=True,
    )


class FrameChunks:
    """Frames of an array on disk, one zstd chunk each, read and written without the 2 ms that zarr takes for each."""

    def __init__(self, folder: Path, array: zarr.Array) -> None:
        self._folder, self._shape = folder / SCENE_ZARR / array.path / "c", array.shape[1:]
        self._array, self._dtype, self._codec = array, array.dtype.newbyteorder("<"), Zstd(ZSTD_LEVEL)

    def __setitem__(self, index: int, values: np.ndarray) -> None:
        path = self._path(index)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.partial")
        partial.write_bytes(self._codec.encode(np.ascontiguousarray(values, self._dtype)))
        partial.replace(path)  # a frame is complete or absent

    def __getitem__(self, index: int) -> np.ndarray:
        try:
            data = self._path(index).read_bytes()
        except FileNotFoundError:
            return np.asarray(self._array[index])
        values = np.empty(self._shape, self._dtype)
        self._codec.decode(data, values)
        return values

    def _path(self, index: int) -> Path:
        return self._folder.joinpath(str(index), *("0" for _ in self._shape))


def frame_chunks(folder: Path, array: zarr.Array) -> FrameChunks | zarr.Array:
    """Fast access to the frames of a map; the array itself if it has other codecs, as those of older versions may."""
    codecs = [type(codec).__name__ for codec in array.metadata.codecs]  # pyright: ignore[reportAttributeAccessIssue]
    whole_frames = array.chunks == (1, *array.shape[1:])
    return FrameChunks(folder, array) if codecs == ["BytesCodec", "ZstdCodec"] and whole_frames else array


def remove_frame(folder: Path, spec: ArraySpec, index: int) -> None:
    """Remove an incompletely written frame of a map; zarr leaves partial temporary files beside the chunks."""
    shutil.rmtree(folder / SCENE_ZARR / spec.path / "c" / str(index), ignore_errors=True)


def open_group(folder: Path, mode: Literal["r", "r+"]) -> zarr.Group:
    """Open the `scene.zarr` of a folder."""
    try:
        return open_store(folder / SCENE_ZARR, mode)
    except ValueError as error:
        raise damaged(folder, str(error)) from error


def open_array(folder: Path, group: zarr.Group, header: SceneHeader, spec: ArraySpec, parent: str = "") -> zarr.Array:
    """Open an array below the group `parent` ("" or "name/"), and check its shape and dtype against the header."""
    try:
        path = stored_path(parent + spec.path, group)  # reads the metadata of the array
        array = stored_array(group, path)
    except ValueError as error:
        raise damaged(folder, str(error)) from error
    if array.shape != header.shape(spec) or array.dtype != header.dtype(spec):
        raise damaged(folder, f"the array {path} is not {list(header.shape(spec))} {header.dtype(spec)}")
    return array


def read_small(folder: Path, array: zarr.Array, spec: ArraySpec) -> np.ndarray:
    """Read a whole array of small values and check that none are missing."""
    try:
        values = np.asarray(array[:])
    except Exception as error:  # a damaged chunk can fail with any kind of error
        raise damaged(folder, f"the array {spec.path} cannot be read") from error
    if spec.axes[1:] in ((4, 4), (3, 3)) and not values.any(axis=(1, 2)).all():
        raise damaged(folder, f"values of the array {spec.path} are missing")
    if spec.required and values.dtype.kind == "f" and not np.isfinite(values).all():
        raise damaged(folder, f"values of the array {spec.path} are not finite")
    return values


def damaged(folder: Path, what: str) -> UserError:
    """Error for a scene that does not match its description."""
    return UserError(f"the scene in {folder} is damaged: {what}; make it again with --overwrite")


def read_journal(folder: Path, num_frames: int) -> np.ndarray:
    """Records of the completed frames, at most one each, in increasing order; ignores an incomplete last record."""
    journal = folder / JOURNAL
    if not journal.exists():
        return np.zeros(0, JOURNAL_RECORD)
    records = np.fromfile(journal, JOURNAL_RECORD, count=journal.stat().st_size // JOURNAL_RECORD.itemsize)
    records = records[records["done"] & (records["index"] >= 0) & (records["index"] < num_frames)][::-1]
    return records[np.unique(records["index"], return_index=True)[1]]  # of two records of a frame the later one counts


def cut_torn_record(folder: Path) -> None:
    """Truncate an incomplete last record of the journal, so that the next one is aligned."""
    journal = folder / JOURNAL
    if journal.exists():
        with journal.open("r+b") as file:
            file.truncate(journal.stat().st_size // JOURNAL_RECORD.itemsize * JOURNAL_RECORD.itemsize)
