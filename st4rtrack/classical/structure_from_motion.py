"""Cameras of a video and the static points along its 2D tracks, by pycolmap. What moves is an outlier to it.

All that is known of pycolmap is here; it is an optional dependency.
"""

import logging
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from st4rtrack.geometry.transforms import invert_rigid, rigid
from st4rtrack.geometry.vectors import length
from st4rtrack.types import UserError

logger = logging.getLogger(__name__)

FIRST_FOCAL = 0.9
"""First guess of the focal length in long sides of the image: 58 degrees, the middle of what people film with. It is refined."""
FOCAL_RANGE = (0.4, 3.0)
"""What a refined focal length may be, in long sides: 102 to 19 degrees."""
PAIR_OFFSETS = (1, 2, 4, 8, 16, 32)
"""Frames between the images of a pair: near ones for tracks that are short, far ones for parallax."""
MAX_ERROR_PX = 2.0
MIN_COMMON_TRACKS = 30
STILL_PX = 1.0
"""Motion of the image up to which it is a fixed camera's; the mapper would search such a video for parallax in vain."""


@dataclass
class SparseScene:
    """What structure from motion found.

    Attributes:
        world_from_camera: [time, 4, 4] in the frame of the first camera that was found; NaN for frames without one.
        intrinsics: [3, 3] pixels.
        points_world: [points, 3], one place for all time; NaN for tracks that have none.
    """

    world_from_camera: np.ndarray
    intrinsics: np.ndarray
    points_world: np.ndarray


def structure_from_motion(
    pixels_px: np.ndarray, visible: np.ndarray, height: int, width: int, *, seed: int = 0
) -> SparseScene | None:
    """Cameras and static points from 2D tracks; one pinhole camera with an unknown focal length.

    Args:
        pixels_px: [time, points, 2].
        visible: [time, points] bool.
        height, width: of the images.
        seed: of the robust estimators.
    Returns:
        The largest model, or None where none could be started (no parallax, too few tracks).
    Raises:
        UserError: pycolmap is not installed.
    """
    pycolmap = _pycolmap()
    pairs = _pairs(visible)
    if not any(_moves(pixels_px, visible, pair) for pair in pairs):
        return None
    pycolmap.set_random_seed(seed)
    with tempfile.TemporaryDirectory() as folder:
        database = Path(folder) / "database.db"
        track_of = _fill_database(pycolmap, database, pixels_px, visible, pairs, height, width)
        pairs_file = _write_pairs(Path(folder), pairs)
        two_view = pycolmap.TwoViewGeometryOptions()
        two_view.ransac.max_error, two_view.ransac.random_seed = MAX_ERROR_PX, seed
        pycolmap.verify_matches(database, pairs_file, two_view)
        best = None
        for refine_focal in (True, False):  # with little parallax the focal length runs away; then the guess is better
            options = _mapping_options(pycolmap, seed, refine_focal=refine_focal)
            for model in pycolmap.incremental_mapping(database, folder, folder, options).values():
                if best is None or model.num_reg_images() > best.num_reg_images():
                    best = model
            if best is not None and best.num_reg_images() > 0.9 * len(visible):
                break
        return None if best is None else _read(best, track_of, len(pixels_px), pixels_px.shape[1])


def _moves(pixels_px: np.ndarray, visible: np.ndarray, pair: tuple[int, int]) -> bool:
    """Whether half of the tracks that two frames have in common move in the image."""
    one, other = pair
    common = visible[one] & visible[other]
    return bool(np.median(length(pixels_px[other, common] - pixels_px[one, common])) > STILL_PX)


def _pycolmap() -> Any:
    try:
        import pycolmap
    except ImportError:
        raise UserError('structure from motion needs pycolmap: pip install "st4rtrack[bench]"') from None
    pycolmap.logging.minloglevel = 3  # it reports each image otherwise
    return pycolmap


def _mapping_options(pycolmap: Any, seed: int, *, refine_focal: bool) -> Any:
    options = pycolmap.IncrementalPipelineOptions()
    options.random_seed, options.extract_colors, options.multiple_models = seed, False, False
    options.num_threads = options.mapper.num_threads = 1  # threads add up in another order each time
    options.ba_refine_focal_length = options.mapper.abs_pose_refine_focal_length = refine_focal
    for part in (options, options.mapper, options.triangulation):
        part.min_focal_length_ratio, part.max_focal_length_ratio = FOCAL_RANGE
    options.mapper.abs_pose_max_error = 2 * MAX_ERROR_PX
    options.mapper.filter_max_reproj_error = MAX_ERROR_PX
    options.mapper.init_min_tri_angle = 4.0  # a video turns less than a photo collection
    # neighbouring frames differ little: fewer and shorter adjustments, three times faster for the same cameras
    options.ba_global_frames_ratio = options.ba_global_points_ratio = 1.4
    options.ba_local_max_refinements, options.ba_global_max_refinements = 1, 2
    return options


def _fill_database(
    pycolmap: Any, path: Path, pixels_px: np.ndarray, visible: np.ndarray, pairs: list[tuple[int, int]], height: int, width: int
) -> list[np.ndarray]:
    """Images with their observations, and matches between observations of one track. Returns the track of each observation, by frame."""
    focal = FIRST_FOCAL * max(height, width)
    track_of = [np.flatnonzero(seen) for seen in visible]
    with pycolmap.Database.open(path) as database:
        camera = pycolmap.Camera(
            model="SIMPLE_PINHOLE", width=width, height=height, params=[focal, width / 2, height / 2], camera_id=1
        )
        database.write_camera(camera, use_camera_id=True)
        database.write_rig(_rig(pycolmap, camera), use_rig_id=True)
        for t, tracks in enumerate(track_of):
            image = pycolmap.Image(name=f"{t:06d}", camera_id=1, image_id=t + 1)
            database.write_image(image, use_image_id=True)
            database.write_frame(_frame(pycolmap, image), use_frame_id=True)
            database.write_keypoints(t + 1, pixels_px[t, tracks].astype(np.float32))
        for one, other in pairs:
            _, in_one, in_other = np.intersect1d(track_of[one], track_of[other], return_indices=True)
            database.write_matches(one + 1, other + 1, np.stack([in_one, in_other], axis=1).astype(np.uint32))
    return track_of


def _rig(pycolmap: Any, camera: Any) -> Any:
    rig = pycolmap.Rig(rig_id=1)
    rig.add_ref_sensor(camera.sensor_id)
    return rig


def _frame(pycolmap: Any, image: Any) -> Any:
    frame = pycolmap.Frame(frame_id=image.image_id, rig_id=1)
    frame.add_data_id(image.data_id)
    return frame


def _pairs(visible: np.ndarray) -> list[tuple[int, int]]:
    """Pairs of frames with enough tracks in common."""
    frames = len(visible)
    pairs = [(t, t + offset) for offset in PAIR_OFFSETS for t in range(frames - offset)]
    return [(a, b) for a, b in pairs if (visible[a] & visible[b]).sum() >= MIN_COMMON_TRACKS]


def _write_pairs(folder: Path, pairs: list[tuple[int, int]]) -> Path:
    path = folder / "pairs.txt"
    path.write_text("".join(f"{a:06d} {b:06d}\n" for a, b in pairs))
    return path


def _read(model: Any, track_of: list[np.ndarray], frames: int, points: int) -> SparseScene:
    camera_from_world = np.full((frames, 4, 4), np.nan)
    for image in model.images.values():
        if image.has_pose:
            pose = image.cam_from_world()
            camera_from_world[int(image.name)] = rigid(pose.rotation.matrix(), pose.translation)
    points_world = np.full((points, 3), np.nan)
    for point in model.points3D.values():
        for element in point.track.elements:
            frame = int(model.images[element.image_id].name)
            points_world[track_of[frame][element.point2D_idx]] = point.xyz
    camera = next(iter(model.cameras.values()))
    first = int(np.flatnonzero(np.isfinite(camera_from_world[:, 0, 0]))[0])
    anchor_from_world = camera_from_world[first]
    world_from_camera = anchor_from_world @ invert_rigid(camera_from_world)
    points_world = points_world @ anchor_from_world[:3, :3].T + anchor_from_world[:3, 3]
    return SparseScene(world_from_camera, np.asarray(camera.calibration_matrix()), points_world)
