"""Track teacher that reads 2D tracks of any tool from `.npz` files. Nothing in a file is executed."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from st4rtrack.adapt.priors import TeacherTracks
from st4rtrack.io.known.matching import SourceSize, network_from_file
from st4rtrack.io.npz import read_npz
from st4rtrack.types import UserError

QUERY_TOLERANCE = 0.02
"""Maximum median distance of tracks from their queries in the anchor, in image widths; more indicates wrong pixels or anchor."""


@dataclass(frozen=True)
class FileTracks:
    """Tracks from an `.npz`: `query_px` [N, 2], `tracks_px` [T, N, 2], `visible` [T, N] (bool or 0 and 1).

    The centre of the first pixel is (0.5, 0.5). Pixels are those of the network image, unless the file also has `width` and
    `height`: then they are those of the source video resized to that size, and are scaled (and shifted, if the network image is a
    crop of the source).

    Attributes:
        path: path of the file.
        source: size and crop of the source video; without it, the network image is assumed to cover the whole source.
    Raises:
        UserError: in `tracks`, if the file is damaged, lacks an array, or an array has the wrong shape for the video.
    """

    path: Path
    source: SourceSize | None = None
    follows_any = False

    @property
    def name(self) -> str:
        """File name, with the hash of content and source crop."""
        content = repr(self.source).encode() + self.path.read_bytes()
        return f"{self.path.name} ({hashlib.sha256(content).hexdigest()[:12]})"

    def tracks(self, rgb: np.ndarray, query_px: np.ndarray, anchor_index: int) -> TeacherTracks:
        """Read the tracks of the file; `query_px` is ignored."""
        stored = read_npz(self.path)
        for key in ("query_px", "tracks_px", "visible"):
            if key not in stored:
                raise UserError(
                    f"{self.path} has no array {key!r}; it needs query_px [N, 2], tracks_px [T, N, 2] and visible [T, N]"
                )
        tracks, query, visible = stored["tracks_px"], stored["query_px"], stored["visible"]
        if visible.dtype != np.bool_ and not np.isin(visible, (0, 1)).all():
            raise UserError(f"visible of {self.path} must be bool or contain only 0 and 1")
        if tracks.ndim != 3 or len(tracks) != len(rgb):
            raise UserError(f"tracks_px of {self.path} must be [{len(rgb)}, points, 2] for this video, got {list(tracks.shape)}")
        if not all(np.issubdtype(array.dtype, np.number) and np.isrealobj(array) for array in (tracks, query)):
            raise UserError(f"tracks_px and query_px of {self.path} must be numbers")
        height, width = rgb.shape[1:3]
        if "width" in stored or "height" in stored:
            change = network_from_file(_stored_size(stored, self.path), (height, width), self.source, self.path)
            tracks, query = (
                change.network_from_source(array) if array.shape[-1:] == (2,) else array for array in (tracks, query)
            )
        found = TeacherTracks(np.asarray(query, np.float64), tracks.astype(np.float32), visible.astype(bool), self.name)
        _require_anchor(found, anchor_index, width, self.path)
        return found


def _stored_size(stored: dict[str, np.ndarray], path: Path) -> tuple[int, int]:
    try:
        size = (int(stored["height"].item()), int(stored["width"].item()))
    except (KeyError, ValueError, TypeError, OverflowError):
        raise UserError(f"{path} must have both width and height, one whole number of pixels each") from None
    if min(size) < 1:
        raise UserError(f"width and height of {path} must be at least 1, got {size[1]}x{size[0]}")
    return size


def _require_anchor(tracks: TeacherTracks, anchor_index: int, width: int, path: Path) -> None:
    """Raise `UserError` unless the tracks start at their queries in the anchor."""
    seen = tracks.visible[anchor_index]
    away = np.linalg.norm(tracks.tracks_px[anchor_index] - tracks.query_px, axis=-1)[seen]
    if not seen.any():
        raise UserError(
            f"no point of {path} is visible in frame {anchor_index}, the anchor; its queries must be points of that frame"
        )
    if np.median(away) > QUERY_TOLERANCE * width:
        raise UserError(
            f"tracks of {path} are {np.median(away):.1f} pixels away from query_px in frame {anchor_index}, the anchor; "
            "check that both use the same pixels and this anchor"
        )
