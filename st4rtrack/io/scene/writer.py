"""Resumable writer of scenes to disk.

Maps (arrays with height and width) are stored immediately, one chunk per frame. The small values of a frame (time, camera) are
appended to the journal as one record after its maps, so a run may be killed at any point. `finish` converts the journal to arrays
in large chunks.
"""

from pathlib import Path
from typing import Literal, Unpack

import numpy as np
import zarr

from st4rtrack.io.lock import FolderLock
from st4rtrack.io.scene.anchors import AnchorStore
from st4rtrack.io.scene.arrays import (
    SCENE_ZARR,
    FrameChunks,
    create_array,
    frame_chunks,
    open_array,
    open_group,
    read_small,
    remove_frame,
)
from st4rtrack.io.scene.description import write_json
from st4rtrack.io.scene.folder import make_folder, prepare_folder
from st4rtrack.io.scene.header import SceneHeader
from st4rtrack.io.scene.journal import JOURNAL, cut_torn_record, read_journal
from st4rtrack.io.scene.load import load_scene
from st4rtrack.io.scene.sink import FinalFields, SceneSink
from st4rtrack.io.scene.space import require_space, scene_bytes
from st4rtrack.io.scene.table import ArraySpec
from st4rtrack.scene import Scene
from st4rtrack.timing import timed


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
        self.folder, self._lock = lock.folder, lock
        folder = lock.folder
        self.complete = state == "done"
        if state == "new":
            write_json(folder, header, complete=False)
        if state == "continue":
            self._rows = read_journal(folder, header.num_frames)
            cut_torn_record(folder / JOURNAL)
        if not self.frames_done.any() and not self.complete:
            # The arrays themselves may be incomplete: create them again.
            (folder / JOURNAL).unlink(missing_ok=True)
            self._group = zarr.open_group(store=folder / SCENE_ZARR, mode="w", zarr_format=3)
            arrays = {spec.field: create_array(self._group, header, spec) for spec in header.specs if not spec.small}
            self._maps = {name: frame_chunks(folder, array) for name, array in arrays.items()}
            self.anchors = AnchorStore(self._group, header, folder)
            return
        self._group = open_group(folder, "r" if self.complete else "r+")
        arrays = {spec.field: open_array(folder, self._group, header, spec) for spec in header.specs if not spec.small}
        self._maps = {name: frame_chunks(folder, array) for name, array in arrays.items()}
        if not self.complete:
            self._remove_torn_frames()
            self.anchors = AnchorStore(self._group, header, folder, goes_on=True)
        else:
            self.close()  # nothing is left to write
            self._rows["done"] = True
            for spec in header.specs:
                if spec.small:
                    self._rows[spec.field] = read_small(folder, open_array(folder, self._group, header, spec), spec)

    def _require_open(self) -> None:
        super()._require_open()
        self._lock.require_folder()

    def close(self) -> None:
        self._lock.release()

    @timed("write")
    def finish(self, **final: Unpack[FinalFields]) -> Scene:
        if not self.complete:
            self._lock.require_folder()
            deferred = self._end(final)
            for spec in self.header.specs:
                if spec.small:
                    create_array(self._group, self.header, spec)[:] = self._rows[spec.field]
            anchors = self.anchors.frames
            write_json(self.folder, self.header, complete=True, deferred=deferred, anchors=anchors, quality=self._quality)
            self.anchors.finish()
            (self.folder / JOURNAL).unlink(missing_ok=True)
            self.complete = True
            self.close()
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
