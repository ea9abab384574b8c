"""Core data types of the pipeline. Plain data; predictions and ground truth use the same types.

Unknown values are `None`; invalid pixels are marked by a boolean mask. Arrays are NumPy (or read lazily from disk) in a `Scene`,
torch tensors in network code; the shapes below hold for both, and leading batch axes may precede them.
World is the camera frame of the anchor: x right, y down, z forward.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Literal

import numpy as np

from st4rtrack.errors import UserError as UserError
from st4rtrack.geometry.following import Followed, Shown, find_owners, follow, follow_owners
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
"""Source of a focal length: the user, the metadata of the file, the survey of the video, or a learned or fixed prior."""


@dataclass(frozen=True)
class KnownVideo:
    """Known geometry of the T frames of a video at network size: from the user, the file, or a camera solver.

    Attributes:
        focal_px: network pixels, or `None`.
        focal_source: source of the focal length.
        intrinsics: [T, 3, 3] network pixels, provided by the user; or `None`.
        world_from_camera: [T, 4, 4] in any world frame and unit, NaN where unknown; or `None`.
        depth: function from a frame index to z-depth [H, W] float32, in any unit, 0 where unknown; or `None`.
        static: function from a frame index to [H, W] bool, pixels known to be static; or `None`.
        points: function from a frame index to the static points visible in it, [n, 3] network pixels (u, v) and z-depth in the
            unit of the cameras; or `None`.
        metres_per_unit: metric scale of the world unit; or `None`.
        distance: two network pixels [2, 2] of the anchor and the distance between them in metres; or `None`.
        said: user-provided geometry as plain values: stored in the scene, and compared when a run is resumed.
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
    said: dict[str, Any] | None = None

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
    """Affine map from source pixels to network pixels: `network_px = scale * source_px + offset_px`, per axis (u, v)."""

    scale: tuple[float, float] = (1.0, 1.0)
    offset_px: tuple[float, float] = (0.0, 0.0)

    def then(self, after: "PixelMap") -> "PixelMap":
        """Composition: this map followed by another one."""
        (a, b), (c, d) = self.scale, after.scale
        (e, f), (g, h) = self.offset_px, after.offset_px
        return PixelMap((a * c, b * d), (e * c + g, f * d + h))

    def network_from_source(self, source_px: np.ndarray) -> np.ndarray:
        """Network pixels [..., 2] of source pixels [..., 2]."""
        return np.asarray(source_px, np.float64) * self.scale + self.offset_px

    def source_from_network(self, network_px: np.ndarray) -> np.ndarray:
        """Source pixels [..., 2] of network pixels [..., 2]."""
        return (np.asarray(network_px, np.float64) - self.offset_px) / self.scale


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
        """One line: reliable or not, warning codes, and the main metrics of a scene of `num_frames` frames."""
        codes = ", ".join(dict.fromkeys(warning.code for warning in self.warnings))
        verdict = "UNRELIABLE" if not self.reliable else "reliable, with warnings" if codes else "reliable"
        verdict += f" ({codes})" if codes else ""
        parts = [f"{round(self.frames_solved * num_frames)}/{num_frames} frames solved"]
        if self.reprojection_px is not None:
            parts.append(f"reprojection {self.reprojection_px:.1f} px")
        parts.append(f"parallax {self.parallax}")
        if self.measured_share is not None:
            parts.append(f"depth measured for {100 * self.measured_share:.0f} % of the pixels")
        if self.focal_source == "prior":
            parts.append("focal length from a prior")
        return f"quality: {verdict}; {', '.join(parts)}"


@dataclass
class Tracks:
    """3D tracks of query points over time.

    Attributes:
        points_world: [time, points, 3] world units.
        visible: [time, points] bool.
        confidence: [time, points].
        query_px: [points, 2] pixels of the source video, in the query frame.
        frame: index of the query frame.
        tracked: [time, points] bool; False where the point is not tracked: its nearest valid position in time is repeated.
        visibility: [time, points] float32, visibility probability; `None` if the scene does not store it.
    """

    points_world: np.ndarray
    visible: np.ndarray
    confidence: np.ndarray
    query_px: np.ndarray
    frame: int = 0
    tracked: np.ndarray | None = None
    visibility: np.ndarray | None = None


@dataclass
class Scene:
    """A video reconstructed in 4D: the result of `reconstruct` and the content of a scene folder.

    Attributes:
        rgb: [time, height, width, 3] uint8, frames at network size.
        time_s: [time] seconds.
        tracking: points of the anchor's pixels over time.
        reconstruction: `points_world` [time, height, width, 3], `confidence` and `moving` [time, height, width] of each frame's
            own pixels.
        cameras: one per frame; the anchor camera is the identity.
        anchor_index: index of the anchor frame.
        pixel_map: source pixels to network pixels.
        source_size: (height, width) of the source video in pixels.
        info: further fields of `scene.json`: model, options, source.
        anchors: further anchors by frame index, in the same world frame; their `valid` [time, height, width] is true where the
            point is tracked and its content appears in no earlier anchor. Unknown points are NaN.
        quality: reliability of the scene; `None` in scenes of earlier versions and of other tools.
    """

    rgb: Array
    time_s: Array
    tracking: TrackingOverTime
    reconstruction: Pointmap
    cameras: Cameras
    anchor_index: int
    pixel_map: PixelMap
    source_size: tuple[int, int]
    info: dict[str, Any] = field(default_factory=dict)
    anchors: dict[int, TrackingOverTime] = field(default_factory=dict)
    quality: QualityReport | None = None

    def __len__(self) -> int:
        return len(self.time_s)

    def __repr__(self) -> str:
        height, width = self.rgb.shape[1:3]
        quality = "" if self.quality is None else f"; {self.quality.summary(len(self))}"
        return f"Scene({len(self)} frames of {width}x{height} pixels, anchor frame {self.anchor_index}{quality})"

    @property
    def solved_frames(self) -> np.ndarray:
        """[time] bool, frames with an estimated pose; all True if the scene does not store it."""
        solved = None if self.cameras is None else self.cameras.solved
        return np.ones(len(self), bool) if solved is None else np.asarray(solved, bool)

    def display_confidence(self, maps: Pointmap, frame: int) -> np.ndarray | None:
        """Confidence [height, width] float32 of a frame of either branch by which display and export leave points out.

        In fused geometry, measured static depth is always surer than that of dynamic objects, which would be the first to go:
        dynamic pixels have the largest confidence of the frame.
        """
        if maps.confidence is None:
            return None
        confidence = np.array(maps.confidence[frame], np.float32)
        if maps.moving is not None and self.reconstruction.source is not None:
            dynamic = np.asarray(maps.moving if len(maps.moving.shape) == 2 else maps.moving[frame], bool)
            confidence[dynamic & np.isfinite(confidence)] = np.nanmax(confidence, initial=0)
        return confidence

    def tracks(self, query_px: np.ndarray, *, frame: int | None = None) -> Tracks:
        """Tracks of query points of a frame, at any sub-pixel position.

        In a frame that is no anchor, a query takes the track of the anchor point visible there, at the same depth and within one
        and a half pixels, shifted to the frame's surface at the query. A point that no anchor contains stays at its position on
        the frame's surface: it is visible and `tracked` in that frame alone.

        Args:
            query_px: [points, 2] (u, v) pixels of the source video.
            frame: index of the query frame among the processed ones; default: the anchor.
        Returns:
            `Tracks` over all frames; positions and confidence are bilinear, visibility is that of the pixel containing the query.
        Raises:
            ValueError: the shape is not [points, 2], a query lies outside the image region that the network processes, or no such
                frame exists.
            UserError: the scene stores no visibility or confidence of its tracks, for example a scene of another tool.
        """
        frame = self.anchor_index if frame is None else frame
        if isinstance(frame, bool) or frame != int(frame) or not 0 <= frame < len(self):
            raise ValueError(f"the frame of a query must be a number from 0 to {len(self) - 1}, got {frame!r}")
        query_px = np.asarray(query_px, dtype=np.float64)
        if query_px.ndim != 2 or query_px.shape[1] != 2:
            raise ValueError(f"query_px must be [points, 2], got {list(query_px.shape)}")
        network_px = self.pixel_map.network_from_source(query_px)
        height, width = self.rgb.shape[1:3]
        outside = ~((network_px >= 0) & (network_px <= (width, height))).all(axis=1)
        if outside.any():
            first = query_px[outside][0]
            corners = self.pixel_map.source_from_network(np.array([[0, 0], [width, height]])).round(1).tolist()
            raise ValueError(
                f"{int(outside.sum())} of {len(query_px)} queries lie outside the part of the image that the network processes, "
                f"from {corners[0]} to {corners[1]}; the first is ({first[0]:g}, {first[1]:g})"
            )
        if self.tracking.visible is None or self.tracking.confidence is None:
            raise UserError("this scene has no visibility or confidence, which tracks need; make it with `st4rtrack run`")
        anchored = frame == self.anchor_index
        found = follow(self.tracking, network_px) if anchored else self._follow_from(int(frame), network_px)
        solved = self.solved_frames[:, None]
        likely = None if found.visibility is None else np.where(solved, found.visibility, np.float32(0))
        return Tracks(found.points, found.visible & solved, found.confidence, query_px, int(frame), found.tracked, likely)

    def _follow_from(self, frame: int, network_px: np.ndarray) -> Followed:
        """Tracks of positions [points, 2] of a frame, each from the anchor assigned to it."""
        shown = Shown.of(self.reconstruction, self.cameras, frame)
        every = [(self.anchor_index, self.tracking), *self.anchors.items()]
        owners = find_owners([maps for _, maps in every], frame, shown, network_px)
        return follow_owners([maps for _, maps in every], owners, len(self), frame)
