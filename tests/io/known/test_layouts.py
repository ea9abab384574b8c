"""Files of feed-forward models, written here as their documentation describes them: cameras, intrinsics and depth are read back."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pycolmap
import pytest

from st4rtrack.geometry.camera import pixel_grid
from st4rtrack.geometry.transforms import invert_rigid, quaternion_from_rotation
from st4rtrack.io.known.cameras import read_cameras
from st4rtrack.io.known.known import known_of_video
from st4rtrack.io.known.maps import open_depth
from st4rtrack.io.video import open_video
from st4rtrack.options import KnownGeometry
from st4rtrack.types import PixelMap, UserError
from tests.moving_camera import path as camera_path

COUNT = 3
CAMERAS = camera_path(COUNT)


@dataclass(frozen=True)
class Image:
    """An image of a model, as a map from source pixels: a scale (u, v), then an offset (u, v); sizes are (height, width)."""

    source: tuple[int, int]
    size: tuple[int, int]
    scale: tuple[float, float]
    offset_px: tuple[float, float] = (0.0, 0.0)

    @property
    def intrinsics(self) -> np.ndarray:
        """[COUNT, 3, 3]: the focal length is 700 source pixels, the principal point is near the centre."""
        height, width = self.source
        matrix = np.array([[700.0, 0, width / 2 + 4], [0, 700, height / 2 - 3], [0, 0, 1]])
        change = np.diag([*self.scale, 1])
        change[:2, 2] = self.offset_px
        return np.tile(change @ matrix, (COUNT, 1, 1)).astype(np.float32)

    @property
    def depth(self) -> np.ndarray:
        """[COUNT, height, width]: frame index * 5000 + u + v, in source pixels."""
        source_px = (pixel_grid(*self.size) - self.offset_px) / self.scale
        return (source_px.sum(axis=-1) + 5000 * np.arange(1, COUNT + 1)[:, None, None]).astype(np.float32)


def resized(source: tuple[int, int], size: tuple[int, int]) -> Image:
    return Image(source, size, (size[1] / source[1], size[0] / source[0]))


WIDE, TALL = (720, 1280), (1280, 720)
DA3 = resized(WIDE, (280, 504))  # long side 504; 283.5 rows rounded to a multiple of 14
DA3_SCOPE = resized((536, 1280), (210, 504))  # 211.05 rows: the aspect ratio differs by 0.5 %
VGGT = resized(WIDE, (294, 518))  # 518 wide; 291.4 rows rounded to a multiple of 14
VGGT_2_1 = resized((640, 1280), (252, 518))  # 259 rows: the aspect ratio differs by 2.8 %
VGGT_TALL = Image(TALL, (518, 518), (518 / 720, 924 / 1280), (0, -203))  # 924 rows, of which the middle 518 are kept
MAPANYTHING = Image(WIDE, (294, 518), (294 / 720, 294 / 720), (-(1280 * 294 / 720 - 518) / 2, 0))  # columns are cut
MAPANYTHING_3_2 = Image((720, 1080), (336, 518), (518 / 1080, 518 / 1080), (0, -(720 * 518 / 1080 - 336) / 2))  # rows are cut
MONST3R = Image((704, 1280), (272, 512), (512 / 1280, 512 / 1280), (0, -(704 * 512 / 1280 - 272) / 2))  # a multiple of 16
MONST3R_WIDE = resized(WIDE, (288, 512))


def write_da3(folder: Path, image: Image) -> Path:
    path = folder / "results.npz"
    conf, poses = np.ones((COUNT, *image.size)), invert_rigid(CAMERAS)[:, :3].astype(np.float32)
    np.savez_compressed(path, depth=image.depth, conf=conf, extrinsics=poses, intrinsics=image.intrinsics)
    return path


def write_vggt(folder: Path, image: Image) -> Path:
    path = folder / "predictions.npz"
    np.savez(
        path,
        allow_pickle=True,
        pose_enc=np.zeros((COUNT, 9)),
        pose_enc_list=np.array([None], object),  # never loaded
        depth=image.depth[..., None],
        depth_conf=np.ones((COUNT, *image.size)),
        images=np.zeros((COUNT, 3, *image.size), np.uint8),
        extrinsic=invert_rigid(CAMERAS)[:, :3].astype(np.float32),
        intrinsic=image.intrinsics,
    )
    return path


def write_mapanything(folder: Path, image: Image) -> Path:
    path = folder / "views.npz"
    np.savez(path, camera_poses=CAMERAS.astype(np.float32), intrinsics=image.intrinsics, depth_z=image.depth[..., None])
    return path


def write_mapanything_app(folder: Path, image: Image) -> Path:
    path = folder / "predictions.npz"
    kept = np.ones((COUNT, *image.size), bool)
    poses = CAMERAS.astype(np.float32)
    np.savez(path, extrinsic=poses, intrinsic=image.intrinsics, depth=image.depth[..., None], conf=kept, final_mask=kept)
    return path


def write_monst3r(folder: Path, image: Image) -> Path:
    quaternion_wxyz = quaternion_from_rotation(CAMERAS[:, :3, :3])
    rows = np.column_stack([np.arange(COUNT), CAMERAS[:, :3, 3], quaternion_wxyz])
    np.savetxt(folder / "pred_traj.txt", rows, fmt="%.17g")
    np.savetxt(folder / "pred_intrinsics.txt", image.intrinsics.reshape(COUNT, 9), fmt="%.6f")
    for index, depth in enumerate(image.depth):
        np.save(folder / f"frame_{index:04d}.npy", depth)
        np.save(folder / f"conf_{index}.npy", np.ones_like(depth))
        (folder / f"frame_{index:04d}.png").write_bytes(b"a picture, not depth")
    return folder


@pytest.mark.parametrize(
    ("write", "image"),
    [
        (write_da3, DA3),
        (write_da3, DA3_SCOPE),
        (write_vggt, VGGT),
        (write_vggt, VGGT_2_1),
        (write_vggt, VGGT_TALL),
        (write_mapanything, MAPANYTHING),
        (write_mapanything, MAPANYTHING_3_2),
        (write_mapanything_app, MAPANYTHING),
        (write_monst3r, MONST3R),
        (write_monst3r, MONST3R_WIDE),
    ],
)
def test_known_geometry_of_a_model_matches_what_was_written(
    tmp_path: Path, write: Callable[[Path, Image], Path], image: Image
) -> None:
    path, (height, width) = write(tmp_path, image), image.source
    network, half = (height // 2, width // 2), PixelMap((0.5, 0.5))
    video = open_video(np.zeros((COUNT, height, width, 3), np.uint8))
    known = known_of_video(KnownGeometry(cameras=path, depth=path), video, half, network, anchor_index=1)

    assert known.world_from_camera is not None and known.intrinsics is not None and known.depth is not None
    np.testing.assert_allclose(known.world_from_camera, invert_rigid(CAMERAS[1]) @ CAMERAS, atol=1e-6)
    whole = resized(image.source, network)
    # VGGT's rounding of a height that it crops afterwards is left out: 0.3 % here; other maps of the image are off by 0.9 % or more.
    np.testing.assert_allclose(known.intrinsics, whole.intrinsics, rtol=4e-3, atol=1e-2)
    nearest_px = 2 + 0.51 * (1 / image.scale[0] + 1 / image.scale[1])  # and half a pixel of the file, in source pixels
    covered = min(1, image.size[0] / image.scale[1] / height) * min(1, image.size[1] / image.scale[0] / width)
    for index in range(COUNT):
        found = known.depth(index)
        assert (found > 0).mean() == pytest.approx(covered, abs=0.005)
        assert np.abs(found - whole.depth[index])[found > 0].max() < nearest_px


def write_model(folder: Path, image: Image, *, text: bool = False) -> Path:
    """A COLMAP model with a camera per image."""
    model = pycolmap.Reconstruction()
    for index, camera_from_world in enumerate(invert_rigid(CAMERAS)):
        k = image.intrinsics[index]
        params = [k[0, 0], k[1, 1], k[0, 2], k[1, 2]]
        size = {"width": image.size[1], "height": image.size[0]}
        model.add_camera_with_trivial_rig(pycolmap.Camera(model="PINHOLE", params=params, camera_id=index + 1, **size))
        named = pycolmap.Image(name=f"{index:06d}.png", camera_id=index + 1, image_id=index + 1)
        model.add_image_with_trivial_frame(named, pycolmap.Rigid3d(camera_from_world[:3]))
    folder.mkdir(parents=True)
    model.write(folder)
    if text:
        model.write_text(folder)
    return folder


@pytest.mark.parametrize(
    ("place", "image"),
    [
        ("sparse", resized(WIDE, WIDE)),  # VGGT: rescaled to the source images
        ("", resized(WIDE, WIDE)),  # Depth-Anything-3: the same, text and binary, in the folder itself
        ("sparse", MAPANYTHING),  # in pixels of its own images
        ("sparse", MAPANYTHING_3_2),
    ],
)
def test_read_cameras_of_an_exported_colmap_model_matches_what_was_written(tmp_path: Path, place: str, image: Image) -> None:
    write_model(tmp_path / "out" / place, image, text=not place)
    height, width = image.source
    video = open_video(np.zeros((COUNT, height, width, 3), np.uint8))
    known = known_of_video(KnownGeometry(cameras=tmp_path / "out"), video, PixelMap((0.5, 0.5)), (height // 2, width // 2), 0)
    assert known.world_from_camera is not None and known.intrinsics is not None
    np.testing.assert_allclose(known.world_from_camera, invert_rigid(CAMERAS[0]) @ CAMERAS, atol=1e-6)
    np.testing.assert_allclose(known.intrinsics, resized(image.source, (height // 2, width // 2)).intrinsics, atol=1e-2)


def test_depth_of_an_image_padded_to_a_square_raises(tmp_path: Path) -> None:
    path = write_vggt(tmp_path, resized(WIDE, (518, 518)))
    video = open_video(np.zeros((COUNT, *WIDE, 3), np.uint8))
    with pytest.raises(UserError, match=r"518x518 pixels, which has another aspect ratio than 1280x720"):
        known_of_video(KnownGeometry(cameras=path), video, PixelMap((0.5, 0.5)), (360, 640), 0)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: [each.unlink() for each in folder.glob("frame_*.npy")], "no depth maps"),
        (lambda folder: (folder / "pred_intrinsics.txt").write_text("1 2 3"), "is damaged"),
        (lambda folder: np.save(folder / "frame_0000.npy", np.ones(3)), "is damaged"),
        (lambda folder: (folder / "pred_traj.txt").write_text("0 0 0 0 1 0 0"), "eight numbers"),
    ],
)
def test_read_cameras_of_a_damaged_monst3r_folder_raises(tmp_path: Path, damage: Callable[[Path], object], message: str) -> None:
    damage(write_monst3r(tmp_path, MONST3R))
    with pytest.raises(UserError, match=message):
        read_cameras(tmp_path)


def test_read_cameras_of_an_npz_without_image_size_raises(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", extrinsics=CAMERAS, intrinsics=DA3.intrinsics, depth=np.ones(COUNT))
    with pytest.raises(UserError, match=r"depth of .* must be \[frames, height, width\]"):
        read_cameras(tmp_path / "a.npz")


def test_open_depth_with_several_channels_raises(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", depth=np.ones((COUNT, 4, 6, 2)))
    with pytest.raises(UserError, match=r"must be \[frames, height, width\]"):
        open_depth(tmp_path / "a.npz")
