"""Recipes that derive sets from raw data sets: those of WorldTrack as published, and sets with depth and cameras only."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from st4rtrack.data.dynamic_replica import DynamicReplica
from st4rtrack.data.kitti import Kitti
from st4rtrack.data.point_odyssey import PointOdyssey
from st4rtrack.data.raw import RawDataset
from st4rtrack.data.seven_scenes import SevenScenes
from st4rtrack.data.tapvid3d import Tapvid3d
from st4rtrack.data.tum import BONN, TumRgbd
from st4rtrack.io.worldtrack import NUM_FRAMES

FOGGY = frozenset(
    {
        "cab_e1_ego2",
        "cab_e1_3rd",
        "cab_e_ego2",
        "cnb_dlab_0225_ego1",
        "dancingroom_3rd",
        "scene_d78_0318_ego1",
        "scene_d78_0318_ego2",
    }
)
"""Sequences of Point Odyssey that the released loader lists as foggy."""

KUBRIC_STYLE = ("ani", "char", "r")
"""Name prefixes of the Point Odyssey sequences that the released loader drops; the paper leaves out those in Kubric's style."""

TUM_DYNAMICS = frozenset(
    f"freiburg3_{people}_{camera}" for people in ("sitting", "walking") for camera in ("static", "xyz", "rpy", "halfsphere")
)
"""The eight sequences of TUM-Dynamics, with or without the prefix "rgbd_dataset_"."""


def _not_point_odyssey(name: str) -> str | None:
    if name.startswith(KUBRIC_STYLE):
        return "in the style of Kubric, by its name"
    return "foggy" if name in FOGGY else None


def _not_tum_dynamics(name: str) -> str | None:
    return None if name.removeprefix("rgbd_dataset_") in TUM_DYNAMICS else "not one of the eight dynamic sequences of freiburg3"


@dataclass(frozen=True)
class Recipe:
    """Recipe that derives one set from a raw data set: name filters, pieces, thinning of tracks.

    Attributes:
        title: name of the data set.
        folder: folder name of the set, as published.
        open: opens the data set in a folder.
        excluded: reason to leave out a sequence because of its name, or None.
        frame_step: take every n-th frame of a sequence.
        piece_frames: length of a piece; None: the whole sequence, with its name.
        min_frames: minimum length; shorter pieces are left out.
        first_piece_only: take only the first piece of a sequence.
        first_frame: first frame that is used.
        track_step: keep every n-th track.
        visible_tracks: thin tracks evenly to about this number of visible ones in the first frame.
        tracked: leave out sequences without tracks; if false, only depth is used.
        moving_camera: whether the data set must provide camera poses.
    """

    title: str
    folder: str
    open: Callable[[Path], RawDataset]
    excluded: Callable[[str], str | None] = lambda name: None
    frame_step: int = 1
    piece_frames: int | None = None
    min_frames: int = NUM_FRAMES
    first_piece_only: bool = False
    first_frame: int = 0
    track_step: int = 1
    visible_tracks: int | None = None
    tracked: bool = True
    moving_camera: bool = True


RECIPES = {
    "adt": Recipe("TAPVid-3D's Aria Digital Twin", "adt_mini", lambda raw: Tapvid3d(raw, "adt"), visible_tracks=1000),
    "pstudio": Recipe(
        "TAPVid-3D's Panoptic Studio",
        "pstudio_mini",
        lambda raw: Tapvid3d(raw, "pstudio"),
        visible_tracks=1000,
        moving_camera=False,
    ),
    "po": Recipe("Point Odyssey", "po_mini", PointOdyssey, _not_point_odyssey, piece_frames=128, min_frames=128, track_step=8),
    "dr": Recipe("Dynamic Replica", "ds_mini", DynamicReplica, piece_frames=128, min_frames=128, track_step=25),
    "tum": Recipe(
        "TUM-Dynamics", "tum", TumRgbd, _not_tum_dynamics, frame_step=3, piece_frames=90, first_piece_only=True, tracked=False
    ),
    "7scenes": Recipe(
        "7-Scenes", "7scenes", SevenScenes, frame_step=2, piece_frames=NUM_FRAMES, first_piece_only=True, tracked=False
    ),
    "bonn": Recipe(
        "Bonn RGB-D Dynamic",
        "bonn",
        lambda raw: TumRgbd(raw, BONN),
        piece_frames=110,
        first_piece_only=True,
        first_frame=30,
        tracked=False,
    ),
    "kitti": Recipe("KITTI's depth prediction", "kitti", Kitti, piece_frames=110, first_piece_only=True, tracked=False),
}
