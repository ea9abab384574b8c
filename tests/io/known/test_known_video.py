"""Intrinsics, depth, masks and distances brought to the frames and pixels of the network."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from st4rtrack.io.known.known import KnownVideo, known_of_video
from st4rtrack.io.video import open_video
from st4rtrack.options import KnownGeometry
from st4rtrack.types import PixelMap, UserError

COUNT, HEIGHT, WIDTH = 6, 100, 160
VIDEO = open_video(np.zeros((COUNT, HEIGHT, WIDTH, 3), np.uint8))
PIXEL_MAP = PixelMap((0.5, 0.5), (0.0, -1.0))
NETWORK = (48, 80)
"""Half the size, two rows of 50 cut off."""


def read(known: KnownGeometry, video: object = VIDEO, anchor_index: int = 0) -> KnownVideo:
    return known_of_video(known, video, PIXEL_MAP, NETWORK, anchor_index)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("word", "focal", "centre"),
    [
        ("120", (120, 120), (80, 50)),
        ("120,130", (120, 130), (80, 50)),
        ("120,130,70,55", (120, 130), (70, 55)),
        ("K.txt", (120, 130), (70, 55)),
        ("K.npz", (120, 130), (70, 55)),
        ("of_each.npz", (120, 130), (70, 55)),
        ("resized.npz", (120, 130), (70, 55)),
    ],
)
def test_intrinsics_in_source_pixels_become_those_of_the_network(
    tmp_path: Path, word: str, focal: tuple[float, float], centre: tuple[float, float]
) -> None:
    matrix = np.array([[120.0, 0, 70], [0, 130, 55], [0, 0, 1]])
    np.savetxt(tmp_path / "K.txt", matrix)
    np.savez(tmp_path / "K.npz", K=matrix)
    np.savez(tmp_path / "of_each.npz", data=np.tile([120.0, 130, 70, 55], (COUNT, 1)), inds=np.arange(COUNT))
    smaller = np.diag([0.25, 0.25, 1]) @ matrix
    images = np.zeros((COUNT, HEIGHT // 4, WIDTH // 4, 3), np.uint8)
    np.savez(tmp_path / "resized.npz", images=images, cam_c2w=np.tile(np.eye(4), (COUNT, 1, 1)), intrinsic=smaller)
    found = read(KnownGeometry(intrinsics=tmp_path / word if "." in word else word)).intrinsics
    assert found is not None and found.shape == (COUNT, 3, 3)
    np.testing.assert_allclose(found[-1, (0, 1), (0, 1)], np.array(focal) / 2)
    np.testing.assert_allclose(found[-1, :2, 2], np.array(centre) / 2 - (0, 1))


@pytest.mark.parametrize(("word", "offset_px"), [("120,120,82,49", None), ("120,120,140,50", 60), ("120", None)])
def test_known_of_video_with_a_principal_point_off_the_centre_warns_once(
    word: str, offset_px: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    read(KnownGeometry(intrinsics=word))
    assert len(caplog.records) == (offset_px is not None)
    assert offset_px is None or f"{offset_px} source pixels from the centre" in caplog.text


def test_cameras_begin_at_the_anchor_and_bring_their_intrinsics(tmp_path: Path) -> None:
    cameras = np.tile(np.eye(4), (COUNT, 1, 1))
    cameras[:, 0, 3] = np.arange(COUNT)
    cameras[4] = np.nan
    found = read(KnownGeometry(cameras=cameras), anchor_index=2).world_from_camera
    assert found is not None and (found[2] == np.eye(4)).all() and np.isnan(found[4]).all()
    np.testing.assert_allclose(found[[0, 1, 3, 5], 0, 3], [-2, -1, 1, 3])
    with pytest.raises(UserError, match="no camera of frame 4, the anchor"):
        read(KnownGeometry(cameras=cameras), anchor_index=4)
    np.savez(tmp_path / "walk.npz", cam_c2w=cameras, intrinsic=np.array([[120.0, 0, 80], [0, 120, 50], [0, 0, 1]]))
    assert read(KnownGeometry(cameras=tmp_path / "walk.npz")).focal_px == pytest.approx(60)
    assert read(KnownGeometry(cameras=tmp_path / "walk.npz", intrinsics="100")).focal_px == pytest.approx(50)


def test_depth_of_every_kind_is_read_at_its_pixels(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    metres = (random.integers(500, 9000, (COUNT, HEIGHT // 2, WIDTH // 2)) / 1000).astype(np.float32)
    metres[:, :5] = 0
    np.savez_compressed(tmp_path / "depth.npz", depth=metres)
    for kind in ("png", "tif", "npy"):
        (tmp_path / kind).mkdir()
    for k, frame in enumerate(metres):
        cv2.imwrite(str(tmp_path / f"png/{k:03d}.png"), np.round(frame * 5000).astype(np.uint16))
        cv2.imwrite(str(tmp_path / f"tif/{k:03d}.tif"), frame)
        np.save(tmp_path / f"npy/{k:03d}.npy", np.where(frame > 0, frame, np.nan))
    for name in ("depth.npz", "png", "tif", "npy"):
        found = read(KnownGeometry(depth=tmp_path / name, depth_per_unit=5000 if name == "png" else None)).depth
        assert found is not None
        for index in range(COUNT):  # network pixel (r, c) is source pixel (2 r + 2, 2 c): row r + 1 of the half size
            np.testing.assert_allclose(found(index), metres[index, 1:49], atol=1e-4)
    chosen = open_video(np.zeros((COUNT, HEIGHT, WIDTH, 3), np.uint8), start=1, stride=2)
    found = read(KnownGeometry(depth=tmp_path / "depth.npz"), chosen).depth
    assert found is not None
    np.testing.assert_array_equal(found(1), metres[3, 1:49])


def test_masks_of_one_image_or_one_for_each_frame(tmp_path: Path) -> None:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[:, :40] = True
    cv2.imwrite(str(tmp_path / "mask.png"), 255 * np.repeat(mask[..., None], 3, axis=2).astype(np.uint8))
    np.savez(tmp_path / "masks.npz", static=np.stack([mask] * COUNT))
    for word in (tmp_path / "mask.png", tmp_path / "masks.npz", mask, mask.astype(np.uint8)):
        found = read(KnownGeometry(static_mask=word)).static
        assert found is not None
        np.testing.assert_array_equal(found(3), np.tile(np.arange(80) < 20, (48, 1)))


def test_a_known_distance_is_of_network_pixels() -> None:
    found = read(KnownGeometry(known_distance="10,20, 30,40 = 1.5")).distance
    assert found is not None and found[1] == 1.5
    np.testing.assert_allclose(found[0], [[5, 9], [15, 19]])


def test_what_was_given_is_told_by_its_content(tmp_path: Path) -> None:
    (tmp_path / "K.txt").write_text("120")
    before = read(KnownGeometry(intrinsics=tmp_path / "K.txt", metres_per_unit=0.5)).description
    assert before["metres_per_unit"] == 0.5 and before["intrinsics"].startswith("K.txt (")
    (tmp_path / "K.txt").write_text("121")
    assert (
        read(KnownGeometry(intrinsics=tmp_path / "K.txt", metres_per_unit=0.5)).description["intrinsics"] != before["intrinsics"]
    )
    assert not KnownGeometry() and KnownGeometry(metres_per_unit=1.0)


@pytest.mark.parametrize(
    ("known", "says"),
    [
        (KnownGeometry(intrinsics="wide"), "neither numbers nor a file"),
        (KnownGeometry(intrinsics="1,2,3"), "has 3 numbers"),
        (KnownGeometry(intrinsics="-5"), "positive focal"),
        (KnownGeometry(intrinsics=np.ones((2, 3, 3))), "pinhole"),
        (KnownGeometry(intrinsics=np.tile(np.eye(3), (2, 1, 1))), "is of 2 frames"),
        (KnownGeometry(cameras=np.tile(np.eye(4), (3, 1, 1))), "is of 3 frames"),
        (KnownGeometry(depth="nowhere"), "no depth at nowhere"),
        (KnownGeometry(depth=np.ones((2, HEIGHT, WIDTH))), "is of 2 frames"),
        (KnownGeometry(depth=np.ones(3)), r"must be \[frames, height, width\]"),
        (KnownGeometry(depth_per_unit=1000.0), "needs depth images"),
        (KnownGeometry(depth=np.ones((COUNT, 4, 4)), depth_per_unit=-1.0), "must be positive"),
        (KnownGeometry(static_mask="nowhere.png"), "no static mask at nowhere.png"),
        (KnownGeometry(metres_per_unit=0.0), "positive number"),
        (KnownGeometry(metres_per_unit=1.0, known_distance="1,1,2,2=3"), "not both"),
        (KnownGeometry(known_distance="1,1,2=3"), "u1,v1,u2,v2=metres"),
        (KnownGeometry(known_distance="1,50,2,50=-3"), "u1,v1,u2,v2=metres"),
        (KnownGeometry(known_distance="1,50,200,50=3"), "outside"),
        (KnownGeometry(known_distance="1,50,1,50=3"), "the same"),
    ],
)
def test_a_mistake_is_said(known: KnownGeometry, says: str) -> None:
    with pytest.raises(UserError, match=says):
        read(known)


def test_maps_of_another_image_or_kind_are_said_when_they_are_read(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no file of depth"):
        read(KnownGeometry(depth=tmp_path / "empty"))
    for depth, says in (
        (np.ones((COUNT, 50, 50)), "another aspect ratio"),
        (np.ones((COUNT, HEIGHT, WIDTH), bool), "must be numbers"),
    ):
        found = read(KnownGeometry(depth=depth)).depth
        assert found is not None
        with pytest.raises(UserError, match=says):
            found(0)
    colour = tmp_path / "colour"
    colour.mkdir()
    for k in range(COUNT):
        cv2.imwrite(str(colour / f"{k}.png"), np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    (colour / "0.png").write_bytes(b"")
    found = read(KnownGeometry(depth=colour)).depth
    assert found is not None
    with pytest.raises(UserError, match=r"0\.png cannot be read"):
        found(0)
    with pytest.raises(UserError, match="must be numbers"):
        found(1)
