"""Raw data sets as they are published (names, encodings, types), small, of a world whose truth is known in closed form."""

import gzip
import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from st4rtrack.geometry.transforms import rigid

NORMAL = np.array([0.3, -0.2, 1.0])
DISTANCE = 3.0
VELOCITY = np.array([0.004, -0.002, 0.006])
"""Metres per frame."""


@dataclass(frozen=True)
class World:
    """A slanted plane NORMAL . X = DISTANCE that moves with VELOCITY, points on it, and a camera that moves before it.

    Attributes:
        frames, height, width: of the video.
        intrinsics: [3, 3].
        points: how many.
        first_pixel_centre: where the data set has it.
    """

    frames: int = 12
    height: int = 36
    width: int = 48
    intrinsics: np.ndarray = field(default_factory=lambda: np.array([[50.0, 0, 24.0], [0, 47.0, 18.0], [0, 0, 1.0]]))
    points: int = 300
    first_pixel_centre: float = 0.5
    seed: int = 0

    @cached_property
    def world_from_camera(self) -> np.ndarray:
        """[time, 4, 4]; no frame is the identity."""
        turn = np.linspace(0.1, 0.4, self.frames)
        rotation = np.stack([cv2.Rodrigues(np.array([0.3 * a, -0.5 * a, 0.2 * a]))[0] for a in turn])
        return rigid(rotation, np.stack([0.5 * turn + 0.3, -0.4 * turn, 0.6 * turn - 1.0], axis=1))

    @cached_property
    def camera_from_world(self) -> np.ndarray:
        return np.linalg.inv(self.world_from_camera)

    @cached_property
    def points_world(self) -> np.ndarray:
        """[time, points, 3], spread over the views of all frames."""
        rng = np.random.default_rng(self.seed)
        pixels = rng.uniform((0, 0), (self.width, self.height), (self.points, 2))
        seen_at = rng.integers(0, self.frames, self.points)
        start = np.stack([self.surface(t, pixels[k]) - VELOCITY * t for k, t in enumerate(seen_at)])
        return start + VELOCITY * np.arange(self.frames)[:, None, None]

    @cached_property
    def stored_visible(self) -> np.ndarray:
        """[time, points] flags that do not know of the image's border, as some data sets have them."""
        return np.random.default_rng(self.seed + 1).random((self.frames, self.points)) < 0.8

    @cached_property
    def pixels_px(self) -> np.ndarray:
        """[time, points, 2] where the points are seen."""
        return self.project(self.points_camera)

    @cached_property
    def points_camera(self) -> np.ndarray:
        return (
            np.einsum("tij,tnj->tni", self.camera_from_world[:, :3, :3], self.points_world)
            + self.camera_from_world[:, None, :3, 3]
        )

    def project(self, points_camera: np.ndarray) -> np.ndarray:
        x, y, z = np.moveaxis(points_camera, -1, 0)
        k = self.intrinsics
        return np.stack([k[0, 0] * x / z + k[0, 2], k[1, 1] * y / z + k[1, 2]], axis=-1)

    def seen(self) -> np.ndarray:
        """[time, points] in the image, and flagged as visible."""
        u, v = np.moveaxis(self.pixels_px, -1, 0)
        return self.stored_visible & (u >= 0) & (u < self.width) & (v >= 0) & (v < self.height)

    def surface(self, t: int, pixels: np.ndarray) -> np.ndarray:
        """World points [..., 3] that pixels [..., 2] of frame t show."""
        return self._rays(t, pixels) * self._depth_at(t, pixels)[..., None] + self.world_from_camera[t, :3, 3]

    def depth(self, t: int) -> np.ndarray:
        """[height, width] metres."""
        u, v = np.meshgrid(np.arange(self.width), np.arange(self.height))
        return self._depth_at(t, np.stack([u, v], -1) + self.first_pixel_centre)

    def rgb(self, t: int) -> np.ndarray:
        """A smooth image whose red is the frame's number."""
        image = np.zeros((self.height, self.width, 3))
        image[..., 0] = 20 + 17 * t % 200
        image[..., 1] = np.linspace(40, 200, self.width)
        image[..., 2] = np.linspace(60, 180, self.height)[:, None]
        return image.astype(np.uint8)

    def on_surface(self, t: int, points_world: np.ndarray) -> np.ndarray:
        """Distance in metres (over the normal's length) of points [..., 3] from the plane at time t."""
        return (points_world - VELOCITY * t) @ NORMAL - DISTANCE

    def _rays(self, t: int, pixels: np.ndarray) -> np.ndarray:
        k = self.intrinsics
        x, y = (pixels[..., 0] - k[0, 2]) / k[0, 0], (pixels[..., 1] - k[1, 2]) / k[1, 1]
        return np.stack([x, y, np.ones_like(x)], axis=-1) @ self.world_from_camera[t, :3, :3].T

    def _depth_at(self, t: int, pixels: np.ndarray) -> np.ndarray:
        offset = DISTANCE + NORMAL @ (VELOCITY * t) - NORMAL @ self.world_from_camera[t, :3, 3]
        return offset / (self._rays(t, pixels) @ NORMAL)


TUM_WORLD = World(
    frames=15, intrinsics=np.array([[525.0, 0, 319.5], [0, 525.0, 239.5], [0, 0, 1.0]]), points=0, first_pixel_centre=0.0
)


def write_point_odyssey(root: Path, name: str, world: World, *, focal_growth: float = 0.0, split: str = "test") -> Path:
    """`{split}/{name}`; the focal length grows by that share in each frame (only as it is written)."""
    folder = root / split / name
    for part in ("rgbs", "depths"):
        (folder / part).mkdir(parents=True)
    for t in range(world.frames):
        _write(folder / "rgbs" / f"rgb_{t:05d}.jpg", cv2.cvtColor(world.rgb(t), cv2.COLOR_RGB2BGR))
        _write(folder / "depths" / f"depth_{t:05d}.png", np.round(world.depth(t) * 65535 / 1000).astype(np.uint16))
    intrinsics = np.tile(world.intrinsics, (world.frames, 1, 1))
    intrinsics[:, (0, 1), (0, 1)] *= (1 + focal_growth * np.arange(world.frames))[:, None]
    np.savez(folder / "info.npz", sequence=name, trajs_3d=world.points_world.shape)
    np.savez_compressed(
        folder / "anno.npz",
        trajs_2d=world.pixels_px.astype(np.float32),
        trajs_3d=world.points_world.astype(np.float32),
        visibs=world.stored_visible,
        valids=np.ones_like(world.stored_visible),
        intrinsics=intrinsics,
        extrinsics=world.camera_from_world,
    )
    return folder


def write_dynamic_replica(root: Path, worlds: dict[str, World], *, isotropic: bool = True, indices: bool = False) -> list[dict]:
    """`test/`; both cameras in the list of frames, trajectories for the left one. Returns that list."""
    frames = []
    for name, world in worlds.items():
        for camera in ("left", "right"):
            for t in range(world.frames):
                frames.append(_replica_frame(root / "test", name, camera, world, t, isotropic, indices))
    with gzip.open(root / "test" / "frame_annotations_test.jgz", "wt") as file:
        json.dump(frames, file)
    return frames


def _replica_frame(root: Path, name: str, camera: str, world: World, t: int, isotropic: bool, indices: bool) -> dict[str, Any]:
    folder = f"{name}_source_{camera}"
    half = np.array([world.width, world.height]) / 2
    scale = np.full(2, half.min()) if isotropic else half
    camera_from_world = world.camera_from_world[t]
    frame = {
        "sequence_name": name,
        "frame_number": t,
        "frame_timestamp": t / 30,
        "camera_name": camera,
        "image": {"path": f"{folder}/images/{folder}-{t:04d}.png", "size": [world.height, world.width]},
        "depth": {"path": f"{folder}/depths/{folder}_{t:04d}.geometric.png", "scale_adjustment": 1.0},
        "trajectories": None if camera == "right" else {"path": f"{folder}/trajectories/{t:06d}.pth"},
        "viewpoint": {
            # PyTorch3D: x_view = x_world R + T in axes x left, y up, z forward
            "R": (camera_from_world[:3, :3].T @ np.diag([-1.0, -1.0, 1.0])).tolist(),
            "T": (camera_from_world[:3, 3] * [-1.0, -1.0, 1.0]).tolist(),
            "focal_length": (world.intrinsics[(0, 1), (0, 1)] / scale).tolist(),
            "principal_point": ((half - world.intrinsics[:2, 2]) / scale).tolist(),
            "intrinsics_format": "ndc_isotropic" if isotropic else "ndc_norm_image_bounds",
        },
    }
    if camera == "left":
        for part in ("images", "depths", "trajectories"):
            (root / folder / part).mkdir(parents=True, exist_ok=True)
        _write(root / frame["image"]["path"], cv2.cvtColor(world.rgb(t), cv2.COLOR_RGB2BGRA))
        _write(root / frame["depth"]["path"], world.depth(t).astype(np.float16).view(np.uint16))
        visible = world.stored_visible[t]
        torch.save(
            {
                "img": torch.from_numpy(world.rgb(t)),
                "traj_2d": torch.from_numpy(np.concatenate([world.pixels_px[t], world.points_camera[t, :, 2:]], 1)).float(),
                "traj_3d_world": torch.from_numpy(world.points_world[t]).float(),
                "verts_inds_vis": torch.from_numpy(np.flatnonzero(visible) if indices else visible),
                "instances": torch.zeros(world.points),
            },
            root / frame["trajectories"]["path"],
        )
    return frame


def write_tum(root: Path, name: str, world: World = TUM_WORLD, *, without_depth: tuple[int, ...] = ()) -> Path:
    """`{name}/`: three clocks, other cameras between those of the frames, and frames that have no depth near."""
    folder = root / name
    for part in ("rgb", "depth"):
        (folder / part).mkdir(parents=True)
    rgb, depth, cameras = [], [], []
    for t in range(world.frames):
        time_s = 1341846313.0 + t / 30
        rgb.append(f"{time_s:.6f} rgb/{time_s:.6f}.png")
        _write(folder / "rgb" / f"{time_s:.6f}.png", cv2.cvtColor(world.rgb(t), cv2.COLOR_RGB2BGR))
        cameras += [(time_s + 0.0031, world.world_from_camera[t]), (time_s + 0.0131, np.eye(4)), (time_s - 0.0069, np.eye(4))]
        if t not in without_depth:
            depth.append(f"{time_s + 0.005:.6f} depth/{time_s + 0.005:.6f}.png")
            _write(folder / "depth" / f"{time_s + 0.005:.6f}.png", np.round(world.depth(t) * 5000).astype(np.uint16))
    (folder / "rgb.txt").write_text("\n".join(["# color images", f"# file: '{name}.bag'", "# timestamp filename", *rgb]) + "\n")
    (folder / "depth.txt").write_text("\n".join(["# depth maps", "# timestamp filename", *depth]) + "\n")
    cameras.sort(key=lambda row: row[0])
    lines = [f"{time_s:.4f} " + " ".join(f"{x:.9f}" for x in _tx_ty_tz_qx_qy_qz_qw(camera)) for time_s, camera in cameras]
    (folder / "groundtruth.txt").write_text("\n".join(["# timestamp tx ty tz qx qy qz qw", *lines]) + "\n")
    return folder


def write_seven_scenes(root: Path, scene: str, world: World) -> Path:
    """`{scene}/seq-01` and `seq-03`, of which the list of test sequences names the latter; depth of pixel (0, 0) is unknown."""
    for name in ("seq-01", "seq-03"):
        folder = root / scene / name
        folder.mkdir(parents=True)
        for t in range(world.frames if name == "seq-03" else 1):
            _write(folder / f"frame-{t:06d}.color.png", cv2.cvtColor(world.rgb(t), cv2.COLOR_RGB2BGR))
            depth = np.round(world.depth(t) * 1000).astype(np.uint16)
            depth[0, 0] = 65535
            _write(folder / f"frame-{t:06d}.depth.png", depth)
            np.savetxt(folder / f"frame-{t:06d}.pose.txt", world.world_from_camera[t], fmt="%.9e", delimiter="\t ")
    (root / scene / "TestSplit.txt").write_text("sequence3\n")
    return root / scene / "seq-03"


def write_kitti(root: Path, name: str, world: World, *, latitude: float = 49.0) -> Path:
    """A raw drive whose inertial unit makes the camera's path, and annotated depth from frame 5 on."""
    date = root / name[:10]
    for folder in (date / name / "image_02/data", date / name / "oxts/data"):
        folder.mkdir(parents=True)
    annotated = root / "val" / name / "proj_depth/groundtruth/image_02"
    annotated.mkdir(parents=True)
    k, turn = world.intrinsics, np.array([[0.0, -1, 0], [0, 0, -1], [1, 0, 0]])  # camera axes from those of the vehicle
    shift = np.array([0.06, -0.001, 0.003])
    projection = np.hstack([k, (k @ shift)[:, None]])

    def row(key: str, values: np.ndarray) -> str:
        return f"{key}: " + " ".join(f"{value:.12e}" for value in np.ravel(values))

    lines = ["calib_time: 09-Jan-2012 13:57:47", row("R_rect_00", np.eye(3)), row("P_rect_02", projection)]
    (date / "calib_cam_to_cam.txt").write_text("\n".join(lines) + "\n")
    velo_from_imu = rigid(np.eye(3), np.array([-0.8, 0.3, -0.8]))
    for file, matrix in (("velo_to_cam", rigid(turn, np.array([0.0, -0.08, -0.27]))), ("imu_to_velo", velo_from_imu)):
        text = "\n".join([row("R", matrix[:3, :3]), row("T", matrix[:3, 3])])
        (date / f"calib_{file}.txt").write_text(text + "\n")
    camera_from_imu = rigid(np.eye(3), shift) @ rigid(turn, np.array([0.0, -0.08, -0.27])) @ velo_from_imu
    scale = 6378137.0 * np.cos(np.radians(latitude))
    for t, pose in enumerate(world.world_from_camera @ camera_from_imu):
        x, y, z = pose[:3, 3]
        north = np.log(np.tan(np.radians(90 + latitude) / 2)) + y / scale
        position = (np.degrees(2 * np.arctan(np.exp(north))) - 90, 8.4 + np.degrees(x / scale), 112 + z)
        r = pose[:3, :3]
        angles = (np.arctan2(r[2, 1], r[2, 2]), -np.arcsin(r[2, 0]), np.arctan2(r[1, 0], r[0, 0]))
        values = (*position, *angles, 0.0, 0.0, 4)
        (date / name / f"oxts/data/{t:010d}.txt").write_text(" ".join(f"{value:.15g}" for value in values) + "\n")
        _write(date / name / f"image_02/data/{t:010d}.png", cv2.cvtColor(world.rgb(t), cv2.COLOR_RGB2BGR))
        if t >= 5:
            _write(annotated / f"{t:010d}.png", np.round(world.depth(t) * 256).astype(np.uint16))
    return date


def _tx_ty_tz_qx_qy_qz_qw(world_from_camera: np.ndarray) -> list[float]:
    axis_angle = cv2.Rodrigues(world_from_camera[:3, :3])[0][:, 0]
    angle = float(np.linalg.norm(axis_angle))
    axis = axis_angle / angle if angle else axis_angle
    return [*world_from_camera[:3, 3], *(np.sin(angle / 2) * axis), float(np.cos(angle / 2))]


def write_tapvid3d(path: Path, world: World, *, cameras: bool = True, images: bool = True, objects: bool = True) -> None:
    """One file of TAPVid-3D; images as an object array of bytes, which is how they are distributed, or as byte strings."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cameras:
        world = fixed(world)
    jpegs = [cv2.imencode(".jpg", cv2.cvtColor(world.rgb(t), cv2.COLOR_RGB2BGR))[1].tobytes() for t in range(world.frames)]
    arrays: dict[str, Any] = {
        "queries_xyt": np.concatenate([world.pixels_px[0], np.zeros((world.points, 1))], axis=1),
        "tracks_XYZ": world.points_camera.astype(np.float32),
        "visibility": world.stored_visible,
        "fx_fy_cx_cy": world.intrinsics[(0, 1, 0, 1), (0, 1, 2, 2)],
    }
    if images:
        arrays["images_jpeg_bytes"] = np.array(jpegs, dtype=object if objects else np.bytes_)
    if cameras:
        arrays["extrinsics_w2c"] = world.camera_from_world
    np.savez(path, **arrays)


class _FixedCamera(World):
    @cached_property
    def world_from_camera(self) -> np.ndarray:
        return np.tile(np.eye(4), (self.frames, 1, 1))


def fixed(world: World) -> World:
    """The same with a camera that stays at the origin."""
    return _FixedCamera(**{name: getattr(world, name) for name in world.__dataclass_fields__})


def _write(path: Path, image: np.ndarray) -> None:
    assert cv2.imwrite(str(path), image)
