"""Differentiable camera poses (paper section 3.3, Eq. 4 and appendix A, Eq. 13 and 14).

A robust solver estimates focal length and pose, detached. One more Gauss-Newton step of the same least-squares problem from its
solution hardly changes them and carries gradients to the points. Failed poses are left out, never replaced.

Symbols: F frames, N points, K intrinsics, x pixel, X world point, y = R X + t in the camera, w weight. Unlike
`camera.project`, values stay finite and gradients defined for points on or behind the camera plane.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from st4rtrack.geometry.camera import project
from st4rtrack.geometry.transforms import invert_rigid, transform_points

NEAREST = 0.05
"""Minimum depth relative to the frame's median depth: nearer points are treated as behind the camera."""

SMALLEST_DEPTH = 1e-15
"""Lower bound of depths in a division, in any unit: the square of its reciprocal is still finite in float32."""

HUBER = 0.1
"""Huber threshold relative to the spread of the pixels: larger residuals count linearly, as in the release."""

DETERMINED = 1e-8
"""Minimum eigenvalue of the normal equations (unit diagonal) that counts as non-zero. Rounding alone gives less than 1e-14."""


class SolvedCameras(NamedTuple):
    """Indices [S] (int64, increasing) of the frames with a camera, and their `camera_from_world` [S, 4, 4] float64."""

    frames: np.ndarray
    camera_from_world: np.ndarray


def solved_cameras(world_from_camera: Sequence[np.ndarray | None]) -> SolvedCameras:
    """Invert the poses of a robust solver for projection; frames without a pose (`None`) are left out.

    Args:
        world_from_camera: [4, 4] of every frame, or `None`.
    """
    frames = [index for index, camera in enumerate(world_from_camera) if camera is not None]
    found = [camera for camera in world_from_camera if camera is not None]
    cameras = invert_rigid(np.stack(found).astype(np.float64)) if found else np.empty((0, 4, 4))
    return SolvedCameras(np.array(frames, np.int64), cameras)


def project_everywhere(points_camera: Tensor, intrinsics: Tensor, *, nearest: float | None = None) -> Tensor:
    """`camera.project` with finite pixels and gradients for every finite point.

    Below `nearest`, 1 / z continues as its point reflection, 2 / n - 1 / (2n - z): smooth to first order, bounded by 2 / n, and
    still decreasing in z, so that a loss on the pixel moves a point forward out of the camera.

    Args:
        points_camera: [..., points, 3].
        intrinsics: [..., 3, 3], leading axes broadcast.
        nearest: depth n in the units of the points; default `NEAREST` of the frame's median |z|, detached.
    Returns:
        [..., points, 2] pixels, equal to those of `camera.project` beyond n.
    """
    z = points_camera[..., 2]
    near = _nearest(z) if nearest is None else torch.full_like(z[..., :1], nearest)
    behind = 1 / near - 1 / (2 * near - z.minimum(near))  # exactly 0 beyond `near`
    inverse = 1 / z.maximum(near) + behind
    across = points_camera[..., :2] * inverse[..., None]
    return project(torch.cat([across, torch.ones_like(z[..., None])], dim=-1), intrinsics)


def gauss_newton_step(
    camera_from_world: Tensor,
    points_world: Tensor,
    pixels_px: Tensor,
    weights: Tensor,
    intrinsics: Tensor,
    *,
    huber: float | None = HUBER,
    damping: float = 1e-6,
) -> Tensor:
    """One Gauss-Newton step on sum |w (x - pi(K (R X + t)))|^2 from a detached pose; differentiable in points and weights.

    The step is a twist of the camera, [exp(phi) | rho] camera_from_world, computed in float64 for all frames at once. Points that
    are not finite or not in front of the camera are ignored; a frame whose points do not determine a pose (fewer than three, or
    all collinear or coincident) keeps its initial pose, without gradient.

    Args:
        camera_from_world: [F, 4, 4], from a robust solver; detached here.
        points_world: [F, N, 3].
        pixels_px: [F, N, 2], or [N, 2] for all frames: observations of the points, possibly outside the image.
        weights: [F, N] non-negative, applied to the residual, thus squared in the sum.
        intrinsics: [3, 3] or [F, 3, 3], differentiable too.
        huber: residuals above this share of the spread of the pixels count linearly; `None`: no robust kernel.
        damping: added to the normal equations, relative to their diagonal (Marquardt).
    Returns:
        camera_from_world [F, 4, 4], rigid, in the dtype of the points.
    Source:
        Paper Eq. 13 and 14; confidence weights and the robust kernel as in the release, whose solver is EPro-PnP's.
    """
    start, points, pixels, weight, matrix = (
        _accurate(each) for each in (camera_from_world.detach(), points_world, pixels_px, weights, intrinsics)
    )
    points_camera = transform_points(start, points)
    counts = _usable(points_camera) & (weight > 0)
    points_camera = _in_front(points_camera, counts)
    residual = project(points_camera, matrix) - pixels
    weight = torch.where(counts, weight, 0.0)
    if huber is not None:
        weight = weight * _huber_weight(residual, huber * _spread(pixels)).sqrt()
    jacobian = (_pose_jacobian(points_camera, matrix) * weight[..., None, None]).flatten(1, 2)
    twist = _least_squares(jacobian, (residual * weight[..., None]).flatten(1, 2), damping)
    return (_exponential(twist) @ start).to(points_world)


def _accurate(values: Tensor) -> Tensor:
    """Convert to float64; on the CPU if the device does not support it."""
    return values.to("cpu" if values.device.type == "mps" else values.device, torch.float64)


def _nearest(z: Tensor) -> Tensor:
    """[..., 1] minimum depth of points [...] in front of the camera, detached."""
    if not z.shape[-1]:
        return torch.ones_like(z.sum(dim=-1, keepdim=True))
    typical = z.detach().abs().nanmedian(dim=-1, keepdim=True).values
    return (NEAREST * torch.nan_to_num(typical, nan=1.0)).clamp(min=SMALLEST_DEPTH)


def _usable(points_camera: Tensor) -> Tensor:
    """[...] bool: finite and in front of the camera."""
    z = points_camera[..., 2]
    return torch.isfinite(points_camera).all(dim=-1) & (z > _nearest(z))


def _in_front(points_camera: Tensor, counts: Tensor) -> Tensor:
    """Replace the ignored points by a constant one with finite values and gradients."""
    return torch.where(counts[..., None], points_camera, points_camera.new_tensor([0.0, 0.0, 1.0]))


def _spread(pixels: Tensor) -> Tensor:
    """[...] standard deviation of pixels [..., N, 2] about their mean, detached."""
    centred = pixels.detach() - pixels.detach().mean(dim=-2, keepdim=True)
    return centred.square().sum(-1).mean(-1).sqrt()


def _huber_weight(residual: Tensor, limit: Tensor) -> Tensor:
    """[F, N] min(1, limit / |r|) of residuals [F, N, 2] under limits [F] or one."""
    limit = limit[..., None].clamp(min=1e-12)
    # the larger of the two under the root, so that a residual of zero has a gradient
    return limit / residual.square().sum(-1).maximum(limit.square()).sqrt()


def _pose_jacobian(points_camera: Tensor, intrinsics: Tensor) -> Tensor:
    """[F, N, 2, 6] derivative of the pixel of y by a twist (rho, phi), under which y changes by rho + phi x y."""
    x, y, z = points_camera.unbind(-1)
    zero, one = torch.zeros_like(z), torch.ones_like(z)
    across = torch.stack([one, zero, -x / z, zero, one, -y / z], dim=-1).unflatten(-1, (2, 3)) / z[..., None, None]
    by_point = intrinsics[..., None, :2, :2] @ across
    return torch.cat([by_point, by_point @ -_cross(points_camera)], dim=-1)


def _cross(vectors: Tensor) -> Tensor:
    """[..., 3, 3] matrices of the cross product: _cross(a) @ b = a x b."""
    x, y, z = vectors.unbind(-1)
    zero = torch.zeros_like(x)
    return torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).unflatten(-1, (3, 3))


def _least_squares(jacobian: Tensor, residual: Tensor, damping: float) -> Tensor:
    """Step [F, 6] of Eq. 13 from J [F, R, 6], scaled so that J'J has a unit diagonal, and F [F, R]; 0 where undetermined."""
    lengths = jacobian.square().sum(dim=1).clamp(min=1e-30).sqrt()
    scaled = jacobian / lengths[:, None]
    normal = scaled.mT @ scaled
    # rounding can make an undetermined matrix slightly indefinite, but never non-finite
    determined = torch.linalg.eigvalsh(normal.detach())[:, 0] > DETERMINED
    identity = torch.eye(6, dtype=normal.dtype, device=normal.device)
    normal = torch.where(determined[:, None, None], normal, identity) + damping * identity
    right = torch.where(determined[:, None], (scaled.mT @ residual[..., None])[..., 0], 0.0)
    return -torch.linalg.solve(normal, right[..., None])[..., 0] / lengths


def _exponential(twist: Tensor) -> Tensor:
    """[F, 4, 4] rigid motions with translation rho and rotation exp(phi), from [F, 6] (rho, phi)."""
    rotation = torch.linalg.matrix_exp(_cross(twist[:, 3:]))
    top = torch.cat([rotation, twist[:, :3, None]], dim=-1)
    bottom = top.new_tensor([0.0, 0.0, 0.0, 1.0]).expand(len(top), 1, 4)
    return torch.cat([top, bottom], dim=1)
