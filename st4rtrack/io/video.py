"""Opens any source of frames as a `Video`: video files, images, arrays, `.npz` sequences, scenes.

The whole source is opened, then `start`, `stop`, `fps` and `stride` select frames. Frames are decoded when they are read. They
are upright 8-bit RGB with square pixels: anamorphic video is resampled, high dynamic range is tone-mapped (docs/inputs.md).
"""

import math
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from st4rtrack.io.files import expanded, matches_of
from st4rtrack.io.frames import FrameReader, frames_of, whole_video
from st4rtrack.io.images import IMAGE_SUFFIXES, images_among, is_animated, open_animation, open_encoded_images, open_images
from st4rtrack.io.memory import MAX_PIXELS
from st4rtrack.io.npz import npz_keys, read_npz
from st4rtrack.io.video_file import open_video_file
from st4rtrack.io.video_writer import write_video as write_video
from st4rtrack.types import UserError, Video

DEFAULT_FPS = 30.0
"""Default frames per second of sources without timestamps: images, arrays, `.npz` sequences."""

_CLOCK_TICK_S = 1e-3  # coarsest time base of common containers, the largest rounding error of a timestamp


def open_video(
    source: Any,
    *,
    start: int | str | None = None,
    stop: int | str | None = None,
    stride: int = 1,
    fps: float | None = None,
) -> Video:
    """Open a monocular video for reading.

    Args:
        source: a video file; a folder or glob of images (in natural order; other files are ignored); an array
            [time, height, width, 3] uint8, or a list of [height, width, 3]; a `Video`; an `.npz` with `images_jpeg_bytes`
            (WorldTrack) or `rgb` (held in memory); a scene folder or its `scene.zarr`.
        start: first frame: frame number in the source, or seconds with an `s` ("2.5s").
        stop: exclusive end: frame number, or seconds with an `s`; values beyond the end mean the end.
        stride: keeps every n-th of the remaining frames.
        fps: drops frames to about this rate by their timestamps; no frames are interpolated. Sources without timestamps (images,
            arrays, `.npz` without `time_s`) have this rate instead (default 30), unless the image names are timestamps.
    Returns:
        The selected frames, upright (rotation metadata is applied), with square pixels, in BT.709 colours.
    Raises:
        UserError: the source is absent, has no frames or cannot be decoded, or the selection is empty or invalid.
    """
    if isinstance(stride, bool) or not isinstance(stride, int | np.integer) or stride < 1:
        raise UserError(f"stride must be a whole number of frames, 1 or more, not {stride!r}")
    if fps is not None and (isinstance(fps, bool | str) or not math.isfinite(fps) or fps <= 0):
        raise UserError(f"fps must be a number of frames per second above 0, not {fps!r}")
    video = _open_whole(source, DEFAULT_FPS if fps is None else float(fps))
    chosen = _choose(video, start, stop, int(stride), fps)
    if len(chosen) == len(video):
        return video
    frames_at = video.read.at if isinstance(video.read, FrameReader) else frames_of(video)
    return replace(video, time_s=video.time_s[chosen], frame_index=video.frame_index[chosen], read=FrameReader(frames_at, chosen))


def _choose(video: Video, start: int | str | None, stop: int | str | None, stride: int, fps: float | None) -> np.ndarray:
    first = 0 if start is None else frame_position(video.frame_index, video.time_s, "start", start)
    last = len(video) if stop is None else frame_position(video.frame_index, video.time_s, "stop", stop)
    if first >= len(video):
        end = f"its last frame is {video.frame_index[-1]}, at {video.time_s[-1]:.2f} s"
        raise UserError(f"start {start} is beyond the end of {video.source}: {end}")
    if last <= first:
        raise UserError(f"{video.source} has no frame from start {start or 0} to before stop {stop}; stop must come after start")
    chosen = np.arange(first, last)
    if fps is not None:  # keep the first frame in each interval of 1 / fps
        time_s = video.time_s[first:last] - video.time_s[first]
        interval = np.floor((time_s + min(_CLOCK_TICK_S, 0.1 / fps)) * fps)
        chosen = chosen[np.diff(interval, prepend=-1) > 0]
    return chosen[::stride]


def frame_position(frame_index: np.ndarray, time_s: np.ndarray, what: str, value: int | str) -> int:
    """Position of the first frame at or after a frame number ("30") or a time ("2.5s"), the value of option `what`."""
    text = str(value).strip()
    if not isinstance(value, bool) and re.fullmatch(r"\d+", text):
        return int(np.searchsorted(frame_index, int(text)))
    if re.fullmatch(r"(\d+\.?\d*|\.\d+)\s*s", text):
        return int(np.searchsorted(time_s, float(text[:-1]) - 1e-6))
    raise UserError(f"{what} must be a frame number (30) or seconds with an s (2.5s), not negative, got {value!r}")


def _open_whole(source: Any, rate: float) -> Video:
    if isinstance(source, Video):
        if len(source) == 0:
            raise UserError(f"{source.source} has no frames")
        return source
    if isinstance(source, str | Path):
        return _open_path(source, rate)
    if isinstance(source, list | tuple) or (hasattr(source, "shape") and hasattr(source, "dtype")):
        return _open_array(source, name="array", source="array", rate=rate)
    raise UserError(f"a video is a path, an array [time, height, width, 3] uint8 or a Video, not {type(source).__name__}")


def _open_path(source: str | Path, rate: float) -> Video:
    path = expanded(source)
    if not _exists(path):
        if re.search(r"[*?\[]", str(path)):
            return open_images(images_among(_matches(path, source)), str(source), rate)
        raise UserError(f"{source} does not exist; check the path")
    if not path.is_file() and not path.is_dir():
        raise UserError(f"{source} is neither a file nor a folder; a video is read more than once, so save it to a file first")
    if not os.access(path, os.R_OK):
        raise UserError(f"{source} is not readable; change its permissions")
    if path.is_dir():
        store = path / "scene.zarr" if (path / "scene.zarr").is_dir() else path
        if store.suffix == ".zarr":
            return _open_zarr(store, str(source), rate)
        return open_images(images_among(path.iterdir()), str(source), rate)
    if path.stat().st_size == 0:
        raise UserError(f"{source} is empty; fetch or copy it again")
    if path.suffix.lower() == ".npz":
        return _open_npz(path, str(source), rate)
    if path.suffix.lower() == ".zip":
        raise UserError(f"{source} is a zip archive; unpack it and give the folder")
    if path.suffix.lower() in IMAGE_SUFFIXES and is_animated(path):
        return open_animation(path, str(source), rate)
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return replace(open_images([path], str(source), rate), name=path.stem)
    return open_video_file(path, str(source))


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # invalid file name, for example too long
        return False


def _matches(path: Path, source: str | Path) -> list[Path]:
    try:
        return matches_of(path)
    except (ValueError, OSError, NotImplementedError, re.error):
        raise UserError(f"{source} is not a valid glob pattern; give one such as 'folder/*.png'") from None


def _open_array(frames: Any, *, name: str, source: str, rate: float, time_s: np.ndarray | None = None) -> Video:
    """Open frames in memory, or arrays whose frames are read from disk as `frames[i]` (zarr, memory maps)."""
    if isinstance(frames, list | tuple):
        count, kinds = len(frames), {(np.shape(frame), getattr(frame, "dtype", None)) for frame in frames}
    else:
        count, kinds = (*frames.shape, 0)[0], {(tuple(frames.shape[1:]), frames.dtype)}
    shape, dtype = next(iter(kinds), ((), None))
    if len(kinds) != 1 or len(shape) != 3 or shape[2] != 3 or 0 in (count, *shape) or dtype != np.uint8:
        found = " and ".join(f"{list(shape)} {dtype}" for shape, dtype in kinds) or "nothing"
        raise UserError(f"frames of {source} must be [height, width, 3] uint8 RGB of one size; it has {count} of {found}")
    if time_s is None:
        time_s = np.arange(count) / rate
    elif time_s.shape != (count,) or not np.isfinite(time_s).all() or not (np.diff(time_s) > 0).all():
        raise UserError(f"time_s of {source} must be one increasing time for each of its {count} frames")

    def frames_at(indices: Sequence[int]) -> Iterator[np.ndarray]:
        return (np.ascontiguousarray(frames[i]) for i in indices)

    return whole_video(name, source, shape[0], shape[1], time_s, frames_at)


def _open_npz(path: Path, source: str, rate: float) -> Video:
    keys = npz_keys(path)
    time_s = read_npz(path, "time_s")["time_s"] if "time_s" in keys else None
    if time_s is not None and time_s.dtype.kind not in "iuf":
        raise UserError(f"time_s of {source} must be numbers of seconds, it is {time_s.dtype}")
    if "images_jpeg_bytes" in keys:
        stored = read_npz(path, "images_jpeg_bytes")["images_jpeg_bytes"]
        if stored.dtype.kind not in "SO":
            raise UserError(f"images_jpeg_bytes of {source} must be byte strings, it is {stored.dtype}")
        images = [bytes(image) for image in stored.ravel()]
        labels = [f"image {i} of {source}" for i in range(len(images))]
        return open_encoded_images(images.__getitem__, labels, path.stem, source, rate)
    if "rgb" in keys:
        return _open_array(read_npz(path, "rgb")["rgb"], name=path.stem, source=source, rate=rate, time_s=time_s)
    raise UserError(f"{source} is not a video: it has neither images_jpeg_bytes nor rgb; it has {', '.join(keys) or 'nothing'}")


def _open_zarr(path: Path, source: str, rate: float) -> Video:
    from st4rtrack.io.lazy import (
        LazyArray,  # zarr is slow to import and rarely needed here
        open_store,
        stored_array,
    )

    try:
        group = open_store(path)
        rgb = LazyArray(stored_array(group, "rgb"), source=path)
        time_s = np.asarray(LazyArray(stored_array(group, "time_s"), source=path), np.float64) if "time_s" in group else None
    except (ValueError, IndexError) as error:
        raise UserError(f"{source} is not a scene with an array rgb ({error}); give the folder of st4rtrack run") from error
    if math.prod(rgb.shape[1:3]) > MAX_PIXELS:
        raise UserError(f"frames of {source} have {list(rgb.shape[1:3])} pixels, more than {MAX_PIXELS}; is it damaged?")
    name = path.resolve().parent.name if path.name == "scene.zarr" else path.stem
    return _open_array(rgb, name=name, source=source, rate=rate, time_s=time_s)
