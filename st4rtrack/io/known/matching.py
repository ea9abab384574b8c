"""Assignment of files to a video: rows to frames (by number, time, name or count), pixels to network pixels."""

import hashlib
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from st4rtrack.geometry.camera import pixel_grid
from st4rtrack.geometry.sampling import inside_image, nearest_pixel
from st4rtrack.io.images import images_among
from st4rtrack.io.known.matrices import nearest_time
from st4rtrack.types import PixelMap, UserError, Video

logger = logging.getLogger(__name__)

LARGEST_GAP_S = 0.02
"""Maximum time difference between a frame and its row; half the frame interval if that is smaller."""
HEAD_BYTES = 1 << 16


def rows_by_count(count: int, video: Video, label: str) -> np.ndarray:
    """Row index [T] for a file with one row per source frame or one row per processed frame.

    Raises:
        UserError: the file (`label`) has another number of rows.
    """
    last = int(video.frame_index[-1])
    if count > last:
        return np.asarray(video.frame_index)
    if count == len(video):
        return np.arange(count)
    raise UserError(
        f"{label} is of {count} frames, but the video goes to frame {last} and {len(video)} of its frames are processed; "
        "give one entry per source frame, or one per processed frame (after --start, --stop, --stride and --fps)"
    )


def rows_by_number(numbers: np.ndarray, video: Video) -> np.ndarray:
    """Row index [T] by source frame number; -1 where there is none."""
    row_of = {int(number): row for row, number in enumerate(numbers)}
    return np.array([row_of.get(int(frame), -1) for frame in video.frame_index])


def rows_by_time(time_s: np.ndarray, video: Video) -> np.ndarray:
    """Row index [T] by nearest timestamp, -1 if none is near; integers beyond the video's end are source frame numbers."""
    if len(time_s) > 1 and (time_s == np.floor(time_s)).all() and time_s.max() > video.time_s[-1]:
        return rows_by_number(time_s, video)
    interval = float(np.median(np.diff(video.time_s))) if len(video) > 1 else np.inf
    row, gap_s = nearest_time(np.asarray(video.time_s, np.float64), time_s)
    return np.where(gap_s <= min(LARGEST_GAP_S, 0.5 * interval), row, -1)


def rows_by_name(names: Sequence[str], video: Video, label: str) -> np.ndarray:
    """Row index [T] by image name if the video is a folder of images, else by the last number in the name.

    These numbers are source frame numbers that start at 0, or at 1 if the smallest is 1 (as written by many tools). Of images of
    several videos, those in a folder named as the video count, or named as the video before the number.

    Raises:
        UserError: a name has no number, or two have the same.
    """
    numbered = re.compile(rf"{re.escape(video.name)}[-_. ]\d+")
    paths = [Path(name) for name in names]
    own = [row for row, path in enumerate(paths) if video.name in path.parts[:-1] or numbered.fullmatch(path.stem)]
    if own and len(own) < len(names):
        rows = rows_by_name([names[row] for row in own], video, label)
        return np.where(rows >= 0, np.array(own)[rows], -1)
    folder = Path(video.source)
    if folder.is_dir() and (images := images_among(folder.iterdir())):
        row_of = {Path(name).stem: row for row, name in enumerate(names)}
        if len(row_of) < len(names):
            raise _of_several_videos(video, label)
        rows = np.array([row_of.get(images[frame].stem, -1) for frame in video.frame_index])
        if (rows >= 0).any():
            return rows
    found = [re.findall(r"\d+", path.stem) for path in paths]
    for name, digits in zip(names, found, strict=True):
        if not digits:
            raise UserError(f"image {name!r} of {label} has no frame number in its name; name it like frame_000012.png")
    numbers = np.array([int(digits[-1]) for digits in found])
    if len(set(numbers.tolist())) < len(numbers):
        raise _of_several_videos(video, label)
    if numbers.min() == 1:
        logger.info("the images of %s count from 1: %s is the first frame of the video", label, names[int(numbers.argmin())])
        numbers = numbers - 1
    return rows_by_number(numbers, video)


def _of_several_videos(video: Video, label: str) -> UserError:
    return UserError(
        f"{label} has several images of one frame number; if they are of several videos, "
        f"those of this one must be in a folder called {video.name!r}"
    )


def described(path: Path) -> str:
    """Name of a file or folder with a digest of its content: names, sizes and the first 64 KiB of each file."""
    digest = hashlib.sha256()
    for part in sorted(each for each in path.rglob("*") if each.is_file()) if path.is_dir() else [path]:
        digest.update(f"{part.relative_to(path)} {part.stat().st_size}".encode())
        with part.open("rb") as file:
            digest.update(file.read(HEAD_BYTES))
    return f"{path.name} ({digest.hexdigest()[:12]})"


ASPECT_TOLERANCE = 0.02
PATCH_PX = 14
"""Networks with DINOv2 features resize images to multiples of this size, which changes the aspect ratio."""
LARGEST_CROP = 0.2
"""Maximum share of the width that a centre crop leaves out; more is an image that is padded to a square."""


@dataclass(frozen=True)
class SourceSize:
    """Size of the source video and its map to network pixels."""

    height: int  # height, width: source size in pixels
    width: int
    pixel_map: PixelMap  # map from source pixels to network pixels


def network_from_file(
    file: tuple[int, int], network: tuple[int, int], source: SourceSize | None, path: Path | str, *, cropped: bool = False
) -> PixelMap:
    """Map from pixels of a file's image to network pixels: a scale, and an offset if one of them is a crop of the source.

    Args:
        file, network: (height, width).
        source: the source that the file's image shows; if `None`, the network uses the whole image.
        path: path of the file, for the message.
        cropped: whether the file's image is a centre crop of the source, scaled uniformly, of its full width or height.
    Raises:
        UserError: the aspect ratio of the file's image differs from that of the source.
    """
    of = (source.height, source.width) if source is not None else network
    if file == network and not _distorted(file, source):
        return PixelMap()
    scale, offset_px = (of[1] / file[1], of[0] / file[0]), (0.0, 0.0)
    if cropped:
        scale = (min(scale), min(scale))
        offset_px = ((of[1] - scale[0] * file[1]) / 2, (of[0] - scale[1] * file[0]) / 2)
    if 2 * offset_px[0] > LARGEST_CROP * of[1] or not (cropped or _is_resized(file, of)):
        sizes = f"{file[1]}x{file[0]} pixels, which has another aspect ratio than {of[1]}x{of[0]}"
        raise UserError(f"{path} is for {sizes}; use files of whole frames")
    return PixelMap(scale, offset_px).then(source.pixel_map if source is not None else PixelMap())


def _distorted(file: tuple[int, int], source: SourceSize | None) -> bool:
    """Whether a file of this size shows the source images with their lens distortion."""
    return source is not None and source.pixel_map.lens is not None and file == (source.height, source.width)


def _is_resized(file: tuple[int, int], of: tuple[int, int]) -> bool:
    """Whether two sizes (height, width) have the same aspect ratio, up to rounding of a side to whole patches."""
    off_px = min(abs(file[0] - file[1] * of[0] / of[1]), abs(file[1] - file[0] * of[1] / of[0]))
    patches = file[0] % PATCH_PX == file[1] % PATCH_PX == 0 and off_px <= PATCH_PX / 2
    return patches or abs(np.log((file[1] / file[0]) / (of[1] / of[0]))) <= ASPECT_TOLERANCE


def at_network_size(
    maps: np.ndarray, network: tuple[int, int], source: SourceSize | None, path: Path | str, *, cropped: bool = False
) -> np.ndarray:
    """Resample maps [..., h, w] to network size (height, width) by nearest neighbour; 0 outside the maps' image.

    Interpolation would create depths between foreground and background. `cropped` and errors: see `network_from_file`.
    """
    file = (maps.shape[-2], maps.shape[-1])
    if file == network and not _distorted(file, source):
        return maps
    pixels_px = network_from_file(file, network, source, path, cropped=cropped).source_from_network(pixel_grid(*network))
    row, column = nearest_pixel(pixels_px, *file)
    return np.where(inside_image(pixels_px, *file), maps[..., row, column], np.zeros((), maps.dtype))
