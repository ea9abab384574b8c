"""Teachers that know the truth of a procedural clip."""

import numpy as np

from st4rtrack.adapt.priors import TeacherDepth, TeacherTracks
from st4rtrack.adapt.teachers import FusedTeacher
from st4rtrack.data.procedural import ProceduralClip
from st4rtrack.geometry.camera import project
from st4rtrack.geometry.sampling import nearest_pixel
from st4rtrack.geometry.transforms import invert_rigid, transform_points
from st4rtrack.scene import Scene
from st4rtrack.types import Cameras, DepthSource, PixelMap, Pointmap, TrackingOverTime


class TruthTracks:
    """Projections of the true tracks; `asked` counts how often."""

    name = "truth 1"
    follows_any = True

    def __init__(self, clip: ProceduralClip, *, hidden: bool = False) -> None:
        self.clip, self.hidden, self.asked = clip, hidden, 0

    def tracks(self, rgb: np.ndarray, query_px: np.ndarray, anchor_index: int) -> TeacherTracks:
        self.asked += 1
        clip = self.clip
        row, column = nearest_pixel(query_px, *rgb.shape[1:3])
        known = clip.tracking_valid[0, row, column]
        row, column = row[known], column[known]
        points = clip.tracking_points_world[:, row, column].astype(np.float64)
        in_camera = transform_points(invert_rigid(clip.world_from_camera), points)
        pixels = project(in_camera, clip.intrinsics)
        visible = clip.visible[:, row, column] & (in_camera[..., 2] > 0)
        if self.hidden:
            visible[1:] = False
        centres = np.stack([column + 0.5, row + 0.5], axis=-1)
        return TeacherTracks(centres, np.nan_to_num(pixels).astype(np.float32), visible, self.name)


class TruthDepth:
    """True depth."""

    name = "true depth 1"

    def __init__(self, clip: ProceduralClip) -> None:
        self.clip = clip

    def depth(self, rgb: np.ndarray, anchor_index: int) -> TeacherDepth:
        return TeacherDepth(self.clip.depth.astype(np.float32), self.name)


def truth_scene(clip: ProceduralClip) -> Scene:
    """Scene with the true geometry of a clip."""
    frames, height, width = clip.depth.shape
    return Scene(
        rgb=clip.rgb,
        time_s=np.arange(frames) / 30,
        tracking=TrackingOverTime(
            clip.tracking_points_world, np.full(clip.depth.shape, 2.0), visible=clip.visible, moving=clip.moving
        ),
        reconstruction=Pointmap(
            clip.reconstruction_points_world,
            np.full(clip.depth.shape, 101.0),
            source=np.full(clip.depth.shape, DepthSource.MEASURED, np.uint8),
        ),
        cameras=Cameras(clip.world_from_camera, clip.intrinsics),
        anchor_index=0,
        pixel_map=PixelMap(),
        source_size=(height, width),
    )


def _no_scene() -> Scene:
    raise AssertionError("the built-in teacher was not chosen")


UNUSED = FusedTeacher(_no_scene, "0")
"""A built-in teacher without a scene."""
