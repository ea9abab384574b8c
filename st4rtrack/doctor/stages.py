"""Which function or module is which part of a run, and how a stopwatch is put around them: for a while, from outside."""

import importlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor

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
    ("solver", "st4rtrack.hints.provider", "solved_cameras"),
    ("prior", "st4rtrack.hints.depth_prior.builtin.BuiltinPrior", "__call__"),
    ("geometry", "st4rtrack.hints.steps.StepFlows", "chain"),
    ("static_depth", "st4rtrack.hints.fused", "static_depth"),
    ("fusion", "st4rtrack.hints.fused.FusedGeometry", "__init__"),
    ("fusion", "st4rtrack.hints.fused.FusedGeometry", "_pair"),
    ("refinement", "st4rtrack.pipeline.refine.TrackWindow", "_next"),
    ("cameras", "st4rtrack.pipeline.frames", "anchor_intrinsics"),
    ("cameras", "st4rtrack.pipeline.frames", "solve_camera"),
    ("visibility", "st4rtrack.pipeline.frames", "visibility_probability"),
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


@contextmanager
def timed_pipeline(stopwatch: Stopwatch, model: St4RTrack) -> Iterator[Counter[str]]:
    """While the block runs, the parts of `reconstruct` with this model are timed; the result counts what each part of it was given."""
    given: Counter[str] = Counter()

    def begin(part: str, arguments: tuple[Any, ...]) -> None:
        given[part] += batch_of(arguments)
        stopwatch.enter(part, settles=True)

    with ExitStack() as undo:
        for part, place, name in STAGES:
            undo.enter_context(_timed_attribute(stopwatch, part, _found(place), name))
        undo.enter_context(hooked_network(model, begin, lambda _: stopwatch.leave(settles=True)))
        yield given


@contextmanager
def hooked_network(model: St4RTrack, begin: Callable[[str, tuple[Any, ...]], None], end: Callable[[str], None]) -> Iterator[None]:
    """While the block runs, `begin(part, arguments)` and `end(part)` are called around the modules of each part of `NETWORK`."""
    with ExitStack() as undo:
        for part, modules in NETWORK.items():
            for module in (getattr(model, name) for name in modules):
                before = module.register_forward_pre_hook(lambda _, arguments, part=part: begin(part, arguments))
                after = module.register_forward_hook(lambda *_, part=part: end(part), always_call=True)
                undo.callback(before.remove)
                undo.callback(after.remove)
        yield


def batch_of(arguments: tuple[Any, ...]) -> int:
    """Images or pairs in a call of a module of the network; the anchor's tokens may stand once for all pairs."""
    every: list[Any] = []
    for each in arguments:
        every += each if isinstance(each, list | tuple) else [each.features if isinstance(each, Tokens) else each]
    return max(len(each) for each in every if isinstance(each, Tensor))


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
