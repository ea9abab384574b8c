from dataclasses import FrozenInstanceError, replace
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from st4rtrack.losses.objective import PUBLISHED, LossConfig, Supervision, objective
from st4rtrack.types import Pointmap, TwoPointmaps, UserError
from tests.losses.maps import from_leaves, gradients, leaves, perfect, random_case, scaled

FULL = {"motion_weight": 2.0, "moving_weight": 3.0}
NORMALIZATIONS = ("joint", "anchored")
CONFIGS = {
    **PUBLISHED,
    **{f"all of it, {n}, {e}": LossConfig(n, e, **FULL) for n, e in product(NORMALIZATIONS, ("euclidean", "half_relative"))},
}
every_config = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)


def total(maps: TwoPointmaps, supervision: Supervision, config: LossConfig) -> torch.Tensor:
    """With the anchor's points predicted where the tracking branch of the first pair of each clip has them."""
    frames = supervision.frames_per_clip
    anchor_points = maps.tracking.points_world[::frames].repeat_interleave(frames, dim=0)
    return objective(maps, supervision, config, predicted_anchor=Pointmap(anchor_points, maps.tracking.confidence)).total


def as_clips(supervision: Supervision) -> Supervision:
    """The first pair of each clip is (anchor, anchor)."""
    frames = supervision.frames_per_clip
    anchor_points = supervision.truth.tracking.points_world[::frames].repeat_interleave(frames, dim=0)
    return replace(supervision, anchor_points=anchor_points)


@every_config
def test_gradients_are_exact(config: LossConfig) -> None:
    prediction, supervision = random_case()
    points = (prediction.tracking.points_world, prediction.reconstruction.points_world)
    inputs = leaves(prediction)
    if config.reweighting == "none":
        assert torch.autograd.gradcheck(lambda *x: total(from_leaves(x), supervision, config), inputs, fast_mode=True)
        return

    def of_points(tracking: torch.Tensor, reconstruction: torch.Tensor) -> torch.Tensor:
        # not by confidence: what moves gets a constant, made of the confidence of what does not
        maps = Pointmap(tracking, prediction.tracking.confidence), Pointmap(reconstruction, prediction.reconstruction.confidence)
        return total(TwoPointmaps(*maps), supervision, config)

    assert torch.autograd.gradcheck(of_points, tuple(p.clone().requires_grad_() for p in points), fast_mode=True)


@every_config
def test_truth_has_the_least_loss(config: LossConfig) -> None:
    prediction, supervision = random_case(1)
    supervision = as_clips(supervision)
    supervision.unit = supervision.unit[::2].repeat_interleave(2)
    scale = 1 / supervision.unit if config.normalization == "anchored" else 1.0
    exact = perfect(supervision, scale=scale)
    parts = objective(exact, supervision, replace(config, reweighting="none", motion_weight=0, anchor_weight=0))
    assert abs(float(parts.total)) < 1e-12 and parts.tracking_error < 1e-12 and parts.reconstruction_error < 1e-12
    least, pull = gradients(lambda m: total(m, supervision, config), exact)
    assert all(g.isfinite().all() for g in pull)
    for branch in ("tracking", "reconstruction"):
        worse = perfect(supervision, scale=scale)
        wrong = getattr(worse, branch)
        wrong.points_world = wrong.points_world + 0.1 * getattr(prediction, branch).points_world
        assert total(worse, supervision, config) > least


@pytest.mark.parametrize("factor", [1e-3, 3.0, 1e4])
@every_config
def test_a_global_scale_matters_where_it_is_meant_to(config: LossConfig, factor: float) -> None:
    prediction, supervision = random_case(2)
    before, after = (total(maps, supervision, config) for maps in (prediction, scaled(prediction, factor)))
    if config.normalization == "anchored":
        assert (after - before).abs() > 0.1
    else:
        torch.testing.assert_close(after, before)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_the_unit_of_the_truth_does_not_matter(normalization: str) -> None:
    prediction, supervision = random_case(3)
    config = LossConfig(normalization, "half_relative", reweighting="pair", **FULL)
    in_feet = Supervision(
        scaled(supervision.truth, 3.28),
        supervision.anchor_points * 3.28,
        supervision.moving,
        supervision.frames_per_clip,
        supervision.unit * 3.28,
    )
    torch.testing.assert_close(total(prediction, in_feet, config), total(prediction, supervision, config))


@pytest.mark.parametrize("spoil", [float("nan"), float("inf"), 1e30])
@every_config
def test_pixels_without_labels_never_matter(config: LossConfig, spoil: float) -> None:
    prediction, supervision = random_case(6)
    config = replace(config, motion_weight=0, anchor_weight=0)
    before = gradients(lambda m: total(m, supervision, config), prediction)
    pairs = [(getattr(prediction, name), getattr(supervision.truth, name)) for name in ("tracking", "reconstruction")]
    masks = []
    for predicted, true in pairs:
        masks.append(true.valid)
        predicted.points_world = torch.where(true.valid[..., None], predicted.points_world, spoil)
        predicted.confidence = torch.where(true.valid, predicted.confidence, spoil)
        true.points_world = torch.where(true.valid[..., None], true.points_world, spoil)
    supervision.anchor_points = torch.where(masks[0][..., None], supervision.anchor_points, spoil)
    after = gradients(lambda m: total(m, supervision, config), prediction)
    torch.testing.assert_close(after, before, rtol=0, atol=0)
    assert not any(g[~m].any() for g, m in zip(after[1], (masks[0], masks[0], masks[1], masks[1]), strict=True))


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_motion_of_pixels_without_labels_never_matters(normalization: str) -> None:
    prediction, supervision = random_case(7)
    config = LossConfig(normalization, motion_weight=1.0)
    seen = supervision.moving & supervision.truth.tracking.valid
    anchor_points = prediction.tracking.points_world.flip(0)

    def loss(maps: TwoPointmaps, hidden: torch.Tensor | float) -> torch.Tensor:
        anchor = Pointmap(anchor_points + hidden, maps.tracking.confidence)
        return objective(maps, supervision, config, predicted_anchor=anchor).total

    before = gradients(lambda m: loss(m, 0.0), prediction)
    hidden = torch.where(seen[..., None], 0.0, float("nan"))
    supervision.anchor_points = supervision.anchor_points + hidden
    torch.testing.assert_close(gradients(lambda m: loss(m, hidden), prediction), before, rtol=0, atol=0)


def test_the_anchor_term_does_not_see_pixels_without_labels() -> None:
    prediction, supervision = random_case(8)
    config = LossConfig(anchor_weight=1.0)
    seen = supervision.truth.tracking.valid

    def loss(maps: TwoPointmaps, hidden: torch.Tensor | float) -> torch.Tensor:
        anchor = Pointmap(maps.tracking.points_world.flip(0) + hidden, maps.tracking.confidence)
        return objective(maps, supervision, config, predicted_anchor=anchor).total

    before = loss(prediction, 0.0)
    hidden = torch.where(seen[..., None], 0.0, float("nan"))
    supervision.anchor_points = supervision.anchor_points + hidden
    torch.testing.assert_close(loss(prediction, hidden), before, rtol=0, atol=0)


@every_config
def test_nothing_labelled_is_no_loss(config: LossConfig) -> None:
    prediction, supervision = random_case(8, labelled=0.0)
    value, pull = gradients(lambda m: total(m, supervision, config), prediction)
    assert float(value) == 0 and not any(g.any() for g in pull)


@settings(deadline=None, max_examples=60)
@given(
    predicted=st.integers(-40, 18),
    true=st.integers(-40, 18),
    name=st.sampled_from(sorted(CONFIGS)),
    labelled=st.sampled_from([0.05, 1.0]),
    margin=st.sampled_from([0.0, 1e-7, 1.0, 1e10]),
)
def test_gradients_are_finite_whenever_the_loss_is(predicted: int, true: int, name: str, labelled: float, margin: float) -> None:
    prediction, supervision = random_case(9, torch.float32, labelled=labelled)
    supervision = replace(supervision, truth=scaled(supervision.truth, 10.0**true), unit=supervision.unit * 10.0**true)
    prediction = scaled(prediction, 10.0**predicted)
    for each in (prediction.tracking, prediction.reconstruction):
        each.confidence = 1 + (each.confidence - 1) * margin
    value, pull = gradients(lambda m: total(m, supervision, CONFIGS[name]), prediction)
    assert not value.isfinite() or all(g.isfinite().all() for g in pull)
    if predicted > -30 and true > -30 and margin <= 1:
        assert value.isfinite()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@every_config
def test_half_precision_is_computed_in_float32(config: LossConfig, dtype: torch.dtype) -> None:
    prediction, supervision = random_case(10, torch.float32)
    half = from_leaves(tuple(leaf.detach().to(dtype) for leaf in leaves(prediction)))
    single = from_leaves(tuple(leaf.detach().to(dtype).float() for leaf in leaves(prediction)))
    config = replace(config, motion_weight=0, anchor_weight=0)
    found = total(half, supervision, config)
    assert found.dtype == torch.float32
    assert torch.equal(found, total(single, supervision, config))


def test_moving_pixels_count_more() -> None:
    _, supervision = random_case(11)
    supervision.unit = torch.ones_like(supervision.unit)
    wrong = perfect(supervision)
    wrong.tracking.points_world = wrong.tracking.points_world + supervision.moving[..., None]
    plain, weighted = (objective(wrong, supervision, LossConfig("anchored", moving_weight=w)).total for w in (1.0, 3.0))
    valid, moving = supervision.truth.tracking.valid, supervision.truth.tracking.valid & supervision.moving
    share = moving.sum() / valid.sum()
    torch.testing.assert_close(plain, 3**0.5 * share.double())
    torch.testing.assert_close(weighted, 3**0.5 * 3 * share.double() / (1 + 2 * share))


def test_moving_pixels_of_the_anchor_do_not_count_more_in_the_frame() -> None:
    prediction, supervision = random_case(15)
    configs = [LossConfig("anchored", moving_weight=weight) for weight in (1.0, 3.0)]
    pulls = [gradients(lambda maps: objective(maps, supervision, c).total, prediction)[1] for c in configs]  # noqa: B023
    torch.testing.assert_close(pulls[0][2:], pulls[1][2:], rtol=0, atol=0)


def test_terms_add_up_and_are_reported() -> None:
    prediction, supervision = random_case(12)
    anchor = Pointmap(prediction.tracking.points_world.flip(0), prediction.tracking.confidence)

    def parts(**weights: float):
        return objective(prediction, supervision, LossConfig(**weights), predicted_anchor=anchor)

    plain, motion = parts(), parts(motion_weight=1.0)
    assert plain.motion_error is None and motion.motion_error > 0
    torch.testing.assert_close(motion.total - plain.total, motion.motion_error)
    double = parts(motion_weight=2.0)
    torch.testing.assert_close(double.total, plain.total + 2 * motion.motion_error)
    assert not any(t.requires_grad for t in (double.tracking_error, double.motion_error))


def test_mistakes_are_named() -> None:
    prediction, supervision = random_case(14)
    with pytest.raises(ValueError, match="unit"):
        objective(prediction, replace(supervision, unit=None), PUBLISHED["tiny"])
    with pytest.raises(ValueError, match="predicted_anchor"):
        objective(prediction, supervision, LossConfig(motion_weight=1.0))
    with pytest.raises(ValueError, match="predicted_anchor"):
        objective(prediction, supervision, LossConfig(anchor_weight=1.0))
    with pytest.raises(UserError, match="masks of dynamic pixels"):
        objective(prediction, replace(supervision, moving=None), PUBLISHED["tiny"])
    with pytest.raises(ValueError, match="clips of 3 frames"):
        objective(prediction, replace(supervision, frames_per_clip=3), PUBLISHED["seq-reweight"])
    with pytest.raises(UserError, match="reweighting of the loss must be one of none, clip, pair, got sequence"):
        LossConfig(reweighting="sequence")  # pyright: ignore[reportArgumentType]
    with pytest.raises(UserError, match="alpha"):
        LossConfig(alpha=-0.2)
    with pytest.raises(FrozenInstanceError):
        PUBLISHED["paper"].alpha = 1.0  # pyright: ignore[reportAttributeAccessIssue]


def test_the_anchor_term_is_the_tracking_loss_of_the_anchors_own_points() -> None:
    prediction, supervision = random_case(15)
    config = LossConfig(normalization="anchored", error="half_relative", moving_weight=3.0)
    own_truth = Pointmap(supervision.anchor_points, valid=supervision.truth.tracking.valid)
    still = replace(supervision, truth=TwoPointmaps(own_truth, supervision.truth.reconstruction))
    anchors = [Pointmap(prediction.tracking.points_world + far, prediction.tracking.confidence) for far in (0.1, 0.7)]
    as_term = [objective(prediction, supervision, replace(config, anchor_weight=2.0), predicted_anchor=a).total for a in anchors]
    as_tracking = [objective(TwoPointmaps(a, prediction.reconstruction), still, config).total for a in anchors]
    torch.testing.assert_close(as_term[1] - as_term[0], 2 * (as_tracking[1] - as_tracking[0]))
    assert as_term[1] != as_term[0]
