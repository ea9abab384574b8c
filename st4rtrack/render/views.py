"""The two large panels of the overview: the scene from a second viewpoint, and the tracks in 3D."""

import cv2
import numpy as np

from st4rtrack.geometry.transforms import transform_points
from st4rtrack.geometry.vectors import all_finite
from st4rtrack.render.clouds import Splats, anchor_cloud, best_view, near, reconstruction_cloud, without_outliers
from st4rtrack.render.draw import PANEL, TIME_MAP, dot, line, lines, map_colours, rgb_tuple
from st4rtrack.render.points import LARGEST_RADIUS_PX, View, shade_edges, splat
from st4rtrack.render.sample import AnchorTracks, ShownFrames
from st4rtrack.scene import Scene

ENLARGED = 2
"""Supersampling factor of the pictures, which smooths the edges of points."""
_SHOWN_CAMERAS = 8
_BANDS = 6


def reconstruction_panel(scene: Scene, shown: ShownFrames, size: tuple[int, int]) -> np.ndarray:
    """Render the reconstruction of the shown frames and the camera path, from beside and above.

    Returns:
        [height, width, 3] uint8 of `size` (height, width).
    """
    cloud = reconstruction_cloud(scene, shown)
    cameras = np.asarray(scene.cameras.world_from_camera, np.float64)
    length = frustum_length(cloud, cameras)
    must_see = near_cameras(cloud, cameras)
    view = best_view(cloud, cameras, must_see, size, azimuths_deg=(-30.0, 30.0), elevation_deg=20.0).scaled(ENLARGED)
    canvas = splatted(cloud, view)
    draw_cameras(canvas, view, scene, cameras, length)
    return shrunk(canvas, size)


def tracks_panel(
    scene: Scene, shown: ShownFrames, tracks: AnchorTracks, colours: np.ndarray, moving: np.ndarray, size: tuple[int, int]
) -> np.ndarray:
    """Render the anchor's points at the end of the video, with the paths of the dynamic ones.

    Args:
        scene: the scene.
        shown: shown frames of the scene.
        tracks: tracks of the queries.
        colours: [points, 3] uint8 of the queries.
        moving: [height, width] bool, dynamic pixels of the anchor.
        size: (height, width) of the panel.
    """
    anchor_rgb = shown.rgb[np.flatnonzero(shown.index == scene.anchor_index)[0]]
    solved = tracks.frame[scene.solved_frames[tracks.frame]]
    last = int((solved if len(solved) else tracks.frame)[-1])
    cloud = without_outliers(anchor_cloud(scene, last, moving, anchor_rgb))
    cameras = np.asarray(scene.cameras.world_from_camera, np.float64)
    ends = tracks.points_world[:, tracks.moving].reshape(-1, 3)
    ends = ends[all_finite(ends)]
    inside = near(cloud, ends)
    view = best_view(
        cloud, cameras, ends[inside][:: max(1, len(ends) // 2000)], size, azimuths_deg=(18.0, -18.0), elevation_deg=28.0
    )
    view = view.scaled(ENLARGED)
    canvas = splatted(cloud, view)
    draw_trajectories(canvas, view, tracks, colours)
    return shrunk(canvas, size)


def splatted(cloud: Splats, view: View, enlarged: int = ENLARGED) -> np.ndarray:
    """Splat a cloud into a picture [height, width, 3] uint8, without back-facing points.

    Args:
        cloud: points to draw.
        view: camera, already scaled.
        enlarged: supersampling factor, which scales discs and lines.
    """
    front = cloud.facing(view)
    smaller, larger = (limit * enlarged / ENLARGED for limit in LARGEST_RADIUS_PX)
    image, depth = splat(
        view, front.points_world, front.colours, front.size_world, background=PANEL, largest_px=(smaller, larger)
    )
    return shade_edges(image, depth, reach_px=enlarged)


def shrunk(canvas: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Shrink a supersampled picture to its size (height, width)."""
    return np.ascontiguousarray(cv2.resize(canvas, (size[1], size[0]), interpolation=cv2.INTER_AREA))


def near_cameras(cloud: Splats, cameras: np.ndarray) -> np.ndarray:
    """Centres [near, 3] of the cameras [time, 4, 4] that can be shown without shrinking the scene."""
    centres = cameras[:, :3, 3]
    return centres[near(cloud, centres)]


def frustum_length(cloud: Splats, cameras: np.ndarray) -> float:
    """Length of the drawn cameras in world units: 7 % of the scene's extent."""
    if not len(cloud.points_world):
        return 0.1
    low, high = np.percentile(cloud.points_world, [1, 99], axis=0)
    return 0.07 * float(np.linalg.norm(high - low))


def draw_cameras(
    canvas: np.ndarray,
    view: View,
    scene: Scene,
    cameras: np.ndarray,
    length: float,
    *,
    until: int | None = None,
    enlarged: int = ENLARGED,
) -> None:
    """Draw the camera path as a line and some cameras as pyramids, coloured by time; up to and including frame `until`."""
    count = len(cameras)
    last = count - 1 if until is None else until
    colours = map_colours(np.arange(count), (0, max(count - 1, 1)), TIME_MAP)
    centres, _ = view.project(cameras[: last + 1, :3, 3])
    for t in range(last):
        line(canvas, centres[t], centres[t + 1], rgb_tuple(colours[t]), 2 * enlarged)
    shown = {int(t) for t in np.rint(np.linspace(0, count - 1, _SHOWN_CAMERAS)) if t <= last} | {last}
    height, width = scene.rgb.shape[1:3]
    corners_px = np.array([[0, 0, 1], [width, 0, 1], [width, height, 1], [0, height, 1]], np.float64)
    for t in sorted(shown):
        rays = corners_px @ np.linalg.inv(np.asarray(scene.cameras.intrinsics[t], np.float64)).T
        apex_and_corners = np.concatenate([np.zeros((1, 3)), length * rays])
        pixels, _ = view.project(transform_points(cameras[t], apex_and_corners))
        for a, b in ((0, 1), (0, 2), (0, 3), (0, 4), (1, 2), (2, 3), (3, 4), (4, 1)):
            line(canvas, pixels[a], pixels[b], rgb_tuple(colours[t]), enlarged + (t in (0, last)))
        if np.isfinite(pixels[0]).all() and np.abs(pixels[0]).max() < 4 * max(canvas.shape):
            dot(canvas, pixels[0], 2.0 * enlarged, rgb_tuple(colours[t]))


def draw_trajectories(
    canvas: np.ndarray, view: View, tracks: AnchorTracks, colours: np.ndarray, *, enlarged: int = ENLARGED
) -> None:
    """Draw the paths of the dynamic queries through the world: paler in the past, a disc at the end."""
    chosen = np.flatnonzero(tracks.moving)
    if not len(chosen):
        return
    frames, count = len(tracks.frame), len(chosen)
    pixels, depth = view.project(tracks.points_world[:, chosen].reshape(-1, 3))
    pixels, depth = pixels.reshape(frames, count, 2), depth.reshape(frames, count)
    order = np.argsort(-np.nan_to_num(depth[-1], nan=np.inf))
    for band in np.array_split(np.arange(frames - 1), _BANDS):
        overlay = canvas.copy()
        start, end = (pixels[band + step][:, order].transpose(1, 0, 2).reshape(-1, 2) for step in (0, 1))  # point by point
        lines(overlay, start, end, np.repeat(colours[chosen[order]], len(band), axis=0), enlarged)
        alpha = 0.3 + 0.7 * (int(band[-1]) + 1) / (frames - 1) if len(band) else 0.0
        cv2.addWeighted(overlay, alpha, canvas, 1 - alpha, 0, dst=canvas)
    for k in order:
        if np.isfinite(pixels[-1, k]).all() and np.abs(pixels[-1, k]).max() < 4 * max(canvas.shape):
            dot(canvas, pixels[-1, k], 2.0 * enlarged, rgb_tuple(colours[chosen[k]]), rim=(40, 40, 40))
