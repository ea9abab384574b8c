"""Whole runs of the embedded model, whose geometry is fused: a walk past two static walls, with and without a moving square."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from st4rtrack.geometry.camera import pixel_grid, project
from st4rtrack.geometry.transforms import invert_rigid, rotation_angle, transform_maps
from st4rtrack.model.checkpoint import load_model
from st4rtrack.model.network import St4RTrack
from st4rtrack.options import KnownGeometry
from st4rtrack.pipeline import preparation
from st4rtrack.pipeline.reconstruct import reconstruct
from st4rtrack.scene import Scene
from st4rtrack.types import DepthSource
from tests.moving_camera import FOCAL, HEIGHT, INTRINSICS, WIDTH, points_on_walls, walk

FRAMES = 9
WALL_DEPTH = points_on_walls(pixel_grid(HEIGHT, WIDTH).reshape(-1, 2))[:, 2].reshape(HEIGHT, WIDTH)


@pytest.fixture(scope="module")
def model() -> St4RTrack:
    return load_model(device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def static_scene(model: St4RTrack) -> Scene:
    return reconstruct(walk(FRAMES).rgb, model=model, size=WIDTH)


def square_at(t: int) -> tuple[slice, slice]:
    """Pixels of the moving square in a frame."""
    return slice(14 + 4 * t, 38 + 4 * t), slice(40 + 2 * t, 64 + 2 * t)


@pytest.fixture(scope="module")
def with_square() -> np.ndarray:
    return add_square(walk(FRAMES).rgb)


def add_square(rgb: np.ndarray) -> np.ndarray:
    """The images with a textured square that moves over them."""
    rgb = rgb.copy()
    noise = np.random.default_rng(5).random((8, 8, 3)).astype(np.float32)
    texture = 255 * np.clip(cv2.resize(noise, (24, 24), interpolation=cv2.INTER_CUBIC), 0, 1)
    for t in range(len(rgb)):
        rgb[t][square_at(t)] = texture
    return rgb


def depth_error(scene: Scene, index: int, truth: np.ndarray) -> float:
    """Median |log error| of the reconstruction's depth after one scale."""
    points = transform_maps(invert_rigid(scene.cameras.world_from_camera[index]), scene.reconstruction.points_world[index])
    ratio = np.log(points[..., 2] / truth)
    return float(np.median(np.abs(ratio - np.median(ratio))))


def test_static_points_do_not_move(static_scene: Scene) -> None:
    tracks = np.asarray(static_scene.tracking.points_world)
    assert (tracks == tracks[0]).all()
    assert not np.asarray(static_scene.tracking.moving).any()


def test_reconstruction_points_project_to_their_own_pixels(static_scene: Scene) -> None:
    from_camera = invert_rigid(np.asarray(static_scene.cameras.world_from_camera))
    points = transform_maps(from_camera, np.asarray(static_scene.reconstruction.points_world, np.float64))
    pixels = project(points, static_scene.cameras.intrinsics[0])
    assert np.abs(pixels - pixel_grid(HEIGHT, WIDTH)).max() < 0.05


def test_focal_length_cameras_and_depth_are_near_the_truth(static_scene: Scene) -> None:
    cameras, truth = np.asarray(static_scene.cameras.world_from_camera), walk(FRAMES).world_from_camera
    assert np.asarray(static_scene.cameras.solved).all()
    assert static_scene.cameras.intrinsics[0, 0, 0] == pytest.approx(FOCAL, rel=0.02)
    assert static_scene.quality is not None and static_scene.quality.focal_source == "video"
    source = np.asarray(static_scene.reconstruction.source)
    assert static_scene.quality.measured_share == pytest.approx((source == DepthSource.MEASURED).mean())
    angle = rotation_angle(cameras[:, :3, :3].swapaxes(1, 2) @ truth[:, :3, :3])
    assert np.rad2deg(angle).max() < 0.2
    unit = np.median(WALL_DEPTH / np.asarray(static_scene.reconstruction.points_world)[0, ..., 2])
    assert np.linalg.norm(unit * cameras[:, :3, 3] - truth[:, :3, 3], axis=1).max() < 0.02  # of 2 units of path
    assert depth_error(static_scene, 0, WALL_DEPTH) < 0.01


@pytest.mark.parametrize("camera_moves", [True, False])
def test_moving_square_is_tracked_and_the_walls_stay(model: St4RTrack, camera_moves: bool) -> None:
    scene = reconstruct(add_square(walk(FRAMES, moves=camera_moves).rgb), model=model, size=WIDTH)
    tracks = np.asarray(scene.tracking.points_world, np.float64)
    moves = np.linalg.norm(tracks[-1] - tracks[0], axis=-1) > 0.05 * tracks[0, ..., 2]
    square = np.zeros((HEIGHT, WIDTH), bool)
    square[square_at(0)] = True
    assert moves[square].mean() > 0.7 and moves[~square].mean() < 0.06
    in_camera = transform_maps(invert_rigid(scene.cameras.world_from_camera[-1]), tracks[-1])
    ends = project(in_camera, scene.cameras.intrinsics[-1]) - pixel_grid(HEIGHT, WIDTH)
    shift = np.array([2 * (FRAMES - 1), 4 * (FRAMES - 1)])
    assert np.median(np.linalg.norm(ends - shift, axis=-1)[square]) < 1.5


@pytest.mark.parametrize(("stops", "moves", "anchor"), [((8,), True, 0), ((2, 9), False, 8)])
def test_resumed_run_gives_the_same_scene_bit_for_bit(
    model: St4RTrack, tmp_path: Path, stops: tuple[int, ...], moves: bool, anchor: int
) -> None:
    """With solved cameras, and with a fixed one; so late that the first frames are not needed for smoothing."""
    with_square = add_square(walk(anchor + 2 if anchor else FRAMES, moves=moves).rgb)
    options = {"model": model, "size": WIDTH // 2, "anchor": anchor, "batch_size": 1}
    whole = reconstruct(with_square, **options)

    def stop(done: int, total: int) -> None:
        if done in stops:
            raise InterruptedError

    for _ in stops:
        with pytest.raises(InterruptedError):
            reconstruct(with_square, output=tmp_path / "part", progress=stop, **options)
    part = reconstruct(with_square, output=tmp_path / "part", **options)
    for of_scene in (
        lambda s: s.cameras.world_from_camera,
        lambda s: s.tracking.points_world,
        lambda s: s.tracking.visibility,
        lambda s: s.reconstruction.points_world,
        lambda s: s.reconstruction.confidence,
        lambda s: s.reconstruction.moving,
    ):
        np.testing.assert_array_equal(of_scene(part), of_scene(whole))


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_very_short_video_has_one_scale_and_finite_points(model: St4RTrack, frames: int) -> None:
    scene = reconstruct(walk(16).rgb[:frames], model=model, size=WIDTH)
    points = np.asarray(scene.reconstruction.points_world)
    assert np.isfinite(points).all() and np.isfinite(scene.tracking.points_world).all()
    cameras = np.asarray(scene.cameras.world_from_camera)
    depth = [transform_maps(invert_rigid(camera), each)[..., 2] for camera, each in zip(cameras, points, strict=True)]
    scales = [float(np.median(each)) for each in depth]
    np.testing.assert_allclose(scales, scales[0], rtol=0.1)


@pytest.mark.parametrize(("frames", "codes"), [(3, {"short_video"}), (8, {"short_video", "fixed_camera"})])
def test_fixed_camera_is_not_reported_for_few_frames(model: St4RTrack, frames: int, codes: set[str]) -> None:
    scene = reconstruct(walk(1, moves=False).rgb.repeat(frames, 0), model=model, size=WIDTH)
    assert scene.quality is not None
    assert {warning.code for warning in scene.quality.warnings} == codes
    sentence = next(warning.sentence for warning in scene.quality.warnings if warning.code == "short_video")
    assert ("the camera motion" in sentence) == (frames < 8)


def test_black_frame_inside_is_unsolved_and_leaves_the_others_as_they_are(model: St4RTrack, static_scene: Scene) -> None:
    rgb = walk(FRAMES).rgb.copy()
    rgb[4] = 0
    scene = reconstruct(rgb, model=model, size=WIDTH)
    assert np.flatnonzero(~np.asarray(scene.cameras.solved)).tolist() == [4]
    tracks = np.asarray(scene.tracking.points_world)
    assert (tracks == tracks[0]).all()
    solved = [t for t in range(FRAMES) if t != 4]
    angle = rotation_angle(
        scene.cameras.world_from_camera[solved, :3, :3].swapaxes(1, 2) @ static_scene.cameras.world_from_camera[solved, :3, :3]
    )
    assert np.rad2deg(angle).max() < 0.3


def test_tracks_in_a_black_frame_are_those_of_the_frame_before(model: St4RTrack) -> None:
    rgb = add_square(walk(6, moves=False).rgb)
    rgb[3] = 0
    scene = reconstruct(rgb, model=model, size=WIDTH // 2, refine=False)
    tracks = np.asarray(scene.tracking.points_world)
    np.testing.assert_array_equal(tracks[3], tracks[2])
    moved = (tracks[5] != tracks[0]).any(-1)
    square = cv2.resize(np.pad(np.ones((24, 24), np.uint8), ((14, HEIGHT - 38), (40, WIDTH - 64))), (WIDTH // 2, HEIGHT // 2)) > 0
    assert moved[square].mean() > 0.6


def test_known_cameras_and_depth_are_kept(model: St4RTrack) -> None:
    clip = walk(FRAMES)
    depth = np.stack([WALL_DEPTH, *np.zeros((FRAMES - 1, HEIGHT, WIDTH))]).astype(np.float32)
    depth[0, :, : WIDTH // 2] = 0  # the rest is measured
    known = KnownGeometry(intrinsics=INTRINSICS, cameras=clip.world_from_camera, depth=depth)
    scene = reconstruct(clip.rgb, model=model, size=WIDTH, known=known)
    np.testing.assert_allclose(scene.cameras.world_from_camera, clip.world_from_camera, atol=1e-6)
    np.testing.assert_allclose(scene.reconstruction.points_world[0][depth[0] > 0][..., 2], WALL_DEPTH[depth[0] > 0], rtol=1e-4)
    error = np.abs(np.log(np.asarray(scene.reconstruction.points_world)[0, ..., 2] / WALL_DEPTH))
    assert (
        np.median(error[depth[0] == 0]) < 0.04
    )  # the prior alone has 0.08; measured depth 0.019 or 0.020, as OpenCV's flow has it


def test_overlay_does_not_make_all_other_pixels_static(model: St4RTrack, monkeypatch: pytest.MonkeyPatch) -> None:
    logo = np.zeros((HEIGHT, WIDTH), bool)
    logo[:10, :20] = True
    monkeypatch.setattr(preparation, "_overlay", lambda *_: logo)
    scene = reconstruct(add_square(walk(5, moves=False).rgb), model=model, size=WIDTH)
    tracks = np.asarray(scene.tracking.points_world)
    moved = (np.abs(tracks[-1] - tracks[0]).max(-1) > 0.02)[square_at(0)]
    assert moved.mean() > 0.7


def test_known_static_pixels_do_not_move(model: St4RTrack, with_square: np.ndarray) -> None:
    scene = reconstruct(
        with_square, model=model, size=WIDTH, stop=6, known=KnownGeometry(static_mask=np.ones((6, HEIGHT, WIDTH), bool))
    )
    tracks = np.asarray(scene.tracking.points_world)
    assert (tracks == tracks[0]).all()
