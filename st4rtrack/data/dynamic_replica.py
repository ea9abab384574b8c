"""Dynamic Replica reader: `{split}/frame_annotations_{split}.jgz` (gzipped JSON list of frames) and the files it lists.

The list of the training split may also be `.json`, with or without `_full` in its name: the download and the released
loader disagree about it.

Cameras follow PyTorch3D (x left, y up, z forward; points are rows, x_view = x_world R + T), with intrinsics in normalised device
coordinates.
"""

import gzip
import json
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from st4rtrack.data.raw import RawSequence, invert_cameras, read_16bit, read_bytes, read_rgb, require_intrinsics, split_folder
from st4rtrack.geometry.transforms import rigid
from st4rtrack.types import UserError

PARTS = ("image", "depth", "trajectories")
"""Files that a frame must have."""

MIRROR = np.array([-1.0, -1.0, 1.0])
"""Signs of the axes from PyTorch3D to OpenCV cameras (its own inverse)."""


class DynamicReplica:
    """Left cameras of a split of Dynamic Replica. Frames without image, depth or trajectories are left out.

    Args:
        root: folder that holds the split, or the split itself.
        split: train, valid or test.
        skip_missing: also leave out frames with missing files, as after a partial download.
    """

    def __init__(self, root: str | Path, split: str = "test", *, skip_missing: bool = False) -> None:
        self.folder = split_folder(root, split)
        self.annotations = _find_annotations(self.folder, split)
        present = _presence(self.folder)
        self._frames: dict[str, list[dict[str, Any]]] = {}
        for frame in _read_annotations(self.annotations):
            name, is_left = _sequence_of(frame, self.annotations)
            complete = is_left and all(frame.get(part) for part in PARTS)
            if complete and (not skip_missing or all(present(frame[part]) for part in PARTS)):
                self._frames.setdefault(name, []).append({key: frame[key] for key in (*PARTS, "viewpoint") if key in frame})
        self.names = sorted(self._frames)
        if not self.names:
            raise UserError(
                f"{self.annotations} lists no frame of a left camera with image, depth and trajectories"
                + (f" whose files exist in {self.folder}" if skip_missing else "")
                + "; fetch the data set again, or pass its folder"
            )

    def length(self, name: str) -> int:
        """Number of frames of a sequence."""
        return len(self._frames[name])

    def open(self, name: str) -> RawSequence:
        """Open a sequence by the name of its left-camera folder."""
        frames = self._frames[name]
        label = f"{self.annotations}, sequence {name}"
        try:
            intrinsics = np.stack([intrinsics_px(frame["viewpoint"], frame["image"]["size"]) for frame in frames])
            camera_from_world = np.stack([camera_from_viewpoint(frame["viewpoint"]) for frame in frames])
            paths = [{part: frame[part]["path"] for part in PARTS} for frame in frames]
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{label}: unexpected description of a frame ({error}); fetch the file again") from error

        def read_depth(index: int) -> np.ndarray:
            depth = read_16bit(self.folder / paths[index]["depth"]).view(np.float16).astype(np.float32)
            return np.where(np.isfinite(depth), depth, 0.0).astype(np.float32)

        def read_tracks(start: int, stop: int, step: int = 1) -> tuple[np.ndarray, np.ndarray]:
            return _read_trajectories([self.folder / paths[index]["trajectories"] for index in range(start, stop, step)])

        return RawSequence(
            name,
            require_intrinsics(intrinsics, label),
            invert_cameras(camera_from_world, label),
            read_rgb=lambda index: read_rgb(self.folder / paths[index]["image"]),
            read_depth=read_depth,
            read_tracks=read_tracks,
        )


def intrinsics_px(viewpoint: dict[str, Any], size: tuple[int, int]) -> np.ndarray:
    """Intrinsics in pixels: [3, 3], focal = f r, principal point = half the size - p r.

    r is half the `size` (height, width) (`ndc_norm_image_bounds`) or half the shorter side (`ndc_isotropic`).
    """
    half = np.array([size[1], size[0]]) / 2
    kind = viewpoint["intrinsics_format"].lower()
    if kind not in ("ndc_norm_image_bounds", "ndc_isotropic"):
        raise ValueError(f"intrinsics_format {kind!r} is not known")
    scale = half if kind == "ndc_norm_image_bounds" else np.full(2, half.min())
    focal = np.array(viewpoint["focal_length"], np.float64) * scale
    centre = half - np.array(viewpoint["principal_point"], np.float64) * scale
    return np.array([[focal[0], 0.0, centre[0]], [0.0, focal[1], centre[1]], [0.0, 0.0, 1.0]])


def camera_from_viewpoint(viewpoint: dict[str, Any]) -> np.ndarray:
    """World-to-camera matrix [4, 4] with OpenCV axes from PyTorch3D's R (multiplies row vectors) and T."""
    rotation = np.array(viewpoint["R"], np.float64).reshape(3, 3) * MIRROR  # columns are the camera axes
    return rigid(rotation.T, np.array(viewpoint["T"], np.float64).reshape(3) * MIRROR)


def _presence(root: Path) -> Callable[[Any], bool]:
    """Make a function that checks whether the file of a part exists; it lists each folder once, which is much faster."""

    @cache
    def names(folder: Path) -> set[str]:
        return {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()

    def present(part: Any) -> bool:
        if not isinstance(part, dict) or not isinstance(part.get("path"), str):
            return False
        path = root / part["path"]
        return path.name in names(path.parent)

    return present


def _find_annotations(folder: Path, split: str) -> Path:
    """Path of the list of frames; if none exists, the name that the download writes."""
    first = folder / f"frame_annotations_{split}.jgz"
    others = [folder / f"frame_annotations_{split}{ending}" for ending in (".json", "_full.json")]
    return next((path for path in (first, *others) if path.is_file()), first)


def _read_annotations(path: Path) -> list[Any]:
    try:
        data = read_bytes(path)
        frames = json.loads(gzip.decompress(data) if path.suffix == ".jgz" else data)
    except (ValueError, OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} is not a list of frames as JSON in gzip, or is damaged ({error}); fetch it again") from error
    if not isinstance(frames, list):
        raise UserError(f"{path} must hold a list of frames, got a {type(frames).__name__}")
    return frames


def _sequence_of(frame: Any, annotations: Path) -> tuple[str, bool]:
    """Sequence folder of a frame, and whether it is the left camera's."""
    try:
        sequence = str(frame["sequence_name"])
        folder = PurePosixPath((frame.get("image") or {}).get("path") or sequence).parts[0]
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise UserError(f"{annotations}: unexpected description of a frame ({error!r}); fetch the file again") from error
    camera = frame.get("camera_name") or ("right" if "right" in folder else "left")
    name = folder if folder.startswith(sequence) else sequence
    if not name or PurePosixPath(name).name != name:  # output files are named after it
        raise UserError(f"{annotations}: {sequence!r} is not a valid sequence name; fetch the file again")
    return name, camera == "left"


def _read_trajectories(paths: list[Path]) -> tuple[np.ndarray, np.ndarray]:
    """World points [time, points, 3] and visible [time, points] of frames; all files must hold the same points."""
    points, visible = [], []
    for path in paths:
        frame_points, frame_visible = _read_trajectory(path)
        if points and len(frame_points) != len(points[0]):
            raise UserError(
                f"{path} has {len(frame_points)} points, {paths[0]} has {len(points[0])}; all frames must have the same points"
            )
        points.append(frame_points)
        visible.append(frame_visible)
    return np.stack(points), np.stack(visible)


def _read_trajectory(path: Path) -> tuple[np.ndarray, np.ndarray]:
    import torch

    if not path.is_file():
        raise UserError(f"{path} does not exist; the data set is incomplete, fetch it again")
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
        points, seen = stored["traj_3d_world"].numpy(), stored["verts_inds_vis"].numpy()
    except Exception as error:  # PyTorch raises many types for a damaged file
        reason = str(error).split("\n", 1)[0]
        raise UserError(f"{path} is not a file of trajectories, or is damaged ({reason}); fetch it again") from error
    if points.ndim != 2 or points.shape[1] != 3:
        raise UserError(f"{path}: traj_3d_world must be [points, 3], got {list(points.shape)}")
    return points, _as_mask(seen, len(points), path)


def _as_mask(seen: np.ndarray, count: int, path: Path) -> np.ndarray:
    """Visibility mask of the points; `verts_inds_vis` is either a mask or, as its name says, point indices."""
    if seen.dtype in (np.bool_, np.uint8) and seen.shape == (count,):
        return seen.astype(bool)
    if seen.dtype in (np.int32, np.int64) and seen.ndim == 1 and ((seen >= 0) & (seen < count)).all():
        mask = np.zeros(count, bool)
        mask[seen] = True
        return mask
    raise UserError(
        f"{path}: verts_inds_vis must be a mask of the {count} points or their indices, got {seen.dtype} {seen.shape}"
    )
