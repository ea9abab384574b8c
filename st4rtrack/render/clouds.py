"""Point clouds for rendering: pointmaps as oriented discs, and the viewpoint that shows most of them."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import cv2
import numpy as np

from st4rtrack.geometry.transforms import invert_rigid, transform_maps
from st4rtrack.geometry.vectors import all_components, all_finite, length
from st4rtrack.render.draw import PANEL, Colour
from st4rtrack.render.points import View, fit_orbit, splat
from st4rtrack.render.sample import ShownFrames, not_far, read_points
from st4rtrack.scene import Scene

MOST_POINTS = 400_000


@dataclass(frozen=True)
class Splats:
    """Splats: `points_world` [points, 3], `colours` [points, 3] uint8, `size_world` [points], `normals_world` [points, 3]."""

    points_world: np.ndarray
    colours: np.ndarray
    size_world: np.ndarray
    normals_world: np.ndarray

    def select(self, chosen: np.ndarray) -> "Splats":
        """Select points by index or mask."""
        return Splats(self.points_world[chosen], self.colours[chosen], self.size_world[chosen], self.normals_world[chosen])

    def box(self) -> tuple[np.ndarray, np.ndarray]:
        """Corners [3] of the box that contains nearly all points, with a margin; needs at least one point."""
        low, high = np.percentile(self.points_world, [1, 99], axis=0)
        slack = 0.25 * (high - low).max()
        return low - slack, high + slack

    def within(self, low: np.ndarray, high: np.ndarray) -> "Splats":
        """Keep the points between two corners [3]."""
        return self.select(np.all((self.points_world >= low) & (self.points_world <= high), axis=1))

    def facing(self, view: View) -> "Splats":
        """Remove back-facing points, so that a room is visible through its walls."""
        eye = -view.camera_from_world[:3, :3].T @ view.camera_from_world[:3, 3]
        towards = eye - self.points_world
        towards /= np.maximum(np.linalg.norm(towards, axis=1, keepdims=True), 1e-9)
        return self.select(np.einsum("ij,ij->i", towards, self.normals_world) > -0.15)


def surface_cloud(
    points_world: np.ndarray, colours: np.ndarray, keep: np.ndarray, world_from_camera: np.ndarray, focal_px: float, stride: int
) -> Splats:
    """Cloud of one pointmap without points on depth edges, where a map connects separate surfaces."""
    calm = _blurred(points_world)
    padded = cv2.copyMakeBorder(calm, 1, 1, 1, 1, cv2.BORDER_REPLICATE)
    across, down = padded[1:-1, 2:] - padded[1:-1, :-2], padded[2:, 1:-1] - padded[:-2, 1:-1]
    with np.errstate(all="ignore"):
        normals = np.cross(across, down)
        normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
        rays = points_world - world_from_camera[:3, 3].astype(np.float32)
        distance = length(rays)
        incidence = np.einsum("hwc,hwc->hw", normals, rays) / distance
        normals *= -np.sign(incidence)[..., None]
        keep = keep & (np.abs(incidence) > 0.08)
    rows, columns = np.nonzero(keep[::stride, ::stride])
    rows, columns = rows * stride, columns * stride
    # A surface observed at a slant has larger gaps between its points.
    spread = np.minimum(1 / np.abs(incidence[rows, columns]), 3.5)
    size = 1.55 * stride * spread * distance[rows, columns] / max(focal_px, 1e-6)
    return Splats(points_world[rows, columns].astype(np.float64), colours[rows, columns], size, normals[rows, columns])


def _blurred(points_world: np.ndarray) -> np.ndarray:
    """Mean of the finite points in each pixel's neighbourhood: normals of a noisy map would show its noise."""
    finite = all_finite(points_world)
    total = cv2.blur(np.where(finite[..., None], points_world, 0).astype(np.float32), (3, 3))
    share = cv2.blur(finite.astype(np.float32), (3, 3))
    return total / np.maximum(share, 1e-6)[..., None]


def frame_cloud(scene: Scene, frame: int, points_world: np.ndarray, rgb: np.ndarray, sure: np.ndarray, stride: int) -> Splats:
    """Cloud of the reconstruction of one frame, from its camera.

    Args:
        scene: the scene.
        frame: frame index.
        points_world, rgb, sure: arrays of this frame in `ShownFrames`.
        stride: take a point every so many pixels.
    """
    camera = np.asarray(scene.cameras.world_from_camera[frame])
    return surface_cloud(points_world, rgb, sure, camera, float(scene.cameras.intrinsics[frame][0, 0]), stride)


def reconstruction_clouds(scene: Scene, shown: ShownFrames, *, most_points: int = MOST_POINTS) -> list[Splats]:
    """Clouds of the shown frames' reconstructions without their least confident points; about `most_points` in total at most."""
    sure = shown.sure
    stride = stride_for(sure.size, most_points)
    return [
        frame_cloud(scene, t, shown.points_world[k], shown.rgb[k], sure[k], stride) for k, t in enumerate(shown.index.tolist())
    ]


def reconstruction_cloud(scene: Scene, shown: ShownFrames) -> Splats:
    """Merged cloud of the shown frames' reconstructions, without the least confident points and outliers."""
    return without_outliers(merged(reconstruction_clouds(scene, shown)))


def stride_for(num_pixels: int, most_points: int) -> int:
    """Pixel stride, along both axes, that leaves at most about `most_points` points."""
    return max(1, int(np.ceil(np.sqrt(num_pixels / most_points))))


def anchor_cloud(
    scene: Scene, at_frame: int, moving: np.ndarray, anchor_rgb: np.ndarray, *, most_points: int = MOST_POINTS
) -> Splats:
    """Cloud of the anchor's points at the time of a frame; static points are paler if any point is dynamic."""
    points = read_points(scene, scene.tracking, at_frame)
    camera_from_world = invert_rigid(np.asarray(scene.cameras.world_from_camera[at_frame], np.float64))
    keep = not_far(transform_maps(camera_from_world, points)[..., 2])
    confidence = scene.display_confidence(scene.tracking, at_frame)
    if confidence is not None:
        known = confidence[keep & np.isfinite(confidence)]
        keep &= confidence >= (np.quantile(known, 0.1) if len(known) else -np.inf)
    stride = stride_for(keep.size, most_points)
    pale = 0.55 * anchor_rgb + 0.45 * np.array((92, 96, 104))
    colours = np.where(moving[..., None], anchor_rgb, pale).astype(np.uint8) if moving.any() else anchor_rgb
    # Points are connected along the anchor's rays.
    pose, focal_px = (
        scene.cameras.world_from_camera[scene.anchor_index],
        float(scene.cameras.intrinsics[scene.anchor_index][0, 0]),
    )
    return surface_cloud(points, colours, keep, np.asarray(pose, np.float64), focal_px, stride)


def merged(clouds: Sequence[Splats]) -> Splats:
    """Merge clouds into one."""
    return Splats(*(np.concatenate([getattr(cloud, field.name) for cloud in clouds]) for field in fields(Splats)))


def tinted(cloud: Splats, colour: Colour) -> Splats:
    """Tint the cloud in shades of one colour that preserve the image content."""
    light = 0.5 + 0.6 * (cloud.colours @ np.array([0.299, 0.587, 0.114]))[:, None] / 255
    return replace(cloud, colours=np.clip(0.75 * light * np.array(colour) + 0.25 * cloud.colours, 0, 255).astype(np.uint8))


def without_outliers(cloud: Splats) -> Splats:
    """Remove points far outside the bulk of the cloud."""
    return cloud.within(*cloud.box()) if len(cloud.points_world) else cloud


def near(cloud: Splats, points_world: np.ndarray) -> np.ndarray:
    """Mask [points] bool of points close enough that showing them does not shrink the scene."""
    if not len(cloud.points_world) or not len(points_world):
        return all_finite(points_world)
    low, high = np.percentile(cloud.points_world, [1, 99], axis=0)
    reach = 0.75 * float(np.linalg.norm(high - low))
    return all_finite(points_world) & (length(points_world - (low + high) / 2) < reach + 1e-9)


def best_view(
    cloud: Splats,
    cameras: np.ndarray,
    must_see: np.ndarray,
    size: tuple[int, int],
    *,
    azimuths_deg: tuple[float, ...],
    elevation_deg: float,
) -> View:
    """Choose the view, of two mirrored sides, that shows more of the cloud's surface."""
    points = cloud.points_world if len(cloud.points_world) else np.array([[0.0, 0.0, 1.0]])
    views = [
        fit_orbit(points, cameras, size, azimuths_deg=(azimuth,), elevation_deg=elevation_deg, must_see_world=must_see).view(
            azimuth
        )
        for azimuth in azimuths_deg
    ]
    return max(views, key=lambda view: shown_share(cloud, view))


def shown_share(cloud: Splats, view: View) -> float:
    """Share of a cloud that faces the camera in a small rendering; for comparing views of one cloud."""
    small = view.scaled(96 / view.width)
    front = cloud.select(np.arange(0, len(cloud.points_world), max(1, len(cloud.points_world) // 20000))).facing(small)
    _, buffer = splat(small, front.points_world, front.colours, 0.0, background=PANEL)
    pixels, depth = small.project(front.points_world)
    with np.errstate(invalid="ignore"):
        inside = all_components((pixels >= 0) & (pixels < (small.width, small.height)))
    column, row = pixels[inside].astype(int).T
    return float((depth[inside] <= 1.03 * buffer[row, column]).sum())
