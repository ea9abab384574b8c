"""Joins scenes whose cameras are known in one model: all of them in one world frame and unit.

The world is that of the first scene, the camera frame of its anchor, in its unit; so only the anchor camera of the first scene is
the identity.
"""

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from st4rtrack.geometry.transforms import transform_maps
from st4rtrack.io.formats.common import lengths
from st4rtrack.io.formats.content import PointCloud, accumulated
from st4rtrack.io.formats.frames import ChosenFrames
from st4rtrack.io.formats.ply import write_cloud
from st4rtrack.io.scene import load_scene, save_scene
from st4rtrack.scene import Scene
from st4rtrack.types import Pointmap, UserError

logger = logging.getLogger(__name__)

CLOUD = "joined.ply"
MAX_POINTS = 2_000_000
_SCALES = ("metres_per_unit", "known_distance")


def join_scenes(folders: Sequence[Path], output: Path, *, overwrite: bool = False) -> list[Path]:
    """Write scenes in one world, each to a folder of its name in `output`, and the point cloud of all.

    Args:
        folders: scene folders; their cameras are known in one model (`--cameras`).
        output: folder to write.
        overwrite: replace scenes of these names.
    Returns:
        The folders of the scenes, then the point cloud.
    Raises:
        UserError: there are fewer than two scenes, two have one name, or one has no cameras of a known model.
    """
    scenes = [load_scene(folder) for folder in folders]
    names = [folder.resolve().name for folder in folders]
    if len(scenes) < 2 or len(set(names)) < len(names):
        raise UserError(f"join needs two or more scenes of different folder names, got {' '.join(names) or 'none'}")
    known_from_world = [_known_from_world(scene, name) for scene, name in zip(scenes, names, strict=True)]
    models = {scene.info.get("known", {}).get("cameras") for scene in scenes}
    if len(models) > 1:
        logger.warning("the cameras come from several files; the scenes fit together only if these share one world: %s", models)
    world = {"world": known_from_world[0].tolist(), "scenes": names}
    joined = []
    for scene, known in zip(scenes, known_from_world, strict=True):
        moved = scene if scene is scenes[0] else moved_to_world(scene, np.linalg.inv(known_from_world[0]) @ known)
        joined.append(dataclasses.replace(moved, info=_joined_info(scene, scenes[0], world)))
    written = [save_scene(scene, output / name, overwrite=overwrite) for scene, name in zip(joined, names, strict=True)]
    clouds = [accumulated(scene, MAX_POINTS // len(joined)) for scene in joined]
    points, colours = (np.concatenate([getattr(cloud, name) for cloud in clouds]) for name in ("points_world", "colours"))
    write_cloud(PointCloud(points, colours, None), output / CLOUD, lengths(joined[0].info))
    return [*written, output / CLOUD]


def _known_from_world(scene: Scene, name: str) -> np.ndarray:
    """Similarity [4, 4] from the world of a scene to the world of the model that its cameras come from."""
    found = scene.info.get("results", {}).get("known_from_world")
    matrix = np.asarray(found, np.float64) if found is not None else np.zeros(0)
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all() or np.linalg.det(matrix[:3, :3]) <= 0:
        raise UserError(
            f"the pose of {name} in a common world is unknown; reconstruct it with the cameras of a model of all videos: "
            "st4rtrack run VIDEO --cameras MODEL"
        )
    return matrix


def _joined_info(scene: Scene, first: Scene, world: dict[str, Any]) -> dict[str, Any]:
    """The `info` of a scene in the joined world, whose unit is metres if that of the first scene is."""
    metric = {name: value for name, value in first.info.get("known", {}).items() if name in _SCALES}
    known = {name: value for name, value in scene.info["known"].items() if name not in _SCALES} | metric
    own = {"units": first.info["results"]["units"], "known_from_world": world["world"]}
    return {**scene.info, "known": known, "results": {**scene.info["results"], **own}, "joined": world}


def moved_to_world(scene: Scene, target_from_world: np.ndarray) -> Scene:
    """The scene in another world frame and unit, by a similarity [4, 4]; its maps are read one frame at a time."""
    scale = np.cbrt(np.linalg.det(target_from_world[:3, :3]))

    def moved(maps: Pointmap) -> Any:
        change = lambda points: transform_maps(target_from_world, points.astype(np.float64))  # noqa: E731
        every = np.arange(len(scene))
        return dataclasses.replace(maps, points_world=ChosenFrames(maps.points_world, every, change))

    cameras = target_from_world @ np.asarray(scene.cameras.world_from_camera, np.float64)
    cameras[:, :3, :3] /= scale
    return dataclasses.replace(
        scene,
        tracking=moved(scene.tracking),
        reconstruction=moved(scene.reconstruction),
        anchors={frame: moved(maps) for frame, maps in scene.anchors.items()},
        cameras=dataclasses.replace(scene.cameras, world_from_camera=cameras),
    )
