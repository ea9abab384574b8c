"""Pointmaps of a pair from monocular depth and hints: the whole output of a network without decoders."""

import torch
from torch import Tensor

from st4rtrack.model.hints import Hints, known_depth, sample_by_flow
from st4rtrack.types import MonocularDepth, Pointmap, TwoPointmaps

MIN_DEPTH = 0.02
"""Minimum depth of base geometry, in units of its median depth."""
MIN_CONSISTENCY = 0.5
"""Minimum forward-backward consistency of the flow of a dynamic point."""
MIN_MOTION = 0.01
"""Minimum distance of the flow target from the projected static point, in long sides of the image, of a dynamic point."""
KNOWN_ERROR = 0.05
"""Expected log error of known depth."""
MIN_ERROR = 1e-3


def anchor_pointmap(depth: MonocularDepth, hints: Hints) -> Pointmap:
    """Anchor points [batch, height, width, 3] at the anchor time; without known depth, their median depth is 1."""
    known, where = known_depth(hints.anchor_depth)
    log_depth = depth.log_depth.expand_as(known)
    scale = _first_median((known - log_depth, where), (-log_depth, torch.ones_like(where)))
    return _on_rays(hints.rays, log_depth + scale, depth.log_error, known, where)


def pair_pointmaps(depth: MonocularDepth, hints: Hints, anchor: Pointmap) -> TwoPointmaps:
    """Pointmaps of pairs in the anchor camera, differentiable in the depth of frame and anchor.

    Depth is monocular, in the scale of known depth, or where none is known in a frame, in that of the anchor points that it
    shows. Static points stay at `anchor`. Dynamic points, whose flow is consistent and disagrees with a static point, lie at the
    flow target at the depth of the frame.

    Args:
        depth: of the frames, [batch, height, width].
        anchor: anchor points at the anchor time, [1 or batch, height, width, 3].
    """
    assert anchor.confidence is not None
    rotation, translation = hints.anchor_from_frame[:, :3, :3], hints.anchor_from_frame[:, None, None, :3, 3]
    known, where = known_depth(hints.anchor_depth)
    static_depth = torch.where(where, known.exp(), anchor.points_world[..., 2])
    at_rest = torch.einsum("bij,bhwi->bhwj", rotation, hints.rays * static_depth[..., None] - translation)
    rest_depth, in_front = at_rest[..., 2].clamp(min=MIN_DEPTH), at_rest[..., 2] > MIN_DEPTH
    consistent = hints.consistency > MIN_CONSISTENCY

    known, where = known_depth(hints.frame_depth)
    there = sample_by_flow(depth.log_depth[:, None], hints.forward_flow)[:, 0]
    shown = (rest_depth.log() - there, consistent & in_front)
    scale = _first_median((known - depth.log_depth, where), shown, (-depth.log_depth, torch.ones_like(where)))
    in_frame = _on_rays(hints.rays, depth.log_depth + scale, depth.log_error, known, where)
    reconstruction = torch.einsum("bij,bhwj->bhwi", rotation, in_frame.points_world) + translation
    assert in_frame.confidence is not None

    of_target = torch.cat([in_frame.points_world[..., 2:], in_frame.confidence[..., None], hints.rays], dim=-1)
    of_target = sample_by_flow(of_target.permute(0, 3, 1, 2), hints.forward_flow).permute(0, 2, 3, 1)
    target_depth, target_confidence, target_ray = of_target.split([1, 1, 3], dim=-1)
    focal_px = 1 / (hints.rays[:, :1, 1:2, 0] - hints.rays[:, :1, :1, 0])
    away_px = (at_rest[..., :2] / rest_depth[..., None] - target_ray[..., :2]).norm(dim=-1) * focal_px
    dynamic = consistent & (~in_front | (away_px > MIN_MOTION * max(away_px.shape[1:])))
    followed = torch.einsum("bij,bhwj->bhwi", rotation, target_ray * target_depth) + translation
    tracking = torch.where(dynamic[..., None], followed, anchor.points_world)
    confidence = torch.where(dynamic, target_confidence[..., 0], anchor.confidence)
    return TwoPointmaps(Pointmap(tracking, confidence), Pointmap(reconstruction, in_frame.confidence))


def _on_rays(rays: Tensor, log_depth: Tensor, log_error: Tensor, known: Tensor, where: Tensor) -> Pointmap:
    """Points on rays at known log depth, or else at `log_depth`, with confidence one plus the inverse of the expected log error."""
    depth = torch.where(where, known, log_depth).exp()
    error = torch.where(where, KNOWN_ERROR, log_error.detach().exp().clamp(min=MIN_ERROR))
    return Pointmap(rays * depth[..., None], 1 + 1 / error)


def _first_median(*groups: tuple[Tensor, Tensor]) -> Tensor:
    """Median [batch, 1, 1] of masked values [batch, height, width], from the first group that has values in its mask."""
    values, mask = groups[-1]
    for other, chosen in reversed(groups[:-1]):
        prefer = chosen.flatten(1).any(dim=1)[:, None, None]
        values, mask = torch.where(prefer, other, values), torch.where(prefer, chosen, mask)
    # sorted, because torch.median has no deterministic kernel on CUDA
    ordered = values.masked_fill(~mask, torch.inf).flatten(1).sort(dim=1).values
    middle = (mask.flatten(1).sum(dim=1, keepdim=True) - 1) // 2
    return ordered.gather(1, middle)[..., None]
