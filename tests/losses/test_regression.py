import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from st4rtrack.losses.objective import PUBLISHED, LossConfig, Supervision, objective
from st4rtrack.losses.regression import (
    confidence_weighted,
    euclidean_error,
    half_relative_error,
    joint_scale,
    length,
    weighted_mean,
)
from st4rtrack.types import Pointmap, TwoPointmaps
from tests.losses.maps import BATCH, HEIGHT, WIDTH, random_case, scaled
from tests.seeds import SEED
from tests.shared_data import shared

BRANCHES = ("tracking", "reconstruction")


def oracle_case(dtype: torch.dtype) -> tuple[dict[str, torch.Tensor], TwoPointmaps, Supervision]:
    oracle = {name: torch.from_numpy(np.asarray(value)) for name, value in np.load(shared("oracle/losses.npz")).items()}
    prediction = TwoPointmaps(*[Pointmap(oracle[f"pred_{b}"].to(dtype), oracle[f"conf_{b}"].to(dtype)) for b in BRANCHES])
    truth = TwoPointmaps(*[Pointmap(oracle[f"truth_{b}"].to(dtype), valid=oracle[f"mask_{b}"]) for b in BRANCHES])
    return oracle, prediction, Supervision(truth, truth.tracking.points_world)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("copies", [1, 3])
@pytest.mark.parametrize("unlabelled", [None, float("nan"), float("inf"), 1e6])
def test_agrees_with_the_reference(dtype: torch.dtype, copies: int, unlabelled: float | None) -> None:
    oracle, prediction, supervision = oracle_case(dtype)
    for name in ("tracking", "reconstruction"):
        predicted, true = getattr(prediction, name), getattr(supervision.truth, name)
        for pointmap in (predicted, true):
            if unlabelled is not None:
                pointmap.points_world = torch.where(true.valid[..., None], pointmap.points_world, unlabelled)
            pointmap.points_world = pointmap.points_world.repeat(copies, 1, 1, 1)
        predicted.confidence = predicted.confidence.repeat(copies, 1, 1)
        true.valid = true.valid.repeat(copies, 1, 1)
    config = LossConfig(alpha=float(oracle["alpha"]))
    parts = objective(prediction, supervision, config)
    assert float(parts.total) == pytest.approx(float(oracle["conf_loss"]), abs=1e-5)
    assert float(parts.tracking_error) == pytest.approx(float(oracle["l1_tracking"]), abs=1e-5)
    assert float(parts.reconstruction_error) == pytest.approx(float(oracle["l1_reconstruction"]), abs=1e-5)


def test_agrees_with_the_equations_written_as_loops() -> None:
    prediction, supervision = random_case(labelled=0.4)
    total, errors = 0.0, {}
    for branch in BRANCHES:
        predicted, true = getattr(prediction, branch), getattr(supervision.truth, branch)
        terms, distances = [], []
        for b, v, u in true.valid.nonzero().tolist():
            x = predicted.points_world[b, v, u].numpy() / loop_scale(prediction, supervision.truth, b)
            y = true.points_world[b, v, u].numpy() / loop_scale(supervision.truth, supervision.truth, b)
            confidence = float(predicted.confidence[b, v, u])
            distances.append(np.linalg.norm(x - y))
            terms.append(confidence * distances[-1] - 0.2 * np.log(confidence))
        total, errors[branch] = total + np.mean(terms), np.mean(distances)
    parts = objective(prediction, supervision, PUBLISHED["paper"])
    assert float(parts.total) == pytest.approx(total, rel=1e-12)
    assert float(parts.tracking_error) == pytest.approx(errors["tracking"], rel=1e-12)
    assert float(parts.reconstruction_error) == pytest.approx(errors["reconstruction"], rel=1e-12)


def loop_scale(maps: TwoPointmaps, truth: TwoPointmaps, b: int) -> float:
    distances = []
    for branch in BRANCHES:
        points, valid = getattr(maps, branch).points_world[b], getattr(truth, branch).valid[b]
        distances += [float(points[v, u].norm()) for v, u in valid.nonzero().tolist()]
    return float(np.mean(distances))


def test_joint_scale_follows_the_prediction() -> None:
    prediction, supervision = random_case(1)
    truth = supervision.truth
    torch.testing.assert_close(joint_scale(scaled(prediction, 7.0), truth), 7 * joint_scale(prediction, truth))


def test_half_relative_error_lies_between_absolute_and_relative() -> None:
    true = torch.tensor([[0.0, 0.0, 4.0], [0.0, 0.0, 0.25], [0.0, 0.0, 0.001]], dtype=torch.float64)
    error = half_relative_error(true + torch.tensor([0.1, 0.0, 0.0]), true)
    torch.testing.assert_close(error, torch.tensor([0.05, 0.2, 0.1 / 0.1**0.5], dtype=torch.float64))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [0.0, 1e-38, 1e-22, 1.0, 1e20, 1e37])
def test_length_is_right_and_its_gradient_a_direction_at_any_size(dtype: torch.dtype, size: float) -> None:
    vectors = (torch.tensor([[2.0, -3.0, 6.0], [1.0, 0.0, 0.0]], dtype=dtype) * size).requires_grad_()
    lengths = length(vectors)
    torch.testing.assert_close(lengths, torch.tensor([7.0, 1.0], dtype=dtype) * size, rtol=1e-5, atol=0)
    (gradient,) = torch.autograd.grad(lengths.sum(), vectors)
    expected = torch.tensor([[2 / 7, -3 / 7, 6 / 7], [1.0, 0.0, 0.0]], dtype=dtype) * (size > 0)
    torch.testing.assert_close(gradient, expected, rtol=1e-5, atol=1e-7)


def test_sparse_pairs_are_drowned_by_dense_ones_only_over_pixels() -> None:
    values, weights = torch.zeros(3, 10, 10), torch.zeros(3, 10, 10)
    weights[0] = 1
    values[1, 0, 0], weights[1, 0, 0] = 1.0, 1.0
    assert float(weighted_mean(values, weights, over="pixels")) == pytest.approx(1 / 101)
    assert float(weighted_mean(values, weights, over="pairs")) == pytest.approx(1 / 2), "the pair without labels is no pair"


@settings(deadline=None, max_examples=20)
@given(error=st.floats(1e-4, 10.0), alpha=st.floats(0.01, 1.0))
def test_best_confidence_is_the_price_over_the_error(error: float, alpha: float) -> None:
    def loss(confidence: float) -> float:
        full = torch.full((1, 1, 1), confidence, dtype=torch.float64)
        return float(confidence_weighted(torch.full_like(full, error), full, full > 0, alpha=alpha))

    best = max(1.0, alpha / error)
    assert loss(best) <= min(loss(best * 1.01), loss(max(1.0, best * 0.99)))
    assert loss(1.0) == pytest.approx(error), "at the least confidence the loss is the error itself"


def test_weight_counts_pixels_as_if_they_were_there_more_often() -> None:
    generator = torch.Generator().manual_seed(SEED)
    error, confidence = (torch.rand(2, 1, 3, generator=generator, dtype=torch.float64) + shift for shift in (0, 1))
    weight = torch.tensor([[[2.0, 1.0, 0.5]]] * 2, dtype=torch.float64)
    mask = torch.tensor([[[True, True, False]]] * 2)
    twice = [torch.cat([each, each[..., :1]], -1) for each in (error, confidence, mask)]
    found = confidence_weighted(error, confidence, mask, alpha=0.2, weight=weight)
    torch.testing.assert_close(found, confidence_weighted(*twice, alpha=0.2))


def test_what_is_not_labelled_may_be_anything() -> None:
    prediction, supervision = random_case(5)
    error, confidence = prediction.reconstruction.confidence - 1, prediction.tracking.confidence
    weight, mask = torch.ones_like(error), supervision.truth.tracking.valid
    spoiled = [torch.where(mask, each, float("nan")) for each in (error, confidence, weight)]
    found = confidence_weighted(spoiled[0], spoiled[1], mask, alpha=0.2, weight=spoiled[2])
    assert torch.equal(found, confidence_weighted(error, confidence, mask, alpha=0.2))


def test_gradients_are_exact() -> None:
    prediction, supervision = random_case(3)
    predicted, true = prediction.tracking.points_world.requires_grad_(), supervision.truth.tracking.points_world
    truth, mask = supervision.truth, supervision.truth.tracking.valid
    confidence = prediction.tracking.confidence.requires_grad_()
    weight = torch.rand(BATCH, HEIGHT, WIDTH, dtype=torch.float64)

    def as_maps(points: torch.Tensor) -> TwoPointmaps:
        return TwoPointmaps(Pointmap(points), Pointmap(points.flip(1)))

    check = torch.autograd.gradcheck
    assert check(length, (predicted,))
    assert check(lambda x: euclidean_error(x, true), (predicted,))
    assert check(lambda x: half_relative_error(x, true), (predicted,))
    assert check(lambda x: joint_scale(as_maps(x), truth), (predicted,))
    for over in ("pixels", "pairs"):
        assert check(lambda e: weighted_mean(e, weight, over=over), (confidence,))  # noqa: B023
    inputs = (weight.clone().requires_grad_(), confidence)
    assert check(lambda e, c: confidence_weighted(e, c, mask, alpha=0.2, weight=weight), inputs)


def test_missing_masks_are_named() -> None:
    prediction, supervision = random_case(4)
    with pytest.raises(ValueError, match="valid"):
        joint_scale(prediction, prediction)
    with pytest.raises(ValueError, match="valid"):
        objective(prediction, Supervision(prediction, supervision.anchor_points), PUBLISHED["paper"])
