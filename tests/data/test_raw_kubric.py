"""Kubric's raw files in our conventions: distances, OpenGL's cameras, poses of instances, numbers in a palette."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from st4rtrack.data.kubric import HELD_OUT, Kubric, training_names, z_from_distance
from st4rtrack.data.raw import read_labels
from st4rtrack.geometry.camera import pixel_grid, unproject
from st4rtrack.geometry.transforms import invert_rigid, transform_points
from st4rtrack.types import UserError
from tests.procedural_raw import FRAMES, HEIGHT, WIDTH, WORLD_FROM_ANCHOR, palette_png, rigid_objects, truth, write_kubric


def test_facts_of_a_sequence(tmp_path: Path) -> None:
    clip = truth()
    labels = write_kubric(tmp_path, "17")
    dataset = Kubric(tmp_path)
    assert dataset.names == ["17"] and dataset.length("17") == FRAMES
    sequence = dataset.open("17")
    assert len(sequence) == FRAMES and sequence.parts and sequence.read_depth and sequence.world_from_camera is not None
    np.testing.assert_allclose(sequence.world_from_camera, WORLD_FROM_ANCHOR @ clip.world_from_camera, atol=1e-9)
    np.testing.assert_allclose(sequence.intrinsics, clip.intrinsics, rtol=1e-9)
    np.testing.assert_allclose(sequence.read_depth(3), clip.depth[3], rtol=1e-6)
    np.testing.assert_array_equal(sequence.read_rgb(3), clip.rgb[3])
    np.testing.assert_array_equal(sequence.parts.read_index(3), labels[3])
    assert labels.max() >= 2


def test_poses_move_what_pixels_show(tmp_path: Path) -> None:
    """A pixel of frame 2, carried by its instance's poses to frame 6, is where the clip has it."""
    write_kubric(tmp_path, "17")
    sequence, clip = Kubric(tmp_path).open("17"), truth(2)
    assert sequence.parts and sequence.read_depth and sequence.world_from_camera is not None
    label = sequence.parts.read_index(2)
    points = unproject(pixel_grid(HEIGHT, WIDTH), sequence.read_depth(2), sequence.intrinsics[2])
    anchor_from_world = invert_rigid(sequence.world_from_camera[2])
    poses = sequence.parts.world_from_part
    for part in np.unique(label):
        motion = anchor_from_world @ poses[6, part] @ invert_rigid(poses[2, part]) @ sequence.world_from_camera[2]
        moved = transform_points(motion, points[label == part])
        np.testing.assert_allclose(moved, clip.tracking_points_world[6][label == part], atol=2e-3)
    assert rigid_objects(truth())[1].all()


def test_depth_is_the_distance_from_the_centre() -> None:
    """A wall at z = 2: its distance is 2 in the middle and larger by 1 / cos beside."""
    intrinsics = np.array([[4.0, 0, 3.0], [0, 4.0, 2.0], [0, 0, 1.0]])
    u, v = np.meshgrid(np.arange(6) + 0.5 - 3.0, np.arange(4) + 0.5 - 2.0)
    distance = np.linalg.norm(np.stack([u / 4, v / 4, np.ones_like(u)]) * 2.0, axis=0)
    distance[0, 0] = 1e10
    z = z_from_distance(distance.astype(np.float32), intrinsics)
    assert z[0, 0] == 0
    np.testing.assert_allclose(z.ravel()[1:], 2.0, rtol=1e-6)


@pytest.mark.parametrize("highest", [0, 1, 21, 255])
def test_numbers_and_not_colours_of_a_palette(tmp_path: Path, highest: int) -> None:
    labels = np.random.default_rng(1).integers(0, highest + 1, (5, 7)).astype(np.uint8)
    labels[0, 0] = highest
    (tmp_path / "palette.png").write_bytes(palette_png(labels))
    np.testing.assert_array_equal(read_labels(tmp_path / "palette.png"), labels)
    assert cv2.imwrite(str(tmp_path / "grey.png"), labels)
    np.testing.assert_array_equal(read_labels(tmp_path / "grey.png"), labels)


def test_the_last_ten_are_held_out(tmp_path: Path) -> None:
    for k in range(HELD_OUT + 2):
        (tmp_path / f"{k:03d}").mkdir()
    assert training_names(Kubric(tmp_path)) == ["000", "001"]
    for k in range(2):
        (tmp_path / f"{k:03d}").rmdir()
    with pytest.raises(UserError, match="holds 10 sequences, and the last 10 are not trained on"):
        training_names(Kubric(tmp_path))


def edit(folder: Path, *keys: str, value: object) -> None:
    metadata = json.loads((folder / "metadata.json").read_text())
    part = metadata
    for key in keys[:-1]:
        part = part[key]
    if value is None:
        del part[keys[-1]]
    else:
        part[keys[-1]] = value
    (folder / "metadata.json").write_text(json.dumps(metadata))


def test_what_is_wrong_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a folder"):
        Kubric(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"has no rgba_\*.png"):
        Kubric(tmp_path).length("empty")
    write_kubric(tmp_path, "a")
    folder, dataset = tmp_path / "a", Kubric(tmp_path)

    (folder / "depth_00002.tiff").write_bytes(b"II*\0nothing")
    sequence = dataset.open("a")
    assert sequence.read_depth and sequence.parts
    with pytest.raises(UserError, match=r"depth_00002\.tiff cannot be read as an image"):
        sequence.read_depth(2)
    assert cv2.imwrite(str(folder / "depth_00003.tiff"), np.ones((4, 4), np.float32))
    with pytest.raises(UserError, match=r"has 4x4 pixels, metadata.json says 64x36"):
        sequence.read_depth(3)
    assert cv2.imwrite(str(folder / "depth_00004.tiff"), np.ones((HEIGHT, WIDTH), np.uint8))
    with pytest.raises(UserError, match="must be a floating-point grey image"):
        sequence.read_depth(4)
    (folder / "segmentation_00001.png").write_bytes(palette_png(np.full((HEIGHT, WIDTH), 99, np.uint8)))
    with pytest.raises(UserError, match="has the label 99"):
        sequence.parts.read_index(1)
    assert cv2.imwrite(str(folder / "segmentation_00002.png"), np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    with pytest.raises(UserError, match="must be an 8-bit label image"):
        sequence.parts.read_index(2)

    edit(folder, "camera", "quaternions", value=[[0, 0, 0, 0]] * FRAMES)
    with pytest.raises(UserError, match="is not a unit quaternion"):
        dataset.open("a")
    edit(folder, "camera", "quaternions", value=[[1, 0, 0, 0]] * (FRAMES - 1))
    with pytest.raises(UserError, match=r"got \[8, 3\] and \[7, 4\]"):
        dataset.open("a")
    edit(folder, "camera", "focal_length", value=None)
    with pytest.raises(UserError, match=r"unexpected description of the scene \(KeyError\('focal_length'\)\)"):
        dataset.open("a")
    (folder / "metadata.json").write_text("{")
    with pytest.raises(UserError, match="is not JSON"):
        dataset.open("a")
    (folder / "rgba_00003.png").unlink()
    with pytest.raises(UserError, match=r"rgba_00003\.png does not exist"):
        dataset.open("a")
