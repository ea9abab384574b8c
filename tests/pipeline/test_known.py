"""What is known takes the place of what a network says: the truth in place of it, spoiled where the knowledge repairs it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from st4rtrack.data.procedural import ProceduralClip, ProceduralConfig, procedural_clip
from st4rtrack.geometry.camera import pixel_grid, project
from st4rtrack.geometry.transforms import invert_rigid, rigid, transform_maps, transform_points
from st4rtrack.hints.frame_order import OrderedFrames
from st4rtrack.io.scene import load_scene
from st4rtrack.io.video import open_video
from st4rtrack.options import KnownGeometry
from st4rtrack.pipeline.reconstruct import reconstruct
from st4rtrack.scene import Scene
from st4rtrack.types import KnownVideo, UserError
from tests.moving_camera import FOCAL, HEIGHT, WIDTH, walk
from tests.synthetic import TruthNetwork

ANCHOR = 2


@pytest.fixture(scope="module")
def clip() -> ProceduralClip:
    return procedural_clip(1, ProceduralConfig(num_frames=6, setting="room"), anchor=ANCHOR)


def spoiled(clip: ProceduralClip, *, scale: float = 1.0, noise: float = 0.0, linear: np.ndarray | None = None) -> TruthNetwork:
    """The truth at another scale, through another lens (linear in the anchor's camera), or with noise of its points (share)."""
    change = scale * (np.eye(3) if linear is None else linear)
    random = np.random.default_rng(0)
    maps = [points @ change.T for points in (clip.tracking_points_world, clip.reconstruction_points_world)]
    tracking, reconstruction = (points * (1 + noise * random.standard_normal(points.shape)) for points in maps)
    return TruthNetwork(replace(clip, tracking_points_world=tracking, reconstruction_points_world=reconstruction))


def reconstructed(network: TruthNetwork, known: KnownGeometry) -> Scene:
    return reconstruct(network.clip.rgb, model=network, size=256, anchor=ANCHOR, known=known)


def relative_error(points: np.ndarray, truth: np.ndarray) -> np.ndarray:
    return np.linalg.norm(points - truth, axis=-1) / np.linalg.norm(truth, axis=-1)


def test_intrinsics_replace_those_found_and_all_pixels_are_on_their_rays(clip: ProceduralClip) -> None:
    lens = np.array([[0.7, 0, 0.05], [0, 0.75, -0.03], [0, 0, 1]])  # another focal length, not square, and off the middle
    scene = reconstructed(spoiled(clip, linear=lens), KnownGeometry(intrinsics=clip.intrinsics[0]))
    np.testing.assert_array_equal(scene.cameras.intrinsics, clip.intrinsics)
    cameras = np.asarray(scene.cameras.world_from_camera)
    assert (cameras[ANCHOR] == np.eye(4)).all()
    points = transform_maps(invert_rigid(cameras), np.asarray(scene.reconstruction.points_world, np.float64))
    pixels = project(points[clip.reconstruction_valid], clip.intrinsics[0])
    grid = np.broadcast_to(pixel_grid(192, 256), (6, 192, 256, 2))[clip.reconstruction_valid]
    assert np.abs(pixels - grid).max() < 0.01
    found, valid = np.asarray(scene.reconstruction.points_world)[ANCHOR], clip.reconstruction_valid[ANCHOR]
    assert relative_error(found, clip.reconstruction_points_world[ANCHOR])[valid].max() < 1e-5


@pytest.mark.parametrize("scale", [0.2, 5.0])
def test_cameras_are_those_given_and_points_are_in_their_unit(clip: ProceduralClip, scale: float) -> None:
    elsewhere = rigid(np.linalg.qr(np.random.default_rng(0).standard_normal((3, 3)))[0], np.array([5.0, 6, 7]))
    elsewhere[:3, :3] *= np.linalg.det(elsewhere[:3, :3])
    known = KnownGeometry(cameras=elsewhere @ clip.world_from_camera, intrinsics=clip.intrinsics[0])
    scene = reconstructed(spoiled(clip, scale=scale, noise=0.01), known)
    np.testing.assert_allclose(scene.cameras.world_from_camera, clip.world_from_camera, atol=1e-6)
    assert (np.asarray(scene.cameras.world_from_camera)[ANCHOR] == np.eye(4)).all()
    valid = clip.reconstruction_valid
    ratio = np.linalg.norm(scene.reconstruction.points_world, axis=-1)[valid] / np.linalg.norm(
        clip.reconstruction_points_world[valid], axis=-1
    )
    assert abs(np.median(ratio) - 1) < 0.03
    assert (
        np.median(relative_error(np.asarray(scene.reconstruction.points_world), clip.reconstruction_points_world)[valid]) < 0.04
    )
    assert scene.info["results"]["units"] == "cameras"


def test_a_frame_without_a_known_camera_is_found_in_the_same_unit(clip: ProceduralClip) -> None:
    cameras = clip.world_from_camera.copy()
    cameras[4] = np.nan
    scene = reconstructed(spoiled(clip, scale=3.0), KnownGeometry(cameras=cameras, intrinsics=clip.intrinsics[0]))
    np.testing.assert_allclose(scene.cameras.world_from_camera, clip.world_from_camera, atol=1e-4)
    assert np.asarray(scene.cameras.solved).all()


def test_depth_replaces_the_networks_and_sets_the_unit(clip: ProceduralClip) -> None:
    depth = clip.depth.copy()
    depth[:, :, 128:] = 0  # a sensor that sees one half
    scene = reconstructed(spoiled(clip, scale=0.1, noise=0.02), KnownGeometry(depth=depth, intrinsics=clip.intrinsics[0]))
    valid = clip.reconstruction_valid
    error = relative_error(np.asarray(scene.reconstruction.points_world), clip.reconstruction_points_world)
    here, there = valid & (depth > 0), valid & (depth == 0)
    cameras = np.asarray(scene.cameras.world_from_camera)
    z = transform_maps(invert_rigid(cameras), np.asarray(scene.reconstruction.points_world, np.float64))[..., 2]
    np.testing.assert_allclose(z[here], depth[here], rtol=1e-5)
    assert error[here].mean() < 0.3 * error[there].mean() and np.median(error[there]) < 0.04
    assert np.abs(cameras[:, :3, 3] - clip.world_from_camera[:, :3, 3]).max() < 0.02 * np.median(clip.depth)
    assert scene.info["results"]["units"] == "depth"
    seen = clip.visible & clip.tracking_valid & (depth[ANCHOR] > 0)
    tracks = relative_error(np.asarray(scene.tracking.points_world), clip.tracking_points_world)
    without = spoiled(clip, noise=0.02).clip.tracking_points_world
    assert np.median(tracks[seen]) < 0.5 * np.median(relative_error(without, clip.tracking_points_world)[seen])


def test_scale_drift_between_pairs_is_taken_out_by_depth(clip: ProceduralClip) -> None:
    drift = np.array([0.8, 0.9, 1.0, 1.1, 1.2, 1.3])[:, None, None, None]
    drifting = replace(
        clip,
        tracking_points_world=clip.tracking_points_world * drift,
        reconstruction_points_world=clip.reconstruction_points_world * drift,
    )
    scene = reconstructed(TruthNetwork(drifting), KnownGeometry(depth=clip.depth, intrinsics=clip.intrinsics[0]))
    error = relative_error(np.asarray(scene.tracking.points_world), clip.tracking_points_world)
    assert np.median(error[clip.tracking_valid]) < 1e-3
    np.testing.assert_allclose(scene.cameras.world_from_camera, clip.world_from_camera, atol=1e-3)


def test_depth_and_cameras_in_different_units_end_in_that_of_the_depth(clip: ProceduralClip) -> None:
    cameras = clip.world_from_camera.copy()
    cameras[:, :3, 3] *= 40
    scene = reconstructed(spoiled(clip), KnownGeometry(depth=clip.depth, cameras=cameras, intrinsics=clip.intrinsics[0]))
    np.testing.assert_allclose(scene.cameras.world_from_camera, clip.world_from_camera, atol=1e-3)
    same = reconstructed(
        spoiled(clip, noise=0.01), KnownGeometry(depth=clip.depth, cameras=clip.world_from_camera, intrinsics=clip.intrinsics[0])
    )
    np.testing.assert_allclose(same.cameras.world_from_camera, clip.world_from_camera, atol=1e-6)


def test_what_is_known_to_be_static_stands_still_and_finds_the_cameras(clip: ProceduralClip) -> None:
    static = np.broadcast_to(np.arange(256) < 128, (6, 192, 256))
    broken = replace(clip, reconstruction_points_world=clip.reconstruction_points_world.copy())
    wrong = transform_points(rigid(np.eye(3), np.array([3.0, 1, 0])), broken.reconstruction_points_world[:, :, 128:])
    broken.reconstruction_points_world[:, :, 128:] = wrong  # most agree on another camera where nothing is masked
    broken.reconstruction_points_world[:, ::2, :128] = np.nan
    scene = reconstructed(TruthNetwork(broken), KnownGeometry(static_mask=static))
    others = np.arange(6) != ANCHOR
    assert np.abs(scene.cameras.world_from_camera - clip.world_from_camera)[others].max() < 1e-3
    tracks = np.asarray(scene.tracking.points_world)
    assert (tracks[:, :, :128] == tracks[ANCHOR, :, :128]).all()
    np.testing.assert_allclose(tracks[:, :, 128:], clip.tracking_points_world[:, :, 128:], atol=1e-5)


def test_metres_by_a_factor_or_by_a_known_distance(clip: ProceduralClip) -> None:
    scene = reconstructed(spoiled(clip, scale=7.0), KnownGeometry(metres_per_unit=1 / 7))
    np.testing.assert_allclose(scene.reconstruction.points_world, clip.reconstruction_points_world, rtol=1e-4, atol=1e-4)
    assert scene.info["results"]["units"] == "metres"
    ends = clip.tracking_points_world[ANCHOR, (40, 150), (60, 200)]
    text = f"60.5,40.5,200.5,150.5={np.linalg.norm(ends[0] - ends[1])}"
    scene = reconstructed(
        spoiled(clip, scale=7.0),
        KnownGeometry(known_distance=text, cameras=3 * clip.world_from_camera @ np.diag([1 / 3] * 3 + [1])),
    )
    np.testing.assert_allclose(scene.cameras.world_from_camera, clip.world_from_camera, atol=1e-3)
    assert scene.info["known"]["known_distance"] == text


def test_a_killed_run_goes_on_and_another_knowledge_is_another_scene(clip: ProceduralClip, tmp_path: Path) -> None:
    known = KnownGeometry(depth=clip.depth, cameras=clip.world_from_camera, static_mask=clip.object_index == 0)
    options = {"size": 256, "anchor": ANCHOR, "batch_size": 2}

    class Killed(Exception):
        pass

    def kill(done: int, total: int) -> None:
        if done == 3:
            raise Killed

    whole = reconstruct(clip.rgb, model=spoiled(clip), known=known, **options)  # type: ignore[arg-type]
    with pytest.raises(Killed):
        reconstruct(clip.rgb, model=spoiled(clip), known=known, output=tmp_path, progress=kill, **options)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"made with --cameras array .* this run has no --cameras"):
        reconstruct(clip.rgb, model=spoiled(clip), known=KnownGeometry(depth=2 * clip.depth), output=tmp_path, **options)  # type: ignore[arg-type]
    reconstruct(clip.rgb, model=spoiled(clip), known=known, output=tmp_path, **options)  # type: ignore[arg-type]
    again = load_scene(tmp_path)
    np.testing.assert_array_equal(again.tracking.points_world, whole.tracking.points_world)
    np.testing.assert_array_equal(again.reconstruction.points_world, whole.reconstruction.points_world)
    np.testing.assert_array_equal(again.cameras.world_from_camera, whole.cameras.world_from_camera)
    assert again.info["known"].keys() == {"depth", "cameras", "static_mask"}


def test_depth_that_the_anchor_has_none_of_is_said(clip: ProceduralClip) -> None:
    depth = clip.depth.copy()
    depth[ANCHOR] = 0
    with pytest.raises(UserError, match="depth of the anchor"):
        reconstructed(spoiled(clip), KnownGeometry(depth=depth))


@pytest.mark.parametrize("with_geometry", [True, False])
def test_outward_few_frames_after_the_anchor_do_not_decide_the_camera_motion(with_geometry: bool) -> None:
    rgb = walk(10).rgb
    rgb[-1] = rgb[-2]
    ordered = OrderedFrames(open_video(rgb), 8, with_geometry=with_geometry, solve=lambda parallax: None)
    assert ordered.motion is not None and ordered.motion.kind == "general"


def test_known_cameras_and_depth_go_into_the_geometry() -> None:
    video = walk(12)
    unit = 2.5
    cameras = video.world_from_camera.copy()
    cameras[:, :3, 3] *= unit
    given = KnownVideo(FOCAL, cameras)
    ordered = OrderedFrames(open_video(video.rgb), 0, with_geometry=True, known=given)
    assert ordered.geometry is not None and ordered.units.cameras is not None
    depth = ordered.geometry.anchor_view.anchor_depth * ordered.units.cameras
    truth = np.where(np.arange(HEIGHT)[:, None] + 0.5 > HEIGHT / 2, 3.5, 5.0) * unit * np.ones(WIDTH)
    known = depth > 0
    assert known.mean() > 0.5 and np.median(np.abs(depth / truth - 1)[known]) < 0.01
    for index, _, view in ordered.frames([False] * 12):
        assert view is not None
        np.testing.assert_allclose(view.anchor_from_frame[:3, 3] * ordered.units.cameras, cameras[index, :3, 3], atol=1e-9)

    measured = KnownVideo(FOCAL, None, lambda index: (truth if index == 0 else 0 * truth).astype(np.float32))
    ordered = OrderedFrames(open_video(video.rgb), 0, with_geometry=True, known=measured)
    assert ordered.units.depth == pytest.approx(np.median(truth))
    last = [view for _, _, view in ordered.frames([False] * 12)][-1]
    assert last is not None
    away = np.linalg.norm(last.anchor_from_frame[:3, 3] * ordered.units.depth - cameras[-1, :3, 3])
    assert away < 0.02 * np.linalg.norm(cameras[-1, :3, 3])
