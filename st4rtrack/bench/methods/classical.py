"""Classical baseline without weights: optical-flow tracks, cameras by structure from motion, static points by triangulation.

Dynamic points get a low quantile (`NEAR_SIDE`) of the depths of the surrounding static points. A static camera gives no depth:
the plane baseline replaces the result. Points that move along with the camera look far away; this method cannot detect them.
"""

import logging

import numpy as np

from st4rtrack.bench.methods.bounds import plane_prediction
from st4rtrack.bench.predictions import Method, Prediction
from st4rtrack.classical.flow_tracks import FlowTracks, follow, follow_first
from st4rtrack.classical.structure_from_motion import FIRST_FOCAL, SparseScene, StaticPoints, triangulate
from st4rtrack.classical.structure_from_motion import structure_from_motion as find_cameras
from st4rtrack.geometry.camera import intrinsics_from_focal, pixel_grid, project, unproject
from st4rtrack.geometry.transforms import invert_rigid, transform_points
from st4rtrack.io.worldtrack import WorldTrackSequence
from st4rtrack.options import MethodOptions

logger = logging.getLogger(__name__)

GRID_CELLS = 21
"""Grid cells of the tracks for structure from motion, along the long side."""
RESEED_EVERY = 4
STATIC_ERROR = 0.005
"""A track is static if one 3D point fits it within this share of the long side (median over its frames)."""
MIN_PARALLAX = np.deg2rad(1.5)
NEIGHBOURS = 8
NEAR_SIDE = 0.1
"""Quantile of the surrounding depths that is assigned to a dynamic point."""
MAP_CELL_PX = 8


def structure_from_motion(options: MethodOptions) -> Method:
    """Make the method; it has no options."""
    return predict_sequence


def predict_sequence(sequence: WorldTrackSequence) -> Prediction:
    """Estimate cameras and static geometry from the whole video, then a 3D track for every query from its 2D track."""
    height, width = sequence.video.height, sequence.video.width
    long_side = max(height, width)
    grid = follow(sequence.video.frames(), reseed_every=RESEED_EVERY, spacing_px=long_side / GRID_CELLS)
    scene = find_cameras(grid.pixels_px, grid.visible, height, width)
    why_not = _failure(scene, len(sequence))
    if scene is None or why_not:
        return _plane_instead(sequence, why_not)
    world_from_camera = _every_camera(scene.world_from_camera)
    static = triangulate(grid.pixels_px, grid.visible, world_from_camera, scene.intrinsics)
    surroundings = static.points_world[_is_static(static, long_side)]
    if len(surroundings) < NEIGHBOURS:
        return _plane_instead(sequence, f"only {len(surroundings)} static points show parallax")
    maps = _background(surroundings, world_from_camera, scene.intrinsics, height, width)
    prediction = Prediction(
        reconstruction_world=maps,
        world_from_camera=world_from_camera,
        intrinsics=np.tile(scene.intrinsics, (len(sequence), 1, 1)),
    )
    if sequence.tracks_world is not None:
        assert sequence.visible is not None
        seen = sequence.visible[0]
        tracks = follow_first(sequence.video.frames(), sequence.query_px[seen])
        prediction.tracks_world = np.full((len(sequence), len(seen), 3), np.nan, np.float32)
        prediction.visible = np.zeros((len(sequence), len(seen)), bool)
        prediction.tracks_world[:, seen] = _in_world(tracks, surroundings, world_from_camera, scene.intrinsics, long_side)
        prediction.visible[:, seen] = tracks.visible
        prediction.query_px = sequence.query_px
    return prediction


def _plane_instead(sequence: WorldTrackSequence, why_not: str) -> Prediction:
    logger.warning("%s: structure from motion failed (%s); using the plane baseline instead", sequence.name, why_not)
    height, width = sequence.video.height, sequence.video.width
    return plane_prediction(sequence, intrinsics_from_focal(FIRST_FOCAL * max(height, width), height, width))


def _failure(scene: SparseScene | None, frames: int) -> str:
    """Reason not to use the result of structure from motion; empty if there is none."""
    if scene is None:
        return "no two frames show parallax; does the camera move?"
    found = np.isfinite(scene.world_from_camera[:, 0, 0])
    if found.sum() < frames / 2:
        return f"poses for only {found.sum()} of {frames} frames"
    return ""


def _every_camera(world_from_camera: np.ndarray) -> np.ndarray:
    """Assign the nearest solved camera to unsolved frames, and make the camera of frame 0 the world frame."""
    known = np.flatnonzero(np.isfinite(world_from_camera[:, 0, 0]))
    nearest = known[np.abs(np.arange(len(world_from_camera))[:, None] - known).argmin(axis=1)]
    cameras = world_from_camera[nearest]
    cameras = invert_rigid(cameras[0]) @ cameras
    cameras[0] = np.eye(4)
    return cameras


def _is_static(points: StaticPoints, long_side: int) -> np.ndarray:
    return (points.residual_px < STATIC_ERROR * long_side) & (points.parallax_rad > MIN_PARALLAX)


def _in_world(
    tracks: FlowTracks, surroundings: np.ndarray, world_from_camera: np.ndarray, intrinsics: np.ndarray, long_side: int
) -> np.ndarray:
    """World points [time, points, 3] of tracks from frame 0: triangulated if static, else on their rays at the surrounding depth."""
    static = triangulate(tracks.pixels_px, tracks.visible, world_from_camera, intrinsics)
    placed = _is_static(static, long_side)
    moves = ~placed & np.isfinite(static.points_world[:, 0]) & ~(static.residual_px < STATIC_ERROR * long_side)
    world = np.empty((*tracks.visible.shape, 3))
    for t, camera in enumerate(world_from_camera):
        mean, near_side = _depth_around(tracks.pixels_px[t], surroundings, camera, intrinsics)
        depth = np.where(moves, near_side, mean)  # dynamic objects occlude the points behind them
        world[t] = transform_points(camera, unproject(tracks.pixels_px[t], depth, intrinsics))
    last_seen = np.maximum.accumulate(np.where(tracks.visible, np.arange(len(world))[:, None], 0))
    world = np.take_along_axis(world, last_seen[..., None], axis=0)
    world = np.where(moves[:, None], world, world[0])
    return np.where(placed[:, None], static.points_world, world)


def _background(
    surroundings: np.ndarray, world_from_camera: np.ndarray, intrinsics: np.ndarray, height: int, width: int
) -> np.ndarray:
    """Coarse pointmaps [time, h, w, 3]: depth of the static points around each cell of each frame."""
    rows, columns = max(2, height // MAP_CELL_PX), max(2, width // MAP_CELL_PX)
    pixels = (pixel_grid(rows, columns) * (width / columns, height / rows)).reshape(-1, 2)
    maps = []
    for camera in world_from_camera:
        depth, _ = _depth_around(pixels, surroundings, camera, intrinsics)
        maps.append(transform_points(camera, unproject(pixels, depth, intrinsics)).reshape(rows, columns, 3))
    return np.stack(maps).astype(np.float32)


def _depth_around(
    pixels_px: np.ndarray, points_world: np.ndarray, world_from_camera: np.ndarray, intrinsics: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Two depths per pixel [pixels] in a camera, from the nearest points in the image: mean of log depth weighted by inverse
    distance, and the quantile `NEAR_SIDE`.
    """
    in_camera = transform_points(invert_rigid(world_from_camera), points_world)
    in_camera = in_camera[in_camera[:, 2] > 0]
    if len(in_camera) == 0:
        return np.ones(len(pixels_px)), np.ones(len(pixels_px))
    distance = np.linalg.norm(pixels_px[:, None] - project(in_camera, intrinsics), axis=-1)
    nearest = np.argsort(distance, axis=1)[:, :NEIGHBOURS]
    weight = 1 / (1 + np.take_along_axis(distance, nearest, axis=1))
    depth = in_camera[nearest, 2]
    mean = np.exp((weight * np.log(depth)).sum(axis=1) / weight.sum(axis=1))
    return mean, np.quantile(depth, NEAR_SIDE, axis=1)
