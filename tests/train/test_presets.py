"""Presets hold the published numbers; the command says in one sentence what is wrong."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from st4rtrack.cli.main import main
from st4rtrack.data.procedural import ProceduralClips, ProceduralConfig
from st4rtrack.data.training import TrainingData
from st4rtrack.model.checkpoint import save_model
from st4rtrack.model.config import LARGE, TINY
from st4rtrack.train.forward import new_model
from st4rtrack.train.presets import DATASETS, PRESETS, ReadClips, RenderedClips, with_options
from st4rtrack.train.start import Repeated, find_preset, first_weights, open_data, parse_folders, run_preset
from st4rtrack.types import UserError
from tests.procedural_raw import write_kubric
from tests.raw_data import World, write_point_odyssey
from tests.train.small import ALONE, RUN, SMALL


def mixture(name: str) -> TrainingData:
    data = PRESETS[name].data
    assert isinstance(data, ReadClips)
    return data.described(dict.fromkeys(DATASETS, Path()), seed=0)


def test_the_paper() -> None:
    """Paper section 4.1: 24 frames, strides 1 to 6, 600 sequences of each of three sets per epoch, 50 epochs, 4 GPUs, AdamW at 5e-5."""
    data, config = mixture("large-seq"), PRESETS["large-seq"].train
    assert PRESETS["large-seq"].model == LARGE and PRESETS["large-seq"].from_weights
    assert (data.frames, data.samples_per_epoch, data.epochs, data.height, data.width) == (24, 600, 50, 288, 512)
    assert {source.name: source.strides for source in data.sources} == dict.fromkeys(DATASETS, (1, 2, 3, 4, 5, 6))
    assert config.batch_size * config.steps == 50 * 3 * 600
    assert (config.learning_rate, config.batch_size, config.micro_batch, config.frozen) == (5e-5, 4, 1, "encoder")
    assert (config.weight_decay, config.clip_norm, config.warmup_steps, config.final_learning_rate) == (0.05, 0.8, 450, 1e-6)
    assert (config.loss.normalization, config.loss.alpha, config.loss.reweighting) == ("joint", 0.2, "none")


def test_the_released_clips() -> None:
    data, config = mixture("large-seq-reweight"), PRESETS["large-seq-reweight"].train
    assert data.frames == 16 and config.batch_size * config.steps == 100 * 3 * 800
    assert (config.loss.reweighting, config.loss.reweight_scale) == ("clip", 5.0)


@pytest.mark.parametrize(("name", "reweighting"), [("large-pair", "none"), ("large-pair-reweight", "pair")])
def test_the_released_pairs(name: str, reweighting: str) -> None:
    data, config = mixture(name), PRESETS[name].train
    assert data.frames == 2 and data.curriculum
    assert getattr(PRESETS[name].data, "with_anchor") is False  # noqa: B009 (of one kind of data only)
    assert (config.batch_size, config.micro_batch) == (4 * 22, 22)
    assert config.steps == 100 * 3 * 12800 // 88
    assert config.loss.reweighting == reweighting


def test_every_preset_splits_over_the_published_four_processes_or_runs_on_one() -> None:
    for name, preset in PRESETS.items():
        assert preset.train.micro_batches % (4 if name.startswith("large") else 1) == 0
        json.dumps(preset.model.to_dict())


def test_options_replace_those_of_a_preset() -> None:
    changed = with_options(PRESETS["tiny"], steps=10, batch_size=6, seed=None)
    assert (changed.train.steps, changed.train.batch_size, changed.train.micro_batch, changed.train.seed) == (10, 6, 2, 0)
    with pytest.raises(UserError, match="--batch-size must be a multiple of --micro-batch 2, got 5"):
        with_options(PRESETS["tiny"], batch_size=5, micro_batch=2)


def test_first_weights(tmp_path: Path) -> None:
    preset = replace(PRESETS["large-seq"], model=SMALL)
    with pytest.raises(UserError, match="--init mast3r"):
        first_weights(preset, "")
    given = new_model(replace(SMALL, image_size=128), 5)
    save_model(given, tmp_path / "given.safetensors")
    loaded = first_weights(preset, str(tmp_path / "given.safetensors"))
    assert loaded.config == SMALL
    assert all(torch.equal(a, b) for a, b in zip(given.parameters(), loaded.parameters(), strict=True))
    save_model(new_model(replace(SMALL, decoder_depth=2), 5), tmp_path / "other.safetensors")
    with pytest.raises(UserError, match="another architecture than the preset: decoder_depth is 2, not 1"):
        first_weights(preset, str(tmp_path / "other.safetensors"))


def test_procedural_clips_by_number() -> None:
    _, held_out = open_data(PRESETS["overfit"].data, PRESETS["overfit"].train, {}, ALONE)
    clips = Repeated(ProceduralClips(ProceduralConfig(height=32, width=48, num_frames=3), seed=4), distinct=2)
    np.testing.assert_array_equal(clips.clip(0).rgb, clips.clip(2).rgb)
    assert (clips.clip(0).rgb != clips.clip(1).rgb).any()
    clip = clips.clip(1)
    np.testing.assert_array_equal(clip.world_from_camera[0], np.eye(4))
    known = clip.tracking_valid[0] & clip.reconstruction_valid[0]
    np.testing.assert_allclose(clip.tracking_points_world[0][known], clip.reconstruction_points_world[0][known], atol=2e-3)
    assert len(held_out) == 1 and len(held_out[0].examples) == 3


@pytest.mark.parametrize(
    ("arguments", "refusal"),
    [
        (["huge"], "preset must be one of large-seq"),
        (["large-seq"], "this preset needs pretrained weights; pass --init mast3r"),
        (["large-seq", "--init", "no.pth"], "no model 'no.pth'"),
        (["tiny", "--steps", "0"], "--steps must be a whole number of at least 1, got 0"),
        (["tiny", "--learning-rate", "-1"], "--learning-rate must be a finite number above 0"),
        (["large-seq", "--data", "kubric"], "--data must be NAME=FOLDER"),
        (["large-seq", "--data", "kubric=nowhere"], "folder nowhere does not exist"),
        (["overfit", "--device", "toaster"], "device 'toaster' is not available here"),
    ],
)
def test_refusals(arguments: list[str], refusal: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["train", *arguments, "-o", str(tmp_path)])
    error = capsys.readouterr().err
    assert stop.value.code == 2
    assert refusal in error and "Traceback" not in error


def test_data_that_is_missing_is_named(tmp_path: Path) -> None:
    preset = PRESETS["large-seq"]
    for folders, refusal in (
        ({}, "this preset needs point_odyssey, dynamic_replica, kubric; pass their folders"),
        ({"co3d": tmp_path}, r"--data co3d=\.\.\.: the data sets of this preset are point_odyssey"),
        ({"point_odyssey": tmp_path}, "has no folder 'train'"),
    ):
        with pytest.raises(UserError, match=refusal):
            open_data(preset.data, preset.train, folders, ALONE)
    with pytest.raises(UserError, match="renders its own data; remove --data kubric"):
        open_data(PRESETS["overfit"].data, PRESETS["overfit"].train, {"kubric": tmp_path}, ALONE)
    assert parse_folders((f"kubric={tmp_path}",)) == {"kubric": tmp_path}


def test_the_paper_s_mixture_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From raw folders through the preset's own path to weights, at a small size."""
    write_kubric(tmp_path / "kubric", "000")
    for k in range(1, 11):  # the release does not train on the last ten
        (tmp_path / "kubric" / f"{k:03d}").mkdir()
    write_point_odyssey(tmp_path / "po", "kitchen", World(frames=4), split="train")
    held_out = RenderedClips(height=32, width=48, validation_clips=1, validation_frames=2)
    preset = with_options(replace(PRESETS["large-seq-reweight"], model=SMALL, data=ReadClips("seq", held_out=held_out)), steps=2)
    described = ReadClips.described

    def small(self: ReadClips, folders: dict[str, Path], seed: int) -> TrainingData:
        data = described(self, folders, seed)
        sources = tuple(replace(source, strides=(1,), clip_step=1) for source in data.sources)
        return replace(data, sources=sources, frames=3, height=32, width=48)

    monkeypatch.setattr(ReadClips, "described", small)
    folders = {"kubric": tmp_path / "kubric", "point_odyssey": tmp_path / "po"}
    score = run_preset(preset, RUN, output=tmp_path / "run", processes=ALONE, init="random", folders=folders)
    assert np.isfinite(score.tracking_epe)
    assert json.loads((tmp_path / "run" / "train.json").read_text())["datasets"] == ["kubric", "point_odyssey"]


def test_an_unknown_preset_has_no_default() -> None:
    assert find_preset("tiny").model == TINY
    with pytest.raises(UserError):
        find_preset("")


def test_the_core_needs_little() -> None:
    """On a borrowed GPU machine there may be nothing but PyTorch, NumPy, OpenCV, safetensors and huggingface_hub."""
    unwanted = ("tyro", "zarr", "av", "matplotlib", "tensorboard", "pycolmap", "poselib")
    code = f"import sys, st4rtrack.train.start\nprint([name for name in {unwanted!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
