"""A run that was stopped goes on as if it had not been, and only in its own folder."""

import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from st4rtrack.data.clip import Clip
from st4rtrack.model.checkpoint import load_model, read_info
from st4rtrack.options import RunConfig
from st4rtrack.train.config import TrainConfig
from st4rtrack.train.validate import Score
from st4rtrack.types import UserError
from tests.train.small import CONFIG, RUN, SMALL, SmallClips, losses, run_small


class StoppedClips(SmallClips):
    """Sends this process a signal when a clip is asked for."""

    def clip(self, index: int) -> Clip:
        if index == 14:  # in the fourth step
            os.kill(os.getpid(), signal.SIGTERM)
        return super().clip(index)


def same_tensors(a: object, b: object) -> bool:
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and torch.equal(a, b)
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same_tensors(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(map(same_tensors, a, b))
    return a == b


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_interrupted_and_resumed_equals_uninterrupted_bit_for_bit(tmp_path: Path, precision: str) -> None:
    config = replace(CONFIG, precision=precision)
    every_step = replace(RUN, report_every=1)
    whole = run_small(tmp_path / "whole", config, every_step)
    with pytest.raises(KeyboardInterrupt):
        run_small(tmp_path / "parts", config, every_step, clips=StoppedClips())
    assert torch.load(tmp_path / "parts" / "state.pt", weights_only=True)["step"] == 4
    resumed = run_small(tmp_path / "parts", config, every_step)
    assert resumed == whole
    states = [torch.load(tmp_path / name / "state.pt", weights_only=True) for name in ("whole", "parts")]
    assert same_tensors(*states)
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")


def test_handlers_of_signals_are_given_back(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    run_small(tmp_path, replace(CONFIG, steps=1))
    assert signal.getsignal(signal.SIGTERM) == before


def test_workers_give_the_same_run(tmp_path: Path) -> None:
    short = replace(CONFIG, steps=2)
    run_small(tmp_path / "own", short, RUN)
    run_small(tmp_path / "workers", short, replace(RUN, workers=1))
    assert losses(tmp_path / "workers") == losses(tmp_path / "own")


def test_a_complete_run_is_left_as_it_is(tmp_path: Path) -> None:
    score = run_small(tmp_path, replace(CONFIG, steps=2))
    before = (tmp_path / "state.pt").read_bytes()
    assert run_small(tmp_path, replace(CONFIG, steps=2)) == score
    assert (tmp_path / "state.pt").read_bytes() == before


def test_what_a_run_leaves(tmp_path: Path) -> None:
    run_small(tmp_path)
    model = load_model(tmp_path / "model.safetensors", dtype="float32")
    assert model.config.encoder_width == 32
    assert read_info(tmp_path / "model.safetensors")["training"] == "step 6 of 6"
    assert load_model(tmp_path / "best.safetensors").config == model.config
    average = torch.load(tmp_path / "state.pt", weights_only=True)["average"]
    for name, value in model.state_dict().items():
        assert torch.equal(value.half(), average[f"model.{name}"].half())
    assert list((tmp_path / "curves").iterdir())
    assert len(list((tmp_path / "pictures").iterdir())) == 2
    assert not list(tmp_path.glob("*partial")) and not list(tmp_path.glob(".*part"))


def test_the_best_is_kept_beside_the_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    apd = iter([10.0, 30.0, 20.0, 25.0, 5.0, 7.0])
    monkeypatch.setattr("st4rtrack.train.loop.validate", lambda *_, **__: Score(1, next(apd), 1, float("nan"), 1, 0.0))
    run_small(tmp_path, CONFIG, replace(RUN, validate_every=1, save_every=1))
    assert torch.load(tmp_path / "state.pt", weights_only=True)["best"] == 15.0
    assert read_info(tmp_path / "best.safetensors")["training"] == "step 2 of 6"
    assert read_info(tmp_path / "model.safetensors")["training"] == "step 6 of 6"


@pytest.mark.parametrize(
    ("config", "run", "refusal"),
    [
        (replace(CONFIG, learning_rate=2e-3), RUN, "train.learning_rate was 0.001, now 0.002"),
        (replace(CONFIG, steps=8), RUN, "train.steps was 6, now 8"),
    ],
)
def test_a_folder_of_another_run_is_refused(tmp_path: Path, config: TrainConfig, run: RunConfig, refusal: str) -> None:
    run_small(tmp_path)
    with pytest.raises(UserError, match=refusal):
        run_small(tmp_path, config, run)
    assert "changed" not in (tmp_path / "log.jsonl").read_text()


def test_how_a_run_is_run_may_change(tmp_path: Path) -> None:
    run_small(tmp_path, replace(CONFIG, steps=2))
    run_small(tmp_path, replace(CONFIG, steps=2), replace(RUN, validate_every=1))


def test_changed_options_are_written_down(tmp_path: Path) -> None:
    run_small(tmp_path, replace(CONFIG, steps=2))
    run_small(tmp_path, replace(CONFIG, steps=4), change_options=True)
    assert max(losses(tmp_path)) == 4
    assert "train.steps was 2, now 4" in (tmp_path / "log.jsonl").read_text()
    run_small(tmp_path, replace(CONFIG, steps=4))


def test_the_state_of_another_network_is_refused(tmp_path: Path) -> None:
    run_small(tmp_path, replace(CONFIG, steps=2))
    with pytest.raises(UserError, match="state of another network: decoder_depth was 1, now 2"):
        run_small(tmp_path, replace(CONFIG, steps=2), model=replace(SMALL, decoder_depth=2), change_options=True)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", None])
def test_a_damaged_state_is_refused(tmp_path: Path, content: bytes | None) -> None:
    run_small(tmp_path, replace(CONFIG, steps=2))
    state = tmp_path / "state.pt"
    state.write_bytes(state.read_bytes()[:5000] if content is None else content)
    with pytest.raises(UserError, match=r"could not read .*state\.pt as the state of a run"):
        run_small(tmp_path, replace(CONFIG, steps=2))


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file"):
        run_small(tmp_path / "file")
