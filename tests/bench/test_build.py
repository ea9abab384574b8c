"""WorldTrack from raw data sets: what is built agrees with the raw world, what must be left out is, and a build goes on."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tyro

from st4rtrack.bench.build import LIST, build_worldtrack, read_list
from st4rtrack.bench.recipes import FOGGY, RECIPES, Recipe
from st4rtrack.cli.bench import build
from st4rtrack.geometry.camera import pixel_grid, project, unproject
from st4rtrack.geometry.sampling import sample_map
from st4rtrack.geometry.transforms import transform_points
from st4rtrack.io.npz import read_npz
from st4rtrack.io.worldtrack import WorldTrackSequence, read_worldtrack, tracks_in_camera
from st4rtrack.types import UserError
from tests.raw_data import (
    TUM_WORLD,
    World,
    fixed,
    write_dynamic_replica,
    write_point_odyssey,
    write_tapvid3d,
    write_tum,
)

SMALL = {
    "po": replace(RECIPES["po"], piece_frames=6, min_frames=6),
    "dr": replace(RECIPES["dr"], piece_frames=6, min_frames=6),
    "adt": replace(RECIPES["adt"], min_frames=6),
    "pstudio": replace(RECIPES["pstudio"], min_frames=6),
    "tum": replace(RECIPES["tum"], min_frames=4),
}
WORLD = World(frames=13)
STEP = {"po": 8, "dr": 25, "adt": 1, "pstudio": 1}


def write_raw(dataset: str, root: Path) -> World:
    """One sequence in the raw format of a data set."""
    if dataset == "po":
        write_point_odyssey(root, "gym", WORLD)
    elif dataset == "dr":
        write_dynamic_replica(root, {"009850-3_obj": WORLD})
    elif dataset == "tum":
        write_tum(root, "rgbd_dataset_freiburg3_walking_xyz")
        return TUM_WORLD
    else:
        write_tapvid3d(root / dataset / "boxes_5.npz", WORLD, cameras=dataset == "adt")
        return WORLD if dataset == "adt" else fixed(WORLD)
    return WORLD


def built(paths: list[Path]) -> list[WorldTrackSequence]:
    return [read_worldtrack(path, num_frames=1000) for path in paths]


@pytest.mark.parametrize("dataset", ["adt", "pstudio", "po", "dr"])
def test_tracks_land_on_the_pixels_of_the_raw_world(tmp_path: Path, dataset: str) -> None:
    world, step = write_raw(dataset, tmp_path / "raw"), STEP[dataset]
    paths = build_worldtrack(SMALL[dataset], tmp_path / "raw", tmp_path / "out")
    starts = [0, 6] if dataset in ("po", "dr") else [0]
    assert len(paths) == len(starts) and paths[0].parent.name == RECIPES[dataset].folder
    for start, sequence in zip(starts, built(paths), strict=True):
        assert sequence.tracks_world is not None and sequence.visible is not None
        frames = slice(start, start + len(sequence))
        assert len(sequence) == (6 if len(starts) > 1 else 13)
        np.testing.assert_array_equal(sequence.world_from_camera[0], np.eye(4))
        camera_moves = np.ptp(sequence.world_from_camera[:, :3, 3], axis=0).max() > 0.02
        assert camera_moves == (dataset != "pstudio")
        np.testing.assert_allclose(
            project(tracks_in_camera(sequence), sequence.intrinsics), world.pixels_px[frames, ::step], atol=1e-3
        )
        in_raw_world = transform_points(world.world_from_camera[start], sequence.tracks_world)
        np.testing.assert_allclose(in_raw_world, world.points_world[frames, ::step], atol=1e-5)
        np.testing.assert_array_equal(sequence.visible, world.seen()[frames, ::step])
        assert sequence.visible[0].sum() > 5
        for t, image in enumerate(sequence.video.frames()):
            assert np.abs(image.astype(float) - world.rgb(start + t)).mean() < 4


@pytest.mark.parametrize(("dataset", "quantum_m"), [("po", 1000 / 65535), ("dr", 2**-9)])
def test_depth_at_the_queries_is_the_depth_of_the_tracks(tmp_path: Path, dataset: str, quantum_m: float) -> None:
    write_raw(dataset, tmp_path / "raw")
    for sequence in built(build_worldtrack(SMALL[dataset], tmp_path / "raw", tmp_path / "out")):
        assert sequence.has_depth and sequence.visible is not None
        counted = sequence.visible[0]
        depth, z = sample_map(sequence.read_depth()[0], sequence.query_px), tracks_in_camera(sequence)[0, :, 2]
        inner = counted & (np.abs(sequence.query_px - (24, 18)) < (23, 17)).all(
            axis=1
        )  # beyond, there is no depth to read between
        assert inner.sum() > 5
        np.testing.assert_allclose(depth[inner], z[inner], atol=quantum_m)


def test_tum_depth_and_cameras_give_the_surface_of_the_raw_world(tmp_path: Path) -> None:
    write_tum(tmp_path / "raw", "rgbd_dataset_freiburg3_sitting_rpy", without_depth=(3, 4))
    paths = build_worldtrack(SMALL["tum"], tmp_path / "raw", tmp_path / "out")
    assert [path.name for path in paths] == ["rgbd_dataset_freiburg3_sitting_rpy_0.npz"]
    (sequence,) = built(paths)
    assert sequence.tracks_world is None and sequence.has_depth
    np.testing.assert_array_equal(sequence.intrinsics, TUM_WORLD.intrinsics)
    depth = sequence.read_depth()
    np.testing.assert_array_equal(read_npz(paths[0], "visibility")["visibility"], depth > 0)
    raw_frames = [t for t in range(15) if t not in (3, 4)][::3]  # every third of those that have depth and a camera
    assert len(sequence) == len(raw_frames) == 5
    rays = pixel_grid(TUM_WORLD.height, TUM_WORLD.width) - 0.5
    for t, raw in enumerate(raw_frames):
        points = unproject(rays.reshape(-1, 2), depth[t].reshape(-1).astype(float), sequence.intrinsics)
        raw_from_camera = TUM_WORLD.world_from_camera[0] @ sequence.world_from_camera[t]
        assert np.abs(TUM_WORLD.on_surface(raw, transform_points(raw_from_camera, points))).max() < 1e-3
        assert np.abs(sequence.video.frame(t).astype(float) - TUM_WORLD.rgb(raw)).mean() < 4


def test_published_lengths_and_names(tmp_path: Path) -> None:
    tiny = World(frames=262, height=18, width=24, intrinsics=np.array([[25.0, 0, 12], [0, 25, 9], [0, 0, 1]]), points=40)
    write_point_odyssey(tmp_path / "raw", "kitchen", tiny)
    paths = build_worldtrack(RECIPES["po"], tmp_path / "raw", tmp_path / "out")
    assert [path.name for path in paths] == ["kitchen_0.npz", "kitchen_1.npz"]
    assert len(read_npz(paths[1], "images_jpeg_bytes")["images_jpeg_bytes"]) == 128
    assert len(read_worldtrack(paths[1])) == 64
    second = built(paths)[1]
    np.testing.assert_allclose(project(tracks_in_camera(second), second.intrinsics), tiny.pixels_px[128:256, ::8], atol=1e-3)
    assert "# kitchen_2: 6 frames, fewer than 128" in (paths[0].parent / LIST).read_text()


def test_tum_takes_every_third_frame_and_ninety_of_them(tmp_path: Path) -> None:
    world = replace(TUM_WORLD, frames=280, height=4, width=6)
    write_tum(tmp_path / "raw", "rgbd_dataset_freiburg3_walking_static", world)
    (path,) = build_worldtrack(RECIPES["tum"], tmp_path / "raw", tmp_path / "out")
    (sequence,) = built([path])
    assert len(sequence) == 90
    expected = np.linalg.inv(world.world_from_camera[0]) @ world.world_from_camera[:270:3]
    np.testing.assert_allclose(sequence.world_from_camera, expected, atol=1e-6)


def test_filters(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    for name in ("ani2_s", "character1", "r3_f", next(iter(FOGGY))):
        (raw / "test" / name).mkdir(parents=True)  # empty: what is left out by its name is not read
    write_point_odyssey(raw, "zoom", WORLD, focal_growth=1e-3)  # 6 frames of it: 0.17 %
    write_point_odyssey(raw, "breath", WORLD, focal_growth=4e-4)  # 0.07 %
    write_point_odyssey(raw, "short", replace(WORLD, frames=5))
    paths = build_worldtrack(SMALL["po"], raw, tmp_path / "out")
    assert [path.stem for path in paths] == ["breath_0", "breath_1"]
    said = (tmp_path / "out" / "po_mini" / LIST).read_text()
    for line in (
        "2 of 2 candidates, drawn with seed 0",
        "# ani2_s: in the style of Kubric",
        "# character1: in the style of Kubric",
        "# r3_f: in the style of Kubric",
        f"# {next(iter(FOGGY))}: foggy",
        "# zoom_0: intrinsics vary by 0.17 %",
        "# zoom_1: intrinsics vary by",
        "# short_0: 5 frames, fewer than 6",
        "# breath_2: 1 frames, fewer than 6",
    ):
        assert line in said, said


def test_a_set_in_which_nothing_is_left_says_why(tmp_path: Path) -> None:
    write_tum(tmp_path / "raw", "rgbd_dataset_freiburg1_xyz")
    with pytest.raises(UserError, match="freiburg1_xyz: not one of the eight"):
        build_worldtrack(SMALL["tum"], tmp_path / "raw", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_points_behind_the_camera_and_without_truth_are_not_visible(tmp_path: Path) -> None:
    folder = write_point_odyssey(tmp_path / "raw", "gym", WORLD)
    arrays = read_npz(folder / "anno.npz")
    through_camera = 2 * WORLD.world_from_camera[0, :3, 3] - arrays["trajs_3d"][0, 0]  # mirrored, it has the same pixel
    arrays["trajs_3d"][:, 0], arrays["trajs_3d"][:, 8] = through_camera, np.nan
    arrays["trajs_3d"][0, 16] = WORLD.world_from_camera[0, :3, 3]
    arrays["visibs"][:] = True
    np.savez(folder / "anno.npz", **arrays)  # pyright: ignore[reportArgumentType]
    visible = read_npz(build_worldtrack(SMALL["po"], tmp_path / "raw", tmp_path / "out")[0], "visibility")["visibility"]
    assert not visible[0, :3].any() and visible[0, 3:].any()


def test_tracks_are_thinned_evenly_to_about_so_many_visible_ones(tmp_path: Path) -> None:
    for count in (2000, 90):
        write_tapvid3d(tmp_path / "raw" / "adt" / f"room_{count}.npz", replace(WORLD, points=count))
    recipe = replace(SMALL["adt"], visible_tracks=100)
    paths = build_worldtrack(recipe, tmp_path / "raw", tmp_path / "out")
    thinned, whole = built(paths)
    assert thinned.name == "room_2000" and whole.tracks_world is not None and whole.tracks_world.shape[1] == 90
    assert thinned.visible is not None and abs(thinned.visible[0].sum() - 100) < 25
    raw_px = replace(WORLD, points=2000).pixels_px[0]
    found = [int(np.abs(raw_px - px).sum(axis=1).argmin()) for px in project(tracks_in_camera(thinned), thinned.intrinsics)[0]]
    assert np.ptp(np.diff(found)) <= 1, "every n-th of all"


def many(root: Path, count: int = 8) -> None:
    for k in range(count):
        write_tapvid3d(root / f"scene_{k}.npz", replace(WORLD, seed=k, points=20), objects=k % 2 == 0)


def test_the_draw_is_seeded_and_listed(tmp_path: Path) -> None:
    many(tmp_path / "raw")

    def names(out: str, *, count: int, seed: int = 0) -> list[str]:
        paths = build_worldtrack(SMALL["adt"], tmp_path / "raw", tmp_path / out, count=count, seed=seed)
        assert read_list(paths[0].parent / LIST) == [path.stem for path in paths]
        assert sorted(path.stem for path in paths[0].parent.glob("*.npz")) == [path.stem for path in paths]
        return [path.stem for path in paths]

    first = names("a", count=3)
    assert first == sorted(first) == names("b", count=3) and len(set(first)) == 3
    assert {tuple(names(f"seed{seed}", count=3, seed=seed)) for seed in range(1, 6)} != {tuple(first)}
    assert "3 of 8 candidates, drawn with seed 0" in (tmp_path / "a" / "adt_mini" / LIST).read_text()
    for name in first:
        assert (tmp_path / "a/adt_mini" / f"{name}.npz").read_bytes() == (tmp_path / "b/adt_mini" / f"{name}.npz").read_bytes()
    assert len(names("all", count=99)) == 8


def test_a_list_is_built_instead_of_a_draw(tmp_path: Path) -> None:
    many(tmp_path / "raw", 4)
    (tmp_path / "mine.txt").write_text("# my choice\nadt_mini/scene_3.npz\n\nscene_1\n")
    chosen = read_list(tmp_path / "mine.txt")
    paths = build_worldtrack(SMALL["adt"], tmp_path / "raw", tmp_path / "out", chosen=chosen)
    assert [path.stem for path in paths] == ["scene_1", "scene_3"]
    assert "from a list" in (paths[0].parent / LIST).read_text()
    with pytest.raises(UserError, match=r"scene_9.*no such sequence"):
        build_worldtrack(SMALL["adt"], tmp_path / "raw", tmp_path / "more", chosen=["scene_9"])
    (tmp_path / "empty.txt").write_text("# nothing\n")
    for path in ("empty.txt", "none.txt"):
        with pytest.raises(UserError, match=path):
            read_list(tmp_path / path)


def test_a_build_goes_on_and_never_mixes(tmp_path: Path) -> None:
    many(tmp_path / "raw", 6)
    recipe, calls = SMALL["adt"], []

    def again(**options: object) -> list[Path]:
        calls.clear()
        progress: Callable[[int, int], None] = lambda done, total: calls.append((done, total))  # noqa: E731
        return build_worldtrack(recipe, tmp_path / "raw", tmp_path / "out", progress=progress, **options)  # pyright: ignore

    paths = again(count=3)
    assert calls == [(1, 3), (2, 3), (3, 3)]
    before, content = paths[0].stat().st_mtime_ns, paths[1].read_bytes()
    paths[1].unlink()
    assert again(count=3) == paths and calls == [(3, 3)]
    assert paths[0].stat().st_mtime_ns == before and paths[1].read_bytes() == content
    assert again(chosen=read_list(paths[0].parent / LIST)) == paths and not calls, "its own list is the same build"
    with pytest.raises(UserError, match=r"adt_mini.*--overwrite"):
        again(count=4)
    assert len(again(count=4, seed=1, overwrite=True)) == 4
    assert len(list(paths[0].parent.glob("*.npz"))) == 4, "nothing of the other build is left"
    (paths[0].parent / LIST).unlink()
    with pytest.raises(UserError, match=r"adt_mini.*--overwrite"):
        again(count=4, seed=1)


def damage() -> dict[str, tuple[str, Callable[[Path], object]]]:
    return {
        "no_image": ("po", lambda raw: (raw / "test/gym/rgbs/rgb_00002.jpg").unlink()),
        "no_depth": ("po", lambda raw: (raw / "test/gym/depths/depth_00003.png").unlink()),
        "depth_cut": ("po", lambda raw: (raw / "test/gym/depths/depth_00000.png").write_bytes(b"\x89PNG\r\n")),
        "no_info": ("po", lambda raw: (raw / "test/gym/info.npz").unlink()),
        "anno_cut": ("po", lambda raw: _cut(raw / "test/gym/anno.npz")),
        "no_list": ("dr", lambda raw: (raw / "test/frame_annotations_test.jgz").unlink()),
        "list_cut": ("dr", lambda raw: _cut(raw / "test/frame_annotations_test.jgz")),
        "trajectory_cut": ("dr", lambda raw: _cut(raw / "test/009850-3_obj_source_left/trajectories/000001.pth")),
        "no_poses": ("tum", lambda raw: (raw / "rgbd_dataset_freiburg3_walking_xyz/groundtruth.txt").unlink()),
        "poses_cut": ("tum", lambda raw: _cut(raw / "rgbd_dataset_freiburg3_walking_xyz/groundtruth.txt", -14)),
        "no_images": ("adt", lambda raw: write_tapvid3d(raw / "adt/boxes_5.npz", WORLD, images=False)),
        "npz_cut": ("pstudio", lambda raw: _cut(raw / "pstudio/boxes_5.npz")),
        "no_cameras": ("adt", lambda raw: write_tapvid3d(raw / "adt/boxes_5.npz", WORLD, cameras=False)),
    }


NAMED = {
    "no_image": "rgb_00002.jpg",
    "no_depth": "depth_00003.png",
    "depth_cut": "depth_00000.png",
    "no_info": "info.npz",
    "anno_cut": "anno.npz",
    "no_list": "frame_annotations_test.jgz",
    "list_cut": "frame_annotations_test.jgz",
    "trajectory_cut": "000001.pth",
    "no_poses": "groundtruth.txt",
    "poses_cut": "groundtruth.txt line",
    "no_images": "boxes_5.npz has annotations but no images",
    "npz_cut": "boxes_5.npz",
    "no_cameras": "boxes_5 .* has no camera poses",
}


@pytest.mark.parametrize("name", damage())
def test_damaged_raw_data_is_named(tmp_path: Path, name: str) -> None:
    dataset, spoil = damage()[name]
    write_raw(dataset, tmp_path / "raw")
    spoil(tmp_path / "raw")
    with pytest.raises(UserError, match=NAMED[name]) as error:
        build_worldtrack(SMALL[dataset], tmp_path / "raw", tmp_path / "out")
    assert "\n" not in str(error.value)
    assert not list(tmp_path.glob("out/**/.*")), "no part of a file is left"


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_a_folder_that_holds_no_data_set_is_named(tmp_path: Path, recipe: Recipe) -> None:
    (tmp_path / "other").mkdir()
    for folder in ("other", "none"):
        with pytest.raises(UserError, match=folder):
            build_worldtrack(recipe, tmp_path / folder, tmp_path / "out")


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for k in range(3):
        write_tapvid3d(
            tmp_path / "raw" / f"scene_{k}.npz", World(frames=64, points=10, height=8, width=10, seed=k), cameras=False
        )
    command = ["pstudio", str(tmp_path / "raw"), "-o", str(tmp_path / "out"), "--count", "2"]
    tyro.cli(build, args=command, config=(tyro.conf.OmitArgPrefixes,))
    said = capsys.readouterr()
    assert "pstudio_mini holds 2 sequences" in said.out and "2/2" in said.err
    (tmp_path / "one.txt").write_text("scene_1\n")
    with pytest.raises(UserError, match="--overwrite"):
        tyro.cli(build, args=[*command, "--list", str(tmp_path / "one.txt")], config=(tyro.conf.OmitArgPrefixes,))
    tyro.cli(build, args=[*command, "--list", str(tmp_path / "one.txt"), "--overwrite"], config=(tyro.conf.OmitArgPrefixes,))
    assert [path.name for path in (tmp_path / "out/pstudio_mini").glob("*.npz")] == ["scene_1.npz"]
    with pytest.raises(UserError, match="--seed"):
        tyro.cli(build, args=[*command, "--seed", "-1"], config=(tyro.conf.OmitArgPrefixes,))


def _cut(path: Path, at: int | None = None) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2 if at is None else at])
