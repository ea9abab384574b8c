"""Kubric (MOVi) reader: folders `{root}/{sequence}/` as written by Kubric's workers.
Files: `rgba_%05d.png`, `depth_%05d.tiff`, `segmentation_%05d.png` and `metadata.json`.

Depth is stored as distance from the camera centre, not z (Kubric's `PerspectiveCamera.z_to_depth`, and the description of MOVi);
it is converted to z here. Cameras follow OpenGL (x right, y up, looking along -z), rotations are quaternions (w, x, y, z). A
segmentation label is 1 + the index of the instance in `metadata.json`; 0 is the static background.

Objects are rigid, so the track of a pixel follows from its depth and the poses of its instance, in float32. Not read:
`object_coordinates` (the same with 16 bits per object box) and `forward_flow` (neighbouring frames only). The dense tracks that
the St4RTrack release trains on are pickled dictionaries, which this reader does not accept.
"""

from pathlib import Path
from typing import Any

import numpy as np

from st4rtrack.data.raw import (
    RawSequence,
    RigidParts,
    count_frames,
    read_float,
    read_json,
    read_labels,
    read_rgb,
    require_intrinsics,
    sub_folders,
)
from st4rtrack.geometry.camera import intrinsics_from_focal, pixel_grid
from st4rtrack.geometry.transforms import rigid
from st4rtrack.io.known.matrices import rotation_from_file
from st4rtrack.types import UserError

FARTHEST_M = 1000.0
"""Upper bound of the distances in a scene; Blender stores 1e10 for pixels without a surface."""

OPENCV_FROM_OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])

HELD_OUT = 10
"""Number of sequences at the end of the list that the release does not train on."""


class Kubric:
    """Folder `root` of sequence folders written by a Kubric worker."""

    def __init__(self, root: str | Path) -> None:
        self.folder = Path(root)
        self.names = sub_folders(self.folder)

    def length(self, name: str) -> int:
        """Number of frames of a sequence, which must have no gap."""
        return count_frames(self.folder / name, "rgba_", ".png")

    def open(self, name: str) -> RawSequence:
        """Open a sequence; every pixel of it can be tracked."""
        folder, length = self.folder / name, self.length(name)
        label = str(folder / "metadata.json")
        try:
            metadata = read_json(folder / "metadata.json")
            height, width = _size(metadata)
            intrinsics = np.stack([intrinsics_from_focal(focal, height, width) for focal in _focal_px(metadata, length, width)])
            world_from_camera = _poses(metadata["camera"], length, label) @ OPENCV_FROM_OPENGL
            objects = [_poses(instance, length, label) for instance in metadata["instances"]]
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise UserError(f"{label}: unexpected description of the scene ({error!r}); fetch the file again") from error
        still = np.tile(np.eye(4), (length, 1, 1))

        def read_depth(index: int) -> np.ndarray:
            distance = read_float(folder / f"depth_{index:05d}.tiff")
            _require_size(distance, (height, width), folder / f"depth_{index:05d}.tiff")
            return z_from_distance(distance, intrinsics[index])

        def read_index(index: int) -> np.ndarray:
            path = folder / f"segmentation_{index:05d}.png"
            labels = read_labels(path)
            _require_size(labels, (height, width), path)
            if labels.max(initial=0) > len(objects):
                raise UserError(f"{path} has the label {labels.max()}, but {label} describes {len(objects)} instances")
            return labels

        return RawSequence(
            name,
            require_intrinsics(intrinsics, label),
            world_from_camera,
            read_rgb=lambda index: read_rgb(folder / f"rgba_{index:05d}.png"),
            read_depth=read_depth,
            parts=RigidParts(read_index, np.stack([still, *objects], axis=1)),
        )


def training_names(dataset: Kubric) -> list[str]:
    """Names of the training sequences: all but the last `HELD_OUT`, as in the release."""
    names = dataset.names[:-HELD_OUT]
    if not names:
        raise UserError(
            f"{dataset.folder} holds {len(dataset.names)} sequences, and the last {HELD_OUT} are not trained on; "
            "pass a folder with more sequences"
        )
    return names


def z_from_distance(distance: np.ndarray, intrinsics: np.ndarray) -> np.ndarray:
    """Convert distance [height, width] from the camera centre to z, float32; 0 from `FARTHEST_M` on."""
    height, width = distance.shape
    rays = (pixel_grid(height, width) - intrinsics[:2, 2]) / intrinsics[(0, 1), (0, 1)]
    z = distance / np.sqrt(1 + (rays**2).sum(axis=-1))
    return np.where(distance < FARTHEST_M, z, 0.0).astype(np.float32)


def _size(metadata: dict[str, Any]) -> tuple[int, int]:
    """Height and width; Kubric versions name them differently."""
    scene = metadata["metadata"]
    width, height = scene["resolution"] if "resolution" in scene else (scene["width"], scene["height"])
    return int(height), int(width)


def _focal_px(metadata: dict[str, Any], length: int, width: int) -> np.ndarray:
    """Focal lengths [time] in pixels; pixels are square, and the sensor is as wide as the image."""
    camera = metadata["camera"]
    focal = np.asarray(camera["focal_length"], np.float64) / np.asarray(camera["sensor_width"], np.float64) * width
    return np.broadcast_to(focal, (length,))


def _poses(moved: dict[str, Any], length: int, label: str) -> np.ndarray:
    """Poses [time, 4, 4] of a camera or an instance: world from its frame."""
    positions = np.asarray(moved["positions"], np.float64)
    quaternions = np.asarray(moved["quaternions"], np.float64)
    if positions.shape != (length, 3) or quaternions.shape != (length, 4) or not np.isfinite(positions).all():
        raise UserError(
            f"{label}: positions and quaternions must be finite, [{length}, 3] and [{length}, 4] as there are {length} images, "
            f"got {list(positions.shape)} and {list(quaternions.shape)}"
        )
    return rigid(rotation_from_file(quaternions, label), positions)


def _require_size(image: np.ndarray, size: tuple[int, int], path: Path) -> None:
    if image.shape != size:
        raise UserError(
            f"{path} has {image.shape[1]}x{image.shape[0]} pixels, metadata.json says {size[1]}x{size[0]}; fetch it again"
        )
