"""Whole adaptations of a small network to a clip whose teachers know the truth."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from st4rtrack.adapt import loop, prepare
from st4rtrack.adapt.inputs import FrameInputs, frame_inputs
from st4rtrack.adapt.objective import StepLoss
from st4rtrack.adapt.priors import TeacherTracks
from st4rtrack.adapt.result import Adaptation
from st4rtrack.adapt.run import adapt_videos
from st4rtrack.data.procedural import ProceduralClip
from st4rtrack.hints.provider import chosen_prior
from st4rtrack.io.video import open_video
from st4rtrack.model.checkpoint import read_info, save_model
from st4rtrack.model.network import St4RTrack
from st4rtrack.options import ReconstructOptions
from st4rtrack.pipeline import cameras
from st4rtrack.pipeline.preparation import prepare as prepare_pixels
from st4rtrack.preprocess import normalize_images
from st4rtrack.types import DepthSource, UserError, Video
from tests.adapt.small import OPTIONS, adapt_small, load, monocular_base, small_base, small_clip
from tests.adapt.truth_teachers import TruthTracks, truth_scene

ERROR_RATIO = loop.error_ratio


@pytest.fixture(scope="module")
def clip() -> ProceduralClip:
    return small_clip()


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network whose tracking is off everywhere: a base that knows nothing else has little to gain beyond the geometry it starts from."""
    path = small_base(tmp_path_factory.mktemp("base"))
    model = load(path)
    assert model.tracking_head.out.bias is not None
    torch.nn.init.constant_(model.tracking_head.out.bias, 0.5)
    save_model(model, path)
    return path


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    """Fewer pixels per camera, and what is computed once of a video once for all tests."""
    known: dict[tuple[object, ...], FrameInputs] = {}

    def once(model: St4RTrack, video: Video, folder: Path, told: None = None) -> FrameInputs:
        key = (model.weights_hash, b"".join(frame.tobytes() for frame in video.frames()))
        if key not in known:
            kept = Path(tempfile.mkdtemp(dir=keep.name))
            known[key] = frame_inputs(model, video, kept)
        return known[key]

    keep = tempfile.TemporaryDirectory()
    with keep, pytest.MonkeyPatch.context() as patch:
        patch.setattr(cameras, "POINTS", 300)
        patch.setattr(loop, "error_ratio", lambda before, now: now["error_px"] / before["error_px"])  # depth needs a trained base
        patch.setattr(prepare, "frame_inputs", once)
        yield


@pytest.fixture(scope="module")
def adapted(clip: ProceduralClip, base: Path, tmp_path_factory: pytest.TempPathFactory, quick: None) -> Adaptation:
    return adapt_small(clip, base, tmp_path_factory.mktemp("adapted") / "room.safetensors", scenes="first")


def weights(path: Path) -> dict[str, torch.Tensor]:
    return load(path).state_dict()


def test_held_out_tracks_come_nearer_and_only_the_tracking_branch_changes(adapted: Adaptation, base: Path) -> None:
    assert adapted.gained
    assert adapted.after["error_px"] < 0.97 * adapted.before["error_px"]
    before, after = weights(base), weights(adapted.checkpoint)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all(name.startswith(("decoder.tracking_blocks.", "tracking_head.")) for name in changed)
    for name, value in adapted.model.state_dict().items():
        assert torch.equal(value, after[name])


def test_adapted_network_without_decoders_is_the_depth_prior_of_its_runs(clip: ProceduralClip, tmp_path: Path) -> None:
    base, output, scene = monocular_base(tmp_path), tmp_path / "adapted.safetensors", truth_scene(clip)
    given: dict[str, Any] = {"model": base, "scene": scene, "scenes": "none", "device": "cpu"}
    with pytest.raises(UserError, match="--freeze anchored needs a network with decoders"):
        adapt_videos([clip.rgb], output=output, freeze="anchored", **given)
    config = {"steps": 24, "measure_every": 6, "learning_rate": 5e-3, "warmup_steps": 1}
    found = adapt_videos([clip.rgb], output=output, config=config, **given)
    assert found.after["depth_error"] < 0.95 * found.before["depth_error"]
    assert found.after["error_px"] < 0.95 * found.before["error_px"] and "depth error" in found.sentence
    before, after = weights(base), weights(output)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed and all(name.startswith(("monocular_head.", "encoder.pyramid.")) for name in changed)
    assert not any("backbone" in name or "focal" in name for name in changed)
    model, video = load(output), open_video(clip.rgb)
    prior = chosen_prior("auto", model, video, prepare_pixels(video, model.config, ReconstructOptions(size=96)).source_size)
    assert prior is not None and prior.name == f"adapted ({model.weights_hash[:12]})"
    with torch.inference_mode():
        wanted = model.monocular(model.encode(normalize_images(clip.rgb[:1]))).log_depth[0].exp()
    np.testing.assert_allclose(prior(clip.rgb[0], 0).depth, wanted, rtol=1e-4)


@pytest.mark.parametrize(
    ("after", "ratio"),
    [
        ({"error_px": 0.5, "depth_error": 0.08}, 0.5 * 0.8),
        ({"error_px": 0.5, "depth_error": 0.1}, None),
        ({"error_px": 1.1, "depth_error": 0.01}, None),
        ({"error_px": 0.5, "depth_error": 0.08, "unsupervised": 0.2}, None),
    ],
)
def test_error_ratio_is_finite_if_2d_and_depth_improve_and_dynamic_depth_stays(
    after: dict[str, float], ratio: float | None
) -> None:
    base = {"error_px": 1.0, "depth_error": 0.1, "agreement": None, "unsupervised": 0.0}
    assert ERROR_RATIO(base, {**base, **after}) == pytest.approx(np.inf if ratio is None else ratio**0.5)


def test_adapt_videos_without_static_depth_raises(clip: ProceduralClip, tmp_path: Path) -> None:
    scene = truth_scene(clip)
    scene.reconstruction.source = np.full(clip.depth.shape, DepthSource.PRIOR, np.uint8)
    with pytest.raises(UserError, match="no teacher knows any depth"):
        adapt_videos([clip.rgb], output=tmp_path / "a.safetensors", model=monocular_base(tmp_path), scene=scene, scenes="none")


def test_it_leaves_figures_scenes_and_a_picture(adapted: Adaptation) -> None:
    assert not adapted.checkpoint.with_name("room.unfinished.pt").exists()
    told = json.loads((adapted.report / "adaptation.json").read_text())
    assert told["sentence"] == adapted.sentence and "% less" in adapted.sentence
    assert told["options"]["videos"][0]["tracks"] == "truth 1"
    assert len(told["steps"]) == told["steps_done"] == 8
    assert [row["step"] for row in told["measurements"]] == [0, 4, 8]
    assert {path.name for path in adapted.report.iterdir()} == {
        "adaptation.json", "adaptation.png", "array_before", "array_after", "teachers"
    }  # fmt: skip
    picture = cv2.imread(str(adapted.report / "adaptation.png"))
    assert picture is not None and picture.shape[1] == 1600 and picture.std() > 10
    assert json.loads(read_info(adapted.checkpoint)["st4rtrack_adaptation"])["result"] == adapted.sentence


def test_an_interrupted_adaptation_gives_the_same(clip: ProceduralClip, base: Path, adapted: Adaptation, tmp_path: Path) -> None:
    output = tmp_path / "room.safetensors"

    def interrupt(done: int, total: int) -> None:
        if done == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        adapt_small(clip, base, output, progress=interrupt)
    assert (tmp_path / "room.unfinished.pt").exists() and not output.exists()
    with pytest.raises(UserError, match="seed was 0, now 1"):
        adapt_small(clip, base, output, config={"seed": 1})
    done: list[int] = []
    again = adapt_small(clip, base, output, progress=lambda step, total: done.append(step))
    assert done[0] == 5  # from the last measurement on
    assert again.progress.measurements == adapted.progress.measurements
    after, expected = weights(output), weights(adapted.checkpoint)
    assert all(torch.equal(after[name], expected[name]) for name in expected)


def test_without_gain_the_base_is_kept_and_the_file_is_valid(clip: ProceduralClip, base: Path, tmp_path: Path) -> None:
    found = adapt_small(clip, base, tmp_path / "none.safetensors", config={"learning_rate": 1e-12, "patience": 1})
    assert not found.gained and "kept the base model" in found.sentence
    assert found.progress.step == 4  # its patience ended
    before, after = weights(base), weights(found.checkpoint)
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_changes_alone_are_the_same_model(clip: ProceduralClip, base: Path, adapted: Adaptation, tmp_path: Path) -> None:
    found = adapt_small(clip, base, tmp_path / "small.safetensors", changes_only=True)
    assert found.gained and found.checkpoint.stat().st_size < 0.7 * adapted.checkpoint.stat().st_size
    after, expected = weights(found.checkpoint), found.model.state_dict()
    assert all(torch.equal(after[name], expected[name]) for name in expected)


def test_one_model_for_two_videos(clip: ProceduralClip, base: Path, tmp_path: Path) -> None:
    found = adapt_videos(
        [clip.rgb, clip.rgb[:4]],
        output=tmp_path / "two.safetensors",
        model=base,
        tracks=_EitherLength(clip),
        depth="none",
        config={**OPTIONS, "steps": 4},
        device="cpu",
        scenes="none",
    )
    assert found.names == ["array", "array~2"]
    assert sorted(row["video"] for row in found.progress.steps) == [0, 0, 1, 1]
    assert "depth" not in found.progress.steps[0]


class _EitherLength(TruthTracks):
    def tracks(self, rgb: np.ndarray, query_px: np.ndarray, anchor_index: int) -> TeacherTracks:
        whole = super().tracks(rgb, query_px, anchor_index)
        return TeacherTracks(whole.query_px, whole.tracks_px[: len(rgb)], whole.visible[: len(rgb)], whole.name)


@pytest.mark.parametrize("freeze", ["anchored", "encoder"])
def test_other_ways_to_freeze(clip: ProceduralClip, base: Path, tmp_path: Path, freeze: str) -> None:
    found = adapt_small(clip, base, tmp_path / "a.safetensors", config={"freeze": freeze, "steps": 4, "learning_rate": 1e-5})
    assert found.progress.steps[0]["held"] < 5e-3  # of bfloat16
    assert (found.options["loss"]["held"] > 0) == (freeze == "anchored")


def test_adapt_videos_relative_loss_uses_the_base_geometry(clip: ProceduralClip, base: Path, tmp_path: Path) -> None:
    found = adapt_small(clip, base, tmp_path / "a.safetensors", depth="none", loss="relative", config={"steps": 2})
    assert found.options["loss"]["held"] > 0 and found.progress.steps[0]["held"] >= 0
    with pytest.raises(UserError, match=r"loss must be one of auto, paper, .*, got 'square'"):
        adapt_small(clip, base, tmp_path / "b.safetensors", loss="square")


def test_a_static_video_is_no_error(clip: ProceduralClip, base: Path, tmp_path: Path) -> None:
    still = np.repeat(clip.rgb[:1], 5, axis=0)
    found = adapt_small(
        clip, base, tmp_path / "still.safetensors", tracks=_Still(), depth="none", videos=[still], config={"steps": 2}
    )
    assert found.checkpoint.exists() and np.isfinite(found.before["error_px"])


class _Still:
    name = "still 1"
    follows_any = True

    def tracks(self, rgb: np.ndarray, query_px: np.ndarray, anchor_index: int) -> TeacherTracks:
        tracks = np.repeat(query_px[None].astype(np.float32), len(rgb), axis=0)
        return TeacherTracks(query_px, tracks, np.ones(tracks.shape[:2], bool), self.name)


def test_steps_that_are_not_finite_are_skipped_and_the_best_is_kept(
    clip: ProceduralClip, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    whole = loop.step_loss

    def broken(*arguments: Any) -> StepLoss:
        found = whole(*arguments)
        return StepLoss(found.total * float("nan"), found.parts, found.cameras_not_found)

    monkeypatch.setattr(loop, "step_loss", broken)
    found = adapt_small(clip, base, tmp_path / "nan.safetensors", config={"steps": 40})
    assert not found.gained and found.progress.step == 11
    assert "not finite" in caplog.text and "--learning-rate" in caplog.text
    json.loads((found.report / "adaptation.json").read_text(), parse_constant=pytest.fail)


def test_mistakes_are_sentences(clip: ProceduralClip, base: Path, tmp_path: Path) -> None:
    output = tmp_path / "a.safetensors"
    with pytest.raises(UserError, match="one frame"):
        adapt_small(clip, base, output, videos=[clip.rgb[:1]])
    with pytest.raises(UserError, match=r"needs longer tracks|no point beyond the first frame"):
        adapt_small(clip, base, output, tracks=TruthTracks(clip, hidden=True))
    with pytest.raises(UserError, match=r"end in \.safetensors"):
        adapt_small(clip, base, tmp_path / "a.pth")
    with pytest.raises(UserError, match="at least one"):
        adapt_small(clip, base, output, videos=[])
    with pytest.raises(UserError, match="--batch-size"):
        adapt_small(clip, base, output, config={"frames": 1})
    output.write_bytes(b"something")
    with pytest.raises(UserError, match="--overwrite"):
        adapt_small(clip, base, output)
    assert output.read_bytes() == b"something"
    (tmp_path / "b.unfinished.pt").write_bytes(b"no state")
    with pytest.raises(UserError, match="could not read"):
        adapt_small(clip, base, tmp_path / "b.safetensors")


@pytest.mark.parametrize("knows", [True, False])
def test_it_is_said_where_no_teacher_knows_how_far_what_moves_is(
    clip: ProceduralClip,
    base: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    knows: bool,
) -> None:
    monkeypatch.setattr(prepare, "moving_tracks", lambda tracks, *_: np.arange(len(tracks.query_px)) % 2 == 0)
    teacher = {} if knows else {"depth": "none"}
    with caplog.at_level("WARNING"):
        adapt_small(clip, base, tmp_path / "room.safetensors", config={"steps": 1}, **teacher)
    assert ("no teacher measures the depth" in caplog.text) is not knows
