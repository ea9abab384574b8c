"""USD, read back by usd-core."""

from dataclasses import replace

import numpy as np
import pytest

from st4rtrack.io.formats.usd import time_codes, write_usd
from tests.io.formats.exact_scene import exact_scene, source_px

pytest.importorskip("pxr")
UPRIGHT = np.array([1.0, -1.0, -1.0])


def opened(path):
    from pxr import Usd

    return Usd.Stage.Open(str(path))


@pytest.mark.parametrize("ending", [".usdc", ".usda"])
def test_the_stage_says_what_it_is(tmp_path, ending) -> None:
    from pxr import UsdGeom

    write_usd(exact_scene(tmp_path), tmp_path / f"a{ending}")
    assert ((tmp_path / f"a{ending}").read_bytes()[:5] == b"#usda") == (ending == ".usda")
    stage = opened(tmp_path / f"a{ending}")
    assert UsdGeom.GetStageUpAxis(stage) == "Y" and UsdGeom.GetStageMetersPerUnit(stage) == 1
    assert (stage.GetStartTimeCode(), stage.GetEndTimeCode(), stage.GetTimeCodesPerSecond()) == (0, 5, 30)
    assert stage.GetDefaultPrim().GetPath() == "/World"


@pytest.mark.parametrize("changing_focal", [False, True])
def test_the_camera_sees_what_the_scene_sees(tmp_path, changing_focal) -> None:
    from pxr import UsdGeom

    scene = exact_scene(tmp_path)
    if changing_focal:
        scene.cameras.intrinsics[3:, :2] *= 1.25
    write_usd(scene, tmp_path / "a.usdc")
    stage = opened(tmp_path / "a.usdc")  # a prim does not keep its stage
    camera = UsdGeom.Camera(stage.GetPrimAtPath("/World/camera"))
    points = np.array([[0.1, -0.2, 3.0], [-0.4, 0.3, 2.5]])
    height, width = scene.source_size
    for frame in range(len(scene)):
        at = camera.GetCamera(frame)
        pose = np.array(at.transform).T
        expected = np.diag([*UPRIGHT, 1]) @ scene.cameras.world_from_camera[frame] @ np.diag([*UPRIGHT, 1])
        np.testing.assert_allclose(pose, expected, atol=1e-9)
        view_projection = np.array(at.frustum.ComputeViewMatrix() * at.frustum.ComputeProjectionMatrix()).T
        clip = view_projection @ np.vstack([(points * UPRIGHT).T, np.ones(2)])
        x, y = clip[:2] / clip[3]
        seen = np.stack([(x + 1) / 2 * width, (1 - y) / 2 * height], axis=1)
        np.testing.assert_allclose(seen, source_px(scene, frame, points), atol=1e-4)


def test_points_move_as_the_tracking_does(tmp_path) -> None:
    from pxr import UsdGeom

    scene = exact_scene(tmp_path)
    write_usd(scene, tmp_path / "a.usdc")
    stage = opened(tmp_path / "a.usdc")
    prim = UsdGeom.Points(stage.GetPrimAtPath("/World/tracking"))
    anchor = np.array(prim.GetPointsAttr().Get(scene.anchor_index)) * UPRIGHT
    network_px = scene.pixel_map.network_from_source(source_px(scene, scene.anchor_index, anchor))
    column, row = np.floor(network_px).astype(int).T
    assert prim.GetPointsAttr().GetNumTimeSamples() == len(scene) and scene.tracking.moving[row, column].any()
    for frame in range(len(scene)):
        points = np.array(prim.GetPointsAttr().Get(frame)) * UPRIGHT
        np.testing.assert_allclose(points, scene.tracking.points_world[frame, row, column], atol=1e-6)
    linear = np.array(prim.GetDisplayColorPrimvar().Get())
    srgb = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    np.testing.assert_allclose(srgb * 255, scene.rgb[scene.anchor_index, row, column], atol=0.01)


def test_tracks_and_surroundings(tmp_path) -> None:
    from pxr import UsdGeom

    scene = exact_scene(tmp_path)
    write_usd(scene, tmp_path / "a.usdc", max_tracks=30, max_still_points=300)
    stage = opened(tmp_path / "a.usdc")
    curves = UsdGeom.BasisCurves(stage.GetPrimAtPath("/World/tracks"))
    counts = list(curves.GetCurveVertexCountsAttr().Get())
    assert set(counts) == {len(scene)} and 5 < len(counts) <= 30
    ways = np.array(curves.GetPointsAttr().Get()).reshape(len(counts), len(scene), 3) * UPRIGHT
    maps = scene.tracking.points_world
    pixel = np.linalg.norm(maps[0].reshape(-1, 1, 3) - ways[:, 0], axis=-1).argmin(axis=0)
    np.testing.assert_allclose(ways, maps.reshape(len(scene), -1, 3)[:, pixel].swapaxes(0, 1), atol=1e-6)
    still = np.array(UsdGeom.Points(stage.GetPrimAtPath("/World/reconstruction")).GetPointsAttr().Get())
    assert 250 < len(still) <= 300
    np.testing.assert_allclose(still[:, 2], -3, atol=1e-5)


def test_layers_can_be_left_out_and_one_frame_will_do(tmp_path) -> None:
    write_usd(exact_scene(tmp_path, 1, anchor_index=0), tmp_path / "a.usda", max_points=20, max_still_points=0)
    stage = opened(tmp_path / "a.usda")
    assert stage.GetPrimAtPath("/World/tracks") and not stage.GetPrimAtPath("/World/reconstruction")


def test_time_codes_of_a_variable_frame_rate_are_the_true_times(tmp_path) -> None:
    from pxr import UsdGeom

    time_s = np.array([5.0, 5.04, 5.08, 5.3, 5.34, 5.5])
    scene = replace(exact_scene(tmp_path), time_s=time_s)
    write_usd(scene, tmp_path / "a.usda")
    stage = opened(tmp_path / "a.usda")
    seconds = time_s - time_s[0]
    for path, attribute in (("tracking", "points"), ("camera", "xformOp:transform")):
        codes = np.array(stage.GetPrimAtPath(f"/World/{path}").GetAttribute(attribute).GetTimeSamples())
        np.testing.assert_allclose(codes / stage.GetTimeCodesPerSecond(), seconds, atol=1e-9)
    assert stage.GetEndTimeCode() / stage.GetTimeCodesPerSecond() == pytest.approx(0.5)
    points = UsdGeom.Points(stage.GetPrimAtPath("/World/tracking")).GetPointsAttr()
    assert np.isfinite(points.Get(stage.GetEndTimeCode())).all()


@pytest.mark.parametrize("rate", [23.976, 30.0, 59.94, 240.0])
def test_time_codes_of_a_constant_frame_rate_in_milliseconds_are_frame_numbers(tmp_path, rate) -> None:
    scene = replace(exact_scene(tmp_path), time_s=np.round(np.arange(6) / rate, 3))
    codes, found = time_codes(scene)
    assert codes == [0, 1, 2, 3, 4, 5] and found == pytest.approx(rate, rel=0.05)


def test_time_codes_of_equal_times_are_frame_numbers(tmp_path) -> None:
    assert time_codes(replace(exact_scene(tmp_path), time_s=np.zeros(6)))[0] == [0, 1, 2, 3, 4, 5]
