"""The two larger panels of the overview: the scene from a second viewpoint, and the tracks in 3D."""

from dataclasses import dataclass

import cv2
import numpy as np

from st4rtrack.geometry.transforms import transform_points
from st4rtrack.render.draw import PANEL, TIME_MAP, dot, line, map_colours, rgb_tuple
from st4rtrack.render.points import View, orbit_view, shade_edges, splat
from st4rtrack.render.sample import AnchorTracks, ShownFrames, all_finite, read_points
from st4rtrack.types import Scene

_MOST_POINTS = 400_000
_ENLARGED = 2
_SHOWN_CAMERAS = 8
_BANDS = 6


@dataclass(frozen=True)
class Cloud:
    """Points to splat: `points_world` [points, 3], `colours` [points, 3] uint8, `size_world` [points], `normals_world` [points, 3]."""

    points_world: np.ndarray
    colours: np.ndarray
    size_world: np.ndarray
    normals_world: np.ndarray

    def select(self, chosen: np.ndarray) -> "Cloud":
        """Some of the points, by index or mask."""
        return Cloud(self.points_world[chosen], self.colours[chosen], self.size_world[chosen], self.normals_world[chosen])

    def facing(self, view: View) -> "Cloud":
        """Without what is seen from behind, so that one looks into a room through its walls."""
        eye = -view.camera_from_world[:3, :3].T @ view.camera_from_world[:3, 3]
        towards = eye - self.points_world
        towards /= np.maximum(np.linalg.norm(towards, axis=1, keepdims=True), 1e-9)
        return self.select(np.einsum("ij,ij->i", towards, self.normals_world) > -0.15)


def surface_cloud(
    points_world: np.ndarray, colours: np.ndarray, keep: np.ndarray, world_from_camera: np.ndarray, focal_px: float, stride: int
) -> Cloud:
    """The points of one pointmap without those on depth edges, where a map bridges what is not connected.

    Args:
        points_world: [height, width, 3], may hold NaN.
        colours: [height, width, 3] uint8.
        keep: [height, width] bool.
        world_from_camera: [4, 4] of the camera that saw them.
        focal_px: its focal length.
        stride: every how many pixels a point is taken.
    """
    calm = _blurred(points_world)
    padded = cv2.copyMakeBorder(calm, 1, 1, 1, 1, cv2.BORDER_REPLICATE)
    across, down = padded[1:-1, 2:] - padded[1:-1, :-2], padded[2:, 1:-1] - padded[:-2, 1:-1]
    with np.errstate(all="ignore"):
        normals = np.cross(across, down)
        normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
        rays = points_world - world_from_camera[:3, 3].astype(np.float32)
        distance = np.linalg.norm(rays, axis=-1)
        incidence = np.einsum("hwc,hwc->hw", normals, rays) / distance
        normals *= -np.sign(incidence)[..., None]
        keep = keep & (np.abs(incidence) > 0.08)
    rows, columns = np.nonzero(keep[::stride, ::stride])
    rows, columns = rows * stride, columns * stride
    # A surface that was seen at a slant has its points further apart.
    spread = np.minimum(1 / np.abs(incidence[rows, columns]), 3.5)
    size = 1.55 * stride * spread * distance[rows, columns] / max(focal_px, 1e-6)
    return Cloud(points_world[rows, columns].astype(np.float64), colours[rows, columns], size, normals[rows, columns])


def _blurred(points_world: np.ndarray) -> np.ndarray:
    """Mean of the finite points among each pixel and its neighbours: the slope of a noisy map is that of its noise."""
    finite = all_finite(points_world)
    total = cv2.blur(np.where(finite[..., None], points_world, 0).astype(np.float32), (3, 3))
    share = cv2.blur(finite.astype(np.float32), (3, 3))
    return total / np.maximum(share, 1e-6)[..., None]


def reconstruction_cloud(scene: Scene, shown: ShownFrames) -> Cloud:
    """The shown frames' reconstructions in one cloud, without the least sure and far-out points."""
    sure = shown.sure
    stride = max(1, int(np.ceil(np.sqrt(sure.size / _MOST_POINTS))))
    parts = [
        surface_cloud(
            shown.points_world[k],
            shown.rgb[k],
            sure[k],
            np.asarray(scene.cameras.world_from_camera[t]),
            float(scene.cameras.intrinsics[t][0, 0]),
            stride,
        )
        for k, t in enumerate(shown.index.tolist())
    ]
    names = ("points_world", "colours", "size_world", "normals_world")
    return _without_outliers(Cloud(*(np.concatenate([getattr(part, name) for part in parts]) for name in names)))


def anchor_cloud(scene: Scene, at_frame: int, moving: np.ndarray, anchor_rgb: np.ndarray) -> Cloud:
    """The anchor's points at the time of a frame, what is static paler if anything moves."""
    points = read_points(scene.tracking, at_frame)
    keep = all_finite(points)
    if scene.tracking.confidence is not None:
        confidence = np.asarray(scene.tracking.confidence[at_frame], np.float32)
        known = confidence[keep & np.isfinite(confidence)]
        keep &= confidence >= (np.quantile(known, 0.1) if len(known) else -np.inf)
    stride = max(1, int(np.ceil(np.sqrt(keep.size / _MOST_POINTS))))
    pale = 0.55 * anchor_rgb + 0.45 * np.array((92, 96, 104))
    colours = np.where(moving[..., None], anchor_rgb, pale).astype(np.uint8) if moving.any() else anchor_rgb
    # The anchor's rays hold the points together; its camera is the world, so the identity.
    focal_px = float(scene.cameras.intrinsics[scene.anchor_index][0, 0])
    return _without_outliers(surface_cloud(points, colours, keep, np.eye(4), focal_px, stride))


def _without_outliers(cloud: Cloud) -> Cloud:
    if not len(cloud.points_world):
        return cloud
    low, high = np.percentile(cloud.points_world, [1, 99], axis=0)
    slack = 0.25 * (high - low).max()
    return cloud.select(((cloud.points_world >= low - slack) & (cloud.points_world <= high + slack)).all(axis=1))


def reconstruction_panel(scene: Scene, shown: ShownFrames, size: tuple[int, int]) -> np.ndarray:
    """The reconstruction of the shown frames and the camera's way, from beside and above.

    Returns:
        [height, width, 3] uint8 of `size` (height, width).
    """
    cloud = reconstruction_cloud(scene, shown)
    cameras = np.asarray(scene.cameras.world_from_camera, np.float64)
    length = _frustum_length(cloud, cameras)
    near = _near_cameras(cloud, cameras)
    view = _best_view(cloud, cameras, near, size, azimuths_deg=(-30.0, 30.0), elevation_deg=20.0)
    canvas = _splatted(cloud, view)
    _draw_cameras(canvas, view.scaled(_ENLARGED), scene, cameras, length)
    return _shrunk(canvas, size)


def tracks_panel(
    scene: Scene, shown: ShownFrames, tracks: AnchorTracks, colours: np.ndarray, moving: np.ndarray, size: tuple[int, int]
) -> np.ndarray:
    """The anchor's points at the end of the video, with the way that the moving ones went.

    Args:
        scene: the scene.
        shown: its shown frames.
        tracks: the queries.
        colours: [points, 3] uint8 of the queries.
        moving: [height, width] bool of the anchor.
        size: (height, width) of the panel.
    """
    anchor_rgb = shown.rgb[np.flatnonzero(shown.index == scene.anchor_index)[0]]
    last = int(tracks.frame[-1])
    cloud = anchor_cloud(scene, last, moving, anchor_rgb)
    cameras = np.asarray(scene.cameras.world_from_camera, np.float64)
    ends = tracks.points_world[:, tracks.moving].reshape(-1, 3)
    ends = ends[all_finite(ends)]
    inside = _near(cloud, ends)
    view = _best_view(
        cloud, cameras, ends[inside][:: max(1, len(ends) // 2000)], size, azimuths_deg=(18.0, -18.0), elevation_deg=28.0
    )
    canvas = _splatted(cloud, view)
    _draw_ways(canvas, view.scaled(_ENLARGED), tracks, colours)
    return _shrunk(canvas, size)


def _best_view(
    cloud: Cloud,
    cameras: np.ndarray,
    must_see: np.ndarray,
    size: tuple[int, int],
    *,
    azimuths_deg: tuple[float, ...],
    elevation_deg: float,
) -> View:
    """From the side that shows more of the cloud's surface."""
    points = cloud.points_world if len(cloud.points_world) else np.array([[0.0, 0.0, 1.0]])
    views = [
        orbit_view(points, cameras, size, azimuth_deg=azimuth, elevation_deg=elevation_deg, must_see_world=must_see)
        for azimuth in azimuths_deg
    ]
    sample = cloud.select(np.arange(0, len(cloud.points_world), max(1, len(cloud.points_world) // 20000)))
    return max(views, key=lambda view: _shown_share(sample, view))


def _shown_share(sample: Cloud, view: View) -> float:
    """How many points are on the front of what a small picture shows."""
    small = view.scaled(96 / view.width)
    front = sample.facing(small)
    _, buffer = splat(small, front.points_world, front.colours, 0.0, background=PANEL)
    pixels, depth = small.project(front.points_world)
    with np.errstate(invalid="ignore"):
        inside = ((pixels >= 0) & (pixels < (small.width, small.height))).all(axis=1)
    column, row = pixels[inside].astype(int).T
    return float((depth[inside] <= 1.03 * buffer[row, column]).sum())


def _splatted(cloud: Cloud, view: View) -> np.ndarray:
    large = view.scaled(_ENLARGED)
    front = cloud.facing(large)
    image, depth = splat(large, front.points_world, front.colours, front.size_world, background=PANEL)
    return shade_edges(image, depth)


def _shrunk(canvas: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return np.ascontiguousarray(cv2.resize(canvas, (size[1], size[0]), interpolation=cv2.INTER_AREA))


def _near(cloud: Cloud, points_world: np.ndarray) -> np.ndarray:
    """[points] bool: not so far out that showing them would make the scene small."""
    if not len(cloud.points_world) or not len(points_world):
        return all_finite(points_world)
    low, high = np.percentile(cloud.points_world, [1, 99], axis=0)
    reach = 0.75 * float(np.linalg.norm(high - low))
    return all_finite(points_world) & (np.linalg.norm(points_world - (low + high) / 2, axis=1) < reach + 1e-9)


def _near_cameras(cloud: Cloud, cameras: np.ndarray) -> np.ndarray:
    centres = cameras[:, :3, 3]
    return centres[_near(cloud, centres)]


def _frustum_length(cloud: Cloud, cameras: np.ndarray) -> float:
    """Of the drawn cameras, world units: small beside the scene, and not larger than the way needs."""
    if not len(cloud.points_world):
        return 0.1
    low, high = np.percentile(cloud.points_world, [1, 99], axis=0)
    return 0.07 * float(np.linalg.norm(high - low))


def _draw_cameras(canvas: np.ndarray, view: View, scene: Scene, cameras: np.ndarray, length: float) -> None:
    """The way as a line and some cameras as pyramids, coloured by time."""
    count = len(cameras)
    colours = map_colours(np.arange(count), (0, max(count - 1, 1)), TIME_MAP)
    centres, _ = view.project(cameras[:, :3, 3])
    for t in range(count - 1):
        line(canvas, centres[t], centres[t + 1], rgb_tuple(colours[t]), 2 * _ENLARGED)
    height, width = scene.rgb.shape[1:3]
    corners_px = np.array([[0, 0, 1], [width, 0, 1], [width, height, 1], [0, height, 1]], np.float64)
    for t in dict.fromkeys(np.rint(np.linspace(0, count - 1, _SHOWN_CAMERAS)).astype(int).tolist()):
        rays = corners_px @ np.linalg.inv(np.asarray(scene.cameras.intrinsics[t], np.float64)).T
        apex_and_corners = np.concatenate([np.zeros((1, 3)), length * rays])
        pixels, _ = view.project(transform_points(cameras[t], apex_and_corners))
        for a, b in ((0, 1), (0, 2), (0, 3), (0, 4), (1, 2), (2, 3), (3, 4), (4, 1)):
            line(canvas, pixels[a], pixels[b], rgb_tuple(colours[t]), _ENLARGED + (t in (0, count - 1)))
        if np.isfinite(pixels[0]).all() and np.abs(pixels[0]).max() < 4 * max(canvas.shape):
            dot(canvas, pixels[0], 2.0 * _ENLARGED, rgb_tuple(colours[t]))


def _draw_ways(canvas: np.ndarray, view: View, tracks: AnchorTracks, colours: np.ndarray) -> None:
    """The moving queries' ways through the world: paler in the past, a disc at the end."""
    chosen = np.flatnonzero(tracks.moving)
    if not len(chosen):
        return
    frames, count = len(tracks.frame), len(chosen)
    pixels, depth = view.project(tracks.points_world[:, chosen].reshape(-1, 3))
    pixels, depth = pixels.reshape(frames, count, 2), depth.reshape(frames, count)
    order = np.argsort(-np.nan_to_num(depth[-1], nan=np.inf))
    for band in np.array_split(np.arange(frames - 1), _BANDS):
        overlay = canvas.copy()
        for k in order:
            for t in band.tolist():
                line(overlay, pixels[t, k], pixels[t + 1, k], rgb_tuple(colours[chosen[k]]), _ENLARGED)
        alpha = 0.3 + 0.7 * (int(band[-1]) + 1) / (frames - 1) if len(band) else 0.0
        cv2.addWeighted(overlay, alpha, canvas, 1 - alpha, 0, dst=canvas)
    for k in order:
        if np.isfinite(pixels[-1, k]).all() and np.abs(pixels[-1, k]).max() < 4 * max(canvas.shape):
            dot(canvas, pixels[-1, k], 2.0 * _ENLARGED, rgb_tuple(colours[chosen[k]]), rim=(40, 40, 40))
