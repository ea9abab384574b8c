"""Interface to pycolmap: import, database, global mapper and bundle adjustment.

Symbols: cameras are `camera_from_world` [4, 4]; image_id = index in the list + 1.
"""

import ctypes
import os
import signal
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from st4rtrack.geometry.transforms import rigid
from st4rtrack.types import UserError

ROBUST_LOSS_PX = 1.0
MAX_ITERATIONS = 30
COST_TOLERANCE = 1e-4
"""Relative cost change that ends a bundle adjustment. COLMAP's 0 uses all iterations and gives the same cameras."""
MAX_RANSAC_TRIALS = 2000
TRACKS_PER_IMAGE = 150
"""Number of tracks per image that the global mapper starts with: more take longer for the same cameras. In the end all matches
are triangulated."""


def pycolmap() -> Any:
    """Import pycolmap, silenced and without its SIGTERM handler.

    Raises:
        UserError: pycolmap cannot be imported.
    """
    try:
        with _handler_restored(signal.SIGTERM):
            import pycolmap
    except ImportError as error:
        raise UserError(f'pycolmap cannot be imported ({error}); reinstall it: pip install "pycolmap>=4.0"') from None
    pycolmap.logging.minloglevel = 3  # otherwise it logs every image
    return pycolmap


@contextmanager
def _handler_restored(number: int) -> Iterator[None]:
    """Undo the signal handlers of the import, which print a stack trace. `signal.signal` works in the main thread only."""
    if os.name != "posix":
        yield
        return
    libc, before = ctypes.CDLL(None), ctypes.create_string_buffer(1024)  # larger than any struct sigaction
    libc.sigaction(number, None, before)
    try:
        yield
    finally:
        libc.sigaction(number, before, None)


@dataclass
class Mapping:
    """Cameras and points of images with one common pinhole camera.

    Attributes:
        camera_from_world: [images, 4, 4], NaN where an image is not registered.
        focal_px: common focal length.
        points_world: [points, 3].
        image, feature, point: [observations] indices of the image, of its feature, and of the point observed there.
    """

    camera_from_world: np.ndarray
    focal_px: float
    points_world: np.ndarray
    image: np.ndarray
    feature: np.ndarray
    point: np.ndarray

    @property
    def registered(self) -> np.ndarray:
        """[images] bool, images with a camera."""
        return np.isfinite(self.camera_from_world[:, 0, 0])


def camera(focal_px: float, size: tuple[int, int], *, known: bool = False, k1: float | None = None) -> Any:
    """A camera with the principal point at the centre of an image of size (height, width); a pinhole unless it has `k1`."""
    height, width = size
    model = "SIMPLE_PINHOLE" if k1 is None else "SIMPLE_RADIAL"
    params = [focal_px, width / 2, height / 2, *([] if k1 is None else [k1])]
    found = pycolmap().Camera(model=model, width=width, height=height, params=params, camera_id=1)
    found.has_prior_focal_length = known
    return found


def write_database(
    path: Path, shared_camera: Any, keypoints_px: Sequence[np.ndarray], matches: Iterable[tuple[int, int, np.ndarray]]
) -> None:
    """Write images `000000`, `000001`, ... with key points [n, 2], and matches [m, 2] of feature indices between pairs."""
    module = pycolmap()
    with module.Database.open(path) as database:
        database.write_camera(shared_camera, use_camera_id=True)
        rig = module.Rig(rig_id=1)
        rig.add_ref_sensor(shared_camera.sensor_id)
        database.write_rig(rig, use_rig_id=True)
        for number, px in enumerate(keypoints_px):
            image = module.Image(name=f"{number:06d}", camera_id=1, image_id=number + 1)
            database.write_image(image, use_image_id=True)
            frame = module.Frame(frame_id=image.image_id, rig_id=1)
            frame.add_data_id(image.data_id)
            database.write_frame(frame, use_frame_id=True)
            database.write_keypoints(number + 1, px.astype(np.float32))
        for one, other, pairs in matches:
            database.write_matches(one + 1, other + 1, pairs.astype(np.uint32))


def verify(path: Path, pairs: Iterable[tuple[int, int]], max_error_px: float, seed: int) -> None:
    """Verify the matches between pairs of images geometrically."""
    module = pycolmap()
    listed = path.with_name("pairs.txt")
    listed.write_text("".join(f"{a:06d} {b:06d}\n" for a, b in pairs))
    options = module.TwoViewGeometryOptions()
    options.ransac.max_error, options.ransac.random_seed, options.ransac.max_num_trials = max_error_px, seed, MAX_RANSAC_TRIALS
    module.verify_matches(path, listed, options)


def global_mapping(path: Path, num_images: int, *, refine_focal: bool, calibrate: bool, seed: int) -> Mapping | None:
    """Largest model of the global mapper, or `None` if it finds none.

    Args:
        calibrate: estimate the focal length from fundamental matrices first (changes the database).
    """
    module = pycolmap()
    module.set_random_seed(seed)
    if calibrate:
        view_graph = module.ViewGraphCalibrationOptions()
        view_graph.random_seed = seed
        module.calibrate_view_graph(path, view_graph)
    options = module.GlobalPipelineOptions()
    options.random_seed = options.mapper.random_seed = seed
    options.num_threads = options.mapper.num_threads = 1  # several threads sum in varying order
    options.mapper.track_required_tracks_per_view = TRACKS_PER_IMAGE
    adjustment = options.mapper.bundle_adjustment
    adjustment.refine_focal_length = refine_focal
    adjustment.ceres.solver_options.num_threads = 1
    with tempfile.TemporaryDirectory() as output:
        models = module.global_mapping(path, path.parent, Path(output), options).values()
        best = max(models, key=lambda model: (model.num_reg_images(), model.num_points3D()), default=None)
    return None if best is None else read_model(best, num_images)


def read_model(model: Any, num_images: int) -> Mapping:
    """Convert a reconstruction, whose images are named by their indices, to arrays."""
    camera_from_world = np.full((num_images, 4, 4), np.nan)
    number_of = {}
    for image in model.images.values():
        number_of[image.image_id] = int(image.name)
        if image.has_pose:
            pose = image.cam_from_world()
            camera_from_world[int(image.name)] = rigid(pose.rotation.matrix(), pose.translation)
    points = list(model.points3D.values())
    elements = [(number_of[e.image_id], e.point2D_idx, k) for k, point in enumerate(points) for e in point.track.elements]
    seen = np.array(elements, np.int64).reshape(-1, 3)
    xyz = np.array([point.xyz for point in points]).reshape(-1, 3)
    return Mapping(camera_from_world, float(next(iter(model.cameras.values())).params[0]), xyz, *seen.T)


@dataclass
class Adjusted:
    """Result of a bundle adjustment: `log_focal_deviation` is the standard deviation of the logarithm of the focal length per
    pixel of observation noise (NaN if it is fixed or undetermined); `zoom` [images] the focal lengths over that of the first
    registered image, if each image has its own; `k1` the radial distortion; `error_px` the mean reprojection error."""

    camera_from_world: np.ndarray
    focal_px: float
    points_world: np.ndarray
    log_focal_deviation: float
    zoom: np.ndarray | None = None
    k1: float = 0.0
    error_px: float = float("nan")


def adjust(
    mapping: Mapping,
    px: np.ndarray,
    size: tuple[int, int],
    *,
    refine_focal: bool,
    uncertainty: bool = False,
    zoom: np.ndarray | None = None,
    radial: bool = False,
) -> Adjusted:
    """Bundle adjustment of cameras, points and focal length with a robust loss.

    Args:
        mapping: its observations (`image`, `point`) lie at `px` [observations, 2]; points need at least two of them.
        size: (height, width) of the images.
        zoom: [images] initial focal lengths over that of the mapping, refined except for the first one; `None`: one for all.
        radial: refine the radial distortion k1 too.
    """
    module = pycolmap()
    model, ids = _reconstruction(mapping, px, size, zoom, radial=radial)
    registered = np.flatnonzero(mapping.registered)
    options = module.BundleAdjustmentOptions()
    options.refine_focal_length, options.refine_extra_params = refine_focal, radial
    options.ceres.loss_function_type, options.ceres.loss_function_scale = module.LossFunctionType.CAUCHY, ROBUST_LOSS_PX
    options.ceres.solver_options.function_tolerance = COST_TOLERANCE
    options.ceres.solver_options.num_threads, options.ceres.solver_options.max_num_iterations = 1, MAX_ITERATIONS
    config = module.BundleAdjustmentConfig()
    for number in registered:
        config.add_image(int(number) + 1)
    if zoom is not None:
        config.set_constant_cam_intrinsics(int(registered[0]) + 1)
    config.fix_gauge(module.BundleAdjustmentGauge.TWO_CAMS_FROM_WORLD)
    adjuster = module.create_default_ceres_bundle_adjuster(options, config, model)
    adjuster.solve()
    cameras, points = mapping.camera_from_world.copy(), mapping.points_world.copy()
    for number in registered:
        pose = model.images[int(number) + 1].cam_from_world()
        cameras[number] = rigid(pose.rotation.matrix(), pose.translation)
    for point, key in ids.items():
        points[point] = model.points3D[key].xyz
    focals = np.array([model.cameras[k].params[0] for k in sorted(model.cameras)])
    deviation = _log_focal_deviation(module, model, adjuster) if uncertainty and refine_focal else np.nan
    if zoom is None:
        k1 = float(model.cameras[1].params[3]) if radial else 0.0
        model.update_point_3d_errors()
        return Adjusted(cameras, float(focals[0]), points, deviation, None, k1, float(model.compute_mean_reprojection_error()))
    refined = np.full(len(zoom), np.nan)
    refined[registered] = focals / focals[0]
    return Adjusted(cameras, mapping.focal_px, points, deviation, refined)


def _reconstruction(
    mapping: Mapping, px: np.ndarray, size: tuple[int, int], zoom: np.ndarray | None, *, radial: bool
) -> tuple[Any, dict[int, int]]:
    """Mapping as pycolmap's reconstruction, with one camera or, with `zoom`, one per image; and its point ids by point index."""
    module = pycolmap()
    model = module.Reconstruction()
    registered = np.flatnonzero(mapping.registered)
    for number in [0] if zoom is None else registered:
        shared_camera = camera(
            mapping.focal_px * (1.0 if zoom is None else float(zoom[number])), size, k1=0.0 if radial else None
        )
        shared_camera.camera_id = int(number) + 1
        model.add_camera_with_trivial_rig(shared_camera)
    order = np.argsort(mapping.image, kind="stable")
    starts = np.searchsorted(mapping.image[order], np.arange(len(mapping.camera_from_world) + 1))
    place = np.empty(len(order), np.int64)  # index of an observation within its image
    for number in registered:
        mine = order[starts[number] : starts[number + 1]]
        place[mine] = np.arange(len(mine))
        image = module.Image(name=f"{number:06d}", keypoints=px[mine], camera_id=1, image_id=int(number) + 1)
        image.camera_id = 1 if zoom is None else int(number) + 1
        pose = module.Rigid3d(mapping.camera_from_world[number, :3])
        model.add_image_with_trivial_frame(image, pose)
    return model, _add_points(module, model, mapping, place)


def _add_points(module: Any, model: Any, mapping: Mapping, place: np.ndarray) -> dict[int, int]:
    """Add points with their tracks; return the pycolmap id by point index."""
    order = np.argsort(mapping.point, kind="stable")
    bounds = np.searchsorted(mapping.point[order], np.arange(len(mapping.points_world) + 1))
    ids = {}
    for point, (start, stop) in enumerate(pairwise(bounds)):
        if stop - start >= 2:
            mine = order[start:stop]
            elements = [module.TrackElement(int(i) + 1, int(k)) for i, k in zip(mapping.image[mine], place[mine], strict=True)]
            ids[point] = model.add_point3D(mapping.points_world[point], module.Track(elements))
    return ids


def _log_focal_deviation(module: Any, model: Any, adjuster: Any) -> float:
    options = module.BACovarianceOptions()
    options.params = module.BACovarianceOptionsParams.ALL
    covariance = module.estimate_ba_covariance(options, model, adjuster)
    params = model.cameras[1].params
    found = None if covariance is None else covariance.get_other_params_cov(params)
    return np.nan if found is None else float(np.sqrt(found[0, 0]) / params[0])
