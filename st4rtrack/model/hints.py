"""Hints: classical geometry as input maps of the decoders and as base geometry of the output.

A network trained for hours cannot learn matching from scratch, so OpenCV and PoseLib provide it: from the pair alone
(`classical/two_view.py`), or from the whole video (`classical/anchored.py`). The released architecture has no hints.

Channels of a hint map, per image: position (2, in long sides from the centre), flow to the other image (2, in eighths of the long
side), forward-backward consistency (1), colour difference after warping (3), flow ends inside the image (1), log of known
depth (1), mask of known depth (1), ray offset by the relative rotation (2), relative translation (3), the image itself (3),
residual of the flow of a static scene of this depth (2, in eighths of the long side), colour difference after warping by that
static flow (1), log of depth, filled in (1), log of the focal length over the assumed one (1).
"""

from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from st4rtrack.classical.two_view import ASSUMED_FOCAL, TwoView, estimate_many
from st4rtrack.model.decoder import HINT_CHANNELS
from st4rtrack.timing import timed

FLOW_CHANNELS = [2, 3, 5, 6, 7, 11, 12, 13, 14, 15, 19, 20, 21]
CERTAIN_CHANNELS = [4, 8]
"""Channels of a hint map that are zero (`FLOW_CHANNELS`) and one (`CERTAIN_CHANNELS`) between an image and itself."""
KNOWN_LOG_DEPTH, KNOWN_MASK = 9, 10
MAX_LOG_DEPTH = 2.0
"""Maximum |log depth| in a hint map, in units of the median depth."""


@dataclass
class Hints:
    """Hints of a batch of pairs, float32.

    Attributes:
        anchor_maps, frame_maps: [batch, HINT_CHANNELS, height, width].
        forward_flow: [batch, height, width, 2] pixels, anchor to frame.
        consistency: [batch, height, width] in 0..1, forward-backward consistency of the forward flow.
        anchor_log_depth, frame_log_depth: [batch, height, width], filled in where unknown; 0 if all is unknown.
        anchor_from_frame: [batch, 4, 4] relative pose.
        rays: [batch, height, width, 3] (x / z, y / z, 1) of the pixel centres, for the estimated focal length.
    """

    anchor_maps: Tensor
    frame_maps: Tensor
    forward_flow: Tensor
    consistency: Tensor
    anchor_log_depth: Tensor
    frame_log_depth: Tensor
    anchor_from_frame: Tensor
    rays: Tensor


@timed("hints", settles=True)
def estimate_hints(anchor_images: Tensor, frame_images: Tensor) -> Hints:
    """Estimate hints of independent image pairs [batch, 3, height, width] in [-1, 1] with OpenCV and PoseLib on the CPU."""
    pairs = list(zip(_to_rgb(anchor_images), _to_rgb(frame_images), strict=True))
    return hints_of_views(anchor_images, frame_images, estimate_many(pairs))


@timed("hints", settles=True)
def hints_of_views(anchor_images: Tensor, frame_images: Tensor, views: list[TwoView]) -> Hints:
    """Hints of image pairs [batch, 3, height, width] in [-1, 1] from the two-view geometry of each."""
    device = frame_images.device
    stacked = {
        field.name: torch.from_numpy(np.stack([np.asarray(getattr(view, field.name)) for view in views])).float().to(device)
        for field in fields(TwoView)
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
    focal_px: Tensor,
) -> Hints:
    """Assemble hints from two-view geometry (fields of `TwoView`, with a batch axis) and images [batch, 3, height, width]."""
    size = anchor_images.shape[2:]
    rays = _rays(size[0], size[1], focal_px)
    frame_from_anchor = torch.linalg.inv(anchor_from_frame)
    translation = anchor_from_frame[:, :3, 3, None, None].clamp(-3, 3).expand(-1, -1, *size)
    turned = torch.einsum("bij,bhwj->bhwi", anchor_from_frame[:, :3, :3], rays)
    turn = (turned[..., :2] / turned[..., 2:].clamp(min=0.1) - rays[..., :2]).permute(0, 3, 1, 2).clamp(-2, 2)
    log_focal = (focal_px / (ASSUMED_FOCAL * max(size))).log()[:, None, None, None].expand(-1, 1, *size)
    views = (
        (anchor_images, frame_images, forward_flow, backward_flow, torch.zeros_like(turn), anchor_depth, frame_from_anchor),
        (frame_images, anchor_images, backward_flow, forward_flow, turn, frame_depth, anchor_from_frame),
    )
    maps, consistencies, filled = [], [], []
    for own, other, flow, back_flow, ray_turn, depth, other_from_own in views:
        matching, consistency = _matching_channels(own, other, flow, back_flow)
        log_depth = torch.where(depth > 0, depth.clamp(min=1e-6).log(), 0.0).clamp(-MAX_LOG_DEPTH, MAX_LOG_DEPTH)
        whole = fill_in(log_depth, depth > 0)
        static = _static_channels(own, other, flow, rays * whole.exp()[..., None], depth > 0, other_from_own, focal_px)
        known = torch.stack([log_depth, (depth > 0).float()], dim=1)
        maps.append(torch.cat([matching, known, ray_turn, translation, own, static, whole[:, None], log_focal], dim=1))
        consistencies.append(consistency)
        filled.append(whole)
    assert maps[0].shape[1] == HINT_CHANNELS
    return Hints(maps[0], maps[1], forward_flow, consistencies[0], filled[0], filled[1], anchor_from_frame, rays)


def still_hints(hints: Hints) -> Hints:
    """Hints of the pairs (anchor, anchor), from those of other pairs: same depth, camera and time."""
    maps = hints.anchor_maps.clone()
    maps[:, FLOW_CHANNELS] = 0
    maps[:, CERTAIN_CHANNELS] = 1
    return Hints(
        anchor_maps=maps,
        frame_maps=maps,
        forward_flow=torch.zeros_like(hints.forward_flow),
        consistency=torch.ones_like(hints.consistency),
        anchor_log_depth=hints.anchor_log_depth,
        frame_log_depth=hints.anchor_log_depth,
        anchor_from_frame=torch.eye(4, device=maps.device).expand_as(hints.anchor_from_frame),
        rays=hints.rays,
    )


def known_depth(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Known log depth of hint maps, and the mask [batch, height, width] where it is known and not clamped."""
    log_depth = maps[:, KNOWN_LOG_DEPTH]
    return log_depth, (maps[:, KNOWN_MASK] > 0) & (log_depth.abs() < MAX_LOG_DEPTH)


def fill_in(values: Tensor, known: Tensor) -> Tensor:
    """Fill in unknown values [batch, height, width] smoothly from those with mask `known`; 0 if none is known.

    Unknown pixels get the mean over the smallest square of an image pyramid that has a known value.
    """
    weight = known.to(values.dtype)[:, None]
    levels = [(values[:, None] * weight, weight)]
    while max(levels[-1][0].shape[2:]) > 1:
        levels.append((_halved(levels[-1][0]), _halved(levels[-1][1])))
    whole = torch.zeros_like(levels[-1][0])
    for total, share in reversed(levels):
        coarse = F.interpolate(whole, size=total.shape[2:], mode="bilinear", align_corners=False)
        whole = torch.where(share > 0, total / share.clamp(min=1e-9), coarse)
    return whole[:, 0]


def sample_by_flow(maps: Tensor, flow: Tensor) -> Tensor:
    """Sample maps [batch, channels, height, width] at flow targets [batch, height, width, 2] (pixels), border padding."""
    height, width = flow.shape[1:3]
    v, u = torch.meshgrid(
        torch.arange(height, device=flow.device) + 0.5, torch.arange(width, device=flow.device) + 0.5, indexing="ij"
    )
    pixels = 2 * (torch.stack([u, v], dim=-1) + flow)
    normalized = torch.stack([pixels[..., 0] / width, pixels[..., 1] / height], dim=-1) - 1
    return F.grid_sample(maps, normalized, mode="bilinear", padding_mode="border", align_corners=False)


def _rays(height: int, width: int, focal_px: Tensor) -> Tensor:
    """Rays (x / z, y / z, 1) [batch, height, width, 3] of pixel centres for focal lengths [batch] in pixels."""
    across = _from_centre(height, width, focal_px.device) / focal_px[:, None, None, None]
    return torch.cat([across, torch.ones_like(across[..., :1])], dim=-1)


def _from_centre(height: int, width: int, device: torch.device) -> Tensor:
    """Pixel centres [height, width, 2] relative to the image centre."""
    v, u = torch.meshgrid(
        torch.arange(height, device=device) + 0.5 - height / 2,
        torch.arange(width, device=device) + 0.5 - width / 2,
        indexing="ij",
    )
    return torch.stack([u, v], dim=-1)


def _halved(maps: Tensor) -> Tensor:
    """Mean over squares of 2 x 2 pixels; an odd last row or column is averaged alone."""
    return F.avg_pool2d(maps, 2, ceil_mode=True, count_include_pad=False)


def _static_channels(
    own: Tensor, other: Tensor, flow: Tensor, points: Tensor, known: Tensor, other_from_own: Tensor, focal_px: Tensor
) -> Tensor:
    """Evidence against static pixels [batch, 3, height, width]: flow residual and colour difference of a static scene."""
    height, width = own.shape[2:]
    moved = torch.einsum("bij,bhwj->bhwi", other_from_own[:, :3, :3], points) + other_from_own[:, None, None, :3, 3]
    pixels = moved[..., :2] / moved[..., 2:].clamp(min=1e-2) * focal_px[:, None, None, None]
    static_flow = (pixels - _from_centre(height, width, own.device)).clamp(-2 * width, 2 * width)
    difference = (own - sample_by_flow(other, static_flow)).abs().mean(dim=1, keepdim=True)
    residual = ((flow - static_flow) * (8 / max(height, width))).clamp(-4, 4).permute(0, 3, 1, 2)
    any_known = known.flatten(1).any(dim=1)[:, None, None, None]
    return torch.cat([residual, difference], dim=1) * any_known


def _matching_channels(own: Tensor, other: Tensor, flow: Tensor, back_flow: Tensor) -> tuple[Tensor, Tensor]:
    batch, _, height, width = own.shape
    long_side = max(height, width)
    warped = sample_by_flow(torch.cat([other, back_flow.permute(0, 3, 1, 2)], dim=1), flow)
    flow_maps = flow.permute(0, 3, 1, 2)
    error = (flow_maps + warped[:, 3:]).square().sum(1)
    centred = _from_centre(height, width, own.device).permute(2, 0, 1)
    position = centred / long_side
    grid = centred + centred.new_tensor([width / 2, height / 2])[:, None, None] + flow_maps
    inside = ((grid[:, 0] > 0) & (grid[:, 0] < width) & (grid[:, 1] > 0) & (grid[:, 1] < height)).float()
    consistency = torch.exp(-error / (2 * (1 + 0.05 * flow_maps.norm(dim=1)) ** 2)) * inside
    scaled_flow = (flow_maps * (8 / long_side)).clamp(-4, 4)
    difference = (own - warped[:, :3]).abs()
    channels = [position.expand(batch, -1, -1, -1), scaled_flow, consistency[:, None], difference, inside[:, None]]
    return torch.cat(channels, dim=1), consistency


def _to_rgb(images: Tensor) -> list[np.ndarray]:
    rgb = ((images.detach().float().cpu() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return list(rgb.permute(0, 2, 3, 1).contiguous().numpy())
