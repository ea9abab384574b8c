"""Rerun recordings, read back by rerun's own reader."""

import numpy as np
import pytest

from st4rtrack.io.formats.rerun import write_rerun
from tests.io.formats.exact_scene import SOURCE_SIZE, exact_scene

chunks = pytest.importorskip("rerun.chunk")


def rows(path) -> dict[str, dict[str, list]]:
    """What was logged: per entity and component, all values in the order of the frames."""
    found: dict[str, dict[str, dict[int, object]]] = {}
    for chunk in chunks.RrdReader(str(path)).stream():
        columns = chunk.to_record_batch().to_pydict()
        frames = columns.get("frame", [0] * chunk.num_rows)
        for name, values in columns.items():
            of_frames = found.setdefault(chunk.entity_path, {}).setdefault(name, {})
            of_frames.update({frame: value for frame, value in zip(frames, values) if value is not None})
    return {
        entity: {name: [values[frame] for frame in sorted(values)] for name, values in columns.items()}
        for entity, columns in found.items()
    }


def test_a_recording_holds_the_scene(tmp_path) -> None:
    scene = exact_scene(tmp_path)
    write_rerun(scene, tmp_path / "a.rrd", max_tracks=30)
    found = rows(tmp_path / "a.rrd")
    assert {"/world/camera", "/world/camera/image", "/world/tracking", "/world/reconstruction", "/world/tracks"} <= set(found)
    camera, image = found["/world/camera"], found["/world/camera/image"]
    assert camera["frame"] == list(range(6))
    for frame in range(6):
        pose = np.eye(4)
        pose[:3, :3] = np.reshape(camera["Transform3D:mat3x3"][frame], (3, 3)).T
        pose[:3, 3] = np.ravel(camera["Transform3D:translation"][frame])
        np.testing.assert_allclose(pose, scene.cameras.world_from_camera[frame], atol=1e-6)
        k = np.reshape(image["Pinhole:image_from_camera"][frame], (3, 3)).T
        assert k[0, 0] * scene.pixel_map.scale[0] == pytest.approx(20) and k[1, 1] * scene.pixel_map.scale[1] == pytest.approx(21)
        centre = scene.pixel_map.network_from_source(k[:2, 2])
        np.testing.assert_allclose(centre, scene.cameras.intrinsics[frame, :2, 2], atol=1e-5)
        assert list(np.ravel(image["Pinhole:resolution"][frame])) == [SOURCE_SIZE[1], SOURCE_SIZE[0]]
        points = np.array(found["/world/reconstruction"]["Points3D:positions"][frame])
        np.testing.assert_allclose(points[:, 2], 3, atol=1e-5)
    first, last = (np.array(found["/world/tracking"]["Points3D:positions"][frame]) for frame in (scene.anchor_index, 5))
    moved = np.linalg.norm(last - first, axis=1) > 0.1
    np.testing.assert_allclose((last - first)[moved], [[1.0, 0, -0.4]] * moved.sum(), atol=1e-5)
    assert 0 < moved.sum() < scene.tracking.moving.sum() + 1
    assert np.shape(found["/world/tracks"]["LineStrips3D:strips"][5])[1:] == (6, 3)
