"""TAPVid-3D's files in our conventions: JPEG as stored, tracks in the world where cameras are given."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from st4rtrack.data.tapvid3d import Tapvid3d
from st4rtrack.io.npz import read_npz
from st4rtrack.types import UserError
from tests.raw_data import World, fixed, write_tapvid3d

WORLD = World(frames=7, points=40)


@pytest.mark.parametrize("cameras", [True, False])
@pytest.mark.parametrize("objects", [True, False])
def test_facts_of_a_sequence(tmp_path: Path, cameras: bool, objects: bool) -> None:
    world = WORLD if cameras else fixed(WORLD)
    write_tapvid3d(tmp_path / "adt" / "room.npz", WORLD, cameras=cameras, objects=objects)
    dataset = Tapvid3d(tmp_path, "adt")
    assert dataset.names == ["room"] == Tapvid3d(tmp_path / "adt", "adt").names
    sequence = dataset.open("room")
    assert len(sequence) == 7 and sequence.read_depth is None and sequence.read_tracks and sequence.read_jpeg
    if cameras:
        assert sequence.world_from_camera is not None
        np.testing.assert_allclose(sequence.world_from_camera, world.world_from_camera, atol=1e-12)
    else:
        assert sequence.world_from_camera is None
    np.testing.assert_array_equal(sequence.intrinsics[6], world.intrinsics)
    assert np.abs(sequence.read_rgb(6).astype(float) - world.rgb(6)).mean() < 3
    decoded = cv2.imdecode(np.frombuffer(sequence.read_jpeg(6), np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None
    np.testing.assert_array_equal(decoded[..., ::-1], sequence.read_rgb(6))
    points, visible = sequence.read_tracks(1, 4)
    np.testing.assert_allclose(points, world.points_world[1:4], atol=1e-5)
    np.testing.assert_array_equal(visible, world.stored_visible[1:4])


@pytest.mark.parametrize(
    "spoil",
    [
        lambda arrays: arrays.update(images_jpeg_bytes=arrays["images_jpeg_bytes"][:3]),
        lambda arrays: arrays.update(images_jpeg_bytes=np.array([b"no image"] * 7)),
        lambda arrays: arrays.update(visibility=arrays["visibility"][:, :3]),
        lambda arrays: arrays.update(fx_fy_cx_cy=np.ones(3)),
        lambda arrays: arrays.update(fx_fy_cx_cy=np.array([-1.0, 1, 1, 1])),
        lambda arrays: arrays.update(extrinsics_w2c=arrays["extrinsics_w2c"][:3]),
        lambda arrays: arrays.update(extrinsics_w2c=2 * arrays["extrinsics_w2c"]),
        lambda arrays: arrays.pop("tracks_XYZ"),
    ],
)
def test_files_that_do_not_fit_are_refused(tmp_path: Path, spoil) -> None:
    path = tmp_path / "room.npz"
    write_tapvid3d(path, WORLD)
    arrays = read_npz(path)
    arrays["images_jpeg_bytes"] = np.array(list(arrays["images_jpeg_bytes"]), dtype=np.bytes_)
    spoil(arrays)
    np.savez(path, **arrays)  # pyright: ignore[reportArgumentType]
    with pytest.raises(UserError, match=r"room\.npz"):
        Tapvid3d(tmp_path, "adt").open("room").read_rgb(0)
