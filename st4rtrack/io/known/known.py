"""Reads the known geometry of a video for the processed frames, at network size."""

import hashlib
import logging
from pathlib import Path
from typing import Any

import numpy as np

from st4rtrack.geometry.transforms import invert_rigid
from st4rtrack.io.known.calibration import known_cameras, known_intrinsics
from st4rtrack.io.known.cameras import CameraFile
from st4rtrack.io.known.maps import open_depth, open_mask
from st4rtrack.io.known.matching import SourceSize, described
from st4rtrack.options import KnownGeometry
from st4rtrack.types import KnownVideo, PixelMap, UserError, Video

logger = logging.getLogger(__name__)

LARGEST_OFFSET = 0.02
"""Maximum offset of the principal point from the image centre without a warning, as a share of the long side."""

SAME_FOCAL = 0.005
"""Range of the logarithm of the focal lengths of the frames below which they count as equal."""


def known_of_video(
    known: KnownGeometry, video: Video, pixel_map: PixelMap, network: tuple[int, int], anchor_index: int
) -> KnownVideo:
    """Read the known geometry of the frames of a video.

    Args:
        known: the user's options.
        video: the processed frames, at source size.
        pixel_map: map from source pixels to network pixels.
        network: (height, width) of the network image.
        anchor_index: index of the anchor frame, whose camera frame is the world frame.
    Raises:
        UserError: a file cannot be read or does not match the video, the anchor has no camera, or a number is out of range.
    """
    source = SourceSize(video.height, video.width, pixel_map)
    if known.metres_per_unit is not None and known.known_distance is not None:
        raise UserError("the scale has two values: give --metres-per-unit or --known-distance, not both")
    if known.depth_per_unit is not None and known.depth is None:
        raise UserError("--depth-per-unit needs depth images (--depth)")
    if known.metres_per_unit is not None and not (np.isfinite(known.metres_per_unit) and known.metres_per_unit > 0):
        raise UserError(f"metres per unit must be a positive number, got {known.metres_per_unit}")
    cameras = known_cameras(known)
    intrinsics = known_intrinsics(known, cameras, video, source, network)
    if intrinsics is not None:
        _warn_if_off_centre(intrinsics[anchor_index], pixel_map, network)
    poses, known_from_anchor = (None, None) if cameras is None else _of_anchor(cameras, video, anchor_index)
    depth = None if known.depth is None else open_depth(known.depth, per_unit=known.depth_per_unit)
    mask = None if known.static_mask is None else open_mask(known.static_mask)
    focals_px = None if intrinsics is None else np.sqrt(intrinsics[:, 0, 0] * intrinsics[:, 1, 1])  # of square pixels
    return KnownVideo(
        focal_px=None if focals_px is None else float(focals_px[anchor_index]),
        focals_px=focals_px if focals_px is not None and np.ptp(np.log(focals_px)) > SAME_FOCAL else None,
        intrinsics=intrinsics,
        world_from_camera=poses,
        known_from_anchor=known_from_anchor,
        depth=None if depth is None else depth.of_video(video, source, network),
        static=None if mask is None else mask.of_video(video, source, network),
        metres_per_unit=known.metres_per_unit,
        distance=None if known.known_distance is None else _distance(known.known_distance, source, network),
        description=_description(known, {"depth": depth and depth.digest, "static_mask": mask and mask.digest}),
    )


def _warn_if_off_centre(intrinsics: np.ndarray, pixel_map: PixelMap, network: tuple[int, int]) -> None:
    """Warn if the principal point is off-centre: geometry from optical flow and depth assumes the image centre."""
    offset_px = intrinsics[:2, 2] - (network[1] / 2, network[0] / 2)
    if np.linalg.norm(offset_px) > LARGEST_OFFSET * max(network):
        logger.warning(
            "the known principal point is %.0f source pixels from the centre of the image, but the geometry estimation assumes "
            "the centre: depth and scale are less accurate; crop the video so that the principal point is in the centre",
            np.linalg.norm(offset_px / pixel_map.scale),
        )


def _of_anchor(cameras: CameraFile, video: Video, anchor_index: int) -> tuple[np.ndarray, np.ndarray]:
    """World-from-camera poses [T, 4, 4] relative to the anchor camera, exactly the identity for it; and its pose in the file."""
    rows = cameras.rows(video)
    found = np.where((rows >= 0)[:, None, None], cameras.world_from_camera[rows], np.nan)
    if not np.isfinite(found[anchor_index]).all():
        raise UserError(
            f"{cameras.label} has no camera of frame {video.frame_index[anchor_index]}, the anchor; "
            "choose an anchor frame with a camera (--anchor)"
        )
    known_from_anchor = found[anchor_index].copy()
    found = invert_rigid(known_from_anchor) @ found
    found[anchor_index] = np.eye(4)
    return found, known_from_anchor


def _distance(text: str, source: SourceSize, network: tuple[int, int]) -> tuple[np.ndarray, float]:
    """Parse "u1,v1,u2,v2=metres" in source pixels to two network pixels [2, 2] and metres."""
    places, _, metres_said = text.partition("=")
    try:
        source_px, metres = np.array([float(word) for word in places.split(",")]), float(metres_said)
    except ValueError:
        source_px, metres = np.zeros(0), 0.0
    if source_px.shape != (4,) or not np.isfinite(source_px).all() or not (np.isfinite(metres) and metres > 0):
        raise UserError(f"a known distance is two pixels of the anchor frame and metres, u1,v1,u2,v2=metres; got {text!r}")
    network_px = source.pixel_map.network_from_source(source_px.reshape(2, 2))
    if not ((network_px >= 0) & (network_px <= (network[1], network[0]))).all():
        raise UserError(f"a pixel of the known distance {text!r} lies outside the processed crop; choose another")
    if (network_px[0] == network_px[1]).all():
        raise UserError(f"the two pixels of the known distance {text!r} are the same; give two different pixels")
    return network_px, metres


def _description(known: KnownGeometry, digests: dict[str, str | None]) -> dict[str, Any]:
    """Plain values that describe the known geometry, with content digests, so that changed files are detected."""
    values = {name: value for name, value in vars(known).items() if value is not None and name != "depth_per_unit"}
    return {name: digests.get(name) or _plain(value) for name, value in values.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return f"array {list(value.shape)} ({hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()[:12]})"
    if isinstance(value, str | Path) and Path(value).exists():
        return described(Path(value))
    return value
