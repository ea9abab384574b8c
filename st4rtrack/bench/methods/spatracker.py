"""SpatialTracker's tracks, saved by the user (docs/spatracker.md), as the baselines of the paper's section 4.2.

The tool tracks in each frame's camera frame. The tracks are used unchanged as world coordinates, or with the camera motion
removed, estimated by RANSAC-Procrustes over the tracks themselves or taken from another method's predicted cameras.
"""

import functools
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from st4rtrack.bench.predictions import Method, Prediction, read_prediction
from st4rtrack.classical.solver.colmap import pycolmap
from st4rtrack.geometry.align import umeyama
from st4rtrack.geometry.camera import project, unproject
from st4rtrack.geometry.sampling import inside_image, sample_map
from st4rtrack.geometry.transforms import invert_rigid, rigid, transform_points
from st4rtrack.geometry.vectors import length
from st4rtrack.io.npz import npz_keys, read_npz
from st4rtrack.io.worldtrack import WorldTrackSequence
from st4rtrack.options import MethodOptions
from st4rtrack.types import UserError

logger = logging.getLogger(__name__)

MISFIT = 0.05
"""Maximum error of a static point relative to the median depth; monocular depth is no better; less noise tightens it."""

MIN_POINTS, MIN_SHARE = 10, 0.05
"""Minimum number and share of inliers of a valid motion: random tracks of a thousand points agree on less than ten."""

ROUNDS = 10
"""Iterations of least absolute distances, and as many of least squares, on the inliers."""

TIGHT, TIGHTEST = 2.28, 0.05
"""Inlier threshold as a multiple of the median residual: 99.3 % pass under normal noise. The threshold is never tightened below
this share of its initial value, so that noise-free data does not turn rounding errors into outliers."""

QUERY_TOLERANCE = 0.02
"""Median distance in frame 0 between tracks and queries, in image widths, above which points or pixel units do not match."""


@dataclass(frozen=True)
class CameraTracks:
    """SpatialTracker's tracks of one sequence.

    Attributes:
        points_camera: [time, points, 3] float64 in each frame's camera frame, the tool's unit; NaN where not tracked.
        pixels_px: [time, points, 2] in the sequence's images.
        visible: [time, points] bool, or None if not in the file.
    """

    points_camera: np.ndarray
    pixels_px: np.ndarray
    visible: np.ndarray | None

    @property
    def usable(self) -> np.ndarray:
        """Usable points [time, points] bool: in front of the camera and, if known, visible."""
        usable = self.points_camera[..., 2] > 0
        return usable if self.visible is None else usable & self.visible


def camera_frame(options: MethodOptions) -> Method:
    """Use camera coordinates as world coordinates: correct for a static camera ("SpaTracker" in the paper's tables)."""
    return _method(options, lambda tracks, sequence: Prediction(tracks_world=tracks.points_camera, visible=tracks.visible))


def with_procrustes(options: MethodOptions) -> Method:
    """Remove the camera motion, estimated from the tracks as the rigid motion of the majority."""

    def predict(tracks: CameraTracks, sequence: WorldTrackSequence) -> Prediction:
        world_from_camera, solved = camera_motion(tracks)
        if not solved.all():
            logger.warning(
                "%s: pose estimation failed for %d of %d frames (too few inlier tracks); reused the previous pose",
                *(sequence.name, (~solved).sum(), len(solved)),
            )
        return _in_world(tracks, world_from_camera)

    return _method(options, predict)


def with_cameras(options: MethodOptions) -> Method:
    """Remove the camera motion predicted by another method (MonST3R in the paper), scaled to the tracks' unit."""

    def predict(tracks: CameraTracks, sequence: WorldTrackSequence) -> Prediction:
        return _in_world(tracks, scaled_cameras(tracks, cameras / f"{sequence.name}.npz", sequence))

    method = _method(options, predict)
    if options.cameras is None:
        raise UserError(
            "this method needs cameras; pass predictions with cameras (of monst3r-ga, for instance) with --cameras DIR"
        )
    cameras = options.cameras
    if not cameras.is_dir():
        raise UserError(f"--cameras: {cameras} is not a folder with predictions; check the path")
    return method


def _method(options: MethodOptions, predict: Callable[[CameraTracks, WorldTrackSequence], Prediction]) -> Method:
    """Shared part of the three methods: read the tracks of a sequence; predict nothing for sequences without tracks."""
    folder = options.tracks
    if folder is None:
        raise UserError("this method needs SpatialTracker's tracks; write them as in docs/spatracker.md, and pass --tracks DIR")
    if not folder.is_dir():
        raise UserError(f"--tracks: {folder} is not a folder with tracks; check the path")
    return lambda sequence: Prediction() if sequence.tracks_world is None else predict(read_tracks(folder, sequence), sequence)


def camera_motion(tracks: CameraTracks) -> tuple[np.ndarray, np.ndarray]:
    """Estimate cameras from the tracks alone.

    Each frame is aligned directly to frame 0: all tracks begin there, so no other frame shares more of them, and errors do
    not accumulate as along a chain of neighbouring frames.
    """
    points, usable = tracks.points_camera, tracks.usable
    world_from_camera = np.tile(np.eye(4), (len(points), 1, 1))
    solved = np.ones(len(points), bool)
    threshold = MISFIT * float(np.median(points[usable][:, 2]))
    for t in range(1, len(points)):
        common = usable[t] & usable[0]
        found = robust_rigid(points[t, common], points[0, common], threshold=threshold)
        if found and found[1].sum() >= max(MIN_POINTS, MIN_SHARE * common.sum()):
            world_from_camera[t] = found[0]
        else:
            world_from_camera[t], solved[t] = world_from_camera[t - 1], False
    return world_from_camera, solved


def robust_rigid(source: np.ndarray, target: np.ndarray, *, threshold: float) -> tuple[np.ndarray, np.ndarray] | None:
    """Estimate the rigid motion of the majority of point pairs: COLMAP's RANSAC, then a threshold adapted to the noise.

    Slowly moving points stay within the threshold and bias least squares. They do not bias least absolute distances (by
    re-weighted least squares), which therefore come first, so that the noise is measured around the right motion.
    """
    colmap = pycolmap()
    options = colmap.RANSACOptions(max_error=threshold, random_seed=0)
    found = colmap.estimate_rigid3d_robust(source, target, options) if len(source) >= 3 else None
    if found is None:
        return None
    motion, limit, floor = found["tgt_from_src"].matrix(), threshold, TIGHTEST * threshold
    for step in range(2 * ROUNDS):
        residual = length(transform_points(motion, source) - target)
        fits = residual <= limit
        if fits.sum() < 3:
            return None
        if step >= ROUNDS:
            limit = min(limit, max(TIGHT * float(np.median(residual[fits])), floor))
        weights = fits / np.maximum(residual, floor) if step < ROUNDS else (residual <= limit).astype(float)
        try:
            rotation = umeyama(source, target, weights=weights).rotation
        except ValueError:
            return None
        motion = rigid(rotation, weights @ (target - source @ rotation.T) / weights.sum())
    fits = length(transform_points(motion, source) - target) <= limit
    if fits.sum() < 3:
        return None
    breadth = np.linalg.svd(target[fits] - target[fits].mean(axis=0), compute_uv=False)[1] / np.sqrt(fits.sum())
    return None if breadth <= limit else (motion, fits)


def scaled_cameras(tracks: CameraTracks, path: Path, sequence: WorldTrackSequence) -> np.ndarray:
    """Cameras of a prediction, scaled to the tracks' unit by the median ratio of track depth to predicted depth (visible tracks)."""
    prediction = read_prediction(path, sequence)
    cameras, reconstruction = prediction.world_from_camera, prediction.reconstruction_world
    if cameras is None or reconstruction is None:
        lacking = "world_from_camera" if cameras is None else "reconstruction_world, which gives the cameras' unit"
        raise UserError(
            f"{sequence.name}: {path} has no {lacking}; --cameras needs predictions with both, such as those of monst3r-ga"
        )
    rotation = cameras[:, :3, :3]
    if not np.isfinite(cameras).all() or not np.allclose(rotation @ rotation.swapaxes(1, 2), np.eye(3), atol=1e-3):
        raise UserError(f"{sequence.name}: world_from_camera in {path} are not rigid transforms; predict it again")
    predicted = _predicted_depth(tracks, cameras, reconstruction, sequence)
    known = tracks.usable & (predicted > 0) & (predicted < np.inf)
    if not known.any():
        raise UserError(
            f"{sequence.name}: no track is visible where {path} has depth, so its unit is unknown; use other predictions"
        )
    relative = invert_rigid(cameras[:1]) @ cameras
    relative[:, :3, 3] *= np.median(tracks.points_camera[known][:, 2] / predicted[known])
    return relative


def read_tracks(folder: Path, sequence: WorldTrackSequence) -> CameraTracks:
    """Read and check the tracks of a sequence (format: docs/spatracker.md)."""
    name, path = sequence.name, folder / f"{sequence.name}.npz"
    if not path.is_file():
        raise UserError(f"{name}: there are no tracks; expected {path}")
    keys = npz_keys(path)
    kind = next((key for key in ("tracks_uvd", "tracks_camera") if key in keys), None)
    if kind is None:
        raise UserError(f"{name}: {path} has neither tracks_uvd nor tracks_camera")
    arrays = read_npz(path, kind, *(key for key in ("visible", "intrinsics") if key in keys))
    values = _checked(kind, arrays[kind], sequence, 3).astype(np.float64)
    values[~np.isfinite(values).all(axis=-1)] = np.nan
    visible = _checked("visible", arrays["visible"], sequence) if "visible" in arrays else None
    intrinsics = _intrinsics(arrays.get("intrinsics"), sequence)
    if kind == "tracks_camera":
        with np.errstate(divide="ignore", invalid="ignore"):
            tracks = CameraTracks(values, project(values, intrinsics), visible)
    else:
        if "intrinsics" not in arrays:
            _note_own_intrinsics(folder)
        _require_queries(values[0, :, :2], sequence)
        tracks = CameraTracks(unproject(values[..., :2], values[..., 2], intrinsics), values[..., :2], visible)
    if not tracks.usable[0].any():
        raise UserError(f"{name}: {path} has no finite, visible track in front of the camera in frame 0")
    return tracks


def _in_world(tracks: CameraTracks, world_from_camera: np.ndarray) -> Prediction:
    return Prediction(
        tracks_world=transform_points(world_from_camera, tracks.points_camera),
        visible=tracks.visible,
        world_from_camera=world_from_camera,
    )


def _predicted_depth(
    tracks: CameraTracks, cameras: np.ndarray, reconstruction: np.ndarray, sequence: WorldTrackSequence
) -> np.ndarray:
    """Depth [time, points] of the reconstruction at the tracks' pixels; NaN outside the image."""
    image = sequence.video
    height, width = reconstruction.shape[1:3]
    depth = np.full(tracks.points_camera.shape[:2], np.nan)
    for t, camera_from_world in enumerate(invert_rigid(cameras)):
        seen = tracks.usable[t] & inside_image(tracks.pixels_px[t], image.height, image.width)
        map_px = tracks.pixels_px[t, seen] * (width / image.width, height / image.height)
        depth[t, seen] = transform_points(camera_from_world, sample_map(reconstruction[t], map_px))[:, 2]
    return depth


def _checked(key: str, value: np.ndarray, sequence: WorldTrackSequence, *last: int) -> np.ndarray:
    """Evaluated frames of an array that must be [time, points, *last]: numbers, or bool if there is no last axis."""
    assert sequence.visible is not None
    frames, points = sequence.visible.shape
    kinds, wanted = ("fiu", "numbers") if last else ("b", "bool")
    if value.dtype.kind not in kinds:
        raise UserError(f"{sequence.name}: {key} must hold {wanted}, got {value.dtype}")
    if value[:frames].shape != (frames, points, *last):
        expected = ", ".join(map(str, (frames, points, *last)))
        raise UserError(
            f"{sequence.name}: {key} must have the shape [{expected}], all tracks of the sequence's file; got {list(value.shape)}"
        )
    return value[:frames]


def _intrinsics(matrix: np.ndarray | None, sequence: WorldTrackSequence) -> np.ndarray:
    if matrix is None:
        return sequence.intrinsics
    numbers = matrix.shape == (3, 3) and matrix.dtype.kind in "fiu"
    if not numbers or not np.isfinite(matrix).all() or not (np.diag(matrix) > 0).all():
        raise UserError(f"{sequence.name}: intrinsics must be a finite matrix [3, 3] in pixels of the sequence's images")
    return matrix.astype(np.float64)


@functools.cache  # log once per folder
def _note_own_intrinsics(folder: Path) -> None:
    logger.info("%s: tracks_uvd without intrinsics; un-projected with the sequences' true intrinsics", folder)


def _require_queries(start_px: np.ndarray, sequence: WorldTrackSequence) -> None:
    """Reject tracks of other points, in another order, or in pixels of a resized image."""
    assert sequence.visible is not None
    distance_px = np.linalg.norm(start_px - sequence.query_px, axis=-1)[sequence.visible[0]]
    distance_px = distance_px[np.isfinite(distance_px)]
    width, height = sequence.video.width, sequence.video.height
    if len(distance_px) and np.median(distance_px) > QUERY_TOLERANCE * width:
        raise UserError(
            f"{sequence.name}: tracks_uvd in frame 0 are {np.median(distance_px):.1f} pixels from the queries; they must be all tracks "
            f"of the sequence's file in its order, in pixels of its images, which are {width}x{height}"
        )
