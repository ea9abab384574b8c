"""Hints: classical two-view geometry of a pair, which the pointmaps of a network without decoders start from.

From the pair alone by OpenCV and PoseLib (`classical/two_view.py`), or from the whole video (`classical/anchored.py`). The
released architecture has no hints.
"""

from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from st4rtrack.classical.two_view import TwoView, estimate_many
from st4rtrack.geometry.camera import pixel_grid

MAX_LOG_DEPTH = 2.0
"""|log depth| in units of the median depth from which known depth is not used."""


@dataclass
class Hints:
    """Hints of a batch of pairs, float32.

    Attributes:
        forward_flow: [batch, height, width, 2] pixels, anchor to frame.
        consistency: [batch, height, width] in 0..1, forward-backward consistency of the forward flow.
        anchor_depth, frame_depth: [batch, height, width] known z-depth, 0 where unknown.
        anchor_from_frame: [batch, 4, 4] relative pose.
        rays: [batch, height, width, 3] (x / z, y / z, 1) of the pixel centres, for the estimated focal length.
    """

    forward_flow: Tensor
    consistency: Tensor
    anchor_depth: Tensor
    frame_depth: Tensor
    anchor_from_frame: Tensor
    rays: Tensor


def estimate_hints(anchor_images: Tensor, frame_images: Tensor) -> Hints:
    """Estimate hints of independent image pairs [batch, 3, height, width] in [-1, 1] with OpenCV and PoseLib on the CPU."""
    pairs = list(zip(_to_rgb(anchor_images), _to_rgb(frame_images), strict=True))
    return hints_of_views(estimate_many(pairs), frame_images.device)


def hints_of_views(views: list[TwoView], device: torch.device | str = "cpu") -> Hints:
    """Hints of image pairs from the two-view geometry of each."""
    stacked = {
        field.name: torch.from_numpy(np.stack([np.asarray(getattr(view, field.name)) for view in views])).float().to(device)
        for field in fields(TwoView)
    }
    return assemble_hints(**stacked)


def assemble_hints(
    *,
    forward_flow: Tensor,
    backward_flow: Tensor,
    anchor_depth: Tensor,
    frame_depth: Tensor,
    anchor_from_frame: Tensor,
    focal_px: Tensor,
) -> Hints:
    """Assemble hints from two-view geometry: the fields of `TwoView`, with a batch axis."""
    rays = _rays(forward_flow.shape[1], forward_flow.shape[2], focal_px)
    consistency = _consistency(forward_flow, backward_flow)
    return Hints(forward_flow, consistency, anchor_depth, frame_depth, anchor_from_frame, rays)


def known_depth(depth: Tensor) -> tuple[Tensor, Tensor]:
    """Logarithm of known depth [batch, height, width] (0 where unknown), and the mask where it is usable."""
    log_depth = torch.where(depth > 0, depth.clamp(min=1e-6).log(), 0.0)
    return log_depth, (depth > 0) & (log_depth.abs() < MAX_LOG_DEPTH)


def sample_by_flow(maps: Tensor, flow: Tensor) -> Tensor:
    """Sample maps [batch, channels, height, width] at flow targets [batch, height, width, 2] (pixels), border padding."""
    height, width = flow.shape[1:3]
    pixels = 2 * (_pixel_centres(height, width, flow.device) + flow)
    normalized = torch.stack([pixels[..., 0] / width, pixels[..., 1] / height], dim=-1) - 1
    return F.grid_sample(maps, normalized, mode="bilinear", padding_mode="border", align_corners=False)


def _rays(height: int, width: int, focal_px: Tensor) -> Tensor:
    """Rays (x / z, y / z, 1) [batch, height, width, 3] of pixel centres for focal lengths [batch] in pixels."""
    centred = _pixel_centres(height, width, focal_px.device) - torch.tensor([width / 2, height / 2], device=focal_px.device)
    across = centred / focal_px[:, None, None, None]
    return torch.cat([across, torch.ones_like(across[..., :1])], dim=-1)


def _pixel_centres(height: int, width: int, device: torch.device) -> Tensor:
    """Pixel centres [height, width, 2]."""
    return torch.from_numpy(pixel_grid(height, width)).float().to(device)


def _consistency(flow: Tensor, back_flow: Tensor) -> Tensor:
    """Forward-backward consistency [batch, height, width] of flow [batch, height, width, 2]; 0 outside the image."""
    height, width = flow.shape[1:3]
    returned = sample_by_flow(back_flow.permute(0, 3, 1, 2), flow).permute(0, 2, 3, 1)
    error = (flow + returned).square().sum(-1)
    there = _pixel_centres(height, width, flow.device) + flow
    inside = ((there > 0) & (there < there.new_tensor([width, height]))).all(dim=-1)
    return torch.exp(-error / (2 * (1 + 0.05 * flow.norm(dim=-1)) ** 2)) * inside


def _to_rgb(images: Tensor) -> list[np.ndarray]:
    rgb = ((images.detach().float().cpu() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return list(rgb.permute(0, 2, 3, 1).contiguous().numpy())
