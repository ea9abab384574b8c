"""Depth networks as depth prior: the monocular head, models of `transformers` (remote code is never executed), and MoGe."""

import math
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from st4rtrack.hints.depth_prior import Kind, PriorDepth, digest
from st4rtrack.hints.frame_encoder import FrameEncoder
from st4rtrack.model.monocular import MonocularNetwork
from st4rtrack.timing import timed
from st4rtrack.types import UserError

DEPTH_MODELS = ("depth_pro", "glpn", "zoedepth")
"""Model types that predict depth although their configuration does not state it."""
PROCESSED = {"depth_pro": ("target_sizes",), "zoedepth": ("target_sizes", "source_sizes")}
"""Model types whose image processor must convert the output to depth (by the field of view, or by removing padding), and the
sizes it requires."""
FARTHEST = 1e-3
"""Smallest inverse depth, as a share of the largest in the frame: 0 means sky in such models, not unknown."""


class BuiltinPrior:
    """Depth, expected log-depth error and focal length of single frames from a monocular head.

    Args:
        network: from `load_monocular`, or part of the network of the run.

    Attributes:
        encoder: encodes the frames.
    """

    def __init__(self, network: MonocularNetwork) -> None:
        self.name = f"{network.name} ({network.weights_hash[:12]})"
        self.encoder = FrameEncoder(network)

    @timed("prior", settles=True)
    def __call__(self, rgb: np.ndarray, index: int, focal_px: float | None = None) -> PriorDepth:
        """Predict at the native size of the network; the result has the size of the frame."""
        with torch.inference_mode():
            found = self.encoder.network.depth(self.encoder(rgb))
        size = (rgb.shape[1], rgb.shape[0])
        maps = [value[0].cpu().numpy() for value in (found.log_depth, found.log_error)]
        depth, log_error = (np.exp(cv2.resize(each, size, interpolation=cv2.INTER_LINEAR)) for each in maps)
        return PriorDepth("depth", depth, log_error, float(found.log_focal.exp()) * max(size))


class TransformersPrior:
    """Depth of single frames from a `transformers` model.

    Args:
        folder: folder of the model, as `save_pretrained` writes it, with its image processor.
        device: PyTorch device.
        kind: what the model predicts; default: from its configuration.
    Raises:
        UserError: the folder contains no config.json.
    """

    def __init__(self, folder: Path, device: str = "cpu", *, kind: Kind | None = None) -> None:
        if not (folder / "config.json").is_file():
            raise UserError(f"{folder} is not a model folder: it has no config.json; pass a folder written by save_pretrained")
        files = sorted(path for path in folder.iterdir() if path.suffix in (".json", ".safetensors"))
        self.name = f"{folder.name}{f' {kind}' if kind else ''} ({digest(files)})"
        self._folder, self._device = folder, device
        self._kind: Kind | None = kind

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        return _load_transformers(self._folder, self._device)

    @timed("prior", settles=True)
    def __call__(self, rgb: np.ndarray, index: int, focal_px: float | None = None) -> PriorDepth:
        """Predict the depth of one frame, resized from the model's native size."""
        processor, model = self._loaded
        kind = self._kind or kind_of(model.config)
        inputs = processor(images=rgb, return_tensors="pt").to(self._device)
        with torch.no_grad():
            outputs = model(**inputs)
        if model.config.model_type in PROCESSED:
            sizes = {name: [rgb.shape[:2]] for name in PROCESSED[model.config.model_type]}
            outputs = processor.post_process_depth_estimation(outputs, **sizes)[0]
        values = outputs["predicted_depth"].float().cpu().numpy().squeeze()
        values = cv2.resize(values, (rgb.shape[1], rgb.shape[0]), interpolation=cv2.INTER_LINEAR)
        if kind == "inverse_depth":
            values = np.maximum(values, FARTHEST * values.max())
        focal = outputs.get("focal_length")
        return PriorDepth.of(kind, values, rgb, self.name, None if focal is None else float(focal))


def kind_of(config: Any) -> Kind:
    """Output kind of a model from its configuration; inverse depth if the configuration does not state it."""
    depth = getattr(config, "depth_estimation_type", None) == "metric" or config.model_type in DEPTH_MODELS
    return "depth" if depth else "inverse_depth"


def _load_transformers(folder: Path, device: str) -> tuple[Any, Any]:
    """Load the image processor and the model."""
    try:
        from transformers import AutoImageProcessor, AutoModelForDepthEstimation  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise UserError(
            f"transformers is not installed ({error}); pip install transformers, or choose another depth prior"
        ) from error
    local = {"local_files_only": True, "trust_remote_code": False}
    try:
        processor = AutoImageProcessor.from_pretrained(folder, **local)
        model = AutoModelForDepthEstimation.from_pretrained(folder, use_safetensors=True, **local)
    except Exception as error:  # an incomplete folder can fail in many ways
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        what = f"{folder} is not a depth-estimation model that transformers can load ({first})"
        raise UserError(f"{what}; choose another depth prior") from error
    return processor, model.to(device).eval()


class MoGePrior:
    """Depth and focal length of single frames from MoGe 1 or 2, if installed (microsoft/MoGe); unknown where its mask is false.

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
        return self._loaded or _load_moge(self._path, self._device)

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


def _load_moge(path: Path, device: str) -> Any:
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
