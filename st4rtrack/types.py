"""Core data types of the pipeline. Plain data; predictions and ground truth use the same types.

Unknown values are `None`; invalid pixels are marked by a boolean mask. Arrays are NumPy (or read lazily from disk) in a `Scene`,
torch tensors in network code; the shapes below hold for both, and leading batch axes may precede them.
World is the camera frame of the anchor: x right, y down, z forward.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Any, Literal

import numpy as np

from st4rtrack.errors import UserError as UserError
from st4rtrack.geometry.camera import scale_intrinsics, zoom_intrinsics
from st4rtrack.geometry.lens import Lens
from st4rtrack.geometry.transforms import invert_rigid

Array = Any
"""A NumPy array, a torch tensor, or an on-disk array that reads like a NumPy array."""


@dataclass(frozen=True)
class Video:
    """Frames of one camera, decoded on demand and never all in memory.

    Attributes:
        name: display name (the file name without its ending).
        height, width: frame size in pixels.
        time_s: [time] presentation time of each frame in seconds, on the clock of the source, increasing.
        frame_index: [time] number of each frame in the source.
        read: `read(start, stop)` decodes frames start..stop-1 in order, each [height, width, 3] uint8 RGB.
        source: path of the source, or "array".
        focal_px: focal length stated by the metadata of the source, in source pixels, or `None`. A 35 mm equivalent is converted
            with a long side of 36 mm, which is right within about 5 %.
    """

    name: str
    height: int
    width: int
    time_s: np.ndarray
    frame_index: np.ndarray
    read: Callable[[int, int], Iterator[np.ndarray]] = field(repr=False)
    source: str = "array"
    focal_px: float | None = None

    def __len__(self) -> int:
        return len(self.time_s)

    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[np.ndarray]:
        """Frames start..stop-1 (default: all), each [height, width, 3] uint8 RGB."""
        return self.read(start, len(self) if stop is None else stop)

    def frame(self, index: int) -> np.ndarray:
        """One frame [height, width, 3] uint8 RGB."""
        return next(iter(self.read(index, index + 1)))


FocalSource = Literal["user", "metadata", "video", "prior"]
"""Source of a focal length: the user, the metadata of the file, the video, or a learned or fixed prior."""


@dataclass(frozen=True)
class KnownVideo:
    """Known geometry of the T frames of a video at network size: from the user, the file, or a camera solver.

    Attributes:
        focal_px: network pixels, or `None`; that of the anchor where it changes.
        focal_source: source of the focal length.
        focals_px: [T] focal length of each frame in network pixels; `None` if it is constant.
        radial: estimated radial distortion k1 that the images still have, and its focal length in source pixels; `None`: hardly any.
        intrinsics: [T, 3, 3] network pixels, provided by the user; or `None`.
        world_from_camera: [T, 4, 4] in any world frame and unit, NaN where unknown; or `None`.
        depth: function from a frame index to z-depth [H, W] float32, in any unit, 0 where unknown; or `None`.
        static: function from a frame index to [H, W] bool, pixels known to be static; or `None`.
        points: function from a frame index to the static points visible in it, [n, 3] network pixels (u, v) and z-depth in the
            unit of the cameras; or `None`.
        metres_per_unit: metric scale of the world unit; or `None`.
        distance: two network pixels [2, 2] of the anchor and the distance between them in metres; or `None`.
        known_from_anchor: [4, 4] pose of the anchor in the world frame of the camera file, and in its unit; or `None`.
        description: user-provided geometry as plain values: stored in the scene, and compared when a run is resumed.
    """

    focal_px: float | None = None
    world_from_camera: np.ndarray | None = None
    depth: Callable[[int], np.ndarray] | None = None
    static: Callable[[int], np.ndarray] | None = None
    focal_source: FocalSource = "user"
    points: Callable[[int], np.ndarray] | None = None
    intrinsics: np.ndarray | None = None
    metres_per_unit: float | None = None
    distance: tuple[np.ndarray, float] | None = None
    known_from_anchor: np.ndarray | None = None
    description: dict[str, Any] | None = None
    focals_px: np.ndarray | None = None
    radial: tuple[float, float] | None = None

    def anchor_from_camera(self, anchor_index: int, index: int) -> np.ndarray | None:
        """Pose [4, 4] relative to the anchor, in the unit of the cameras, or `None` where unknown."""
        if self.world_from_camera is None:
            return None
        found = invert_rigid(self.world_from_camera[anchor_index]) @ self.world_from_camera[index]
        return found if np.isfinite(found).all() else None

    def depth_of(self, index: int) -> np.ndarray | None:
        """Known depth [H, W] of a frame, in the unit of the depth, or `None`."""
        return None if self.depth is None else self.depth(index)


@dataclass(frozen=True)
class PixelMap:
    """Map from source pixels to network pixels: undistortion by `lens`, if any, to the ideal pinhole image of the same size, then
    `network_px = scale * ideal_px + offset_px`, per axis (u, v).
    """

    scale: tuple[float, float] = (1.0, 1.0)
    offset_px: tuple[float, float] = (0.0, 0.0)
    lens: Lens | None = None

    @property
    def ideal(self) -> "PixelMap":
        """Map from pixels of the ideal image to network pixels."""
        return replace(self, lens=None)

    def then(self, after: "PixelMap") -> "PixelMap":
        """Composition: this map followed by another one; at most one of them has a lens."""
        if after.lens is not None:
            return replace(after, lens=after.lens.resized(self.scale, self.offset_px))
        (a, b), (c, d) = self.scale, after.scale
        (e, f), (g, h) = self.offset_px, after.offset_px
        return PixelMap((a * c, b * d), (e * c + g, f * d + h), self.lens)

    def network_from_source(self, source_px: np.ndarray) -> np.ndarray:
        """Network pixels [..., 2] of source pixels [..., 2]."""
        ideal_px = np.asarray(source_px, np.float64) if self.lens is None else self.lens.ideal_from_source(source_px)
        return ideal_px * self.scale + self.offset_px

    def source_from_network(self, network_px: np.ndarray) -> np.ndarray:
        """Source pixels [..., 2] of network pixels [..., 2]."""
        ideal_px = (np.asarray(network_px, np.float64) - self.offset_px) / self.scale
        return ideal_px if self.lens is None else self.lens.source_from_ideal(ideal_px)

    def network_intrinsics(self, source: np.ndarray) -> np.ndarray:
        """Intrinsics [..., 3, 3] in network pixels from those in source pixels; with a lens, only the focal length may vary."""
        if self.lens is not None:
            source = zoom_intrinsics(self.lens.ideal_intrinsics, source[..., 0, 0] / self.lens.camera[0])
        return scale_intrinsics(source, self.scale, self.offset_px)

    def source_intrinsics(self, network: np.ndarray) -> np.ndarray:
        """Intrinsics [..., 3, 3] in source pixels, the inverse of `network_intrinsics`."""
        scale = (1 / self.scale[0], 1 / self.scale[1])
        ideal = scale_intrinsics(network, scale, (-self.offset_px[0] * scale[0], -self.offset_px[1] * scale[1]))
        if self.lens is None:
            return ideal
        return zoom_intrinsics(self.lens.camera_intrinsics, ideal[..., 0, 0] / self.lens.ideal[0])


class DepthSource(IntEnum):
    """Source of the depth of a pixel."""

    MEASURED = 0
    """Multi-view triangulation, or user-provided depth."""
    PRIOR = 1
    """A depth prior."""
    NETWORK = 2
    DYNAMIC = 3
    """A depth prior, on pixels that show a dynamic object in this frame."""


@dataclass
class Pointmap:
    """A 3D point per pixel.

    Attributes:
        points_world: [height, width, 3] in the anchor's camera frame, world units.
        confidence: [height, width], > 1, larger is more certain.
        valid: [height, width] bool, pixels with ground truth (ground truth only).
        moving: [height, width] bool, the pixel shows a dynamic object: one that moves during the video or, where the geometry is
            fused with a depth prior, within 8 frames; `None` where not computed.
        source: [height, width] uint8, `DepthSource` of each pixel; `None` where all depth comes from a network.
    """

    points_world: Array
    confidence: Array | None = None
    valid: Array | None = None
    moving: Array | None = None
    source: Array | None = None


@dataclass
class TwoPointmaps:
    """Two pointmaps of a pair (anchor image i, image j), both in the frame of camera i, at the time of j (paper Eq. 1).

    Attributes:
        tracking: X_j^i, the points of the anchor's pixels at the time of j.
        reconstruction: X_j^j, the points of image j.
        world_from_camera: [4, 4] of image j, if the points were computed with a known camera; `None` if PnP must estimate it.
    """

    tracking: Pointmap
    reconstruction: Pointmap
    world_from_camera: Array | None = None


@dataclass
class MonocularDepth:
    """Monocular depth and focal length predicted by a network for single images.

    Attributes:
        log_depth: [batch, height, width] natural logarithm of the z-depth, up to an additive constant per image.
        log_error: [batch, height, width] logarithm of the expected |log-depth error|.
        log_focal: [batch] logarithm of the focal length over the long side.
        log_focal_error: [batch] logarithm of the expected |log-focal error|.
    """

    log_depth: Array
    log_error: Array
    log_focal: Array
    log_focal_error: Array


@dataclass
class TrackingOverTime(Pointmap):
    """Output of the tracking branch over a video: `points_world` [time, height, width, 3], `confidence` [time, height, width].

    Attributes:
        visible: [time, height, width] bool, the point of the anchor pixel is visible in frame t (probability above 0.5).
        visibility: [time, height, width] float16, visibility probability of the anchor pixel's point in frame t.
        moving: [height, width] bool, the anchor pixel shows a dynamic object.
    """

    visible: Array | None = None
    visibility: Array | None = None


@dataclass
class Cameras:
    """One camera per frame.

    Attributes:
        world_from_camera: [time, 4, 4] float64, rigid.
        intrinsics: [time, 3, 3] float64, pixels of the network size.
        solved: [time] bool; False for unsolved frames: their pose is interpolated for display and nothing is visible.
        reprojection_px, flow_agreement_px: [time] per-frame values of the fields of `QualityReport`; NaN where unknown.
    """

    world_from_camera: Array
    intrinsics: Array
    solved: Array | None = None
    reprojection_px: Array | None = None
    flow_agreement_px: Array | None = None


Parallax = Literal["none", "rotation", "weak", "good"]
"""Parallax class of the camera motion: fixed camera, rotation only, little translation, enough translation for depth."""


@dataclass(frozen=True)
class QualityWarning:
    """A reason not to trust a scene, or a part of it.

    Attributes:
        code: a stable identifier, for example "cut" or "focal_at_limit" (docs/quality.md lists all of them).
        frames: indices of the affected frames among the processed ones; empty if the whole video is affected.
        sentence: what was observed and how the user can fix it.
        serious: the warning makes the scene unreliable.
    """

    code: str
    frames: tuple[int, ...]
    sentence: str
    serious: bool = True


@dataclass(frozen=True)
class QualityReport:
    """Reliability of a scene; `quality` in `scene.json`.

    Attributes:
        frames_solved: share of the frames with an estimated pose, 0..1.
        reprojection_px: median distance between static tracks and their observations, source pixels; `None` where unknown.
        flow_agreement_px: median distance between optical flow and the motion of the reconstructed points, source pixels.
        max_camera_step: largest camera step over the median of the steps of the neighbouring frames (ratio).
        focal_source: source of the focal length.
        focal_at_limit: the focal estimate lies at a limit of the search range.
        parallax: parallax class of the camera motion.
        moving_share: share of the pixels that show dynamic objects, 0..1.
        measured_share: share of the pixels whose depth was measured or provided by the user, 0..1; `None` where all depth is a network's.
        warnings: reasons not to trust the scene.
    """

    frames_solved: float
    reprojection_px: float | None = None
    flow_agreement_px: float | None = None
    max_camera_step: float | None = None
    focal_source: FocalSource = "prior"
    focal_at_limit: bool = False
    parallax: Parallax = "none"
    moving_share: float = 0.0
    warnings: tuple[QualityWarning, ...] = ()
    measured_share: float | None = None

    @property
    def reliable(self) -> bool:
        """Whether no warning is serious."""
        return not any(warning.serious for warning in self.warnings)

    def summary(self, num_frames: int) -> str:
        """One line: what was checked and the warning codes, the main metrics of a scene of `num_frames` frames, what was not measured."""
        codes = ", ".join(dict.fromkeys(warning.code for warning in self.warnings))
        verdict = f"UNRELIABLE ({codes})" if not self.reliable else "consistent with the video"
        verdict += f", with warnings ({codes})" if codes and self.reliable else ""
        parts = [f"{round(self.frames_solved * num_frames)}/{num_frames} frames solved"]
        if self.reprojection_px is not None:
            parts.append(f"reprojection {self.reprojection_px:.1f} px")
        parts.append(f"parallax {self.parallax}")
        focal = "; focal length: from a prior, not measured" if self.focal_source == "prior" else ""
        return f"quality: {verdict}; {', '.join(parts)}; depth: {self._depth_origin}{focal}"

    @property
    def _depth_origin(self) -> str:
        """How much of the depth was measured: consistency with the video says nothing about the rest."""
        if self.measured_share is None:
            return "predicted by the network, not measured"
        percent = round(100 * self.measured_share)
        if not percent:
            return "estimated by the monocular prior, not measured"
        return "measured" if percent == 100 else f"measured for {percent} % of the pixels, else estimated by the monocular prior"
