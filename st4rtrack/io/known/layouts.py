"""Layouts of the files of other tools, as data: names of the arrays, direction of the poses, image region."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

MAPANYTHING_SIDE = 518
"""Long side in pixels of the images in MapAnything's COLMAP export, which are centre crops of the source images."""
MONST3R_POSES, MONST3R_INTRINSICS, MONST3R_DEPTH = "pred_traj.txt", "pred_intrinsics.txt", "frame_*.npy"
"""Files in the output folder of MonST3R; the images are centre crops of the source images."""


@dataclass(frozen=True)
class NpzLayout:
    """Names of the arrays in an `.npz` with an entry per frame, and what they mean. Poses have OpenCV axes."""

    cameras: str  # [n, 3 or 4, 4] poses
    intrinsics: str  # [n, 3, 3], [3, 3], or fx, fy, cx, cy
    depth: str  # [n, height, width] or [n, height, width, 1] z-depth in the unit of the poses
    camera_from_world: bool = False  # whether the poses map from world to camera; otherwise from camera to world
    image: str | None = None  # array [n, height, width, ...] with the image size of the intrinsics; `None`: the source size
    crop: Literal["never", "if square", "always"] = "never"  # whether the image is a centre crop of the source image
    marker: str | None = None  # an array that only this layout has

    def cropped(self, height: int, width: int) -> bool:
        """Whether images of this size are centre crops of the source images."""
        return self.crop == "always" or (self.crop == "if square" and height == width)


LAYOUTS = (
    NpzLayout("world_from_camera", "intrinsics", "depth"),
    NpzLayout("cam_c2w", "intrinsic", "depths", image="images"),  # MegaSaM
    NpzLayout("extrinsics_w2c", "fx_fy_cx_cy", "depth_map", camera_from_world=True),  # WorldTrack
    NpzLayout("extrinsics", "intrinsics", "depth", camera_from_world=True, image="depth"),  # Depth-Anything-3
    NpzLayout("camera_poses", "intrinsics", "depth_z", image="depth_z", crop="always"),  # MapAnything: outputs of `infer`
    # MapAnything's app uses the names of VGGT's, but stores world-from-camera poses.
    NpzLayout("extrinsic", "intrinsic", "depth", image="depth", crop="always", marker="final_mask"),
    # VGGT makes images 518 pixels wide, and crops them to a square if they are higher.
    NpzLayout("extrinsic", "intrinsic", "depth", camera_from_world=True, image="depth", crop="if square"),
)


def layout_of(keys: Sequence[str]) -> NpzLayout | None:
    """Layout of an `.npz` with cameras, by the names of its arrays."""
    return next((each for each in LAYOUTS if {each.cameras, each.marker or each.cameras} <= set(keys)), None)
