"""Survey of an anchor: focal length and static depth from dense matches with several neighbouring frames.

Structure from motion reduced to one image: every point lies on a ray of the anchor, so that only its inverse depth is unknown.
Poses by PoseLib (essential matrix first, then absolute poses); inverse depth as the mean over frames, weighted by parallax
and by reprojection error, alternating with the poses; the focal length is the one with the best agreement of the matches.

Symbols: ray = (x / z, y / z, 1) of an anchor pixel; frames are counted k; lengths in units of the estimated median depth.
"""

from dataclasses import dataclass

import numpy as np

from st4rtrack.classical.two_view import pinhole, pixel_rays, relative_camera, triangulated_depths
from st4rtrack.geometry.transforms import rigid
from st4rtrack.geometry.vectors import length
from st4rtrack.threads import parallel_map

FOCALS = (0.5, 0.62, 0.76, 0.94, 1.17, 1.45)
"""Candidate focal lengths, in long sides of the image: 90 to 38 degrees; refined by a parabola."""
FINER_STEPS = (1.11, 1.055)
PRIOR_FOCAL, PRIOR_SPREAD, PRIOR_WEIGHT_PX = 0.82, 0.35, 0.002
"""Prior over real lenses (phones: 60 to 75 degrees along the long side): median in long sides, standard deviation of its
logarithm, and mean reprojection error equivalent to one squared deviation. Without it, short clips end at a limit of the search.
The median is also the result for a whole video with undetermined focal length: a short pan, forward motion, or no survey. Outside
this search, `two_view.ASSUMED_FOCAL` is the default."""
SEARCH_STEP_PX = 4
MIN_MATCHED_SHARE = 0.15
MIN_KNOWN_SHARE = 0.05
MIN_POSE_INLIERS = 0.3
POSE_POINTS = 500
FIRST_STEP = 3
"""Stride of the frames that are tried for the initial depth."""
POSE_ERROR_PX = 1.5
MIN_PARALLAX = np.deg2rad(0.25)
MAX_PARALLAX = 0.2
AGREES_PX = 2.0
AGREEING_SHARE = 0.6
ROUNDS = 3


@dataclass(frozen=True)
class Matches:
    """Matches of anchor pixels in several frames.

    Attributes:
        anchor_px: [points, 2].
        frame_px: [frames, points, 2].
        valid: [frames, points] bool.
        size: (height, width) of the images.
    """

    anchor_px: np.ndarray
    frame_px: np.ndarray
    valid: np.ndarray
    size: tuple[int, int]

    def coarse(self) -> "Matches":
        """Subset with every second frame and a coarser grid of points; the points must be all pixels in raster order."""
        height, width = self.size
        chosen = np.arange(height * width).reshape(height, width)[::SEARCH_STEP_PX, ::SEARCH_STEP_PX].ravel()
        return Matches(self.anchor_px[chosen], self.frame_px[1::2, chosen], self.valid[1::2, chosen], self.size)


@dataclass(frozen=True)
class Survey:
    """Focal length and depth of an anchor.

    Attributes:
        focal_px: focal length.
        depth: z-depth [height, width] of the anchor where it is static with parallax, or where it is known (else 0; median 1).
        still: [height, width] bool, pixels usable for pose estimation; `None`: all with depth.
        measured: the depth is triangulated or known, not from a prior.
    """

    focal_px: float
    depth: np.ndarray
    still: np.ndarray | None = None
    measured: bool = True


def survey(matches: Matches, focal_px: float | None = None) -> Survey | None:
    """Focal length and depth of an anchor from dense matches (all pixels, in raster order), or `None` without parallax.

    Args:
        matches: matches with the neighbouring frames.
        focal_px: known focal length, or `None`.
    """
    if focal_px is None:
        focal_px = _search_focal(matches.coarse() if len(matches.valid) >= 6 else matches)
        if focal_px is None:
            return None
    depth, _ = _depth_and_cameras(matches, focal_px)
    return None if depth is None else Survey(focal_px, depth.reshape(matches.size).astype(np.float32))


def depth_with_cameras(matches: Matches, frame_from_anchor: list[np.ndarray | None], focal_px: float) -> np.ndarray | None:
    """z-depth [height, width] float64 of the anchor in the unit of known cameras, 0 where unknown; `None` without parallax.

    Args:
        matches: matches with neighbouring frames (all pixels, in raster order).
        frame_from_anchor: [4, 4] per frame, `None` where unknown.
    """
    baselines = [float(np.linalg.norm(camera[:3, 3])) for camera in frame_from_anchor if camera is not None]
    unit = max(baselines, default=0.0)
    if len(baselines) < 2 or unit == 0:
        return None
    rays = pixel_rays(matches.anchor_px, focal_px, matches.size)
    cameras = {k: rigid(camera[:3, :3], camera[:3, 3] / unit) for k, camera in enumerate(frame_from_anchor) if camera is not None}
    depth = _fuse(matches, rays, cameras, focal_px)
    return None if (depth > 0).mean() < MIN_KNOWN_SHARE else unit * depth.reshape(matches.size)


def absolute_camera(
    rays: np.ndarray, depth: np.ndarray, frame_px: np.ndarray, focal_px: float, size: tuple[int, int]
) -> tuple[np.ndarray | None, float]:
    """Pose `frame_from_anchor` [4, 4] by robust PnP, and the inlier share; `None` with fewer than 30 points.

    Args:
        rays: [points, 3] of the anchor; depth: [points], positive; frame_px: [points, 2] observations.
    """
    import poselib  # lazy import: training on rendered pairs does not need it

    if len(depth) < 30:
        return None, 0.0
    chosen = np.linspace(0, len(depth) - 1, min(POSE_POINTS, len(depth))).astype(int)  # raster order: spread over the image
    camera = pinhole(focal_px, size)
    options = {"max_reproj_error": POSE_ERROR_PX, "max_iterations": 200, "min_iterations": 30, "seed": 0}
    points = (rays[chosen] * depth[chosen, None]).astype(np.float64)
    pose, result = poselib.estimate_absolute_pose(frame_px[chosen].astype(np.float64), points, camera, options, {})
    frame_from_anchor = rigid(np.asarray(pose.R), np.asarray(pose.t))
    if not np.isfinite(frame_from_anchor).all():
        return None, 0.0
    return frame_from_anchor, result["num_inliers"] / len(chosen)


def registration_error(
    rays: np.ndarray, depth: np.ndarray, frame_px: np.ndarray, focal_px: float, size: tuple[int, int]
) -> float:
    """Mean reprojection error in pixels, each truncated at twice `AGREES_PX`, after `absolute_camera` with this focal length."""
    camera, _ = absolute_camera(rays, depth, frame_px, focal_px, size)
    if camera is None:
        return 2 * AGREES_PX
    return float(np.minimum(_re_projection_error(rays, depth, frame_px, camera, focal_px, size), 2 * AGREES_PX).mean())


def _depth_and_cameras(matches: Matches, focal_px: float) -> tuple[np.ndarray | None, dict[int, np.ndarray]]:
    """Depth [points] (0 where unknown) and `frame_from_anchor` by frame; `None` and an empty dictionary without parallax."""
    depth = _first_depth(matches, focal_px)
    cameras: dict[int, np.ndarray] = {}
    if depth is None:
        return None, cameras
    rays = pixel_rays(matches.anchor_px, focal_px, matches.size)
    for _ in range(ROUNDS):
        cameras = _resect(matches, rays, depth, focal_px)
        if len(cameras) < 2:
            break
        fused = _fuse(matches, rays, cameras, focal_px)
        if (fused > 0).mean() < MIN_KNOWN_SHARE:
            break
        depth = fused / np.median(fused[fused > 0])
    return (depth, cameras) if len(cameras) >= 2 else (None, {})


def _first_depth(matches: Matches, focal_px: float) -> np.ndarray | None:
    """Initial depth by triangulation with the single frame that gives the most points and parallax."""
    best, found = 0.0, None
    rays = pixel_rays(matches.anchor_px, focal_px, matches.size)
    tried = slice(None, None, -FIRST_STEP)  # the last frame most likely has parallax
    for frame_px, valid in zip(matches.frame_px[tried], matches.valid[tried], strict=True):
        if valid.mean() < MIN_MATCHED_SHARE:
            continue
        frame_from_anchor = relative_camera(matches.anchor_px[valid], frame_px[valid], focal_px, matches.size)
        if not frame_from_anchor[:3, 3].any():
            continue
        depth, _, parallax = triangulated_depths(rays, pixel_rays(frame_px, focal_px, matches.size), frame_from_anchor)
        sound = valid & (_re_projection_error(rays, depth, frame_px, frame_from_anchor, focal_px, matches.size) < POSE_ERROR_PX)
        sound &= (depth > 0) & (parallax > MIN_PARALLAX)
        worth = sound.mean() * min(float(np.median(parallax[sound])), 0.15) if sound.any() else 0.0
        if worth > best:
            best, found = worth, np.where(sound, depth, 0.0)
    return None if found is None or (found > 0).mean() < MIN_KNOWN_SHARE else found / np.median(found[found > 0])


def _resect(matches: Matches, rays: np.ndarray, depth: np.ndarray, focal_px: float) -> dict[int, np.ndarray]:
    cameras = {}
    for k, (frame_px, valid) in enumerate(zip(matches.frame_px, matches.valid, strict=True)):
        use = valid & (depth > 0)
        camera, agreeing = absolute_camera(rays[use], depth[use], frame_px[use], focal_px, matches.size)
        if camera is not None and agreeing > MIN_POSE_INLIERS:
            cameras[k] = camera
    return cameras


def _fuse(matches: Matches, rays: np.ndarray, cameras: dict[int, np.ndarray], focal_px: float) -> np.ndarray:
    """Depth [points] from all frames, 0 without agreement: mean inverse depth, re-weighted by reprojection error."""
    inverse, weight = [], []
    for k, camera in cameras.items():
        depth, other, parallax = triangulated_depths(rays, pixel_rays(matches.frame_px[k], focal_px, matches.size), camera)
        sound = matches.valid[k] & (depth > 0) & (other > 0) & (parallax > MIN_PARALLAX)
        sound &= _re_projection_error(rays, depth, matches.frame_px[k], camera, focal_px, matches.size) < POSE_ERROR_PX
        inverse.append(np.where(sound, 1 / np.maximum(depth, 1e-6), 0.0))
        weight.append(np.where(sound, np.minimum(parallax, MAX_PARALLAX) ** 2, 0.0))
    inverse, weight = np.stack(inverse), np.stack(weight)
    valid = matches.valid[list(cameras)]
    robust, error = weight, np.zeros_like(weight)
    mean = np.zeros(len(rays))
    for _ in range(3):
        mean = (robust * inverse).sum(0) / np.maximum(robust.sum(0), 1e-12)
        error = _errors(matches, rays, 1 / np.maximum(mean, 1e-6), cameras, focal_px)
        robust = weight / (1 + error**2)
    agreeing = (valid & (error < AGREES_PX)).sum(0)
    known = (robust.sum(0) > 1e-5) & (agreeing >= np.maximum(2, AGREEING_SHARE * valid.sum(0)))
    return np.where(known, 1 / np.maximum(mean, 1e-6), 0.0)


def _search_focal(matches: Matches) -> float | None:
    """Focal length with the best agreement of the matches: a coarse search, then finer steps around the minimum."""
    long_side = max(matches.size)

    def cost(ratio: float) -> float:
        deviation = np.log(ratio / PRIOR_FOCAL) / PRIOR_SPREAD
        return _disagreement(matches, ratio * long_side) + PRIOR_WEIGHT_PX * deviation**2

    def costs_of(ratios: tuple[float, ...]) -> dict[float, float]:
        return dict(zip(ratios, parallel_map(cost, ratios), strict=True))

    costs = costs_of(FOCALS)
    for step in FINER_STEPS:
        best = min(costs, key=lambda ratio: costs[ratio])
        if not np.isfinite(costs[best]):
            return None
        costs |= costs_of((best / step, best * step))
    ratios = np.array(sorted(costs))
    return _minimum(np.log(ratios), np.array([costs[ratio] for ratio in ratios])) * long_side


def _disagreement(matches: Matches, focal_px: float) -> float:
    """Mean reprojection error of all matches, truncated at `AGREES_PX` (as for unknown points); infinite without parallax."""
    depth, cameras = _depth_and_cameras(matches, focal_px)
    if depth is None:
        return np.inf
    error = _errors(matches, pixel_rays(matches.anchor_px, focal_px, matches.size), depth, cameras, focal_px)
    cut = np.where(depth > 0, np.minimum(error, AGREES_PX), AGREES_PX)
    valid = matches.valid[list(cameras)]
    lost = matches.valid.sum() - valid.sum()  # matches in unregistered frames have the maximum error
    return float(((cut * valid).sum() + lost * AGREES_PX) / max(matches.valid.sum(), 1))


def _minimum(log_focal: np.ndarray, cost: np.ndarray) -> float:
    """Focal length at the minimum of the parabola through the lowest cost and its neighbours."""
    k = int(np.argmin(cost))
    near = slice(max(k - 1, 0), k + 2)
    x, y = log_focal[near], cost[near]
    if len(x) < 3 or not np.isfinite(y).all():
        return float(np.exp(log_focal[k]))
    a, b, _ = np.polyfit(x - log_focal[k], y, 2)
    return float(np.exp(log_focal[k] + np.clip(-b / (2 * max(a, 1e-9)), x[0] - log_focal[k], x[-1] - log_focal[k])))


def _errors(matches: Matches, rays: np.ndarray, depth: np.ndarray, cameras: dict[int, np.ndarray], focal_px: float) -> np.ndarray:
    """Reprojection errors [cameras, points] in pixels."""
    return np.stack(
        [_re_projection_error(rays, depth, matches.frame_px[k], camera, focal_px, matches.size) for k, camera in cameras.items()]
    )


def _re_projection_error(
    rays: np.ndarray,
    depth: np.ndarray,
    frame_px: np.ndarray,
    frame_from_anchor: np.ndarray,
    focal_px: float,
    size: tuple[int, int],
) -> np.ndarray:
    seen = (rays * depth[:, None]) @ frame_from_anchor[:3, :3].T + frame_from_anchor[:3, 3]
    pixels = seen[:, :2] / np.maximum(seen[:, 2:], 1e-6) * focal_px + (size[1] / 2, size[0] / 2)
    return length(pixels - frame_px)
