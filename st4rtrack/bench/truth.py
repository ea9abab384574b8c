"""Ground truth of a sequence as files of adaptation teachers, as if another tool had made them."""

from pathlib import Path

import numpy as np

from st4rtrack.geometry.camera import project_world
from st4rtrack.io.worldtrack import WorldTrackSequence


def write_true_tracks(sequence: WorldTrackSequence, path: Path) -> None:
    """Write projections of the tracks that are visible in frame 0, as an exact tracker would return them."""
    assert sequence.tracks_world is not None and sequence.visible is not None
    seen = sequence.visible[0]
    pixels, _ = project_world(sequence.tracks_world[:, seen], sequence.world_from_camera, sequence.intrinsics)
    known = np.isfinite(pixels[..., 0])
    np.savez(
        path,
        query_px=sequence.query_px[seen],
        tracks_px=np.where(known[..., None], pixels, 0.0).astype(np.float32),
        visible=sequence.visible[:, seen] & known,
        width=sequence.video.width,
        height=sequence.video.height,
    )


def write_true_depth(sequence: WorldTrackSequence, path: Path) -> None:
    """Write depth maps, 0 where unknown, and cameras."""
    depth = sequence.read_depth()
    known = np.where(np.isfinite(depth) & (depth > 0), depth, 0.0).astype(np.float32)
    np.savez(path, depth=known, world_from_camera=sequence.world_from_camera)
