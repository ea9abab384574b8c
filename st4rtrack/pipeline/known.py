"""Alignment of the predictions to user-provided geometry: intrinsics, cameras, depth, static pixels, units.

Fused geometry has received most of it (`classical/anchored.py`), so that little remains to be corrected; the predictions of
networks are aligned here. Symbols: K intrinsics, D known depth, z depth in the camera of a frame. Lengths
are in the unit of the known depth, else of the known cameras, else of the network; times metres per unit, if provided.
"""

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from st4rtrack.classical.anchor import NEIGHBOUR_FRAMES, ONE_UNIT, Units
from st4rtrack.geometry.camera import pixel_grid, project, unproject, zoom_intrinsics
from st4rtrack.geometry.sampling import inside_image, nearest_pixel, sample_map
from st4rtrack.geometry.transforms import invert_rigid, rigid, transform_maps, transform_points
from st4rtrack.geometry.vectors import all_finite, length
from st4rtrack.pipeline.cameras import solve_camera
from st4rtrack.types import KnownVideo, Pointmap, TwoPointmaps, UserError

logger = logging.getLogger(__name__)

UNIT_FRAMES = 8
"""Number of frames around the anchor that determine the unit of known cameras for a network."""
NOISE_FACTOR, MAX_LOG_MOVE = 3.0, 0.15
"""Tracks are moved to known depth that differs by less than this factor times the median difference of the frame, and less than
`MAX_LOG_MOVE` (log): otherwise the pixel shows something else."""

PredictFrames = Callable[[list[int]], Iterator[tuple[int, Pointmap]]]


class KnownGeometryAligner:
    """Alignment of pointmaps to the known geometry; one frame at a time, in any order.

    Args:
        known: known geometry of the video.
        anchor_index: index of the anchor frame.
        own: pointmaps of the anchor with itself, as predicted.
        estimated: intrinsics [3, 3] that fit these pointmaps.
        units: units of the known geometry in the hints; `Units()` if they contain none.
        predict: predicts reconstructions of other frames, if needed to estimate the unit of the cameras.
        zoom: [T] focal length of each frame over that of the anchor, if intrinsics are not known; `None` if it is constant.
    Raises:
        UserError: depth is unknown in the whole anchor, or the pixels of a known distance have no points.
    """

    def __init__(
        self,
        known: KnownVideo,
        anchor_index: int,
        own: TwoPointmaps,
        estimated: np.ndarray,
        units: Units,
        predict: PredictFrames,
        *,
        zoom: np.ndarray | None = None,
    ) -> None:
        self._zoom = zoom
        self._known, self._anchor_index, self._estimated = known, anchor_index, estimated
        self._hint_units = units
        points = own.tracking.points_world.astype(np.float64)
        self._size = points.shape[:2]
        self._linear = np.eye(3)
        if known.intrinsics is not None:
            self._linear = np.linalg.inv(known.intrinsics[anchor_index]) @ estimated
        self._depth_unit, self._camera_unit = self._found_units(points, predict)
        self.unit = self._depth_unit or self._camera_unit or 1.0
        self.metres = self._metres(own)
        self._begin(own)

    @property
    def start(self) -> np.ndarray:
        """[H, W, 3] anchor points at the anchor time."""
        return self._start

    def intrinsics(self, index: int) -> np.ndarray:
        """Intrinsics [3, 3] of a frame."""
        if self._known.intrinsics is not None:
            return self._known.intrinsics[index]
        return self._estimated if self._zoom is None else zoom_intrinsics(self._estimated, self._zoom[index])

    def camera(self, index: int) -> np.ndarray | None:
        """Known `world_from_camera` [4, 4] of a frame in the unit of the scene, or `None`."""
        if self._known.world_from_camera is None or not np.isfinite(self._known.world_from_camera[index]).all():
            return None
        camera = self._known.world_from_camera[index]
        return rigid(camera[:3, :3], camera[:3, 3] * (self.metres * self.unit / (self._camera_unit or self.unit)))

    def align(self, index: int, maps: TwoPointmaps, neighbour: np.ndarray) -> tuple[TwoPointmaps, np.ndarray, bool]:
        """Align the pointmaps and camera of a frame to the known geometry.

        Args:
            index: index of the frame.
            maps: predicted pointmaps.
            neighbour: `world_from_camera` [4, 4] of the neighbour on the side of the anchor: used if no pose is known or
                estimated.
        Returns:
            The pointmaps, `world_from_camera` [4, 4], and whether the pose is known or estimated.
        """
        tracking, reconstruction = (self._scaled(branch.points_world) for branch in (maps.tracking, maps.reconstruction))
        intrinsics, depth, known = self.intrinsics(index), self._depth(index), self.camera(index)
        found = np.eye(4) if index == self._anchor_index else known if self._hint_units.cameras is not None else None
        if found is None:
            found = solve_camera(self._static_part(index, replace(maps.reconstruction, points_world=reconstruction)), intrinsics)
        if found is not None and depth is not None and self._hint_units.depth is None:
            pair = _scale_to_depth(reconstruction, found, depth)
            tracking, reconstruction = tracking * pair, reconstruction * pair
            found = rigid(found[:3, :3], found[:3, 3] * pair)
        if known is not None and found is not None:
            reconstruction = transform_maps(known @ invert_rigid(found), reconstruction)
        camera = next(each for each in (known, found, neighbour) if each is not None)
        reconstruction = self._on_rays(reconstruction, camera, intrinsics, depth)
        tracking = self._tracks(index, tracking, camera, intrinsics, depth)
        aligned = TwoPointmaps(
            replace(maps.tracking, points_world=tracking.astype(np.float32)),
            replace(maps.reconstruction, points_world=reconstruction.astype(np.float32)),
        )
        return aligned, camera, known is not None or found is not None

    @property
    def results(self) -> dict[str, Any]:
        """Results for the scene: units, and the similarity [4, 4] to the world of the known cameras; plain values."""
        known = self._known
        units = "depth" if known.depth is not None else "cameras" if self._camera_unit is not None else "model"
        if known.metres_per_unit is not None or known.distance is not None:
            units = "metres"
        results: dict[str, Any] = {"units": units, "units_per_model_unit": self.unit * self.metres}
        if known.known_from_anchor is not None and self._camera_unit is not None:
            scale = self._camera_unit / (self.unit * self.metres)
            results["known_from_world"] = (known.known_from_anchor @ np.diag([scale, scale, scale, 1.0])).tolist()
        return results

    def _found_units(self, points: np.ndarray, predict: PredictFrames) -> tuple[float | None, float | None]:
        """Lengths of the known depth and of the known cameras that equal one unit of the network."""
        depth_unit = camera_unit = None
        if self._known.depth is not None:
            known = self._known.depth(self._anchor_index)
            if not (known > 0).any():
                raise UserError("the depth of the anchor frame is unknown everywhere; choose another anchor (--anchor)")
            depth_unit = self._hint_units.depth or _scale_to_depth(points, np.eye(4), known)
        if self._known.world_from_camera is not None:
            camera_unit = self._hint_units.cameras or self._unit_of_camera_distances(predict)
            if depth_unit and (camera_unit is None or abs(np.log(camera_unit / depth_unit)) < ONE_UNIT):
                camera_unit = depth_unit
        return depth_unit, camera_unit

    def _unit_of_camera_distances(self, predict: PredictFrames) -> float | None:
        """Ratio of known to estimated camera distances from the anchor; `None` if the known cameras do not move."""
        cameras = self._known.world_from_camera
        assert cameras is not None
        distance = np.nan_to_num(length(cameras[:, :3, 3]))
        distance[np.abs(np.arange(len(distance)) - self._anchor_index) > NEIGHBOUR_FRAMES] = 0
        far = [int(index) for index in np.argsort(-distance, kind="stable") if distance[index] > 0]
        ratios = []
        for index, reconstruction in predict(sorted(far[:: max(1, len(far) // (2 * UNIT_FRAMES))][:UNIT_FRAMES])):
            points = reconstruction.points_world.astype(np.float64) @ self._linear.T
            reconstruction = self._static_part(index, replace(reconstruction, points_world=points))
            found = solve_camera(reconstruction, self.intrinsics(index))
            if found is not None and np.linalg.norm(found[:3, 3]) > 0:
                ratios.append(distance[index] / np.linalg.norm(found[:3, 3]))
        if not ratios:
            logger.info("the known cameras do not move or cannot be compared with the estimated ones: scale undetermined")
            return None
        return float(np.median(ratios))

    def _metres(self, own: TwoPointmaps) -> float:
        """Metres per unit, or 1 if unknown."""
        if self._known.distance is None:
            return self._known.metres_per_unit or 1.0
        self.metres = 1.0
        self._begin(own)
        points = sample_map(self._start, self._known.distance[0])
        distance = float(np.linalg.norm(points[0] - points[1]))
        if not (np.isfinite(distance) and distance > 0):
            raise UserError("the two pixels of --known-distance have no distinct points in the anchor frame; choose other pixels")
        return self._known.distance[1] / distance

    def _begin(self, own: TwoPointmaps) -> None:
        """Set the initial track points, and per pixel the map X' = ratio X + offset from predicted to aligned track points."""
        points = self._scaled(own.tracking.points_world)
        intrinsics, depth = self.intrinsics(self._anchor_index), self._depth(self._anchor_index)
        self._start = self._on_rays(points, np.eye(4), intrinsics, depth)
        sound = (points[..., 2] > 0) & (self._start[..., 2] > 0)
        self._ratio = np.where(sound, self._start[..., 2] / np.where(sound, points[..., 2], 1.0), 1.0)[..., None]
        self._offset = self._start - self._ratio * points

    def _scaled(self, points: np.ndarray) -> np.ndarray:
        return points.astype(np.float64) @ (self._linear.T * (self.unit * self.metres))

    def _depth(self, index: int) -> np.ndarray | None:
        return None if self._known.depth is None else self._known.depth(index) * self.metres

    def _static_part(self, index: int, reconstruction: Pointmap) -> Pointmap:
        """Mask out the pixels known to be dynamic, if any: they are not used for pose estimation."""
        if self._known.static is None:
            return reconstruction
        static = self._known.static(index)[..., None]
        return replace(reconstruction, points_world=np.where(static, reconstruction.points_world, np.nan))

    def _on_rays(self, points: np.ndarray, camera: np.ndarray, intrinsics: np.ndarray, depth: np.ndarray | None) -> np.ndarray:
        """Points [H, W, 3] of a frame at known or else predicted depth, on the pixel rays if intrinsics or cameras are known."""
        own = transform_maps(invert_rigid(camera), points)[..., 2]
        z = own if depth is None else np.where(depth > 0, depth, own)
        aligned = transform_maps(camera, unproject(pixel_grid(*self._size), z, intrinsics))
        moves = (z > 0) if self._known.intrinsics is not None or self._known.world_from_camera is not None else z != own
        return np.where(moves[..., None], aligned, points)

    def _tracks(
        self, index: int, tracking: np.ndarray, camera: np.ndarray, intrinsics: np.ndarray, depth: np.ndarray | None
    ) -> np.ndarray:
        """Anchor points [H, W, 3] in a frame, mapped from their start; constant where known static, at known depth if visible."""
        if index == self._anchor_index:
            return self._start
        tracking = self._ratio * tracking + self._offset
        if depth is not None:
            tracking = _moved_to_depth(tracking, camera, intrinsics, depth)
        if self._known.static is not None:
            tracking = np.where(self._known.static(self._anchor_index)[..., None], self._start, tracking)
        return tracking


def _scale_to_depth(points_world: np.ndarray, camera: np.ndarray, depth: np.ndarray) -> float:
    """Median ratio of known depth [H, W] (0 where unknown) to that of points [H, W, 3] in a camera; 1 without overlap."""
    z = transform_maps(invert_rigid(camera), points_world)[..., 2]
    both = (depth > 0) & (z > 0)
    return float(np.median(depth[both] / z[both])) if both.any() else 1.0


def _moved_to_depth(points_world: np.ndarray, camera: np.ndarray, intrinsics: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """Move points [H, W, 3] along their rays to the known depth [H, W] of their pixels, where it is about equal."""
    points = transform_points(invert_rigid(camera), points_world.reshape(-1, 3))
    z = np.where(points[:, 2] > 0, points[:, 2], np.nan)
    with np.errstate(invalid="ignore"):
        pixels = project(np.column_stack([points[:, :2], z]), intrinsics)
        inside = all_finite(pixels) & inside_image(pixels, *depth.shape)
    row, column = nearest_pixel(np.where(inside[:, None], pixels, 0.0), *depth.shape)
    measured = np.where(inside, depth[row, column], 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = measured / z
        away = np.abs(np.log(ratio))
    finite = away[np.isfinite(away)]
    near = away <= min(NOISE_FACTOR * float(np.median(finite)), MAX_LOG_MOVE) if len(finite) else np.zeros(len(away), bool)
    moved = transform_points(camera, np.where(near[:, None], points * ratio[:, None], points))
    return moved.reshape(points_world.shape)
