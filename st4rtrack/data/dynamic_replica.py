"""Dynamic Replica, raw: `{split}/frame_annotations_{split}.jgz` (a list of frames as JSON, gzip) and the files it names.

The list of the training split is also found as `.json`, with or without `_full` in its name: the download and the released
loader disagree about it.

Its cameras are PyTorch3D's (x left, y up, z forward; points are rows, x_view = x_world R + T) with lenses in normalised device
coordinates.
"""

import gzip
import json
import zlib
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from st4rtrack.data.raw import RawSequence, invert_cameras, read_16bit, read_bytes, read_rgb, require_intrinsics, split_folder
from st4rtrack.geometry.transforms import rigid
from st4rtrack.types import UserError

PARTS = ("image", "depth", "trajectories")
"""What a frame must have, each a file."""

MIRROR = np.array([-1.0, -1.0, 1.0])
"""PyTorch3D's camera axes to OpenCV's, and back."""


class DynamicReplica:
    """The left cameras of a split of Dynamic Replica. Frames without image, depth or trajectories are left out.

    Args:
        root: the folder that holds the split, or the split itself.
        split: train, valid or test.
        skip_missing: also leave out frames of which a file is not there, as after a partial download.
    Raises:
        UserError: there is no such folder, or its list of frames is absent or damaged, or no frame is left.
    """

    def __init__(self, root: str | Path, split: str = "test", *, skip_missing: bool = False) -> None:
        self.folder = split_folder(root, split)
        self.annotations = _find_annotations(self.folder, split)
        present = _Present(self.folder)
        self._frames: dict[str, list[dict[str, Any]]] = {}
        for frame in _read_annotations(self.annotations):
            name, is_left = _sequence_of(frame, self.annotations)
            complete = is_left and all(frame.get(part) for part in PARTS)
            if complete and (not skip_missing or all(present.has(frame[part]) for part in PARTS)):
                self._frames.setdefault(name, []).append({key: frame[key] for key in (*PARTS, "viewpoint") if key in frame})
        self.names = sorted(self._frames)
        if not self.names:
            raise UserError(
                f"{self.annotations} lists no frame of a left camera with image, depth and trajectories"
                + (f" whose files are in {self.folder}" if skip_missing else "")
                + "; fetch the data set again, or name its folder"
            )

    def length(self, name: str) -> int:
        """How many frames a sequence has."""
        return len(self._frames[name])

    def open(self, name: str) -> RawSequence:
        """A sequence, named as its folder of the left camera.

        Raises:
            UserError: its annotations are incomplete; a file is named when it is read.
        """
        frames = self._frames[name]
        label = f"{self.annotations}, sequence {name}"
        try:
            intrinsics = np.stack([intrinsics_px(frame["viewpoint"], frame["image"]["size"]) for frame in frames])
            camera_from_world = np.stack([camera_from_viewpoint(frame["viewpoint"]) for frame in frames])
            paths = [{part: frame[part]["path"] for part in PARTS} for frame in frames]
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{label}: a frame is not described as expected ({error}); fetch the file again") from error

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
    """[3, 3] pixels: focal = f r and principal point = half the size - p r, where r is half the size (`ndc_norm_image_bounds`)
    or the smaller half (`ndc_isotropic`).

    Args:
        viewpoint: focal_length f, principal_point p (x, y) and intrinsics_format.
        size: height and width in pixels.
    Raises:
        ValueError: another format.
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
    """[4, 4] camera_from_world with OpenCV axes from PyTorch3D's R, of which rows are multiplied, and T."""
    rotation = np.array(viewpoint["R"], np.float64).reshape(3, 3) * MIRROR  # columns are the camera's axes
    return rigid(rotation.T, np.array(viewpoint["T"], np.float64).reshape(3) * MIRROR)


class _Present:
    """Which files there are; folders are listed once each, which is far quicker than to ask for every file."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._names: dict[Path, set[str]] = {}

    def has(self, part: Any) -> bool:
        if not isinstance(part, dict) or not isinstance(part.get("path"), str):
            return False
        path = self.root / part["path"]
        if path.parent not in self._names:
            self._names[path.parent] = {entry.name for entry in path.parent.iterdir()} if path.parent.is_dir() else set()
        return path.name in self._names[path.parent]


def _find_annotations(folder: Path, split: str) -> Path:
    """The list of frames; of those that are not there the one that the download writes."""
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
        raise UserError(f"{path} must hold a list of frames, it holds a {type(frames).__name__}")
    return frames


def _sequence_of(frame: Any, annotations: Path) -> tuple[str, bool]:
    """The folder of a frame's sequence, and whether it is the left camera's."""
    try:
        sequence = str(frame["sequence_name"])
        folder = PurePosixPath((frame.get("image") or {}).get("path") or sequence).parts[0]
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise UserError(f"{annotations}: a frame is not described as expected ({error!r}); fetch the file again") from error
    camera = frame.get("camera_name") or ("right" if "right" in folder else "left")
    name = folder if folder.startswith(sequence) else sequence
    if not name or PurePosixPath(name).name != name:  # names become names of files
        raise UserError(f"{annotations}: {sequence!r} cannot be the name of a sequence; fetch the file again")
    return name, camera == "left"


def _read_trajectories(paths: list[Path]) -> tuple[np.ndarray, np.ndarray]:
    """World points [time, points, 3] and visible [time, points] of frames whose files hold the same points."""
    points, visible = [], []
    for path in paths:
        frame_points, frame_visible = _read_trajectory(path)
        if points and len(frame_points) != len(points[0]):
            raise UserError(
                f"{path} has {len(frame_points)} points, {paths[0]} has {len(points[0])}; all frames must have the same"
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
    except Exception as error:  # PyTorch tells a damaged file in many ways
        reason = str(error).split("\n", 1)[0]
        raise UserError(f"{path} is not a file of trajectories, or is damaged ({reason}); fetch it again") from error
    if points.ndim != 2 or points.shape[1] != 3:
        raise UserError(f"{path}: traj_3d_world must be [points, 3], it is {list(points.shape)}")
    return points, _as_mask(seen, len(points), path)


def _as_mask(seen: np.ndarray, count: int, path: Path) -> np.ndarray:
    """A mask as it is; numbers of points, which the array's name promises, as a mask."""
    if seen.dtype in (np.bool_, np.uint8) and seen.shape == (count,):
        return seen.astype(bool)
    if seen.dtype in (np.int32, np.int64) and seen.ndim == 1 and ((seen >= 0) & (seen < count)).all():
        mask = np.zeros(count, bool)
        mask[seen] = True
        return mask
    raise UserError(
        f"{path}: verts_inds_vis must be a mask of the {count} points or their numbers, it is {seen.dtype} {seen.shape}"
    )
