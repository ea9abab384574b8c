"""Which frames are done: `frames.journal`, which exists while a scene is incomplete.

One fixed-size record per frame, appended when the frame's maps are stored: the record is what says that a frame is done.
"""

from pathlib import Path

import numpy as np

from st4rtrack.io.scene.table import ARRAYS

JOURNAL = "frames.journal"
JOURNAL_RECORD = np.dtype(
    [("index", "<i8"), ("done", "?")]
    + [(spec.field, np.dtype(spec.dtype).newbyteorder("<"), spec.axes[1:]) for spec in ARRAYS if spec.small]
)
"""What is kept of a frame beside its maps; also the record of the journal. `done` is false in a record of zeros."""


def read_journal(folder: Path, num_frames: int) -> np.ndarray:
    """[time] records of the frames that are done, zeros elsewhere; a record that was not written whole does not count."""
    rows, records = np.zeros(num_frames, JOURNAL_RECORD), _records(folder, num_frames)
    rows[records["index"]] = records  # of two records of a frame the later one counts
    return rows


def count_done(folder: Path, num_frames: int) -> int:
    """How many frames the journal says are done."""
    return len(np.unique(_records(folder, num_frames)["index"]))


def cut_torn_record(journal: Path) -> None:
    """Cuts off a record that was not written whole, so that the next one lines up."""
    if journal.exists():
        with journal.open("r+b") as file:
            file.truncate(journal.stat().st_size // JOURNAL_RECORD.itemsize * JOURNAL_RECORD.itemsize)


def _records(folder: Path, num_frames: int) -> np.ndarray:
    journal = folder / JOURNAL
    if not journal.exists():
        return np.zeros(0, JOURNAL_RECORD)
    whole = journal.stat().st_size // JOURNAL_RECORD.itemsize
    records = np.fromfile(journal, JOURNAL_RECORD, count=whole)
    return records[records["done"] & (records["index"] >= 0) & (records["index"] < num_frames)]
