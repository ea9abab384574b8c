"""Cameras in the files of other tools: what was written is read, for the frames it is of; a wrong file is a sentence."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from st4rtrack.geometry.transforms import invert_rigid
from st4rtrack.io.formats.camera_paths import write_tum
from st4rtrack.io.formats.common import OPENCV_FROM_OPENGL
from st4rtrack.io.formats.posed_images import write_colmap, write_colmap_text, write_transforms
from st4rtrack.io.known.cameras import CameraFile, read_cameras
from st4rtrack.io.known.matching import rows_by_name
from st4rtrack.io.video import open_video
from st4rtrack.types import UserError, Video
from tests.moving_camera import path as camera_path
from tests.synthetic_scene import synthetic_scene

COUNT = 12
CAMERAS = camera_path(COUNT)
INTRINSICS = np.array([[200.0, 0, 63], [0, 210, 49], [0, 0, 1]])


def video(**selection: object) -> Video:
    return open_video(np.zeros((COUNT, 96, 128, 3), np.uint8), **selection)  # type: ignore[arg-type]


def of_video(cameras: CameraFile, of: Video) -> np.ndarray:
    rows = cameras.rows(of)
    return np.where((rows >= 0)[:, None, None], cameras.world_from_camera[rows], np.nan)


def test_the_npz_of_megasam_vipe_worldtrack_and_our_own(tmp_path: Path) -> None:
    np.savez(tmp_path / "megasam.npz", images=np.zeros((COUNT, 48, 64, 3), np.uint8), cam_c2w=CAMERAS, intrinsic=INTRINSICS)
    np.savez(tmp_path / "worldtrack.npz", extrinsics_w2c=invert_rigid(CAMERAS), fx_fy_cx_cy=np.array([200.0, 210, 63, 49]))
    np.savez(tmp_path / "own.npz", world_from_camera=CAMERAS[:, :3], intrinsics=INTRINSICS, frame_index=np.arange(COUNT))
    for folder, data in (("pose", CAMERAS), ("intrinsics", np.tile([200.0, 210, 63, 49], (COUNT, 1)))):
        (tmp_path / folder).mkdir()
        np.savez(tmp_path / folder / "walk.npz", data=data, inds=np.arange(COUNT))
    for name in ("megasam.npz", "worldtrack.npz", "own.npz", "pose/walk.npz"):
        found = read_cameras(tmp_path / name)
        np.testing.assert_allclose(of_video(found, video(start=2, stride=3)), CAMERAS[2::3], atol=1e-9)
        assert found.intrinsics is not None
        np.testing.assert_allclose(found.intrinsics, np.tile(INTRINSICS, (COUNT, 1, 1)))
        assert found.size == ((48, 64) if name == "megasam.npz" else None)


def test_a_file_for_the_frames_that_are_processed(tmp_path: Path) -> None:
    np.savez(tmp_path / "few.npz", cam_c2w=CAMERAS[::3])
    found = read_cameras(tmp_path / "few.npz")
    np.testing.assert_allclose(of_video(found, video(stride=3)), CAMERAS[::3], atol=1e-9)
    with pytest.raises(UserError, match="is of 4 frames"):
        found.rows(video())


def test_what_we_write_as_tum_transforms_and_colmap_is_read_again(tmp_path: Path) -> None:
    scene = synthetic_scene(num_frames=COUNT, height=12, width=16)
    scene.cameras.world_from_camera = invert_rigid(CAMERAS[scene.anchor_index]) @ CAMERAS
    scene.cameras.solved = np.arange(COUNT) != 5
    write_tum(scene, tmp_path / "walk.txt")
    write_transforms(scene, tmp_path / "walk.json")
    for name, write in (("binary", write_colmap), ("text", write_colmap_text)):
        (tmp_path / name).mkdir()
        write(scene, tmp_path / name)
    for name in ("walk.txt", "walk.json", "binary", "text/sparse/0"):
        found = of_video(read_cameras(tmp_path / name), video())
        assert np.flatnonzero(np.isnan(found[:, 0, 0])).tolist() == [5], name
        np.testing.assert_allclose(np.delete(found, 5, 0), np.delete(scene.cameras.world_from_camera, 5, 0), atol=1e-8)


def test_tum_times_need_not_be_exact_and_may_be_frame_numbers(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    still = "0 0 0 0 0 0 1"
    late = [f"{k / 30 + random.uniform(-0.01, 0.01)} {k} {still[4:]}" for k in range(COUNT)]
    (tmp_path / "late.txt").write_text(
        "\n".join(["# a comment", *[f"{line.split()[0]} {k} 0 0 0 0 0 1" for k, line in enumerate(late)]])
    )
    (tmp_path / "numbers.txt").write_text("\n".join(f"{k} {k} 0 0 0 0 0 1" for k in range(COUNT)))
    for name in ("late.txt", "numbers.txt"):
        found = of_video(read_cameras(tmp_path / name), video(stride=2))
        np.testing.assert_array_equal(found[:, 0, 3], np.arange(0, COUNT, 2))
    (tmp_path / "clock.txt").write_text("\n".join(f"{1700000000.5 + k / 30} 0 0 0 0 0 0 1" for k in range(COUNT)))
    with pytest.raises(UserError, match="none of the 12 frames"):
        read_cameras(tmp_path / "clock.txt").rows(video())


def test_names_of_images_say_which_frame_it_is(tmp_path: Path) -> None:
    def written(first: int) -> CameraFile:
        entries = [
            {"file_path": f"images/frame_{k + first:05d}.png", "transform_matrix": (camera @ OPENCV_FROM_OPENGL).tolist()}
            for k, camera in enumerate(CAMERAS)
        ]
        (tmp_path / "transforms.json").write_text(json.dumps({"fl_x": 100.0, "cx": 64.0, "cy": 48.0, "frames": entries[::-1]}))
        return read_cameras(tmp_path / "transforms.json")

    for first in (0, 1):
        found = written(first)
        np.testing.assert_allclose(of_video(found, video(start=3)), CAMERAS[3:], atol=1e-9)
        assert found.intrinsics is not None and found.intrinsics[0, 1, 1] == 100


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("none.txt", None, "there are no cameras"),
        ("words.txt", "1 2 three 4 5 6 7 8", "not a TUM trajectory"),
        ("short.txt", "1 2 3", "eight numbers"),
        ("zero.txt", "0 0 0 0 0 0 0 0", "unit quaternion"),
        ("list.json", "[]", "not a transforms.json"),
        ("broken.json", "{", "not a transforms.json"),
        ("empty.json", '{"frames": []}', "has no frames"),
        ("shape.json", '{"frames": [{"file_path": "1.png", "transform_matrix": [1, 2]}]}', "must be numbers"),
        ("x.bin", "x", "not a file of cameras"),
        ("x.npz", "x", "not an .npz"),
        ("folder", "folder", "not a COLMAP model"),
    ],
)
def test_what_is_no_file_of_cameras_is_said(tmp_path: Path, name: str, content: str | None, says: str) -> None:
    if content == "folder":
        (tmp_path / name).mkdir()
    elif content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=says):
        read_cameras(tmp_path / name)


def test_cameras_that_are_none_are_said(tmp_path: Path) -> None:
    np.savez(tmp_path / "scaled.npz", cam_c2w=CAMERAS * 2)
    np.savez(tmp_path / "other.npz", cheese=CAMERAS)
    np.savez(tmp_path / "flat.npz", cam_c2w=CAMERAS[0])
    np.savez(tmp_path / "skew.npz", cam_c2w=CAMERAS, intrinsic=INTRINSICS + np.eye(3)[::-1])
    for name, says in (("scaled", "not a rotation"), ("other", "no cameras"), ("flat", "must be numbers"), ("skew", "skew")):
        with pytest.raises(UserError, match=says):
            read_cameras(tmp_path / f"{name}.npz")
    model = tmp_path / "model"
    model.mkdir()
    for part in ("cameras", "images", "points3D"):
        (model / f"{part}.bin").write_bytes(b"\xff" * 9)
    with pytest.raises(UserError, match="cannot be read"):
        read_cameras(model)


def transforms_of(path: Path, shared: dict, frame: dict) -> Path:
    """transforms.json of three frames of a still camera; every other one has what `frame` says."""
    frames = [{"file_path": f"{i}.png", "transform_matrix": np.eye(4).tolist(), **(frame if i % 2 else {})} for i in range(3)]
    path.write_text(json.dumps({**shared, "frames": frames}))
    return path


def test_read_cameras_of_a_field_of_view_gives_intrinsics_of_the_image(tmp_path: Path) -> None:
    file = read_cameras(transforms_of(tmp_path / "transforms.json", {"camera_angle_x": 2 * np.arctan(96 / 150)}, {}))
    found = file.intrinsics_of_image(144, 192)
    assert found is not None and found[1] == (144, 192)
    np.testing.assert_allclose(found[0], np.broadcast_to([[150, 0, 96], [0, 150, 72], [0, 0, 1]], (3, 3, 3)), atol=1e-9)


@pytest.mark.parametrize("size", [{}, {"w": 384, "h": 288}])
def test_read_cameras_without_a_principal_point_takes_the_centre_of_the_image(tmp_path: Path, size: dict) -> None:
    found = read_cameras(transforms_of(tmp_path / "transforms.json", {"fl_x": 150, **size}, {})).intrinsics_of_image(144, 192)
    height, width = (288, 384) if size else (144, 192)
    assert found is not None and found[1] == (height, width)
    np.testing.assert_array_equal(found[0][0], [[150, 0, width / 2], [0, 150, height / 2], [0, 0, 1]])


@pytest.mark.parametrize(
    ("shared", "frame", "message"),
    [
        ({"fl_x": np.nan}, {}, "fl_x of frame 0 of .* is not finite"),
        ({"fl_x": 150}, {"transform_matrix": (np.eye(4) * np.nan).tolist()}, "transform_matrix of frame . of .* is not finite"),
        ({"fl_x": 150, "cx": np.inf}, {}, "cx of frame 0 of .* is not finite"),
        ({"fl_x": 150, "w": np.nan, "h": 144}, {}, "w of frame 0 of .* is not finite"),
        ({"fl_x": 150, "w": 192}, {}, "only one of w and h"),
        ({}, {"fl_x": 150}, "of 3 frames of .* have fl_x; give all frames fl_x"),
    ],
)
def test_read_cameras_with_missing_or_infinite_numbers_names_them(
    tmp_path: Path, shared: dict, frame: dict, message: str
) -> None:
    path = transforms_of(tmp_path / "transforms.json", shared, frame)
    with pytest.raises(UserError, match=message):
        read_cameras(path)


def test_read_cameras_of_frames_of_two_sizes_brings_them_to_one(tmp_path: Path) -> None:
    whole, half = {"fl_x": 150, "w": 192, "h": 144}, {"fl_x": 75, "w": 96, "h": 72}
    file = read_cameras(transforms_of(tmp_path / "transforms.json", whole, half))
    assert file.size == (144, 192) and file.intrinsics is not None
    np.testing.assert_allclose(file.intrinsics, np.broadcast_to([[150, 0, 96], [0, 150, 72], [0, 0, 1]], (3, 3, 3)))


@pytest.mark.parametrize(
    ("lens", "distortion"),
    [
        ({}, None),
        ({"k1": -0.18, "p2": 0.01}, ("opencv", (-0.18, 0, 0, 0.01, 0))),
        ({"camera_model": "OPENCV_FISHEYE", "k1": 0.1}, ("fisheye", (0.1, 0, 0, 0))),
        ({"is_fisheye": True}, ("fisheye", (0, 0, 0, 0))),
    ],
)
def test_read_cameras_with_distortion_reads_lens(tmp_path: Path, lens: dict, distortion: tuple | None) -> None:
    pinhole = {"fl_x": 150, "cx": 96, "cy": 72, "k2": 0.0, "camera_model": "OPENCV"}
    assert read_cameras(transforms_of(tmp_path / "lens.json", {**pinhole, **lens}, {})).distortion == distortion


def test_read_cameras_with_unsupported_distortion_warns(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lens = {"fl_x": 150, "cx": 96, "cy": 72, "camera_model": "THIN_PRISM_FISHEYE"}
    assert read_cameras(transforms_of(tmp_path / "lens.json", lens, {})).distortion is None
    assert "distortion" in caplog.text and "THIN_PRISM_FISHEYE" in caplog.text


@pytest.mark.parametrize("pattern", ["{video}/frame_{number:06d}.png", "images/{video}_{number:06d}.jpg"])
def test_camera_names_of_several_videos_choose_those_of_the_video(pattern) -> None:
    names = [pattern.format(video=of, number=number) for of in ("left", "left2") for number in range(3)]
    for first, name in enumerate(("left", "left2")):
        of = replace(video(stop=3), name=name, source=f"{name}.mp4")
        np.testing.assert_array_equal(rows_by_name(names, of, "the model"), np.arange(3) + 3 * first)
    other = replace(video(stop=3), name="cat", source="cat.mp4")
    with pytest.raises(UserError, match=r"several images of one frame number.*folder called 'cat'"):
        rows_by_name(names, other, "the model")
