"""Outcomes of the videos of a batch: single, in total, and as a file."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from st4rtrack.batch.jobs import Job
from st4rtrack.io.files import write_whole
from st4rtrack.io.redaction import redacted
from st4rtrack.io.scene.quality import quality_to_json
from st4rtrack.types import QualityReport

BATCH_JSON = "batch.json"

State = Literal["made", "already there", "failed", "not finished"]


@dataclass(frozen=True)
class Outcome:
    """Outcome of one video.

    Attributes:
        name, video, folder: see `Job`.
        state: "made": by this call; "already there": by an earlier call; "failed"; "not finished": the batch was stopped.
        seconds: duration, including opening the video and writing the scene.
        frames: number of frames of the scene; 0 without a scene.
        frames_made: number of frames made in this call, by the last process of the video.
        reason: cause of the failure, in a sentence.
        traceback: traceback of an internal error.
        notes: warnings of the library.
        quality: quality report of the scene; `None` without a scene or if it is of an earlier version.
    """

    name: str
    video: str
    folder: str
    state: State
    seconds: float = 0.0
    frames: int = 0
    frames_made: int = 0
    reason: str | None = None
    traceback: str | None = None
    notes: list[str] = field(default_factory=list)
    quality: QualityReport | None = None

    @classmethod
    def of(cls, job: Job, state: State, **values: Any) -> "Outcome":
        """Make the outcome of a job."""
        return cls(job.name, job.video, str(job.folder), state, **values)


@dataclass(frozen=True)
class Status:
    """Progress of a batch.

    Attributes:
        videos: total number of videos.
        done: number of videos that ended, successfully or not.
        failed: number of videos that failed, of `done`.
        share: `done` plus the completed fractions of the running videos.
        found: part of `share` that existed before this call.
        frames: number of frames made in this call.
    """

    videos: int
    done: int
    failed: int
    share: float
    found: float
    frames: int


def write_batch_json(output: Path, outcomes: Sequence[Outcome], **facts: Any) -> Path:
    """Write `batch.json`: counts by state, then every video in the order of the batch; `facts` are plain data."""
    counts = Counter(outcome.state for outcome in outcomes)
    path = output / BATCH_JSON
    content = {"format": "st4rtrack batch", "format_version": 1, **facts, "counts": dict(counts)}
    videos = []
    for outcome in outcomes:
        values = asdict(outcome) | {"quality": None if outcome.quality is None else quality_to_json(outcome.quality)}
        videos.append({name: value for name, value in values.items() if value not in (None, [])})
    write_whole(path, (redacted(json.dumps({**content, "videos": videos}, indent=1)) + "\n").encode())
    return path
