"""Quality report: metrics of a finished scene, and warnings derived from them.

The metrics of a frame are measured during processing, where its optical flow is available, and stored with it. So memory does not
grow with the video, and a resumed run reports the same as an uninterrupted one. Observations of detectors are plain values.
"""

import logging
from dataclasses import replace

import numpy as np

from st4rtrack.classical.anchored import AnchoredGeometry
from st4rtrack.classical.frame_checks import unusable_warning_code
from st4rtrack.geometry.camera import pixel_grid, project_world
from st4rtrack.geometry.transforms import rotation_angle
from st4rtrack.geometry.vectors import length
from st4rtrack.hints.frame_order import OrderedFrames
from st4rtrack.io.scene import SceneSink
from st4rtrack.pipeline.cameras import FOCAL_RANGE
from st4rtrack.pipeline.motion import MOVES, displacement
from st4rtrack.pipeline.preparation import PreparedVideo
from st4rtrack.pipeline.quality_warnings import cut_warning, quality_warning
from st4rtrack.pipeline.visibility import VISIBLE_CYCLE_ERROR
from st4rtrack.types import DepthSource, FocalSource, Parallax, PixelMap, QualityReport, QualityWarning, TwoPointmaps

logger = logging.getLogger(__name__)

MEASURED_POINTS = 5000
"""Approximate number of sampled pixels per frame."""
MIN_MEASURED_SHARE = 0.02
"""Minimum usable share of these pixels for the metrics of a frame to be known."""

STEP_NEIGHBOURS = 3
"""Number of camera steps before and after a step that it is compared with."""
MIN_TURN, MIN_TRAVEL = np.deg2rad(0.1), 0.002
"""Noise level of camera steps: radians, and distance over the median depth of the anchor."""

FIXED_TURN = np.deg2rad(0.5)
NO_BASELINE, WEAK_BASELINE = 0.003, 0.03
"""Maximum distance of a camera from the anchor camera, over the median anchor depth, for parallax class none and weak."""

MAX_CAMERA_STEP = 8.0
"""Ratio of a step to the median of its neighbours above which the pose jumps."""
MAX_REPROJECTION, MAX_FLOW_DISAGREEMENT = 0.03, 0.03
"""In long sides of the source image: values above which cameras and points contradict the video."""
MAX_UNSOLVED_SHARE = 0.2
"""Share of unsolved frames above which a scene is unreliable."""
FOCAL_LIMITS = (0.44, 1.65)
"""In long sides of the image: focal lengths of the camera solver outside count as at the limits of what is likely."""
MEASURED_FRAMES = 32
"""Number of frames by which the share of measured depth is estimated."""
MOTION_CODES = frozenset({"zoom", "rotation_only", "fixed_camera"})
"""Camera motion warnings of which only one is reported."""
MIN_FOCAL_FRAMES, MIN_MOTION_FRAMES = 13, 8
"""Minimum number of frames to estimate the focal length, and to distinguish a camera without parallax from a slow one."""


def frame_quality(
    anchor_points: np.ndarray,
    maps: TwoPointmaps,
    world_from_camera: np.ndarray,
    intrinsics: np.ndarray,
    visible: np.ndarray,
    pixel_map: PixelMap,
    *,
    flow: np.ndarray | None = None,
    cycle_error: np.ndarray | None = None,
) -> dict[str, float]:
    """Metrics of one frame, source pixels, NaN where unknown; fields of `SceneSink.write_frame`.

    With flow, static points of the anchor are projected and compared with their pixels by the flow. Without it,
    the points of the frame's reconstruction are compared with their own pixels.

    Args:
        anchor_points: [height, width, 3] anchor points at the anchor time.
        maps: pointmaps of (anchor, frame), in the world.
        world_from_camera: [4, 4] of the frame.
        intrinsics: [3, 3] network pixels.
        visible: [height, width] bool, anchor points visible in the frame.
        pixel_map: source pixels to network pixels.
        flow: [height, width, 2] network pixels, anchor to frame.
        cycle_error: [height, width] of the flow in long sides of the image, NaN where unknown.
    """
    height, width = visible.shape
    stride = max(1, int(np.sqrt(visible.size / MEASURED_POINTS)))
    part = (slice(stride // 2, None, stride), slice(stride // 2, None, stride))
    pixels = pixel_grid(height, width)[part]

    def distance(points_world: np.ndarray, observed_px: np.ndarray) -> np.ndarray:
        """[rows, columns] source pixels between projections of points and their observations; NaN behind the camera."""
        projected, _ = project_world(points_world.reshape(-1, 3), world_from_camera, intrinsics)
        return length((projected.reshape(observed_px.shape) - observed_px) / pixel_map.scale)

    if flow is None or cycle_error is None:
        own = distance(maps.reconstruction.points_world[part], pixels)
        return {"reprojection_px": _median(own, np.ones(own.shape, bool)), "flow_agreement_px": float("nan")}
    observed, start, now = pixels + flow[part], anchor_points[part], np.asarray(maps.tracking.points_world[part])
    with np.errstate(invalid="ignore"):
        matched = visible[part] & (cycle_error[part] < VISIBLE_CYCLE_ERROR)
    centre = np.asarray(world_from_camera)[:3, 3].astype(np.float32)
    static = matched & (displacement(start - centre, now - centre, matched) <= MOVES)
    return {
        "reprojection_px": _median(distance(start, observed), static),
        "flow_agreement_px": _median(distance(now, observed), matched),
    }


def quality_report(
    sink: SceneSink, prepared: PreparedVideo, ordered: OrderedFrames, focal_px: float, moving_share: float
) -> QualityReport:
    """Quality report of a scene with all frames written; logs a warning if the scene is unreliable.

    Args:
        sink: the scene.
        prepared, ordered: the video and its frames, all of which have been read, with observations of detectors.
        focal_px: focal length of the scene, network pixels.
        moving_share: share of dynamic pixels.
    """
    user_focal_px, motion = None if prepared.user is None else prepared.user.focal_px, ordered.motion
    focal_source, focal_at_limit = focal_evidence(user_focal_px, ordered.geometry, focal_px, max(prepared.size))
    parallax = None if motion is None or motion.kind == "unknown" else motion.parallax
    warnings = _observed_warnings(prepared, ordered)
    num_frames = sink.header.num_frames
    solved = np.array([bool(sink.read("solved", t)) for t in range(num_frames)])
    cameras = np.stack([sink.read("world_from_camera", t) for t in range(num_frames)])
    depth = _median_depth(sink)
    steps = camera_steps(cameras, solved, depth)
    report = QualityReport(
        frames_solved=float(solved.mean()),
        reprojection_px=_over_frames(sink, "reprojection_px", solved),
        flow_agreement_px=_over_frames(sink, "flow_agreement_px", solved),
        max_camera_step=float(np.nanmax(steps)) if np.isfinite(steps).any() else None,
        focal_source=focal_source,
        focal_at_limit=focal_at_limit,
        parallax=parallax or parallax_of_cameras(cameras[solved], cameras[sink.header.anchor_index], depth),
        moving_share=moving_share,
        measured_share=_measured_share(sink),
    )
    derived = _derived_warnings(report, solved, steps, max(sink.header.source_size))
    reported = {warning.code for warning in warnings}
    if reported & MOTION_CODES:
        reported |= MOTION_CODES
    every = (*warnings, *(warning for warning in derived if warning.code not in reported))
    if serious := next((warning for warning in every if warning.serious), None):
        logger.warning("the scene is unreliable: %s", serious.sentence)
    return replace(report, warnings=every)


def focal_evidence(
    known_focal_px: float | None, geometry: AnchoredGeometry | None, focal_px: float, size: int
) -> tuple[FocalSource, bool]:
    """Source of the focal length (network pixels; `size`: long side), and whether it lies at a limit of the search."""
    if known_focal_px is not None:
        return "user", False
    if geometry is not None and (geometry.cameras is None or geometry.focal_source != "video"):
        return geometry.focal_source, False  # no search took place
    low, high = FOCAL_RANGE if geometry is None else FOCAL_LIMITS
    return "video", not low < focal_px / size < high


def _observed_warnings(prepared: PreparedVideo, ordered: OrderedFrames) -> list[QualityWarning]:
    """Warnings of the preparation and from image observations."""
    checks, kind, focals_px = ordered.checks, None if ordered.motion is None else ordered.motion.kind, ordered.focals_px
    # with a fixed camera, static edges of the scene look like a logo
    warnings = [warning for warning in prepared.warnings if warning.code != "overlay" or kind != "fixed"]
    if focals_px is not None and (prepared.user is None or prepared.user.focals_px is None):
        zoom = focals_px / focals_px[0]
        warnings.append(quality_warning("zoom_estimated", wide=zoom.min(), tele=zoom.max()))
    if ordered.geometry is not None and ordered.geometry.radial is not None:
        k1, radial_focal_px = ordered.geometry.radial
        warnings.append(quality_warning("distortion", k1=k1, focal_px=radial_focal_px))
    if checks.cuts:
        warnings.append(cut_warning(checks.cuts, prepared.source.frame_index))
    whole = unusable_warning_code(checks.states.values())
    if whole:
        warnings.append(quality_warning("low_texture" if whole == "low_texture" else "low_light"))
    elif unusable := checks.frames_in("black", "dark", "low_texture"):
        warnings.append(quality_warning("dark_frames", unusable))
    codes = {"rotation": "rotation_only", "fixed": "fixed_camera"} if len(prepared.source) >= MIN_MOTION_FRAMES else {}
    code = "zoom" if ordered.zooms else codes.get(kind or "")
    return [*warnings, quality_warning(code)] if code else warnings


def _measured_share(sink: SceneSink) -> float | None:
    """Share of the pixels of up to `MEASURED_FRAMES` frames whose depth was measured; `None` where all depth is a network's."""
    if "reconstruction_source" not in sink.header.fields:
        return None
    frames = np.unique(np.linspace(0, sink.header.num_frames - 1, MEASURED_FRAMES).round().astype(int)).tolist()
    sources = np.stack([np.asarray(sink.read("reconstruction_source", t)) for t in frames])
    return None if (sources == DepthSource.NETWORK).all() else float((sources == DepthSource.MEASURED).mean())


def camera_steps(world_from_camera: np.ndarray, solved: np.ndarray, depth: float) -> np.ndarray:
    """Ratio [time - 1] of each camera step to the median of the steps around it, of rotation or translation; NaN: unknown."""
    turn = rotation_angle(np.swapaxes(world_from_camera[:-1, :3, :3], 1, 2) @ world_from_camera[1:, :3, :3])
    travel = length(np.diff(world_from_camera[:, :3, 3], axis=0)) / depth
    known = solved[:-1] & solved[1:]
    ratios = np.full((2, len(known)), np.nan)
    for row, (steps, noise) in enumerate(((turn, MIN_TURN), (travel, MIN_TRAVEL))):
        for t in np.flatnonzero(known).tolist():
            around = [
                k for k in range(t - STEP_NEIGHBOURS, t + STEP_NEIGHBOURS + 1) if k != t and 0 <= k < len(known) and known[k]
            ]
            if len(around) >= 2:
                ratios[row, t] = steps[t] / max(float(np.median(steps[around])), noise)
    return np.fmax(*ratios)


def parallax_of_cameras(world_from_camera: np.ndarray, anchor: np.ndarray, depth: float) -> Parallax:
    """Parallax class of cameras [time, 4, 4] relative to the anchor camera, for a scene depth in world units."""
    baseline = float(length(world_from_camera[:, :3, 3] - anchor[:3, 3]).max()) / depth
    if baseline < NO_BASELINE:
        turn = float(rotation_angle(anchor[:3, :3].T @ world_from_camera[:, :3, :3]).max())
        return "none" if turn < FIXED_TURN else "rotation"
    return "weak" if baseline < WEAK_BASELINE else "good"


def _derived_warnings(report: QualityReport, solved: np.ndarray, steps: np.ndarray, long_side_px: int) -> list[QualityWarning]:
    """Warnings derived from the metrics alone."""
    found = []
    if unsolved := np.flatnonzero(~solved).tolist():
        serious = len(unsolved) > MAX_UNSOLVED_SHARE * len(solved)
        found.append(quality_warning("unsolved_frames", unsolved, serious=serious, percent=100 * len(unsolved) / len(solved)))
    with np.errstate(invalid="ignore"):
        if jumps := (1 + np.flatnonzero(steps > MAX_CAMERA_STEP)).tolist():
            found.append(quality_warning("camera_jump", jumps, ratio=float(np.nanmax(steps))))
    if report.focal_at_limit:
        found.append(quality_warning("focal_at_limit"))
    tells_motion = len(solved) >= MIN_MOTION_FRAMES
    if len(solved) < MIN_FOCAL_FRAMES and report.focal_source not in ("user", "metadata"):
        unknown = "the focal length" if tells_motion else "the focal length and the camera motion"
        found.append(quality_warning("short_video", count=len(solved), needed=MIN_FOCAL_FRAMES, unknown=unknown))
    if report.parallax in ("none", "rotation") and solved.sum() > 1 and tells_motion:
        found.append(quality_warning("fixed_camera" if report.parallax == "none" else "rotation_only"))
    limits = ((report.reprojection_px, MAX_REPROJECTION), (report.flow_agreement_px, MAX_FLOW_DISAGREEMENT))
    if worst := [figure for figure, limit in limits if figure is not None and figure > limit * long_side_px]:
        found.append(quality_warning("inconsistent", error_px=max(worst)))
    return found


def _median_depth(sink: SceneSink) -> float:
    """Median depth of the anchor points, world units; 1 if none is in front of the camera."""
    depth = np.asarray(sink.read("tracking_points", sink.header.anchor_index), np.float32)[..., 2]
    depth = depth[np.isfinite(depth) & (depth > 0)]
    return float(np.median(depth)) if depth.size else 1.0


def _over_frames(sink: SceneSink, name: str, solved: np.ndarray) -> float | None:
    """Median of a metric over the solved frames except the anchor; `None` if no frame has it."""
    if name not in sink.header.fields:
        return None
    frames = [t for t in np.flatnonzero(solved).tolist() if t != sink.header.anchor_index]
    values = np.array([float(sink.read(name, t)) for t in frames])
    values = values[np.isfinite(values)]
    return float(np.median(values)) if values.size else None


def _median(values: np.ndarray, chosen: np.ndarray) -> float:
    """Median of the selected finite values; NaN if they are too few."""
    values = values[chosen & np.isfinite(values)]
    return float(np.median(values)) if values.size > MIN_MEASURED_SHARE * chosen.size else float("nan")
