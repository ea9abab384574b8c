"""MoGe as depth prior, if installed: `pip install` of microsoft/MoGe, and its weights as a local file. Nothing is downloaded."""

import math
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from st4rtrack.hints.depth_prior.prior import PriorDepth, digest
from st4rtrack.timing import timed
from st4rtrack.types import UserError


class MoGePrior:
    """Depth and focal length of single frames from MoGe 1 or 2; unknown where its mask is false.

    Args:
        path: weights file, `model.pt`.
        device: PyTorch device.
        model: replaces the loaded one; `model.infer(image [3, H, W] in 0..1, fov_x=degrees or None, use_fp16=bool)` returns
            "depth" [H, W] and "intrinsics" [3, 3] relative to the image size.
    Raises:
        UserError: the path is not a file.
    """

    def __init__(self, path: Path, device: str = "cpu", *, model: Any = None) -> None:
        if not path.is_file():
            raise UserError(f"{path} is not a file; pass the weights file of MoGe, model.pt")
        self.name = f"MoGe ({digest([path])})"
        self._path, self._device, self._loaded = path, device, model

    @cached_property
    def _model(self) -> Any:
        return self._loaded or _load(self._path, self._device)

    @timed("prior", settles=True)
    def __call__(self, rgb: np.ndarray, index: int, focal_px: float | None = None) -> PriorDepth:
        """Predict the depth of one frame, with its focal length if known."""
        width = rgb.shape[1]
        fov_x = None if focal_px is None else math.degrees(2 * math.atan(width / (2 * focal_px)))
        image = torch.from_numpy(np.moveaxis(rgb, -1, 0).astype(np.float32) / 255).to(self._device)
        with torch.no_grad():
            found = self._model.infer(image, fov_x=fov_x, use_fp16=torch.device(self._device).type == "cuda")
        focal = float(found["intrinsics"][0, 0]) * width
        return PriorDepth.of("depth", found["depth"].float().cpu().numpy(), rgb, self.name, focal)


def _load(path: Path, device: str) -> Any:
    try:
        from moge.model import v1, v2  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise UserError(f"MoGe is not installed ({error}); install microsoft/MoGe, or choose another depth prior") from error
    try:
        config = torch.load(path, map_location="cpu", weights_only=True, mmap=True)["model_config"]
        version = v2 if isinstance(config["encoder"], dict) else v1
        return version.MoGeModel.from_pretrained(str(path)).to(device).eval()
    except Exception as error:  # a damaged file can fail in many ways
        raise UserError(f"{path} is not a MoGe checkpoint; pass model.pt of microsoft/MoGe ({error})".splitlines()[0]) from error
