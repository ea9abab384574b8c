"""Camera trajectory errors after alignment: absolute (ATE) and relative between frames (RPE). Lower is better."""

from dataclasses import dataclass

import numpy as np

from st4rtrack.geometry.align import Sim3, umeyama
from st4rtrack.geometry.transforms import invert_rigid, rotation_angle
from st4rtrack.geometry.vectors import length

STILL_M = 1e-6
"""Extent of the camera centres below which a trajectory counts as static and no similarity is fitted."""


@dataclass(frozen=True)
class CameraErrors:
    """Root mean square camera errors over the evaluated frames (or consecutive pairs); NaN if there are none."""

    ate_m: float  # distance of camera centres
    rpe_translation_m: float  # translation error of the relative motion from one frame to the next
    rpe_rotation_deg: float  # rotation error of the same relative motion
    frames: int  # number of evaluated frames


def camera_errors(
    predicted_world_from_camera: np.ndarray, true_world_from_camera: np.ndarray, *, scale: float | None = None
) -> CameraErrors:
    """Compute ATE and RPE after a least-squares similarity alignment of the camera centres, as evo (delta of one frame).

    For a static trajectory no similarity exists: the common first camera is kept and `scale` is used.

    Args:
        predicted_world_from_camera, true_world_from_camera: [time, 4, 4]; non-finite predicted cameras are left out.
        scale: metres per predicted unit for trajectories without motion, from the alignment of points; default 1.
    """
    known = np.isfinite(predicted_world_from_camera).all(axis=(1, 2))
    predicted, true = (np.asarray(m, np.float64)[known] for m in (predicted_world_from_camera, true_world_from_camera))
    if len(predicted) == 0:
        return CameraErrors(*[float("nan")] * 3, frames=0)
    predicted = _aligned(predicted, _alignment(predicted[:, :3, 3], true[:, :3, 3], scale))
    ate = length(predicted[:, :3, 3] - true[:, :3, 3])
    follows = np.diff(np.flatnonzero(known)) == 1
    moved, truly_moved = (invert_rigid(m[:-1][follows]) @ m[1:][follows] for m in (predicted, true))
    error = invert_rigid(truly_moved) @ moved
    return CameraErrors(
        ate_m=_rms(ate),
        rpe_translation_m=_rms(length(error[:, :3, 3])),
        rpe_rotation_deg=_rms(np.degrees(rotation_angle(error[:, :3, :3]))),
        frames=len(predicted),
    )


def _alignment(predicted: np.ndarray, true: np.ndarray, scale: float | None) -> Sim3:
    """Similarity from predicted to true camera centres [time, 3]."""
    still = any(np.ptp(centres, axis=0).max() < STILL_M for centres in (predicted, true))
    if not still and len(true) >= 3:
        return umeyama(predicted, true)
    return Sim3(1.0 if scale is None else scale, np.eye(3), np.zeros(3))


def _aligned(world_from_camera: np.ndarray, alignment: Sim3) -> np.ndarray:
    moved = world_from_camera.copy()
    moved[:, :3, :3] = alignment.rotation @ world_from_camera[:, :3, :3]
    moved[:, :3, 3] = alignment(world_from_camera[:, :3, 3])
    return moved


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(values**2))) if values.size else float("nan")
