"""Positions of dynamic points by their appearance in the anchor: corrects the drift of chained optical flow.

The position predicted by the flow is a Gaussian prior, which widens from frame to frame, most where the flow has failed. The matching
head (`model/matching.py`) gives the likelihood of every cell of the frame. Where the mean of the posterior is more than a cell away, it is
the new position.
"""

import math
from collections.abc import Sequence

import cv2
import numpy as np
import torch
from torch import Tensor

from st4rtrack.model.matching import CELL, MatchingHead
from st4rtrack.timing import timed

UNMATCHED = 0.3
"""Prior probability that the appearance says nothing: occluded points, equal surfaces."""
STEP_PX, LOST_STEP_PX, MIN_PX, MAX_PX = 0.5, 6.0, 1.0, 12.0
"""Standard deviation, in pixels of the matching head, added per frame where the flow is reliable and where it is not; limits."""
OFF_OBJECTS = 0.1
"""Weight of cells without dynamic pixels."""
WINDOW = 4.5
"""Half width of the window of cells that can match, in standard deviations of the prior."""
TINY = 1e-25
"""Total weight below which the prediction is too far outside the image to be corrected."""


class AppearanceMatcher:
    """Corrects the positions of the anchor's dynamic points from frame to frame, in one direction through a video.

    Args:
        head: the matching head.
        anchor: backbone maps of the anchor, one image.
        size: height and width of the anchor in the pixels of the positions.
    """

    def __init__(self, head: MatchingHead, anchor: Sequence[Tensor], size: tuple[int, int]) -> None:
        self._head, self._anchor = head, tuple(anchor)
        height, width = anchor[1].shape[2:]
        self._cells = (height, width)
        self._scale = np.array([width * CELL / size[1], height * CELL / size[0]])
        self._stride = max(1, round(CELL / self._scale[0]))
        self._rows, self._columns = (np.minimum(np.arange(0, side, self._stride) + self._stride // 2, side - 1) for side in size)
        self._variance = np.full((len(self._rows), len(self._columns)), MIN_PX**2)

    @timed("matching", settles=True)
    def corrected(
        self, frame: Sequence[Tensor], pixels: np.ndarray, follows: np.ndarray, reliable: np.ndarray, dynamic: np.ndarray
    ) -> np.ndarray:
        """Positions [H, W, 2] in a frame, corrected for some points.

        Args:
            frame: backbone maps of the frame.
            pixels: [H, W, 2] positions predicted by the flow.
            follows: [H, W] bool, points to correct.
            reliable: [H, W] bool, points whose flow is reliable.
            dynamic: [H, W] bool, dynamic pixels of the frame.
        """
        step, chosen = self._stride, np.ix_(self._rows, self._columns)  # the middle point of each square
        grew = np.where(reliable[chosen], STEP_PX, LOST_STEP_PX) ** 2
        self._variance = np.minimum(self._variance + grew, MAX_PX**2)
        row, column = np.nonzero(follows[chosen])
        if not len(row):
            return pixels
        v, u = self._rows[row], self._columns[column]
        likelihood = self._likelihood(frame, np.stack([u, v], axis=-1) + 0.5)
        predicted = pixels[v, u] * self._scale
        shift, variance = self._update(predicted, self._variance[row, column], likelihood, self._on_objects(dynamic))
        self._variance[row, column] = np.clip(variance, MIN_PX**2, MAX_PX**2)
        shifts = np.zeros((*self._variance.shape, 2), np.float32)
        shifts[row, column] = shift / self._scale
        height, width = follows.shape
        shifts = shifts.repeat(step, axis=0)[:height].repeat(step, axis=1)[:, :width]
        return np.where(follows[..., None], pixels + shifts, pixels)

    def _likelihood(self, frame: Sequence[Tensor], pixels: np.ndarray) -> Tensor:
        """Likelihood [N, cells] of the cells of the frame for anchor pixels [N, 2]."""
        with torch.inference_mode():
            anchor, other = self._head(self._anchor, tuple(frame))
            query = torch.from_numpy((pixels * self._scale).astype(np.float32))[None].to(anchor.device)
            return self._head.logits(anchor, other, query)[0].softmax(-1)

    def _update(
        self, predicted: np.ndarray, variance: np.ndarray, likelihood: Tensor, on_objects: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Shift [N, 2] of the mean and new variance [N] of the Gaussian position prior, in pixels of the matching head."""
        height, width = self._cells
        mean, spread = torch.from_numpy(predicted).to(likelihood), torch.from_numpy(2 * variance + CELL).to(likelihood)
        reach = math.ceil(WINDOW * math.sqrt(float(spread.max()) / 2) / CELL)
        window = torch.arange(-reach, reach + 1, device=mean.device)
        cells, powers = [], []
        for centre, side in zip(mean.T, (width, height), strict=True):
            cell = (centre / CELL).floor().clamp(-reach - 1, side + reach).long()[:, None] + window
            offset = (cell + 0.5) * CELL - centre[:, None]
            prior = torch.exp(-(offset**2) / spread[:, None]) * ((cell >= 0) & (cell < side))
            powers.append(torch.stack([prior, prior * offset, prior * offset**2], dim=-1))
            cells.append(cell.clamp(0, side - 1))
        index = cells[1][:, :, None] * width + cells[0][:, None]
        weight = likelihood.gather(1, index.flatten(1)).view_as(index) * (1 - UNMATCHED) + UNMATCHED / likelihood.shape[1]
        weight = weight * torch.from_numpy(on_objects).to(weight)[index]
        moments = (powers[1].transpose(1, 2) @ (weight @ powers[0])).cpu().numpy()  # [N, y, x]
        of_grid = [(axis.sum(1)[:, 1] / axis.sum(1)[:, 0].clamp(min=TINY)).cpu().numpy() for axis in powers]
        total = np.maximum(moments[:, 0, 0], TINY)
        posterior = np.stack([moments[:, 0, 1], moments[:, 1, 0]], axis=-1) / total[:, None]
        squared = (moments[:, 0, 2] + moments[:, 2, 0]) / total
        shift = posterior - np.stack(of_grid, axis=-1)  # cells are off the prediction by the grid alone
        far = np.linalg.norm(shift, axis=1) > CELL  # within a cell, flow is more exact
        return shift * (far & (moments[:, 0, 0] > TINY))[:, None], (squared - (posterior**2).sum(1)) / 2

    def _on_objects(self, dynamic: np.ndarray) -> np.ndarray:
        """Weight [cells] of the cells: lower where no pixel nearby is dynamic."""
        height, width = self._cells
        near = cv2.dilate(dynamic.astype(np.uint8), np.ones((5, 5), np.uint8))
        share = cv2.resize(near.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
        return np.where(share.reshape(-1) > 0, 1.0, OFF_OBJECTS).astype(np.float32)
