"""Classical two-view geometry: optical flow, relative pose, triangulated depth. OpenCV and PoseLib do the estimation.

Symbols: i the anchor, j the frame; ray = (x / z, y / z, 1) of a pixel under an assumed focal length (two images alone hardly
constrain the true one); depths in units of the median triangulated distance from the anchor.
Nothing is learned, and the scene is assumed static: dynamic objects get a wrong depth or none. Where dense flow fails, it starts
again from a smooth flow through sparse SIFT matches.
"""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from st4rtrack.classical.flow import dense_flow, returns
from st4rtrack.geometry.camera import pixel_grid
from st4rtrack.geometry.sampling import spread_out
from st4rtrack.geometry.transforms import invert_rigid, rigid
from st4rtrack.geometry.vectors import dot, length
from st4rtrack.threads import parallel_map
from st4rtrack.timing import timed

ASSUMED_FOCAL = 0.9
"""Default focal length in long sides of the image (58 degrees) while none is known: for two-view geometry, key-frame matching,
shot detection and classification of camera motion. For the focal length of a video, see `solver.evidence.PRIOR_FOCAL`."""

SEED = 0
"""Seed of the robust estimators of PoseLib and pycolmap."""

MATCHES = 1000
MAX_EPIPOLAR_ERROR_PX = 1.0
MIN_MATCHED_SHARE = 0.05
WELL_MATCHED_SHARE = 0.5
MIN_MEDIAN_PARALLAX = np.deg2rad(0.12)
MIN_PARALLAX = np.deg2rad(0.25)
MIN_INLIER_SHARE = 0.4

MAX_FEATURES, MIN_FEATURE_CONTRAST = 800, 0.02
RATIO = 0.85
MAX_SPARSE_ERROR_PX = 1.5
MIN_SPARSE_INLIERS = 16
GRID_STEP_PX = 16
NEIGHBOURS = 8


@dataclass
class SparseMatches:
    """Inliers of one relative pose: `anchor_px`, `frame_px` [matches, 2], and `frame_from_anchor` [4, 4], unit baseline."""

    anchor_px: np.ndarray
    frame_px: np.ndarray
    frame_from_anchor: np.ndarray


@dataclass
class TwoView:
    """Two-view geometry estimated without learning.

    Attributes:
        forward_flow, backward_flow: [height, width, 2] pixels, anchor to frame and frame to anchor.
        anchor_depth, frame_depth: [height, width] z-depth in the camera of either image, 0 where unknown.
        anchor_from_frame: [4, 4] relative camera; its translation is zero where there is no parallax.
        focal_px: focal length assumed for all of this; where the camera zooms, that of the frame.
    """

    forward_flow: np.ndarray
    backward_flow: np.ndarray
    anchor_depth: np.ndarray
    frame_depth: np.ndarray
    anchor_from_frame: np.ndarray
    focal_px: float


def estimate_two_view(anchor_rgb: np.ndarray, frame_rgb: np.ndarray) -> TwoView:
    """Two-view geometry of a pair of images [height, width, 3] uint8. Deterministic: the solver is seeded."""
    anchor, frame = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (anchor_rgb, frame_rgb))
    forward, backward, sparse = _flow_and_matches(anchor, frame)
    two_view = two_view_from_flow(forward, backward)
    if sparse is not None and returns(forward, backward, share=0.0).mean() < MIN_MATCHED_SHARE:
        two_view.anchor_from_frame[:3, :3] = sparse.frame_from_anchor[:3, :3].T
    return two_view


def two_view_from_flow(forward: np.ndarray, backward: np.ndarray) -> TwoView:
    """Relative pose and triangulated depths from flow [height, width, 2] in both directions, for the assumed focal length."""
    size = forward.shape[:2]
    focal_px = ASSUMED_FOCAL * max(size)
    grid = pixel_grid(*size)
    matched = returns(forward, backward, share=0.0)
    if matched.mean() < MIN_MATCHED_SHARE:
        return _without_parallax(forward, backward, np.eye(4), focal_px)
    frame_from_anchor = relative_camera(grid[matched], (grid + forward)[matched], focal_px, size)
    depth = _sound_depth(grid, forward, matched, frame_from_anchor, focal_px)
    if (depth > 0).mean() <= 0.02:
        return _without_parallax(forward, backward, invert_rigid(frame_from_anchor), focal_px)
    scale = float(np.median(depth[depth > 0]))
    anchor_from_frame = invert_rigid(frame_from_anchor)
    frame_depth = _sound_depth(grid, backward, returns(backward, forward, share=0.0), anchor_from_frame, focal_px)
    anchor_from_frame[:3, 3] /= scale
    return TwoView(forward, backward, depth / scale, frame_depth / scale, anchor_from_frame, focal_px)


@timed("geometry")
def estimate_many(pairs: list[tuple[np.ndarray, np.ndarray]]) -> list[TwoView]:
    """`estimate_two_view` of many pairs, in parallel on OpenCV's number of threads."""
    return parallel_map(lambda pair: estimate_two_view(*pair), pairs)


def relative_camera(anchor_px: np.ndarray, frame_px: np.ndarray, focal_px: float, size: tuple[int, int]) -> np.ndarray:
    """`frame_from_anchor` [4, 4] of matches [points, 2]: unit baseline with parallax, otherwise rotation only."""
    chosen = spread_out(len(anchor_px), MATCHES)
    source, target = anchor_px[chosen].astype(np.float64), frame_px[chosen].astype(np.float64)
    a, b = pixel_rays(source, focal_px, size), pixel_rays(target, focal_px, size)
    rotation = rotation_between(a, b)
    if np.median(_angles(a @ rotation.T, b)) < MIN_MEDIAN_PARALLAX:
        return rigid(rotation, np.zeros(3))
    pose, result = relative_pose(source, target, pinhole(focal_px, size), MAX_EPIPOLAR_ERROR_PX, iterations=(50, 300))
    sound = result["num_inliers"] >= MIN_INLIER_SHARE * len(source) and np.isfinite(pose[:3, 3]).all()
    return pose if sound else rigid(rotation, np.zeros(3))


def triangulated_depths(
    anchor_rays: np.ndarray, frame_rays: np.ndarray, frame_from_anchor: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """z-depth in either camera [...] at the closest approach of two rays [..., 3], and the angle between them (radians)."""
    a, b = anchor_rays @ frame_from_anchor[:3, :3].T, frame_rays
    t = frame_from_anchor[:3, 3]
    aa, bb, ab = dot(a, a), dot(b, b), dot(a, b)
    at, bt = a @ t, b @ t
    determinant = np.maximum(aa * bb - ab * ab, 1e-12)
    parallax = np.arcsin(np.sqrt(np.minimum(determinant / (aa * bb), 1.0)))
    return (ab * bt - bb * at) / determinant, (aa * bt - ab * at) / determinant, parallax


def relative_pose(
    source_px: np.ndarray, target_px: np.ndarray, camera: dict, max_error_px: float, *, iterations: tuple[int, int]
) -> tuple[np.ndarray, dict[str, Any]]:
    """`target_from_source` [4, 4] with unit translation from matches [points, 2], and PoseLib's result; RANSAC, seeded."""
    import poselib  # lazy import: training on rendered pairs does not need it

    options = {"max_epipolar_error": max_error_px, **_ransac(iterations)}
    pose, result = poselib.estimate_relative_pose(source_px, target_px, camera, camera, options, {})
    return rigid(np.asarray(pose.R), np.asarray(pose.t)), result


def absolute_pose(
    pixels_px: np.ndarray, points_world: np.ndarray, camera: dict, max_error_px: float, *, iterations: tuple[int, int]
) -> tuple[np.ndarray, dict[str, Any]]:
    """`camera_from_world` [4, 4] by PnP on pixels [points, 2] of points [points, 3], and PoseLib's result; RANSAC, seeded."""
    import poselib  # lazy import: training on rendered pairs does not need it

    options = {"max_reproj_error": max_error_px, **_ransac(iterations)}
    pose, result = poselib.estimate_absolute_pose(pixels_px, points_world, camera, options, {})
    return rigid(np.asarray(pose.R), np.asarray(pose.t)), result


def _ransac(iterations: tuple[int, int]) -> dict[str, int]:
    return {"min_iterations": iterations[0], "max_iterations": iterations[1], "seed": SEED}


def pinhole(focal_px: float, size: tuple[int, int]) -> dict:
    """PoseLib camera with the principal point at the centre of an image of size (height, width)."""
    height, width = size
    return {"model": "SIMPLE_PINHOLE", "width": width, "height": height, "params": [focal_px, width / 2, height / 2]}


def pixel_rays(pixels_px: np.ndarray, focal_px: float, size: tuple[int, int]) -> np.ndarray:
    """Rays (x / z, y / z, 1) [..., 3] of pixels [..., 2]."""
    across = (pixels_px - (size[1] / 2, size[0] / 2)) / focal_px
    return np.concatenate([across, np.ones_like(across[..., :1])], axis=-1)


def pixels_of_points(points: np.ndarray, focal_px: float, size: tuple[int, int]) -> np.ndarray:
    """Pixels [..., 2] of points [..., 3] in the camera frame, the inverse of `pixel_rays`; depth is clamped to at least 1e-3."""
    return points[..., :2] / np.maximum(points[..., 2:], 1e-3) * focal_px + (size[1] / 2, size[0] / 2)


def _without_parallax(forward: np.ndarray, backward: np.ndarray, anchor_from_frame: np.ndarray, focal_px: float) -> TwoView:
    """Two-view geometry without depth and translation: only the rotation of the pose is used."""
    turned = rigid(anchor_from_frame[:3, :3], np.zeros(3))
    unknown = np.zeros(forward.shape[:2], np.float32)
    return TwoView(forward, backward, unknown, unknown, turned, focal_px)


def _flow_and_matches(anchor: np.ndarray, frame: np.ndarray) -> tuple[np.ndarray, np.ndarray, SparseMatches | None]:
    """Flow [height, width, 2] both ways between grey images; if most of it is inconsistent, restarted from sparse matches."""
    height, width = anchor.shape
    if min(height, width) < 16:  # too small for the flow pyramid
        return np.zeros((height, width, 2), np.float32), np.zeros((height, width, 2), np.float32), None
    forward, backward = dense_flow(anchor, frame), dense_flow(frame, anchor)
    share = returns(forward, backward, share=0.0).mean()
    if share >= WELL_MATCHED_SHARE:
        return forward, backward, None
    sparse = sparse_matches(anchor, frame, pinhole(ASSUMED_FOCAL * max(height, width), (height, width)))
    if sparse is not None:
        guided = dense_flow(anchor, frame, flow_through(sparse.anchor_px, sparse.frame_px, height, width))
        guided_back = dense_flow(frame, anchor, flow_through(sparse.frame_px, sparse.anchor_px, height, width))
        if returns(guided, guided_back, share=0.0).mean() > share:
            return guided, guided_back, sparse
    return forward, backward, sparse


def rotation_between(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """`frame_from_anchor` rotation [3, 3] that best aligns rays a with b [points, 3]: Kabsch, re-weighted against outliers."""
    a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
    weight = np.ones(len(a))
    rotation = np.eye(3)
    for _ in range(5):
        u, _, vt = np.linalg.svd((b * weight[:, None]).T @ a)
        rotation = u @ np.diag([1.0, 1.0, np.linalg.det(u @ vt)]) @ vt
        weight = 1.0 / np.maximum(length(b - a @ rotation.T), 1e-3)
    return rotation


def _sound_depth(
    grid: np.ndarray, flow: np.ndarray, matched: np.ndarray, other_from_this: np.ndarray, focal_px: float
) -> np.ndarray:
    """z-depth [height, width] float32 of every matched pixel in its own camera; 0 where unreliable."""
    size = flow.shape[:2]
    if not other_from_this[:3, 3].any():
        return np.zeros(size, np.float32)
    a, b = pixel_rays(grid, focal_px, size), pixel_rays(grid + flow, focal_px, size)
    depth, other, parallax = triangulated_depths(a, b, other_from_this)
    in_other = (a * depth[..., None]) @ other_from_this[:3, :3].T + other_from_this[:3, 3]
    gap = length(in_other - other[..., None] * b)
    sound = matched & (depth > 0) & (other > 0) & (parallax > MIN_PARALLAX) & (gap * focal_px < 2.0 * other)
    return np.where(sound, depth, 0.0).astype(np.float32)


def _angles(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.arctan2(length(np.cross(a, b)), dot(a, b))


def sparse_matches(anchor_grey: np.ndarray, frame_grey: np.ndarray, camera: dict) -> SparseMatches | None:
    """Sparse matches of two images [height, width] uint8 under PoseLib's `camera`, or `None` with too few inliers."""
    features = (root_sift(grey, MAX_FEATURES, MIN_FEATURE_CONTRAST) for grey in (anchor_grey, frame_grey))
    anchor_px, frame_px = _ratio_matches(*features)
    if len(anchor_px) < MIN_SPARSE_INLIERS:
        return None
    frame_from_anchor, result = relative_pose(anchor_px, frame_px, camera, MAX_SPARSE_ERROR_PX, iterations=(100, 1000))
    inliers = np.array(result["inliers"], bool)
    if inliers.sum() < MIN_SPARSE_INLIERS or not np.isfinite(frame_from_anchor).all():
        return None
    return SparseMatches(anchor_px[inliers], frame_px[inliers], frame_from_anchor)


def flow_through(source_px: np.ndarray, target_px: np.ndarray, height: int, width: int) -> np.ndarray:
    """Smooth flow [height, width, 2] through matches [matches, 2]: moving least squares, affine where the matches allow it."""
    v, u = np.mgrid[GRID_STEP_PX / 2 : height : GRID_STEP_PX, GRID_STEP_PX / 2 : width : GRID_STEP_PX]
    offset = source_px[None] - np.stack([u, v], axis=-1).reshape(-1, 1, 2)
    square = (offset**2).sum(-1)
    nearest = np.partition(square, min(NEIGHBOURS, len(source_px) - 1), axis=1)[:, [min(NEIGHBOURS, len(source_px) - 1)]]
    weight = np.exp(-square / (nearest + 25.0)) + 1e-6
    design = np.concatenate([np.ones((*square.shape, 1)), offset / 64.0], axis=-1)
    normal = np.einsum("gn,gni,gnj->gij", weight, design, design) + np.diag([1e-9, 0.3, 0.3])  # translation if matches are few
    right = np.einsum("gn,gni,nk->gik", weight, design, target_px - source_px)
    coarse = np.linalg.solve(normal, right)[:, 0].reshape(*u.shape, 2)
    return cv2.resize(coarse.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)


def root_sift(
    grey: np.ndarray, max_features: int, min_contrast: float, mask: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """SIFT features of an image [height, width] uint8: pixels [features, 2], and descriptors [features, 128] of unit length."""
    finder = cv2.SIFT.create(nfeatures=max_features, contrastThreshold=min_contrast)
    points, descriptors = finder.detectAndCompute(grey, mask)  # pyright: ignore[reportCallIssue, reportArgumentType] (the stubs need a mask)
    if descriptors is None:
        return np.zeros((0, 2)), np.zeros((0, 128), np.float32)
    px = np.array([point.pt for point in points]) + 0.5  # in OpenCV the first pixel centre is at zero
    return px, np.sqrt(descriptors / np.maximum(descriptors.sum(axis=1, keepdims=True), 1e-9))


def _ratio_matches(anchor: tuple[np.ndarray, np.ndarray], frame: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Mutual nearest neighbours that pass the ratio test: pixels [matches, 2] in either image."""
    if len(anchor[0]) < 2 or len(frame[0]) < 2:
        return np.zeros((0, 2)), np.zeros((0, 2))
    similarity = anchor[1] @ frame[1].T
    best = similarity.argmax(axis=1)
    mutual = similarity.argmax(axis=0)[best] == np.arange(len(best))
    second, first = np.sort(similarity, axis=1)[:, -2:].T
    clear = np.sqrt(np.maximum(2 - 2 * first, 0)) < RATIO * np.sqrt(np.maximum(2 - 2 * second, 0))
    keep = mutual & clear
    return anchor[0][keep], frame[0][best[keep]]
