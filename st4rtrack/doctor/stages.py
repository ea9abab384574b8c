"""Hooks that time and count parts of the network, in addition to the stages timed by the pipeline (`timing.py`)."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor

from st4rtrack.model.encoder import Tokens
from st4rtrack.model.network import St4RTrack
from st4rtrack.timing import Stopwatch, recording

NETWORK = {"encode": ("encoder",), "decoder": ("decoder",), "heads": ("tracking_head", "reconstruction_head")}
"""Parts of the network -> their modules; a network without decoders has only the encoder."""


@contextmanager
def timed_pipeline(stopwatch: Stopwatch, model: St4RTrack) -> Iterator[Counter[str]]:
    """Time the stages of `reconstruct` with this model inside the context; yields the number of inputs of each network part."""
    given: Counter[str] = Counter()

    def begin(part: str, arguments: tuple[Any, ...]) -> None:
        given[part] += batch_of(arguments)
        stopwatch.enter(part, settles=True)

    with recording(stopwatch), hooked_network(model, begin, lambda _: stopwatch.leave(settles=True)):
        yield given


@contextmanager
def hooked_network(model: St4RTrack, begin: Callable[[str, tuple[Any, ...]], None], end: Callable[[str], None]) -> Iterator[None]:
    """Call `begin(part, arguments)` and `end(part)` around the modules of each part of `NETWORK`, inside the context."""
    with ExitStack() as undo:
        for part, modules in NETWORK.items():
            for module in (getattr(model, name) for name in modules if hasattr(model, name)):
                before = module.register_forward_pre_hook(lambda _, arguments, part=part: begin(part, arguments))
                after = module.register_forward_hook(lambda *_, part=part: end(part), always_call=True)
                undo.callback(before.remove)
                undo.callback(after.remove)
        yield


def batch_of(arguments: tuple[Any, ...]) -> int:
    """Number of images or pairs in a call of a network module; the anchor's tokens may be shared by all pairs."""
    every: list[Any] = []
    for each in arguments:
        every += each if isinstance(each, list | tuple) else [each.features if isinstance(each, Tokens) else each]
    return max(len(each) for each in every if isinstance(each, Tensor))
