"""Scene nodes in viser: created once, then only changes are sent."""

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from st4rtrack.render.draw import TIME_MAP, Colour, map_colours, rgb_tuple
from st4rtrack.view.layers import ColouredPoints, SceneLayers, Settings
from st4rtrack.view.placement import Placement, PointPath, picture_half_size
from st4rtrack.view.sampling import FRUSTUM_SHARE

if TYPE_CHECKING:
    from viser import ViserServer

PICKED_COLOURS = ((255, 196, 0), (86, 180, 233), (0, 200, 150), (230, 120, 200), (255, 110, 60), (240, 240, 240))
"""Colours of picked points, in turn; colour-blind safe on a dark background."""


class Stage:
    """Nodes of one scene in the window.

    Args:
        server: server that draws it.
        layers: layers of the scene.
        key: unique name of its node.
    """

    def __init__(self, server: "ViserServer", layers: SceneLayers, key: str) -> None:
        self.layers, self._scene, self._key = layers, server.scene, key
        self.placement = Placement()
        self.frustum_length = FRUSTUM_SHARE * max(layers.extent, 1e-6)
        self._root = self._scene.add_frame(f"/{key}", show_axes=False)
        self._clouds: dict[str, Any] = {}
        self._lines: dict[str, Any] = {}
        self._frustums: dict[int | str, Any] = {}
        self._accumulated: dict[int, Any] = {}
        self._accumulated_for: Any = None
        self._cameras_for: Any = None

    def remove(self) -> None:
        """Remove the scene from the window."""
        self._root.remove()

    def show(self, visible: bool, placement: Placement) -> None:
        """Show or hide the whole scene, at its placement."""
        self.placement = placement
        self._root.visible = visible

    def draw(self, frame: int, settings: Settings, *, cameras: bool, paths: list[PointPath]) -> None:
        """Draw a frame of the scene.

        Args:
            frame: frame index of this scene.
            settings: layers and points to show.
            cameras: whether to draw cameras, if the settings show them; false while looking through one.
            paths: full paths of the picked points.
        """
        size = self.layers.point_size(settings) * self.placement.scale
        for branch in ("tracking", "reconstruction"):
            cloud = self.layers.cloud(frame, branch, settings) if getattr(settings, branch) else None
            self._draw_cloud(branch, cloud, size)
        self._draw_tails(frame, settings, size)
        self._draw_accumulated(frame, settings, size)
        self._draw_cameras(frame, settings.cameras and cameras)
        self._draw_paths(frame, paths, size)

    def _add_points(self, name: str, points: np.ndarray, colours: np.ndarray, size: float) -> Any:
        return self._scene.add_point_cloud(
            f"/{self._key}/{name}",
            points,
            colours,
            point_size=size,
            point_shape="circle",
            point_shading="flat",
            precision="float32",
        )

    def _draw_cloud(self, name: str, cloud: ColouredPoints | None, size: float) -> None:
        node = self._clouds.get(name)
        if cloud is None or not len(cloud.points):
            if node is not None:
                node.visible = False
            return
        points = self.placement.points(cloud.points)
        if node is None or len(node.points) != len(points):
            # Replaced as a whole: the browser must never combine positions and colours of different length.
            self._clouds[name] = self._add_points(name, points, cloud.colours, size)
            return
        node.points, node.colors, node.point_size, node.visible = points, cloud.colours, size, True

    def _draw_lines(self, name: str, segments: np.ndarray, colours: np.ndarray, width_px: float) -> None:
        node = self._lines.get(name)
        if not len(segments):
            if node is not None:
                node.visible = False
            return
        if node is not None and len(node.points) == len(segments):
            node.points, node.colors, node.visible = self.placement.points(segments), colours, True
            return
        self._lines[name] = self._scene.add_line_segments(
            f"/{self._key}/{name}", self.placement.points(segments), colours, thickness=width_px, thickness_units="screen"
        )

    def _draw_tails(self, frame: int, settings: Settings, size: float) -> None:
        if not settings.tracks:
            self._draw_lines("tails", np.empty((0, 2, 3)), np.empty((0, 2, 3)), 1)
            self._draw_cloud("heads", None, size)
            return
        tails = self.layers.tails(frame, settings)
        self._draw_lines("tails", tails.segments, tails.colours, 2.0)
        self._draw_cloud("heads", tails.heads, 0.6 * size)

    def _draw_accumulated(self, frame: int, settings: Settings, size: float) -> None:
        """Draw one cloud per accumulated frame; each is sent once, then only shown or hidden over time."""
        wanted = (settings.points, settings.least_sure, self.placement) if settings.accumulated else None
        if wanted != self._accumulated_for and wanted is not None:
            for t in self.layers.accumulated_frames().tolist():
                cloud = self.layers.accumulated(t, settings)
                points = self.placement.points(cloud.points)
                self._accumulated[t] = self._add_points(f"accumulated/{t}", points, cloud.colours, size)
            self._accumulated_for = wanted
        for t, node in self._accumulated.items():
            node.visible = settings.accumulated and t <= frame
            if node.visible:
                node.point_size = size

    def _draw_cameras(self, frame: int, visible: bool) -> None:
        if visible and self._cameras_for != self.placement:
            self._frustums.clear()
            self._add_cameras()
            self._cameras_for = self.placement
        for node in self._frustums.values():
            node.visible = visible
        if "path" in self._lines:
            self._lines["path"].visible = visible
        if visible:
            self._draw_current_camera(frame)

    def _add_cameras(self) -> None:
        """Add the fixed nodes: camera path, some cameras along it, and the anchor's camera with its picture."""
        poses = np.asarray(self.layers.scene.cameras.world_from_camera, np.float64)
        last = max(len(poses) - 1, 1)
        colours = map_colours(np.arange(len(poses)), (0, last), TIME_MAP)
        centres = poses[:, :3, 3]
        self._draw_lines("path", np.stack([centres[:-1], centres[1:]], 1), np.stack([colours[:-1], colours[1:]], 1), 2.0)
        anchor = self.layers.scene.anchor_index
        for t in self.layers.shown_cameras().tolist():
            factor = 1.0 if t == anchor else 0.45
            self._frustums[t] = self._frustum(f"camera{t}", t, rgb_tuple(colours[t]), factor, picture=t == anchor)

    def _draw_current_camera(self, frame: int) -> None:
        """Draw the camera of the current frame with its picture; the node is moved, not recreated."""
        if "now" not in self._frustums:
            self._frustums["now"] = self._frustum("now", frame, (255, 255, 255), 1.3, picture=True)
            return
        node = self._frustums["now"]
        node.wxyz, node.position = self._pose(frame)
        node.image = self.layers.picture(frame)

    def _pose(self, frame: int) -> tuple[np.ndarray, np.ndarray]:
        """Orientation [4] (w, x, y, z) and position [3] of a frame's camera in the window."""
        from viser.transforms import SO3

        pose = np.asarray(self.layers.scene.cameras.world_from_camera[frame], np.float64)
        return SO3.from_matrix(pose[:3, :3]).wxyz, self.placement.points(pose[:3, 3])

    def _frustum(self, name: str, frame: int, colour: Colour, factor: float, *, picture: bool) -> Any:
        half_width, half_height = picture_half_size(self.layers.scene, frame)
        wxyz, position = self._pose(frame)
        node = self._scene.add_camera_frustum(
            f"/{self._key}/{name}",
            fov=float(2 * np.arctan(half_height)),
            aspect=half_width / half_height,
            color=colour,
            image=self.layers.picture(frame) if picture else None,
            format="jpeg",
            thickness=2.0 if picture else 1.2,
            thickness_units="screen",
            wxyz=wxyz,
            position=position,
            cast_shadow=False,
            receive_shadow=False,
        )
        node.scale = factor * self.placement.scale * self.frustum_length / node.compute_canonical_frustum_size()[2]
        return node

    def _draw_paths(self, frame: int, paths: list[PointPath], size: float) -> None:
        segments, colours, heads = [np.empty((0, 2, 3))], [np.empty((0, 2, 3), np.uint8)], []
        for k, path in enumerate(paths):
            pieces = np.stack([path.points[:-1], path.points[1:]], axis=1)
            pieces = pieces[np.isfinite(pieces).all(axis=(1, 2))]
            colour = np.array(PICKED_COLOURS[k % len(PICKED_COLOURS)], np.uint8)
            segments.append(pieces)
            colours.append(np.broadcast_to(colour, pieces.shape))
            if np.isfinite(path.points[frame]).all():
                heads.append((path.points[frame], colour))
        self._draw_lines("paths", np.concatenate(segments), np.concatenate(colours), 4.0)
        points, shown = (np.stack(part) for part in zip(*heads)) if heads else (np.empty((0, 3)), np.empty((0, 3)))
        self._draw_cloud("picked", ColouredPoints(points.astype(np.float32), shown), 3 * size)


def marked_picture(layers: SceneLayers, paths: list[PointPath], long_side: int = 480) -> np.ndarray:
    """Anchor image [height, width, 3] uint8 with the picked points marked."""
    picture = layers.picture(layers.scene.anchor_index, long_side)
    factor = long_side / max(picture.shape[:2])
    picture = cv2.resize(picture, None, fx=factor, fy=factor) if factor > 1 else picture.copy()
    size = layers.scene.rgb.shape[1:3]
    for k, path in enumerate(paths):
        network_px = layers.scene.pixel_map.network_from_source(np.array(path.query_source_px))
        u, v = (network_px * picture.shape[1::-1] / (size[1], size[0])).round().astype(int).tolist()
        cv2.circle(picture, (u, v), 7, (20, 20, 20), -1, cv2.LINE_AA)
        cv2.circle(picture, (u, v), 5, PICKED_COLOURS[k % len(PICKED_COLOURS)], -1, cv2.LINE_AA)
    return picture
