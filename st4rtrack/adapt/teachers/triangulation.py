"""Built-in teacher of depth and cameras: multi-view triangulation of 2D tracks, without weights.

Tracks by optical flow, cameras by the global solver, one static 3D point per consistent track. Dynamic tracks are inconsistent,
tracks without parallax are left out, and a video without parallax has no depth at all. Depth is sparse: known only at the tracks,
0 at most pixels of a frame.
"""

import logging

import numpy as np

from st4rtrack.adapt.priors import TeacherDepth
from st4rtrack.adapt.teachers.teacher import require_frames
from st4rtrack.classical.flow_tracks import FlowTracks, follow
from st4rtrack.classical.solver.cameras import solve_video
from st4rtrack.classical.triangulation import triangulate
from st4rtrack.geometry.camera import intrinsics_from_focal, project_world
from st4rtrack.geometry.sampling import nearest_pixel
from st4rtrack.io.video import open_video

logger = logging.getLogger(__name__)

VERSION = 2
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
        solved = solve_video(open_video(rgb), anchor_index=anchor_index)
        if solved.trusted:
            tracks = follow(iter(rgb), reseed_every=RESEED_EVERY, spacing_px=SPACING * max(rgb.shape[1:3]))
            tracks.visible[:] &= solved.solved[:, None]
            world_from_camera = np.where(solved.solved[:, None, None], solved.world_from_camera, np.eye(4))
            cameras = _fill(depth, tracks, world_from_camera, intrinsics_from_focal(solved.focal_px, *rgb.shape[1:3]))
            if depth.any():
                return TeacherDepth(depth, self.name, cameras)
        logger.info("the video has too little parallax to triangulate; %s provides no depth", self.name)
        return TeacherDepth(depth, self.name)


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
