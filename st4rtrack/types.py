"""The nouns: what flows between the parts. Plain data; prediction and truth are the same types.

Unknown is `None`; invalid pixels are a boolean mask. Arrays are NumPy (or read lazily from disk) in a `Scene`, torch tensors
where the network is near; the shapes below hold for both, and leading batch axes may stand before them.
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
"""A NumPy array, a torch tensor, or something that reads as a NumPy array from disk."""


@dataclass(frozen=True)
class Video:
    """Frames of one camera, decoded as they are needed and never all held.

    Attributes:
        name: what the user calls it (the file's name without ending).
        height, width: of every frame, in pixels.
        time_s: [time] presentation time of each frame in seconds, from the source's own clock, increasing.
        frame_index: [time] number of each frame in the source.
        read: `read(start, stop)` decodes frames start..stop-1 in order, each [height, width, 3] uint8 RGB.
        source: where it came from (a path), or "array".
        focal_px: focal length that the source's metadata states, in source pixels; `None` where it states none. A 35 mm equivalent
            is taken as that of a long side of 36 mm, which is right within about 5 %.
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
"""Where a focal length comes from: the user, the file's metadata, the survey of the video, or a learned or fixed prior."""


@dataclass(frozen=True)
class KnownVideo:
    """What is known of the T frames of a video at network size: by the user, by the file, or by a solver of cameras.

    Attributes:
        focal_px: network pixels, or `None`.
        focal_source: who says so.
        intrinsics: [T, 3, 3] network pixels, where the user provides them; or `None`.
        world_from_camera: [T, 4, 4] in any world and unit, NaN where unknown; or `None`.
        depth: z-depth [H, W] float32 of a frame by its number, in any unit, 0 where unknown; or `None`.
        static: [H, W] bool of a frame, pixels that are known to be static; or `None`.
        points: static points that a frame sees, [n, 3] network pixels (u, v) and z-depth in the cameras' unit; or `None`.
        metres_per_unit: or `None`.
        distance: two network pixels [2, 2] of the anchor and the metres between; or `None`.
        said: what the user provided, plain values: a scene keeps it, and a continued run compares it.
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
        """[4, 4] in the cameras' unit, or `None` where it is unknown."""
        if self.world_from_camera is None:
            return None
        found = invert_rigid(self.world_from_camera[anchor_index]) @ self.world_from_camera[index]
        return found if np.isfinite(found).all() else None

    def depth_of(self, index: int) -> np.ndarray | None:
        """[H, W] in the depth's unit, or `None`."""
        return None if self.depth is None else self.depth(index)


@dataclass(frozen=True)
class PixelMap:
    """Source pixels to network pixels: `network_px = scale * source_px + offset_px`, per axis (u, v)."""

    scale: tuple[float, float] = (1.0, 1.0)
    offset_px: tuple[float, float] = (0.0, 0.0)

    def then(self, after: "PixelMap") -> "PixelMap":
        """This map followed by another one."""
        (a, b), (c, d) = self.scale, after.scale
        (e, f), (g, h) = self.offset_px, after.offset_px
        return PixelMap((a * c, b * d), (e * c + g, f * d + h))

    def network_from_source(self, source_px: np.ndarray) -> np.ndarray:
        """Pixels [..., 2] of the network from pixels [..., 2] of the source."""
        return np.asarray(source_px, np.float64) * self.scale + self.offset_px

    def source_from_network(self, network_px: np.ndarray) -> np.ndarray:
        """Pixels [..., 2] of the source from pixels [..., 2] of the network."""
        return (np.asarray(network_px, np.float64) - self.offset_px) / self.scale


class DepthSource(IntEnum):
    """Where the depth of a pixel comes from."""

    MEASURED = 0
    """Several views, or the user."""
    PRIOR = 1
    """A depth prior."""
    NETWORK = 2
    DYNAMIC = 3
    """A depth prior, on pixels that show a dynamic object at this time."""


@dataclass
class Pointmap:
    """A 3D point for every pixel.

    Attributes:
        points_world: [height, width, 3] in the anchor's camera frame, world units.
        confidence: [height, width], > 1, larger is surer.
        valid: [height, width] bool, where truth exists (truth only).
        moving: [height, width] bool, the pixel shows something that moves in the world, during the video or, where the geometry is
            fused with a depth prior, within 8 frames; `None` where nobody asked.
        source: [height, width] uint8, where the depth comes from, as of `DepthSource`; `None` where nothing but a network could be.
    """

    points_world: Array
    confidence: Array | None = None
    valid: Array | None = None
    moving: Array | None = None
    source: Array | None = None


@dataclass
class TwoPointmaps:
    """The two outputs for a pair (anchor image i, image j), both in camera i's frame, both at the time of j (paper Eq. 1).

    Attributes:
        tracking: X_j^i, where the content of the anchor has moved.
        reconstruction: X_j^j, the content of image j.
        world_from_camera: [4, 4] of image j, where the points were made with a known camera; `None` where PnP has to find it.
    """

    tracking: Pointmap
    reconstruction: Pointmap
    world_from_camera: Array | None = None


@dataclass
class MonocularDepth:
    """What a network says of single pictures.

    Attributes:
        log_depth: [batch, height, width] natural logarithm of the z depth, up to an additive constant of the picture.
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
    """The tracking branch of a whole video: `points_world` [time, height, width, 3], `confidence` [time, height, width].

    Attributes:
        visible: [time, height, width] bool, the anchor pixel's point is visible in frame t: its probability is above one half.
        visibility: [time, height, width] float16, probability that the anchor pixel's point is visible in frame t.
        moving: [height, width] bool, the anchor pixel's point moves in the world.
    """

    visible: Array | None = None
    visibility: Array | None = None


@dataclass
class Cameras:
    """One camera per frame.

    Attributes:
        world_from_camera: [time, 4, 4] float64, rigid.
        intrinsics: [time, 3, 3] float64, pixels of the network size.
        solved: [time] bool; False where no pose was estimated: it is interpolated for display, and nothing is visible.
        reprojection_px, flow_agreement_px: [time] of each frame, as in `QualityReport`; NaN where unknown.
    """

    world_from_camera: Array
    intrinsics: Array
    solved: Array | None = None
    reprojection_px: Array | None = None
    flow_agreement_px: Array | None = None


Parallax = Literal["none", "rotation", "weak", "good"]
"""What the camera motion says about depth: a fixed camera, rotation only, little translation, enough translation."""


@dataclass(frozen=True)
class QualityWarning:
    """One reason not to trust a scene, or a part of it.

    Attributes:
        code: a stable identifier, for example "cut" or "focal_at_limit" (docs/quality.md lists all of them).
        frames: numbers of the affected frames among those processed; empty where the whole video is meant.
        sentence: what was observed and what the user can do about it.
        serious: the scene is unreliable because of it.
    """

    code: str
    frames: tuple[int, ...]
    sentence: str
    serious: bool = True


@dataclass(frozen=True)
class QualityReport:
    """How far a scene can be trusted; `quality` in `scene.json`.

    Attributes:
        frames_solved: share of the frames whose pose was estimated, 0..1.
        reprojection_px: median distance between static tracks and their observations, source pixels; `None` where unknown.
        flow_agreement_px: median distance between optical flow and the motion of the reconstructed points, source pixels.
        max_camera_step: largest camera step over the median of the steps of the neighbouring frames (ratio).
        focal_source: where the focal length comes from.
        focal_at_limit: the estimate lies at a limit of the search range.
        parallax: what the camera motion says about depth.
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
        """No warning is serious."""
        return not any(warning.serious for warning in self.warnings)

    def summary(self, num_frames: int) -> str:
        """One line: reliable or not, codes of the warnings, and the main figures of a scene of `num_frames` frames."""
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
    """Points followed over time.

    Attributes:
        points_world: [time, points, 3] world units.
        visible: [time, points] bool.
        confidence: [time, points].
        query_px: [points, 2] pixels of the source video, in the query's frame.
        frame: in which the points were asked for.
        tracked: [time, points] bool; False where the network did not follow the point: it is held where it was seen last.
        visibility: [time, points] float32, probability that the point is visible; `None` where the scene has none.
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
    """A video in 4D: what `reconstruct` gives and a scene folder holds.

    Attributes:
        rgb: [time, height, width, 3] uint8, frames at network size.
        time_s: [time] seconds.
        tracking: the anchor's content over time.
        reconstruction: `points_world` [time, height, width, 3] and `confidence` and `moving` [time, height, width], each frame's
            own content.
        cameras: one per frame; the anchor's is the identity.
        anchor_index: which of the frames is the anchor.
        pixel_map: source pixels to network pixels.
        source_size: (height, width) of the source video in pixels.
        info: what else `scene.json` says: model, options, source.
        anchors: further anchors by frame number, in the same world; of each, `valid` [time, height, width] is true where it is followed
            and has content that no earlier anchor has. Points that are not known are NaN.
        quality: how far the scene can be trusted; `None` in scenes of earlier versions and of other tools.
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

    @property
    def solved_frames(self) -> np.ndarray:
        """[time] bool, frames whose pose was estimated; all where the scene does not store it."""
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
        """Tracks of chosen points of a frame, at any sub-pixel position.

        A point of a frame that is no anchor has the track of the anchor's point that is seen there, at the same depth and within
        one and a half pixels, carried to the surface that the frame shows at the query. A point that no anchor has seen
        is held where the frame shows it: it is visible and `tracked` in that frame alone.

        Args:
            query_px: [points, 2] (u, v) pixels of the source video.
            frame: in which frame, counting those that were processed; default the anchor.
        Returns:
            `Tracks` over all frames; positions and confidence bilinear, visibility that of the pixel that holds the query.
        Raises:
            ValueError: the shape is not [points, 2], a query lies outside the part of the image that the network saw, or there is no
                such frame.
            UserError: the scene does without the visibility or the confidence of its tracks, as one of another tool may.
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
                f"{int(outside.sum())} of {len(query_px)} queries lie outside the part of the image that the network saw, "
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
        """The tracks of whatever anchor owns each place [points, 2] of a frame."""
        shown = Shown.of(self.reconstruction, self.cameras, frame)
        every = [(self.anchor_index, self.tracking), *self.anchors.items()]
        owners = find_owners([maps for _, maps in every], frame, shown, network_px)
        return follow_owners([maps for _, maps in every], owners, len(self), frame)
