"""CoTracker3 track teacher from a user's installation; Meta's code and weights, CC-BY-NC 4.0, non-commercial use only.

Nothing of it is bundled or downloaded. The path must be one of
- a clone of facebookresearch/co-tracker with `checkpoints/scaled_offline.pth` in it,
- PyTorch's hub cache (`~/.cache/torch/hub`), once `torch.hub.load` has filled it,
- the file `scaled_offline.pth`, when the package `cotracker` is installed.
"""

import logging
import sys
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from st4rtrack.adapt.priors import TeacherTracks
from st4rtrack.adapt.teachers.networks import import_class, load_weights
from st4rtrack.adapt.teachers.teacher import require_frames
from st4rtrack.geometry.sampling import inside_image
from st4rtrack.hints.depth_prior import digest
from st4rtrack.types import UserError

logger = logging.getLogger(__name__)

WEIGHTS = "scaled_offline.pth"
WINDOW = 60
"""Frames of the released offline model's time embedding, which the model interpolates for videos of other lengths."""
LICENCE = "CoTracker3 is licensed CC-BY-NC 4.0: what is adapted with its tracks is for non-commercial use"


class CoTrackerTeacher:
    """Track teacher with CoTracker3 as offline predictor.

    Attributes:
        name: teacher with the hash of the weights.
        follows_any: True, tracks any queries.
    Args:
        path: see the module docstring.
        device: PyTorch device.
        predictor: replaces the loaded predictor; called as `predictor(video [1, T, 3, H, W] float 0..255, queries [1, N, 3]
            (t, x, y), backward_tracking=bool)` -> tracks [1, T, N, 2], visibility [1, T, N]; its pixels start at (0, 0).
    Raises:
        UserError: the weights or the code are missing.
    """

    follows_any = True

    def __init__(self, path: Path, device: str = "cpu", *, predictor: Any = None) -> None:
        self._checkout, self._weights = _found(path)
        self.name = f"CoTracker3 offline ({digest([self._weights])})"
        self._device = device
        self._given = predictor
        logger.warning(LICENCE)

    @cached_property
    def _predictor(self) -> Any:
        return self._given or _load(self._checkout, self._weights, self._device)

    def tracks(self, rgb: np.ndarray, query_px: np.ndarray, anchor_index: int) -> TeacherTracks:
        """Track points forwards and backwards from the anchor; visible only inside the image."""
        require_frames(rgb)
        video = torch.from_numpy(np.moveaxis(rgb, -1, 1)[None].astype(np.float32)).to(self._device)
        start = np.full((len(query_px), 1), anchor_index)
        queries = np.concatenate([start, np.asarray(query_px) - 0.5], axis=1)  # CoTracker has the first pixel centre at (0, 0)
        queries = torch.from_numpy(queries[None].astype(np.float32)).to(self._device)
        with torch.no_grad():
            found, visible = self._predictor(video, queries=queries, backward_tracking=anchor_index > 0)
        tracks_px = found[0].float().cpu().numpy() + np.float32(0.5)
        seen = visible[0].cpu().numpy().astype(bool)
        if tracks_px.shape != (len(rgb), len(query_px), 2) or seen.shape != tracks_px.shape[:2]:
            raise UserError(f"{self.name} returned tracks of shape {list(tracks_px.shape)}; use the offline CoTracker3")
        seen &= inside_image(tracks_px, *rgb.shape[1:3])
        return TeacherTracks(np.asarray(query_px, np.float64), tracks_px, seen, self.name)


def _found(path: Path) -> tuple[Path | None, Path]:
    """Locate the clone, if the path is one, and the weights."""
    if path.is_file():
        return None, path
    for checkout in (path, path / "facebookresearch_co-tracker_main"):
        if (checkout / "cotracker" / "predictor.py").is_file():
            for folder in (checkout / "checkpoints", checkout.parent / "checkpoints"):
                if (folder / WEIGHTS).is_file():
                    return checkout, folder / WEIGHTS
            raise UserError(f"{checkout} has no checkpoints/{WEIGHTS}; put the weights of the offline CoTracker3 there")
    raise UserError(f"{path} must be a clone of co-tracker, a hub cache with one, or a checkpoint")


def _load(checkout: Path | None, weights: Path, device: str) -> Any:
    predictor = _predictor_class(checkout)(checkpoint=None, offline=True, window_len=WINDOW)
    load_weights(predictor.model, weights, f"{WEIGHTS} of CoTracker3")
    return predictor.to(device).eval()


def _predictor_class(checkout: Path | None) -> Any:
    """Import the class `CoTrackerPredictor` from the clone or the installed package."""
    if checkout is not None:
        sys.path.insert(0, str(checkout))
    try:
        fix = "install it or pass a clone of facebookresearch/co-tracker"
        return import_class("cotracker.predictor", "CoTrackerPredictor", fix)
    finally:
        if checkout is not None:
            sys.path.remove(str(checkout))
