"""A scene as a file that other tools read: one entry per format, found by name or by the file's ending."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from st4rtrack.io.ply import write_ply
from st4rtrack.io.scene import SCENE_JSON, SCENE_ZARR, load_scene
from st4rtrack.types import Scene, UserError


@dataclass(frozen=True)
class Format:
    """One way to write a scene.

    Attributes:
        endings: of the files; a path with one of these means this format, the first is the usual one.
        write: `write(scene, path, **options)`, the path as asked for but for a temporary name.
        folder: it is a folder of files; then the ending is only that of the usual name, as "_colmap".
    """

    endings: tuple[str, ...]
    write: Callable[..., Any]
    folder: bool = False


FORMATS: dict[str, Format] = {
    "ply": Format((".ply",), write_ply),
}


def export(
    scene: Scene | str | Path,
    path: str | Path | None = None,
    *,
    format: str | None = None,
    overwrite: bool = False,
    **options: Any,
) -> Path:
    """Writes a scene in another format.

    Args:
        scene: a scene, or the path of a scene folder.
        path: where to; default: beside the scene folder, with its name and the format's usual ending.
        format: one of `FORMATS`; default: what the ending of `path` says.
        overwrite: replace what is at `path`.
        options: of the format's writer, as of `write_ply`.
    Returns:
        What was written; a file appears whole or not at all.
    Raises:
        UserError: an unknown format or ending, something exists at `path`, or the scene cannot be read.
    """
    chosen = FORMATS[_format_name(path, format)]
    path = _beside(scene, chosen.endings[0]) if path is None else Path(path)
    _check_target(path, chosen, overwrite=overwrite)
    if not isinstance(scene, Scene):
        scene = load_scene(scene)
    try:
        (path if chosen.folder else path.parent).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"the folder for {path} cannot be made ({error.strerror}); choose another path with -o") from error
    if chosen.folder:
        chosen.write(scene, path, **options)
        return path
    partial = path.with_name(f".{path.stem}.partial{path.suffix}")  # keeps the ending: writers look at it
    try:
        chosen.write(scene, partial, **options)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def _format_name(path: str | Path | None, format: str | None) -> str:
    known = ", ".join(f"{name} ({' '.join(entry.endings)})" for name, entry in FORMATS.items())
    if format is not None:
        if format not in FORMATS:
            raise UserError(f"there is no format {format!r}; there are: {known}")
        return format
    if path is None:
        raise UserError(f"export needs a path or a format; there are: {known}")
    for name, entry in FORMATS.items():
        if not entry.folder and Path(path).name.lower().endswith(entry.endings):
            return name
    raise UserError(f"the ending of {path} names no format; there are: {known}")


def _beside(scene: Scene | str | Path, ending: str) -> Path:
    if isinstance(scene, Scene):
        raise UserError("a scene in memory has no folder to write beside; give a path")
    folder = Path(scene).resolve()
    if folder.name in (SCENE_JSON, SCENE_ZARR):
        folder = folder.parent
    return folder.with_name(folder.name + ending)


def _check_target(path: Path, chosen: Format, *, overwrite: bool) -> None:
    if not chosen.folder and not path.name.lower().endswith(chosen.endings):
        raise UserError(f"{path} should end in {' or '.join(chosen.endings)}")
    if path.exists() and path.is_dir() != chosen.folder:
        kinds = ("folder", "file") if path.is_dir() else ("file", "folder")
        raise UserError(f"{path} is a {kinds[0]}, and a {kinds[1]} is to be written; choose another path with -o")
    if not overwrite and path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise UserError(f"{path} exists already; choose another path with -o, or replace it with --overwrite")
