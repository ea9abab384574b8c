"""Track teachers with networks of a user's installation; nothing is bundled or downloaded.

- CoTracker3 (Meta; CC-BY-NC 4.0, non-commercial use only). The path is a clone of facebookresearch/co-tracker with
  `checkpoints/scaled_offline.pth` in it; PyTorch's hub cache (`~/.cache/torch/hub`), once `torch.hub.load` has filled it; or the
  file `scaled_offline.pth`, when the package `cotracker` is installed.
- BootsTAPIR and TAPNext++ of google-deepmind/tapnet (Apache-2.0), called as documented in its repository at commit 148b2c4
  (`colabs/torch_tapir_demo.ipynb`, `colabs/torch_tapnextpp_demo.ipynb`, `tapnet/tapnext/tapnext_torch.py`).
"""

import importlib
import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from st4rtrack.adapt.priors import TeacherTracks
from st4rtrack.geometry.sampling import inside_image
from st4rtrack.hints.depth_prior import digest
from st4rtrack.types import UserError

logger = logging.getLogger(__name__)

WEIGHTS = "scaled_offline.pth"
WINDOW = 60
"""Frames of the released offline model's time embedding, which the model interpolates for videos of other lengths."""
LICENCE = "CoTracker3 is licensed CC-BY-NC 4.0: what is adapted with its tracks is for non-commercial use"
SIZE = 256
"""Height and width in pixels of the images that the networks of tapnet were trained with; frames are resized to it."""
INSTALL = 'install it with: pip install "tapnet[torch] @ git+https://github.com/google-deepmind/tapnet"'

Positions = tuple[Tensor, Tensor]
"""Positions [T, N, 2] (x, y) in resized pixels, the first centre at (0.5, 0.5); visible [T, N] bool."""


@dataclass
class NetworkTeacher:
    """Track teacher with a network of another package.

    Attributes:
        name: teacher with the hash of the weights.
        load: makes the network; called when it is needed.
        track: called with network, frames [T, H, W, 3], queries [N, 2] and anchor index; returns tracks [T, N, 2] in pixels of
            the frames and visible [T, N].
        follows_any: True, tracks any queries.
    """

    name: str
    load: Callable[[], Any]
    track: Callable[[Any, np.ndarray, np.ndarray, int], tuple[np.ndarray, np.ndarray]]
    follows_any: bool = True

    @cached_property
    def _network(self) -> Any:
        return self.load()

    def tracks(self, rgb: np.ndarray, query_px: np.ndarray, anchor_index: int) -> TeacherTracks:
        """Track points forwards and backwards from the anchor; visible only inside the image."""
        query_px = np.asarray(query_px, np.float64)
        with torch.no_grad():
            tracks_px, visible = self.track(self._network, rgb, query_px, anchor_index)
        if tracks_px.shape != (len(rgb), len(query_px), 2) or visible.shape != tracks_px.shape[:2]:
            raise UserError(f"{self.name} returned tracks of shape {list(tracks_px.shape)}; install the released version")
        return TeacherTracks(query_px, tracks_px, visible & inside_image(tracks_px, *rgb.shape[1:3]), self.name)


def open_cotracker(path: Path, device: str = "cpu") -> NetworkTeacher:
    """Open CoTracker3 as offline predictor, see the module docstring.

    Raises:
        UserError: the weights or the code are missing.
    """
    clone, weights = _find_cotracker(path)
    logger.warning(LICENCE)

    def load() -> Any:
        before = sys.path
        sys.path = [str(clone), *before] if clone is not None else before
        try:
            fix = "install it or pass a clone of facebookresearch/co-tracker"
            predictor = _import("cotracker.predictor", "CoTrackerPredictor", fix)
        finally:
            sys.path = before
        predictor = predictor(checkpoint=None, offline=True, window_len=WINDOW)
        _load_weights(predictor.model, weights, f"{WEIGHTS} of CoTracker3")
        return predictor.to(device).eval()

    return NetworkTeacher(f"CoTracker3 offline ({digest([weights])})", load, partial(_track_cotracker, device))


def open_tapnet(kind: str, path: Path, device: str = "cpu") -> NetworkTeacher:
    """Open "tapir" (BootsTAPIR, `bootstapir_checkpoint_v2.pt`) or "tapnext" (TAPNext++, `tapnextpp_ckpt.pt`).

    Raises:
        UserError: the path is not a file.
    """
    label, module, name, options, follow = {
        "tapir": ("BootsTAPIR", "tapnet.torch.tapir_model", "TAPIR", {"pyramid_level": 1}, _follow_tapir),
        "tapnext": ("TAPNext++", "tapnet.tapnext.tapnext_torch", "TAPNext", {"image_size": (SIZE, SIZE)}, _follow_tapnext),
    }[kind]
    if not path.is_file():
        raise UserError(f"{path} is not a file; pass a PyTorch checkpoint of {label}")

    def load() -> Any:
        model = _import(module, name, INSTALL)(**options)
        _load_weights(model, path, f"of {label}")
        return model.to(device).eval()

    return NetworkTeacher(f"{label} ({digest([path])})", load, partial(_track_tapnet, device, follow))


def _find_cotracker(path: Path) -> tuple[Path | None, Path]:
    """Locate the clone, if the path is one, and the weights."""
    if path.is_file():
        return None, path
    for clone in (path, path / "facebookresearch_co-tracker_main"):
        if (clone / "cotracker" / "predictor.py").is_file():
            for folder in (clone / "checkpoints", clone.parent / "checkpoints"):
                if (folder / WEIGHTS).is_file():
                    return clone, folder / WEIGHTS
            raise UserError(f"{clone} has no checkpoints/{WEIGHTS}; put the weights of the offline CoTracker3 there")
    raise UserError(f"{path} must be a clone of co-tracker, a hub cache with one, or a checkpoint")


def _import(module: str, name: str, fix: str) -> Any:
    try:
        return getattr(importlib.import_module(module), name)
    except ImportError as error:
        raise UserError(f"could not import {module.partition('.')[0]} ({error}); {fix}") from error


def _load_weights(network: Any, path: Path, label: str) -> None:
    """Load a checkpoint, a dictionary of tensors that may be wrapped; nothing in it is executed."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        state = state.get("model", state.get("state_dict", state))
        network.load_state_dict({key.removeprefix("tapnext."): value for key, value in state.items()})
    except Exception as error:  # a damaged file can raise any exception
        raise UserError(f"{path} is not the checkpoint {label} ({error})".splitlines()[0]) from error


def _track_cotracker(
    device: str, predictor: Any, rgb: np.ndarray, query_px: np.ndarray, anchor_index: int
) -> tuple[np.ndarray, np.ndarray]:
    video = torch.from_numpy(np.moveaxis(rgb, -1, 1)[None].astype(np.float32)).to(device)
    queries = np.insert(query_px - 0.5, 0, anchor_index, axis=1)  # CoTracker has the first pixel centre at (0, 0)
    queries = torch.from_numpy(queries[None].astype(np.float32)).to(device)
    tracks, visible = predictor(video, queries=queries, backward_tracking=anchor_index > 0)
    return tracks[0].float().cpu().numpy() + np.float32(0.5), visible[0].cpu().numpy().astype(bool)


def _track_tapnet(
    device: str,
    follow: Callable[[Any, Tensor, Tensor, int], Positions],
    model: Any,
    rgb: np.ndarray,
    query_px: np.ndarray,
    anchor_index: int,
) -> tuple[np.ndarray, np.ndarray]:
    height, width = rgb.shape[1:3]
    scale = np.array([SIZE / width, SIZE / height], np.float32)
    how = cv2.INTER_AREA if min(height, width) >= SIZE else cv2.INTER_LINEAR
    resized = np.stack([cv2.resize(frame, (SIZE, SIZE), interpolation=how) for frame in rgb])
    video = torch.from_numpy(resized).to(device).float()[None] / 127.5 - 1
    query_yx = torch.from_numpy((query_px.astype(np.float32) * scale)[:, ::-1].copy()).to(device)
    tracks, visible = follow(model, video, query_yx, anchor_index)
    return tracks.float().cpu().numpy() / scale, visible.cpu().numpy()


def _follow_tapir(model: Any, video: Tensor, query_yx: Tensor, anchor_index: int) -> Positions:
    """Tracks of TAPIR, which reads the whole video at once and tracks in both directions."""
    queries = torch.cat([torch.full_like(query_yx[:, :1], anchor_index), query_yx], dim=1)
    found = model(video, queries[None])
    hidden, far = (found[name][0].sigmoid() for name in ("occlusion", "expected_dist"))
    return found["tracks"][0].transpose(0, 1), ((1 - hidden) * (1 - far) > 0.5).T


def _follow_tapnext(model: Any, video: Tensor, query_yx: Tensor, anchor_index: int) -> Positions:
    """Tracks of TAPNext, which reads frame by frame: from the anchor to the end, and to the start."""
    queries = torch.cat([torch.zeros_like(query_yx[:, :1]), query_yx], dim=1)

    def forward(frames: Tensor) -> Positions:
        call: dict[str, Any] = {"query_points": queries[None]}
        tracks, visible = [], []
        for frame in frames.split(1, dim=1):
            track_yx, _, visible_logit, state = model(video=frame, **call)
            call = {"state": state}
            tracks.append(track_yx[0, 0].flip(-1))
            visible.append(visible_logit[0, 0, :, 0] > 0)
        return torch.stack(tracks), torch.stack(visible)

    after = forward(video[:, anchor_index:])
    if anchor_index == 0:
        return after
    before = forward(video[:, : anchor_index + 1].flip(1))
    tracks, visible = (torch.cat([b[1:].flip(0), a]) for b, a in zip(before, after, strict=True))
    return tracks, visible
