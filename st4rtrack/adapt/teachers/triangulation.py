"""The built-in teacher of depth and cameras: triangulation over many frames along 2D tracks, without weights.

Tracks by optical flow, cameras by the survey of the anchor and resection against it (PoseLib), one place for every track that fits
one. What moves fits none, what shows no parallax is left out, and a video without parallax gives no depth at all. Depth is therefore
known only at the tracks, most of a frame's pixels being 0.

The survey rather than pycolmap: on four measured sequences with parallax, its depth and camera positions were nearer to the truth in all.
"""

import logging

import numpy as np

from st4rtrack.adapt.priors import TeacherDepth
from st4rtrack.adapt.teachers.teacher import require_frames
from st4rtrack.classical.anchored import AnchoredGeometry
from st4rtrack.classical.flow_tracks import FlowTracks, follow
from st4rtrack.classical.triangulation import triangulate
from st4rtrack.geometry.camera import intrinsics_from_focal, project_world
from st4rtrack.geometry.sampling import nearest_pixel

logger = logging.getLogger(__name__)

VERSION = 1
SPACING = 1 / 64
"""Distance of tracks in long sides of the image."""
RESEED_EVERY = 4
STATIC_ERROR = 0.004
"""A track is static when it fits one place to this share of the long side, in the median over its frames."""
MIN_PARALLAX = np.deg2rad(1.5)
MIN_VIEWS = 8
MIN_FITTING_SHARE = 0.5
"""Of the static tracks seen in a frame, below which its camera is not believed."""
AT_ONCE = 4000
"""Tracks triangulated at a time, for memory."""


class TriangulationTeacher:
    """Sparse depth of what is static, in one scale for all frames, and cameras."""

    name = f"triangulation {VERSION}"

    def depth(self, rgb: np.ndarray, anchor_index: int) -> TeacherDepth:
        """Depth at the tracks; 0 everywhere, and no cameras, where the video shows no parallax."""
        require_frames(rgb)
        depth = np.zeros(rgb.shape[:3], np.float32)
        found = _cameras(rgb, anchor_index)
        if found is not None:
            tracks = follow(iter(rgb), reseed_every=RESEED_EVERY, spacing_px=SPACING * max(rgb.shape[1:3]))
            world_from_camera, intrinsics, solved = found
            tracks.visible[:] &= solved[:, None]
            cameras = _fill(depth, tracks, world_from_camera, intrinsics)
            if depth.any():
                return TeacherDepth(depth, self.name, cameras)
        logger.info("the video shows no parallax that could be triangulated; %s has nothing to say", self.name)
        return TeacherDepth(depth, self.name)


def _cameras(rgb: np.ndarray, anchor_index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """`world_from_camera` [T, 4, 4] by PnP outward from the anchor, intrinsics [3, 3], solved [T]; `None` without parallax."""
    after, before = rgb[anchor_index + 1 :], rgb[:anchor_index][::-1]
    found = AnchoredGeometry.of(rgb[anchor_index], after)
    if found.surveyed is None:
        found = AnchoredGeometry.of(rgb[anchor_index], before)
    if found.surveyed is None:
        return None
    cameras, solved = np.tile(np.eye(4), (len(rgb), 1, 1)), np.ones(len(rgb), bool)
    for frames, step in ((after, 1), (before, -1)):
        geometry = found.along()
        for k, frame in enumerate(frames, start=1):
            cameras[anchor_index + step * k] = geometry.next(frame).anchor_from_frame
            solved[anchor_index + step * k] = geometry.solved
    return cameras, intrinsics_from_focal(found.focal_px, *rgb.shape[1:3]), solved


def _fill(depth: np.ndarray, tracks: FlowTracks, world_from_camera: np.ndarray, intrinsics: np.ndarray) -> np.ndarray:
    """Writes the depth of static tracks into the frames [T, H, W] in which they are seen where they must be.

    Returns:
        The cameras [T, 4, 4], NaN where too few of the static tracks are where they must be.
    """
    height, width = depth.shape[1:]
    points = _static_points(tracks, world_from_camera, intrinsics, max(height, width))
    cameras = world_from_camera.copy()
    for t, camera in enumerate(world_from_camera):
        seen = tracks.visible[t] & np.isfinite(points[:, 0])
        pixels = tracks.pixels_px[t, seen]
        projected, track_depth = project_world(points[seen], camera, intrinsics)
        fits = np.linalg.norm(projected - pixels, axis=-1) < 2 * STATIC_ERROR * max(height, width)
        if fits.sum() < MIN_FITTING_SHARE * max(len(fits), 1):
            cameras[t] = np.nan
            continue
        row, column = nearest_pixel(pixels[fits], height, width)
        depth[t, row, column] = track_depth[fits]
    return cameras


def _static_points(tracks: FlowTracks, world_from_camera: np.ndarray, intrinsics: np.ndarray, long_side: int) -> np.ndarray:
    """Places [points, 3] of tracks, NaN for those that move, or show too little parallax, or are seen too briefly."""
    count = tracks.visible.shape[1]
    places = np.full((count, 3), np.nan)
    for chosen in np.array_split(np.arange(count), count // AT_ONCE + 1):
        visible = tracks.visible[:, chosen]
        found = triangulate(tracks.pixels_px[:, chosen], visible, world_from_camera, intrinsics)
        static = (found.residual_px < STATIC_ERROR * long_side) & (found.parallax_rad > MIN_PARALLAX)
        static &= visible.sum(axis=0) >= MIN_VIEWS
        places[chosen[static]] = found.points_world[static]
    return places
