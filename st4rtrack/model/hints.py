"""What classical two-view geometry tells the network: maps for the decoders, and a skeleton for the output.

A network trained for hours cannot learn matching from nothing, but OpenCV and PoseLib know it already (`two_view.py`).
The released architecture has no hints.

Channels of a hint map, per image: position (2, in long sides from the centre), own flow (2, in eighths of the long side),
forward-backward consistency (1), colour difference after warping (3), flow ends inside the image (1), log of triangulated
depth (1), whether there is one (1), turn of the ray by the relative camera (2), relative translation (3), the image itself (3).
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from st4rtrack.model.decoder import HINT_CHANNELS
from st4rtrack.model.two_view import ASSUMED_FOCAL, estimate_many


@dataclass
class Hints:
    """Hints of a batch of pairs, float32.

    Attributes:
        anchor_maps, frame_maps: [batch, HINT_CHANNELS, height, width].
        forward_flow: [batch, height, width, 2] pixels, anchor to frame.
        consistency: [batch, height, width] in 0..1, of the forward flow.
        anchor_log_depth, frame_log_depth: [batch, height, width], 0 where unknown.
        anchor_from_frame: [batch, 4, 4].
    """

    anchor_maps: Tensor
    frame_maps: Tensor
    forward_flow: Tensor
    consistency: Tensor
    anchor_log_depth: Tensor
    frame_log_depth: Tensor
    anchor_from_frame: Tensor


def estimate_hints(anchor_images: Tensor, frame_images: Tensor) -> Hints:
    """Hints of image pairs [batch, 3, height, width] in [-1, 1], by OpenCV and PoseLib on the CPU."""
    pairs = list(zip(_to_rgb(anchor_images), _to_rgb(frame_images), strict=True))
    found = estimate_many(pairs)
    device = frame_images.device
    stacked = {
        name: torch.from_numpy(np.stack([getattr(one, name) for one in found])).float().to(device)
        for name in ("forward_flow", "backward_flow", "anchor_depth", "frame_depth", "anchor_from_frame")
    }
    return assemble_hints(anchor_images.float(), frame_images.float(), **stacked)


def assemble_hints(
    anchor_images: Tensor,
    frame_images: Tensor,
    *,
    forward_flow: Tensor,
    backward_flow: Tensor,
    anchor_depth: Tensor,
    frame_depth: Tensor,
    anchor_from_frame: Tensor,
) -> Hints:
    """Hints from two-view estimates (fields of `TwoView`, with a batch axis) and the images [batch, 3, height, width]."""
    log_depths = [torch.where(d > 0, d.clamp(min=1e-6).log(), 0.0).clamp(-2, 2) for d in (anchor_depth, frame_depth)]
    rays = nominal_rays(anchor_images.shape[2], anchor_images.shape[3], anchor_images.device)
    turned = torch.einsum("bij,hwj->bhwi", anchor_from_frame[:, :3, :3], rays)
    turn = (turned[..., :2] / turned[..., 2:].clamp(min=0.1) - rays[..., :2]).permute(0, 3, 1, 2).clamp(-2, 2)
    translation = anchor_from_frame[:, :3, 3, None, None].clamp(-3, 3).expand(-1, -1, *anchor_images.shape[2:])
    maps, consistencies = [], []
    views = (
        (anchor_images, frame_images, forward_flow, backward_flow, torch.zeros_like(turn), log_depths[0], anchor_depth),
        (frame_images, anchor_images, backward_flow, forward_flow, turn, log_depths[1], frame_depth),
    )
    for own, other, flow, back_flow, ray_turn, log_depth, depth in views:
        matching, consistency = _matching_channels(own, other, flow, back_flow)
        known = torch.stack([log_depth, (depth > 0).float()], dim=1)
        maps.append(torch.cat([matching, known, ray_turn, translation, own], dim=1))
        consistencies.append(consistency)
    assert maps[0].shape[1] == HINT_CHANNELS
    return Hints(maps[0], maps[1], forward_flow, consistencies[0], log_depths[0], log_depths[1], anchor_from_frame)


def nominal_rays(height: int, width: int, device: torch.device) -> Tensor:
    """Rays (x / z, y / z, 1) [height, width, 3] of pixel centres under the assumed focal length."""
    v, u = torch.meshgrid(
        torch.arange(height, device=device) + 0.5 - height / 2,
        torch.arange(width, device=device) + 0.5 - width / 2,
        indexing="ij",
    )
    focal = ASSUMED_FOCAL * max(height, width)
    return torch.stack([u / focal, v / focal, torch.ones_like(u)], dim=-1)


def sample_by_flow(maps: Tensor, flow: Tensor) -> Tensor:
    """Maps [batch, channels, height, width] read where the flow [batch, height, width, 2] (pixels) leads; border values go on."""
    height, width = flow.shape[1:3]
    v, u = torch.meshgrid(
        torch.arange(height, device=flow.device) + 0.5, torch.arange(width, device=flow.device) + 0.5, indexing="ij"
    )
    pixels = torch.stack([u, v], dim=-1) + flow
    normalized = 2 * pixels / pixels.new_tensor([width, height]) - 1
    return F.grid_sample(maps, normalized, mode="bilinear", padding_mode="border", align_corners=False)


def _matching_channels(own: Tensor, other: Tensor, flow: Tensor, back_flow: Tensor) -> tuple[Tensor, Tensor]:
    batch, _, height, width = own.shape
    long_side = max(height, width)
    warped = sample_by_flow(torch.cat([other, back_flow.permute(0, 3, 1, 2)], dim=1), flow)
    flow_maps = flow.permute(0, 3, 1, 2)
    error = (flow_maps + warped[:, 3:]).square().sum(1)
    position = nominal_rays(height, width, own.device)[..., :2].permute(2, 0, 1) * ASSUMED_FOCAL
    grid = position * long_side + position.new_tensor([width / 2, height / 2])[:, None, None] + flow_maps
    inside = ((grid[:, 0] > 0) & (grid[:, 0] < width) & (grid[:, 1] > 0) & (grid[:, 1] < height)).float()
    consistency = torch.exp(-error / (2 * (1 + 0.05 * flow_maps.norm(dim=1)) ** 2)) * inside
    scaled_flow = (flow_maps * (8 / long_side)).clamp(-4, 4)
    difference = (own - warped[:, :3]).abs()
    channels = [position.expand(batch, -1, -1, -1), scaled_flow, consistency[:, None], difference, inside[:, None]]
    return torch.cat(channels, dim=1), consistency


def _to_rgb(images: Tensor) -> list[np.ndarray]:
    rgb = ((images.detach().float().cpu() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return list(rgb.permute(0, 2, 3, 1).contiguous().numpy())
