"""What came of the videos of a batch: one by one, together, and as a file."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from st4rtrack.batch.jobs import Job
from st4rtrack.io.files import write_whole
from st4rtrack.io.private import without_secrets
from st4rtrack.io.scene.quality import quality_to_json
from st4rtrack.types import QualityReport

BATCH_JSON = "batch.json"

State = Literal["made", "already there", "failed", "not finished"]


@dataclass(frozen=True)
class Outcome:
    """What came of one video.

    Attributes:
        name, video, folder: see `Job`.
        state: "made" (or finished) now, "already there" since an earlier call, "failed", or "not finished" when the batch was stopped.
        seconds: that it took, opening and writing included.
        frames: of the scene; 0 where there is none.
        frames_made: of them in this call, by the process that ended the video.
        reason: why it failed, in a sentence.
        traceback: of a fault that is not the user's.
        notes: warnings of the library.
        quality: report of the scene; `None` where there is no scene or it is of an earlier version.
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
        """The outcome of a job."""
        return cls(job.name, job.video, str(job.folder), state, **values)


@dataclass(frozen=True)
class Status:
    """Where a batch stands.

    Attributes:
        videos: in all.
        done: videos that are at their end, well or not.
        failed: videos, of those.
        share: `done`, and the done part of those under way.
        found: how much of `share` was there before this call.
        frames: made in this call.
    """

    videos: int
    done: int
    failed: int
    share: float
    found: float
    frames: int


def write_batch_json(output: Path, outcomes: Sequence[Outcome], **facts: Any) -> Path:
    """Writes `batch.json`: counts by state, then every video in the order of the batch; `facts` are plain data."""
    counts = Counter(outcome.state for outcome in outcomes)
    path = output / BATCH_JSON
    content = {"format": "st4rtrack batch", "format_version": 1, **facts, "counts": dict(counts)}
    videos = []
    for outcome in outcomes:
        values = asdict(outcome) | {"quality": None if outcome.quality is None else quality_to_json(outcome.quality)}
        videos.append({name: value for name, value in values.items() if value not in (None, [])})
    write_whole(path, (without_secrets(json.dumps({**content, "videos": videos}, indent=1)) + "\n").encode())
    return path
