"""Score any method on WorldTrack: write one small file per sequence, then run `st4rtrack bench score`.

python examples/05_score_your_method.py DATA predictions
st4rtrack bench score --data DATA --predictions predictions -o scores.json
"""

import sys
from pathlib import Path

import numpy as np

from st4rtrack.io.worldtrack import WorldTrackSequence, find_worldtrack, read_worldtrack


def your_method(sequence: WorldTrackSequence) -> np.ndarray:
    """Your tracks [time, points, 3] in the camera frame of frame 0, any scale: here everything flies away from the camera.

    What you may use: `sequence.video.frames()` (RGB images) and `sequence.query_px` (pixels of the tracks in frame 0).
    """
    ray = np.concatenate([sequence.query_px / sequence.video.width - 0.5, np.ones((len(sequence.query_px), 1))], axis=1)
    return ray * np.linspace(1, 2, len(sequence))[:, None, None]


data, output = Path(sys.argv[1]), Path(sys.argv[2])
for name, path in find_worldtrack(data):
    sequence = read_worldtrack(path, name=name)
    if sequence.tracks_world is not None:
        (output / name).parent.mkdir(parents=True, exist_ok=True)
        np.savez(output / f"{name}.npz", tracks_world=your_method(sequence))
