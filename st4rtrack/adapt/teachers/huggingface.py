"""Any depth-estimation model of Hugging Face `transformers` that is on disk. Nothing is fetched and no code of a model is run."""

from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from st4rtrack.adapt.priors import TeacherDepth
from st4rtrack.adapt.teachers.networks import depth_by_frame, digest
from st4rtrack.types import UserError

FARTHEST = 0.01
"""Inverse depth below this share of the image's largest is too far away to be a depth."""


class TransformersTeacher:
    """Depth of single images.

    Args:
        folder: of the model, as `save_pretrained` writes it, with its image processor.
        device: of PyTorch.
        inverse: the model predicts inverse depth up to scale, as MiDaS, DPT and the relative Depth Anything do. (These are also
            off by a shift, which nothing here can know: metric models teach better.)
    Raises:
        UserError: the folder holds no config.json.
    """

    def __init__(self, folder: Path, device: str = "cpu", *, inverse: bool) -> None:
        if not (folder / "config.json").is_file():
            raise UserError(f"{folder} holds no model: it has no config.json; name the folder that save_pretrained wrote")
        files = sorted(path for path in folder.iterdir() if path.suffix in (".json", ".safetensors"))
        self.name = f"{folder.name}{' inverse' if inverse else ''} ({digest(files)})"
        self._folder, self._device, self._inverse = folder, device, inverse

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        return _load(self._folder, self._device)

    def depth(self, rgb: np.ndarray, anchor_index: int) -> TeacherDepth:
        """Depth of every frame, resized from what the model gives."""
        return depth_by_frame(rgb, self._predict, self.name)

    def _predict(self, image: np.ndarray) -> np.ndarray:
        processor, model = self._loaded
        inputs = processor(images=image, return_tensors="pt").to(self._device)
        with torch.no_grad():
            found = model(**inputs).predicted_depth.float().cpu().numpy().squeeze()
        found = cv2.resize(found, (image.shape[1], image.shape[0]), interpolation=cv2.INTER_LINEAR)
        return depth_of_inverse(found) if self._inverse else found


def depth_of_inverse(inverse: np.ndarray) -> np.ndarray:
    """Depth [H, W] from inverse depth; 0 where it is as good as infinite."""
    floor = FARTHEST * max(float(np.nanmax(inverse)), 0.0)
    return np.where(inverse > floor, 1 / np.maximum(inverse, max(floor, 1e-12)), 0.0)


def _load(folder: Path, device: str) -> tuple[Any, Any]:
    """Image processor and model."""
    try:
        from transformers import AutoImageProcessor, AutoModelForDepthEstimation  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise UserError(
            f"transformers is not installed ({error}); pip install transformers, or choose another --depth"
        ) from error
    local = {"local_files_only": True, "trust_remote_code": False}
    try:
        processor = AutoImageProcessor.from_pretrained(folder, **local)
        model = AutoModelForDepthEstimation.from_pretrained(folder, use_safetensors=True, **local)
    except Exception as error:  # whatever a model's folder lacks
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        what = f"{folder} holds no depth-estimation model that transformers reads ({first})"
        raise UserError(f"{what}; name another with --depth") from error
    return processor, model.to(device).eval()
