"""Cameras through which gradients pass (paper section 3.3, Eq. 4 and appendix A, Eq. 13 and 14).

A robust solver finds focal length and pose, detached. One more step of the least-squares problem that they solve, from where they
ended, changes them hardly and carries gradients to the points. Failed poses are left out, never replaced.

Symbols: F frames, N points, K intrinsics, x pixel, X point in the world, y = R X + t in the camera, w weight. Unlike
`camera.project`, nothing here is infinite or without gradient for points on or behind the plane of the camera.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from st4rtrack.geometry.camera import project
from st4rtrack.geometry.transforms import invert_rigid, transform_points

NEAREST = 0.05
"""Of the typical depth of a frame: what is nearer is as good as behind the camera."""

SMALLEST_DEPTH = 1e-15
"""What a depth to divide by is never below, in any unit: the square of its reciprocal is still a number in float32."""

HUBER = 0.1
"""Of the spread of the pixels: a larger residual counts linearly, as in the release."""

DETERMINED = 1e-8
"""Least eigenvalue of the normal equations, of unit diagonal, that counts as one. Of rounding alone it is below 1e-14."""


class SolvedCameras(NamedTuple):
    """Frames [S] (int64, increasing) that have a camera, and `camera_from_world` [S, 4, 4] float64 of those."""

    frames: np.ndarray
    camera_from_world: np.ndarray


def solved_cameras(world_from_camera: Sequence[np.ndarray | None]) -> SolvedCameras:
    """The cameras that a robust solver found, turned round for projection; who gave `None` is left out.

    Args:
        world_from_camera: [4, 4] of every frame, or `None`.
    """
    frames = [index for index, camera in enumerate(world_from_camera) if camera is not None]
    found = [camera for camera in world_from_camera if camera is not None]
    cameras = invert_rigid(np.stack(found).astype(np.float64)) if found else np.empty((0, 4, 4))
    return SolvedCameras(np.array(frames, np.int64), cameras)


def project_everywhere(points_camera: Tensor, intrinsics: Tensor, *, nearest: float | None = None) -> Tensor:
    """`camera.project` with finite pixels and gradients for every finite point.

    Nearer than `nearest`, 1 / z goes on as its own mirror image, 2 / n - 1 / (2n - z): smooth to first order, bounded by 2 / n, and
    still falling with z, so that a loss on the pixel moves a point forward out of the camera.

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
    """One Gauss-Newton step on sum |w (x - pi(K (R X + t)))|^2 from a detached pose: the pose as a function of points and weights.

    The step is a twist of the camera, [exp(phi) | rho] camera_from_world. Everything is computed in float64 at once for all frames. Points
    that are not finite or not before the camera do not count; a frame whose points do not determine a pose (fewer than three, all
    on one line or in one place) keeps its start, without gradient.

    Args:
        camera_from_world: [F, 4, 4], from a robust solver; detached here.
        points_world: [F, N, 3].
        pixels_px: [F, N, 2], or [N, 2] for all frames: what each point is seen at, anywhere.
        weights: [F, N] not negative, of the residual, thus squared in the sum.
        intrinsics: [3, 3] or [F, 3, 3], differentiable too.
        huber: residuals longer than this share of the spread of the pixels count linearly; `None`: all are squared.
        damping: added to the normal equations, relative to their diagonal (Marquardt).
    Returns:
        camera_from_world [F, 4, 4], rigid, in the type of the points.
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
    """In float64; on the CPU where the device has none."""
    return values.to("cpu" if values.device.type == "mps" else values.device, torch.float64)


def _nearest(z: Tensor) -> Tensor:
    """[..., 1] depth below which a point [...] does not count as before the camera, detached."""
    if not z.shape[-1]:
        return torch.ones_like(z.sum(dim=-1, keepdim=True))
    typical = z.detach().abs().nanmedian(dim=-1, keepdim=True).values
    return (NEAREST * torch.nan_to_num(typical, nan=1.0)).clamp(min=SMALLEST_DEPTH)


def _usable(points_camera: Tensor) -> Tensor:
    """[...] bool: finite, and before the camera."""
    z = points_camera[..., 2]
    return torch.isfinite(points_camera).all(dim=-1) & (z > _nearest(z))


def _in_front(points_camera: Tensor, counts: Tensor) -> Tensor:
    """The points that count; in place of the others one that gives neither infinite values nor gradients."""
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
    """[F, N, 2, 6] change of the pixel of y with a twist (rho, phi), under which y changes by rho + phi x y."""
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
    """The step [F, 6] of Eq. 13 from J [F, R, 6] and F [F, R]; 0 where it is not determined.

    Unknowns are scaled so that J'J has a unit diagonal, which makes the units of the world and the size of the image irrelevant.
    """
    lengths = jacobian.square().sum(dim=1).clamp(min=1e-30).sqrt()
    scaled = jacobian / lengths[:, None]
    normal = scaled.mT @ scaled
    # rounding may make a matrix that is not determined slightly indefinite, never not finite
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
