"""Export of scenes to the formats of other tools: table of formats, selected by name or file suffix.

Writers are referenced by name and imported on use, so that reading the table is fast.
"""

import importlib
import inspect
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from st4rtrack.io.files import remove_leftovers, unfinished_name
from st4rtrack.io.formats.extras import require
from st4rtrack.io.formats.frames import every_nth, frame_range, of_anchor
from st4rtrack.scene import Scene
from st4rtrack.types import UserError


@dataclass(frozen=True)
class Format:
    """An export format.

    Attributes:
        endings: file suffixes that select this format; the first is the default.
        summary: one line for help.
        writer: "module:function" of `write(scene, path, **options)`, or that function.
        folder: whether the format is a folder; then the suffix is only used for the default name ("_colmap").
        companion: suffix added to the stem of the file for an accompanying folder beside it; "" if there is none.
        own_files: glob patterns of the files in the (accompanying) folder that an overwriting export may delete.
        tracks: whether the format has tracks of the anchor's pixels, so that the anchor must be among the exported frames.
        package: (module, package name for pip) of an optional package that the writer needs.
    """

    endings: tuple[str, ...]
    summary: str
    writer: str | Callable[..., Any]
    folder: bool = False
    companion: str = ""
    own_files: tuple[str, ...] = ()
    tracks: bool = True
    package: tuple[str, str] | None = None

    @property
    def write(self) -> Callable[..., Any]:
        """The writer function, imported on first use."""
        if not isinstance(self.writer, str):
            return self.writer
        module, function = self.writer.split(":")
        return getattr(importlib.import_module(module), function)

    def require_package(self, name: str) -> None:
        """Check that the optional package of the format, called `name` in messages, is installed.

        Raises:
            UserError: the package is not installed.
        """
        if self.package is not None:
            require(self.package[0], name, self.package[1])


SCENE_FILES = ("scene.json", "scene.zarr")
_FRAME = f"frame_{6 * '[0-9]'}"
"""Only names that an export writes: a folder of the user may have other frames, tables and arrays."""
_MODEL_FILES = ("cameras", "frames", "images", "points3D", "rigs")
_COLMAP_FILES = (*(f"sparse/0/{name}.{ending}" for name in _MODEL_FILES for ending in ("bin", "txt")), f"images/{_FRAME}.jpg")
_PYCOLMAP = ("pycolmap", "pycolmap")
_BLENDER_FILES = (f"images/{_FRAME}.jpg", f"clouds/{_FRAME}.npz", "static.npz")
_NERFSTUDIO_FILES = (f"images/{_FRAME}.jpg", f"masks/{_FRAME}.png", "points.ply")

_SHAPE_OF_MOTION_FILES = (
    f"images/video/{_FRAME}.jpg",
    f"masks/video/{_FRAME}.png",
    f"aligned_depth_anything/video/{_FRAME}.png",
    f"bootstapir/video/{_FRAME}_{_FRAME}.npy",
)

FORMATS: dict[str, Format] = {
    "ply": Format((".ply",), "Reconstruction as one coloured point cloud.", "st4rtrack.io.formats.ply:write_ply", tracks=False),
    "ply-sequence": Format(
        ("_ply",),
        "One point cloud per frame.",
        "st4rtrack.io.formats.ply:write_ply_sequence",
        folder=True,
        own_files=(f"{_FRAME}.ply",),
        tracks=False,
    ),
    "splat": Format(
        ("_splat.ply", ".ply"),
        "Static part as 3D Gaussians for splat viewers and trainers.",
        "st4rtrack.io.formats.splat:write_splat",
        tracks=False,
    ),
    "glb": Format(
        (".glb",),
        "Reconstruction, tracks and cameras for glTF viewers and Blender.",
        "st4rtrack.io.formats.glb:write_glb",
        package=("trimesh", "trimesh"),
    ),
    "colmap": Format(
        ("_colmap",),
        "Images, cameras and points as a binary COLMAP model.",
        "st4rtrack.io.formats.colmap:write_colmap",
        folder=True,
        own_files=_COLMAP_FILES,
        tracks=False,
        package=_PYCOLMAP,
    ),
    "colmap-text": Format(
        ("_colmap_text",),
        "Images, cameras and points as a COLMAP model in text.",
        "st4rtrack.io.formats.colmap:write_colmap_text",
        folder=True,
        own_files=_COLMAP_FILES,
        tracks=False,
        package=_PYCOLMAP,
    ),
    "blender": Format(
        ("_blender",),
        "Camera, video, tracks and points for Blender, with a script that imports them.",
        "st4rtrack.io.formats.blender:write_blender",
        folder=True,
        own_files=_BLENDER_FILES,
    ),
    "chan": Format((".chan",), "Camera for Nuke, Houdini and Blender.", "st4rtrack.io.formats.chan:write_chan", tracks=False),
    "exr": Format(
        ("_exr",),
        "Depth and mask of dynamic pixels as OpenEXR images.",
        "st4rtrack.io.formats.exr:write_exr",
        folder=True,
        own_files=(f"{_FRAME}.exr",),
        tracks=False,
        package=("OpenEXR", "OpenEXR"),
    ),
    "png": Format(
        ("_png",),
        "Depth as 16-bit PNG and masks of dynamic pixels.",
        "st4rtrack.io.formats.png:write_png",
        folder=True,
        own_files=(f"depth/{_FRAME}.png", f"mask/{_FRAME}.png"),
        tracks=False,
    ),
    "csv": Format((".csv",), "2D tracks as a table.", "st4rtrack.io.formats.tracks_2d:write_csv"),
    "after-effects": Format(
        ("_after_effects",),
        "2D tracks as keyframes to paste into After Effects.",
        "st4rtrack.io.formats.tracks_2d:write_after_effects",
        folder=True,
        own_files=("track_[0-9]*[0-9].txt",),
    ),
    "nuke": Format((".nk",), "2D tracks as a Tracker node of Nuke.", "st4rtrack.io.formats.tracks_2d:write_nuke"),
    "3de": Format(("_3de.txt",), "2D tracks as the text of 3DEqualizer.", "st4rtrack.io.formats.tracks_2d:write_3de"),
    "tum": Format((".txt",), "Camera trajectory in the format of TUM RGB-D.", "st4rtrack.io.formats.tum:write_tum", tracks=False),
    "transforms": Format(
        # not .json as default: scene folders contain a scene.json
        ("_transforms.json", ".json"),
        "Images, cameras and points for nerfstudio.",
        "st4rtrack.io.formats.transforms:write_transforms",
        companion="_files",
        own_files=_NERFSTUDIO_FILES,
        tracks=False,
    ),
    "shape-of-motion": Format(
        ("_shape_of_motion",),
        "Images, masks, depth, cameras and 2D tracks as Shape of Motion reads them.",
        "st4rtrack.io.formats.shape_of_motion:write_shape_of_motion",
        folder=True,
        own_files=_SHAPE_OF_MOTION_FILES,
    ),
    "tapvid3d": Format(
        (".npz",), "Tracks, visibility and cameras as in TAPVid-3D.", "st4rtrack.io.formats.tapvid3d:write_tapvid3d"
    ),
    "usd": Format(
        (".usdc", ".usda"),
        "Dynamic points, tracks, reconstruction and camera for USD.",
        "st4rtrack.io.formats.usd:write_usd",
        package=("pxr", "usd-core"),
    ),
    "rerun": Format(
        (".rrd",),
        "Images, cameras, points and tracks for the Rerun viewer.",
        "st4rtrack.io.formats.rerun:write_rerun",
        package=("rerun", "rerun-sdk"),
    ),
    "html": Format((".html",), "Interactive page for any browser.", "st4rtrack.view.page:write_page"),
    "video": Format(
        (".mp4", ".gif"), "Film of the frames, the tracks and the reconstruction.", "st4rtrack.render.film:write_film"
    ),
    "figure": Format(
        (".png", ".pdf", ".jpg"),
        "Figure for a paper: a row of pictures per frame.",
        "st4rtrack.render.figure:write_figure",
        package=("matplotlib", "matplotlib"),
    ),
}


def export(
    scene: Scene | str | Path,
    path: str | Path | None = None,
    *,
    format: str | None = None,
    overwrite: bool = False,
    start: int | str | None = None,
    stop: int | str | None = None,
    stride: int | None = None,
    anchor: int | None = None,
    **options: Any,
) -> Path:
    """Export a scene to another format.

    Args:
        scene: a scene, or the path of a scene folder.
        path: output path; default: beside the scene folder, with its name and the default suffix of the format.
        format: one of `FORMATS`; default: from the suffix of `path`.
        overwrite: replace an existing file at `path`; in a folder, only the files of an earlier export.
        start, stop: range of frames, without `stop`: source frame numbers, or seconds as in "2.5s"; default: all.
        stride: export only every n-th frame, including the anchor; default all, or the default of the writer.
        anchor: frame index of the anchor whose tracks are exported, in formats with tracks; default: the main anchor.
        options: keyword options of the format's writer, for example those of `write_ply`.
    Returns:
        The path of the file or folder, which is written atomically.
    Raises:
        UserError: the format, suffix or an option is unknown, `path` exists or cannot be written, the scene cannot be read or
            lacks data that the format needs, or a package is not installed.
    """
    name = _format_name(path, format)
    chosen = FORMATS[name]
    path = _beside(scene, chosen.endings[0]) if path is None else Path(path)
    _check_target(path, chosen, overwrite=overwrite)
    chosen.require_package(name)
    if not isinstance(scene, Scene):
        from st4rtrack.io.scene import load_scene  # imports zarr, which `--help` does not need

        scene = load_scene(scene)
    _check_not_of_the_scene(scene, path)
    scene, options = _selection(scene, name, options, start, stop, stride, anchor)
    staging = _staging_folder(path)
    try:
        unfinished = staging / path.name
        if chosen.folder:
            unfinished.mkdir()
        chosen.write(scene, unfinished, **options)
        for entry in sorted(staging.iterdir(), key=lambda entry: entry == unfinished):  # the main file refers to others
            _publish(entry, path.parent / entry.name, chosen.own_files)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return path


def _selection(
    scene: Scene,
    name: str,
    options: dict[str, Any],
    start: int | str | None,
    stop: int | str | None,
    stride: int | None,
    anchor: int | None,
) -> tuple[Scene, dict[str, Any]]:
    """Exported part of a scene, and the options of the writer; see `export`."""
    known = options_of(name)
    for option in options:
        if option not in known:
            raise UserError(f"{name} has no option {option}; it has {', '.join(sorted({'stride', *known} - {'progress'}))}")
        if option.startswith(("max_", "first_")) and options[option] is not None and options[option] < 0:
            raise UserError(f"{option} must be at least 0, got {options[option]}")
    tracks = FORMATS[name].tracks or options.get("branch") == "tracking"
    if anchor is not None:
        if not tracks:
            raise UserError(f"{name} has no tracks, so there is no anchor to choose; leave --anchor out")
        scene = of_anchor(scene, anchor)
    if start is not None or stop is not None:
        scene = frame_range(scene, start, stop, with_anchor=tracks)
    if stride is None:
        return scene, options
    return (scene, options | {"stride": stride}) if "stride" in known else (every_nth(scene, stride), options)


def options_of(format: str) -> list[str]:
    """Names of the options of a format's writer."""
    parameters = inspect.signature(FORMATS[format].write).parameters.values()
    return [parameter.name for parameter in parameters if parameter.kind is inspect.Parameter.KEYWORD_ONLY]


def _format_name(path: str | Path | None, format: str | None) -> str:
    known = ", ".join(f"{name} ({' '.join(entry.endings)})" for name, entry in FORMATS.items())
    if format is not None:
        if format not in FORMATS:
            raise UserError(f"there is no format {format!r}; choose one of: {known}")
        return format
    if path is None:
        raise UserError(f"export needs a path or a format; formats: {known}")
    file, own = Path(path).name.lower(), [(name, entry) for name, entry in FORMATS.items() if not entry.folder]
    matches = [(len(ending), name) for name, entry in own for ending in entry.endings if file.endswith(ending)]
    if matches:
        return max(matches, key=lambda match: match[0])[1]
    raise UserError(f"no format has the suffix of {path}; choose one of: {known}")


def _beside(scene: Scene | str | Path, ending: str) -> Path:
    if isinstance(scene, Scene):
        raise UserError("a scene in memory has no folder to write beside; give a path")
    folder = Path(scene).resolve()
    if folder.name in SCENE_FILES:
        folder = folder.parent
    return folder.with_name(folder.name + ending)


def _check_target(path: Path, chosen: Format, *, overwrite: bool) -> None:
    if not chosen.folder and not path.name.lower().endswith(chosen.endings):
        raise UserError(f"{path} should end in {' or '.join(chosen.endings)}")
    if path.exists() and path.is_dir() != chosen.folder:
        kinds = ("folder", "file") if path.is_dir() else ("file", "folder")
        raise UserError(f"{path} is a {kinds[0]}, but this format writes a {kinds[1]}; choose another path with -o")
    targets = [path] + ([path.with_name(path.stem + chosen.companion)] if chosen.companion else [])
    for target in targets:
        if not overwrite and target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise UserError(f"{target} exists already; choose another path with -o, or replace it with --overwrite")


def _check_not_of_the_scene(scene: Scene, path: Path) -> None:
    """Refuse to overwrite the files of the exported scene, even with `overwrite`: they are read during the export."""
    source = getattr(scene.rgb, "source", None)
    if source is not None and path.resolve() in [source.resolve() / name for name in ("", *SCENE_FILES)]:
        raise UserError(f"{path} belongs to the scene that is exported; choose another path with -o")


def _staging_folder(path: Path) -> Path:
    """Create a hidden temporary folder beside `path` (same disk) for the output, which is then moved into place."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(path)
        return Path(tempfile.mkdtemp(prefix=f"{unfinished_name(path)}.", suffix=".partial", dir=path.parent))
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise UserError(f"the folder for {path} cannot be made or written ({reason}); choose another path with -o") from error


def _publish(source: Path, target: Path, own_files: tuple[str, ...]) -> None:
    if not (source.is_dir() and target.is_dir()):
        source.replace(target)
        return
    for old in [old for pattern in own_files for old in target.glob(pattern)]:
        old.unlink()  # an earlier export may have had more frames
    for file in [file for file in source.rglob("*") if file.is_file()]:
        place = target / file.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        file.replace(place)
