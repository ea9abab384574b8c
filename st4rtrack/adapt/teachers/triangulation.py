"""Built-in teacher of depth and cameras: multi-view triangulation of 2D tracks, without weights.

Tracks by optical flow, cameras by the depth survey of the anchor and PnP against it (PoseLib), one static 3D point per consistent
track. Dynamic tracks are inconsistent, tracks without parallax are left out, and a video without parallax has no depth at all.
Depth
is sparse: known only at the tracks, 0 at most pixels of a frame.

The survey is used instead of pycolmap: its depth and camera positions were more accurate on all four measured sequences with
parallax.
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
"""Spacing of tracks in long image sides."""
RESEED_EVERY = 4
STATIC_ERROR = 0.004
"""Maximum median reprojection error of a static track over its frames, in long image sides."""
MIN_PARALLAX = np.deg2rad(1.5)
MIN_VIEWS = 8
MIN_FITTING_SHARE = 0.5
"""Minimum share of a frame's visible static tracks that must reproject well for its camera to be used."""
AT_ONCE = 4000
"""Number of tracks to triangulate at once, to limit memory."""


class TriangulationTeacher:
    """Depth teacher with sparse depth of static points, in one scale for all frames, and cameras."""

    name = f"triangulation {VERSION}"

    def depth(self, rgb: np.ndarray, anchor_index: int) -> TeacherDepth:
        """Compute depth at the tracks; 0 everywhere and no cameras if the video has no parallax."""
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
        logger.info("the video has too little parallax to triangulate; %s provides no depth", self.name)
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
    """Write the depth of static tracks into the frames [T, H, W] in which they are visible and reproject well.

    Returns:
        Cameras [T, 4, 4], NaN where too few static tracks reproject well.
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
    """Triangulate tracks to points [points, 3], NaN for dynamic tracks and those with little parallax or few views."""
    count = tracks.visible.shape[1]
    points = np.full((count, 3), np.nan)
    for chosen in np.array_split(np.arange(count), count // AT_ONCE + 1):
        visible = tracks.visible[:, chosen]
        found = triangulate(tracks.pixels_px[:, chosen], visible, world_from_camera, intrinsics)
        static = (found.residual_px < STATIC_ERROR * long_side) & (found.parallax_rad > MIN_PARALLAX)
        static &= visible.sum(axis=0) >= MIN_VIEWS
        points[chosen[static]] = found.points_world[static]
    return points
