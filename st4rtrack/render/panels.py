"""Pictures of a scene from a second viewpoint: both panels of the overview, and the five pictures of one frame of films and figures."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from st4rtrack.geometry.transforms import transform_points
from st4rtrack.geometry.vectors import all_finite
from st4rtrack.render.clouds import (
    Splats,
    anchor_cloud,
    best_view,
    frame_cloud,
    merged,
    near,
    reconstruction_cloud,
    reconstruction_clouds,
    shown_share,
    stride_for,
    tinted,
    without_outliers,
)
from st4rtrack.render.draw import PANEL, RECONSTRUCTION, TIME_MAP, TRACKING, dot, line, lines, map_colours, rgb_tuple
from st4rtrack.render.points import Orbit, View, fit_orbit, shade_edges, splat
from st4rtrack.render.rows import draw_tracks, identity_colours
from st4rtrack.render.sample import AnchorTracks, PastTracks, ShownFrames, choose_frames, moving_pixels, read_frames, read_points
from st4rtrack.scene import Scene
from st4rtrack.types import UserError

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


def splatted(cloud: Splats, view: View) -> np.ndarray:
    """Splat a cloud into a picture [height, width, 3] uint8, without back-facing points."""
    front = cloud.facing(view)
    image, depth = splat(view, front.points_world, front.colours, front.size_world, background=PANEL)
    return shade_edges(image, depth, reach_px=ENLARGED)


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
) -> None:
    """Draw the camera path as a line and some cameras as pyramids, coloured by time; up to and including frame `until`."""
    count = len(cameras)
    last = count - 1 if until is None else until
    colours = map_colours(np.arange(count), (0, max(count - 1, 1)), TIME_MAP)
    centres, _ = view.project(cameras[: last + 1, :3, 3])
    for t in range(last):
        line(canvas, centres[t], centres[t + 1], rgb_tuple(colours[t]), 2 * ENLARGED)
    shown = {int(t) for t in np.rint(np.linspace(0, count - 1, _SHOWN_CAMERAS)) if t <= last} | {last}
    height, width = scene.rgb.shape[1:3]
    corners_px = np.array([[0, 0, 1], [width, 0, 1], [width, height, 1], [0, height, 1]], np.float64)
    for t in sorted(shown):
        rays = corners_px @ np.linalg.inv(np.asarray(scene.cameras.intrinsics[t], np.float64)).T
        apex_and_corners = np.concatenate([np.zeros((1, 3)), length * rays])
        pixels, _ = view.project(transform_points(cameras[t], apex_and_corners))
        for a, b in ((0, 1), (0, 2), (0, 3), (0, 4), (1, 2), (2, 3), (3, 4), (4, 1)):
            line(canvas, pixels[a], pixels[b], rgb_tuple(colours[t]), ENLARGED + (t in (0, last)))
        if np.isfinite(pixels[0]).all() and np.abs(pixels[0]).max() < 4 * max(canvas.shape):
            dot(canvas, pixels[0], 2.0 * ENLARGED, rgb_tuple(colours[t]))


def draw_trajectories(canvas: np.ndarray, view: View, tracks: AnchorTracks, colours: np.ndarray) -> None:
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
        lines(overlay, start, end, np.repeat(colours[chosen[order]], len(band), axis=0), ENLARGED)
        alpha = 0.3 + 0.7 * (int(band[-1]) + 1) / (frames - 1) if len(band) else 0.0
        cv2.addWeighted(overlay, alpha, canvas, 1 - alpha, 0, dst=canvas)
    for k in order:
        if np.isfinite(pixels[-1, k]).all() and np.abs(pixels[-1, k]).max() < 4 * max(canvas.shape):
            dot(canvas, pixels[-1, k], 2.0 * ENLARGED, rgb_tuple(colours[chosen[k]]), rim=(40, 40, 40))


ELEVATION_DEG = 22.0
KEY_FRAMES = 10
"""Maximum number of frames in the accumulated reconstruction, whatever the length of the video."""

Size = tuple[int, int]


@dataclass(frozen=True)
class Panels:
    """Five pictures of one frame, uint8 RGB."""

    frame: int  # frame index
    input: np.ndarray  # the frame itself, at the scene's size
    tracks: np.ndarray  # the anchor's points drawn over the dimmed frame
    pair: np.ndarray  # both outputs for the anchor and this frame, tracking blue and reconstruction orange
    reconstruction: np.ndarray  # accumulated reconstruction so far, and the camera path
    trajectories: np.ndarray  # the anchor's points now, and the past paths of dynamic ones


class PanelRenderer:
    """Renderer of a scene's frames from consistently framed views; request frames in increasing order.

    Frames are read one at a time: memory grows with the length of the scene only by its cameras.
    """

    def __init__(
        self,
        scene: Scene,
        *,
        cell: Size,
        pair: Size,
        view: Size,
        azimuths_deg: Sequence[float],
        spacing_px: float,
        most_points: int,
    ) -> None:
        """Read some frames spread over the scene, and fit the views to them.

        Args:
            scene: in memory or on disk.
            cell, pair, view: (height, width) in pixels of tracks, of the pair, and of both accumulated pictures.
            azimuths_deg: azimuths from the mean camera at which the scene must fit, positive towards its better side.
            spacing_px: spacing of static tracks in the picture.
            most_points: approximate maximum number of points per picture.
        Raises:
            UserError: the scene has no camera for some frame.
        """
        self._cameras = np.asarray(scene.cameras.world_from_camera, np.float64)
        if not np.isfinite(self._cameras).all():
            raise UserError("this scene has no cameras for some frames; reconstruct it again with `st4rtrack run`")
        self.scene, self._cell, self._pair, self._view, self._most_points = scene, cell, pair, view, most_points
        self._keys = choose_frames(len(scene), KEY_FRAMES, scene.anchor_index)
        shown = read_frames(scene, self._keys)
        self._moving = moving_pixels(scene, self._keys)
        self._anchor_rgb = shown.rgb[np.flatnonzero(self._keys == scene.anchor_index)[0]]
        clouds = reconstruction_clouds(scene, shown, most_points=most_points)
        together = merged(clouds)
        self._box = together.box() if len(together.points_world) else (np.zeros(3), np.ones(3))
        self._key_clouds = [cloud.within(*self._box) for cloud in clouds]
        self._past = PastTracks(scene, self._moving, spacing_px=spacing_px * scene.rgb.shape[2] / cell[1])
        self._colours = identity_colours(self._past.query_px)
        self._fit(azimuths_deg)

    def at(self, frame: int, azimuth_deg: float) -> Panels:
        """Render a frame from an azimuth relative to the mean camera (positive: towards the better side)."""
        shown = read_frames(self.scene, np.array([frame]))
        stride = stride_for(shown.depth[0].size, self._most_points)
        surface = frame_cloud(self.scene, frame, shown.points_world[0], shown.rgb[0], shown.sure[0], stride).within(*self._box)
        content = anchor_cloud(self.scene, frame, self._moving, self._anchor_rgb, most_points=self._most_points)
        content = content.within(*self._box)
        pair = merged([tinted(content, TRACKING), tinted(surface, RECONSTRUCTION)])
        tracks = self._past.until(frame)
        azimuth_deg *= self._side
        return Panels(
            frame=frame,
            input=shown.rgb[0],
            tracks=draw_tracks(shown.rgb[0], tracks, self._colours, frame, *self._cell),
            pair=shrunk(splatted(pair, self._pair_orbit.view(azimuth_deg).scaled(ENLARGED)), self._pair),
            reconstruction=self._reconstruction(surface, frame, azimuth_deg),
            trajectories=self._trajectories(content, tracks, azimuth_deg),
        )

    def _fit(self, azimuths_deg: Sequence[float]) -> None:
        """Fit the views to all points, the cameras, and the paths of the dynamic points."""
        cloud = merged(self._key_clouds)
        points = cloud.points_world if len(cloud.points_world) else np.array([[0.0, 0.0, 1.0]])
        moving = np.concatenate([read_points(self.scene, self.scene.tracking, t)[self._moving] for t in self._keys.tolist()])
        ends = moving[near(cloud, moving)][:: max(1, len(moving) // 2000)].astype(np.float64)
        self._frustum = frustum_length(cloud, self._cameras)
        furthest = max(azimuths_deg, key=abs)

        def fitted(size: Size, must_see: np.ndarray, side: int) -> Orbit:
            return fit_orbit(
                points,
                self._cameras,
                size,
                azimuths_deg=[side * azimuth for azimuth in azimuths_deg],
                elevation_deg=ELEVATION_DEG,
                must_see_world=must_see,
            )

        sides = {side: fitted(self._view, ends, side) for side in (1, -1)}
        self._side = max(sides, key=lambda side: shown_share(cloud, sides[side].view(side * furthest)))
        self._trajectories_orbit = sides[self._side]
        self._pair_orbit = fitted(self._pair, ends, self._side)
        self._reconstruction_orbit = fitted(self._view, near_cameras(cloud, self._cameras), self._side)

    def _reconstruction(self, surface: Splats, frame: int, azimuth_deg: float) -> np.ndarray:
        past = [cloud for t, cloud in zip(self._keys.tolist(), self._key_clouds, strict=True) if t < frame]
        view = self._reconstruction_orbit.view(azimuth_deg).scaled(ENLARGED)
        canvas = splatted(merged([*past, surface]), view)
        draw_cameras(canvas, view, self.scene, self._cameras, self._frustum, until=frame)
        return shrunk(canvas, self._view)

    def _trajectories(self, content: Splats, tracks: AnchorTracks, azimuth_deg: float) -> np.ndarray:
        view = self._trajectories_orbit.view(azimuth_deg).scaled(ENLARGED)
        canvas = splatted(content, view)
        draw_trajectories(canvas, view, tracks, self._colours)
        return shrunk(canvas, self._view)
