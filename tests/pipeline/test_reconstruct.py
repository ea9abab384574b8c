import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info

from st4rtrack.data.procedural import ProceduralClip, ProceduralConfig, procedural_clip
from st4rtrack.geometry.camera import pixel_grid
from st4rtrack.geometry.transforms import interpolate_rigid, rotation_angle
from st4rtrack.io.formats.images import scene_images
from st4rtrack.io.scene import load_scene
from st4rtrack.io.video import open_video
from st4rtrack.model.checkpoint import load_model
from st4rtrack.pipeline.cameras import anchor_intrinsics, solve_camera
from st4rtrack.pipeline.pointmaps import encode_anchor, predict_frames
from st4rtrack.pipeline.reconstruct import reconstruct
from st4rtrack.types import Pointmap, UserError
from tests.synthetic import TruthNetwork

ANCHOR = 2


@pytest.fixture(scope="module")
def clip() -> ProceduralClip:
    return procedural_clip(3, ProceduralConfig(num_frames=6, setting="room"), anchor=ANCHOR)


@pytest.mark.parametrize("seed", [0, 1, 5])
def test_the_truth_in_place_of_the_network_is_recovered(seed: int) -> None:
    clip = procedural_clip(seed, ProceduralConfig(num_frames=6, setting="room"), anchor=ANCHOR)
    scene = reconstruct(clip.rgb, model=TruthNetwork(clip), size=256, anchor=ANCHOR)
    size = np.median(np.linalg.norm(clip.reconstruction_points_world, axis=-1))
    found, true = scene.cameras.world_from_camera, clip.world_from_camera
    angle = rotation_angle(np.swapaxes(found[:, :3, :3], 1, 2) @ true[:, :3, :3])
    assert np.rad2deg(angle).max() < 0.1
    assert np.linalg.norm(found[:, :3, 3] - true[:, :3, 3], axis=1).max() < 0.005 * size
    np.testing.assert_allclose(scene.cameras.intrinsics[:, (0, 1), (0, 1)], clip.intrinsics[:, (0, 1), (0, 1)], rtol=0.005)
    assert (scene.cameras.world_from_camera[ANCHOR] == np.eye(4)).all()
    assert np.mean(scene.tracking.visible == clip.visible) >= 0.98
    assert np.asarray(scene.tracking.visible)[ANCHOR].all()
    assert np.asarray(scene.cameras.solved).all()

    rows, columns = np.nonzero(away_from_depth_edges(clip.depth[ANCHOR]))
    chosen = np.random.default_rng(0).choice(len(rows), 200, replace=False)
    tracks = scene.tracks(pixel_grid(192, 256)[rows[chosen], columns[chosen]])
    error = np.linalg.norm(tracks.points_world - clip.tracking_points_world[:, rows[chosen], columns[chosen]], axis=-1)
    assert error.max() < 1e-3 * size


def away_from_depth_edges(depth: np.ndarray) -> np.ndarray:
    around = np.stack([np.roll(depth, (down, right), (0, 1)) for down in (-1, 0, 1) for right in (-1, 0, 1)])
    flat = np.ptp(around, axis=0) < 0.05 * depth
    flat[[0, -1]] = flat[:, [0, -1]] = False
    return flat


def test_the_anchor_is_encoded_once_and_every_frame_decoded_once(clip: ProceduralClip) -> None:
    network = TruthNetwork(clip)
    reconstruct(clip.rgb, model=network, size=256, anchor=ANCHOR, batch_size=4)
    assert network.decoded == len(clip.rgb) + 1  # and the anchor against itself, for the focal length
    assert network.encoded == len(clip.rgb) + 2


def test_a_killed_run_goes_on_and_gives_the_same_scene(clip: ProceduralClip, tmp_path: Path) -> None:
    whole = reconstruct(clip.rgb, model=TruthNetwork(clip), size=256, output=tmp_path / "whole", batch_size=2)

    class Killed(Exception):
        pass

    def kill(done: int, total: int) -> None:
        if done == 3:
            raise Killed

    with pytest.raises(Killed):
        reconstruct(clip.rgb, model=TruthNetwork(clip), size=256, output=tmp_path / "killed", batch_size=2, progress=kill)
    with pytest.raises(UserError, match="incomplete"):
        load_scene(tmp_path / "killed")
    seen: list[int] = []
    network = TruthNetwork(clip)
    reconstruct(
        clip.rgb, model=network, size=256, output=tmp_path / "killed", batch_size=2, progress=lambda done, _: seen.append(done)
    )
    assert seen == [4, 5, 6]
    assert network.decoded == 5 + 1  # and two frames again, with which the next are smoothed
    again = load_scene(tmp_path / "killed")
    np.testing.assert_array_equal(again.tracking.points_world, whole.tracking.points_world)
    np.testing.assert_array_equal(again.tracking.visible, whole.tracking.visible)
    np.testing.assert_array_equal(again.cameras.world_from_camera, whole.cameras.world_from_camera)

    untouched = TruthNetwork(clip)
    reconstruct(clip.rgb, model=untouched, size=256, output=tmp_path / "killed")
    assert untouched.decoded == 0


def test_a_network_that_fits_no_camera_costs_nothing_that_is_there(clip: ProceduralClip, tmp_path: Path) -> None:
    reconstruct(clip.rgb, model=TruthNetwork(clip), size=256, output=tmp_path / "scene", stop=2)
    useless = procedural_clip(3, ProceduralConfig(num_frames=6, setting="room"), anchor=ANCHOR)
    useless.tracking_points_world[:] = np.nan
    for folder, overwrite in (("scene", True), ("new", False)):
        with pytest.raises(UserError, match="could not fit a focal length"):
            reconstruct(clip.rgb, model=TruthNetwork(useless), size=256, output=tmp_path / folder, overwrite=overwrite)
    assert len(load_scene(tmp_path / "scene")) == 2
    assert not (tmp_path / "new").exists()


def test_complete_scene_is_found_without_reading_its_frames_again(clip: ProceduralClip, tmp_path: Path) -> None:
    barred = np.pad(clip.rgb, ((0, 0), (24, 24), (0, 0), (0, 0)))
    made = reconstruct(barred, model=TruthNetwork(clip), size=256, output=tmp_path / "scene")
    assert made.info["results"]["content_px"] == [0, 24, 256, 216]
    video, reads = open_video(barred), list[int]()

    def read(start: int, stop: int) -> Iterator[np.ndarray]:
        for index in range(start, stop):
            reads.append(index)
            yield barred[index]

    again = reconstruct(replace(video, read=read), model=TruthNetwork(clip), size=256, output=tmp_path / "scene")
    assert reads == [0] and len(again) == len(made)  # the anchor, whether it shows anything


def test_scene_of_a_relative_path_finds_its_video_from_any_folder(
    clip: ProceduralClip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.savez(tmp_path / "clip.npz", rgb=clip.rgb)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    reconstruct("clip.npz", model=TruthNetwork(clip), size=256, output="out/scene", stop=2)
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert scene_images(load_scene("../out/scene")).source is not None
    again = TruthNetwork(clip)
    for same in (tmp_path / "clip.npz", "../clip.npz"):
        reconstruct(same, model=again, size=256, output="../out/scene", stop=2)
    assert again.decoded == 0
    np.savez("clip.npz", rgb=clip.rgb)
    with pytest.raises(UserError, match="video"):
        reconstruct("clip.npz", model=again, size=256, output="../out/scene", stop=2)


def test_scene_of_an_earlier_version_with_a_relative_path_is_the_same_scene(
    clip: ProceduralClip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.savez(tmp_path / "clip.npz", rgb=clip.rgb)
    monkeypatch.chdir(tmp_path)
    reconstruct("clip.npz", model=TruthNetwork(clip), size=256, output="scene", stop=2)
    said = json.loads(Path("scene/scene.json").read_text())
    said["info"]["source"] |= {"video": "clip.npz"}
    del said["info"]["source"]["video_from_scene"]
    Path("scene/scene.json").write_text(json.dumps(said))
    again = TruthNetwork(clip)
    reconstruct("clip.npz", model=again, size=256, output="scene", stop=2)
    assert again.decoded == 0


def test_other_options_are_not_mixed_into_a_scene(clip: ProceduralClip, tmp_path: Path) -> None:
    reconstruct(clip.rgb, model=TruthNetwork(clip), size=256, output=tmp_path / "scene", stop=3)
    with pytest.raises(UserError, match="anchor"):
        reconstruct(clip.rgb, model=TruthNetwork(clip), size=256, output=tmp_path / "scene", stop=3, anchor=1)
    with pytest.raises(UserError, match="fps"):
        reconstruct(clip.rgb, model=TruthNetwork(clip), size=256, output=tmp_path / "scene", stride=2)
    scene = reconstruct(clip.rgb, model=TruthNetwork(clip), size=256, output=tmp_path / "scene", stride=2, overwrite=True)
    assert len(scene) == 3


def test_the_embedded_model_runs_in_memory_in_any_orientation() -> None:
    model = load_model(device="cpu", dtype="float32")
    video = np.random.default_rng(0).integers(0, 255, (3, 100, 61, 3), dtype=np.uint8)
    scene = reconstruct(video, model=model, size=96, anchor="middle")
    assert scene.anchor_index == 1
    assert scene.rgb.shape == (3, 96, 48, 3)
    for array in (scene.tracking.points_world, scene.reconstruction.points_world, scene.cameras.world_from_camera):
        assert np.isfinite(array).all()
    assert (scene.tracking.confidence > 1).all()
    single = reconstruct(video[:1], model=model, size=96)
    assert single.tracking.points_world.shape == (1, 96, 48, 3)


@pytest.mark.parametrize("anchor", [-1, 6, "last"])
def test_an_anchor_outside_the_video_is_named(clip: ProceduralClip, anchor: int) -> None:
    with pytest.raises(UserError, match="anchor"):
        reconstruct(clip.rgb, model=TruthNetwork(clip), size=256, anchor=anchor)


def test_frames_are_decoded_as_they_are_needed(clip: ProceduralClip) -> None:
    model = TruthNetwork(clip)
    pulled: list[int] = []

    def frames() -> Iterator[tuple[int, np.ndarray]]:
        for index, frame in enumerate(open_video(clip.rgb).frames()):
            pulled.append(index)
            yield index, frame

    predicted = predict_frames(model, encode_anchor(model, clip.rgb[0]), frames(), batch_size=2)
    next(predicted)
    assert pulled == [0, 1]


def test_memory_shortage_halves_the_batch(clip: ProceduralClip, monkeypatch: pytest.MonkeyPatch) -> None:
    model = TruthNetwork(clip)
    decode = model.decode

    def scarce(anchor_tokens: object, frame_tokens: object, hints: object = None) -> object:
        if len(frame_tokens.features) > 1:  # type: ignore[attr-defined]
            raise torch.OutOfMemoryError
        return decode(anchor_tokens, frame_tokens, hints)  # type: ignore[arg-type]

    monkeypatch.setattr(model, "decode", scarce)
    frames = enumerate(clip.rgb)
    out = list(predict_frames(model, encode_anchor(model, clip.rgb[0]), frames, batch_size=4))
    np.testing.assert_array_equal([maps.tracking.points_world for _, _, maps in out], clip.tracking_points_world)


def test_a_camera_that_cannot_be_found_is_none_and_no_pointmap_is_an_error() -> None:
    intrinsics = np.array([[200.0, 0, 32], [0, 200, 24], [0, 0, 1]])
    noise = np.random.default_rng(0).standard_normal((48, 64, 3))
    assert solve_camera(Pointmap(noise, np.full((48, 64), 2.0)), intrinsics) is None
    assert solve_camera(Pointmap(np.full((48, 64, 3), np.nan)), intrinsics) is None
    with pytest.raises(UserError, match="anchor"):
        anchor_intrinsics(Pointmap(np.full((48, 64, 3), np.nan)))


def test_a_focal_length_that_is_not_plausible_is_moved_and_said(clip: ProceduralClip, caplog: pytest.LogCaptureFixture) -> None:
    mirrored = clip.tracking_points_world[ANCHOR] * (-1, -1, 1)  # asks for a negative one
    assert anchor_intrinsics(Pointmap(mirrored))[0, 0] == pytest.approx(0.2 * 256)
    assert "implausible" in caplog.text


def test_unsolved_frames_are_interpolated_hidden_and_reported(clip: ProceduralClip, caplog: pytest.LogCaptureFixture) -> None:
    broken = procedural_clip(3, ProceduralConfig(num_frames=6, setting="room"), anchor=ANCHOR)
    broken.reconstruction_points_world[4] = np.random.default_rng(0).standard_normal((192, 256, 3))
    scene = reconstruct(clip.rgb, model=TruthNetwork(broken), size=256, anchor=ANCHOR)
    assert np.flatnonzero(~np.asarray(scene.cameras.solved)).tolist() == [4]
    between = interpolate_rigid(scene.cameras.world_from_camera[3], scene.cameras.world_from_camera[5], 0.5)
    np.testing.assert_allclose(scene.cameras.world_from_camera[4], between, atol=1e-6)
    assert not np.any(scene.tracking.visible[4])
    assert not np.any(scene.tracking.visibility[4])
    assert not np.any(scene.reconstruction.moving[4])
    assert scene.info["results"]["cameras_not_found"] == 1
    assert scene.quality is not None
    assert scene.quality.frames_solved == pytest.approx(5 / 6)
    assert [w.frames for w in scene.quality.warnings if w.code == "unsolved_frames"] == [(4,)]
    assert scene.quality.reliable
    assert "unreliable" not in caplog.text


def test_a_run_that_goes_on_finds_the_neighbours_camera_on_disk(clip: ProceduralClip, tmp_path: Path) -> None:
    broken = procedural_clip(3, ProceduralConfig(num_frames=6, setting="room"), anchor=ANCHOR)
    for index in (0, 3, 4, 5):
        broken.reconstruction_points_world[index] = np.random.default_rng(index).standard_normal((192, 256, 3))
    options = {"model": TruthNetwork(broken), "size": 256, "anchor": ANCHOR}
    whole = reconstruct(clip.rgb, **options)

    def stop(done: int, total: int) -> None:
        if done in (2, 4, 5):
            raise InterruptedError

    for _ in range(3):
        with pytest.raises(InterruptedError):
            reconstruct(clip.rgb, output=tmp_path, progress=stop, **options)
    resumed = reconstruct(clip.rgb, output=tmp_path, **options)
    assert np.flatnonzero(~np.asarray(resumed.cameras.solved)).tolist() == [0, 3, 4, 5]
    np.testing.assert_array_equal(resumed.cameras.world_from_camera, whole.cameras.world_from_camera)
    np.testing.assert_array_equal(resumed.tracking.visibility, whole.tracking.visibility)
    assert resumed.quality == whole.quality
    assert whole.quality is not None
    assert not whole.quality.reliable


def test_numpys_products_have_one_thread_while_it_runs(clip: ProceduralClip) -> None:
    seen: set[int] = set()

    def look(done: int, total: int) -> None:
        seen.update(library["num_threads"] for library in threadpool_info() if library["internal_api"] == "openblas")

    reconstruct(clip.rgb, model=TruthNetwork(clip), size=256, progress=look)
    assert seen == {1}
