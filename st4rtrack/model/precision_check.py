"""Self-check of reduced precision: compares it with float32 on a small fixed input."""

import logging

import torch
from torch import Tensor, nn

from st4rtrack.model.hints import Hints, assemble_hints
from st4rtrack.model.network import St4RTrack, network_of
from st4rtrack.types import TwoPointmaps

logger = logging.getLogger(__name__)

LIMIT, DEEP_LIMIT = 0.02, 0.05
"""Maximum median relative point difference, for a network with fewer than `DEEP` layers and for a deeper one, which rounds more.

Correct bfloat16 differs by 0.1 % for the embedded model and by 0.3 to 2.9 % for the released size with random weights; wrong
kernels by 9 to 26 %. Measurements: docs/portability.md.
"""
DEEP = 16
PATCHES = (6, 8)
"""Rows and columns of input patches: small, so that the check of the released size takes seconds."""


def checked_dtype(model: St4RTrack, device: torch.device, dtype: torch.dtype) -> torch.dtype:
    """Return `dtype` if the points of a float32 CPU network agree in it on this device, else float32 with one warning."""
    if dtype == torch.float32:
        return dtype
    config, difference = model.config, point_difference(model, device, dtype)
    limit = DEEP_LIMIT if config.head != "monocular" and config.encoder_depth + config.decoder_depth >= DEEP else LIMIT
    if difference <= limit:  # false for NaN
        return dtype
    logger.warning(
        "%s points of the model %r differ from float32 points by %.1f %% (median, limit %.0f %%) on this machine; "
        "using float32. Set --dtype float32 to skip this check",
        *(str(dtype).removeprefix("torch."), model.name, 100 * difference, 100 * limit),
    )
    return torch.float32


def point_difference(model: St4RTrack, device: torch.device, dtype: torch.dtype) -> float:
    """Median relative difference of the points to those of a float32 CPU network, for a small fixed image pair."""
    generator = torch.Generator().manual_seed(0)
    height, width = (side * model.config.patch_size for side in PATCHES)
    images = example_images((1, 3, height, width), generator)
    hints = example_hints((1, height, width), generator) if model.config.hints else None
    reduced = network_of(model.config, {name: value.to(device, dtype) for name, value in model.state_dict().items()})
    reduced_hints = None if hints is None else type(hints)(**{name: value.to(device) for name, value in vars(hints).items()})
    with torch.inference_mode():
        reference = _points(model.decode(model.encode(images[0]), model.encode(images[1]), hints))
        anchor, frame = (reduced.encode(image.to(device)) for image in images)
        points = _points(reduced.decode(anchor, frame, reduced_hints)).cpu()
    return ((points - reference).norm(dim=-1) / reference.norm(dim=-1)).median().item()


def _points(maps: TwoPointmaps) -> Tensor:
    return torch.stack([maps.tracking.points_world, maps.reconstruction.points_world])


def example_images(shape: tuple[int, int, int, int], generator: torch.Generator) -> list[Tensor]:
    """Create two smooth random image batches [batch, 3, height, width] in [-1, 1]."""
    return [_smooth(shape, generator).clamp(-1, 1) for _ in range(2)]


def example_hints(shape: tuple[int, int, int], generator: torch.Generator) -> Hints:
    """Create hints of pairs [batch, height, width], with smooth random flow, and depth in the upper quarter."""
    batch, height, width = shape
    flow = [4 * _smooth((batch, 2, height, width), generator).permute(0, 2, 3, 1) for _ in range(2)]
    depth = [1.5 + 0.5 * _smooth((batch, 1, height, width), generator)[:, 0].clamp(-1, 1) for _ in range(2)]
    for values in depth:
        values[:, height // 4 :] = 0  # known depth would hide the monocular depth
    camera = torch.eye(4).repeat(batch, 1, 1)
    camera[:, :3, 3] = 0.1 * torch.randn((batch, 3), generator=generator)
    return assemble_hints(
        forward_flow=flow[0],
        backward_flow=flow[1],
        anchor_depth=depth[0],
        frame_depth=depth[1],
        anchor_from_frame=camera,
        focal_px=torch.full((batch,), 0.9 * max(height, width)),
    )


def _smooth(shape: tuple[int, int, int, int], generator: torch.Generator) -> Tensor:
    coarse = torch.randn((*shape[:2], 4, 4), generator=generator)
    return nn.functional.interpolate(coarse, size=shape[2:], mode="bicubic", align_corners=False)
