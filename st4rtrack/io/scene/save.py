"""Saves a whole scene to a folder, frame by frame."""

from pathlib import Path
from typing import Literal

import numpy as np

from st4rtrack.io.lazy import LazyArray
from st4rtrack.io.lock import locked
from st4rtrack.io.scene.anchors import copy_anchors
from st4rtrack.io.scene.folder import make_folder, prepare_folder
from st4rtrack.io.scene.header import SceneHeader
from st4rtrack.io.scene.table import DEFERRED
from st4rtrack.io.scene.writer import SceneWriter
from st4rtrack.scene import Scene
from st4rtrack.types import Array, UserError


def save_scene(
    scene: Scene, folder: str | Path, *, points_dtype: Literal["float32", "float16"] | None = None, overwrite: bool = False
) -> Path:
    """Save a scene to a folder, frame by frame.

    Args:
        scene: in memory, or loaded from another folder.
        folder: new or empty, unless `overwrite`.
        points_dtype: dtype of the points on disk; default: float16 if the scene has float16, else float32.
        overwrite: replace an existing scene; other files are kept.
    Returns:
        The folder.
    """
    folder = Path(folder)
    fields = {name: values for name, values in _fields(scene).items() if values is not None}
    for values in fields.values():
        if isinstance(values, LazyArray) and values.source is not None and values.source.resolve() == folder.resolve():
            raise UserError(f"this scene is read from {folder}, it cannot be saved over itself; choose another folder")
    deferred = {spec.field: fields.pop(spec.field, None) for spec in DEFERRED}
    num_frames, height, width = scene.rgb.shape[:3]
    header = SceneHeader(
        num_frames=num_frames,
        height=height,
        width=width,
        anchor_index=scene.anchor_index,
        pixel_map=scene.pixel_map,
        source_size=scene.source_size,
        info=scene.info,
        points_dtype=points_dtype or ("float16" if scene.tracking.points_world.dtype == np.float16 else "float32"),
        fields=tuple(fields),
    )
    with locked(make_folder(folder)) as lock:
        state = prepare_folder(folder, header, overwrite=overwrite)
        if state != "new":  # a scene with equal options may still have other content
            raise UserError(
                f"{folder} already holds a scene; choose another folder, or replace it with overwrite=True (--overwrite)"
            )
        writer = SceneWriter(lock, header, state)
        for index in range(num_frames):
            writer.write_frame(index, **{name: values[index] for name, values in fields.items()})  # pyright: ignore[reportArgumentType]
        copy_anchors(scene.anchors, writer.anchors, num_frames)
        writer.finish(**deferred, quality=scene.quality)
    return folder


def _fields(scene: Scene) -> dict[str, Array | None]:
    """Arrays of a scene by field name, the inverse of `scene_of`."""
    return {
        "rgb": scene.rgb,
        "time_s": scene.time_s,
        "tracking_points": scene.tracking.points_world,
        "tracking_confidence": scene.tracking.confidence,
        "tracking_valid": scene.tracking.valid,
        "visible": scene.tracking.visible,
        "visibility": scene.tracking.visibility,
        "moving": scene.tracking.moving,
        "reconstruction_points": scene.reconstruction.points_world,
        "reconstruction_confidence": scene.reconstruction.confidence,
        "reconstruction_valid": scene.reconstruction.valid,
        "moving_in_frames": scene.reconstruction.moving,
        "reconstruction_source": scene.reconstruction.source,
        "world_from_camera": scene.cameras.world_from_camera,
        "intrinsics": scene.cameras.intrinsics,
        "solved": scene.cameras.solved,
        "reprojection_px": scene.cameras.reprojection_px,
        "flow_agreement_px": scene.cameras.flow_agreement_px,
    }
