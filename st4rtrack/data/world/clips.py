"""Clips of the rendered world with exact ground truth: depth, dense tracks, visibility, dynamic pixels, cameras."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from st4rtrack.data.clip import Clip
from st4rtrack.data.world.assets import Assets, open_assets
from st4rtrack.data.world.camera_effects import CameraEffects, automatic_exposure, develop, draw_effects, through_h264
from st4rtrack.data.world.camera_path import CameraPath, find_camera_path
from st4rtrack.data.world.cast import Caster, Geometry
from st4rtrack.data.world.frames import find_pictures, scene_rng
from st4rtrack.data.world.objects import WorldScene
from st4rtrack.data.world.scenes import make_scene
from st4rtrack.data.world.shade import View, render_view
from st4rtrack.geometry.camera import project

MOVES_M = 0.01
BEHIND_M = 0.01
"""Depth tolerance of visibility: a point farther than this, or 0.5 %, behind the first surface on its ray is occluded."""
_SCENE_OFFSET = 1 << 20
"""Offset of scene numbers, so that clips and single frames of a seed use different scenes."""


@dataclass(frozen=True, kw_only=True)
class WorldClip(Clip):
    """Training clip with more ground truth."""

    time_s: np.ndarray  # [T]
    visible: np.ndarray  # [T, H, W] bool, the point of a pixel of frame 0 is in view in frame t and not occluded
    dynamic: np.ndarray  # [T, H, W] bool, the pixel of frame t shows a point that moves more than a centimetre over the clip
    object_index: np.ndarray  # [T, H, W] int32, -1 for sky
    subject: np.ndarray  # [T, H, W] bool, people, animals and dynamic objects


def render_clip(
    world_scene: WorldScene,
    camera_path: CameraPath,
    times_s: np.ndarray,
    size: tuple[int, int],
    rng: np.random.Generator,
    effects: CameraEffects,
    geometry: Geometry | None = None,
    name: str = "",
) -> WorldClip:
    """Render a scene at times `times_s` [T] (the anchor's first) in images of `size` (height, width), with ground truth."""
    geometry = geometry or Geometry(world_scene)
    casters = [Caster(geometry, float(t)) for t in times_s]
    poses = [camera_path.pose(float(t)) for t in times_s]
    intrinsics = np.stack([camera_path.intrinsics(float(t), *size) for t in times_s])
    views = [render_view(c, k, pose, *size, rng) for c, k, pose in zip(casters, intrinsics, poses)]
    tracks, visible = _follow(views[0], casters, poses, intrinsics)
    anchor_from_world = np.linalg.inv(poses[0])
    cameras = np.stack([anchor_from_world @ pose for pose in poses])
    cameras[0] = np.eye(4)
    tracked = tracks @ anchor_from_world[:3, :3].T + anchor_from_world[:3, 3]
    valid = views[0].face >= 0
    tracked[:, ~valid] = 0
    dynamic = np.stack([_moving(view, casters) for view in views])
    # The tracks of the anchor at its own time equal its unprojected depth up to rounding.
    return WorldClip(
        rgb=_develop(views, casters, poses, intrinsics, times_s, effects, rng),
        time_s=times_s,
        depth=np.stack([view.depth for view in views]),
        intrinsics=intrinsics,
        world_from_camera=cameras,
        tracking_points_world=tracked.astype(np.float32),
        tracking_valid=np.broadcast_to(valid, visible.shape).copy(),
        visible=visible,
        moving=dynamic[0],
        dynamic=dynamic,
        name=name,
        object_index=np.stack([view.object_index for view in views]),
        subject=np.stack([(view.object_index >= 0) & geometry.moves[view.object_index] for view in views]),
    )


def _at_all_times(view: View, casters: list[Caster]) -> np.ndarray:
    """Positions [T, H, W, 3] float64 of a view's points at all times, in the scene's world; 0 for sky."""
    shown = view.face >= 0
    places = np.zeros((len(casters), *view.face.shape, 3))
    for k, caster in enumerate(casters):
        places[k][shown] = caster.points(view.face[shown], view.u[shown], view.v[shown])
    return places


def _moving(view: View, casters: list[Caster]) -> np.ndarray:
    """Pixels [H, W] bool whose points move over the clip."""
    moves = (view.object_index >= 0) & casters[0].geometry.moves[view.object_index]
    if not moves.any():
        return moves
    some = View(view.colour, view.depth, np.where(moves, view.face, -1), view.u, view.v, view.object_index)
    places = _at_all_times(some, casters)
    return moves & (np.linalg.norm(places - places[:1], axis=-1).max(0) > MOVES_M)


def _follow(view: View, casters: list[Caster], poses: list[np.ndarray], intrinsics: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions [T, H, W, 3] of the anchor's points in the scene's world, and their visibility [T, H, W]."""
    places = _at_all_times(view, casters)
    height, width = view.face.shape
    visible = np.zeros(places.shape[:3], bool)
    for k, (caster, pose) in enumerate(zip(casters, poses)):
        rows = np.flatnonzero(view.face.ravel() >= 0)
        points = places[k].reshape(-1, 3)[rows]
        local = (points - pose[:3, 3]) @ pose[:3, :3]
        front = local[:, 2] > 1e-3
        pixel = project(np.where(front[:, None], local, 1.0), intrinsics[k])
        inside = front & (pixel > 0).all(1) & (pixel[:, 0] < width) & (pixel[:, 1] < height)
        rows, points = rows[inside], points[inside]
        ray = (points - pose[:3, 3]).astype(np.float32)
        hits = caster.trace(np.broadcast_to(pose[:3, 3].astype(np.float32), ray.shape), ray)
        length = np.linalg.norm(ray, axis=1)
        visible[k].reshape(-1)[rows] = hits.distance * length > length - np.maximum(BEHIND_M, 0.005 * length)
    visible[0] = view.face >= 0
    return places, visible


def _develop(
    views: list[View],
    casters: list[Caster],
    poses: list[np.ndarray],
    intrinsics: np.ndarray,
    times_s: np.ndarray,
    effects: CameraEffects,
    rng: np.random.Generator,
) -> np.ndarray:
    """Images of the clip: [T, H, W, 3] uint8."""
    automatic = [automatic_exposure(view.colour) for view in views]
    pictures = []
    for k, view in enumerate(views):
        other = k + 1 if k + 1 < len(views) else k - 1
        flow = None
        if effects.shutter and len(views) > 1:
            flow = _flow(view, casters[other], poses[other], intrinsics[other])
        exposure = automatic[k] ** (1 - effects.lag) * automatic[0] ** effects.lag
        pictures.append(develop(view.colour, effects, exposure, float(times_s[k] - times_s[0]), flow, rng))
    if effects.h264 and len(pictures) > 1 and pictures[0].shape[0] % 2 == 0 and pictures[0].shape[1] % 2 == 0:
        pictures = through_h264(pictures, effects.h264)
    return np.stack(pictures)


def _flow(view: View, caster: Caster, pose: np.ndarray, intrinsics: np.ndarray) -> np.ndarray:
    """Optical flow [H, W, 2] float32 in pixels from a view to another time; 0 for sky."""
    height, width = view.face.shape
    flow = np.zeros((height, width, 2), np.float32)
    rows, columns = np.nonzero(view.face >= 0)
    points = caster.points(view.face[rows, columns], view.u[rows, columns], view.v[rows, columns])
    local = (points - pose[:3, 3]) @ pose[:3, :3]
    local[:, 2] = np.maximum(local[:, 2], 0.05)
    flow[rows, columns] = project(local, intrinsics) - np.stack([columns + 0.5, rows + 0.5], 1)
    return flow


@functools.lru_cache(maxsize=1)
def _geometry(assets: Assets, seed: int, split: str, scene: int, setting: str | None, pictures: Path | None) -> Geometry:
    """Scene of a clip source."""
    rng = scene_rng(seed, split, _SCENE_OFFSET + scene)
    return Geometry(make_scene(assets, split, rng, setting, find_pictures(pictures, split)))


@dataclass(frozen=True)
class WorldClips:
    """Endless source of clips of the rendered world: clip `index` is the same every time and in every process."""

    frames: int = 24  # frames per clip; two make a pair
    size: tuple[int, int] = (192, 256)  # height and width
    seed: int = 0  # seed of the whole source
    split: str = "train"  # "train" or "validation"
    # range of frames per second, drawn for every clip; the frames of a pair are up to 24 frames of that rate apart
    rate: tuple[float, float] = (6.0, 24.0)
    pictures: Path | None = None  # folder of photographs for surfaces
    # setting, camera: kinds of scene and of camera motion, None for mixtures
    setting: str | None = None
    camera: str | None = None
    per_scene: int = 1  # consecutive clips of one scene; larger values are faster, above all for pairs read in order
    # chooses the times [frames] of a clip in seconds, the anchor's first, from a random generator and the duration of the scene;
    # None for even spacing at `rate`
    times: Callable[[np.random.Generator, float], np.ndarray] | None = None

    def clip(self, index: int, assets: Assets | None = None) -> WorldClip:
        """Return clip `index` >= 0; the cached assets are opened if None are passed."""
        if index < 0:
            raise IndexError(f"clips are numbered from 0, not {index}")
        scene, number = divmod(index, self.per_scene)
        geometry = _geometry(assets or open_assets(), self.seed, self.split, scene, self.setting, self.pictures)
        world_scene = geometry.world_scene
        rng = scene_rng(self.seed, self.split, _SCENE_OFFSET + scene, number + 1)
        times = (self.times or self._even_times)(rng, world_scene.seconds)
        casters = [(float(t), Caster(geometry, float(t))) for t in (times.min(), times.max())]
        camera_path = find_camera_path(casters, rng, self.camera)
        name = f"world {self.split} {self.seed}/{index}"
        return render_clip(world_scene, camera_path, times, self.size, rng, draw_effects(rng), geometry, name)

    def _even_times(self, rng: np.random.Generator, seconds: float) -> np.ndarray:
        step = 1 / rng.uniform(*self.rate) * (int(rng.integers(1, 25)) if self.frames == 2 else 1)
        length = step * (self.frames - 1)
        start = rng.uniform(0, max(seconds - length, 0.1))
        times = start + np.arange(self.frames) * min(step, seconds / max(self.frames - 1, 1))
        return times[::-1].copy() if rng.random() < 0.3 else times
