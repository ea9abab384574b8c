"""Videos of a batch with the scene folder of each, and their outcomes."""

import itertools
import json
import mimetypes
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from st4rtrack.io.files import absolute, matches_of, write_whole
from st4rtrack.io.images import IMAGE_SUFFIXES, images_among, is_animated
from st4rtrack.io.scene import SCENE_JSON, SCENE_ZARR
from st4rtrack.io.scene.description import quality_to_json, read_json
from st4rtrack.io.text import redacted
from st4rtrack.types import QualityReport, UserError


@dataclass(frozen=True)
class Job:
    """Video and its scene folder; both paths are absolute, so that they are valid in every process."""

    name: str
    video: str
    folder: Path


def find_jobs(patterns: Sequence[str], output: Path) -> list[Job]:
    """Find the videos of the patterns, each with its own folder in `output`.

    Args:
        patterns: paths and globs (`**` is any depth). A folder of images is a video; a folder of videos stands for those in it.
        output: folder of all scenes; its content is never taken for a video.
    Returns:
        Jobs in the order of the patterns, matches in natural order, without duplicates. A folder is named like its video; if
        another video of the batch has that name, with its parent folder as prefix (`PARENT_NAME`), then a number as suffix
        (`PARENT_NAME_2`). A folder that already holds a video's scene stays with that video.
    Raises:
        UserError: no pattern, a pattern without match, or single images.
    """
    if not patterns:
        raise UserError("name at least one video, or a glob of videos in quotes")
    output = absolute(output)
    found = [path for pattern in patterns for path in _matches(pattern, output)]
    videos = list(dict.fromkeys(found))
    for video in videos:
        if video.suffix.lower() in IMAGE_SUFFIXES and video.is_file() and not is_animated(video):
            raise UserError(f"{video} is a single image; name the folder of images")
    held = {owner: folder for folder in sorted(output.glob("*"), reverse=True) if (owner := _owner(folder))}
    folders = {video: held[str(video)] for video in videos if str(video) in held}
    taken = set(folders.values())
    for video in videos:
        if video not in folders:
            folders[video] = next(folder for name in _names(video) if (folder := output / name) not in taken)
            taken.add(folders[video])
    return [Job(folders[video].name, str(video), folders[video]) for video in videos]


def _matches(pattern: str, output: Path) -> list[Path]:
    """Absolute paths of the videos that match a path or a glob."""
    path = absolute(pattern)
    literal = path.exists()
    found = [path] if literal else matches_of(path)
    inside = [match for match in found if output not in (match, *match.parents) and (literal or not match.name.startswith("."))]
    videos = [video for match in sorted(inside, key=_natural) for video in _videos_in(match)]
    if not videos:
        raise UserError(f"no video matches {pattern}; check the path" + ("" if literal else ", and put a glob in quotes"))
    return videos


def _videos_in(path: Path) -> list[Path]:
    """Videos of a path: a file or folder of images is one; of another folder, its video files (if none, the folder)."""
    if not path.is_dir() or path.suffix == ".zarr" or (path / SCENE_ZARR).is_dir():
        return [path]
    content = sorted(path.iterdir(), key=_natural)
    if images_among(content):
        return [path]
    kinds = ((entry, mimetypes.guess_type(entry.name)[0] or "") for entry in content if not entry.name.startswith("."))
    return [entry for entry, kind in kinds if kind.startswith("video/") and entry.is_file()] or [path]


def _natural(path: Path) -> list[tuple[int, str]]:
    """Natural sort key: clip2 before clip10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", str(path))]


def _names(video: Path) -> Iterator[str]:
    name = video.name if video.is_dir() and video.suffix != ".zarr" else video.stem
    longer = f"{video.parent.name}_{name}"
    yield from (name, longer)
    yield from (f"{longer}_{number}" for number in itertools.count(2))


def _owner(folder: Path) -> str | None:
    """Video whose scene a folder holds, if any."""
    if not (folder / SCENE_JSON).is_file():
        return None
    try:
        return read_json(folder)["info"]["source"]["video"]
    except (UserError, KeyError, TypeError):
        return None


BATCH_JSON = "batch.json"

State = Literal["made", "already there", "failed", "not finished"]


@dataclass(frozen=True)
class Outcome:
    """Outcome of one video."""

    name: str  # name, video, folder: see `Job`
    video: str
    folder: str
    state: State  # "made": by this call; "already there": by an earlier call; "failed"; "not finished": the batch was stopped
    seconds: float = 0.0  # duration, including opening the video and writing the scene
    frames: int = 0  # number of frames of the scene; 0 without a scene
    frames_made: int = 0  # number of frames made in this call, by the last process of the video
    reason: str | None = None  # cause of the failure, in a sentence
    traceback: str | None = None  # traceback of an internal error
    notes: list[str] = field(default_factory=list)  # warnings of the library
    quality: QualityReport | None = None  # quality report of the scene; `None` without a scene or if it is of an earlier version

    @classmethod
    def of(cls, job: Job, state: State, **values: Any) -> "Outcome":
        """Make the outcome of a job."""
        return cls(job.name, job.video, str(job.folder), state, **values)


@dataclass(frozen=True)
class Status:
    """Progress of a batch."""

    videos: int  # total number of videos
    done: int  # number of videos that ended, successfully or not
    failed: int  # number of videos that failed, of `done`
    share: float  # `done` plus the completed fractions of the running videos
    found: float  # part of `share` that existed before this call
    frames: int  # number of frames made in this call


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
