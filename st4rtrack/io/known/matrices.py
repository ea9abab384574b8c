"""Validation of rotations, rigid transforms, intrinsics and timestamps from files of other tools."""

import numpy as np

from st4rtrack.geometry.transforms import rotation_from_quaternion
from st4rtrack.types import UserError

FEW_DIGITS = 1e-2
"""Maximum deviation of a rotation from orthonormality: allows few digits in a file, but no scale or mirroring."""


def rotation_from_file(quaternion_wxyz: np.ndarray, label: str) -> np.ndarray:
    """Convert quaternions [..., 4] (w, x, y, z), unit up to rounding in a file, to rotations [..., 3, 3].

    Raises:
        UserError: a quaternion is not a rotation; `label` is the file name in the message.
    """
    length = np.linalg.norm(quaternion_wxyz, axis=-1)
    if not (np.isfinite(length) & (length > 0.5)).all():
        raise UserError(f"{label}: a rotation is not a unit quaternion; fetch the file again")
    return rotation_from_quaternion(quaternion_wxyz)


def require_cameras(matrices: np.ndarray, label: str) -> np.ndarray:
    """Validate rigid transforms [n, 3 or 4, 4]: [n, 4, 4] float64 with orthonormal rotations; NaN if not finite.

    Raises:
        UserError: the shape is wrong, or a matrix is not a rotation and translation; `label` is the file name in the message.
    """
    given = np.asarray(matrices)
    if given.ndim != 3 or given.shape[1:] not in ((3, 4), (4, 4)) or given.dtype.kind not in "fiu" or not len(given):
        raise UserError(f"cameras of {label} must be numbers [frames, 4, 4], they are {given.dtype} {list(given.shape)}")
    known = np.isfinite(given[:, :3].astype(np.float64)).all(axis=(1, 2))
    rotation = given[known, :3, :3].astype(np.float64)
    off = np.abs(rotation @ rotation.swapaxes(1, 2) - np.eye(3)).max(axis=(1, 2), initial=0.0)
    wrong = np.flatnonzero((off > FEW_DIGITS) | (np.linalg.det(rotation) < 0))
    if len(wrong):
        raise UserError(f"camera {np.flatnonzero(known)[wrong[0]]} of {label} is not a rotation and a translation")
    u, _, vt = np.linalg.svd(rotation)
    cameras = np.full((len(given), 4, 4), np.nan)
    cameras[known] = np.eye(4)
    cameras[known, :3, :3] = u @ vt
    cameras[known, :3, 3] = given[known, :3, 3]
    return cameras


def require_intrinsics(intrinsics: np.ndarray, label: str) -> np.ndarray:
    """Validate intrinsics [n, 3, 3], [3, 3], or fx, fy, cx, cy as [n, 4] or [4]; returns [n, 3, 3] float64.

    Raises:
        UserError: the shape is wrong, there is skew, or a focal length is not positive; `label` is the file name in the message.
    """
    given = np.asarray(intrinsics)
    given = given if given.dtype.kind in "fiu" else np.empty(0)
    if given.shape[-1:] == (4,) and given.ndim <= 2:
        rows = np.atleast_2d(given).astype(np.float64)
        found = np.tile(np.eye(3), (len(rows), 1, 1))
        found[:, (0, 1), (0, 1)], found[:, :2, 2] = rows[:, :2], rows[:, 2:]
    elif given.shape[-2:] == (3, 3) and given.ndim <= 3:
        found = given.reshape(-1, 3, 3).astype(np.float64)
    else:
        raise UserError(f"intrinsics of {label} must be numbers, [3, 3] or fx, fy, cx, cy, for one or all frames")
    off = found[:, (0, 1, 2, 2, 2), (1, 0, 0, 1, 2)] - (0, 0, 0, 0, 1)
    if not len(found) or not np.isfinite(found).all() or not (found[:, (0, 1), (0, 1)] > 0).all() or np.abs(off).max() > 1e-6:
        raise UserError(f"intrinsics of {label} must be finite pinhole matrices without skew, with positive focal lengths")
    return found


def nearest_time(wanted_s: np.ndarray, times_s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find the nearest of `times_s` for each time in `wanted_s`.

    Args:
        wanted_s: [count] seconds.
        times_s: [others] seconds, at least one, in any order.
    Returns:
        Index [count] into `times_s`, and time difference [count] in seconds.
    """
    order = np.argsort(times_s, kind="stable")
    after = np.searchsorted(times_s[order], wanted_s).clip(0, len(order) - 1)
    pair = np.stack([order[(after - 1).clip(0)], order[after]])
    gap_s = np.abs(times_s[pair] - wanted_s)
    nearer = gap_s.argmin(axis=0)[None]
    return np.take_along_axis(pair, nearer, 0)[0], np.take_along_axis(gap_s, nearer, 0)[0]
