"""Reader of query points and writer of their tracks, as CSV and npz."""

import codecs
import csv
from pathlib import Path

import numpy as np

from st4rtrack.io.npz import npz_keys, read_npz
from st4rtrack.scene import Scene, Tracks
from st4rtrack.types import UserError, Video

_COLUMNS = (("u", "x", "u_px", "x_px"), ("v", "y", "v_px", "y_px"), ("frame", "frame_index", "t"))
"""Accepted column names in the header of a CSV file, per coordinate."""


def read_queries(path: Path, video: Video | None = None) -> np.ndarray:
    """Read query points from a CSV or npz file.

    Args:
        path: CSV with columns u,v or u,v,frame (in any order if there is a header; semicolons with decimal commas and UTF-16
            are supported), or npz with `queries` [points, 2 or 3] or `u`, `v` and optionally `frame`.
            u, v are pixels of the source video.
        video: video that must contain the points; `None`: not checked.
    Returns:
        [points, 2] or [points, 3] float64.
    Raises:
        UserError: the file is missing or does not hold query points, or a pixel or frame index lies outside the video.
    """
    if not path.is_file():
        raise UserError(f"there is no query file {path}; check the path")
    queries = _read_npz(path) if path.suffix == ".npz" else _read_csv(path)
    if queries.ndim == 2 and not np.isfinite(queries).all():
        row = int((~np.isfinite(queries).all(axis=1)).argmax())
        raise UserError(f"point {row} of {path} is not finite ({', '.join(map(str, queries[row]))}); remove it")
    if queries.ndim != 2 or queries.shape[1] not in (2, 3) or len(queries) == 0:
        raise UserError(f"{path} must hold rows of two numbers u,v (or three: u,v,frame), got the shape {list(queries.shape)}")
    if video is not None:
        _require_inside(queries, video)
    return queries


def _require_inside(queries: np.ndarray, video: Video) -> None:
    outside = ~((queries[:, :2] >= 0) & (queries[:, :2] <= (video.width, video.height))).all(axis=1)
    if outside.any():
        u, v = queries[outside][0, :2]
        raise UserError(
            f"query points must be inside the image of {video.width}x{video.height} pixels, got ({u:g}, {v:g}); "
            f"{int(outside.sum())} of {len(queries)} are outside"
        )
    if queries.shape[1] == 3 and not ((queries[:, 2] >= 0) & (queries[:, 2] < len(video))).all():
        raise UserError(f"frames of query points must be in 0..{len(video) - 1} (processed frames), got {queries[:, 2].max():g}")


def write_tracks(scene: Scene, queries: np.ndarray, folder: Path) -> list[Path]:
    """Write the tracks of query points to `tracks.csv` and `tracks.npz`.

    Args:
        scene: the scene to sample.
        queries: [points, 2 or 3] as `read_queries` returns them; frames index the processed frames, default the anchor frame.
        folder: output folder.
    Returns:
        The paths of the CSV (one row per point and frame) and the npz (fields of `Tracks`, and `time_s`).
    Raises:
        UserError: a query is outside the image, or its frame does not exist.
    """
    tracks, frames = tracks_of_queries(scene, queries)
    csv_path, npz_path = folder / "tracks.csv", folder / "tracks.npz"
    time_s = np.asarray(scene.time_s)
    _write_csv(tracks, time_s, csv_path)
    names = ["points_world", "visible", "confidence", "query_px", "tracked"]
    names += [] if tracks.visibility is None else ["visibility"]
    arrays = {name: np.asarray(getattr(tracks, name)) for name in names}
    np.savez_compressed(npz_path, query_frame=frames.astype(np.int64), time_s=time_s, **arrays)  # pyright: ignore[reportArgumentType]
    return [csv_path, npz_path]


def tracks_of_queries(scene: Scene, queries: np.ndarray) -> tuple[Tracks, np.ndarray]:
    """Tracks of query points with individual query frames, in the order of the queries, and these frames [points].

    Args, Raises: as `write_tracks`.
    """
    frames = queries[:, 2] if queries.shape[1] == 3 else np.full(len(queries), float(scene.anchor_index))
    different = np.unique(frames)
    try:
        parts = [scene.tracks(queries[frames == frame, :2], frame=frame) for frame in different]
    except ValueError as error:
        raise UserError(str(error)) from None
    order = np.argsort(np.concatenate([np.flatnonzero(frames == frame) for frame in different]))
    names = ["points_world", "visible", "confidence", "tracked"]
    if all(part.visibility is not None for part in parts):
        names.append("visibility")
    joined = {name: np.concatenate([getattr(part, name) for part in parts], axis=1)[:, order] for name in names}
    return Tracks(query_px=queries[:, :2], frame=parts[0].frame, **joined), frames


def _write_csv(tracks: Tracks, time_s: np.ndarray, path: Path) -> None:
    """Write one row per point and frame; the column with the visibility probability only if the scene has it."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        likely = [] if tracks.visibility is None else ["visibility"]
        writer.writerow(["point", "frame", "time_s", "x", "y", "z", "visible", "confidence", *likely])
        for point in range(tracks.points_world.shape[1]):
            for frame, time in enumerate(time_s):
                position = [f"{value:.6g}" for value in tracks.points_world[frame, point]]
                visible, confidence = int(tracks.visible[frame, point]), f"{tracks.confidence[frame, point]:.4g}"
                likely = [] if tracks.visibility is None else [f"{tracks.visibility[frame, point]:.3f}"]
                writer.writerow([point, frame, f"{time:.6f}", *position, visible, confidence, *likely])


def _read_csv(path: Path) -> np.ndarray:
    """Read a CSV file, including spreadsheet variants: semicolons or tabs with decimal commas, UTF-16."""
    try:
        data = path.read_bytes()
        text = data.decode("utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig")
        lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip(" ,;\t")]
        lines = lines[lines[:1] != [] and lines[0][1].startswith("sep=") :]  # separator declaration written by spreadsheets
        separator = next((mark for mark in (";", "\t") if lines and mark in lines[0][1]), ",")
        rows = [[cell.strip() for cell in row] for row in csv.reader([line for _, line in lines], delimiter=separator)]
    except (ValueError, OSError, csv.Error) as error:  # other encodings raise UnicodeDecodeError, a ValueError
        raise UserError(f"{path} is not a CSV ({error}); save it as CSV in UTF-8, with one row per point") from None
    if separator != ",":
        rows = [[cell.replace(",", ".") for cell in row] for row in rows]
    width, columns = len(rows[0]) if rows else 0, None
    if rows and _number(rows[0][0]) is None:
        columns, rows, lines = _columns([name.lower() for name in rows[0]], path), rows[1:], lines[1:]
    found = []
    for (number, _), row in zip(lines, rows):
        values = [_number(row[column]) for column in columns or range(width)] if len(row) == width else [None]
        if None in values:  # also rows of other lengths: decimal commas in comma-separated files
            what = f"finite numbers in {width} columns, got {','.join(row)[:60]!r}; write one row per point, as 120.5,80"
            raise UserError(f"line {number} of {path} must be {what}")
        found.append(values)
    return np.array(found, np.float64)


def _number(text: str) -> float | None:
    """The number in a cell; `None` if it is not a finite one."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if np.isfinite(value) else None


def _columns(names: list[str], path: Path) -> list[int]:
    """Column indices of u, v and, if present, the frame, from the header."""
    places = [next((names.index(name) for name in same if name in names), None) for same in _COLUMNS]
    if None in places[:2]:
        raise UserError(f"{path} has the columns {', '.join(names)}; name them u,v or u,v,frame (pixels of the source video)")
    return [place for place in places if place is not None]


def _read_npz(path: Path) -> np.ndarray:
    keys = npz_keys(path)
    names = ["queries"] if "queries" in keys else [name for name in ("u", "v", "frame") if name in keys]
    columns = list(read_npz(path, *names).values()) if names else []
    if not columns or len({column.shape for column in columns}) > 1 or any(column.dtype.kind not in "biuf" for column in columns):
        raise UserError(f"{path} must have the numeric arrays u and v, or queries [points, 2 or 3]")
    arrays = [column.astype(np.float64) for column in columns]
    return arrays[0] if "queries" in keys else np.stack(arrays, axis=-1)
