"""BootsTAPIR and TAPNext++ track teachers from a user's installation of google-deepmind/tapnet; code and weights Apache-2.0.

Nothing of it is bundled or downloaded. Calls as documented in its repository at commit 148b2c4 (`colabs/torch_tapir_demo.ipynb`,
`colabs/torch_tapnextpp_demo.ipynb`, `tapnet/tapnext/tapnext_torch.py`).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from st4rtrack.adapt.priors import TeacherTracks
from st4rtrack.adapt.teachers.networks import import_class, load_weights
from st4rtrack.adapt.teachers.teacher import require_frames
from st4rtrack.geometry.sampling import inside_image
from st4rtrack.hints.depth_prior import digest
from st4rtrack.types import UserError

SIZE = 256
"""Height and width in pixels of the images that the networks were trained with; frames are resized to it."""
INSTALL = 'pip install "tapnet[torch] @ git+https://github.com/google-deepmind/tapnet"'

Found = tuple[Tensor, Tensor]
"""Positions [T, N, 2] (x, y) in resized pixels, the first centre at (0.5, 0.5); visible [T, N] bool."""


def _whole(model: Any, video: Tensor, query_yx: Tensor, anchor_index: int) -> Found:
    """Tracks of TAPIR, which reads the whole video at once and tracks in both directions."""
    queries = torch.cat([torch.full_like(query_yx[:, :1], anchor_index), query_yx], dim=1)
    found = model(video, queries[None])
    hidden, far = (found[name][0].sigmoid() for name in ("occlusion", "expected_dist"))
    return found["tracks"][0].transpose(0, 1), ((1 - hidden) * (1 - far) > 0.5).T


def _online(model: Any, video: Tensor, query_yx: Tensor, anchor_index: int) -> Found:
    """Tracks of TAPNext, which reads frame by frame: from the anchor to the end, and to the start."""
    after = _forward(model, video[:, anchor_index:], query_yx)
    if anchor_index == 0:
        return after
    before = _forward(model, video[:, : anchor_index + 1].flip(1), query_yx)
    tracks, visible = (torch.cat([b[1:].flip(0), a]) for b, a in zip(before, after, strict=True))
    return tracks, visible


def _forward(model: Any, video: Tensor, query_yx: Tensor) -> Found:
    queries = torch.cat([torch.zeros_like(query_yx[:, :1]), query_yx], dim=1)
    call: dict[str, Any] = {"query_points": queries[None]}
    tracks, visible = [], []
    for frame in video.split(1, dim=1):
        track_yx, _, visible_logit, state = model(video=frame, **call)
        call = {"state": state}
        tracks.append(track_yx[0, 0].flip(-1))
        visible.append(visible_logit[0, 0, :, 0] > 0)
    return torch.stack(tracks), torch.stack(visible)


@dataclass(frozen=True)
class Network:
    """How a network of the package is made and called."""

    label: str
    module: str
    name: str
    track: Callable[[Any, Tensor, Tensor, int], Found]
    options: dict[str, Any] = field(default_factory=dict)


NETWORKS = {
    "tapir": Network("BootsTAPIR", "tapnet.torch.tapir_model", "TAPIR", _whole, {"pyramid_level": 1}),
    "tapnext": Network("TAPNext++", "tapnet.tapnext.tapnext_torch", "TAPNext", _online, {"image_size": (SIZE, SIZE)}),
}


class TapnetTeacher:
    """Track teacher with a network of the package `tapnet`.

    Attributes:
        name: teacher with the hash of the weights.
        follows_any: True, tracks any queries.
    Args:
        kind: "tapir" (BootsTAPIR, `bootstapir_checkpoint_v2.pt`) or "tapnext" (TAPNext++, `tapnextpp_ckpt.pt`).
        path: the checkpoint.
        device: PyTorch device.
    Raises:
        UserError: the path is not a file.
    """

    follows_any = True

    def __init__(self, kind: str, path: Path, device: str = "cpu") -> None:
        self._network = NETWORKS[kind]
        if not path.is_file():
            raise UserError(f"{path} is not a file; pass a PyTorch checkpoint of {self._network.label}")
        self.name = f"{self._network.label} ({digest([path])})"
        self._path, self._device = path, device

    @cached_property
    def _model(self) -> Any:
        network = self._network
        model = import_class(network.module, network.name, f"install it with: {INSTALL}")(**network.options)
        load_weights(model, self._path, f"of {network.label}")
        return model.to(self._device).eval()

    def tracks(self, rgb: np.ndarray, query_px: np.ndarray, anchor_index: int) -> TeacherTracks:
        """Track points forwards and backwards from the anchor; visible only inside the image."""
        require_frames(rgb)
        height, width = rgb.shape[1:3]
        scale = np.array([SIZE / width, SIZE / height], np.float32)
        how = cv2.INTER_AREA if min(height, width) >= SIZE else cv2.INTER_LINEAR
        resized = np.stack([cv2.resize(frame, (SIZE, SIZE), interpolation=how) for frame in rgb])
        video = torch.from_numpy(resized).to(self._device).float()[None] / 127.5 - 1
        query_yx = torch.from_numpy((np.asarray(query_px, np.float32) * scale)[:, ::-1].copy()).to(self._device)
        with torch.no_grad():
            found, seen = self._network.track(self._model, video, query_yx, anchor_index)
        tracks_px, visible = found.float().cpu().numpy() / scale, seen.cpu().numpy()
        if tracks_px.shape != (len(rgb), len(query_px), 2) or visible.shape != tracks_px.shape[:2]:
            raise UserError(f"{self.name} returned tracks of shape {list(tracks_px.shape)}; install another version of tapnet")
        visible = visible & inside_image(tracks_px, height, width)
        return TeacherTracks(np.asarray(query_px, np.float64), tracks_px, visible, self.name)
