"""TAPVid-3D reader: one `.npz` per sequence with JPEG images, per-frame camera-space tracks and a pinhole camera."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np

from st4rtrack.data.raw import RawSequence, TrackReader, decode_rgb, invert_cameras, require_intrinsics
from st4rtrack.geometry.transforms import transform_points
from st4rtrack.io.npz import npz_keys, npz_shape, read_npz, read_npz_rows
from st4rtrack.types import UserError


class Tapvid3d:
    """One source of TAPVid-3D (adt, pstudio, drivetrack); `root` holds the folder of the source, or its files."""

    def __init__(self, root: str | Path, source: str) -> None:
        root = Path(root)
        self.folder = root / source if (root / source).is_dir() else root
        self.names = sorted(path.stem for path in self.folder.glob("*.npz") if not path.name.startswith("."))
        if not self.names:
            raise UserError(f"{self.folder} holds no .npz file of TAPVid-3D; pass the folder with the sequences of {source}")

    def open(self, name: str) -> RawSequence:
        """Open a sequence; its images stay in memory once one of them has been read."""
        path = self.folder / f"{name}.npz"
        keys = npz_keys(path)
        if "images_jpeg_bytes" not in keys:
            raise UserError(
                f"{path} has annotations but no images (images_jpeg_bytes), as distributed by TAPVid-3D for some of its sources; "
                "add the images with the TAPVid-3D tools, or remove the file from the folder"
            )
        length, points = _require_tracks(path)
        small = read_npz(path, "fx_fy_cx_cy", *(key for key in ("extrinsics_w2c",) if key in keys))
        cameras = None
        if "extrinsics_w2c" in small:
            cameras = invert_cameras(small["extrinsics_w2c"], str(path))
            if len(cameras) != length:
                raise UserError(f"{path} has {len(cameras)} cameras for {length} frames of tracks; fetch the file again")

        read_jpeg = _jpeg_reader(path, length)
        return RawSequence(
            name,
            np.tile(_intrinsics(small["fx_fy_cx_cy"], path), (length, 1, 1)),
            cameras,
            read_rgb=lambda index: decode_rgb(read_jpeg(index), f"image {index} of {path}"),
            read_tracks=_track_reader(path, cameras) if points else None,
            read_jpeg=read_jpeg,
        )


def _require_tracks(path: Path) -> tuple[int, int]:
    """Check the shapes of the tracks; returns the number of frames and of points."""
    tracks, visibility = npz_shape(path, "tracks_XYZ"), npz_shape(path, "visibility")
    if len(tracks) != 3 or tracks != (*visibility, 3):
        raise UserError(
            f"{path}: tracks_XYZ must be [time, points, 3], visibility [time, points], got {list(tracks)} and {list(visibility)}"
        )
    return tracks[0], tracks[1]


def _intrinsics(fx_fy_cx_cy: np.ndarray, path: Path) -> np.ndarray:
    if fx_fy_cx_cy.shape != (4,):
        raise UserError(f"{path}: fx_fy_cx_cy must be four numbers, got shape {list(fx_fy_cx_cy.shape)}")
    fx, fy, cx, cy = fx_fy_cx_cy
    return require_intrinsics(np.array([[[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]]]), str(path))[0]


def _jpeg_reader(path: Path, length: int) -> Callable[[int], bytes]:
    @cache
    def images() -> np.ndarray:
        stored = read_npz(path, "images_jpeg_bytes")["images_jpeg_bytes"]
        if stored.shape != (length,):
            raise UserError(f"{path} has {len(stored)} images for {length} frames of tracks; fetch the file again")
        return stored

    return lambda index: bytes(images()[index])


def _track_reader(path: Path, world_from_camera: np.ndarray | None) -> TrackReader:
    def read_tracks(start: int, stop: int, step: int = 1) -> tuple[np.ndarray, np.ndarray]:
        points = read_npz_rows(path, "tracks_XYZ", start, stop)[::step].astype(np.float64)
        visible = read_npz_rows(path, "visibility", start, stop)[::step].astype(bool)
        return (points if world_from_camera is None else transform_points(world_from_camera[start:stop:step], points)), visible

    return read_tracks
