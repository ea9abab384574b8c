"""Videos with cuts, black frames and bars through the embedded model and others: what is solved, and where pixels are."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from st4rtrack.geometry.camera import pixel_grid, project, unproject
from st4rtrack.geometry.transforms import invert_rigid, rotation_angle, transform_maps
from st4rtrack.io.scene import load_scene
from st4rtrack.io.video import open_video
from st4rtrack.model.checkpoint import load_model
from st4rtrack.model.config import ModelConfig
from st4rtrack.model.network import St4RTrack
from st4rtrack.options import ReconstructOptions
from st4rtrack.pipeline.preparation import PreparedVideo, prepare
from st4rtrack.pipeline.reconstruct import reconstruct
from st4rtrack.scene import Scene
from st4rtrack.types import KnownVideo, PixelMap
from tests.cases import clips
from tests.cases.clips import Look
from tests.cases.world import Clip
from tests.formula import formula_weight
from tests.synthetic import TruthNetwork

LOOK = Look(seed=3, width=128, height=96, frames=12)
CUT, BLACK = 7, (5, 6)


@pytest.fixture(scope="module")
def model() -> St4RTrack:
    return load_model(device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def clip() -> Clip:
    return clips.moving(LOOK)


@pytest.fixture(scope="module")
def scene(model: St4RTrack, clip: Clip) -> Scene:
    return reconstruct(clip.rgb, model=model, size=128)


@pytest.fixture(scope="module")
def with_cut() -> np.ndarray:
    return clips.cut(LOOK, at=(CUT,)).rgb


def unsolved(scene: Scene) -> list[int]:
    return np.flatnonzero(~np.asarray(scene.cameras.solved)).tolist()


def warned(scene: Scene) -> dict[str, tuple[int, ...]]:
    assert scene.quality is not None
    return {warning.code: warning.frames for warning in scene.quality.warnings}


def test_reconstruction_points_project_to_their_own_pixels_in_every_frame(scene: Scene) -> None:
    assert not unsolved(scene)
    from_camera = invert_rigid(np.asarray(scene.cameras.world_from_camera))
    points = transform_maps(from_camera, np.asarray(scene.reconstruction.points_world, np.float64))
    pixels = project(points, scene.cameras.intrinsics[0])
    assert np.abs(pixels - pixel_grid(LOOK.height, LOOK.width)).max() < 0.1


def test_tracks_at_the_anchor_lie_on_the_rays_of_their_pixels(scene: Scene) -> None:
    pixels = project(np.asarray(scene.tracking.points_world[0], np.float64), scene.cameras.intrinsics[0])
    assert np.abs(pixels - pixel_grid(LOOK.height, LOOK.width)).max() < 0.1


def test_query_starts_where_it_was_asked(scene: Scene) -> None:
    query_px = np.random.default_rng(0).uniform((2, 2), (LOOK.width - 2, LOOK.height - 2), (50, 2))
    start_px = project(scene.tracks(query_px).points_world[0].astype(np.float64), scene.cameras.intrinsics[0])
    assert np.linalg.norm(scene.pixel_map.source_from_network(start_px) - query_px, axis=1).max() < 0.1


def test_first_camera_step_of_a_scene_fits_the_truth(scene: Scene, clip: Clip) -> None:
    found, true = scene.cameras.world_from_camera[1][:3, :3], clip.world_from_camera[1, :3, :3]
    assert np.rad2deg(rotation_angle(found.T @ true)) < 0.3


@pytest.mark.parametrize(("anchor", "beyond"), [(0, range(CUT, 12)), (9, range(CUT))])
def test_frames_beyond_a_cut_are_unsolved_invisible_and_not_exported(
    model: St4RTrack, with_cut: np.ndarray, tmp_path: Path, anchor: int, beyond: range
) -> None:
    from st4rtrack.formats import export

    scene = reconstruct(with_cut, model=model, size=128, anchor=anchor)
    assert unsolved(scene) == list(beyond)
    assert warned(scene)["cut"] == (CUT,)
    assert warned(scene)["unsolved_frames"] == tuple(beyond)
    assert not np.asarray(scene.tracking.visible)[list(beyond)].any()
    export(scene, tmp_path / "poses.txt", format="tum")
    assert len(np.loadtxt(tmp_path / "poses.txt")) == 12 - len(beyond)


def test_black_frames_are_unsolved_and_those_after_them_are_not(model: St4RTrack) -> None:
    clip = clips.black_middle(LOOK, BLACK[0], len(BLACK))
    scene = reconstruct(clip.rgb, model=model, size=128)
    assert unsolved(scene) == list(BLACK)
    assert warned(scene)["dark_frames"] == BLACK
    assert not np.asarray(scene.tracking.visible)[list(BLACK)].any()
    found, true = (c[-1][:3, :3] for c in (scene.cameras.world_from_camera, clip.world_from_camera))
    assert np.rad2deg(rotation_angle(found.T @ true)) < 1.0


def test_anchor_moves_off_a_black_frame_with_a_warning(model: St4RTrack) -> None:
    prepared = prepare(open_video(clips.fade(LOOK).rgb), model.config, ReconstructOptions(anchor=0, size=128))
    assert prepared.anchor_index == 4
    (warning,) = prepared.warnings
    assert warning.code == "anchor_moved" and "frame 0" in warning.sentence and "frame 4" in warning.sentence
    at_end = prepare(open_video(clips.fade(LOOK, at_end=True).rgb), model.config, ReconstructOptions(anchor=11, size=128))
    assert at_end.anchor_index == 7


@pytest.mark.parametrize(("top", "side"), [(24, 0), (0, 24)])
def test_bars_change_nothing_but_where_source_pixels_are(
    model: St4RTrack, scene: Scene, tmp_path: Path, top: int, side: int
) -> None:
    from st4rtrack.formats import export

    (tmp_path / "frames").mkdir()
    for index, rgb in enumerate(clips.bars(LOOK, top=top, side=side).rgb):
        cv2.imwrite(str(tmp_path / "frames" / f"{index:02d}.png"), rgb[..., ::-1])
    boxed = reconstruct(tmp_path / "frames", model=model, size=128)
    assert "bars" in warned(boxed)
    np.testing.assert_array_equal(boxed.rgb, scene.rgb)
    np.testing.assert_array_equal(boxed.cameras.world_from_camera, scene.cameras.world_from_camera)
    query_px = np.array([[20.3, 30.7], [100.0, 70.5]])
    np.testing.assert_allclose(boxed.tracks(query_px + (side, top)).points_world, scene.tracks(query_px).points_world)
    export(boxed, tmp_path / "boxed.json", format="transforms")
    cameras = json.loads((tmp_path / "boxed.json").read_text())
    assert cameras["fl_x"] == pytest.approx(scene.cameras.intrinsics[0, 0, 0])
    assert (cameras["cx"], cameras["cy"]) == (LOOK.width / 2 + side, LOOK.height / 2 + top)
    assert (cameras["w"], cameras["h"]) == (LOOK.width + 2 * side, LOOK.height + 2 * top)


def test_focal_length_of_the_metadata_is_used_and_named(model: St4RTrack, clip: Clip) -> None:
    focal = 1.9 * LOOK.width  # beyond the search: a telephoto lens
    scene = reconstruct(replace(open_video(clip.rgb[:4]), focal_px=focal), model=model, size=96)
    assert scene.quality is not None
    assert scene.quality.focal_source == "metadata" and not scene.quality.focal_at_limit
    assert scene.cameras.intrinsics[0, 0, 0] == pytest.approx(focal * 96 / 128, rel=1e-3)


def test_focal_length_of_the_metadata_gives_way_to_that_of_the_user_and_joins_known_cameras(clip: Clip) -> None:
    video = replace(open_video(clip.rgb), focal_px=200.0)
    half = PreparedVideo(video, PixelMap((0.5, 0.5)), 0, None, (), video, (0, 0, video.width, video.height), video)
    assert replace(half, user=KnownVideo(focal_px=90.0)).known == KnownVideo(focal_px=90.0)
    both = replace(half, user=KnownVideo(world_from_camera=clip.world_from_camera)).known
    assert both.focal_px == 100.0 and both.focal_source == "metadata" and both.world_from_camera is not None


def test_overlay_is_left_out_of_what_is_static(clip: Clip) -> None:
    video, overlay = open_video(clip.rgb), np.zeros((8, 8), bool)
    overlay[:2] = True
    logo = PreparedVideo(video, PixelMap(), 0, overlay, (), video, (0, 0, video.width, video.height), video)
    alone = logo.known.static
    assert alone is not None and (alone(0) == ~overlay).all()
    user = np.ones((8, 8), bool)
    user[:, 5:] = False
    both = replace(logo, user=KnownVideo(static=lambda _: user)).known.static
    assert both is not None and (both(0) == (user & ~overlay)).all()


def true_network(clip: Clip, rgb: np.ndarray) -> TruthNetwork:
    """A network without hints that answers with the truth of a clip, whatever its images show."""
    points = [
        transform_maps(camera, unproject(pixel_grid(*depth.shape), depth.astype(np.float64), matrix))
        for camera, depth, matrix in zip(clip.world_from_camera, clip.depth, clip.intrinsics, strict=True)
    ]
    truth = SimpleNamespace(
        rgb=rgb, reconstruction_points_world=np.stack(points), tracking_points_world=np.stack([points[0]] * len(points))
    )
    return TruthNetwork(truth)  # pyright: ignore[reportArgumentType]


def two_shots(clip: Clip) -> np.ndarray:
    """The images of a clip, from `CUT` on those of another one."""
    return np.concatenate([clip.rgb[:CUT], clips.moving(replace(LOOK, seed=40, direction=-1)).rgb[CUT:]])


def test_network_without_hints_leaves_frames_beyond_a_cut_and_dark_frames_unsolved(clip: Clip) -> None:
    assert not unsolved(reconstruct(clip.rgb, model=true_network(clip, clip.rgb), size=128))
    rgb = two_shots(clip)
    rgb[2] = 0
    scene = reconstruct(rgb, model=true_network(clip, rgb), size=128)
    assert unsolved(scene) == [2, *range(CUT, 12)]
    assert warned(scene)["cut"] == (CUT,) and warned(scene)["dark_frames"] == (2,)
    assert not np.asarray(scene.tracking.visible)[[2, CUT, 11]].any()


@pytest.mark.parametrize("hints", [False, True])
def test_interrupted_run_with_a_cut_gives_the_same_scene(model: St4RTrack, clip: Clip, tmp_path: Path, hints: bool) -> None:
    """Interrupted after frames beyond the cut are written, and after all frames are written but before the cut is applied."""
    rgb = two_shots(clip)
    options = {"model": model, "size": 64, "anchor": 9} if hints else {"model": true_network(clip, rgb), "size": 128}
    stops = (12,) if hints else (8, 12)
    whole = reconstruct(rgb, output=tmp_path / "whole", batch_size=1, **options)

    def stop(done: int, total: int) -> None:
        if done in stops:
            raise InterruptedError

    for _ in stops:
        with pytest.raises(InterruptedError):
            reconstruct(rgb, output=tmp_path / "part", batch_size=1, progress=stop, **options)
    reconstruct(rgb, output=tmp_path / "part", batch_size=1, **options)
    part = load_scene(tmp_path / "part")
    assert warned(part)["cut"] == (CUT,)
    assert part.quality == whole.quality
    assert part.info["results"] == whole.info["results"]
    for of_scene in (
        lambda s: s.cameras.world_from_camera,
        lambda s: s.cameras.solved,
        lambda s: s.tracking.points_world,
        lambda s: s.tracking.visibility,
        lambda s: s.reconstruction.points_world,
        lambda s: s.reconstruction.moving,
    ):
        np.testing.assert_array_equal(of_scene(part), of_scene(whole))


def test_released_architecture_reports_cuts_and_dark_frames(with_cut: np.ndarray) -> None:
    small = ModelConfig(
        encoder_width=32, encoder_depth=1, encoder_heads=2, decoder_width=32, decoder_depth=2, decoder_heads=2, head="dpt"
    )
    network = St4RTrack(small)
    network.load_state_dict({key: formula_weight(key, tuple(value.shape)) for key, value in network.state_dict().items()})
    for head in (network.tracking_head, network.reconstruction_head):
        head.state_dict()["out.bias"][2] = 3.0  # points in front of the camera
    rgb = with_cut[CUT - 4 : CUT + 4].copy()
    rgb[1] = 0
    scene = reconstruct(rgb, model=network.eval(), size=64)
    assert set(unsolved(scene)) >= {1, 4, 5, 6, 7}
    assert warned(scene)["cut"] == (4,) and warned(scene)["dark_frames"] == (1,)
