"""What can predict: the table of methods behind `bench predict --method`.

Adding one is a function that makes a `Method` from `MethodOptions`, and a row here. Modules are imported when their method is asked
for, so that the table costs nothing.
"""

import importlib
from dataclasses import dataclass

from st4rtrack.bench.methods.method import Method
from st4rtrack.options import MethodOptions
from st4rtrack.types import UserError


@dataclass(frozen=True)
class Entry:
    """A row of the table.

    Attributes:
        function: module:function below this package that makes the method.
        description: what the method is and needs.
        reads_pointmaps: at the queries, so that its predictions depend on the protocol.
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
    "spatracker-procrustes": Entry("spatracker:with_procrustes", "the same, camera motion by RANSAC-Procrustes; needs --tracks"),
    "spatracker-monst3r": Entry("spatracker:with_cameras", "the same, camera motion from predictions; needs --tracks, --cameras"),
    "sfm": Entry("classical:structure_from_motion", "optical-flow tracks and structure from motion, no weights"),
    "plane": Entry("bounds:plane", "a plane at constant depth that never moves: a lower bound"),
    "static": Entry("bounds:static", "true depth of frame 0 that never moves: what knowing no motion is worth"),
}


def make_method(name: str, options: MethodOptions) -> Method:
    """The method of that name.

    Raises:
        UserError: there is none, or it lacks what it needs.
    """
    if name not in METHODS:
        raise UserError(f"--method knows {', '.join(METHODS)}; not {name!r}")
    module, function = METHODS[name].function.split(":")
    return getattr(importlib.import_module(f"{__name__}.{module}"), function)(options)
