"""Classical geometry of an image pair: optical flow, relative camera, triangulated depth. OpenCV and PoseLib do the estimation.

Symbols: i the anchor, j the frame; ray = (x / z, y / z, 1) of a pixel under an assumed focal length (nobody knows the true one
yet); depths in units of the median triangulated distance from the anchor.
Nothing here is learnt, and nothing here knows that things move: what moves gets a wrong depth or none.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np
import poselib

from st4rtrack.geometry.camera import pixel_grid
from st4rtrack.geometry.transforms import invert_rigid, rigid
from st4rtrack.model.wide_baseline import SparseMatches, flow_through, sparse_matches

ASSUMED_FOCAL = 0.9
"""Focal length in long sides of the image: 58 degrees, the middle of what people film with."""

MATCHES = 1000
MAX_EPIPOLAR_ERROR_PX = 1.0
MIN_MATCHED_SHARE = 0.05
WELL_MATCHED_SHARE = 0.5
MIN_MEDIAN_PARALLAX = np.deg2rad(0.12)
MIN_PARALLAX = np.deg2rad(0.25)
MIN_INLIER_SHARE = 0.4


@dataclass
class TwoView:
    """What two images say about each other.

    Attributes:
        forward_flow, backward_flow: [height, width, 2] pixels, anchor to frame and frame to anchor.
        anchor_depth, frame_depth: [height, width] triangulated z-depth in the camera of either image, 0 where there is none.
        anchor_from_frame: [4, 4] relative camera; its translation is zero where there is no parallax.
    """

    forward_flow: np.ndarray
    backward_flow: np.ndarray
    anchor_depth: np.ndarray
    frame_depth: np.ndarray
    anchor_from_frame: np.ndarray


def estimate_two_view(anchor_rgb: np.ndarray, frame_rgb: np.ndarray) -> TwoView:
    """Classical two-view geometry of a pair of images [height, width, 3] uint8. Same images, same result: the solver is seeded."""
    height, width = anchor_rgb.shape[:2]
    grid = pixel_grid(height, width).astype(np.float32)
    focal = ASSUMED_FOCAL * max(height, width)
    camera = {"model": "SIMPLE_PINHOLE", "width": width, "height": height, "params": [focal, width / 2, height / 2]}
    anchor, frame = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (anchor_rgb, frame_rgb))
    forward, backward, sparse = _flow_and_matches(anchor, frame, camera)
    matched = forward_backward_error(forward, backward) < 1.0
    if matched.mean() >= MIN_MATCHED_SHARE:
        anchor_from_frame = _relative_camera(grid, forward, matched, camera)
    else:
        anchor_from_frame = np.eye(4) if sparse is None else invert_rigid(sparse.frame_from_anchor)
    frame_from_anchor = invert_rigid(anchor_from_frame)
    anchor_depth = _triangulate(grid, forward, matched, frame_from_anchor, focal)
    scale = float(np.median(anchor_depth[anchor_depth > 0])) if (anchor_depth > 0).mean() > 0.02 else 0.0
    if scale == 0.0:  # no parallax that can be trusted: the camera turned at most
        anchor_from_frame[:3, 3] = 0.0
        zeros = np.zeros((height, width), np.float32)
        return TwoView(forward, backward, zeros, zeros, anchor_from_frame)
    backward_matched = forward_backward_error(backward, forward) < 1.0
    frame_depth = _triangulate(grid, backward, backward_matched, anchor_from_frame, focal)
    anchor_from_frame[:3, 3] /= scale
    return TwoView(forward, backward, anchor_depth / scale, frame_depth / scale, anchor_from_frame)


def estimate_many(pairs: list[tuple[np.ndarray, np.ndarray]]) -> list[TwoView]:
    """`estimate_two_view` of many pairs, on as many threads as OpenCV may use."""
    if len(pairs) <= 1 or cv2.getNumThreads() <= 1:
        return [estimate_two_view(*pair) for pair in pairs]
    with ThreadPoolExecutor(cv2.getNumThreads()) as pool:
        return list(pool.map(lambda pair: estimate_two_view(*pair), pairs))


def forward_backward_error(forward: np.ndarray, backward: np.ndarray) -> np.ndarray:
    """Distance in pixels [height, width] by which following the flow there and back misses the start; large outside the image."""
    height, width = forward.shape[:2]
    index = (pixel_grid(height, width) - 0.5).astype(np.float32) + forward
    back = cv2.remap(
        backward, index[..., 0], index[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=(1e3, 1e3, 0, 0)
    )
    return np.linalg.norm(forward + back, axis=-1)


def _flow_and_matches(anchor: np.ndarray, frame: np.ndarray, camera: dict) -> tuple[np.ndarray, np.ndarray, SparseMatches | None]:
    """Flow [height, width, 2] both ways between grey images; where most of it contradicts itself, started again from sparse matches."""
    height, width = anchor.shape
    if min(height, width) < 16:  # too small for the flow's pyramid
        return np.zeros((height, width, 2), np.float32), np.zeros((height, width, 2), np.float32), None
    solver = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    forward = solver.calc(anchor, frame, None)  # pyright: ignore[reportCallIssue, reportArgumentType] (the stubs want a start)
    backward = solver.calc(frame, anchor, None)  # pyright: ignore[reportCallIssue, reportArgumentType]
    share = (forward_backward_error(forward, backward) < 1.0).mean()
    sparse = sparse_matches(anchor, frame, camera) if share < WELL_MATCHED_SHARE else None
    if sparse is not None:
        guided = solver.calc(anchor, frame, flow_through(sparse.anchor_px, sparse.frame_px, height, width))
        guided_back = solver.calc(frame, anchor, flow_through(sparse.frame_px, sparse.anchor_px, height, width))
        if (forward_backward_error(guided, guided_back) < 1.0).mean() > share:
            return guided, guided_back, sparse
    return forward, backward, sparse


def _relative_camera(grid: np.ndarray, flow: np.ndarray, matched: np.ndarray, camera: dict) -> np.ndarray:
    """`anchor_from_frame` [4, 4] from consistent flow: essential matrix where there is parallax, else rotation alone."""
    focal, size = camera["params"][0], grid.shape[:2]
    rows, columns = np.nonzero(matched)
    chosen = np.linspace(0, len(rows) - 1, min(MATCHES, len(rows))).astype(int)  # raster order spreads them over the image
    source = grid[rows[chosen], columns[chosen]].astype(np.float64)
    target = source + flow[rows[chosen], columns[chosen]]
    rotation = _rotation_between(source, target, focal, size)
    parallax = _angles(_rays(source, focal, size) @ rotation.T, _rays(target, focal, size))
    if np.median(parallax) < MIN_MEDIAN_PARALLAX:
        return invert_rigid(rigid(rotation, np.zeros(3)))
    options = {"max_epipolar_error": MAX_EPIPOLAR_ERROR_PX, "max_iterations": 300, "min_iterations": 50, "seed": 0}
    pose, result = poselib.estimate_relative_pose(source, target, camera, camera, options, {})
    if result["num_inliers"] < MIN_INLIER_SHARE * len(source) or not np.isfinite(pose.t).all():
        return invert_rigid(rigid(rotation, np.zeros(3)))
    return invert_rigid(rigid(np.asarray(pose.R), np.asarray(pose.t)))


def _rotation_between(source: np.ndarray, target: np.ndarray, focal: float, size: tuple[int, int]) -> np.ndarray:
    """`frame_from_anchor` rotation [3, 3] that best turns source rays into target rays: Kabsch, re-weighted against outliers."""
    a, b = _rays(source, focal, size), _rays(target, focal, size)
    a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
    weight = np.ones(len(a))
    rotation = np.eye(3)
    for _ in range(5):
        u, _, vt = np.linalg.svd((b * weight[:, None]).T @ a)
        rotation = u @ np.diag([1.0, 1.0, np.linalg.det(u @ vt)]) @ vt
        weight = 1.0 / np.maximum(np.linalg.norm(b - a @ rotation.T, axis=1), 1e-3)
    return rotation


def _triangulate(
    grid: np.ndarray, flow: np.ndarray, matched: np.ndarray, other_from_this: np.ndarray, focal: float
) -> np.ndarray:
    """z-depth [height, width] of every matched pixel in its own camera, least squares on the two rays; 0 where it is not sound."""
    size = grid.shape[:2]
    rotation = other_from_this[:3, :3].astype(np.float32)
    t = other_from_this[:3, 3].astype(np.float32)
    if not t.any():
        return np.zeros(size, np.float32)
    a = _rays(grid, focal, size).astype(np.float32) @ rotation.T
    b = _rays(grid + flow, focal, size).astype(np.float32)
    # depth_a * a + t = depth_b * b, solved for both depths by the 2x2 normal equations
    aa, bb, ab = (a * a).sum(-1), (b * b).sum(-1), (a * b).sum(-1)
    at, bt = a @ t, b @ t
    determinant = np.maximum(aa * bb - ab * ab, 1e-12)
    depth_a = (ab * bt - bb * at) / determinant
    depth_b = (aa * bt - ab * at) / determinant
    parallax = np.arcsin(np.sqrt(np.minimum(determinant / (aa * bb), 1.0)))
    gap = np.linalg.norm(depth_a[..., None] * a + t - depth_b[..., None] * b, axis=-1)
    sound = matched & (depth_a > 0) & (depth_b > 0) & (parallax > MIN_PARALLAX) & (gap * focal < 2.0 * depth_b)
    return np.where(sound, depth_a, 0.0).astype(np.float32)


def _rays(pixels: np.ndarray, focal: float, size: tuple[int, int]) -> np.ndarray:
    direction = (pixels - (size[1] / 2, size[0] / 2)) / focal
    return np.concatenate([direction, np.ones_like(direction[..., :1])], axis=-1)


def _angles(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.arctan2(np.linalg.norm(np.cross(a, b), axis=-1), (a * b).sum(-1))
