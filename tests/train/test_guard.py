"""What is not a number never reaches the weights, and is named."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from st4rtrack.types import UserError
from tests.train.small import CONFIG, RUN, SmallClips, losses, run_small

BAD = SmallClips(bad=(9,))  # the second clip of step 2


def test_a_run_stops_and_names_the_batch(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"step 2: not finite: loss of samples 9 to 9 \(small9\); saved in") as error:
        run_small(tmp_path, clips=BAD)
    path = tmp_path / "not_finite" / "step000002_batch9.npz"
    assert str(path) in str(error.value) and "\n" not in str(error.value)
    with np.load(path) as saved:
        assert saved["names"].tolist() == ["small9"]
        assert np.isnan(saved["supervision.truth.tracking.points_world"]).any()
        assert saved["images"].shape == (3, 3, 32, 48)
    assert torch.load(tmp_path / "state.pt", weights_only=True)["step"] == 2


def test_a_skipped_step_leaves_the_weights(tmp_path: Path) -> None:
    run_small(tmp_path, replace(CONFIG, steps=3), replace(RUN, on_non_finite="skip", save_every=1, report_every=1), clips=BAD)
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    assert state["step"] == 3
    assert all(value.isfinite().all() for value in state["model"].values())
    steps = {float(moments["step"]) for moments in state["optimizer"]["state"].values()}
    assert steps == {2.0}
    assert all(np.isfinite(list(losses(tmp_path).values())))


def test_too_many_in_a_row_stop_the_run(tmp_path: Path) -> None:
    run = replace(RUN, on_non_finite="skip", skip_limit=2)
    with pytest.raises(UserError, match=r"step 2: not finite: .*3 steps in a row"):
        run_small(tmp_path, CONFIG, run, clips=SmallClips(bad=(1, 4, 9, 15)))


def test_a_gradient_alone_is_named_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda *_: torch.tensor(torch.inf))
    with pytest.raises(UserError, match=r"gradient of samples 0 to 0 \(small0\); gradient of samples 1 to 1"):
        run_small(tmp_path)
