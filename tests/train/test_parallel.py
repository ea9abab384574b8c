"""Several processes give the run of one, and go on with each other's checkpoints."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from st4rtrack.train.parallel import Processes, check_split
from st4rtrack.types import UserError
from tests.train.small import CONFIG, RUN, Job, SmallClips, in_processes, losses, run_small

EACH_STEP = replace(RUN, report_every=1)


LOW = replace(CONFIG, precision="bfloat16", frozen="encoder", steps=2)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same runs by one process, and by two with either kind of parallelism."""
    folder = tmp_path_factory.mktemp("runs")
    run_small(folder / "one", CONFIG, EACH_STEP)
    run_small(folder / "one_low", LOW, EACH_STEP)
    ddp, fsdp = (replace(EACH_STEP, parallel=kind) for kind in ("ddp", "fsdp"))
    jobs = [
        Job(folder / "ddp", CONFIG, ddp),
        Job(folder / "fsdp", CONFIG, fsdp),
        Job(folder / "fsdp_low", LOW, fsdp),
        Job(folder / "bad", LOW, replace(ddp, on_non_finite="skip"), SmallClips(bad=(5,))),
    ]
    in_processes(2, jobs)
    return folder


@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
@pytest.mark.parametrize("figure", ["total", "tracking_error", "gradient_norm"])
def test_two_processes_give_the_losses_of_one(runs: Path, kind: str, figure: str) -> None:
    one, two = losses(runs / "one", figure), losses(runs / kind, figure)
    assert list(one) == list(two) == list(range(1, 7))
    assert len(set(one.values())) == 6
    # the norm of a gradient sums squares in another order and is the larger number: it may round further off than a loss
    within = 1e-4 if figure == "gradient_norm" else 1e-5
    assert list(two.values()) == pytest.approx(list(one.values()), abs=within, rel=within)


def test_in_bfloat16_with_a_frozen_encoder_too(runs: Path) -> None:
    one, two = losses(runs / "one_low"), losses(runs / "fsdp_low")
    assert list(two.values()) == pytest.approx(list(one.values()), rel=1e-3)
    assert two[1] == pytest.approx(one[1], rel=1e-5)


@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_two_processes_save_what_one_saves(runs: Path, kind: str) -> None:
    one, two = (torch.load(runs / name / "state.pt", weights_only=True) for name in ("one", kind))
    assert two["step"] == one["step"] and two["best"] == pytest.approx(one["best"], rel=1e-4)
    for part in ("model", "average"):
        assert set(one[part]) == set(two[part])
        for name, value in one[part].items():
            torch.testing.assert_close(two[part][name], value, atol=1e-4, rtol=1e-3)
    assert set(one["optimizer"]["state"]) == set(two["optimizer"]["state"])


def test_one_process_goes_on_with_the_checkpoint_of_two(runs: Path) -> None:
    further = replace(LOW, steps=4)
    run_small(runs / "fsdp_low", further, EACH_STEP, change_options=True)
    run_small(runs / "one_low", further, EACH_STEP, change_options=True)
    one, two = losses(runs / "one_low"), losses(runs / "fsdp_low")
    assert list(two) == [1, 2, 3, 4]
    assert list(two.values()) == pytest.approx(list(one.values()), rel=1e-3)


def test_all_processes_skip_what_one_of_them_met(runs: Path) -> None:
    assert [path.name for path in (runs / "bad" / "not_finite").iterdir()] == ["step000001_batch5.npz"]
    assert list(losses(runs / "bad")) == [1]
    assert torch.load(runs / "bad" / "state.pt", weights_only=True)["step"] == 2


def test_micro_batches_that_do_not_split_are_refused() -> None:
    check_split(4, Processes(0, 2, torch.device("cpu")))
    with pytest.raises(UserError, match="4 micro-batches per step do not split over 3 processes"):
        check_split(4, Processes(0, 3, torch.device("cpu")))
