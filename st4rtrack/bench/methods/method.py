"""One way to predict: what it is made from, and what it is called with.

A method is made once from the options and then called with one sequence after another.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from st4rtrack.bench.predictions import Prediction
from st4rtrack.bench.protocol import Protocol
from st4rtrack.io.worldtrack import WorldTrackSequence

Method = Callable[[WorldTrackSequence], Prediction]


@dataclass(frozen=True)
class MethodOptions:
    """What `bench predict` was asked for; a method takes what concerns it and refuses to run without what it needs.

    Attributes:
        protocol: decides where pointmaps are read.
        model: checkpoint for the methods that run a network.
        device, dtype: of that network.
        size: long side in pixels at the network; None is the model's own.
        refine: whether the pipeline's pointmaps are made consistent over time (st4rtrack).
        tracks: folder of another tool's tracks, mirrored as the data (SpatialTracker).
        cameras: folder of predictions whose cameras are used (SpatialTracker + MonST3R).
        flow: folder of optical flow for global alignment.
        graph: pairs for global alignment.
        iterations: of global alignment.
    """

    protocol: Protocol
    model: str | None = None
    device: str = "auto"
    dtype: str = "auto"
    size: int | None = None
    refine: bool = True
    tracks: Path | None = None
    cameras: Path | None = None
    flow: Path | None = None
    graph: str = "swinstride-5-noncyclic"
    iterations: int = 300
