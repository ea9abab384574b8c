"""Prediction files: one `.npz` per sequence, named like the sequence, so that any method can be scored.

`tracks_world` [time, points, 3] for all tracks of the sequence's file in its order (finite for those visible in frame 0), and / or
`reconstruction_world` [time, height, width, 3], both in the camera frame of frame 0, any scale. Optional: see `Prediction`.
Prediction files of TAPVid-3D's evaluator (`tracks_XYZ` in the camera of each frame, `visibility`) are read too. No network is needed
to read or score them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from st4rtrack.io.files import whole_file
from st4rtrack.io.npz import npz_keys, read_npz
from st4rtrack.io.scene.table import current_path
from st4rtrack.io.worldtrack import WorldTrackSequence
from st4rtrack.types import UserError

SHAPES = {
    "tracks_world": ("time", "points", 3),
    "reconstruction_world": ("time", "any", "any", 3),
    "tracks_camera": ("time", "points", 3),
    "visible": ("time", "points"),
    "visibility": ("time", "points"),
    "world_from_camera": ("time", 4, 4),
    "intrinsics": ("time", 3, 3),
    "measured": ("time", "any", "any"),
    "query_px": ("points", 2),
}
"""Shape of every array of a prediction."""
TAPVID3D_NAMES = {"tracks_XYZ": "tracks_camera", "visibility": "visible"}
"""Names of arrays in TAPVid-3D's prediction files -> their names here."""


@dataclass
class Prediction:
    """Prediction of a method for one sequence; None where unknown.

    Attributes:
        tracks_world: [time, points, 3], NaN for points that are not visible in frame 0.
        reconstruction_world: [time, height, width, 3] pointmap of each frame's own pixels, any size.
        tracks_camera: [time, points, 3] in the camera of each frame; default: `tracks_world` moved by `world_from_camera`.
        visible: [time, points] bool.
        visibility: [time, points] visibility probability in 0..1.
        world_from_camera: [time, 4, 4].
        intrinsics: [time, 3, 3] in pixels of the sequence's images.
        measured: [time, height, width] bool, of any size: pixels whose depth was measured by several views.
        query_px: [points, 2] pixels of the sequence's images in frame 0; verifies the order of the points.
    """

    tracks_world: np.ndarray | None = None
    reconstruction_world: np.ndarray | None = None
    tracks_camera: np.ndarray | None = None
    visible: np.ndarray | None = None
    visibility: np.ndarray | None = None
    world_from_camera: np.ndarray | None = None
    intrinsics: np.ndarray | None = None
    measured: np.ndarray | None = None
    query_px: np.ndarray | None = None

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to score."""
        return self.tracks_world is None and self.reconstruction_world is None and self.tracks_camera is None


Method = Callable[[WorldTrackSequence], Prediction]
"""A prediction method, made once from the options and then called with one sequence after another."""


def write_prediction(path: Path, prediction: Prediction) -> None:
    """Write the file atomically; points as float32."""
    arrays = {key: value for key in SHAPES if (value := getattr(prediction, key)) is not None}
    for key in ("tracks_world", "reconstruction_world"):
        if key in arrays:
            arrays[key] = np.asarray(arrays[key], np.float32)
    with whole_file(path) as file:
        np.savez(file, **arrays)  # pyright: ignore[reportArgumentType]


def read_prediction(path: Path, sequence: WorldTrackSequence) -> Prediction:
    """Read and check the prediction of a sequence.

    Returns:
        Arrays cut to the evaluated frames.
    Raises:
        UserError: missing, damaged, of another shape, or in another order than the sequence; the message names the sequence.
    """
    name = sequence.name
    if not path.is_file():
        raise UserError(f"{name}: there is no prediction; expected {path}")
    stored = npz_keys(path)
    renamed = TAPVID3D_NAMES if "tracks_XYZ" in stored else {key: current_path(key) for key in stored}
    present = [key for key in stored if renamed.get(key) in SHAPES]
    if not {renamed[key] for key in present} & {"tracks_world", "reconstruction_world", "tracks_camera"}:
        raise UserError(f"{name}: {path} has neither tracks_world nor reconstruction_world")
    arrays = {renamed[key]: value for key, value in read_npz(path, *present).items()}
    for key, value in arrays.items():
        arrays[key] = _checked(key, value, sequence)
    if "tracks_world" in arrays:
        require_order(arrays["tracks_world"], arrays.get("query_px"), sequence)
    return Prediction(**arrays)


def require_order(tracks_world: np.ndarray, query_px: np.ndarray | None, sequence: WorldTrackSequence) -> None:
    """Reject tracks whose points are in another order than the sequence's, as far as this can be detected.

    Three signs: `query_px`, if present, differ from the sequence's; as many points are finite as are visible in frame 0, but
    other ones; in frame 0 the points match as a set, but not one by one.
    """
    assert sequence.visible is not None and sequence.tracks_world is not None
    seen, name = sequence.visible[0], sequence.name
    expected = "points must be all of tracks_XYZ, in its order"
    if query_px is not None and not np.allclose(query_px[seen], sequence.query_px[seen], atol=1.0):
        raise UserError(f"{name}: query_px differ from the pixels of the sequence's tracks in frame 0; {expected}")
    finite = np.isfinite(tracks_world).all(axis=(0, 2))
    if finite.sum() == seen.sum() and (finite != seen).any():
        raise UserError(f"{name}: tracks_world is finite for other points than those visible in frame 0; {expected}")
    if _is_shuffled(tracks_world[0, finite], sequence.query_px[finite], sequence.tracks_world[0, finite]):
        raise UserError(f"{name}: the points of tracks_world in frame 0 are in another order than the sequence's; {expected}")


MIN_POINTS_FOR_ORDER = 100
SAME_SET = 0.03
"""Maximum difference of sorted values, in standard deviations, of equal sets; two draws of one distribution differ more."""
CORRESPONDS = 0.25
"""Minimum share of the variance that corresponding values have in common, however inaccurate a method is in detail."""


def _is_shuffled(start_world: np.ndarray, query_px: np.ndarray, true_start_world: np.ndarray) -> bool:
    """Whether the points of frame 0 match the ground truth as a set, but not one by one."""
    if len(start_world) < MIN_POINTS_FOR_ORDER or not np.isfinite(start_world).all():
        return False
    with np.errstate(divide="ignore", invalid="ignore"):
        rays = start_world[:, :2] / start_world[:, 2:]
    reach, true_reach = (np.linalg.norm(x - x.mean(axis=0), axis=-1, keepdims=True) for x in (start_world, true_start_world))
    return _same_set_in_another_order(rays, query_px) or _same_set_in_another_order(reach, true_reach)


def _same_set_in_another_order(values: np.ndarray, others: np.ndarray) -> bool:
    """Whether values [points, axes] agree in distribution per axis, up to scale and offset, but no linear map relates them."""
    if not np.isfinite(values).all() or (values.std(axis=0) <= 1e-9 * np.abs(values).max(axis=0)).any():  # constant values
        return False
    values, others = ((x - x.mean(axis=0)) / x.std(axis=0) for x in (values, others))
    ordered, other_ordered = np.sort(values, axis=0), np.sort(others, axis=0)
    if (np.sqrt(np.mean((ordered - other_ordered) ** 2, axis=0)) > SAME_SET).any():
        return False
    unexplained = others - values @ np.linalg.lstsq(values, others, rcond=None)[0]
    return bool((unexplained.var(axis=0) > 1 - CORRESPONDS).all())


def _checked(key: str, value: np.ndarray, sequence: WorldTrackSequence) -> np.ndarray:
    name, frames = sequence.name, len(sequence)
    if value.dtype.kind not in "fiub":
        raise UserError(f"{name}: {key} must hold numbers, got {value.dtype}")
    shape = SHAPES[key]
    if "points" in shape and sequence.tracks_world is None:
        raise UserError(f"{name}: the prediction has {key}, but the sequence has no tracks")
    sizes = {"time": frames, "points": 0 if sequence.tracks_world is None else sequence.tracks_world.shape[1]}
    expected = [sizes.get(size, size) if isinstance(size, str) else size for size in shape]
    cut = value[:frames] if shape[0] == "time" and value.ndim else value
    if len(cut.shape) != len(shape) or any(want != has and (want != "any" or not has) for want, has in zip(expected, cut.shape)):
        raise UserError(f"{name}: {key} must have the shape [{', '.join(map(str, expected))}], got {list(value.shape)}")
    if key == "visibility" and not ((cut >= 0) & (cut <= 1)).all():
        raise UserError(f"{name}: visibility must be in 0..1")
    return cut
