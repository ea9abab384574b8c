"""Predictions on disk: one `.npz` per sequence, named as the sequence, so that any method can be scored.

`tracks_world` [time, points, 3] for all tracks of the sequence's file in its order (finite for those visible in frame 0), and / or
`reconstruction_world` [time, height, width, 3], both in the camera frame of frame 0, any scale. Optional: `visible` [time, points],
`world_from_camera` [time, 4, 4], `query_px` [points, 2]. No network is needed to read or score them.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from st4rtrack.io.files import whole_file
from st4rtrack.io.npz import npz_keys, read_npz
from st4rtrack.io.worldtrack import WorldTrackSequence
from st4rtrack.types import UserError

KEYS = ("tracks_world", "reconstruction_world", "visible", "world_from_camera", "query_px")


@dataclass
class Prediction:
    """What a method says about one sequence; unknown is None.

    Attributes:
        tracks_world: [time, points, 3], NaN for points that are not visible in frame 0.
        reconstruction_world: [time, height, width, 3], any size; each frame's own content.
        visible: [time, points] bool.
        world_from_camera: [time, 4, 4].
        query_px: [points, 2] pixels of the sequence's images in frame 0; proves the order of the points.
    """

    tracks_world: np.ndarray | None = None
    reconstruction_world: np.ndarray | None = None
    visible: np.ndarray | None = None
    world_from_camera: np.ndarray | None = None
    query_px: np.ndarray | None = None

    @property
    def is_empty(self) -> bool:
        """Nothing that could be scored."""
        return self.tracks_world is None and self.reconstruction_world is None


def write_prediction(path: Path, prediction: Prediction) -> None:
    """Writes the file whole or not at all; points as float32."""
    arrays = {key: value for key in KEYS if (value := getattr(prediction, key)) is not None}
    for key in ("tracks_world", "reconstruction_world"):
        if key in arrays:
            arrays[key] = np.asarray(arrays[key], np.float32)
    with whole_file(path) as file:
        np.savez(file, **arrays)  # pyright: ignore[reportArgumentType]


def read_prediction(path: Path, sequence: WorldTrackSequence) -> Prediction:
    """Reads and checks the prediction of a sequence.

    Returns:
        Arrays cut to the evaluated frames.
    Raises:
        UserError: absent, damaged, of another shape, or in another order than the sequence; names the sequence.
    """
    name = sequence.name
    if not path.is_file():
        raise UserError(f"{name}: there is no prediction; expected {path}")
    present = [key for key in npz_keys(path) if key in KEYS]
    if "tracks_world" not in present and "reconstruction_world" not in present:
        raise UserError(f"{name}: {path} has neither tracks_world nor reconstruction_world")
    arrays = read_npz(path, *present)
    for key, value in arrays.items():
        arrays[key] = _checked(key, value, sequence)
    if "tracks_world" in arrays:
        require_order(arrays["tracks_world"], arrays.get("query_px"), sequence)
    return Prediction(**arrays)


def require_order(tracks_world: np.ndarray, query_px: np.ndarray | None, sequence: WorldTrackSequence) -> None:
    """Refuses tracks that are those of the sequence in another order, as far as that can be known.

    Three signs: `query_px`, where given, are not the sequence's; as many points are finite as are visible in frame 0, but other ones;
    in frame 0, the directions of the points are distributed as the queries are but do not correspond to them.

    Raises:
        UserError: names the sequence.
    """
    assert sequence.visible is not None
    seen, name = sequence.visible[0], sequence.name
    expected = "points must be all of tracks_XYZ, in its order"
    if query_px is not None and not np.allclose(query_px[seen], sequence.query_px[seen], atol=1.0):
        raise UserError(f"{name}: query_px are not the pixels of the sequence's tracks in frame 0; {expected}")
    given = np.isfinite(tracks_world).all(axis=(0, 2))
    if given.sum() == seen.sum() and (given != seen).any():
        raise UserError(f"{name}: tracks_world is finite for other points than those visible in frame 0; {expected}")
    if _is_shuffled(tracks_world[0, seen & given], sequence.query_px[seen & given]):
        raise UserError(f"{name}: the points of tracks_world in frame 0 are those of the sequence in another order; {expected}")


MIN_POINTS_FOR_ORDER = 100


def _is_shuffled(start_world: np.ndarray, query_px: np.ndarray) -> bool:
    """Whether directions [points, 3] fit queries [points, 2] as sets, in both axes to a few percent, but not one by one.

    A method that is merely wrong does not have the queries' distribution; a network without training least of all.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        rays = start_world[:, :2] / start_world[:, 2:]
    if len(rays) < MIN_POINTS_FOR_ORDER or not np.isfinite(rays).all():
        return False
    if (rays.std(axis=0) <= 1e-9 * np.abs(rays).max(axis=0)).any():  # all in one direction
        return False
    fits_as_set = True
    for axis in (0, 1):
        ray, query = rays[:, axis], query_px[:, axis]
        if abs(np.corrcoef(ray, query)[0, 1]) > 0.5:
            return False
        ordered_ray, ordered_query = ((x - x.mean()) / x.std() for x in (np.sort(ray), np.sort(query)))
        fits_as_set &= bool(np.sqrt(np.mean((ordered_ray - ordered_query) ** 2)) < 0.1)
    return fits_as_set


def _checked(key: str, value: np.ndarray, sequence: WorldTrackSequence) -> np.ndarray:
    name, frames = sequence.name, len(sequence)
    if value.dtype.kind not in "fiub":
        raise UserError(f"{name}: {key} must hold numbers, it is {value.dtype}")
    if key in ("tracks_world", "visible", "query_px") and sequence.tracks_world is None:
        raise UserError(f"{name}: the prediction has {key}, but the sequence has no tracks")
    points = 0 if sequence.tracks_world is None else sequence.tracks_world.shape[1]
    expected: dict[str, tuple[int | None, ...]] = {
        "tracks_world": (frames, points, 3),
        "visible": (frames, points),
        "world_from_camera": (frames, 4, 4),
        "reconstruction_world": (frames, None, None, 3),
        "query_px": (points, 2),
    }
    want = expected[key]
    cut = value if key == "query_px" else value[:frames]
    if len(value.shape) != len(want) or any(w is not None and w != g for w, g in zip(want, cut.shape, strict=True)):
        shown = ", ".join("any" if w is None else str(w) for w in want)
        raise UserError(f"{name}: {key} must have the shape [{shown}], it has {list(value.shape)}")
    return cut
