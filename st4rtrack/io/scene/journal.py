"""Journal of completed frames: `frames.journal`, which exists while a scene is incomplete.

One fixed-size record per frame, appended after the maps of the frame are stored; it marks the frame as done.
"""

from pathlib import Path

import numpy as np

from st4rtrack.io.scene.table import ARRAYS

JOURNAL = "frames.journal"
JOURNAL_RECORD = np.dtype(
    [("index", "<i8"), ("done", "?")]
    + [(spec.field, np.dtype(spec.dtype).newbyteorder("<"), spec.axes[1:]) for spec in ARRAYS if spec.small]
)
"""Small values of a frame, also the record of the journal. `done` is false in a record of zeros."""


def read_journal(folder: Path, num_frames: int) -> np.ndarray:
    """Read the records [time] of the completed frames, zeros elsewhere; ignores an incomplete last record."""
    rows, records = np.zeros(num_frames, JOURNAL_RECORD), _records(folder, num_frames)
    rows[records["index"]] = records  # of two records of a frame the later one counts
    return rows


def count_done(folder: Path, num_frames: int) -> int:
    """Number of completed frames in the journal."""
    return len(np.unique(_records(folder, num_frames)["index"]))


def cut_torn_record(journal: Path) -> None:
    """Truncate an incomplete last record, so that the next one is aligned."""
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
