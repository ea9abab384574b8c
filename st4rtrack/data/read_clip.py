"""Conversion of raw frames to a training `Clip`, with depth and tracks in the world frame of the anchor.

The caller chooses the frames and their order. Any frame of a sequence can be the anchor, because its tracks are looked up anew:
time reversal and a random anchor are exact here, but not on a clip that has already been read.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd, inf

import numpy as np

from st4rtrack.data.clip import Clip
from st4rtrack.data.raw import RawSequence, RigidParts
from st4rtrack.data.resample import Framing, Window, choose_window, resample_depth, resample_labels, resample_rgb
from st4rtrack.geometry.camera import pixel_grid, project, unproject
from st4rtrack.geometry.sampling import inside_image, nearest_pixel
from st4rtrack.geometry.transforms import invert_rigid, transform_points
from st4rtrack.types import UserError

MOVES_M = 0.01
"""Minimum displacement from the anchor, at any time, of a point that counts as dynamic."""


@dataclass(frozen=True)
class Reading:
    """Options for converting raw frames to a clip."""

    # height, width: size of the clip in pixels
    height: int = 288
    width: int = 512
    # nearest_m, farthest_m: exclusive range of known depth; outside of it, depth is unknown and points are not tracked
    nearest_m: float = 0.0
    farthest_m: float = inf
    # with rigid parts, train only on dynamic parts, in both branches (as the release does for Kubric)
    foreground_only: bool = False


def read_clip(sequence: RawSequence, frames: Sequence[int], reading: Reading, framing: Framing | None = None) -> Clip:
    """Read frames of a sequence as a clip with ground truth.

    Args:
        sequence: a sequence with depth, and with tracks or rigid parts.
        frames: frame indices in the order of the clip; the first is the anchor.
        reading: resolution and depth range.
        framing: image region to read; the largest centred one when None.
    Returns:
        The clip. For sequences with tracks, `tracking_valid` is sparse, and the value at a pixel is that of the nearest visible
        point inside it, which may lie up to half a pixel from its centre.
    Raises:
        UserError: a file is missing or damaged, or the sequence has no depth, or neither tracks nor parts.
    """
    if sequence.read_depth is None or (sequence.read_tracks is None and sequence.parts is None):
        raise UserError(f"{sequence.name} has no depth or no tracks, which training needs; leave it out")
    index = np.asarray(frames)
    images = [sequence.read_rgb(i) for i in index.tolist()]
    window = choose_window(images[0].shape[:2], (reading.height, reading.width), framing or Framing())
    intrinsics = window.intrinsics(sequence.intrinsics[index])
    world_from_camera, anchor_from_world = _cameras(sequence, index)
    labels = None if sequence.parts is None else np.stack([sequence.parts.read_index(i) for i in index.tolist()])
    depth = _read_depth(sequence, index, window, reading, labels)
    supervised = None
    if sequence.parts is None or labels is None:
        points = transform_points(anchor_from_world, _read_points(sequence, index))
        tracking, valid = scatter_tracks(points, intrinsics[0], reading)
    else:
        label = resample_labels(labels[0], window)
        tracking = follow_parts(depth[0], label, intrinsics[0], _part_motion(sequence.parts, index, anchor_from_world))
        valid = np.tile(depth[0] > 0, (len(index), 1, 1))
        supervised = label > 0 if reading.foreground_only else None
    travel = np.where(valid, np.linalg.norm(tracking - tracking[0], axis=-1), 0.0)
    return Clip(
        rgb=np.stack([resample_rgb(image, window) for image in images]),
        depth=depth,
        intrinsics=intrinsics,
        world_from_camera=world_from_camera,
        tracking_points_world=tracking,
        tracking_valid=valid,
        name=f"{sequence.name}, frames {index.tolist()}",
        moving=np.any(travel > MOVES_M, axis=0),
        supervised=supervised,
    )


def scatter_tracks(points_world: np.ndarray, intrinsics: np.ndarray, reading: Reading) -> tuple[np.ndarray, np.ndarray]:
    """Rasterise tracked points into maps over the anchor's pixels: a point belongs to the pixel that it projects to.

    Of several points in one pixel the nearest is kept; it occludes the others. (The release keeps the last one written.)

    Args:
        points_world: [time, points, 3] in the anchor's world, NaN where unknown, visible in the anchor if in its image and range.
        intrinsics: [3, 3] of the anchor.
        reading: size of the map, and depth range.
    Returns:
        Points [time, height, width, 3] float32, 0 where unknown, and their validity [time, height, width] bool.
    """
    size = reading.height, reading.width
    z: np.ndarray = points_world[0, :, 2]
    candidates = np.flatnonzero((z > max(reading.nearest_m, 0.0)) & (z < reading.farthest_m))
    pixels = project(points_world[0, candidates], intrinsics)
    inside = inside_image(pixels, *size)
    candidates = candidates[inside]
    row, column = nearest_pixel(pixels[inside], *size)
    order = np.lexsort((z[candidates], row * size[1] + column))
    first = order[np.unique((row * size[1] + column)[order], return_index=True)[1]]  # the nearest of each pixel
    chosen, row, column = candidates[first], row[first], column[first]

    points = np.zeros((len(points_world), *size, 3), np.float32)
    valid = np.zeros(points.shape[:-1], bool)
    known = ~np.isnan(points_world[:, chosen, 0])
    points[:, row, column] = np.where(known[..., None], points_world[:, chosen], 0)
    valid[:, row, column] = known
    return points, valid


def follow_parts(depth: np.ndarray, label: np.ndarray, intrinsics: np.ndarray, moved: np.ndarray) -> np.ndarray:
    """Track every pixel of the anchor by the rigid motion of the part that it shows: [time, height, width, 3] float32.

    Args:
        depth, label: [height, width] of the anchor, the latter the index of the part.
        intrinsics: [3, 3] of the anchor.
        moved: [time, parts, 4, 4], motion from the anchor's time to each time, in the anchor's world.
    """
    anchor = unproject(pixel_grid(*depth.shape), depth.astype(np.float64), intrinsics)
    points = np.empty((len(moved), *anchor.shape), np.float32)
    for part in np.unique(label):
        shown = label == part
        points[:, shown] = transform_points(moved[:, part], anchor[shown])
    return points


def _cameras(sequence: RawSequence, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cameras world_from_camera [time, 4, 4] in the anchor's world, and the transform anchor_from_world [4, 4]."""
    if sequence.world_from_camera is None:
        return np.tile(np.eye(4), (len(index), 1, 1)), np.eye(4)
    anchor_from_world = np.linalg.inv(sequence.world_from_camera[index[0]])
    cameras = anchor_from_world @ sequence.world_from_camera[index]
    cameras[index == index[0]] = np.eye(4)
    return cameras, anchor_from_world


def _read_depth(
    sequence: RawSequence, index: np.ndarray, window: Window, reading: Reading, labels: np.ndarray | None
) -> np.ndarray:
    """Depth maps at the size of the clip: [time, height, width] float32, 0 where unknown."""
    assert sequence.read_depth is not None
    maps = []
    for t, frame in enumerate(index.tolist()):
        depth = sequence.read_depth(frame)
        label = None if labels is None else labels[t]
        known = (depth > max(reading.nearest_m, 0.0)) & (depth < reading.farthest_m)  # false for NaN
        if label is not None and reading.foreground_only:
            known &= label > 0
        maps.append(resample_depth(np.where(known, depth, 0.0), window, label))
    return np.stack(maps)


def _read_points(sequence: RawSequence, index: np.ndarray) -> np.ndarray:
    """Points [time, points, 3] in the sequence's world, only those visible in the first of the frames; NaN where unknown."""
    assert sequence.read_tracks is not None
    first, last = int(index.min()), int(index.max())
    step = gcd(*(int(i) - first for i in index)) or 1
    points, visible = sequence.read_tracks(first, last + 1, step)
    rows = (index - first) // step
    points = points[rows][:, visible[rows[0]]].astype(np.float64)
    return np.where(np.isfinite(points).all(axis=-1, keepdims=True), points, np.nan)


def _part_motion(parts: RigidParts, index: np.ndarray, anchor_from_world: np.ndarray) -> np.ndarray:
    """Motion [time, parts, 4, 4] of each part from the anchor's time to each time, in the anchor's world."""
    poses = parts.world_from_part[index]
    return anchor_from_world @ poses @ invert_rigid(poses[0]) @ np.linalg.inv(anchor_from_world)
