"""Point Odyssey's raw files in our conventions."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from st4rtrack.data.point_odyssey import PointOdyssey
from st4rtrack.io.npz import read_npz
from st4rtrack.types import UserError
from tests.raw_data import World, write_point_odyssey

WORLD = World(frames=9, points=50)


def test_facts_of_a_sequence(tmp_path: Path) -> None:
    write_point_odyssey(tmp_path, "gym", WORLD)
    write_point_odyssey(tmp_path, "cab", replace(WORLD, frames=3))
    dataset = PointOdyssey(tmp_path)
    assert dataset.names == ["cab", "gym"] == PointOdyssey(tmp_path / "test").names
    sequence = dataset.open("gym")
    assert len(sequence) == 9 and sequence.read_depth and sequence.read_tracks and sequence.world_from_camera is not None
    np.testing.assert_allclose(sequence.world_from_camera, WORLD.world_from_camera, atol=1e-12)
    np.testing.assert_array_equal(sequence.intrinsics[4], WORLD.intrinsics)
    np.testing.assert_allclose(sequence.read_depth(4), WORLD.depth(4), atol=0.5 * 1000 / 65535 + 1e-6)
    assert np.abs(sequence.read_rgb(4).astype(float) - WORLD.rgb(4)).mean() < 3
    points, visible = sequence.read_tracks(2, 6)
    np.testing.assert_allclose(points, WORLD.points_world[2:6], atol=1e-6)
    np.testing.assert_array_equal(visible, WORLD.stored_visible[2:6])


def test_other_splits_and_sequences_without_tracks(tmp_path: Path) -> None:
    folder = write_point_odyssey(tmp_path, "cab", WORLD, split="train")
    arrays = read_npz(folder / "anno.npz") | {"trajs_3d": np.array(0.0)}
    np.savez(folder / "anno.npz", **arrays)  # pyright: ignore[reportArgumentType]
    sequence = PointOdyssey(tmp_path, "train").open("cab")
    assert sequence.read_tracks is None and sequence.read_depth is not None
    with pytest.raises(UserError, match="'test'"):
        PointOdyssey(tmp_path)


def _scale_cameras(arrays: dict[str, np.ndarray]) -> None:
    arrays["extrinsics"][3, :3, :3] *= 1.5


def _fewer_cameras(arrays: dict[str, np.ndarray]) -> None:
    arrays["extrinsics"] = arrays["extrinsics"][:5]


def _no_focal(arrays: dict[str, np.ndarray]) -> None:
    arrays["intrinsics"][0, 0, 0] = 0.0


def _other_visibility(arrays: dict[str, np.ndarray]) -> None:
    arrays["visibs"] = arrays["visibs"][:, :-1]


def _fewer_rows(arrays: dict[str, np.ndarray]) -> None:
    arrays["trajs_3d"] = arrays["trajs_3d"][:4]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_scale_cameras, "camera of frame 3 is not a rotation"),
        (_fewer_cameras, "fewer frames than the 9 images"),
        (_no_focal, "positive focal"),
        (_other_visibility, "does not match trajs_3d"),
        (_fewer_rows, "'trajs_3d'"),
        (lambda arrays: arrays.pop("extrinsics"), "'extrinsics'"),
    ],
)
def test_annotations_that_do_not_fit_are_refused(tmp_path: Path, spoil, said: str) -> None:
    folder = write_point_odyssey(tmp_path, "gym", WORLD)
    arrays = read_npz(folder / "anno.npz")
    spoil(arrays)
    np.savez(folder / "anno.npz", **arrays)  # pyright: ignore[reportArgumentType]
    with pytest.raises(UserError, match=r"anno\.npz") as error:
        sequence = PointOdyssey(tmp_path).open("gym")
        assert sequence.read_tracks is not None
        sequence.read_tracks(0, 9)
    assert said in str(error.value)


def test_depth_of_another_kind_is_refused(tmp_path: Path) -> None:
    folder = write_point_odyssey(tmp_path, "gym", WORLD)
    (folder / "depths" / "depth_00001.png").write_bytes((folder / "rgbs" / "rgb_00001.jpg").read_bytes())
    read_depth = PointOdyssey(tmp_path).open("gym").read_depth
    assert read_depth is not None
    with pytest.raises(UserError, match=r"depth_00001\.png must be a 16-bit grey image"):
        read_depth(1)
