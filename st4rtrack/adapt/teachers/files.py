"""Teachers that are files: whatever tool wrote them. Nothing in a file is executed."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from st4rtrack.adapt.priors import TeacherDepth, TeacherTracks
from st4rtrack.adapt.teachers.teacher import require_frames
from st4rtrack.io.known.maps import DEPTH_ARRAYS, DEPTH_SUFFIXES, frame_files, read_map
from st4rtrack.io.known.pixels import SourceSize as SourceSize
from st4rtrack.io.known.pixels import at_network_size, network_from_file
from st4rtrack.io.npz import read_npz
from st4rtrack.types import UserError

QUERY_TOLERANCE = 0.02
"""Median distance of tracks from their queries in the anchor, in image widths: beyond, they are in other pixels, or of another anchor."""


@dataclass(frozen=True)
class FileTracks:
    """Tracks from an `.npz`: `query_px` [N, 2], `tracks_px` [T, N, 2], `visible` [T, N] (bool or 0 and 1).

    Pixels have the centre of the first at (0.5, 0.5). They are those of the network's image, unless the file also has `width` and
    `height`: then they are those of an image of that size, the source video resized, and are scaled (and shifted, where the network
    sees only a part of the source).

    Attributes:
        path: the file.
        source: the source video; without, the network is taken to see all of it.
    Raises:
        UserError: when asked for tracks, if the file is damaged, lacks an array, or one has another shape than the video wants.
    """

    path: Path
    source: SourceSize | None = None
    follows_any = False

    @property
    def name(self) -> str:
        return _file_name(self.path, self.source)

    def tracks(self, rgb: np.ndarray, query_px: np.ndarray, anchor_index: int) -> TeacherTracks:
        """The file's own tracks, whatever points are asked for."""
        require_frames(rgb)
        said = read_npz(self.path)
        for key in ("query_px", "tracks_px", "visible"):
            if key not in said:
                raise UserError(
                    f"{self.path} has no array {key!r}; tracks are query_px [N, 2], tracks_px [T, N, 2] and visible [T, N]"
                )
        tracks, query, visible = said["tracks_px"], said["query_px"], _as_bool(said["visible"], self.path)
        if tracks.ndim != 3 or len(tracks) != len(rgb):
            raise UserError(
                f"tracks_px of {self.path} must be [{len(rgb)}, points, 2] for this video, it is {list(tracks.shape)}"
            )
        if not all(np.issubdtype(array.dtype, np.number) and np.isrealobj(array) for array in (tracks, query)):
            raise UserError(f"tracks_px and query_px of {self.path} must be numbers")
        height, width = rgb.shape[1:3]
        if "width" in said or "height" in said:
            change = network_from_file(_stored_size(said, self.path), (height, width), self.source, self.path)
            tracks, query = (
                change.network_from_source(array) if array.shape[-1:] == (2,) else array for array in (tracks, query)
            )
        found = TeacherTracks(np.asarray(query, np.float64), tracks.astype(np.float32), visible, self.name)
        _require_anchor(found, anchor_index, width, self.path)
        return found


@dataclass(frozen=True)
class FileDepth:
    """z-depth from an `.npz` with `depth` [T, h, w], or from a folder of one `.npy`, `.npz`, 16-bit `.png` or `.tif` [h, w] per
    frame in the order of their names.

    0 is unknown. The image may have another size than the network's; it is then the source video resized, read at the nearest pixel.
    The `.npz` may also have `world_from_camera` [T, 4, 4], NaN where unknown.

    Attributes:
        path: the file or folder.
        source: the source video; without, the network is taken to see all of it.
    Raises:
        UserError: when asked for depth, if a file is damaged, of another shape than the video wants, or NaN or negative somewhere.
    """

    path: Path
    source: SourceSize | None = None

    @property
    def name(self) -> str:
        return _file_name(self.path, self.source)

    def depth(self, rgb: np.ndarray, anchor_index: int) -> TeacherDepth:
        """The file's depth at network size."""
        require_frames(rgb)
        said = _depth_of_folder(self.path) if self.path.is_dir() else read_npz(self.path)
        if "depth" not in said:
            raise UserError(f"{self.path} has no array 'depth'; it has {', '.join(said) or 'none'}")
        depth = said["depth"]
        if depth.ndim != 3 or len(depth) != len(rgb) or 0 in depth.shape:
            raise UserError(f"depth of {self.path} must be [{len(rgb)}, height, width] for this video, it is {list(depth.shape)}")
        if not np.issubdtype(depth.dtype, np.number) or not np.isrealobj(depth):
            raise UserError(f"depth of {self.path} must be numbers, it is {depth.dtype}")
        depth = at_network_size(depth, rgb.shape[1:3], self.source, self.path)
        cameras = said.get("world_from_camera")
        if cameras is not None and cameras.dtype.kind not in "biuf":
            raise UserError(f"world_from_camera of {self.path} must be numbers, it is {cameras.dtype}")
        return TeacherDepth(depth.astype(np.float32), self.name, None if cameras is None else cameras.astype(np.float64))


def _depth_of_folder(folder: Path) -> dict[str, np.ndarray]:
    paths = frame_files(folder, DEPTH_SUFFIXES)
    if not paths:
        raise UserError(
            f"{folder} holds no {', '.join(sorted(DEPTH_SUFFIXES))} file, and so no depth; name the folder of one file per frame"
        )
    frames = [read_map(path, DEPTH_ARRAYS, "depth") for path in paths]
    if len({frame.shape for frame in frames}) > 1:
        raise UserError(f"the files in {folder} have different shapes; depth of a video has one [height, width]")
    return {"depth": np.stack(frames)}


def _stored_size(said: dict[str, np.ndarray], path: Path) -> tuple[int, int]:
    try:
        size = (int(said["height"].item()), int(said["width"].item()))
    except (KeyError, ValueError, TypeError, OverflowError):
        raise UserError(f"{path} must have both width and height, one whole number of pixels each") from None
    if min(size) < 1:
        raise UserError(f"{path} says that its image has {size[1]}x{size[0]} pixels; each must be at least 1")
    return size


def _as_bool(visible: np.ndarray, path: Path) -> np.ndarray:
    if visible.dtype != np.bool_ and not np.isin(visible, (0, 1)).all():
        raise UserError(f"visible of {path} must be bool, or 0 and 1")
    return visible.astype(bool)


def _require_anchor(tracks: TeacherTracks, anchor_index: int, width: int, path: Path) -> None:
    """The tracks start at their queries."""
    seen = tracks.visible[anchor_index]
    away = np.linalg.norm(tracks.tracks_px[anchor_index] - tracks.query_px, axis=-1)[seen]
    if not seen.any():
        raise UserError(
            f"no point of {path} is visible in frame {anchor_index}, the anchor; its queries must be points of that frame"
        )
    if np.median(away) > QUERY_TOLERANCE * width:
        raise UserError(
            f"tracks of {path} are {np.median(away):.1f} pixels away from query_px in frame {anchor_index}, the anchor; "
            "are both in the same pixels, and of this anchor?"
        )


def _file_name(path: Path, source: SourceSize | None) -> str:
    """The path, and what is in it and how it is read: another content or another cut is another teacher."""
    digest = hashlib.sha256(repr(source).encode())
    for part in frame_files(path, DEPTH_SUFFIXES) if path.is_dir() else [path]:
        digest.update(part.read_bytes())
    return f"{path.name} ({digest.hexdigest()[:12]})"
