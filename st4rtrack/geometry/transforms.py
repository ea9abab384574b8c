"""Rigid and affine transforms, named `a_from_b`: `a_from_b @ x_b = x_a`. For torch tensors and NumPy arrays.

Symbols: R rotation [..., 3, 3], t translation [..., 3], matrices [..., 4, 4], points [..., 3] as rows.
"""

from typing import TYPE_CHECKING, TypeVar

import cv2
import numpy as np

from st4rtrack.geometry.vectors import concatenate

if TYPE_CHECKING:
    import torch

ArrayT = TypeVar("ArrayT", np.ndarray, "torch.Tensor")


def transform_points(target_from_source: ArrayT, points_source: ArrayT) -> ArrayT:
    """Transform points into another frame.

    Args:
        target_from_source: [..., 4, 4] affine transform; leading axes broadcast against those of the points.
        points_source: [..., points, 3].
    Returns:
        [..., points, 3], same units.
    """
    rotation = target_from_source[..., :3, :3]
    translation = target_from_source[..., None, :3, 3]
    points_target = points_source @ rotation.swapaxes(-1, -2)
    points_target += translation
    return points_target


def transform_maps(target_from_source: ArrayT, maps_source: ArrayT) -> ArrayT:
    """`transform_points` for pointmaps: [..., height, width, 3] by [..., 4, 4]."""
    return transform_points(target_from_source[..., None, :, :], maps_source)


def invert_rigid(target_from_source: ArrayT) -> ArrayT:
    """Inverse of rigid transforms [..., 4, 4], without a linear solve; the rotation block must be orthonormal."""
    rotation = target_from_source[..., :3, :3].swapaxes(-1, -2)
    translation = -(rotation @ target_from_source[..., :3, 3:])
    top = concatenate([rotation, translation], axis=-1)
    return concatenate([top, target_from_source[..., 3:, :]], axis=-2)


def rigid(rotation: np.ndarray, translation: np.ndarray) -> np.ndarray:
    """4x4 matrices [..., 4, 4] (float64) from rotation [..., 3, 3] and translation [..., 3]."""
    rotation = np.asarray(rotation, dtype=np.float64)
    matrix = np.zeros((*rotation.shape[:-2], 4, 4))
    matrix[..., :3, :3] = rotation
    matrix[..., :3, 3] = translation
    matrix[..., 3, 3] = 1.0
    return matrix


def rotation_angle(a_from_b: np.ndarray) -> np.ndarray:
    """Angle of rotation matrices [..., 3, 3] in radians, exact near zero (from the skew part, not the trace)."""
    skew = np.stack(
        [
            a_from_b[..., 2, 1] - a_from_b[..., 1, 2],
            a_from_b[..., 0, 2] - a_from_b[..., 2, 0],
            a_from_b[..., 1, 0] - a_from_b[..., 0, 1],
        ],
        axis=-1,
    )
    trace = np.trace(a_from_b, axis1=-2, axis2=-1)
    return np.arctan2(np.linalg.norm(skew, axis=-1), trace - 1.0)


def interpolate_rigid(start: np.ndarray, end: np.ndarray, share: float) -> np.ndarray:
    """Rigid transform [4, 4] by interpolation: slerp of rotations, linear translation; `share` 0 gives `start`, 1 gives `end`."""
    turn = cv2.Rodrigues(start[:3, :3].T @ end[:3, :3])[0]
    rotation = start[:3, :3] @ cv2.Rodrigues(share * turn)[0]
    return rigid(rotation, (1 - share) * start[:3, 3] + share * end[:3, 3])


def rotation_from_quaternion(quaternion_wxyz: ArrayT) -> ArrayT:
    """Rotation matrices [..., 3, 3] of quaternions [..., 4] (w, x, y, z) of any non-zero norm."""
    w, x, y, z = (quaternion_wxyz[..., k : k + 1] for k in range(4))
    s = 2 / (w * w + x * x + y * y + z * z)
    entries = [1 - s * (y * y + z * z), s * (x * y - w * z), s * (x * z + w * y)]
    entries += [s * (x * y + w * z), 1 - s * (x * x + z * z), s * (y * z - w * x)]
    entries += [s * (x * z - w * y), s * (y * z + w * x), 1 - s * (x * x + y * y)]
    return concatenate(entries, axis=-1).reshape(*quaternion_wxyz.shape[:-1], 3, 3)


def quaternion_from_rotation(rotation: np.ndarray) -> np.ndarray:
    """Unit quaternions [..., 4] (w, x, y, z), w >= 0, of rotation matrices [..., 3, 3]; exact for all angles.

    Source: Bar-Itzhack 2000: the eigenvector of the largest eigenvalue of a symmetric matrix of the entries; no case distinction.
    """
    r = np.asarray(rotation, np.float64)
    k = np.zeros((*r.shape[:-2], 4, 4))
    k[..., 0, 0] = r[..., 0, 0] + r[..., 1, 1] + r[..., 2, 2]
    k[..., 1:, 1:] = r + np.swapaxes(r, -1, -2) - k[..., 0, 0, None, None] * np.eye(3)
    skew = np.stack([r[..., 2, 1] - r[..., 1, 2], r[..., 0, 2] - r[..., 2, 0], r[..., 1, 0] - r[..., 0, 1]], axis=-1)
    k[..., 0, 1:] = k[..., 1:, 0] = skew
    quaternion = np.linalg.eigh(k)[1][..., -1]
    return quaternion * np.where(quaternion[..., :1] < 0, -1.0, 1.0)
