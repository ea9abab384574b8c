"""Reader and writer of the `.npz` sequences of the WorldTrack benchmark.

A file has JPEG images, one pinhole camera `fx_fy_cx_cy`, world-to-camera matrices (absent if the camera is fixed), and tracks in
the camera frame of each frame and / or depth maps, optionally with a mask of the foreground
(`foreground_mask`). After reading, the world frame is the camera frame of frame 0.
"""

import tempfile
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from st4rtrack.geometry.camera import project
from st4rtrack.geometry.transforms import invert_rigid, transform_points
from st4rtrack.io import images
from st4rtrack.io.files import whole_file
from st4rtrack.io.npz import npz_keys, npz_shape, read_npz
from st4rtrack.io.video import open_video
from st4rtrack.types import UserError, Video

NUM_FRAMES = 64
"""Number of frames that the benchmark evaluates, from the first of a file."""


@dataclass(frozen=True)
class WorldTrackSequence:
    """One sequence with its ground truth; images and depth are read from the file on demand."""

    name: str  # path relative to the data folder without suffix ("adt_mini/seq_001")
    path: Path  # the file
    intrinsics: np.ndarray = field(repr=False)  # [3, 3] in pixels of the stored images
    # [time, 4, 4]; the identity for frame 0, and for all frames if the camera is fixed
    world_from_camera: np.ndarray = field(repr=False)
    tracks_world: np.ndarray | None = field(repr=False)  # [time, points, 3] metres (the data set's unit), or None
    visible: np.ndarray | None = field(repr=False)  # [time, points] bool, or None
    has_depth: bool = False

    def __len__(self) -> int:
        return len(self.world_from_camera)

    @cached_property
    def video(self) -> Video:
        """The evaluated frames, decoded as they are read."""
        return open_video(self.path, stop=len(self))

    @cached_property
    def query_px(self) -> np.ndarray:
        """[points, 2] projections of the tracks into frame 0, in pixels of the stored images (meaningless if not visible)."""
        assert self.tracks_world is not None, f"{self.name} has no tracks"
        start = self.tracks_world[0] + (0.0, 0.0, 1e-8)  # the published evaluator's guard against z = 0
        return project(start, self.intrinsics)

    def query_frame(self) -> np.ndarray:
        """Read the frame of each track's query, [points], from `queries_xyt`; 0 for all tracks of a file without them."""
        assert self.visible is not None, f"{self.name} has no tracks"
        points = self.visible.shape[1]
        if "queries_xyt" not in npz_keys(self.path):
            return np.zeros(points, np.int64)
        queries = _required(read_npz(self.path, "queries_xyt")["queries_xyt"], "queries_xyt", self.name, points, 3)
        frames = np.round(queries[:, 2])
        if not ((queries[:, 2] >= 0) & (frames < len(self))).all():
            raise UserError(
                f"{self.name}: frames of queries_xyt must be in 0..{len(self) - 1}, got {frames.min():g} to {frames.max():g}"
            )
        return frames.astype(np.int64)

    def read_depth(self) -> np.ndarray:
        """Read z-depth in metres, [time, height, width] float32; unknown depth is not positive or not finite."""
        return self._read_maps("depth_map").astype(np.float32, copy=False)

    def read_foreground(self) -> np.ndarray | None:
        """Read the mask of the foreground (dynamic objects), [time, height, width] bool; None if the file has none."""
        return self._read_maps("foreground_mask").astype(bool) if "foreground_mask" in npz_keys(self.path) else None

    def _read_maps(self, key: str) -> np.ndarray:
        return _required(read_npz(self.path, key)[key], key, self.name, "time", "height", "width", frames=len(self))[: len(self)]


def read_worldtrack(path: str | Path, *, name: str | None = None, num_frames: int | None = NUM_FRAMES) -> WorldTrackSequence:
    """Read a WorldTrack sequence; nothing in the file is executed.

    Args:
        path: the `.npz`.
        name: name of the sequence; default the file name without suffix.
        num_frames: maximum number of frames to evaluate, from the first; None: all.
    Raises:
        UserError: the file cannot be read, or lacks required arrays.
    """
    path = Path(path)
    keys = npz_keys(path)
    name = name or path.stem
    for key in ("images_jpeg_bytes", "fx_fy_cx_cy"):
        if key not in keys:
            raise UserError(f"{path} is not a WorldTrack sequence: it has no array {key!r}")
    if "depth_map" not in keys and "tracks_XYZ" not in keys:
        raise UserError(f"{path} is not a WorldTrack sequence: it has neither tracks_XYZ nor depth_map")
    tracked = "tracks_XYZ" in keys
    small = ["fx_fy_cx_cy", *(k for k in ("extrinsics_w2c",) if k in keys), *(["tracks_XYZ", "visibility"] if tracked else [])]
    arrays = read_npz(path, *small)
    length = _length(path, "tracks_XYZ" if tracked else "images_jpeg_bytes", name, num_frames)
    world_from_camera = _cameras(arrays.get("extrinsics_w2c"), length, name)
    tracks = visible = None
    if tracked:
        tracks, visible = _tracks(arrays["tracks_XYZ"], arrays["visibility"], world_from_camera, name)
    return WorldTrackSequence(
        name, path, _intrinsics(arrays["fx_fy_cx_cy"], name), world_from_camera, tracks, visible, "depth_map" in keys
    )


def find_worldtrack(data: str | Path) -> list[tuple[str, Path]]:
    """Find all sequences in a folder and its subfolders: (name, path), sorted by path.

    Raises:
        UserError: the folder is absent or holds no `.npz`.
    """
    data = Path(data)
    if data.is_file() and data.suffix == ".npz":
        return [(data.stem, data)]
    if not data.is_dir():
        raise UserError(f"{data} is not a folder with WorldTrack sequences; check the path")
    paths = sorted(path for path in data.rglob("*.npz") if not path.name.startswith("."))
    if not paths:
        raise UserError(f"{data} holds no .npz file; give the folder of the WorldTrack sequences")
    return [(path.relative_to(data).with_suffix("").as_posix(), path) for path in paths]


def write_worldtrack(
    path: Path,
    *,
    images_jpeg: Iterable[bytes],
    fx_fy_cx_cy: np.ndarray,
    camera_from_world: np.ndarray | None,
    visibility: np.ndarray,
    tracks_camera: np.ndarray | None = None,
    depth: np.ndarray | None = None,
    queries_xyt: np.ndarray | None = None,
) -> None:
    """Write a sequence in the published format, with images as plain byte strings (readable without pickle).

    Images are consumed one at a time and not held in memory.

    Args:
        path: the `.npz`; its folder is created.
        images_jpeg: encoded images, one per frame.
        fx_fy_cx_cy: [4] pixels.
        camera_from_world: [time, 4, 4] in any world frame, or None for a fixed camera.
        visibility: [time, points] bool; for depth without tracks [time, height, width].
        tracks_camera: [time, points, 3] in the camera frame of each frame.
        depth: [time, height, width] metres, 0 where unknown.
        queries_xyt: [points, 3] query point of each track: pixels (u, v) of the images, frame index.
    """
    stored = {
        "fx_fy_cx_cy": (fx_fy_cx_cy, np.float64),
        "visibility": (visibility, bool),
        "extrinsics_w2c": (camera_from_world, np.float64),
        "tracks_XYZ": (tracks_camera, np.float32),
        "depth_map": (depth, np.float32),
        "queries_xyt": (queries_xyt, np.float32),
    }
    with whole_file(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        _write_images(archive, images_jpeg, path.parent)
        for name, (array, dtype) in stored.items():
            if array is not None:
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, np.asarray(array, dtype), allow_pickle=False)


def _write_images(archive: zipfile.ZipFile, images_jpeg: Iterable[bytes], folder: Path) -> None:
    """Write the images as fixed-width byte strings; a temporary file holds them until the longest is known."""
    with tempfile.TemporaryFile(dir=folder) as waiting:
        lengths = [waiting.write(jpeg) for jpeg in images_jpeg]
        widest = max(lengths, default=1)
        waiting.seek(0)
        with archive.open("images_jpeg_bytes.npy", "w", force_zip64=True) as member:
            header = {"descr": f"|S{widest}", "fortran_order": False, "shape": (len(lengths),)}
            np.lib.format.write_array_header_1_0(member, header)
            for length in lengths:  # JPEG ends in FF D9, so removing the zero padding loses nothing
                member.write(waiting.read(length).ljust(widest, b"\0"))


def encode_jpeg(rgb: np.ndarray) -> bytes:
    """Encode an image [height, width, 3] uint8 as JPEG of quality 75, as in the published files."""
    return images.encode_jpeg(rgb, quality=75)


def _length(path: Path, key: str, name: str, num_frames: int | None) -> int:
    """Number of evaluated frames; each must have an image."""
    shape, images = npz_shape(path, key), npz_shape(path, "images_jpeg_bytes")
    length = (*shape, 0)[0] if num_frames is None else min((*shape, 0)[0], num_frames)
    if length == 0 or len(images) != 1 or images[0] < length:
        raise UserError(
            f"{name}: {key} must have at least one frame and images_jpeg_bytes an image for each, "
            f"got {list(shape)} and {list(images)}"
        )
    return length


def _required(array: np.ndarray, key: str, name: str, *axes: str | int, frames: int = 0) -> np.ndarray:
    """An array of numbers with the axes (a name: of any size) and at least that many frames."""
    if array.dtype.kind not in "biuf":
        raise UserError(f"{name}: {key} must hold numbers, it is {array.dtype}")
    fits = array.ndim == len(axes) and all(isinstance(axis, str) or axis == size for axis, size in zip(axes, array.shape))
    if not fits or len(array) < frames:
        expected = f"[{', '.join(map(str, axes))}]" + (f" for {frames} frames" if frames else "")
        raise UserError(f"{name}: {key} must be {expected}, got {list(array.shape)}")
    return array


def _intrinsics(fx_fy_cx_cy: np.ndarray, name: str) -> np.ndarray:
    pinhole = fx_fy_cx_cy if fx_fy_cx_cy.dtype.kind in "iuf" else np.zeros(0)
    if pinhole.shape != (4,) or not np.isfinite(pinhole).all() or not (pinhole[:2] > 0).all():
        raise UserError(f"{name}: fx_fy_cx_cy must be four finite numbers with positive focal lengths, it is {fx_fy_cx_cy}")
    fx, fy, cx, cy = pinhole.tolist()
    return np.array([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]])


def _cameras(camera_from_anything: np.ndarray | None, length: int, name: str) -> np.ndarray:
    """Camera-to-world poses [time, 4, 4]; the world frame is the camera frame of frame 0."""
    if camera_from_anything is None:
        return np.tile(np.eye(4), (length, 1, 1))
    matrices = _required(camera_from_anything, "extrinsics_w2c", name, "time", 4, 4, frames=length)[:length].astype(np.float64)
    if not np.isfinite(matrices).all() or not (np.abs(np.linalg.det(matrices)) > 0).all():
        raise UserError(f"{name}: extrinsics_w2c must be finite, invertible matrices")
    world_from_camera = matrices[0] @ np.linalg.inv(matrices)
    world_from_camera[0] = np.eye(4)
    return world_from_camera


def _tracks(
    tracks_camera: np.ndarray, visibility: np.ndarray, world_from_camera: np.ndarray, name: str
) -> tuple[np.ndarray, np.ndarray]:
    length = len(world_from_camera)
    _required(tracks_camera, "tracks_XYZ", name, "time", "points", 3)
    _required(visibility, "visibility", name, "time", "points")
    if visibility.shape != tracks_camera.shape[:2]:
        shapes = f"{list(tracks_camera.shape)} and {list(visibility.shape)}"
        raise UserError(f"{name}: tracks_XYZ must be [time, points, 3] and visibility [time, points], they are {shapes}")
    with np.errstate(invalid="ignore"):  # infinite points stay non-finite
        tracks_world = transform_points(world_from_camera, tracks_camera[:length].astype(np.float64))
    return tracks_world, visibility[:length].astype(bool)


def tracks_in_camera(sequence: WorldTrackSequence) -> np.ndarray:
    """Ground-truth tracks [time, points, 3] in the camera frame of each frame."""
    assert sequence.tracks_world is not None
    return transform_points(invert_rigid(sequence.world_from_camera), sequence.tracks_world)
