"""Hints simulated from ground truth with realistic errors, as optical flow and depth surveys on the CPU are a bottleneck.

Batched PyTorch on the device of the clips. Simulated errors, as observed on rendered videos: static depth is known in patches,
not near borders that leave the view and not around dynamic objects; dynamic depth is unknown, or too large for objects that move
with the camera; depth is smoothly distorted; cameras and focal length are slightly wrong; flow is noisy, and lost on some
dynamic objects.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from st4rtrack.classical.two_view import ASSUMED_FOCAL
from st4rtrack.data.procedural import ClipBatch

FAILED_SHARE = 0.04
MIN_BASELINE = 0.02
"""Share of surveys that fail at random; baseline, in median depths, below which every survey fails."""
SKY_M = 1000.0


class Simulation:
    """Simulated hints for frame pairs of rendered clips; deterministic for a seed."""

    def __init__(self, clips: ClipBatch, seed: int) -> None:
        self.clips = clips
        self.device = clips.depth.device
        self.generator = torch.Generator(self.device).manual_seed(seed)
        self.batch, _, self.height, self.width = clips.depth.shape

    def views(self, anchor: int, frame: int, there: Tensor, back: Tensor) -> dict[str, Tensor]:
        """Simulate the fields of `TwoView`, with a batch axis.

        Args:
            anchor, frame: frame indices of the pair.
            there: [batch, height, width, 3] anchor content at the frame time, in the anchor camera (`tracking_points`).
            back: [batch, height, width, 3] frame content at the anchor time, in the frame camera.
        """
        clips = self.clips
        frame_from_anchor = torch.linalg.inv(clips.world_from_camera[:, frame]) @ clips.world_from_camera[:, anchor]
        anchor_from_frame = torch.linalg.inv(frame_from_anchor)
        middle = clips.depth[:, anchor].flatten(1).median(dim=1).values
        still = anchor_from_frame[:, :3, 3].norm(dim=1) < MIN_BASELINE * middle
        still |= self._uniform() < FAILED_SHARE
        own, other = self._points(anchor), self._points(frame)
        moving = (there - own).norm(dim=-1) > 0.01, (back - other).norm(dim=-1) > 0.01
        bend = self._smooth(6) * (0.05 * self._uniform())[:, None, None]
        anchor_depth = self._known_depth(anchor, moving[0], self._uniform(0.45, 1.0)) * bend.exp()
        hidden = self._misses(other, anchor_from_frame, anchor)
        frame_depth = self._known_depth(frame, moving[1], self._uniform(0.3, 1.0)) * bend.exp() * ~hidden
        unit = self._median_known(anchor_depth)
        still |= unit == 0
        scale = (1 / unit.clamp(min=1e-6))[:, None, None] * ~still[:, None, None]
        relative = self._shaken(anchor_from_frame.float())
        relative[:, :3, 3] *= scale[:, 0]
        focal = clips.intrinsics[:, 0, 0].float() * torch.exp(0.03 * self._normal(self.batch))
        return {
            "forward_flow": self._flow(there, frame_from_anchor, anchor, moving[0]),
            "backward_flow": self._flow(back, anchor_from_frame, frame, moving[1]),
            "anchor_depth": anchor_depth * scale,
            "frame_depth": frame_depth * scale,
            "anchor_from_frame": relative,
            "focal_px": torch.where(still, ASSUMED_FOCAL * max(self.height, self.width), focal),
        }

    def _points(self, frame: int) -> Tensor:
        """Points of a frame in its camera [batch, height, width, 3]; sky at `SKY_M`."""
        depth = torch.where(self.clips.valid[:, frame], self.clips.depth[:, frame], SKY_M)
        return self._rays() * depth[..., None]

    def _rays(self) -> Tensor:
        focal, centre = self.clips.intrinsics[:, 0, 0].float(), self.clips.intrinsics[:, :2, 2].float()
        across = (self._grid() - centre[:, None, None]) / focal[:, None, None, None]
        return F.pad(across, (0, 1), value=1.0)

    def _grid(self) -> Tensor:
        v, u = torch.meshgrid(
            torch.arange(self.height, device=self.device) + 0.5, torch.arange(self.width, device=self.device) + 0.5, indexing="ij"
        )
        return torch.stack([u, v], dim=-1)

    def _project(self, points: Tensor, camera_from_points: Tensor) -> tuple[Tensor, Tensor]:
        """Project points to pixels [batch, height, width, 2] and depth."""
        matrix = camera_from_points.float()
        seen = torch.einsum("bij,bhwj->bhwi", matrix[:, :3, :3], points) + matrix[:, None, None, :3, 3]
        focal, centre = self.clips.intrinsics[:, 0, 0].float(), self.clips.intrinsics[:, :2, 2].float()
        pixels = seen[..., :2] / seen[..., 2:].clamp(min=0.05) * focal[:, None, None, None] + centre[:, None, None]
        return pixels, seen[..., 2]

    def _known_depth(self, frame: int, moving: Tensor, coverage: Tensor) -> Tensor:
        """Simulated depth of a survey, metres, 0 where unknown."""
        depth, valid = self.clips.depth[:, frame], self.clips.valid[:, frame]
        patches = self._smooth(10) + 0.5 * self._smooth(40)
        known = valid & (patches < self._quantile(patches, coverage)) & self._off_borders()
        around = F.max_pool2d(moving.float()[:, None], 7, 1, 3)[:, 0] > 0
        objects = self.clips.object_index[:, frame].clamp(min=0)
        along, unseen = self._by_object(objects, 0.25), self._by_object(objects, 0.06) & (objects > 0)
        too_far = moving & along & valid
        factor = self._uniform(1.05, 2.5)[:, None, None]
        known = (known & ~around & ~unseen) | (too_far & (patches < self._quantile(patches, coverage * 0.6)))
        noise = torch.exp(0.015 * self._normal(*depth.shape))
        return torch.where(known, depth * noise * torch.where(too_far, factor, 1.0), 0.0)

    def _flow(self, moved: Tensor, camera_from_points: Tensor, frame: int, moving: Tensor) -> Tensor:
        """Simulated optical flow with errors [batch, height, width, 2]."""
        true, _ = self._project(moved, camera_from_points)
        static, _ = self._project(self._points(frame), camera_from_points)
        objects = self.clips.object_index[:, frame].clamp(min=0)
        lost = moving & self._by_object(objects, 0.3)
        stuck = self._uniform()[:, None, None, None]
        drift = torch.stack([self._smooth(8), self._smooth(8)], dim=-1) * self._uniform(0.0, 12.0)[:, None, None, None]
        target = torch.where(lost[..., None], torch.lerp(true, static, stuck) + drift, true)
        noise = torch.stack([self._smooth(30), self._smooth(30)], dim=-1) * self._uniform(0.0, 0.8)[:, None, None, None]
        flow = target - self._grid() + noise
        return flow.clamp(-2 * self.width, 2 * self.width)

    def _misses(self, points: Tensor, anchor_from_frame: Tensor, anchor: int) -> Tensor:
        """Pixels of the frame that are occluded or out of view in the anchor."""
        pixels, depth = self._project(points, anchor_from_frame)
        size = pixels.new_tensor([self.width, self.height])
        seen = self.clips.depth[:, anchor][:, None]
        there = F.grid_sample(seen, 2 * pixels / size - 1, mode="nearest", padding_mode="zeros", align_corners=False)[:, 0]
        inside = ((pixels > 0) & (pixels < size)).all(dim=-1) & (depth > 0.05)
        return ~inside | (depth > 1.05 * there)

    def _off_borders(self) -> Tensor:
        """Mask [batch, height, width] of pixels outside border strips that leave the view of later frames."""
        grid = self._grid() / self._grid().new_tensor([self.width, self.height])
        low = (self._uniform(-0.25, 0.25), self._uniform(-0.25, 0.25))
        inside = [(grid[None, ..., k] > low[k][:, None, None]) & (grid[None, ..., k] < 1 + low[k][:, None, None]) for k in (0, 1)]
        return inside[0] & inside[1]

    def _by_object(self, objects: Tensor, chance: float) -> Tensor:
        """Mask [batch, height, width] of whole objects selected at random with probability `chance`."""
        chosen = torch.rand(self.batch, int(objects.max()) + 1, generator=self.generator, device=self.device) < chance
        return torch.gather(chosen, 1, objects.flatten(1)).reshape(objects.shape)

    def _shaken(self, anchor_from_frame: Tensor) -> Tensor:
        turn = torch.zeros(self.batch, 3, 3, device=self.device)
        angle = self._normal(self.batch, 3) * (math.radians(0.8) * self._uniform())[:, None]
        turn[:, 0, 1], turn[:, 0, 2], turn[:, 1, 2] = -angle[:, 2], angle[:, 1], -angle[:, 0]
        out = anchor_from_frame.clone()
        out[:, :3, :3] = torch.matrix_exp(turn - turn.mT) @ out[:, :3, :3]
        out[:, :3, 3] *= 1 + 0.04 * self._normal(self.batch, 3)
        return out

    def _median_known(self, depth: Tensor) -> Tensor:
        known = depth.flatten(1).masked_fill(depth.flatten(1) == 0, float("nan"))
        median = known.nanmedian(dim=1).values
        return torch.where((depth > 0).flatten(1).float().mean(1) > 0.05, median, 0.0).nan_to_num(0.0)

    def _quantile(self, values: Tensor, share: Tensor) -> Tensor:
        some = values.flatten(1)[:, ::16].sort(dim=1).values
        index = (share * (some.shape[1] - 1)).long()[:, None]
        return torch.gather(some, 1, index)[:, :, None] + torch.where(share >= 1.0, 1e3, 0.0)[:, None, None]

    def _smooth(self, cells: int) -> Tensor:
        """Smooth unit noise [batch, height, width] with `cells` grid cells along the width."""
        coarse = self._normal(self.batch, 1, max(2, cells * self.height // self.width), cells)
        return F.interpolate(coarse, size=(self.height, self.width), mode="bicubic", align_corners=False)[:, 0]

    def _uniform(self, low: float = 0.0, high: float = 1.0) -> Tensor:
        return low + (high - low) * torch.rand(self.batch, generator=self.generator, device=self.device)

    def _normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.generator, device=self.device)
