"""Which function or module is which part of a run, and how a stopwatch is put around them: for a while, from outside."""

import importlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from st4rtrack.doctor.stopwatch import Stopwatch
from st4rtrack.model.encoder import Tokens
from st4rtrack.model.network import St4RTrack

STAGES = (
    ("resize", "st4rtrack.preprocess", "_resize"),
    ("geometry", "st4rtrack.classical.anchored.AnchoredGeometry", "of"),
    ("geometry", "st4rtrack.classical.anchored.AnchoredGeometry", "next"),
    ("geometry", "st4rtrack.model.hints", "estimate_many"),
    ("hints", "st4rtrack.pipeline.pointmaps", "hints_of_views"),
    ("hints", "st4rtrack.model.network", "estimate_hints"),
    ("points", "st4rtrack.pipeline.pointmaps", "predict_batch"),
    ("points", "st4rtrack.pipeline.pointmaps", "encode_anchor"),
    ("solver", "st4rtrack.pipeline.source", "solved_cameras"),
    ("prior", "st4rtrack.hints.depth_prior.builtin.BuiltinPrior", "__call__"),
    ("geometry", "st4rtrack.hints.steps.StepFlows", "chain"),
    ("static_depth", "st4rtrack.hints.fused", "static_depth"),
    ("fusion", "st4rtrack.hints.fused.FusedGeometry", "__init__"),
    ("fusion", "st4rtrack.hints.fused.FusedGeometry", "_pair"),
    ("refinement", "st4rtrack.pipeline.refine.TrackWindow", "_next"),
    ("cameras", "st4rtrack.pipeline.frames", "anchor_intrinsics"),
    ("cameras", "st4rtrack.pipeline.frames", "solve_camera"),
    ("visibility", "st4rtrack.pipeline.frames", "visible_probability"),
    ("motion", "st4rtrack.pipeline.reconstruct", "moving_points"),
    ("motion", "st4rtrack.pipeline.reconstruct", "moving_masks"),
    ("write", "st4rtrack.io.scene.writer.SceneWriter", "create"),
    ("write", "st4rtrack.io.scene.sink.SceneSink", "write_frame"),
    ("write", "st4rtrack.io.scene.writer.SceneWriter", "finish"),
)
"""Part, where a function is looked up when it is called, and its name there. Decoding is the video's own `read`."""

GIVE_ITEMS = {"moving_masks"}
"""Functions that give an iterator: waiting for its items is their time."""

ON_DEVICE = {"hints", "points"}
NETWORK = {"encode": ("encoder",), "decoder": ("decoder",), "heads": ("tracking_head", "reconstruction_head")}
"""Parts of the network, and which of its modules they are."""


@dataclass(frozen=True)
class TensorShape:
    """What is left of a tensor where only its cost matters."""

    size: tuple[int, ...]
    dtype: torch.dtype


@dataclass(frozen=True)
class TokensShape:
    """What is left of `Tokens`."""

    features: TensorShape
    grid: tuple[int, int]


@dataclass(frozen=True)
class Call:
    """A call of a module of the network: the part, the module's name and its arguments as shapes."""

    part: str
    module: str
    arguments: tuple[Any, ...]


@contextmanager
def timed_pipeline(stopwatch: Stopwatch, model: St4RTrack) -> Iterator[Counter[Call]]:
    """While the block runs, the parts of `reconstruct` with this model are timed; the result counts the calls of its modules."""
    calls: Counter[Call] = Counter()
    with ExitStack() as undo:
        for part, place, name in STAGES:
            undo.enter_context(_timed_attribute(stopwatch, part, _found(place), name))
        for part, modules in NETWORK.items():
            for name in modules:
                for handle in _hooked(stopwatch, calls, part, name, getattr(model, name)):
                    undo.callback(handle.remove)
        yield calls


def shapes_of(value: Any) -> Any:
    """Arguments of a module with shapes in the place of tensors, hashable."""
    if isinstance(value, Tensor):
        return TensorShape(tuple(value.shape), value.dtype)
    if isinstance(value, Tokens):
        return TokensShape(shapes_of(value.features), value.grid)
    return tuple(map(shapes_of, value)) if isinstance(value, list | tuple) else value


def tensors_of(shapes: Any, device: torch.device) -> Any:
    """The inverse of `shapes_of`; the tensors hold anything."""
    if isinstance(shapes, TensorShape):
        return torch.empty(shapes.size, dtype=shapes.dtype, device=device)
    if isinstance(shapes, TokensShape):
        return Tokens(tensors_of(shapes.features, device), shapes.grid)
    return tuple(tensors_of(entry, device) for entry in shapes) if isinstance(shapes, tuple) else shapes


def _found(place: str) -> Any:
    """A module, or a class of one."""
    module, _, last = place.rpartition(".")
    return getattr(importlib.import_module(module), last) if last[0].isupper() else importlib.import_module(place)


@contextmanager
def _timed_attribute(stopwatch: Stopwatch, part: str, owner: Any, name: str) -> Iterator[None]:
    plain = vars(owner)[name]
    timed: Callable[..., Any] | classmethod
    if isinstance(plain, classmethod):
        timed = classmethod(stopwatch.timed(plain.__func__, part))
    elif name in GIVE_ITEMS:
        timed = stopwatch.timed_items(plain, part)
    else:
        timed = stopwatch.timed(plain, part, settles=part in ON_DEVICE)
    setattr(owner, name, timed)
    try:
        yield
    finally:
        setattr(owner, name, plain)


def _hooked(stopwatch: Stopwatch, calls: Counter[Call], part: str, name: str, module: nn.Module) -> list[Any]:
    def begin(_: nn.Module, arguments: tuple[Any, ...]) -> None:
        calls[Call(part, name, shapes_of(arguments))] += 1
        stopwatch.enter(part, settles=True)

    def end(*_: Any) -> None:
        stopwatch.leave(settles=True)

    return [module.register_forward_pre_hook(begin), module.register_forward_hook(end, always_call=True)]
