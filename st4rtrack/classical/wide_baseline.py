"""Wide-baseline matching where dense optical flow fails: sparse features, and a smooth initial flow through them.

OpenCV's SIFT detects and describes; PoseLib keeps the inliers of one relative pose.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from st4rtrack.geometry.transforms import rigid

FEATURES = 800
RATIO = 0.85
MAX_EPIPOLAR_ERROR_PX = 1.5
MIN_INLIERS = 16
GRID_STEP_PX = 16
NEIGHBOURS = 8


@dataclass
class SparseMatches:
    """Inliers of one relative pose: `anchor_px`, `frame_px` [matches, 2], and `frame_from_anchor` [4, 4], unit baseline."""

    anchor_px: np.ndarray
    frame_px: np.ndarray
    frame_from_anchor: np.ndarray


def sparse_matches(anchor_grey: np.ndarray, frame_grey: np.ndarray, camera: dict) -> SparseMatches | None:
    """Sparse matches of two images [height, width] uint8 under PoseLib's `camera`, or `None` with too few inliers."""
    import poselib  # lazy import: training on rendered pairs does not need it

    anchor_px, frame_px = _ratio_matches(_features(anchor_grey), _features(frame_grey))
    if len(anchor_px) < MIN_INLIERS:
        return None
    options = {"max_epipolar_error": MAX_EPIPOLAR_ERROR_PX, "max_iterations": 1000, "min_iterations": 100, "seed": 0}
    pose, result = poselib.estimate_relative_pose(anchor_px, frame_px, camera, camera, options, {})
    inliers = np.array(result["inliers"], bool)
    frame_from_anchor = rigid(np.asarray(pose.R), np.asarray(pose.t))
    if inliers.sum() < MIN_INLIERS or not np.isfinite(frame_from_anchor).all():
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


def _features(grey: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions [features, 2] in pixels and normalised descriptors [features, 128] (RootSIFT)."""
    points, descriptors = cv2.SIFT.create(nfeatures=FEATURES, contrastThreshold=0.02).detectAndCompute(grey, None)  # pyright: ignore[reportCallIssue, reportArgumentType] (the stubs need a mask)
    if descriptors is None:
        return np.zeros((0, 2)), np.zeros((0, 128), np.float32)
    positions = np.array([point.pt for point in points]) + 0.5  # OpenCV puts the first centre at zero
    return positions, np.sqrt(descriptors / np.maximum(descriptors.sum(axis=1, keepdims=True), 1e-9))


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
