"""MoGe, when its user has it: `pip install` of microsoft/MoGe, and its weights as a file on disk. Nothing is fetched."""

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from st4rtrack.adapt.priors import TeacherDepth
from st4rtrack.adapt.teachers.networks import depth_by_frame, digest
from st4rtrack.types import UserError


class MoGeTeacher:
    """Depth of single images by MoGe 1 or 2.

    Args:
        path: `model.pt`.
        device: of PyTorch.
        model: used in place of the one that is loaded; `model.infer(image [3, H, W] in 0..1, use_fp16=bool)["depth"]` [H, W].
    Raises:
        UserError: the path is no file.
    """

    def __init__(self, path: Path, device: str = "cpu", *, model: Any = None) -> None:
        if not path.is_file():
            raise UserError(f"{path} is no file; name the weights of MoGe, model.pt")
        self.name = f"MoGe ({digest([path])})"
        self._path, self._device, self._given = path, device, model

    @cached_property
    def _model(self) -> Any:
        return self._given or _load(self._path, self._device)

    def depth(self, rgb: np.ndarray, anchor_index: int) -> TeacherDepth:
        """Depth of every frame; unknown where its mask says so."""
        return depth_by_frame(rgb, self._predict, self.name)

    def _predict(self, image: np.ndarray) -> np.ndarray:
        tensor = torch.from_numpy(np.moveaxis(image, -1, 0).astype(np.float32) / 255).to(self._device)
        with torch.no_grad():
            found = self._model.infer(tensor, use_fp16=torch.device(self._device).type == "cuda")
        return found["depth"].float().cpu().numpy()


def _load(path: Path, device: str) -> Any:
    try:
        from moge.model import v1, v2  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise UserError(f"MoGe is not installed ({error}); install microsoft/MoGe, or choose another --depth") from error
    try:
        config = torch.load(path, map_location="cpu", weights_only=True, mmap=True)["model_config"]
        version = v2 if isinstance(config["encoder"], dict) else v1
        return version.MoGeModel.from_pretrained(str(path)).to(device).eval()
    except Exception as error:  # a damaged file fails in any way
        raise UserError(f"{path} is not a checkpoint of MoGe ({error})".splitlines()[0]) from error
