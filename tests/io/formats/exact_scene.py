"""A scene that is true: a portrait video on disk, a wall with a patch that moves away, cameras that turn; and who saw what."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from st4rtrack.geometry.camera import intrinsics_from_focal, pixel_grid, project, unproject
from st4rtrack.geometry.lens import Lens, LensModel
from st4rtrack.geometry.sampling import inside_image
from st4rtrack.geometry.transforms import invert_rigid, rigid, transform_points
from st4rtrack.io.video import open_video
from st4rtrack.preprocess import to_network_size, undistort
from st4rtrack.scene import Scene
from st4rtrack.types import Cameras, Pointmap, TrackingOverTime

SOURCE_SIZE = (61, 45)
WALL_DEPTH = 3.0


def write_video_frames(folder: Path, num_frames: int = 6) -> Path:
    """A folder of smooth portrait pictures that differ from frame to frame."""
    folder.mkdir(parents=True)
    height, width = SOURCE_SIZE
    v, u = np.mgrid[:height, :width]
    for t in range(num_frames):
        waves = [127 + 120 * np.sin(0.15 * u + 0.1 * channel * v + 0.9 * t + channel) for channel in range(3)]
        cv2.imwrite(str(folder / f"{t:03d}.png"), np.stack(waves, axis=-1).astype(np.uint8))
    return folder


def exact_scene(folder: Path, num_frames: int = 6, *, anchor_index: int = 1) -> Scene:
    """The scene of `write_video_frames(folder / "video")`: cropped on both axes, its two scales a little different."""
    source = open_video(write_video_frames(folder / "video", num_frames))
    video, pixel_map = to_network_size(source, long_side=30, patch_size=8)
    height, width = video.height, video.width
    assert (height, width) == (24, 16) and pixel_map.scale[0] != pixel_map.scale[1] and min(pixel_map.offset_px) < 0
    intrinsics = intrinsics_from_focal(20.0, height, width)
    intrinsics[0, 2] += 1.5
    intrinsics[1, 1] = 21.0
    world_from_camera = np.stack([_camera(t - anchor_index) for t in range(num_frames)])
    rays = unproject(pixel_grid(height, width).reshape(-1, 2), np.ones(height * width), intrinsics)
    moving = np.zeros((height, width), bool)
    moving[8:14, 5:10] = True
    tracking, visible, reconstruction = [], [], []
    for t in range(num_frames):
        points = rays * WALL_DEPTH + (moving.reshape(-1, 1) * np.array([0.25, 0.0, -0.1])) * (t - anchor_index)
        seen_px = project(transform_points(invert_rigid(world_from_camera[t]), points), intrinsics)
        tracking.append(points)
        visible.append(inside_image(seen_px, height, width) | (t == anchor_index))
        directions = rays @ world_from_camera[t, :3, :3].T
        centre = world_from_camera[t, :3, 3]
        reconstruction.append(centre + directions * ((WALL_DEPTH - centre[2]) / directions[:, 2:]))
    image = (num_frames, height, width)
    confidence = 1.0 + np.random.default_rng(0).random(image).astype(np.float32)
    return Scene(
        rgb=np.stack(list(video.frames())),
        time_s=video.time_s,
        tracking=TrackingOverTime(
            np.reshape(tracking, (*image, 3)).astype(np.float32),
            confidence,
            visible=np.reshape(visible, image),
            moving=moving,
        ),
        reconstruction=Pointmap(np.reshape(reconstruction, (*image, 3)).astype(np.float32), confidence),
        cameras=Cameras(world_from_camera, np.tile(intrinsics, (num_frames, 1, 1)), np.ones(num_frames, bool)),
        anchor_index=anchor_index,
        pixel_map=pixel_map,
        source_size=SOURCE_SIZE,
        info={"source": {"video": str(folder / "video"), "first_frame": 0, "last_frame": num_frames - 1}},
    )


def distorted(scene: Scene, model: LensModel, *coefficients: float) -> Scene:
    """The scene as if its source video had lens distortion."""
    fx, fy, cx, cy = scene.pixel_map.source_intrinsics(scene.cameras.intrinsics[0])[(0, 1, 0, 1), (0, 1, 2, 2)].tolist()
    lens = Lens(model, coefficients, (1.05 * fx, 1.02 * fy, cx + 0.5, cy - 0.4), (fx, fy, cx, cy))
    source = undistort(open_video(scene.info["source"]["video"]), lens)
    video, _ = to_network_size(source, long_side=30, patch_size=8)
    return replace(scene, rgb=np.stack(list(video.frames())), pixel_map=replace(scene.pixel_map, lens=lens))


def source_px(scene: Scene, frame: int, points_world: np.ndarray) -> np.ndarray:
    """Where points [points, 3] are seen in the source video: the slow way, by the network's pixels."""
    camera_from_world = np.linalg.inv(np.asarray(scene.cameras.world_from_camera[frame]))
    homogeneous = np.asarray(scene.cameras.intrinsics[frame]) @ (
        camera_from_world[:3, :3] @ points_world.T + camera_from_world[:3, 3:]
    )
    return scene.pixel_map.source_from_network((homogeneous[:2] / homogeneous[2]).T)


def _camera(step: int) -> np.ndarray:
    turn, _ = cv2.Rodrigues(np.array([0.01, -0.03, 0.02]) * step)
    return rigid(turn, np.array([0.08, 0.02, 0.05]) * step)
