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
from st4rtrack.io.formats.common import require
from st4rtrack.io.formats.frames import every_nth, frame_range, of_anchor
from st4rtrack.scene import Scene
from st4rtrack.types import UserError


@dataclass(frozen=True)
class Format:
    """An export format.

    Attributes:
        writer: "module:function" of `write(scene, path, **options)`, or that function. The scene is in memory or on disk; `path` is
            a new file, or an empty folder. The docstring of the options is their help.
        summary: one line for help.
        endings: file suffixes that select this format; the first is the default. One without a dot is the end of a folder's name.
        own_files: glob patterns of the files in the (accompanying) folder that an overwriting export may delete.
        companion: suffix added to the stem of the file for an accompanying folder beside it; "" if there is none.
        tracks: whether the format has tracks of the anchor's pixels, so that the anchor must be among the exported frames.
        module: optional module that the writer needs.
    """

    writer: str | Callable[..., Any]
    summary: str
    endings: tuple[str, ...]
    own_files: tuple[str, ...] = ()
    companion: str = ""
    tracks: bool = True
    module: str | None = None

    @property
    def folder(self) -> bool:
        """Whether the format is a folder."""
        return "." not in self.endings[0]

    @property
    def write(self) -> Callable[..., Any]:
        """The writer function, imported on first use."""
        if not isinstance(self.writer, str):
            return self.writer
        module, function = self.writer.split(":")
        return getattr(importlib.import_module(f"st4rtrack.{module}"), function)

    def require_package(self, name: str) -> None:
        """Check that the optional package of the format, called `name` in messages, is installed.

        Raises:
            UserError: the package is not installed.
        """
        if self.module is not None:
            require(self.module, name)


SCENE_FILES = ("scene.json", "scene.zarr")
_FRAME = f"frame_{6 * '[0-9]'}"
"""Only names that an export writes: a folder of the user may have other frames, tables and arrays."""
_MODEL_FILES = ("cameras", "frames", "images", "points3D", "rigs")
_COLMAP = (*(f"sparse/0/{name}.{ending}" for name in _MODEL_FILES for ending in ("bin", "txt")), f"images/{_FRAME}.jpg")
_BLENDER = (f"images/{_FRAME}.jpg", f"clouds/{_FRAME}.npz", "static.npz")
_NERFSTUDIO = (f"images/{_FRAME}.jpg", f"masks/{_FRAME}.png", "points.ply")
_SHAPE_OF_MOTION = (
    f"images/video/{_FRAME}.jpg",
    f"masks/video/{_FRAME}.png",
    f"aligned_depth_anything/video/{_FRAME}.png",
    f"bootstapir/video/{_FRAME}_{_FRAME}.npy",
)

_PLY, _IMAGES, _TRACKS = "io.formats.ply", "io.formats.posed_images", "io.formats.tracks"
_PATHS, _DEPTH = "io.formats.camera_paths", "io.formats.depth_images"

FORMATS: dict[str, Format] = {
    "ply": Format(f"{_PLY}:write_ply", "Reconstruction as one coloured point cloud.", (".ply",), tracks=False),
    "ply-sequence": Format(
        f"{_PLY}:write_ply_sequence", "One point cloud per frame.", ("_ply",), (f"{_FRAME}.ply",), tracks=False
    ),
    "splat": Format(
        f"{_PLY}:write_splat", "Static part as 3D Gaussians for splat viewers and trainers.", ("_splat.ply", ".ply"), tracks=False
    ),
    "glb": Format(
        "io.formats.glb:write_glb",
        "Reconstruction, tracks and cameras for glTF viewers and Blender.",
        (".glb",),
        module="trimesh",
    ),
    "colmap": Format(
        f"{_IMAGES}:write_colmap", "Images, cameras and points as a binary COLMAP model.", ("_colmap",), _COLMAP, tracks=False
    ),
    "colmap-text": Format(
        f"{_IMAGES}:write_colmap_text",
        "Images, cameras and points as a COLMAP model in text.",
        ("_colmap_text",),
        _COLMAP,
        tracks=False,
    ),
    "blender": Format(
        "io.formats.blender:write_blender",
        "Camera, video, tracks and points for Blender, with a script that imports them.",
        ("_blender",),
        _BLENDER,
    ),
    "chan": Format(f"{_PATHS}:write_chan", "Camera for Nuke, Houdini and Blender.", (".chan",), tracks=False),
    "exr": Format(
        f"{_DEPTH}:write_exr",
        "Depth and mask of dynamic pixels as OpenEXR images.",
        ("_exr",),
        (f"{_FRAME}.exr",),
        tracks=False,
        module="OpenEXR",
    ),
    "png": Format(
        f"{_DEPTH}:write_png",
        "Depth as 16-bit PNG and masks of dynamic pixels.",
        ("_png",),
        (f"depth/{_FRAME}.png", f"mask/{_FRAME}.png"),
        tracks=False,
    ),
    "csv": Format(f"{_TRACKS}:write_csv", "2D tracks as a table.", (".csv",)),
    "after-effects": Format(
        f"{_TRACKS}:write_after_effects",
        "2D tracks as keyframes to paste into After Effects.",
        ("_after_effects",),
        ("track_[0-9]*[0-9].txt",),
    ),
    "nuke": Format(f"{_TRACKS}:write_nuke", "2D tracks as a Tracker node of Nuke.", (".nk",)),
    "3de": Format(f"{_TRACKS}:write_3de", "2D tracks as the text of 3DEqualizer.", ("_3de.txt",)),
    "tum": Format(f"{_PATHS}:write_tum", "Camera trajectory in the format of TUM RGB-D.", (".txt",), tracks=False),
    "transforms": Format(
        f"{_IMAGES}:write_transforms",
        "Images, cameras and points for nerfstudio.",
        ("_transforms.json", ".json"),  # not .json as default: scene folders contain a scene.json
        _NERFSTUDIO,
        "_files",
        tracks=False,
    ),
    "shape-of-motion": Format(
        f"{_IMAGES}:write_shape_of_motion",
        "Images, masks, depth, cameras and 2D tracks as Shape of Motion reads them.",
        ("_shape_of_motion",),
        _SHAPE_OF_MOTION,
    ),
    "tapvid3d": Format(f"{_TRACKS}:write_tapvid3d", "Tracks, visibility and cameras as in TAPVid-3D.", (".npz",)),
    "usd": Format(
        "io.formats.usd:write_usd", "Dynamic points, tracks, reconstruction and camera for USD.", (".usdc", ".usda"), module="pxr"
    ),
    "rerun": Format(
        "io.formats.rerun:write_rerun", "Images, cameras, points and tracks for the Rerun viewer.", (".rrd",), module="rerun"
    ),
    "html": Format("view.page:write_page", "Interactive page for any browser.", (".html",)),
    "video": Format("render.film:write_film", "Film of the frames, the tracks and the reconstruction.", (".mp4", ".gif")),
    "figure": Format(
        "render.figure:write_figure",
        "Figure for a paper: a row of pictures per frame.",
        (".png", ".pdf", ".jpg"),
        module="matplotlib",
    ),
}


_FILE_SUFFIXES = {".exr", *(Path(f"x{ending}").suffix for entry in FORMATS.values() for ending in entry.endings)} - {""}


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
    chosen, known = FORMATS[name], options_of(name)
    path = _beside(scene, chosen.endings[0]) if path is None else Path(path)
    _check_target(path, chosen, overwrite=overwrite)
    chosen.require_package(name)
    if not isinstance(scene, Scene):
        from st4rtrack.io.scene import load_scene  # imports zarr, which `--help` does not need

        scene = load_scene(scene)
    source = getattr(scene.rgb, "source", None)
    if source is not None and path.resolve() in [source.resolve() / name for name in ("", *SCENE_FILES)]:  # even with overwrite
        raise UserError(f"{path} belongs to the scene that is exported; choose another path with -o")
    if unknown := [option for option in options if option not in known]:
        raise UserError(f"{name} has no option {unknown[0]}; it has {', '.join(sorted({'stride', *known} - {'progress'}))}")
    for option, value in options.items():
        if option.startswith(("max_", "first_")) and value is not None and value < 0:
            raise UserError(f"{option} must be at least 0, got {value}")
    if stride is not None and "stride" in known:
        options, stride = options | {"stride": stride}, None
    scene = _part(scene, name, chosen.tracks or options.get("branch") == "tracking", start, stop, stride, anchor)
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


def _part(
    scene: Scene,
    name: str,
    tracks: bool,
    start: int | str | None,
    stop: int | str | None,
    stride: int | None,
    anchor: int | None,
) -> Scene:
    """The exported part of a scene; see `export`."""
    if anchor is not None:
        if not tracks:
            raise UserError(f"{name} has no tracks, so there is no anchor to choose; leave --anchor out")
        scene = of_anchor(scene, anchor)
    if start is not None or stop is not None:
        scene = frame_range(scene, start, stop, with_anchor=tracks)
    return scene if stride is None else every_nth(scene, stride)


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
    if chosen.folder and path.suffix.lower() in _FILE_SUFFIXES and not path.exists():
        raise UserError(f"{path} is the name of a file, but this format writes a folder; give -o a name without {path.suffix}")
    if path.exists() and path.is_dir() != chosen.folder:
        kinds = ("folder", "file") if path.is_dir() else ("file", "folder")
        raise UserError(f"{path} is a {kinds[0]}, but this format writes a {kinds[1]}; choose another path with -o")
    targets = [path] + ([path.with_name(path.stem + chosen.companion)] if chosen.companion else [])
    for target in targets:
        if not overwrite and target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise UserError(f"{target} exists already; choose another path with -o, or replace it with --overwrite")


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
