"""GLB, opened with trimesh; cameras from the glTF itself, because trimesh reads one at most."""

import json
import struct

import numpy as np
import pytest

from st4rtrack.geometry.transforms import rotation_from_quaternion
from st4rtrack.io.formats.content import choose_pixels
from st4rtrack.io.formats.glb import write_glb
from st4rtrack.types import UserError
from tests.io.formats.exact_scene import SOURCE_SIZE, exact_scene, source_px

trimesh = pytest.importorskip("trimesh")
UPRIGHT = np.array([1.0, -1.0, -1.0])


def gltf(path) -> dict:
    data = path.read_bytes()
    (length,) = struct.unpack_from("<I", data, 12)
    return json.loads(data[20 : 20 + length])


def test_points_lie_upright_with_their_colours(tmp_path) -> None:
    scene = exact_scene(tmp_path)
    write_glb(scene, tmp_path / "a.glb")
    cloud = trimesh.load(tmp_path / "a.glb").geometry["reconstruction"]
    keep = [m >= np.quantile(m, 0.2) for m in scene.reconstruction.confidence]
    expected = np.concatenate([points[k] for points, k in zip(scene.reconstruction.points_world, keep)])
    np.testing.assert_allclose(cloud.vertices, expected * UPRIGHT, atol=1e-6)
    np.testing.assert_array_equal(cloud.colors[:, :3], np.concatenate([rgb[k] for rgb, k in zip(scene.rgb, keep)]))


def test_cameras_of_all_frames(tmp_path) -> None:
    scene = exact_scene(tmp_path)
    scene.cameras.solved[3] = False
    write_glb(scene, tmp_path / "a.glb")
    tree = gltf(tmp_path / "a.glb")
    nodes = {node["name"]: node for node in tree["nodes"]}
    assert sum("camera" in node for node in tree["nodes"]) == 5 + 1 and "camera_000003" not in nodes
    height, width = SOURCE_SIZE
    for frame in (0, 1, 2, 4, 5):
        pose = np.reshape(nodes[f"camera_{frame:06d}"].get("matrix", np.eye(4)), (4, 4)).T
        world_from_camera = np.diag([*UPRIGHT, 1]) @ pose @ np.diag([*UPRIGHT, 1])
        np.testing.assert_allclose(world_from_camera, scene.cameras.world_from_camera[frame], atol=1e-9)
        camera = tree["cameras"][nodes[f"camera_{frame:06d}"]["camera"]]
        fx, fy, cx, cy = camera["extras"]["fx_fy_cx_cy"]
        network = scene.pixel_map.network_from_source([[cx, cy]])[0]
        np.testing.assert_allclose(network, scene.cameras.intrinsics[frame, :2, 2], atol=1e-9)
        assert fx * scene.pixel_map.scale[0] == pytest.approx(20) and fy * scene.pixel_map.scale[1] == pytest.approx(21)
        assert np.tan(camera["perspective"]["yfov"] / 2) == pytest.approx(height / 2 / fy)
        assert camera["perspective"]["aspectRatio"] == pytest.approx(width / fx / (height / fy))


def test_cameras_are_drawn_where_they_are(tmp_path) -> None:
    scene = exact_scene(tmp_path)
    write_glb(scene, tmp_path / "a.glb")
    loaded = trimesh.load(tmp_path / "a.glb")
    for frame in range(len(scene)):
        pose, geometry = loaded.graph[f"frustum_{frame:06d}"]
        np.testing.assert_allclose(pose[:3, 3], scene.cameras.world_from_camera[frame, :3, 3] * UPRIGHT, atol=1e-9)
        corners = loaded.geometry[geometry].vertices @ pose[:3, :3].T + pose[:3, 3]
        seen = source_px(scene, frame, corners[np.linalg.norm(corners - pose[:3, 3], axis=1) > 1e-6] * UPRIGHT)
        network_px = scene.pixel_map.network_from_source(seen)
        assert np.abs(network_px[:, None] - [[0, 0], [16, 0], [16, 24], [0, 24]]).sum(axis=-1).min(axis=1).max() < 1e-3


def test_tracks_are_lines(tmp_path) -> None:
    scene = exact_scene(tmp_path)
    write_glb(scene, tmp_path / "a.glb", max_tracks=40)
    lines = trimesh.load(tmp_path / "a.glb").geometry["tracks"]
    wanted = scene.tracking.points_world.reshape(-1, 3) * UPRIGHT
    distance = np.linalg.norm(lines.vertices[:, None] - wanted[None], axis=-1).min(axis=1)
    assert distance.max() < 1e-5
    start, end = lines.vertices.reshape(-1, 2, 3).swapaxes(0, 1)  # glTF lines are pairs; each goes from one frame to the next
    steps = np.unique((end - start).round(4), axis=0)
    np.testing.assert_allclose(steps, [[0, 0, 0], [0.25, 0, 0.1]], atol=1e-3)
    write_glb(scene, tmp_path / "b.glb", max_tracks=0)
    assert "tracks" not in trimesh.load(tmp_path / "b.glb").geometry


def test_the_budget_holds(tmp_path) -> None:
    write_glb(exact_scene(tmp_path), tmp_path / "a.glb", max_points=200)
    assert 190 < len(trimesh.load(tmp_path / "a.glb").geometry["reconstruction"].vertices) <= 200


def test_nothing_to_show(tmp_path) -> None:
    scene = exact_scene(tmp_path)
    scene.reconstruction.points_world[:] = np.nan
    with pytest.raises(UserError, match="no point"):
        write_glb(scene, tmp_path / "a.glb")


def animated(path, name: str) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Times [frames], and the animated properties [frames, components] of a node."""
    data, tree = path.read_bytes(), gltf(path)
    (length,) = struct.unpack_from("<I", data, 12)
    binary = data[20 + length + 8 :]

    def values(index: int) -> np.ndarray:
        accessor = tree["accessors"][index]
        start, width = tree["bufferViews"][accessor["bufferView"]]["byteOffset"], {"SCALAR": 1, "VEC3": 3, "VEC4": 4}
        return np.frombuffer(binary, "<f4", accessor["count"] * width[accessor["type"]], start).reshape(accessor["count"], -1)

    (animation,) = tree["animations"]
    node = next(k for k, node in enumerate(tree["nodes"]) if node["name"] == name)
    channels = [channel for channel in animation["channels"] if channel["target"]["node"] == node]
    samplers = {channel["target"]["path"]: animation["samplers"][channel["sampler"]] for channel in channels}
    return values(samplers["translation"]["input"])[:, 0], {path: values(s["output"]) for path, s in samplers.items()}


def test_animated_camera_and_markers_follow_poses_and_tracks(tmp_path) -> None:
    scene = exact_scene(tmp_path)
    scene.cameras.solved[3] = False
    scene.time_s = np.array([5.0, 5.1, 5.3, 5.4, 5.8, 6.0])
    write_glb(scene, tmp_path / "a.glb", max_markers=20)
    times, camera = animated(tmp_path / "a.glb", "camera")
    solved = [0, 1, 2, 4, 5]
    np.testing.assert_allclose(times, scene.time_s[solved] - 5, atol=1e-6)
    np.testing.assert_allclose(camera["translation"], scene.cameras.world_from_camera[solved, :3, 3] * UPRIGHT, atol=1e-6)
    wxyz = camera["rotation"][:, (3, 0, 1, 2)].astype(np.float64)
    expected = np.diag(UPRIGHT) @ scene.cameras.world_from_camera[solved, :3, :3] @ np.diag(UPRIGHT)
    np.testing.assert_allclose(rotation_from_quaternion(wxyz), expected, atol=1e-6)
    pixels = choose_pixels(scene, 20)
    names = [node["name"] for node in gltf(tmp_path / "a.glb")["nodes"] if node["name"].startswith("track_")]
    assert len(names) == len(pixels)
    visible = np.asarray(scene.tracking.visible)[solved][:, pixels.row, pixels.column]
    assert not visible.all()
    for number, name in enumerate(names):
        _, marker = animated(tmp_path / "a.glb", name)
        track = scene.tracking.points_world[solved, pixels.row[number], pixels.column[number]]
        np.testing.assert_allclose(marker["translation"], track * UPRIGHT, atol=1e-6)
        shown = marker["scale"][:, 0] > 0 if "scale" in marker else np.ones(len(solved), bool)
        np.testing.assert_array_equal(shown, visible[:, number])
    write_glb(scene, tmp_path / "b.glb", max_markers=0)
    assert not [node for node in gltf(tmp_path / "b.glb")["nodes"] if node["name"].startswith("track_")]
