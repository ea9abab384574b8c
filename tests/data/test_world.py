"""The rendered world: meshes, textures, truth of clips and frames, on a made-up set of models."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from st4rtrack.data.depth_frames import RenderedFrames
from st4rtrack.data.world import build, people
from st4rtrack.data.world.assets import Assets, assets_folder, build_assets, open_assets, split_of
from st4rtrack.data.world.camera_effects import CameraEffects
from st4rtrack.data.world.camera_path import CameraPath
from st4rtrack.data.world.cast import Caster, Geometry
from st4rtrack.data.world.clips import WorldClip, WorldClips, render_clip
from st4rtrack.data.world.frames import frames, scene_frames, write_frames
from st4rtrack.data.world.mesh import parse_obj, plain_materials
from st4rtrack.data.world.motion import Path as Walk
from st4rtrack.data.world.objects import Light, SceneObject, WorldScene, turned
from st4rtrack.data.world.patterns import mirrored_tile
from st4rtrack.data.world.scenes import SETTINGS
from st4rtrack.data.world.textures import join_textures, pyramid, sample
from st4rtrack.geometry.camera import project
from st4rtrack.types import UserError
from tests.made_up_world import CUBE, write_library

SIZE = (48, 64)


@pytest.fixture(scope="module")
def made_up(tmp_path_factory: pytest.TempPathFactory) -> Assets:
    """Assets of made-up boxes, without people and skies."""
    folder = tmp_path_factory.mktemp("world")
    build_assets(folder / "cache", write_library(folder / "furniture"), None, with_people=False)
    return open_assets(folder / "cache")


@pytest.fixture
def embree() -> None:
    """Skips where Embree is not installed."""
    pytest.importorskip("embreex", reason="embreex is not installed (pip install 'st4rtrack[world]')")


@pytest.fixture(scope="module")
def real_assets() -> Assets:
    """The cached real assets."""
    pytest.importorskip("embreex", reason="embreex is not installed (pip install 'st4rtrack[world]')")
    if not (assets_folder() / "index.json").is_file():
        pytest.skip("no assets are cached (python -m st4rtrack.data.world.assets)")
    return open_assets()


def still_camera(eye: tuple[float, float, float], target: tuple[float, float, float], **changes: object) -> CameraPath:
    zero = np.zeros(3)
    camera_path = CameraPath(
        "tripod",
        np.array(eye),
        np.array(target),
        zero,
        zero,
        0.0,
        0.8,
        0.0,
        np.zeros((2, 3)),
        np.ones((2, 3)),
        np.zeros((2, 3)),
        0.0,
    )
    return replace(camera_path, **changes)


def painted(rng: np.random.Generator) -> tuple[WorldScene, list]:
    """An empty stage with a floor and a wall of smooth random colours, and its textures."""
    parts = [pyramid(cv2.resize(rng.integers(30, 255, (12, 12, 3)).astype(np.uint8), (128, 128))) for _ in range(3)]
    objects = [
        SceneObject(build.ground(6.0, np.zeros((2, 2)), plain_materials([0.5] * 3, 0), 3.0), np.eye(4)),
        SceneObject(
            build.rectangle(np.array([-4.0, 0, 3]), np.array([8.0, 0, 0]), np.array([0, -4.0, 0]), plain_materials([0.5] * 3, 1)),
            np.eye(4),
        ),
    ]
    lights = [Light(np.array([200.0, -900, -300]), 5.0, np.full(3, 1.5), True)]
    return WorldScene(objects, lights, np.ones((8, 16, 3), np.float32), join_textures(parts), np.full(3, 0.3)), parts


def test_parse_obj_reads_polygons_negative_indices_and_materials() -> None:
    content = parse_obj(CUBE.format(name="x"))
    assert content.positions.shape == (8, 3)
    assert content.corners.shape == (12, 3, 2)
    assert content.names == ["", "paint", "plain"]
    np.testing.assert_array_equal(content.corners[8, :, 0], [0, 4, 7])


def test_build_assets_scales_models_to_the_catalogue_and_copies_licences(made_up: Assets) -> None:
    mesh = made_up.mesh("Made-fordFocus")
    np.testing.assert_allclose(mesh.size, [2.0, 1.5, 4.3], atol=1e-5)
    np.testing.assert_allclose(mesh.vertices.max(0)[1], 0, atol=1e-6)
    assert len(mesh.faces) == 12
    np.testing.assert_allclose(np.linalg.norm(mesh.normals, axis=1), 1, atol=1e-5)
    outward = (mesh.vertices - np.array([0, -0.75, 0])) * mesh.normals
    assert (outward.sum(1) > 0).all()
    assert (made_up.folder / "licences" / "Made" / "LICENSE.TXT").is_file()


def test_open_assets_without_a_cache_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"apt-get install sweethome3d-furniture"):
        open_assets(tmp_path)


def test_splits_are_disjoint_and_hold_about_an_eighth_for_validation() -> None:
    held = np.mean([split_of(f"model-{k}") == "validation" for k in range(2000)])
    assert 0.09 < held < 0.15


def test_sample_at_texel_centres_returns_texels_and_wraps() -> None:
    image = np.random.default_rng(0).integers(0, 255, (16, 32, 3)).astype(np.uint8)
    textures = join_textures([pyramid(np.zeros((4, 4, 3), np.uint8)), pyramid(image)])
    v, u = np.meshgrid(np.arange(16), np.arange(32), indexing="ij")
    uv = np.stack([(u.ravel() + 0.5) / 32 + 3, 1 - (v.ravel() + 0.5) / 16 - 2], 1).astype(np.float32)
    taken = sample(textures, np.ones(512, np.int64), uv, np.full(512, 1e-4, np.float32))
    np.testing.assert_allclose(taken[:, :3].reshape(16, 32, 3) * 255, image, atol=0.6)


def test_sample_of_a_wide_pixel_returns_the_mean_colour() -> None:
    image = np.random.default_rng(1).integers(0, 255, (64, 64, 3)).astype(np.uint8)
    textures = join_textures([pyramid(image)])
    taken = sample(textures, np.zeros(1, np.int64), np.array([[0.3, 0.4]], np.float32), np.array([4.0], np.float32))
    np.testing.assert_allclose(taken[0, :3] * 255, image.reshape(-1, 3).mean(0), atol=2)


def test_mirrored_tile_has_equal_opposite_borders() -> None:
    tile = mirrored_tile(np.random.default_rng(0).integers(0, 255, (5, 7, 3)).astype(np.uint8))
    np.testing.assert_array_equal(tile[0], tile[-1])
    np.testing.assert_array_equal(tile[:, 0], tile[:, -1])


def moving_box_clip(times: np.ndarray, camera_path: CameraPath) -> tuple[WorldClip, Walk]:
    rng = np.random.default_rng(3)
    world_scene, _ = painted(rng)
    walk = Walk(np.array([-1.2, 1.0]), -np.pi / 2, 1.0, 0.2)
    box = build.box(np.array([0.6, 0.9, 0.5]), plain_materials([0.5] * 3, 2))
    world_scene.objects.append(SceneObject(box, walk.place(lambda at: 0.0), moves=True))
    return render_clip(world_scene, camera_path, times, (96, 128), rng, CameraEffects(exposure=1.0)), walk


@pytest.mark.usefixtures("embree")
def test_render_clip_of_a_rigid_motion_has_exact_tracks_masks_and_occlusion() -> None:
    times = np.array([0.0, 0.6, 1.2])
    camera_path = still_camera((0, -1.4, -3.5), (0, -0.6, 1.0), travel=np.array([0.3, 0, 0.2]))
    clip, walk = moving_box_clip(times, camera_path)
    box = clip.object_index[0] == 2
    assert 0.02 < box.mean() < 0.3
    np.testing.assert_array_equal(clip.moving, box)
    np.testing.assert_array_equal(clip.subject[0], box)
    world = camera_path.pose(0.0)
    tracked = clip.tracking_points_world.astype(np.float64) @ world[:3, :3].T + world[:3, 3]
    rigid = walk.place(lambda at: 0.0)
    change = rigid(1.2) @ np.linalg.inv(rigid(0.0))
    np.testing.assert_allclose(tracked[2][box], tracked[0][box] @ change[:3, :3].T + change[:3, 3], atol=2e-5)
    still = (clip.object_index[0] == 0) | (clip.object_index[0] == 1)
    np.testing.assert_allclose(tracked[2][still], tracked[0][still], atol=1e-5)
    # The box hides parts of the wall at the end that it did not hide at the start.
    hidden = still & ~clip.visible[2]
    assert 0.005 < hidden.mean() < 0.3


@pytest.mark.usefixtures("embree")
def test_render_clip_reprojection_agrees_with_depth_and_colour() -> None:
    camera_path = still_camera((0, -1.4, -3.5), (0, -0.6, 1.0), travel=np.array([0.4, -0.1, 0.2]), zoom=0.1, orbit=0.1)
    clip, _ = moving_box_clip(np.array([0.0, 0.5, 1.0]), camera_path)
    np.testing.assert_array_equal(clip.world_from_camera[0], np.eye(4))
    rays = np.linalg.inv(clip.intrinsics[0])
    pixels = np.stack(np.meshgrid(np.arange(128) + 0.5, np.arange(96) + 0.5), -1)
    unprojected = np.concatenate([pixels, np.ones((96, 128, 1))], -1) @ rays.T * clip.depth[0][..., None]
    valid = clip.tracking_valid[0]
    np.testing.assert_allclose(clip.tracking_points_world[0][valid], unprojected[valid], atol=1e-4)
    for k in (1, 2):
        camera_from_world = np.linalg.inv(clip.world_from_camera[k])
        local = clip.tracking_points_world[k].astype(np.float64) @ camera_from_world[:3, :3].T + camera_from_world[:3, 3]
        visible = clip.visible[k]
        at = project(local[visible], clip.intrinsics[k])
        maps = np.round(at - 0.5).astype(int)
        maps = np.clip(maps, 0, [127, 95])
        depth = clip.depth[k][maps[:, 1], maps[:, 0]]
        apart = np.abs(depth - local[visible][:, 2]) / local[visible][:, 2]
        assert np.median(apart) < 0.01
        assert np.mean(apart < 0.05) > 0.97
        followed = clip.rgb[k][maps[:, 1], maps[:, 0]].astype(float)
        own = clip.rgb[0][visible].astype(float)
        unmoved = clip.rgb[k][visible].astype(float)
        assert np.abs(followed - own).mean() < 0.4 * np.abs(unmoved - own).mean()


@pytest.mark.usefixtures("embree")
def test_caster_sees_through_transparent_texels() -> None:
    image = np.full((8, 8, 4), 255, np.uint8)
    image[:, :4, 3] = 0
    world_scene, parts = painted(np.random.default_rng(0))
    world_scene.textures = join_textures([*parts, pyramid(image)])
    card = build.rectangle(np.array([-1.0, 0, 1]), np.array([2.0, 0, 0]), np.array([0, -2.0, 0]), plain_materials([0.5] * 3, 3))
    world_scene.objects.append(SceneObject(card, np.eye(4)))
    caster = Caster(Geometry(world_scene), 0.0)
    way = np.array([[0, 0, 1.0], [0, 0, 1.0]], np.float32)
    hits = caster.trace(np.array([[-0.5, -1, 0], [0.5, -1, 0]], np.float32), way)
    np.testing.assert_allclose(hits.distance, [3, 1], atol=1e-3)


@pytest.mark.usefixtures("embree")
@pytest.mark.parametrize("setting", SETTINGS)
def test_frames_of_every_setting_are_valid_and_reproducible(made_up: Assets, setting: str) -> None:
    first = list(scene_frames(made_up, 5, "train", 2, SIZE, [0, 1], (), setting))
    again = next(scene_frames(made_up, 5, "train", 2, SIZE, [1], (), setting))
    np.testing.assert_array_equal(first[1].rgb, again.rgb)
    np.testing.assert_array_equal(first[1].depth, again.depth)
    for frame in first:
        assert frame.rgb.shape == (*SIZE, 3)
        assert frame.rgb.dtype == np.uint8
        assert frame.rgb.std() > 3
        assert np.isfinite(frame.depth).all()
        assert (frame.depth >= 0).all()
        assert (frame.depth > 0).mean() > 0.2
        assert 0.3 < frame.focal_px / SIZE[1] < 2.5


@pytest.mark.usefixtures("embree")
def test_frames_can_start_anywhere(made_up: Assets) -> None:
    every = frames(1, "train", SIZE, views=2, assets=made_up)
    third = [next(every) for _ in range(4)][3]
    np.testing.assert_array_equal(next(frames(1, "train", SIZE, first=3, views=2, assets=made_up)).depth, third.depth)


@pytest.mark.usefixtures("embree")
def test_frames_of_an_unknown_split_are_refused(made_up: Assets) -> None:
    with pytest.raises(UserError, match="train or validation"):
        next(frames(0, "test", SIZE, assets=made_up))


@pytest.mark.usefixtures("embree")
def test_write_frames_resumes_and_reads_back(made_up: Assets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ST4RTRACK_ASSETS", str(made_up.folder))
    monkeypatch.setattr("st4rtrack.data.world.frames.SHARD", 2)
    write_frames(tmp_path, 3, 0, "train", SIZE)
    shards = sorted((tmp_path / "train").iterdir())
    assert [path.name for path in shards] == ["world_0_00000.npy", "world_0_00001.npy"]
    kept = shards[0].stat().st_mtime_ns
    shards[1].unlink()
    write_frames(tmp_path, 3, 0, "train", SIZE)
    assert shards[0].stat().st_mtime_ns == kept
    row = RenderedFrames(tmp_path).frame(3)
    direct = next(frames(0, "train", SIZE, first=3))
    known = direct.depth > 0
    np.testing.assert_allclose(row.inverse_depth[known], 1 / direct.depth[known], rtol=1e-3)
    np.testing.assert_array_equal(row.subject, direct.subject)
    np.testing.assert_array_equal(row.rgb, direct.rgb)


@pytest.mark.usefixtures("embree")
def test_world_clips_give_training_clips(made_up: Assets, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ST4RTRACK_ASSETS", str(made_up.folder))
    source = WorldClips(frames=3, size=SIZE, setting="garden", camera="hand")
    clip = source.clip(1)
    assert clip.rgb.shape == (3, *SIZE, 3)
    np.testing.assert_array_equal(clip.world_from_camera[0], np.eye(4))
    valid = clip.tracking_valid[0]
    own = clip.reconstruction_points_world[0]
    np.testing.assert_allclose(clip.tracking_points_world[0][valid], own[valid], rtol=1e-3, atol=1e-3)
    np.testing.assert_array_equal(source.clip(1).rgb, clip.rgb)


@pytest.mark.usefixtures("embree")
def test_world_clips_of_one_scene_do_not_depend_on_the_order(made_up: Assets) -> None:
    source = WorldClips(frames=2, size=SIZE, setting="street", per_scene=3)
    first, second = source.clip(0, made_up), source.clip(1, made_up)
    source.clip(4, made_up)
    again = source.clip(1, made_up)
    np.testing.assert_array_equal(again.rgb, second.rgb)
    np.testing.assert_array_equal(again.tracking_points_world, second.tracking_points_world)
    assert not np.array_equal(first.rgb, second.rgb)


def test_body_matrices_of_a_bent_knee_move_only_the_lower_leg(real_assets: Assets) -> None:
    bodies = real_assets.bodies
    assert bodies is not None
    colours = {name: np.full(3, 0.5) for name in ("skin", "hair", "top", "bottom", "shoes")}
    body = people.dress(bodies, 0, dict.fromkeys(colours, -1), colours, np.random.default_rng(0))
    straight = body.matrices(people.Pose())
    bent = body.matrices(people.Pose(knee=(0.8, 0.0)))
    moved = np.abs(bent - straight).max((1, 2)) > 1e-9
    below = {"lowerleg01.L", "lowerleg02.L", "foot.L"} | {
        str(x) for x in bodies.labels if str(x).startswith("toe") and str(x).endswith(".L")
    }
    assert {str(x) for x in bodies.labels[moved]} == below


def test_people_stand_on_the_ground_and_are_of_human_size(real_assets: Assets) -> None:
    bodies = real_assets.bodies
    assert bodies is not None
    colours = {name: np.full(3, 0.5) for name in ("skin", "hair", "top", "bottom", "shoes")}
    for number in range(0, len(bodies.vertices), 9):
        body = people.dress(bodies, number, dict.fromkeys(colours, -1), colours, np.random.default_rng(0))
        for phase in (0.0, 1.5):
            vertices = body.skin(people.walking(phase), turned(0.3, (1, -0.5, 2)))[0]
            assert abs(vertices[:, 1].max() + 0.5) < 1e-5
            assert 0.6 < np.ptp(vertices[:, 1]) < 2.2


def test_frames_of_real_assets_show_subjects(real_assets: Assets) -> None:
    shown = [next(scene_frames(real_assets, 0, "validation", k, SIZE, [0], ())) for k in range(3)]
    assert any(frame.subject.any() for frame in shown)
