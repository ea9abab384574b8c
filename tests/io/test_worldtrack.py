"""WorldTrack sequences: read into our conventions, nothing executed, and refused with a sentence."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from st4rtrack.geometry.camera import project
from st4rtrack.geometry.transforms import transform_points
from st4rtrack.io.npz import read_npz
from st4rtrack.io.worldtrack import find_worldtrack, read_worldtrack, tracks_in_camera
from st4rtrack.types import UserError
from tests.shared_data import shared
from tests.worldtrack_data import FX_FY_CX_CY, HEIGHT, WIDTH, write_sequence


def rewritten(path: Path, **changes: np.ndarray | None) -> Path:
    """The file with some arrays replaced, or left out where they are None."""
    arrays = read_npz(path) | changes
    np.savez(path, **{key: value for key, value in arrays.items() if value is not None})  # pyright: ignore[reportArgumentType]
    return path


def test_the_world_is_the_camera_of_frame_0(tmp_path: Path) -> None:
    sequence = write_sequence(tmp_path / "one.npz")
    with np.load(tmp_path / "one.npz") as stored:
        raw = {key: stored[key] for key in stored.files}
    assert (sequence.world_from_camera[0] == np.eye(4)).all() and len(sequence) == 8
    assert sequence.tracks_world is not None
    np.testing.assert_allclose(sequence.tracks_world[0], raw["tracks_XYZ"][0], atol=1e-6)
    np.testing.assert_allclose(tracks_in_camera(sequence), raw["tracks_XYZ"], atol=1e-5)
    # in the data set's own world, by its own matrices, a track is where ours says
    own_world = transform_points(np.linalg.inv(raw["extrinsics_w2c"][5]), raw["tracks_XYZ"][5].astype(np.float64))
    np.testing.assert_allclose(transform_points(raw["extrinsics_w2c"][0], own_world), sequence.tracks_world[5], atol=1e-5)
    np.testing.assert_allclose(sequence.query_px, project(sequence.tracks_world[0], sequence.intrinsics), atol=1e-4)
    assert sequence.video.frame(0).shape == (HEIGHT, WIDTH, 3) and len(sequence.video) == 8
    assert sequence.read_depth().shape == (8, HEIGHT, WIDTH)


def test_a_fixed_camera_and_a_long_file(tmp_path: Path) -> None:
    fixed = write_sequence(tmp_path / "fixed.npz", fixed_camera=True)
    assert (fixed.world_from_camera == np.eye(4)).all()
    write_sequence(tmp_path / "long.npz", frames=70)
    assert len(read_worldtrack(tmp_path / "long.npz")) == 64
    short = read_worldtrack(tmp_path / "long.npz", num_frames=10)
    assert len(short) == len(short.video) == len(short.read_depth()) == 10


def test_sequences_are_found_with_their_folders(tmp_path: Path) -> None:
    for name in ("b/two", "a/one", "top"):
        write_sequence(tmp_path / f"{name}.npz", frames=2)
    (tmp_path / ".hidden.npz").write_bytes(b"")
    assert [name for name, _ in find_worldtrack(tmp_path)] == ["a/one", "b/two", "top"]
    assert find_worldtrack(tmp_path / "top.npz") == [("top", tmp_path / "top.npz")]
    (tmp_path / "empty").mkdir()
    for folder, said in (("empty", "holds no .npz"), ("absent", "is not a folder")):
        with pytest.raises(UserError, match=said):
            find_worldtrack(tmp_path / folder)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"images_jpeg_bytes": None}, "no array 'images_jpeg_bytes'"),
        ({"fx_fy_cx_cy": None}, "no array 'fx_fy_cx_cy'"),
        ({"tracks_XYZ": None, "depth_map": None}, "neither tracks_XYZ nor depth_map"),
        ({"visibility": None}, "no array 'visibility'"),
        ({"visibility": np.ones((8, 3), bool)}, r"visibility \[time, points\]"),
        ({"tracks_XYZ": np.ones((8, 120))}, r"tracks_XYZ must be \[time, points, 3\]"),
        ({"fx_fy_cx_cy": np.array([1.0, -1, 2, 3])}, "positive focal lengths"),
        ({"fx_fy_cx_cy": FX_FY_CX_CY[:3]}, "four finite numbers"),
        ({"extrinsics_w2c": np.eye(4)[None]}, r"extrinsics_w2c must be \[time, 4, 4\] for 8 frames"),
    ],
)
def test_what_is_no_sequence_is_refused(tmp_path: Path, changes: dict, expected: str) -> None:
    write_sequence(tmp_path / "one.npz")
    with pytest.raises(UserError, match=expected):
        read_worldtrack(rewritten(tmp_path / "one.npz", **changes))


def test_depth_of_another_length_is_refused(tmp_path: Path) -> None:
    write_sequence(tmp_path / "one.npz")
    sequence = read_worldtrack(rewritten(tmp_path / "one.npz", depth_map=np.ones((3, 4, 4), np.float32)))
    with pytest.raises(UserError, match="depth_map must be"):
        sequence.read_depth()


def test_query_frames_and_foreground_are_read_where_the_file_has_them(tmp_path: Path) -> None:
    sequence = write_sequence(tmp_path / "one.npz", frames=3, points=4)
    assert sequence.query_frame().tolist() == [0, 0, 0, 0] and sequence.read_foreground() is None
    queries, mask = np.array([[1.0, 1, 0], [2, 2, 2], [3, 3, 1], [4, 4, 0]]), np.zeros((3, HEIGHT, WIDTH), np.uint8)
    mask[1, 2, 3] = 1
    sequence = read_worldtrack(rewritten(tmp_path / "one.npz", queries_xyt=queries, foreground_mask=mask))
    assert sequence.query_frame().tolist() == [0, 2, 1, 0]
    np.testing.assert_array_equal(sequence.read_foreground(), mask > 0)
    short = read_worldtrack(rewritten(tmp_path / "one.npz", foreground_mask=mask[:2]), num_frames=2)
    with pytest.raises(UserError, match=r"frames of queries_xyt must be in 0\.\.1"):
        short.query_frame()
    with pytest.raises(UserError, match="foreground_mask must be"):
        read_worldtrack(tmp_path / "one.npz").read_foreground()


class Marker:
    """Leaves a file behind when a pickle that holds it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


def test_images_as_objects_are_read_and_code_among_them_is_not_run(tmp_path: Path) -> None:
    write_sequence(tmp_path / "one.npz", frames=3)
    with np.load(tmp_path / "one.npz") as stored:
        jpeg = [bytes(data) for data in stored["images_jpeg_bytes"]]
    plain = read_worldtrack(tmp_path / "one.npz").video.frame(2)
    objects = np.empty(3, object)
    objects[:] = jpeg
    as_objects = read_worldtrack(rewritten(tmp_path / "one.npz", images_jpeg_bytes=objects))
    np.testing.assert_array_equal(as_objects.video.frame(2), plain)

    objects[1] = Marker(tmp_path / "was-run")
    assert pickle.dumps(objects[1])
    evil = rewritten(tmp_path / "one.npz", images_jpeg_bytes=objects)
    with pytest.raises(UserError, match="asks to run"):
        _ = read_worldtrack(evil).video
    assert not (tmp_path / "was-run").exists()


def test_published_object_array() -> None:
    sequence = read_worldtrack(shared("sequences/fall_arc.npz"))  # images as an object array
    assert sequence.video.frame(63).shape == (192, 256, 3)
    assert sequence.tracks_world is not None and sequence.visible is not None and sequence.visible[0].all()
    queries_xyt = read_npz(sequence.path, "queries_xyt")["queries_xyt"]
    np.testing.assert_allclose(sequence.query_px, queries_xyt[:, :2], atol=0.01)
