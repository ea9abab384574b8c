"""The parts of the loop."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from st4rtrack.model.network import St4RTrack
from st4rtrack.train.checkpoint import Average, average_decay
from st4rtrack.train.config import TrainConfig
from st4rtrack.train.examples import from_clips
from st4rtrack.train.forward import PairNetwork, new_model, prepare
from st4rtrack.train.loop import compute_loss, learning_rate, make_optimizer
from st4rtrack.train.source import held_out_clips
from st4rtrack.train.validate import HeldOut, validate
from st4rtrack.train.watch import Meter, duration, sample_picture
from st4rtrack.types import UserError
from tests.train.small import CONFIG, SMALL, SmallClips


def test_the_rate_warms_up_and_decays() -> None:
    config = TrainConfig(steps=100, warmup_steps=10)
    rates = [learning_rate(step, config) for step in range(101)]
    assert rates[0] < rates[9] == config.learning_rate
    assert all(a >= b for a, b in pairwise(rates[10:]))
    assert rates[-1] == pytest.approx(config.final_learning_rate)


def test_weights_decay_on_matrices_only_and_what_is_frozen_is_left_out() -> None:
    network = prepare(new_model(SMALL, 0), replace(CONFIG, frozen="encoder"), compile=False)
    decayed, others = make_optimizer(network, CONFIG).param_groups
    assert decayed["weight_decay"] == CONFIG.weight_decay and others["weight_decay"] == 0
    assert all(p.ndim >= 2 for p in decayed["params"]) and all(p.ndim < 2 for p in others["params"])
    learns = {id(p) for group in (decayed, others) for p in group["params"]}
    names = {name for name, p in network.named_parameters() if id(p) in learns}
    assert names and not any("encoder.blocks" in name or "patch_embed" in name for name in names)
    assert {"model.encoder.norm.weight", "model.encoder.norm.bias"} <= names


def test_the_average_follows_and_gives_the_weights_back() -> None:
    layer = torch.nn.Linear(2, 2)
    average, start = Average(layer), layer.weight.detach().clone()
    with torch.no_grad():
        layer.weight += 1
    average.update(0.75)
    own = layer.weight.detach().clone()
    with average.in_place():
        torch.testing.assert_close(layer.weight.detach(), start + 0.25)
    assert torch.equal(layer.weight, own)
    assert average_decay(0, 0.999) == 0.1 and average_decay(10**6, 0.999) == 0.999


def test_a_new_network_puts_all_points_before_the_anchor() -> None:
    out = new_model(SMALL, 3)(torch.zeros(1, 3, 32, 48), torch.zeros(1, 3, 32, 48))
    assert (out.tracking.points_world[..., 2] - 1).abs().max() < 0.3
    assert {p.dtype for p in new_model(SMALL, 3).parameters()} == {torch.float32}
    assert all(torch.equal(a, b) for a, b in zip(new_model(SMALL, 3).parameters(), new_model(SMALL, 3).parameters(), strict=True))


class Oracle(torch.nn.Module):
    """Knows the truth of a held-out clip, in another unit; the anchor's pair with itself is the clip's first."""

    def __init__(self, held_out: HeldOut, unit: float = 7) -> None:
        super().__init__()
        truth = held_out.examples.supervision.truth
        self.maps = [m.points_world / unit for m in (truth.tracking, truth.reconstruction)]

    def forward(self, images, anchor_index, frame_index):
        tracking, reconstruction = (m[: len(frame_index)] for m in self.maps)
        ones = torch.ones(tracking.shape[:3])
        return [(tracking, ones), (reconstruction, ones)]


def test_the_truth_scores_full_marks() -> None:
    held_out = held_out_clips(SmallClips(), range(2, 3))
    score = validate(Oracle(held_out[0]), held_out, torch.device("cpu"))
    assert score.tracking_apd == score.dynamic_apd == score.reconstruction_apd == score.overall == 100
    assert score.tracking_epe < 1e-5
    assert score.motion_cosine == pytest.approx(1, abs=1e-6)  # the pair (anchor, anchor) has no motion and does not count


def test_the_metrics_ignore_unknown_truth() -> None:
    held_out = held_out_clips(SmallClips(), range(2, 3))
    truth, oracle = held_out[0].examples.supervision.truth, Oracle(held_out[0])
    for pointmap in (truth.tracking, truth.reconstruction):
        pointmap.points_world[~pointmap.valid] = torch.nan
    truth.reconstruction.valid[:] = False
    score = validate(oracle, held_out, torch.device("cpu"))
    assert score.tracking_apd == 100 and np.isnan(score.reconstruction_epe)
    assert score.overall == 100
    assert np.isnan(validate(oracle, [], torch.device("cpu")).tracking_epe)


def test_the_motion_term_compares_with_the_anchor_s_own_time() -> None:
    clips, config = SmallClips(), replace(CONFIG, loss=replace(CONFIG.loss, motion_weight=1.0))
    held_out = held_out_clips(clips, range(2, 3))[0]
    truth = compute_loss(Oracle(held_out, unit=1), held_out.examples, config)
    assert truth.motion_error is not None and truth.motion_error < 1e-5
    still = Oracle(held_out, unit=1)
    still.maps[0] = still.maps[0][:1].expand_as(still.maps[0])
    wrong = compute_loss(still, held_out.examples, config)
    assert wrong.motion_error is not None and wrong.motion_error > 0.1
    with pytest.raises(UserError, match=r"needs clips that begin with the pair \(anchor, anchor\)"):
        compute_loss(still, from_clips([clips.clip(0)], with_anchor=False), config)


def test_a_picture_of_a_sample() -> None:
    held_out = held_out_clips(SmallClips(), range(1))[0].examples
    picture = sample_picture(PairNetwork(St4RTrack(SMALL)), held_out, "bfloat16")
    assert picture.shape == (3 * 32, 3 * 48, 3) and picture.dtype == np.uint8
    np.testing.assert_array_equal(picture[:32, :48], SmallClips().clip(0).rgb[0])
    np.testing.assert_array_equal(picture[:32, 48:96], SmallClips().clip(0).rgb[2])


def test_the_line_says_how_long() -> None:
    meter = Meter(0)
    meter.add({"tracking_error": 1.0, "reconstruction_error": 2.0}, pairs=8)
    meter.add({"tracking_error": 3.0, "reconstruction_error": 2.0}, pairs=8)
    means = meter.means()
    assert means["tracking_error"] == 2.0 and means["pairs_per_s"] > 0
    assert meter.line(2, means, CONFIG).startswith("step 2/6, tracking error 2.0000, reconstruction error 2.0000")
    assert [duration(s) for s in (20, 5400, 36000)] == ["0 min", "90 min", "10 h 00 min"]


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan"), float("inf")])
def test_a_rate_that_is_none_is_refused(rate: float) -> None:
    with pytest.raises(UserError, match="--learning-rate must be a finite number above 0"):
        TrainConfig(learning_rate=rate)
