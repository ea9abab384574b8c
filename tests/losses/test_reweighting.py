from dataclasses import replace

import pytest
import torch

from st4rtrack.losses.objective import PUBLISHED, LossConfig, Supervision, objective
from st4rtrack.losses.reweighting import moving_by_clip, moving_by_pair, reweighted_confidence, static_reference
from st4rtrack.types import Pointmap, TwoPointmaps
from tests.losses.maps import gradients, random_case

REWEIGHTED = ("seq-reweight", "pair-reweight")


def row(*displacements: float, batch: int = 1) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Points of a row of pixels two units away, the same after moving sideways, and a mask of all, [batch, 1, pixels(, 3)]."""
    start = torch.zeros(batch, 1, len(displacements), 3, dtype=torch.float64)
    start[..., 2] = 2.0
    end = start.clone()
    end[..., 0] += torch.tensor(displacements, dtype=torch.float64)
    return start, end, torch.ones(start.shape[:3], dtype=torch.bool)


def test_sequence_rule_compares_first_and_last_frame_with_the_mean() -> None:
    start, end, valid = row(0.0, 0.1, 0.5, 1.0)
    between = start + 100.0
    moving = moving_by_clip(torch.cat([start, between, end]), valid.repeat(3, 1, 1), frames=3)
    assert moving[:, 0].tolist() == [[False, False, True, True]] * 3
    one_label_less = valid.repeat(3, 1, 1)
    one_label_less[2, 0, 3] = False
    moving = moving_by_clip(torch.cat([start, between, end]), one_label_less, frames=3)
    assert moving[0, 0].tolist() == [False, False, True, False], "the mean is over what can be judged"


def test_sequence_rule_is_relative_and_by_the_sum_of_coordinates() -> None:
    start, _, valid = row(0.0, 0.0, 0.0)
    start[0, 0, 2] *= 10
    end = start.clone()
    end[0, 0, 0] += torch.tensor([0.3, 0.0, 0.0])
    end[0, 0, 1] += torch.tensor([0.16, 0.16, 0.0])  # shorter than the first, but more in the sum
    end[0, 0, 2] += torch.tensor([3.0, 0.0, 0.0])  # longer than either, but ten times as far away
    moving = moving_by_clip(torch.cat([start, end]), valid.repeat(2, 1, 1), frames=2)
    assert moving[0, 0].tolist() == [False, True, False], "scores 0.15, 0.16, 0.15"


def test_each_clip_is_judged_by_its_own_mean() -> None:
    slow_start, slow_end, valid = row(0.0, 0.1)
    _, fast_end, _ = row(5.0, 9.0)
    points = torch.cat([slow_start, slow_end, slow_start, fast_end])
    moving = moving_by_clip(points, valid.repeat(4, 1, 1), frames=2)
    assert moving[:, 0].tolist() == [[False, True]] * 4


def test_pair_rule_takes_the_larger_of_mean_and_upper_quartile() -> None:
    start, end, valid = row(0.1, 0.2, 0.3, 0.4, 0.5)  # squares: mean 0.11, 0.75-quantile 0.16
    assert moving_by_pair(end, start, valid)[0, 0].tolist() == [False, False, False, True, True]
    start, end, valid = row(0.1, 0.2, 0.3, 0.4, 2.0)  # mean 0.86
    assert moving_by_pair(end, start, valid)[0, 0].tolist() == [False, False, False, False, True]
    valid[0, 0, 4] = False
    assert moving_by_pair(end, start, valid)[0, 0].tolist() == [False, False, False, True, False]
    start, end, valid = row(0.1, 0.2, 0.3, 0.35)  # squares: 0.75-quantile 0.098, between the third and the fourth
    assert moving_by_pair(end, start, valid)[0, 0].tolist() == [False, False, False, True]


def test_pair_rule_takes_the_median_where_only_the_foreground_is_labelled() -> None:
    start, end, valid = row(0.1, 0.2, 0.3, 0.4, 0.5, batch=2)
    end[1, ..., 0] *= 3
    moving = moving_by_pair(end, start, valid, at_median=torch.tensor([False, True]))
    assert moving[0, 0].tolist() == [False, False, False, True, True], "the other kind has a threshold of its own"
    assert moving[1, 0].tolist() == [False, False, True, True, True]


def test_reference_is_of_static_labelled_pixels_of_the_group() -> None:
    confidence = torch.tensor([[[1.5, 3.0, 9.0]], [[2.0, 7.0, 9.0]], [[1.1, 1.2, 1.3]]])
    static = torch.tensor([[[True, True, False]], [[True, False, False]], [[False, False, False]]])
    reference = static_reference(confidence, static, torch.tensor([4, 4, 0]))
    torch.testing.assert_close(reference, torch.tensor([3.0, 3.0, 1.0]))


def test_moving_pixels_get_a_constant_that_the_network_cannot_lower() -> None:
    prediction, supervision = random_case()
    confidence, mask, moving = prediction.tracking.confidence, supervision.truth.tracking.valid, supervision.moving
    group = torch.zeros(len(mask), dtype=torch.long)
    confidence[moving | ~mask] += 10
    confidence.requires_grad_()
    found = reweighted_confidence(confidence, mask, moving, group)
    torch.testing.assert_close(found[mask & moving], 5 * confidence[mask & ~moving].max().expand(int((mask & moving).sum())))
    torch.testing.assert_close(found[mask & ~moving], confidence[mask & ~moving])
    (gradient,) = torch.autograd.grad(found.sum(), confidence)
    torch.testing.assert_close(gradient, (mask & ~moving).to(gradient.dtype))
    low = reweighted_confidence(confidence, mask, moving, group, scale=0.0)
    assert (low[mask & moving] == 1).all(), "no confidence is below the least a network can have"


@pytest.mark.parametrize("name", REWEIGHTED)
@pytest.mark.parametrize("noise", [0.0, 1e-6])
def test_a_static_scene_is_left_as_it_was(name: str, noise: float) -> None:
    prediction, supervision = random_case(frames=4)
    truth = supervision.truth.tracking
    supervision.anchor_points = truth.points_world[:1].repeat(4, 1, 1, 1)
    truth.points_world = supervision.anchor_points + noise * torch.randn_like(supervision.anchor_points)
    plain = gradients(lambda maps: objective(maps, supervision, PUBLISHED["paper"]).total, prediction)
    reweighted = gradients(lambda maps: objective(maps, supervision, PUBLISHED[name]).total, prediction)
    torch.testing.assert_close(reweighted, plain, rtol=0, atol=0)


@pytest.mark.parametrize("name", REWEIGHTED)
def test_what_moves_weighs_more_and_the_reconstruction_as_before(name: str) -> None:
    prediction, supervision = random_case(frames=4)
    supervision.unit = torch.ones_like(supervision.unit)
    truth, moving = supervision.truth.tracking, supervision.moving[:1].repeat(4, 1, 1)
    truth.valid = truth.valid[:1].repeat(4, 1, 1)
    supervision.anchor_points = truth.points_world[:1].repeat(4, 1, 1, 1)
    truth.points_world = supervision.anchor_points.clone()
    truth.points_world[3] += moving[3][..., None]
    judged = truth.valid & moving
    judged[:3] &= name == "seq-reweight"

    def pulls(config: LossConfig) -> tuple[torch.Tensor, ...]:
        return gradients(lambda maps: objective(maps, supervision, config).total, prediction)[1]

    plain, reweighted = (pulls(replace(PUBLISHED[each], normalization="anchored")) for each in ("paper", name))
    stronger = reweighted[0][judged].norm(dim=-1) / plain[0][judged].norm(dim=-1)
    expected = 5 * prediction.tracking.confidence[truth.valid & ~judged].max() / prediction.tracking.confidence[judged]
    torch.testing.assert_close(stronger, expected)
    assert not reweighted[1][judged].any(), "the confidence of what moves is not learnt"
    torch.testing.assert_close(reweighted[0][~judged], plain[0][~judged])
    torch.testing.assert_close(reweighted[2:], plain[2:])


def test_clips_have_references_of_their_own_and_kinds_of_pairs_thresholds_of_their_own() -> None:
    start, end, valid = row(0.0, 0.1, 0.2, 1.0, batch=2)
    points = torch.stack([start[0], end[0], start[1], end[1]])
    confidence = torch.tensor([2.0, 2.0, 3.0, 3.0], dtype=torch.float64)[:, None, None].expand(4, 1, 4)
    truth = Pointmap(points, valid=valid.repeat(2, 1, 1))
    supervision = Supervision(TwoPointmaps(truth, truth), start.repeat(2, 1, 1, 1), frames_per_clip=2, unit=torch.ones(4))
    off = Pointmap(points + torch.tensor([0.0, 0.0, 1.0]), confidence)

    def pulls(config: LossConfig) -> torch.Tensor:
        config = replace(config, normalization="anchored", reweight_scale=4.0)
        pull = gradients(lambda maps: objective(maps, supervision, config).total, TwoPointmaps(off, off))[1]
        return pull[0][..., 2] * truth.valid.sum()

    by_clip = pulls(PUBLISHED["seq-reweight"])
    torch.testing.assert_close(by_clip[:, 0, 3], 4 * confidence[:, 0, 3])
    torch.testing.assert_close(by_clip[:, 0, :3], confidence[:, 0, :3])
    supervision.foreground_only = torch.tensor([False, False, True, True])
    by_pair = pulls(PUBLISHED["pair-reweight"])
    torch.testing.assert_close(by_pair[1, 0], torch.tensor([2.0, 2.0, 2.0, 8.0], dtype=torch.float64))
    torch.testing.assert_close(by_pair[3, 0], torch.tensor([3.0, 12.0, 12.0, 12.0], dtype=torch.float64))


@pytest.mark.parametrize("name", REWEIGHTED)
def test_labels_that_are_missing_do_not_matter(name: str) -> None:
    prediction, supervision = random_case(5)
    before = objective(prediction, supervision, PUBLISHED[name]).total
    hidden = torch.where(supervision.truth.tracking.valid[..., None], 0.0, float("nan"))
    supervision.truth.tracking.points_world = supervision.truth.tracking.points_world + hidden
    supervision.anchor_points = supervision.anchor_points + hidden
    torch.testing.assert_close(objective(prediction, supervision, PUBLISHED[name]).total, before, rtol=0, atol=0)


def test_huge_pairs_have_a_threshold_too() -> None:
    _, supervision = random_case(6)
    truth, anchor = supervision.truth.tracking, supervision.anchor_points.float()
    points = truth.points_world.float()
    assert torch.equal(moving_by_pair(points * 1e15, anchor * 1e15, truth.valid), moving_by_pair(points, anchor, truth.valid))
    assert not moving_by_pair(points, anchor, torch.zeros_like(truth.valid)).any()
