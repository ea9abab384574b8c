"""USD export: animated points, tracks, reconstruction and camera, for Blender and Houdini; uses usd-core.

Y is up and cameras look along -z, the USD convention. At a constant frame rate time codes are frame numbers; at a variable one
they are timestamps in units of the mean frame interval (`time_codes`). The stage defines the time codes per second. One USD unit
is one world unit of the scene with `metersPerUnit` 1; it is metric only if the scene is.
"""

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from st4rtrack.io.formats.common import (
    image_intrinsics,
    lengths,
    need,
    opengl_from_opencv_points,
    opengl_poses,
    time_codes,
    utf8_path,
    world_from_cameras,
)
from st4rtrack.io.formats.content import (
    AnchorPixels,
    accumulated,
    choose_pixels,
    follow,
    point_width,
    track_colours,
    track_curves,
)
from st4rtrack.scene import Scene

_MAX_POSITIONS = 6_000_000
"""Maximum number of animated positions over all frames: usd-core holds a file in memory while it is written."""
_MAX_TRACK_VERTICES = 64
_APERTURE_MM = 36.0


def write_usd(
    scene: Scene, path: str | Path, *, max_points: int | None = None, max_tracks: int = 400, max_still_points: int = 200_000
) -> None:
    """Write `/World` with `tracking` (Points), `tracks` (BasisCurves), `reconstruction` (Points) and `camera`.

    Args:
        max_points: Maximum number of the anchor's dynamic points. Default: 50,000, fewer in long videos.
        max_tracks: Maximum number of tracks over the whole video, as curves of up to 64 corners; 0: none.
        max_still_points: Maximum number of points of the reconstruction of all frames; 0: none.
    Raises:
        UserError: the scene has no cameras or no tracks, or usd-core is not installed.
    """
    Usd = _pxr("Usd")
    poses = opengl_poses(world_from_cameras(scene, every_frame=True))
    if max_points is None:
        max_points = min(50_000, max(100, _MAX_POSITIONS // len(scene)))
    with utf8_path(path) as file:
        _write(Usd.Stage.CreateNew(str(file)), scene, poses, max_points, max_tracks, max_still_points)


def _write(stage: Any, scene: Scene, poses: np.ndarray, max_points: int, max_tracks: int, max_still_points: int) -> None:
    UsdGeom = _pxr("UsdGeom")
    codes, rate = time_codes(scene)
    stage.GetRootLayer().comment = lengths(scene.info)
    UsdGeom.SetStageUpAxis(stage, UsdGeom.Tokens.y)
    UsdGeom.SetStageMetersPerUnit(stage, 1.0)
    stage.SetTimeCodesPerSecond(rate)
    stage.SetFramesPerSecond(rate)
    stage.SetStartTimeCode(0)
    stage.SetEndTimeCode(codes[-1])
    stage.SetDefaultPrim(UsdGeom.Xform.Define(stage, "/World").GetPrim())
    _camera(stage, scene, poses, codes)
    _moving_points(stage, scene, choose_pixels(scene, max_points), codes)
    if max_tracks:
        _curves(stage, scene, choose_pixels(scene, max_tracks))
    if max_still_points:
        cloud = accumulated(scene, max_still_points)
        prim = _points(stage, "/World/reconstruction", cloud.colours, point_width(scene, 1.0))
        prim.CreatePointsAttr(_pxr("Vt").Vec3fArray.FromNumpy(opengl_from_opencv_points(cloud.points_world)))
    stage.GetRootLayer().Save()


def _pxr(module: str) -> ModuleType:
    return need(f"pxr.{module}", "usd")


def _camera(stage: Any, scene: Scene, poses: np.ndarray, codes: list[float]) -> None:
    """Define the pinhole camera with a 36 mm wide film back; aperture offsets represent the principal point."""
    Gf, UsdGeom = _pxr("Gf"), _pxr("UsdGeom")
    camera = UsdGeom.Camera.Define(stage, "/World/camera")
    height, width = scene.source_size
    intrinsics = image_intrinsics(scene, scene.pixel_map.ideal)
    fx, fy, cx, cy = (intrinsics[:, row, column] for row, column in ((0, 0), (1, 1), (0, 2), (1, 2)))
    focal = fx * _APERTURE_MM / width
    vertical = height * focal / fy
    values = {
        camera.CreateFocalLengthAttr(): focal,
        camera.CreateHorizontalApertureAttr(): np.full(len(scene), _APERTURE_MM),
        camera.CreateVerticalApertureAttr(): vertical,
        camera.CreateHorizontalApertureOffsetAttr(): (0.5 - cx / width) * _APERTURE_MM,
        camera.CreateVerticalApertureOffsetAttr(): (cy / height - 0.5) * vertical,
    }
    for attribute, of_frames in values.items():
        if (of_frames == of_frames[0]).all():
            attribute.Set(float(of_frames[0]))
        else:
            for code, value in zip(codes, of_frames.tolist(), strict=True):
                attribute.Set(value, code)
    camera.CreateClippingRangeAttr(Gf.Vec2f(1e-3, 1e5))
    transform = camera.AddTransformOp()
    for code, pose in zip(codes, poses, strict=True):  # USD interpolates matrices by element, so unsolved frames have samples too
        transform.Set(Gf.Matrix4d(pose.T.tolist()), code)  # USD multiplies rows from the left


def _moving_points(stage: Any, scene: Scene, pixels: AnchorPixels, codes: list[float]) -> None:
    Vt = _pxr("Vt")
    prim = _points(stage, "/World/tracking", pixels.colours, point_width(scene, pixels.spacing_px))
    attribute = prim.CreatePointsAttr()
    for code, solved, (points, _) in zip(codes, scene.solved_frames, follow(scene, pixels), strict=True):
        if solved:
            attribute.Set(Vt.Vec3fArray.FromNumpy(opengl_from_opencv_points(points)), code)


def _points(stage: Any, path: str, colours: np.ndarray, width: float) -> Any:
    UsdGeom, Vt = _pxr("UsdGeom"), _pxr("Vt")
    prim = UsdGeom.Points.Define(stage, path)
    prim.CreateDisplayColorPrimvar(UsdGeom.Tokens.vertex).Set(Vt.Vec3fArray.FromNumpy(_linear(colours)))
    prim.CreateWidthsAttr([width])
    prim.SetWidthsInterpolation(UsdGeom.Tokens.constant)
    return prim


def _curves(stage: Any, scene: Scene, pixels: AnchorPixels) -> None:
    UsdGeom, Vt = _pxr("UsdGeom"), _pxr("Vt")
    trajectories = track_curves(scene, pixels, _MAX_TRACK_VERTICES)
    curves = UsdGeom.BasisCurves.Define(stage, "/World/tracks")
    curves.CreateTypeAttr(UsdGeom.Tokens.linear)
    curves.CreateCurveVertexCountsAttr([trajectories.shape[1]] * len(trajectories))
    curves.CreatePointsAttr(Vt.Vec3fArray.FromNumpy(opengl_from_opencv_points(trajectories).reshape(-1, 3)))
    curves.CreateWidthsAttr([point_width(scene, 1.0)])
    curves.SetWidthsInterpolation(UsdGeom.Tokens.constant)
    colours = _linear(track_colours(pixels, scene.rgb.shape[2]))
    curves.CreateDisplayColorPrimvar(UsdGeom.Tokens.uniform).Set(Vt.Vec3fArray.FromNumpy(colours))


def _linear(colours: np.ndarray) -> np.ndarray:
    """Convert sRGB colours [points, 3] uint8 to the linear colours of USD, float32."""
    value = colours.astype(np.float32) / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4).astype(np.float32)
