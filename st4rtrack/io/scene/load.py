"""Loads scenes from their folders; maps are read from disk on access."""

import dataclasses
from pathlib import Path

from st4rtrack.io.lazy import LazyArray
from st4rtrack.io.scene.anchors import load_anchors
from st4rtrack.io.scene.arrays import SCENE_ZARR, damaged, open_array, open_group, read_journal, read_small
from st4rtrack.io.scene.description import SCENE_JSON, header_of, quality_from_json, read_json
from st4rtrack.io.scene.table import DEFERRED, MOVING, scene_of
from st4rtrack.scene import Scene
from st4rtrack.types import Array, UserError


def load_scene(path: str | Path) -> Scene:
    """Load a scene; maps are read from disk on access.

    Args:
        path: the scene folder, or the `scene.json` or `scene.zarr` in it.
    Raises:
        UserError: the path is not a complete scene that this version can read.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f"there is no scene at {path}; give the folder that st4rtrack run wrote")
    folder = path.parent if path.name in (SCENE_JSON, SCENE_ZARR) else path
    if not (folder / SCENE_JSON).is_file():
        raise UserError(f"{path} is not a scene: a scene is a folder with {SCENE_JSON} in it, as `st4rtrack run` writes it")
    data = read_json(folder)
    header = header_of(folder, data)
    if data.get("status") != "complete":
        done = f"{len(read_journal(folder, header.num_frames))} of {header.num_frames} frames"
        raise UserError(f"the scene in {folder} is incomplete ({done}); repeat the st4rtrack run command that made it, to resume")
    group = open_group(folder, "r")
    arrays: dict[str, Array] = {}
    for spec in (*header.specs, *(spec for spec in DEFERRED if spec.path in data["arrays"])):
        array = open_array(folder, group, header, spec)
        whole = spec.dtype in (None, "float32")  # older scenes lack all-zero chunks of other dtypes
        small = spec.small or spec is MOVING
        arrays[spec.field] = read_small(folder, array, spec) if small else LazyArray(array, source=folder, whole=whole)
    anchors = load_anchors(group, header, data.get("anchors", []), folder)
    try:
        quality = quality_from_json(data["quality"]) if "quality" in data else None
    except ValueError as error:
        raise damaged(folder, f"quality in {SCENE_JSON} cannot be read ({error})") from error
    return dataclasses.replace(scene_of(header, arrays), anchors=anchors, quality=quality)
