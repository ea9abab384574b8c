"""Dense static depth of a frame from known cameras: triangulation along optical flow to several neighbours, with expected error.

Every neighbour proposes an inverse depth per pixel; the one on which the neighbours agree best is refined by robust least
squares.
Dynamic objects have no consistent depth, and pixels without parallax no unique one: both stay unknown.

Symbols: ray = (x / z, y / z, 1) of a pixel; w inverse z-depth; a + w t the point in a neighbour's camera, up to scale.
"""

from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from st4rtrack.classical.flow import dense_flow, returns
from st4rtrack.classical.two_view import pixel_rays
from st4rtrack.geometry.camera import intrinsics_from_focal, pixel_grid
from st4rtrack.geometry.transforms import invert_rigid, rotation_angle
from st4rtrack.geometry.vectors import length
from st4rtrack.threads import parallel_map
from st4rtrack.timing import timed

BASELINES = (0.04, 0.12)
"""Baselines of neighbours before and after a frame, in units of its median depth: short for matching, long for precision."""
KNOWN_BASELINES = (0.75, 2.0)
"""Multiples of these baselines between which a neighbour with cached flow is preferred."""
MAX_ROTATION = np.deg2rad(25)
FRAMES_APART = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
"""Candidate frame distances of neighbours: few, so that most pairs serve both frames (`PairFlows`)."""
KEPT_BYTES = 64 << 20
MIN_VIEWS = 2
MAX_ERROR = 0.0047
"""Maximum mean reprojection error, long sides of the image (1.2 px at 256)."""
WRONG_DEPTH, MIN_COST = 1.3, 0.0012
"""A depth wrong by this factor must increase the error by at least `MIN_COST` (0.3 px at 256)."""
CUT = 0.012
"""Error above which a neighbour counts as an outlier."""
FLOW_NOISE = 0.0012
"""Standard deviation of the flow (0.3 px at 256)."""
ROUNDS = 3


@dataclass(frozen=True)
class StaticDepth:
    """Static `depth` of a frame [height, width] (0 where unknown), and the expected `log_error` of its logarithm (infinite)."""

    depth: np.ndarray
    log_error: np.ndarray

    @property
    def known(self) -> np.ndarray:
        """[height, width] bool, pixels with known depth."""
        return self.depth > 0

    def merged(self, other: "StaticDepth") -> "StaticDepth":
        """Merge two depths of a frame: in every pixel, take the one with the smaller expected error."""
        better = self.log_error <= other.log_error
        return StaticDepth(np.where(better, self.depth, other.depth), np.where(better, self.log_error, other.log_error))


def neighbours(world_from_camera: np.ndarray, index: int, median_depth: float, at_hand: Collection[int] = ()) -> list[int]:
    """Select the neighbours to triangulate a frame with: on either side, the first ones beyond each baseline.

    Args:
        world_from_camera: [T, 4, 4], NaN where unsolved.
        median_depth: median depth of the frame, in the unit of the cameras.
        at_hand: frames whose flow is cached.
    """
    relative = invert_rigid(world_from_camera[index]) @ world_from_camera
    baseline = length(relative[:, :3, 3]) / median_depth
    turned = rotation_angle(relative[:, :3, :3])
    usable = np.isfinite(baseline) & (turned < MAX_ROTATION)
    chosen = set()
    for direction in (range(index + 1, len(baseline)), range(index - 1, -1, -1)):
        for wanted in BASELINES:
            near = [direction[apart - 1] for apart in FRAMES_APART if apart <= len(direction)]
            beyond = [k for k in near if usable[k] and baseline[k] >= wanted and k not in chosen]
            low, high = wanted * KNOWN_BASELINES[0], wanted * KNOWN_BASELINES[1]
            known = [k for k in near if k in at_hand and usable[k] and low <= baseline[k] < high and k not in chosen]
            chosen.update((known or beyond)[:1])
    return sorted(chosen)


class PairFlows:
    """Optical flow between frames of a video with known cameras, cached for reuse by the other frame of a pair.

    Args:
        read: function from a frame index to the frame [height, width] uint8 grey.
        world_from_camera: [T, 4, 4].
        focal_px: focal length in pixels of these frames, one or [T].
    """

    def __init__(self, read: Callable[[int], np.ndarray], world_from_camera: np.ndarray, focal_px: float | np.ndarray) -> None:
        self._read, self._world_from_camera = read, world_from_camera
        self._focal_px = np.broadcast_to(focal_px, len(world_from_camera))
        self._kept: OrderedDict[tuple[int, int], tuple[np.ndarray, np.ndarray]] = OrderedDict()

    def between(self, index: int, others: list[int], median_depth: float) -> list[tuple[np.ndarray, np.ndarray]]:
        """Flow [height, width, 2] from a frame to each of some others and back.

        Args:
            median_depth: median depth of the frame, which initialises the search.
        """
        missing = [k for k in others if self._key(index, k) not in self._kept]
        found = parallel_map(lambda k: self._flow(index, k, median_depth), missing)
        here = dict(zip(missing, found, strict=True))
        for k, (forward, backward) in here.items():
            self._kept[self._key(index, k)] = (forward, backward) if index < k else (backward, forward)
        kept = [self._kept[self._key(index, k)] for k in others]
        flows = [(there, back) if index < k else (back, there) for k, (there, back) in zip(others, kept, strict=True)]
        while flows and len(self._kept) * 2 * flows[0][0].nbytes > KEPT_BYTES:
            self._kept.popitem(last=False)
        return flows

    def at_hand(self, index: int) -> set[int]:
        """Frames with cached flow to or from a frame."""
        return {a + b - index for a, b in self._kept if index in (a, b)}

    def _key(self, a: int, b: int) -> tuple[int, int]:
        return min(a, b), max(a, b)

    def _flow(self, index: int, other: int, median_depth: float) -> tuple[np.ndarray, np.ndarray]:
        here, there = self._read(index), self._read(other)
        size = (here.shape[0], here.shape[1])
        camera = invert_rigid(self._world_from_camera[other]) @ self._world_from_camera[index]
        focals = float(self._focal_px[index]), float(self._focal_px[other])
        start = _plane_flow(camera, focals, size, median_depth)
        back = _plane_flow(invert_rigid(camera), (focals[1], focals[0]), size, median_depth)
        pairs = ((here, there, start), (there, here, back))
        forward, backward = (dense_flow(*pair, to_pixels=True) for pair in pairs)
        return forward, backward


@timed("static_depth")
def static_depth(
    flows: PairFlows,
    index: int,
    world_from_camera: np.ndarray,
    focal_px: float | np.ndarray,
    median_depth: float,
    size: tuple[int, int],
) -> StaticDepth:
    """Static depth of a frame of a video with known cameras.

    Args:
        flows: flow between frames of the video.
        world_from_camera: [T, 4, 4], NaN where unknown.
        focal_px: focal length in pixels of these frames, one or [T].
        median_depth: estimate of the frame's median depth, to initialise the flow and choose the neighbours.
        size: (height, width).
    """
    chosen = []
    if np.isfinite(world_from_camera[index]).all():
        chosen = neighbours(world_from_camera, index, median_depth, flows.at_hand(index))
    cameras = [invert_rigid(world_from_camera[k]) @ world_from_camera[index] for k in chosen]
    pairs = flows.between(index, chosen, median_depth)
    valid = [returns(forward, backward, share=0.02) for forward, backward in pairs]
    focals = np.broadcast_to(focal_px, len(world_from_camera))
    return depth_from_flow([forward for forward, _ in pairs], valid, cameras, float(focals[index]), size, focals[chosen])


def depth_from_flow(
    flows: list[np.ndarray],
    valid: list[np.ndarray],
    cameras: list[np.ndarray],
    focal_px: float,
    size: tuple[int, int],
    other_focals_px: Sequence[float] | np.ndarray | None = None,
) -> StaticDepth:
    """Static depth of a frame from flow to other frames with known cameras.

    Args:
        flows: [height, width, 2] pixels, from the frame to each other one.
        valid: [height, width] bool per flow, where it is reliable.
        cameras: `other_from_frame` [4, 4] per flow.
        focal_px: focal length of the frame.
        size: (height, width).
        other_focals_px: focal lengths of the other frames; default: the same.
    """
    result = StaticDepth(np.zeros(size, np.float32), np.full(size, np.inf, np.float32))
    if len(flows) < MIN_VIEWS:
        return result
    chosen = np.flatnonzero(np.sum(valid, axis=0) >= MIN_VIEWS)
    grid = pixel_grid(*size).reshape(-1, 2)[chosen]
    rays = pixel_rays(grid, focal_px, size)
    others = [focal_px] * len(flows) if other_focals_px is None else list(other_focals_px)
    views = [
        _View.of(rays, grid + flow.reshape(-1, 2)[chosen], mask.ravel()[chosen], camera, focal, size)
        for flow, mask, camera, focal in zip(flows, valid, cameras, others, strict=True)
    ]
    long_side = max(size)
    best, lowest = np.zeros(len(rays), np.float32), np.full(len(rays), np.inf, np.float32)
    for view in views:
        proposed = view.inverse_depth()
        cost = _mean_cost(views, proposed, CUT * long_side)
        better = view.valid & (proposed > 0) & (cost < lowest)
        best, lowest = np.where(better, proposed, best), np.where(better, cost, lowest)
    inverse, information = _refined(views, best, FLOW_NOISE * long_side)
    cut = CUT * long_side
    cost = _mean_cost(views, inverse, cut)
    wrong = np.minimum(
        _mean_cost(views, inverse * np.float32(WRONG_DEPTH), cut), _mean_cost(views, inverse / np.float32(WRONG_DEPTH), cut)
    )
    known = (inverse > 0) & (cost < MAX_ERROR * long_side) & (wrong > cost + MIN_COST * long_side)
    noise = np.maximum(cost, FLOW_NOISE * long_side)
    error = noise / np.maximum(inverse * np.sqrt(information), 1e-9)
    result.depth.ravel()[chosen[known]] = 1 / inverse[known]
    result.log_error.ravel()[chosen[known]] = error[known]
    return result


@dataclass(frozen=True)
class _View:
    """A neighbouring view: points a + w t [3, points] in its camera, their matches by flow [2, points] (pixels from the image
    centre over the focal length), and the validity of these. Components come first, so that their planes are contiguous."""

    a: np.ndarray
    t: np.ndarray
    target: np.ndarray
    valid: np.ndarray
    focal_px: float

    @classmethod
    def of(
        cls, rays: np.ndarray, pixels: np.ndarray, valid: np.ndarray, camera: np.ndarray, focal_px: float, size: tuple[int, int]
    ) -> "_View":
        a = np.ascontiguousarray((camera[:3, :3] @ rays.T).astype(np.float32))
        target = np.ascontiguousarray(pixel_rays(pixels, focal_px, size)[:, :2].T.astype(np.float32))
        return cls(a, camera[:3, 3].astype(np.float32), target, valid, focal_px)

    def inverse_depth(self) -> np.ndarray:
        """Inverse depth [points] that brings the ray closest to the match, in least squares along the epipolar line."""
        across = self.t[:2, None] - self.target * self.t[2]
        along = self.target * self.a[2] - self.a[:2]
        return (across * along).sum(0) / np.maximum((across**2).sum(0), 1e-12)

    def projection(self, inverse: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Normalised projections [2, points], and the depth up to scale [points]."""
        z = np.maximum(self.a[2] + inverse * self.t[2], np.float32(1e-3))
        return (self.a[:2] + inverse * self.t[:2, None]) / z, z

    def error(self, inverse: np.ndarray) -> np.ndarray:
        """Reprojection error [points] in pixels."""
        at, _ = self.projection(inverse)
        u, v = at - self.target
        return np.sqrt(u * u + v * v) * np.float32(self.focal_px)

    def residual(self, inverse: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Residuals [2, points] in pixels and their derivatives by the inverse depth."""
        at, z = self.projection(inverse)
        focal_px = np.float32(self.focal_px)
        return (at - self.target) * focal_px, (self.t[:2, None] - at * self.t[2]) / z * focal_px


def _mean_cost(views: list[_View], inverse: np.ndarray, cut: float) -> np.ndarray:
    """Mean reprojection error [points] over the valid views, each truncated at `cut`."""
    total = np.zeros(len(inverse), np.float32)
    for view in views:
        total += np.where(view.valid, np.minimum(view.error(inverse), np.float32(cut)), np.float32(0))
    return total / np.maximum(np.sum([view.valid for view in views], axis=0, dtype=np.float32), 1)


def _refined(views: list[_View], inverse: np.ndarray, noise: float) -> tuple[np.ndarray, np.ndarray]:
    """Refine inverse depth [points] by re-weighted Gauss-Newton steps (Cauchy); also its information in squared pixels."""
    information = np.zeros_like(inverse)
    for _ in range(ROUNDS):
        gradient, information = np.zeros_like(inverse), np.zeros_like(inverse)
        for view in views:
            residual, slope = view.residual(inverse)
            weight = view.valid / (1 + (residual**2).sum(0) * np.float32(1 / (2 * noise) ** 2))
            gradient += weight * (residual * slope).sum(0)
            information += weight * (slope**2).sum(0)
        step = gradient / np.maximum(information, 1e-12)
        inverse = inverse - np.clip(step, -0.3 * np.abs(inverse), 0.3 * np.abs(inverse))
    return inverse, information


def _plane_flow(camera: np.ndarray, focals_px: tuple[float, float], size: tuple[int, int], depth: float) -> np.ndarray:
    """Flow [height, width, 2] of a fronto-parallel plane at one depth under a camera motion, with focal length before and after."""
    height, width = size
    here, there = (intrinsics_from_focal(focal, height, width) for focal in focals_px)
    homography = there @ (camera[:3, :3] + np.outer(camera[:3, 3], (0, 0, 1 / depth))) @ np.linalg.inv(here)
    grid = pixel_grid(height, width)
    moved = cv2.perspectiveTransform(grid.reshape(1, -1, 2), homography).reshape(height, width, 2)
    return np.clip(moved - grid, -max(size), max(size)).astype(np.float32)
