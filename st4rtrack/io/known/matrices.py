"""Numbers in files of other tools, checked: rotations, rigid transforms, intrinsics, times."""

import numpy as np

from st4rtrack.geometry.transforms import rotation_from_quaternion
from st4rtrack.types import UserError

FEW_DIGITS = 1e-2
"""How far from orthonormal a rotation in a file may be; files keep few digits, and a scale or a mirror is worse."""


def rotation_from_file(quaternion_wxyz: np.ndarray, label: str) -> np.ndarray:
    """Rotations [..., 3, 3] of quaternions [..., 4] (w, x, y, z) that are units but for the digits that a file keeps.

    Raises:
        UserError: one is none; `label` names where it is from.
    """
    length = np.linalg.norm(quaternion_wxyz, axis=-1)
    if not (np.isfinite(length) & (length > 0.5)).all():
        raise UserError(f"{label}: a rotation is not a unit quaternion; fetch the file again")
    return rotation_from_quaternion(quaternion_wxyz)


def require_cameras(matrices: np.ndarray, label: str) -> np.ndarray:
    """[n, 4, 4] float64 of rigid transforms [n, 3 or 4, 4], their rotations made orthonormal; a camera that is not finite is NaN.

    Raises:
        UserError: they have another shape, or one is no rotation and translation; `label` names where they are from.
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
    """[n, 3, 3] float64 from matrices [n, 3, 3] or [3, 3], or from rows fx, fy, cx, cy [n, 4] or [4].

    Raises:
        UserError: the shape is another, there is skew, or a focal length is not positive; `label` names where they are from.
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
    """For each wanted time the index of the nearest of the others, and how far it is away in seconds.

    Args:
        wanted_s: [count] seconds.
        times_s: [others] seconds, at least one, in any order.
    """
    order = np.argsort(times_s, kind="stable")
    after = np.searchsorted(times_s[order], wanted_s).clip(0, len(order) - 1)
    pair = np.stack([order[(after - 1).clip(0)], order[after]])
    gap_s = np.abs(times_s[pair] - wanted_s)
    nearer = gap_s.argmin(axis=0)[None]
    return np.take_along_axis(pair, nearer, 0)[0], np.take_along_axis(gap_s, nearer, 0)[0]
