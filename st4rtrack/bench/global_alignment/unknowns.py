"""The unknowns of global alignment, in the parameters in which Adam takes its steps."""

import numpy as np
import torch
from torch import Tensor, nn

from st4rtrack.bench.global_alignment.initialise import MEAN_EDGE_SCALE
from st4rtrack.bench.global_alignment.problem import Solution

FOCAL_STEP = 20.0
"""Parameters per unit of log focal length: one step moves it 20 times less than a depth. DUSt3R's value."""


class Unknowns(nn.Module):
    """Log depths, cameras, focal lengths, and a similarity per edge.

    Rotations are quaternions (w, x, y, z) of any length, translations are stored as sign(t) log(1 + |t|).
    """

    def __init__(self, start: Solution, *, shared_focal: bool) -> None:
        super().__init__()
        images = len(start.depth)
        self.log_depth = _parameter(np.log(start.depth).reshape(images, -1))
        self.quaternion = _parameter(quaternion_from_rotation(start.world_from_camera[:, :3, :3]))
        self.translation = _parameter(signed_log(start.world_from_camera[:, :3, 3]))
        focal = start.focal_px[:1] if shared_focal else start.focal_px
        self.focal = _parameter(FOCAL_STEP * np.log(focal))
        self.edge_quaternion = _parameter(quaternion_from_rotation(start.edge_rotation))
        self.edge_translation = _parameter(signed_log(start.edge_translation))
        self.edge_log_scale = _parameter(np.log(start.edge_scale))
        self.map_shape = start.depth.shape

    def cameras(self) -> tuple[Tensor, Tensor]:
        """Rotation [images, 3, 3] and translation [images, 3] of `world_from_camera`."""
        return rotation_from_quaternion(self.quaternion), signed_exp(self.translation)

    def focal_px(self) -> Tensor:
        """[images], or [1] where it is shared."""
        return (self.focal / FOCAL_STEP).exp()

    def edges(self) -> tuple[Tensor, Tensor, Tensor]:
        """Scale [edges], rotation [edges, 3, 3] and translation [edges, 3]; the scales' geometric mean is fixed."""
        scale = MEAN_EDGE_SCALE * (self.edge_log_scale - self.edge_log_scale.mean()).exp()
        return scale, rotation_from_quaternion(self.edge_quaternion), signed_exp(self.edge_translation)

    def world_points(self, centred_px: Tensor) -> Tensor:
        """[images, pixels, 3] of the pixels [pixels, 2] relative to the principal point."""
        rotation, translation = self.cameras()
        depth = self.log_depth.exp()[..., None]
        rays = centred_px / self.focal_px()[:, None, None]
        points_camera = torch.cat([rays * depth, depth], dim=-1)
        return points_camera @ rotation.transpose(1, 2) + translation[:, None]

    @torch.no_grad()
    def solution(self) -> Solution:
        """As NumPy arrays."""
        rotation, translation = self.cameras()
        world_from_camera = torch.eye(4, dtype=torch.float64).repeat(len(rotation), 1, 1)
        world_from_camera[:, :3, :3], world_from_camera[:, :3, 3] = rotation, translation
        scale, edge_rotation, edge_translation = (value.double().cpu().numpy() for value in self.edges())
        return Solution(
            world_from_camera=world_from_camera.numpy(),
            focal_px=self.focal_px().expand(len(rotation)).double().cpu().numpy(),
            depth=self.log_depth.exp().double().cpu().numpy().reshape(self.map_shape),
            edge_scale=scale,
            edge_rotation=edge_rotation,
            edge_translation=edge_translation,
        )


def rotation_from_quaternion(quaternion: Tensor) -> Tensor:
    """Rotation matrices [..., 3, 3] of quaternions [..., 4] (w, x, y, z), which need not have length 1."""
    w, x, y, z = nn.functional.normalize(quaternion, dim=-1).unbind(-1)
    rows = [
        torch.stack([1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)], dim=-1),
        torch.stack([2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)], dim=-1),
        torch.stack([2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)], dim=-1),
    ]
    return torch.stack(rows, dim=-2)


def quaternion_from_rotation(rotation: np.ndarray) -> np.ndarray:
    """Unit quaternions [..., 4] (w, x, y, z) of rotation matrices [..., 3, 3].

    Source: Bar-Itzhack 2000: the eigenvector of the largest eigenvalue of a symmetric matrix of the entries; no cases to tell apart.
    """
    r = np.asarray(rotation, np.float64)
    k = np.zeros((*r.shape[:-2], 4, 4))
    k[..., 0, 0] = r[..., 0, 0] + r[..., 1, 1] + r[..., 2, 2]
    k[..., 1:, 1:] = r + np.swapaxes(r, -1, -2) - k[..., 0, 0, None, None] * np.eye(3)
    skew = np.stack([r[..., 2, 1] - r[..., 1, 2], r[..., 0, 2] - r[..., 2, 0], r[..., 1, 0] - r[..., 0, 1]], axis=-1)
    k[..., 0, 1:] = k[..., 1:, 0] = skew
    return np.linalg.eigh(k)[1][..., -1]


def signed_log(value: np.ndarray) -> np.ndarray:
    """sign(x) log(1 + |x|)."""
    return np.sign(value) * np.log1p(np.abs(value))


def signed_exp(value: Tensor) -> Tensor:
    """The inverse of `signed_log`."""
    return value.sign() * value.abs().expm1()


def _parameter(value: np.ndarray) -> nn.Parameter:
    return nn.Parameter(torch.from_numpy(np.ascontiguousarray(value)).float())
