"""Methods behind `bench predict --method` (docs/benchmark.md).

To add a method, write a function that makes a `Method` from `MethodOptions`, and add it here. Modules are imported on demand, so
that the table is cheap to import.
"""

import importlib

from st4rtrack.bench.predictions import Method
from st4rtrack.options import MethodOptions
from st4rtrack.types import UserError

METHODS = {
    "st4rtrack": "pairwise:st4rtrack",
    "dust3r": "pairwise:pointmaps_only",
    "mast3r": "pairwise:pointmaps_only",
    "monst3r": "pairwise:pointmaps_only",
    "dust3r-ga": "aligned:dust3r",
    "mast3r-ga": "aligned:dust3r",  # MASt3R's pointmaps with DUSt3R's alignment
    "monst3r-ga": "aligned:monst3r",
    "spatracker": "spatracker:camera_frame",
    "spatracker-procrustes": "spatracker:with_procrustes",
    "spatracker-monst3r": "spatracker:with_cameras",
    "sfm": "classical:structure_from_motion",
    "plane": "bounds:plane",
    "static": "bounds:static",
}
"""Method -> module:function of this package."""
PROTOCOL_DEPENDENT = ("st4rtrack", "dust3r", "mast3r", "monst3r")
"""Methods that sample pointmaps at the queries, so that their predictions depend on the protocol."""


def make_method(name: str, options: MethodOptions) -> Method:
    """Make the method with a name."""
    if name not in METHODS:
        raise UserError(f"--method must be one of {', '.join(METHODS)}, got {name!r}")
    module, function = METHODS[name].split(":")
    return getattr(importlib.import_module(f"{__name__}.{module}"), function)(options)
