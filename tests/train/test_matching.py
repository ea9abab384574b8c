"""The matching head stage: loss, resuming, learning, the file of weights."""

import re
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from st4rtrack.cli.main import main
from st4rtrack.data.pair_records import TrackedClip, TrackedClips, save_clip
from st4rtrack.geometry.camera import pixel_grid
from st4rtrack.model.checkpoint import load_monocular, read_info, save_model
from st4rtrack.model.config import MONOCULAR, TINY, ModelConfig
from st4rtrack.model.monocular import MonocularNetwork, new_monocular
from st4rtrack.model.network import St4RTrack
from st4rtrack.options import RunConfig
from st4rtrack.train.checkpoint import Average, Training
from st4rtrack.train.config import TrainConfig
from st4rtrack.train.loop import make_optimizer, training_step
from st4rtrack.train.matching import (
    OCCLUDED_WEIGHT,
    MatchingScore,
    MatchingStage,
    MixedClips,
    clip_examples,
    first_network,
    matching_loss,
    refined_positions,
    stack_examples,
)
from st4rtrack.train.presets import MatchingData, Preset
from st4rtrack.train.start import run_preset
from st4rtrack.types import UserError
from tests.train.small import ALONE, check_interrupted_run

SMALL = replace(MONOCULAR, encoder_width=16, decoder_width=16, decoder_depth=1, decoder_heads=2, pyramid_width=8)
CONFIG = TrainConfig(
    steps=4, batch_size=2, micro_batch=2, learning_rate=1e-3, warmup_steps=1, average=0.9, precision="float32", seed=3
)
RUN = RunConfig(device="cpu", compile=False, validate_every=2, save_every=2, report_every=2)
DATA = MatchingData(points=24, validation_clips=2)
SIZE = (32, 48)


def moving_square(seed: int = 0, frames: int = 3) -> TrackedClip:
    """A textured square that moves 6 pixels to the right per frame over a static textured background."""
    rng = np.random.default_rng(seed)
    background, square = (cv2.resize(rng.integers(0, 256, (8, 12, 3), dtype=np.uint8), size) for size in (SIZE[::-1], (12, 12)))
    rgb = np.tile(background, (frames, 1, 1, 1))
    anchor = pixel_grid(*SIZE)[1::2, 1::2].astype(np.float32)
    dynamic = np.asarray(((anchor > (8, 10)) & (anchor < (20, 22))).all(-1))
    pixels = np.tile(anchor, (frames, 1, 1, 1))
    visible = np.ones((frames, *dynamic.shape), bool)
    for t in range(frames):
        rgb[t, 10:22, 8 + 6 * t : 20 + 6 * t] = square
        pixels[t, ..., 0] += 6 * t * dynamic
        visible[t] = dynamic | ~((anchor > (8 + 6 * t, 10)) & (anchor < (20 + 6 * t, 22))).all(-1)
    return TrackedClip(rgb, pixels, np.zeros(visible.shape, np.float32), visible, dynamic, np.ones_like(dynamic))


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """A folder of clips."""
    for part in ("train", "validation"):
        for seed in range(2):
            save_clip(tmp_path / "clips" / part / f"{seed}.npz", moving_square(seed))
    return tmp_path / "clips"


def run(output: Path, clips: Path, **changes: object) -> MatchingScore:
    """A run from random weights."""
    config = replace(CONFIG, **changes)  # pyright: ignore[reportArgumentType]
    return train(config, DATA, output, folders={"procedural": clips})


def train(config: TrainConfig, data: MatchingData, output: Path, *, folders: dict[str, Path] | None = None) -> MatchingScore:
    preset = Preset(SMALL, config, data)
    score = run_preset(preset, RUN, output=output, processes=ALONE, init="random", folders=folders)
    assert isinstance(score, MatchingScore)
    return score


def test_clip_examples_points_are_in_view_and_mostly_dynamic() -> None:
    clip = moving_square()
    clip.pixels[1][clip.dynamic] -= (20, 0)  # partly out of view
    clip.visible[2][clip.dynamic] = False
    examples = clip_examples(clip, 30, np.random.default_rng(0))
    assert examples.weight.shape == (2, 30) and examples.grid == (8, 12)
    assert examples.dynamic[1].sum() == 20
    assert (examples.frame_pixels >= 0).all() and (examples.frame_pixels < torch.tensor([48, 32])).all()
    assert torch.equal(examples.weight[1] == OCCLUDED_WEIGHT, examples.dynamic[1])
    static = ~examples.dynamic
    assert torch.equal(examples.anchor_pixels[static], examples.frame_pixels[static])


def test_clip_examples_mirrored_points_keep_their_colour() -> None:
    clip = moving_square()
    for mirror in (False, True):
        examples = clip_examples(clip, 30, np.random.default_rng(0), mirror=mirror)
        visible = examples.weight[1] == 1
        (u, v), (u2, v2) = ((each[1][visible] - 0.5).long().T for each in (examples.anchor_pixels, examples.frame_pixels))
        assert torch.equal(examples.images[0, 0][:, v, u], examples.images[0, 2][:, v2, u2])


def test_clip_examples_nothing_in_view_has_no_loss() -> None:
    clip = moving_square()
    clip.pixels[1:] = -1000
    examples = clip_examples(clip, 4, np.random.default_rng(0))
    log_likelihood = torch.zeros(2, 4, 96).log_softmax(-1)
    assert not examples.weight.any() and matching_loss(log_likelihood, examples).total == 0


def test_matching_loss_bilinear_target_is_the_entropy_of_its_weights() -> None:
    examples = clip_examples(moving_square(), 2, np.random.default_rng(0))
    examples.frame_pixels[:] = torch.tensor([9.0, 6.0])  # a quarter of a cell to the left of the centre of column 2, row 1
    examples.weight[:] = 1
    target = torch.full((8, 12), -100.0)
    target[1, 1], target[1, 2] = np.log(0.25), np.log(0.75)
    loss = matching_loss(target.reshape(1, 1, 96).expand(2, 2, -1), examples)
    assert float(loss.total) == pytest.approx(-0.25 * np.log(0.25) - 0.75 * np.log(0.75), abs=1e-5)
    assert loss.visible_points == loss.total and loss.occluded_points == 0


def test_refined_positions_two_cells_gives_the_place_between_them() -> None:
    log_likelihood = torch.full((8, 12), -100.0)
    log_likelihood[1, 1], log_likelihood[1, 2] = np.log(0.2), np.log(0.5)
    log_likelihood[7, 11] = np.log(0.3)  # beyond the window
    (position,) = refined_positions(log_likelihood.reshape(1, 1, 96), (8, 12))[0].tolist()
    assert position == pytest.approx([(0.2 * 6 + 0.5 * 10) / 0.7, 6])


def test_stack_examples_different_sizes_raises() -> None:
    examples = clip_examples(moving_square(), 4, np.random.default_rng(0))
    other = replace(examples, images=examples.images[..., :32])
    assert len(stack_examples([examples, examples])) == 4
    with pytest.raises(UserError, match="--micro-batch 1"):
        stack_examples([examples, other])


def test_mixed_clips_same_index_gives_the_same_micro_batch(clips: Path) -> None:
    source = MixedClips({"procedural": TrackedClips(clips, "train")}, DATA, 2, seed=1)
    first, again, other = (source.examples(index) for index in (7, 7, 8))
    assert torch.equal(first.images, again.images) and torch.equal(first.frame_pixels, again.frame_pixels)
    assert not torch.equal(first.images, other.images)


def test_training_one_clip_lowers_the_loss_and_keeps_the_backbone() -> None:
    start, _ = first_network(SMALL, "random", 0)
    stage = MatchingStage(start, DATA, {})
    config = replace(CONFIG, steps=30, learning_rate=2e-3, warmup_steps=2)
    network = stage.network(config, torch.device("cpu"), compile=False)
    training = Training(network, make_optimizer(network, config), Average(network))
    examples = clip_examples(moving_square(), 60, np.random.default_rng(0))
    losses = []
    for _ in range(config.steps):
        losses.append(training_step(training, [examples], config, ALONE, loss=stage.loss).figures["total"])
        training.step += 1
    assert losses[-1] < 0.5 * losses[0]
    expected = new_monocular(SMALL, 0).encoder.pyramid.backbone.state_dict()
    (backbone,) = start._backbone
    assert backbone is not None
    assert all(torch.equal(value, expected[name]) for name, value in backbone.state_dict().items())


def test_train_matching_interrupted_run_is_equal_bit_for_bit(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_interrupted_run(MatchingStage, lambda output: run(output, clips), tmp_path, monkeypatch)


def test_train_matching_file_merges_with_the_encoder(clips: Path, tmp_path: Path) -> None:
    score = run(tmp_path / "run", clips, steps=1)
    assert 0 <= score.overall <= 1 and np.isnan(score.world_8px)
    head = load_file(tmp_path / "run" / "model.safetensors")
    assert head and all(name.startswith("matching_head.") for name in head)
    assert '"matching": true' in read_info(tmp_path / "run" / "model.safetensors")["st4rtrack_config"]
    merged = MonocularNetwork(replace(SMALL, matching=True))
    merged.load_state_dict({**new_monocular(SMALL, 0).state_dict(), **head})
    save_model(merged, tmp_path / "merged.safetensors")
    loaded = load_monocular(tmp_path / "merged.safetensors", device="cpu")
    assert loaded.matching_head is not None
    assert torch.equal(loaded.matching_head.embed.weight, head["matching_head.embed.weight"])
    start, weights_hash = first_network(SMALL, str(tmp_path / "merged.safetensors"), 0)
    assert torch.equal(start.matching_head.embed.weight, loaded.matching_head.embed.weight)
    assert weights_hash == loaded.weights_hash


def test_train_matching_without_folders_renders_procedural_clips(tmp_path: Path) -> None:
    data = replace(DATA, size=SIZE, procedural_clips=1, validation_clips=1)
    config = replace(CONFIG, steps=1)
    train(config, data, tmp_path)
    assert all(len(TrackedClips(tmp_path / "procedural", part)) == 1 for part in ("train", "validation"))
    assert (tmp_path / "model.safetensors").is_file()


def test_train_matching_unknown_source_raises(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the sources of the matching head are procedural, world"):
        train(CONFIG, DATA, tmp_path, folders={"kubric": tmp_path})


def test_train_match_command_two_steps_writes_weights(clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--init", "random", "--steps", "2", "--device", "cpu"]
    main(["train", "match", "-o", str(tmp_path / "run"), "--data", f"procedural={clips}", *options])
    assert re.search(r"dynamic points within 4 / 8 / 16 px \[%\]: procedural \d", capsys.readouterr().out)
    assert (tmp_path / "run" / "model.safetensors").is_file() and list((tmp_path / "run" / "pictures").iterdir())


def test_config_matching_needs_the_convolutional_encoder() -> None:
    with pytest.raises(UserError, match="matching head needs the encoder"):
        replace(TINY, matching=True)
    assert ModelConfig.from_dict({**SMALL.to_dict(), "matching": True}).matching
    with torch.device("meta"):
        assert St4RTrack(replace(SMALL, matching=True)).matching_head is not None
