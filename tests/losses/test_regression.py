import numpy as np
import pytest
import torch

from st4rtrack.losses.regression import anchored_regression, scale_invariant_regression
from st4rtrack.types import Pointmap, TwoPointmaps
from tests.shared_data import shared


def random_maps(seed: int, dtype: torch.dtype = torch.float64) -> tuple[TwoPointmaps, TwoPointmaps]:
    generator = torch.Generator().manual_seed(seed)

    def maps(*, truth: bool) -> TwoPointmaps:
        branches = []
        for _ in range(2):
            points = torch.randn(2, 4, 5, 3, generator=generator, dtype=dtype) + torch.tensor([0.0, 0.0, 4.0], dtype=dtype)
            confidence = 1 + torch.rand(2, 4, 5, generator=generator, dtype=dtype)
            valid = torch.rand(2, 4, 5, generator=generator) < 0.7
            branches.append(Pointmap(points, None if truth else confidence, valid if truth else None))
        return TwoPointmaps(*branches)

    return maps(truth=False), maps(truth=True)


def test_agrees_with_the_reference() -> None:
    oracle = {name: torch.from_numpy(np.asarray(value)) for name, value in np.load(shared("oracle/losses.npz")).items()}
    prediction = TwoPointmaps(
        *[Pointmap(oracle[f"pred_{name}"], oracle[f"conf_{name}"]) for name in ("tracking", "reconstruction")]
    )
    truth = TwoPointmaps(*[Pointmap(oracle[f"truth_{b}"], valid=oracle[f"mask_{b}"]) for b in ("tracking", "reconstruction")])
    parts = scale_invariant_regression(prediction, truth, alpha=float(oracle["alpha"]))
    assert float(parts.total) == pytest.approx(float(oracle["conf_loss"]), abs=1e-5)
    assert float(parts.tracking_error) == pytest.approx(float(oracle["l1_tracking"]), abs=1e-5)
    assert float(parts.reconstruction_error) == pytest.approx(float(oracle["l1_reconstruction"]), abs=1e-5)


def scaled(maps: TwoPointmaps, factor: float) -> TwoPointmaps:
    return TwoPointmaps(
        Pointmap(maps.tracking.points_world * factor, maps.tracking.confidence, maps.tracking.valid),
        Pointmap(maps.reconstruction.points_world * factor, maps.reconstruction.confidence, maps.reconstruction.valid),
    )


def test_scale_invariance_is_there_where_it_is_meant_to_be() -> None:
    prediction, truth = random_maps(0)
    unit = torch.full((2,), 4.0, dtype=torch.float64)
    invariant = scale_invariant_regression(prediction, truth).total
    torch.testing.assert_close(scale_invariant_regression(scaled(prediction, 3.0), truth).total, invariant)
    anchored = anchored_regression(prediction, truth, unit).total
    assert (anchored_regression(scaled(prediction, 3.0), truth, unit).total - anchored).abs() > 0.1
    torch.testing.assert_close(anchored_regression(prediction, scaled(truth, 2.0), unit * 2).total, anchored)


def test_pixels_without_truth_do_not_count() -> None:
    prediction, truth = random_maps(1)
    before = scale_invariant_regression(prediction, truth).total
    assert truth.tracking.valid is not None
    spoiled = torch.where(truth.tracking.valid[..., None], truth.tracking.points_world, 1e6)
    after = scale_invariant_regression(
        prediction, TwoPointmaps(Pointmap(spoiled, valid=truth.tracking.valid), truth.reconstruction)
    )
    torch.testing.assert_close(after.total, before)


def test_perfect_points_have_no_error_and_moving_ones_weigh_more() -> None:
    prediction, truth = random_maps(2)
    unit = torch.ones(2, dtype=torch.float64)
    perfect = TwoPointmaps(
        Pointmap(truth.tracking.points_world, prediction.tracking.confidence),
        Pointmap(truth.reconstruction.points_world, prediction.reconstruction.confidence),
    )
    parts = anchored_regression(perfect, truth, unit)
    assert float(parts.tracking_error) == 0 and float(parts.reconstruction_error) == 0
    moving = torch.zeros(2, 4, 5, dtype=torch.bool)
    moving[:, 1] = True
    wrong_where_moving = Pointmap(truth.tracking.points_world + moving[..., None] * 1.0, prediction.tracking.confidence)
    maps = TwoPointmaps(wrong_where_moving, perfect.reconstruction)
    plain = anchored_regression(maps, truth, unit).total
    assert anchored_regression(maps, truth, unit, moving=moving).total > plain


def test_gradients_are_exact() -> None:
    prediction, truth = random_maps(3)

    def loss(points: torch.Tensor, confidence: torch.Tensor) -> torch.Tensor:
        maps = TwoPointmaps(Pointmap(points, confidence), Pointmap(points.flip(1), confidence))
        return scale_invariant_regression(maps, truth).total + anchored_regression(maps, truth, torch.full((2,), 2.0)).total

    inputs = (prediction.tracking.points_world, prediction.tracking.confidence)
    assert torch.autograd.gradcheck(loss, tuple(x.detach().requires_grad_() for x in inputs))


def test_missing_masks_are_named() -> None:
    prediction, truth = random_maps(4)
    with pytest.raises(ValueError, match="valid"):
        scale_invariant_regression(truth, prediction)
