"""Built-in teacher of tracks, depth and cameras: the fused geometry of the video (`hints/fused.py`), read from its scene.

Tracks follow optical flow and the matching head; depth is measured by many views, or the aligned depth prior elsewhere; cameras
are those of the global solver.
"""

from collections.abc import Callable
from functools import cached_property

import numpy as np

from st4rtrack.adapt.priors import TeacherDepth, TeacherTracks
from st4rtrack.geometry.camera import project_world
from st4rtrack.geometry.sampling import inside_image
from st4rtrack.geometry.track_assignment import depth_in_camera
from st4rtrack.scene import Scene, read_tracks
from st4rtrack.types import DepthSource, UserError

MAX_LOG_ERROR = 0.1
"""Maximum expected log error of measured depth that supervises."""


class FusedTeacher:
    """Teacher that reads a scene of the embedded model.

    Args:
        scene: makes or loads the scene of the video at network size; called once, when it is needed.
        version: version of the weights of the model that makes it.
        measured_only: provide only depth that is measured by many views, for a network whose own prior fills in the rest.
    """

    follows_any = True

    def __init__(self, scene: Callable[[], Scene], version: str, *, measured_only: bool = False) -> None:
        self._make, self._measured_only = scene, measured_only
        self.name = f"fused geometry 1 ({version[:12]}){', measured depth' if measured_only else ''}"

    @cached_property
    def scene(self) -> Scene:
        """The scene."""
        return self._make()

    def tracks(self, rgb: np.ndarray, query_px: np.ndarray, anchor_index: int) -> TeacherTracks:
        """Project the 3D tracks of anchor points; invisible in unsolved frames and outside the image."""
        scene = self._scene_of(rgb)
        if scene.anchor_index != anchor_index:
            raise UserError(
                f"frame {anchor_index} cannot be the anchor (black or blank); choose another first frame with --start"
            )
        found, query_px = read_tracks(scene.tracking, query_px), np.asarray(query_px, np.float64)
        pixels = np.stack(
            [
                project_world(points, scene.cameras.world_from_camera[t], scene.cameras.intrinsics[t])[0]
                for t, points in enumerate(found.points_world)
            ]
        )
        visible = found.visible & inside_image(pixels, *rgb.shape[1:3]) & scene.solved_frames[:, None]
        tracks_px = np.where(np.isfinite(pixels), pixels, query_px).astype(np.float32)
        return TeacherTracks(query_px, tracks_px, visible, self.name)

    def depth(self, rgb: np.ndarray, anchor_index: int) -> TeacherDepth:
        """Depth and cameras; unknown in unsolved frames."""
        scene = self._scene_of(rgb)
        cameras = np.asarray(scene.cameras.world_from_camera, np.float64).copy()
        depth = np.zeros(rgb.shape[:3], np.float32)
        for t in np.flatnonzero(scene.solved_frames):
            known = np.nan_to_num(depth_in_camera(np.asarray(scene.reconstruction.points_world[t]), cameras[t]))
            depth[t] = np.where(self._measured(scene, int(t)), known, 0) if self._measured_only else known
        cameras[~scene.solved_frames] = np.nan
        return TeacherDepth(depth, self.name, cameras)

    def _scene_of(self, rgb: np.ndarray) -> Scene:
        if self.scene.rgb.shape != rgb.shape:
            raise UserError(f"the scene of {self.name} has frames {list(self.scene.rgb.shape)}, not {list(rgb.shape)}")
        return self.scene

    @staticmethod
    def _measured(scene: Scene, t: int) -> np.ndarray:
        """Pixels [H, W] bool of a frame with reliable multi-view depth."""
        maps = scene.reconstruction
        if maps.source is None or maps.confidence is None:
            return np.ones(scene.rgb.shape[1:3], bool)
        reliable = np.asarray(maps.confidence[t]) > 1 + 1 / MAX_LOG_ERROR
        return reliable & (np.asarray(maps.source[t]) == DepthSource.MEASURED)
