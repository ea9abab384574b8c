"""Memory that a network needs at a size, from its parameters and the peak size of its live tensors."""

from dataclasses import dataclass

import torch

from st4rtrack.doctor.counting import StandIn
from st4rtrack.hints.provider import takes_hints
from st4rtrack.model.config import ModelConfig
from st4rtrack.model.hints import assemble_hints
from st4rtrack.model.network import St4RTrack
from st4rtrack.pipeline.pointmaps import automatic_batch_size

SCENE_BYTES_PER_PIXEL = 3 + 2 * (12 + 4) + 3 + 1
"""Bytes per pixel of a frame, uncompressed: image, points and confidence of both branches, visibility, probability, motion."""


@dataclass(frozen=True)
class Need:
    """Memory requirement of a network.

    Attributes:
        parameters: number of parameters.
        height, width: image size in pixels.
        batch: number of frames at once.
        weight_bytes: size of the parameters in the computation type.
        activation_bytes: peak size of the live tensors for that batch.
        loading_bytes: host memory while loading: float32 weights and the converted copy.
        on_processor: whether the network runs in host memory.
    """

    parameters: int
    height: int
    width: int
    batch: int
    weight_bytes: int
    activation_bytes: int
    loading_bytes: int
    on_processor: bool

    @property
    def device_bytes(self) -> int:
        """Memory needed on the device of the network."""
        return self.weight_bytes + self.activation_bytes

    def host_bytes(self, libraries_bytes: int) -> int:
        """Host memory needed, including that of the libraries."""
        return libraries_bytes + max(self.loading_bytes, self.device_bytes if self.on_processor else 0)


def memory_need(config: ModelConfig, height: int, width: int, dtype: torch.dtype, device: torch.device) -> Need:
    """Compute the memory requirement for frames [height, width] in the batch size of the pipeline."""
    counted_on = device if device.type == "cuda" else torch.device("cpu")
    stand_in = StandIn(config, dtype, counted_on)
    batch = automatic_batch_size(stand_in.model, height, width)
    cost = stand_in.cost(lambda model: predict_pairs(model, batch, height, width, counted_on))
    on_processor = device.type == "cpu"
    kept = stand_in.weight_bytes if on_processor and dtype != torch.float32 else 0
    return Need(
        parameters=stand_in.parameters,
        height=height,
        width=width,
        batch=batch,
        weight_bytes=stand_in.weight_bytes,
        activation_bytes=cost.peak_bytes,
        loading_bytes=4 * stand_in.parameters + kept,
        on_processor=on_processor,
    )


def size_of_16_to_9(config: ModelConfig, long_side: int | None) -> tuple[int, int]:
    """Network height and width of a 16:9 video, as cropped by the pipeline."""
    patch = config.patch_size
    width = max(1, (long_side or config.image_size) // patch) * patch
    return max(1, round((long_side or config.image_size) * 9 / 16) // patch) * patch, width


def predict_pairs(model: St4RTrack, batch: int, height: int, width: int, device: torch.device) -> object:
    """Run one batch of the pipeline on fake tensors."""
    images = torch.empty(batch, 3, height, width, device=device)
    hints = None
    if takes_hints(model.config):
        flow, depth = torch.empty(batch, height, width, 2, device=device), torch.empty(batch, height, width, device=device)
        camera, focal = torch.empty(batch, 4, 4, device=device), torch.empty(batch, device=device)
        hints = assemble_hints(
            images,
            images,
            forward_flow=flow,
            backward_flow=flow,
            anchor_depth=depth,
            frame_depth=depth,
            anchor_from_frame=camera,
            focal_px=focal,
        )
    return model.decode(model.encode(images[:1]), model.encode(images), hints)
