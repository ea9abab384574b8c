"""What of a network becomes a graph: modules whose inputs and outputs are tensors with names, and inputs to try them on.

Tokens are maps [batch, rows, columns, width] here, from whose shape a graph knows the grid.
"""

from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn

from st4rtrack.model.encoder import Tokens
from st4rtrack.model.example_inputs import example_hints, example_images
from st4rtrack.model.hints import Hints
from st4rtrack.model.network import St4RTrack
from st4rtrack.model.traceable import traceable_model
from st4rtrack.types import TwoPointmaps

MAPS = ("tracking_points", "tracking_confidence", "reconstruction_points", "reconstruction_confidence")
HINTS = tuple(field.name for field in fields(Hints))
IMAGES_LAST = ("anchor_maps", "frame_maps")
"""Hints whose last two axes are height and width; the others have them second and third."""


@dataclass(frozen=True)
class Graph:
    """What becomes one file.

    Attributes:
        ending: of the file's name.
        module: what is computed.
        inputs, outputs: names, in order.
    """

    ending: str
    module: nn.Module
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


class PairGraph(nn.Module):
    """Images of pairs to the four maps."""

    def __init__(self, model: St4RTrack) -> None:
        super().__init__()
        self.model = model

    def forward(self, anchor_images: Tensor, frame_images: Tensor) -> tuple[Tensor, ...]:
        return _four_maps(self.model.decode(self.model.encode(anchor_images), self.model.encode(frame_images)))


class EncoderGraph(nn.Module):
    """Images to tokens [batch, rows, columns, width]."""

    def __init__(self, model: St4RTrack) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.model.encode(images)
        return tokens.features.unflatten(1, tokens.grid)


class DecoderGraph(nn.Module):
    """Tokens of pairs, and their hints where the network has some, to the four maps."""

    def __init__(self, model: St4RTrack) -> None:
        super().__init__()
        self.model = model

    def forward(self, anchor_tokens: Tensor, frame_tokens: Tensor, *hints: Tensor) -> tuple[Tensor, ...]:
        anchor, frame = (Tokens(x.flatten(1, 2), (x.shape[1], x.shape[2])) for x in (anchor_tokens, frame_tokens))
        return _four_maps(self.model.decode(anchor, frame, Hints(*hints) if hints else None))


def _four_maps(maps: TwoPointmaps) -> tuple[Tensor, ...]:
    tracking, reconstruction = maps.tracking, maps.reconstruction
    assert tracking.confidence is not None and reconstruction.confidence is not None
    return tracking.points_world, tracking.confidence, reconstruction.points_world, reconstruction.confidence


def graphs_of(model: St4RTrack, *, split: bool) -> list[Graph]:
    """The graphs that a network is exported as; they share its weights."""
    network = traceable_model(model.config, model.state_dict())
    if not split:
        return [Graph(".onnx", PairGraph(network).eval(), ("anchor_images", "frame_images"), MAPS)]
    hints = HINTS if model.config.hints else ()
    return [
        Graph(".encoder.onnx", EncoderGraph(network).eval(), ("images",), ("tokens",)),
        Graph(".decoder.onnx", DecoderGraph(network).eval(), ("anchor_tokens", "frame_tokens", *hints), MAPS),
    ]


def example_inputs(graph: Graph, model: St4RTrack, batch: int, size: tuple[int, int], seed: int = 0) -> tuple[Tensor, ...]:
    """Plausible inputs of a graph: smooth images or random tokens, and hints of a camera that moves a little."""
    generator = torch.Generator().manual_seed(seed)
    height, width = size
    images = example_images((batch, 3, height, width), generator)
    if isinstance(graph.module, DecoderGraph):
        patch = model.config.patch_size
        shape = (batch, height // patch, width // patch, model.config.encoder_width)
        tokens = tuple(torch.randn(shape, generator=generator) for _ in range(2))
        if not model.config.hints:
            return tokens
        hints = example_hints(images, generator)
        return (*tokens, *(getattr(hints, name).contiguous() for name in HINTS))
    return tuple(images[: len(graph.inputs)])


def open_axes(graph: Graph, patch: int) -> tuple[Any, ...]:
    """For each input of a graph which axes stay open, as the exporter wants them."""
    batch, rows, columns = (torch.export.Dim(name, min=1) for name in ("batch", "rows", "columns"))
    height, width = patch * rows, patch * columns
    axes = []
    for name in graph.inputs:
        if name.endswith("tokens"):
            axes.append({0: batch, 1: rows, 2: columns})
        elif name.endswith("images") or name in IMAGES_LAST:
            axes.append({0: batch, 2: height, 3: width})
        else:
            axes.append({0: batch} if name == "anchor_from_frame" else {0: batch, 1: height, 2: width})
    if isinstance(graph.module, DecoderGraph):
        return (*axes[:2], tuple(axes[2:]))
    return tuple(axes)
