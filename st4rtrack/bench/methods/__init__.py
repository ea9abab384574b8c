"""Registry of the methods behind `bench predict --method`.

To add a method, write a function that makes a `Method` from `MethodOptions`, and add an entry here. Modules are imported on
demand, so that the registry is cheap to import.
"""

import importlib
from dataclasses import dataclass

from st4rtrack.bench.predictions import Method
from st4rtrack.options import MethodOptions
from st4rtrack.types import UserError


@dataclass(frozen=True)
class Entry:
    """A method: `function` (module:function of this package) makes it.

    `reads_pointmaps`: pointmaps are sampled at the queries, so that predictions depend on the protocol.
    """

    function: str
    description: str
    reads_pointmaps: bool = False


METHODS = {
    "st4rtrack": Entry(
        "pairwise:st4rtrack", "the network, anchor against every frame; --model or the embedded one", reads_pointmaps=True
    ),
    "dust3r": Entry("pairwise:pointmaps_only", "DUSt3R feed-forward, anchor-paired; needs --model", reads_pointmaps=True),
    "mast3r": Entry("pairwise:pointmaps_only", "MASt3R feed-forward, anchor-paired; needs --model", reads_pointmaps=True),
    "monst3r": Entry("pairwise:pointmaps_only", "MonST3R feed-forward, anchor-paired; needs --model", reads_pointmaps=True),
    "dust3r-ga": Entry("aligned:dust3r", "DUSt3R with global alignment; needs --model"),
    "mast3r-ga": Entry("aligned:dust3r", "MASt3R's pointmaps with DUSt3R's global alignment; needs --model"),
    "monst3r-ga": Entry("aligned:monst3r", "MonST3R with global alignment and smooth cameras; needs --model"),
    "spatracker": Entry("spatracker:camera_frame", "SpatialTracker's tracks in camera coordinates; needs --tracks"),
    "spatracker-procrustes": Entry("spatracker:with_procrustes", "SpatialTracker with RANSAC-Procrustes; needs --tracks"),
    "spatracker-monst3r": Entry("spatracker:with_cameras", "SpatialTracker with predicted cameras; needs --tracks, --cameras"),
    "sfm": Entry("classical:structure_from_motion", "optical-flow tracks and structure from motion, no weights"),
    "plane": Entry("bounds:plane", "a static plane at constant depth: a lower bound"),
    "static": Entry("bounds:static", "ground-truth depth of frame 0, static: the score without motion"),
}


def make_method(name: str, options: MethodOptions) -> Method:
    """Make the method with a name."""
    if name not in METHODS:
        raise UserError(f"--method must be one of {', '.join(METHODS)}, got {name!r}")
    module, function = METHODS[name].function.split(":")
    return getattr(importlib.import_module(f"{__name__}.{module}"), function)(options)
