"""Differentiable prediction and camera estimation for frames of a video. Every call starts with the pair (anchor, anchor)."""

from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor

from st4rtrack.adapt.inputs import ANCHOR, FrameInputs
from st4rtrack.geometry.camera import pixel_grid
from st4rtrack.geometry.differentiable_cameras import gauss_newton_step, solved_cameras
from st4rtrack.model.network import St4RTrack
from st4rtrack.pipeline import cameras as solver
from st4rtrack.types import Pointmap, TwoPointmaps

CAMERA_PIXELS = 2000
"""Number of grid pixels per frame used to refine its camera."""


@dataclass
class Solved:
    """Poses of the solved frames, the anchor first.

    Attributes:
        rows: [S] indices into the predicted frames.
        camera_from_world: [S, 4, 4], identity for the anchor.
        intrinsics: [3, 3] in network pixels, shared by all frames.
    """

    rows: np.ndarray
    camera_from_world: Tensor
    intrinsics: Tensor


def predict(model: St4RTrack, inputs: FrameInputs, frames: np.ndarray, precision: str) -> TwoPointmaps:
    """Predict both branches for frames [F], the anchor first; differentiable in the decoders and heads.

    Returns points [F, height, width, 3] and confidence [F, height, width], float32; `precision` is that of the matrix products.
    """
    device = model.device
    anchor = frames[:1]
    assert anchor[0] == ANCHOR
    with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
        return model.decode(inputs.tokens_of(anchor, device), inputs.tokens_of(frames, device))


def solve_cameras(
    maps: TwoPointmaps, *, refine: bool, inputs: FrameInputs | None = None, frames: np.ndarray | None = None
) -> Solved:
    """Estimate the focal length from the anchor's tracking points and each pose from the frame's reconstruction (paper section 3.3).

    Focal length and robust pose are detached, as in the paper; with `refine`, gradients flow through a Gauss-Newton step (Eq. 13,
    14); without, the cameras are those of the pipeline. Unsolved frames are left out. `inputs` and `frames` [F], the frame
    indices of the maps, are needed for user-provided intrinsics and frames without a pose.

    Raises:
        UserError: no focal length fits the anchor pointmap.
    """
    points, confidence = maps.reconstruction.points_world, cast(Tensor, maps.reconstruction.confidence)
    if inputs is None or inputs.intrinsics is None:
        intrinsics = solver.anchor_intrinsics(_numpy(maps.tracking, ANCHOR))
    else:
        intrinsics = inputs.intrinsics[ANCHOR]
    unsolved = np.zeros(len(points), bool) if inputs is None or frames is None else np.isin(frames, list(inputs.unsolved))
    others = [
        None if unsolved[row] else solver.solve_camera(_numpy(maps.reconstruction, row), intrinsics)
        for row in range(1, len(points))
    ]
    rows, cameras = solved_cameras([np.eye(4), *others])
    start = torch.from_numpy(cameras).to(points)
    matrix = torch.from_numpy(intrinsics).to(points)
    if refine and len(rows) > 1:
        others_refined = _refined(points[rows[1:]], confidence[rows[1:]], start[1:], matrix)
        start = torch.cat([start[:1], others_refined])
    return Solved(rows, start, matrix)


def _refined(points: Tensor, confidence: Tensor, camera_from_world: Tensor, intrinsics: Tensor) -> Tensor:
    """One Gauss-Newton step on grid pixels, weighted by confidence without the least confident fifth, as in the robust solver."""
    height, width = points.shape[1:3]
    stride = max(1, int(np.ceil(np.sqrt(height * width / CAMERA_PIXELS))))
    half = stride // 2
    pixels = torch.from_numpy(pixel_grid(height, width)[half::stride, half::stride].reshape(-1, 2)).to(points)
    points = points[:, half::stride, half::stride].flatten(1, 2)
    weights = confidence[:, half::stride, half::stride].flatten(1, 2)
    least = torch.quantile(weights.detach(), solver.LEAST_CONFIDENT_SHARE, dim=1, keepdim=True)
    weights = torch.where(weights >= least, weights / weights.detach().mean(dim=1, keepdim=True), 0.0)
    return gauss_newton_step(camera_from_world, points, pixels, weights, intrinsics)


def _numpy(maps: Pointmap, row: int) -> Pointmap:
    return Pointmap(
        maps.points_world[row].detach().cpu().numpy(), cast(Tensor, maps.confidence)[row].detach().float().cpu().numpy()
    )
