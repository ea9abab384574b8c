"""The shared WorldTrack sequences as cases, where they are present: rendered ones and real ones with depth."""

from pathlib import Path

import numpy as np

from st4rtrack.io.worldtrack import find_worldtrack, read_worldtrack
from tests.cases.table import NO_PARALLAX, Case, Expected
from tests.cases.world import Clip

FOLDERS = ("sequences", "real/sequences")


def sequence_cases(shared: Path) -> list[Case]:
    """One case per sequence below the shared folder; folders that are absent are named and left out."""
    cases = []
    for folder in FOLDERS:
        if not (shared / folder).is_dir():
            print(f"{shared / folder} is not here: its sequences are left out")
            continue
        for name, path in find_worldtrack(shared / folder):
            # which of them stand still is in their names; their truth decides about everything else
            allowed = NO_PARALLAX if "static" in name else frozenset()
            cases.append(Case(name, "sequence", read_sequence, (Expected(step_deg=0.3),), {"path": path}, allowed=allowed))
    return cases


def read_sequence(path: Path) -> Clip:
    """A sequence with its truth; without a mask of dynamic objects."""
    sequence = read_worldtrack(path)
    rgb = np.stack(list(sequence.video.frames()))
    shape = rgb.shape[:3]
    depth = sequence.read_depth() if sequence.has_depth else np.full(shape, np.nan, np.float32)
    matrices = np.tile(sequence.intrinsics, (len(rgb), 1, 1))
    nothing = np.zeros(shape, bool)
    return Clip(
        rgb,
        matrices,
        sequence.world_from_camera,
        np.where(depth > 0, depth, np.nan),
        nothing,
        np.full(shape, -1, np.int8),
        np.zeros((len(rgb), 0, 4, 4)),
    )
