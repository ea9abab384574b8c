"""Build WorldTrack from raw data sets (paper section 4.2 and appendix B): filter, cut into pieces, draw with a seed, write.

`sequences.txt` beside the files lists the chosen sequences and why others were left out; it is also accepted as input list.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from st4rtrack.bench.recipes import Recipe
from st4rtrack.data.raw import RawDataset, RawSequence
from st4rtrack.geometry.camera import project
from st4rtrack.geometry.sampling import inside_image
from st4rtrack.geometry.transforms import transform_points
from st4rtrack.io.files import write_whole
from st4rtrack.io.worldtrack import encode_jpeg, write_worldtrack
from st4rtrack.types import UserError

LIST = "sequences.txt"
LARGEST_FOCAL_SPREAD = 1e-3
"""Relative standard deviation of fx, fy, cx or cy above which a piece is left out: a file stores one set of intrinsics."""


@dataclass(frozen=True)
class Piece:
    """A clip of a raw sequence that can become one WorldTrack file."""

    name: str
    sequence: str
    frames: range


@dataclass
class Candidates:
    """Pieces to draw from, by sorted name, and the reason for each dropped piece or sequence, by name."""

    pieces: dict[str, Piece] = field(default_factory=dict)
    dropped: dict[str, str] = field(default_factory=dict)


def build_worldtrack(
    recipe: Recipe,
    raw: str | Path,
    output: str | Path,
    *,
    count: int = 50,
    seed: int = 0,
    chosen: list[str] | None = None,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> list[Path]:
    """Build one set of WorldTrack; the same call resumes an interrupted build.

    Args:
        recipe: one of `RECIPES`.
        raw: folder of the raw data set.
        output: folder of WorldTrack; the set gets its own folder in it.
        count: number of sequences drawn without replacement; all if there are fewer.
        seed: random seed of the draw.
        chosen: names of sequences to build instead of drawing.
        overwrite: rebuild existing files; files of another build in the same folder are removed.
        progress: called with (sequences done, sequences in all).
    Returns:
        Paths of the files, sorted by name.
    Raises:
        UserError: the raw data is missing or damaged, no piece passes the filters, a chosen name is unknown, or the
            folder holds another build.
    """
    folder = Path(output) / recipe.folder
    dataset = recipe.open(Path(raw))
    candidates = find_candidates(recipe, dataset)
    if not candidates.pieces:
        name, reason = next(iter(candidates.dropped.items()))
        raise UserError(
            f"{raw} has no usable sequence for {recipe.folder}: all {len(candidates.dropped)} are left out, e.g. {name}: {reason}"
        )
    names = draw(candidates, count, seed) if chosen is None else _require_known(chosen, candidates, raw)
    how = f"drawn with seed {seed}" if chosen is None else "from a list"
    _begin(folder, names, _describe(recipe, names, candidates, how), overwrite)
    paths = [folder / f"{name}.npz" for name in names]
    done = sum(path.exists() for path in paths)
    for name, path in zip(names, paths, strict=True):
        if not path.exists():
            piece = candidates.pieces[name]
            write_piece(recipe, dataset.open(piece.sequence), piece.frames, path)
            done += 1
            if progress:
                progress(done, len(paths))
    return paths


def find_candidates(recipe: Recipe, dataset: RawDataset) -> Candidates:
    """Return all pieces of a data set that pass the filters, without reading frames."""
    found = Candidates()
    for name in dataset.names:
        if reason := recipe.excluded(name):
            found.dropped[name] = reason
            continue
        sequence = dataset.open(name)
        if recipe.tracked and sequence.read_tracks is None:
            found.dropped[name] = "has no tracks"
            continue
        if recipe.moving_camera and sequence.world_from_camera is None:
            raise UserError(f"{name} of {recipe.title} has no camera poses (extrinsics_w2c); download it again")
        for piece in _pieces(recipe, sequence):
            if reason := _unfit(recipe, sequence, piece):
                found.dropped[piece.name] = reason
            else:
                found.pieces[piece.name] = piece
    found.pieces = dict(sorted(found.pieces.items()))
    return found


def draw(candidates: Candidates, count: int, seed: int) -> list[str]:
    """Draw `count` names at random without replacement, sorted; all names if there are fewer."""
    names = list(candidates.pieces)
    if count >= len(names):
        return names
    return sorted(names[k] for k in np.random.default_rng(seed).choice(len(names), count, replace=False))


def read_list(path: str | Path) -> list[str]:
    """Read sorted sequence names from a text file, one per line; parent folders are ignored, lines with # are comments.

    Raises:
        UserError: the file cannot be read or contains no name.
    """
    try:
        lines = [line.strip() for line in Path(path).read_text().splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read ({error}); pass a text file with one sequence name per line") from None
    names = sorted({Path(line).name.removesuffix(".npz") for line in lines if line and not line.startswith("#")})
    if not names:
        raise UserError(f"{path} contains no sequence name; write one per line")
    return names


def write_piece(recipe: Recipe, sequence: RawSequence, frames: range, path: Path) -> None:
    """Write one WorldTrack file: images, the first frame's intrinsics as stored, cameras, depth if available, and tracks."""
    images = [sequence.read_jpeg(t) if sequence.read_jpeg else encode_jpeg(sequence.read_rgb(t)) for t in frames]
    size = sequence.read_rgb(frames[0]).shape[:2]
    cameras = None if sequence.world_from_camera is None else np.linalg.inv(sequence.world_from_camera[frames])
    depth = _depth(sequence, frames, size)
    tracks, visible = None, None if depth is None else depth > 0
    if recipe.tracked:
        tracks, visible = _tracks(recipe, sequence, frames, cameras, size)
    assert visible is not None, f"{sequence.name} has neither tracks nor depth"
    write_worldtrack(
        path,
        images_jpeg=images,
        fx_fy_cx_cy=_fx_fy_cx_cy(sequence.intrinsics[frames[0]]),
        camera_from_world=cameras,
        visibility=visible,
        tracks_camera=tracks,
        depth=depth,
    )


def _depth(sequence: RawSequence, frames: range, size: tuple[int, ...]) -> np.ndarray | None:
    """Depth maps [time, height, width] in metres; None if the sequence has none."""
    if sequence.read_depth is None:
        return None
    maps = [np.asarray(sequence.read_depth(t), np.float32) for t in frames]
    for t, depth in zip(frames, maps):
        if depth.shape != size:
            raise UserError(
                f"{sequence.name}: depth of frame {t} has shape {list(depth.shape)}, its image {list(size)}; download it again"
            )
    return np.stack(maps)


def _tracks(
    recipe: Recipe, sequence: RawSequence, frames: range, camera_from_world: np.ndarray | None, size: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Tracks [time, points, 3] in each frame's camera frame, and their visibility: as labelled by the data set, and also in front
    of the camera and inside the image, which some data sets do not check."""
    assert sequence.read_tracks is not None
    points, visible = (rows[:: frames.step] for rows in sequence.read_tracks(frames.start, frames.stop))
    total, at_start = visible.shape[1], int(visible[0].sum())
    kept = np.arange(0, total, recipe.track_step)
    if recipe.visible_tracks is not None and at_start > recipe.visible_tracks:  # evenly spread over all tracks
        kept = np.linspace(0, total, round(total * recipe.visible_tracks / at_start), endpoint=False).astype(int)
    points = points[:, kept].astype(np.float64)
    if camera_from_world is not None:
        points = transform_points(camera_from_world, points)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        inside = inside_image(project(points, sequence.intrinsics[frames]), size[0], size[1]) & (points[..., 2] > 0)
    return points, visible[:, kept] & inside


def _pieces(recipe: Recipe, sequence: RawSequence) -> Iterator[Piece]:
    frames = range(recipe.first_frame, len(sequence), recipe.frame_step)
    if recipe.piece_frames is None:
        yield Piece(sequence.name, sequence.name, frames)
        return
    starts = range(0, max(len(frames), 1), recipe.piece_frames)
    for number, start in enumerate(starts[:1] if recipe.first_piece_only else starts):
        yield Piece(f"{sequence.name}_{number}", sequence.name, frames[start : start + recipe.piece_frames])


def _unfit(recipe: Recipe, sequence: RawSequence, piece: Piece) -> str | None:
    """Reason to leave a piece out; None if it is usable."""
    if len(piece.frames) < recipe.min_frames:
        return f"{len(piece.frames)} frames, fewer than {recipe.min_frames}"
    values = _fx_fy_cx_cy(sequence.intrinsics[piece.frames])
    spread = values.std(axis=0) / np.maximum(np.abs(values.mean(axis=0)), 1e-9)
    if spread.max() > LARGEST_FOCAL_SPREAD:
        return f"intrinsics vary by {100 * spread.max():.2g} %"
    return None


def _fx_fy_cx_cy(intrinsics: np.ndarray) -> np.ndarray:
    return intrinsics[..., (0, 1, 0, 1), (0, 1, 2, 2)]


def _require_known(chosen: list[str], candidates: Candidates, raw: str | Path) -> list[str]:
    for name in chosen:
        if name not in candidates.pieces:
            reason = candidates.dropped.get(name, "no such sequence")
            raise UserError(f"the list names {name}, which cannot be built from {raw}: {reason}")
    return sorted(set(chosen))


def _describe(recipe: Recipe, names: list[str], candidates: Candidates, how: str) -> str:
    """Content of the list file (`sequences.txt`)."""
    lines = [f"# WorldTrack {recipe.folder} from {recipe.title}: {len(names)} of {len(candidates.pieces)} candidates, {how}"]
    lines += [*names, "# left out:"] if candidates.dropped else names
    lines += [f"# {name}: {reason}" for name, reason in candidates.dropped.items()]
    return "\n".join(lines) + "\n"


def _begin(folder: Path, names: list[str], text: str, overwrite: bool) -> None:
    """Check that the folder is empty or holds this build, and write the list; files of the same list are kept."""
    if folder.is_file() or folder.parent.is_file():
        raise UserError(f"{folder} cannot be created because a file has that name; choose another folder")
    before = read_list(folder / LIST) if (folder / LIST).exists() else []
    if not overwrite and before == names:
        return
    if not overwrite and (before or any(folder.glob("*.npz"))):
        raise UserError(f"{folder} holds other sequences than this build; choose another folder, or replace with --overwrite")
    for name in before + names:
        (folder / f"{name}.npz").unlink(missing_ok=True)
    write_whole(folder / LIST, text.encode())
