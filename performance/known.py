"""What the embedded model gains from what a user knows: `python performance/known.py ../shared/sequences`.

WorldTrack sequences with true intrinsics, cameras and depth; each kind of knowledge alone, then together, against none. Corrected
protocol: EPE in metres after the global median scale, where nothing says what a metre is, and as it comes where depth or cameras do.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from machine import machine

from st4rtrack.geometry.align import median_scale
from st4rtrack.geometry.camera import pixel_grid, unproject
from st4rtrack.geometry.sampling import sample_map
from st4rtrack.geometry.transforms import rotation_angle, transform_maps
from st4rtrack.io.worldtrack import WorldTrackSequence, find_worldtrack, read_worldtrack
from st4rtrack.model.checkpoint import load_model
from st4rtrack.model.network import St4RTrack
from st4rtrack.options import KnownGeometry
from st4rtrack.pipeline.reconstruct import reconstruct
from st4rtrack.scene import Scene

KINDS: dict[str, tuple[str, ...]] = {
    "nothing": (),
    "intrinsics": ("intrinsics",),
    "cameras": ("intrinsics", "cameras"),
    "depth": ("intrinsics", "depth"),
    "static mask": ("static_mask",),
    "cameras and depth": ("intrinsics", "cameras", "depth"),
    "all": ("intrinsics", "cameras", "depth", "static_mask"),
}
FIGURES = ("tracks m", "moving m", "points m", "camera deg", "camera m", "scale %")


def knowledge(sequence: WorldTrackSequence, names: Sequence[str]) -> KnownGeometry:
    """The truth of a sequence, as a user would give it."""
    return KnownGeometry(
        intrinsics=sequence.intrinsics if "intrinsics" in names else None,
        cameras=sequence.world_from_camera if "cameras" in names else None,
        depth=sequence.read_depth() if "depth" in names else None,
        static_mask=static_mask(sequence) if "static_mask" in names else None,
    )


def static_mask(sequence: WorldTrackSequence) -> np.ndarray:
    """[1, height, width] bool: pixels of the first frame nearer to a track that stands still than to one that moves."""
    height, width = sequence.video.height, sequence.video.width
    if sequence.tracks_world is None or sequence.visible is None:
        return np.ones((1, height, width), bool)
    seen = sequence.visible[0]
    moves = moving(sequence)[seen]
    pixels, queries = pixel_grid(height, width).reshape(-1, 2), sequence.query_px[seen]
    nearest = np.concatenate([((part[:, None] - queries) ** 2).sum(-1).argmin(1) for part in np.array_split(pixels, 64)])
    return ~moves[nearest].reshape(1, height, width)


def moving(sequence: WorldTrackSequence) -> np.ndarray:
    """[points] bool: moves by more than a centimetre."""
    assert sequence.tracks_world is not None
    return np.nanmax(np.linalg.norm(sequence.tracks_world - sequence.tracks_world[0], axis=-1), axis=0) > 0.01


def figures(sequence: WorldTrackSequence, scene: Scene, *, metric: bool) -> list[float]:
    """The row of `FIGURES`; tracks at visible points, all and moving; NaN where the sequence has no truth."""
    points = np.asarray(scene.reconstruction.points_world, np.float64)
    truth, known = true_points(sequence, scene)
    scale = median_scale(points[known], truth[known])
    used = 1.0 if metric else scale
    cameras = np.asarray(scene.cameras.world_from_camera)
    true_cameras = sequence.world_from_camera
    turn = rotation_angle(np.swapaxes(cameras[:, :3, :3], 1, 2) @ true_cameras[:, :3, :3])
    away = np.linalg.norm(used * cameras[:, :3, 3] - true_cameras[:, :3, 3], axis=1)
    track = [np.nan, np.nan]
    if sequence.tracks_world is not None and sequence.visible is not None:
        seen = sequence.visible[0]
        network_px = scene.pixel_map.network_from_source(sequence.query_px[seen])
        found = np.stack([sample_map(np.asarray(frame), network_px) for frame in scene.tracking.points_world])
        error = np.linalg.norm(used * found - sequence.tracks_world[:, seen], axis=-1)
        chosen = moving(sequence)[seen]
        track = [float(np.nanmean(error)), float(np.nanmean(error[:, chosen]))]
    error = float(np.linalg.norm(used * points[known] - truth[known], axis=-1).mean())
    return [*track, error, float(np.rad2deg(turn).mean()), float(away.mean()), 100 * abs(scale - 1) if metric else np.nan]


def true_points(sequence: WorldTrackSequence, scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    """World points [T, H, W, 3] at the network's pixels, and where they are known [T, H, W]."""
    height, width = scene.rgb.shape[1:3]
    source_px = scene.pixel_map.source_from_network(pixel_grid(height, width))
    column, row = np.moveaxis(np.floor(source_px).astype(int), -1, 0)
    depth = sequence.read_depth()[:, row, column]
    camera = unproject(np.broadcast_to(source_px, (len(depth), *source_px.shape)), depth, sequence.intrinsics)
    return transform_maps(sequence.world_from_camera, camera), np.isfinite(depth) & (depth > 0)


def one(model: St4RTrack, sequence: WorldTrackSequence, kind: str) -> list[float]:
    names = KINDS[kind]
    scene = reconstruct(sequence.video, model=model, fit="stretch", known=knowledge(sequence, names) if names else None)
    moves = np.linalg.norm(sequence.world_from_camera[:, :3, 3], axis=1).max() > 0
    return figures(sequence, scene, metric="depth" in names or ("cameras" in names and moves))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--frames", type=int, default=64)
    options = parser.parse_args()
    model = load_model(device="cpu", dtype="float32")
    print(f"{machine()}; embedded model, {options.frames} frames\n")
    print(f"| sequence | known | {' | '.join(FIGURES)} |\n|---|---|{'---|' * len(FIGURES)}")
    rows: dict[str, list[list[float]]] = {kind: [] for kind in options.kinds}
    for name, path in find_worldtrack(options.data):
        sequence = read_worldtrack(path, num_frames=options.frames)
        for kind in options.kinds:
            rows[kind].append(one(model, sequence, kind))
            print(line(name, kind, rows[kind][-1]), flush=True)
    for kind, found in rows.items():
        means = [np.nanmean(column) if np.isfinite(column).any() else np.nan for column in np.array(found).T]
        print(line("mean", kind, means))


def line(name: str, kind: str, values: Sequence[float]) -> str:
    """A row of the table."""
    return f"| {name} | {kind} | {' | '.join('-' if np.isnan(value) else f'{value:.3f}' for value in values)} |"


if __name__ == "__main__":
    main()
