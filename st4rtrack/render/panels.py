"""Rendering of a single frame of a scene as five pictures, for films and figures (paper Fig. 4, 9)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from st4rtrack.render.clouds import (
    Splats,
    anchor_cloud,
    frame_cloud,
    merged,
    near,
    reconstruction_clouds,
    shown_share,
    stride_for,
    tinted,
)
from st4rtrack.render.draw import RECONSTRUCTION, TRACKING
from st4rtrack.render.points import Orbit, fit_orbit
from st4rtrack.render.rows import draw_tracks, identity_colours
from st4rtrack.render.sample import AnchorTracks, PastTracks, choose_frames, moving_pixels, read_frames, read_points
from st4rtrack.render.views import draw_cameras, draw_trajectories, frustum_length, near_cameras, shrunk, splatted
from st4rtrack.scene import Scene
from st4rtrack.types import UserError

ELEVATION_DEG = 22.0
KEY_FRAMES = 10
"""Maximum number of frames in the accumulated reconstruction, whatever the length of the video."""

Size = tuple[int, int]


@dataclass(frozen=True)
class Panels:
    """Five pictures of one frame, uint8 RGB.

    Attributes:
        frame: frame index.
        input: the frame itself, at the scene's size.
        tracks: the anchor's points drawn over the dimmed frame.
        pair: both outputs for the anchor and this frame, tracking blue and reconstruction orange.
        reconstruction: accumulated reconstruction so far, and the camera path.
        trajectories: the anchor's points now, and the past paths of dynamic ones.
    """

    frame: int
    input: np.ndarray
    tracks: np.ndarray
    pair: np.ndarray
    reconstruction: np.ndarray
    trajectories: np.ndarray


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
        enlarged: int,
    ) -> None:
        """Read some frames spread over the scene, and fit the views to them.

        Args:
            scene: in memory or on disk.
            cell, pair, view: (height, width) in pixels of tracks, of the pair, and of both accumulated pictures.
            azimuths_deg: azimuths from the mean camera at which the scene must fit, positive towards its better side.
            spacing_px: spacing of static tracks in the picture.
            most_points: approximate maximum number of points per picture.
            enlarged: supersampling factor of the 3D views; smooths edges, takes time.
        Raises:
            UserError: the scene has no camera for some frame.
        """
        self._cameras = np.asarray(scene.cameras.world_from_camera, np.float64)
        if not np.isfinite(self._cameras).all():
            raise UserError("this scene has no cameras for some frames; reconstruct it again with `st4rtrack run`")
        self.scene, self._cell, self._pair, self._view, self._most_points = scene, cell, pair, view, most_points
        self._enlarged = enlarged
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
            pair=self._pair_picture(pair, azimuth_deg),
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

    def _pair_picture(self, both: Splats, azimuth_deg: float) -> np.ndarray:
        view = self._pair_orbit.view(azimuth_deg).scaled(self._enlarged)
        return shrunk(splatted(both, view, self._enlarged), self._pair)

    def _reconstruction(self, surface: Splats, frame: int, azimuth_deg: float) -> np.ndarray:
        past = [cloud for t, cloud in zip(self._keys.tolist(), self._key_clouds, strict=True) if t < frame]
        view = self._reconstruction_orbit.view(azimuth_deg).scaled(self._enlarged)
        canvas = splatted(merged([*past, surface]), view, self._enlarged)
        draw_cameras(canvas, view, self.scene, self._cameras, self._frustum, until=frame, enlarged=self._enlarged)
        return shrunk(canvas, self._view)

    def _trajectories(self, content: Splats, tracks: AnchorTracks, azimuth_deg: float) -> np.ndarray:
        view = self._trajectories_orbit.view(azimuth_deg).scaled(self._enlarged)
        canvas = splatted(content, view, self._enlarged)
        draw_trajectories(canvas, view, tracks, self._colours, enlarged=self._enlarged)
        return shrunk(canvas, self._view)
