from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from st4rtrack.model.checkpoint import load_model
from st4rtrack.model.config import TINY
from st4rtrack.model.network import St4RTrack
from st4rtrack.train.config import PoolConfig, TrainConfig
from st4rtrack.train.loop import baselines, initialise, learning_rate, train, training_step, validation_batches
from st4rtrack.train.pool import PairPool, fill_pool, make_batch, render_shard
from st4rtrack.train.validate import validate_still

SMALL = replace(TINY, encoder_width=32, encoder_depth=1, encoder_heads=2, decoder_width=32, decoder_depth=1, decoder_heads=2)
POOL = PoolConfig(pairs=4, shard_pairs=2, sizes=((48, 64), (64, 48)), compile=False, seed=5)


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pool")
    fill_pool(folder, POOL)
    return folder


def test_a_shard_comes_from_its_seed() -> None:
    a, b, c = (render_shard(POOL, seed, 48, 64) for seed in (1, 1, 2))
    np.testing.assert_array_equal(a, b)
    assert (a["rgb"] != c["rgb"]).any()


def test_a_pool_that_was_stopped_goes_on(pool: Path, tmp_path: Path) -> None:
    (tmp_path / "000000.npy").write_bytes((pool / "000000.npy").read_bytes())
    before = (tmp_path / "000000.npy").stat().st_mtime_ns
    fill_pool(tmp_path, POOL)
    assert (tmp_path / "000000.npy").stat().st_mtime_ns == before
    assert (tmp_path / "000001.npy").read_bytes() == (pool / "000001.npy").read_bytes()


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("anchor", [0, 1])
def test_truth_and_hints_of_a_batch_fit_together(mirror: bool, anchor: int) -> None:
    """Where things stand still, tracking truth at the anchor's pixel is the anchor's own point; and the classical camera has the true
    turn, so that reconstruction truth seen through it stays in front."""
    records = render_shard(replace(POOL, shard_pairs=4), 11, 96, 128)
    batch = make_batch(records, np.full(4, anchor), np.zeros(4, bool), mirror=mirror)
    still = ~batch.moving
    error = (batch.truth.tracking.points_world - batch.own_points).norm(dim=-1)
    assert error[still].max() < 0.02
    rays = batch.own_points[..., :2] / batch.own_points[..., 2:]
    assert (rays[:, :, 0, 0] < 0).all() and (rays[:, :, -1, 0] > 0).all()
    warped = torch.nn.functional.l1_loss(batch.anchor_images, batch.frame_images)
    assert batch.hints.anchor_maps[:, 5:8].mean() < warped


def test_pairs_of_an_anchor_with_itself_do_not_move() -> None:
    records = render_shard(POOL, 3, 48, 64)
    batch = make_batch(records, np.array([0, 1]), np.ones(2, bool), mirror=False)
    assert torch.equal(batch.anchor_images, batch.frame_images)
    assert torch.equal(batch.truth.tracking.points_world, batch.own_points)
    assert not batch.moving.any() and not batch.hints.forward_flow.any()


def test_training_from_a_pool_goes_on_where_it_stopped(pool: Path, tmp_path: Path) -> None:
    config = TrainConfig(steps=4, batch_size=2, validate_every=4, save_every=2, warmup_steps=1)
    train(SMALL, config, pool=pool, validation=pool, output=tmp_path)
    first = torch.load(tmp_path / "state.pt", weights_only=True)
    score = train(SMALL, replace(config, steps=40), pool=pool, validation=pool, output=tmp_path)
    second = torch.load(tmp_path / "state.pt", weights_only=True)
    assert (first["step"], second["step"]) == (4, 40)
    assert second["pairs"] == 80
    scores = [line for line in (tmp_path / "log.jsonl").read_text().splitlines() if line]
    assert len(scores) == 10
    assert np.isfinite(score.tracking_epe)
    model = load_model(tmp_path / "model.safetensors", device="cpu", dtype="float32")
    assert model.config == SMALL


def test_one_batch_is_learnt_by_heart() -> None:
    records = render_shard(POOL, 7, 48, 64)
    batch = make_batch(records, np.zeros(2, int), np.zeros(2, bool), mirror=False)
    torch.manual_seed(0)
    model = St4RTrack(SMALL)
    initialise(model)
    config = TrainConfig(learning_rate=2e-3)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    first = training_step(model, optimizer, batch, config)
    for _ in range(60):
        last = training_step(model, optimizer, batch, config)
    assert last.tracking_error < 0.6 * first.tracking_error
    assert last.reconstruction_error < 0.6 * first.reconstruction_error


def test_a_loss_that_is_not_finite_stops_and_keeps_the_weights() -> None:
    records = render_shard(POOL, 7, 48, 64)
    batch = make_batch(records, np.zeros(2, int), np.zeros(2, bool), mirror=False)
    batch.truth.tracking.points_world[0, 0, 0] = torch.nan
    model = St4RTrack(SMALL)
    before = [p.clone() for p in model.parameters()]
    with pytest.raises(FloatingPointError):
        training_step(model, torch.optim.AdamW(model.parameters()), batch, TrainConfig())
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_baselines_are_what_they_say(pool: Path) -> None:
    scores = baselines(pool, pool)
    assert scores["mean pointmap"].tracking_epe > 0.1
    batches = validation_batches(pool)
    for batch in batches:
        batch.truth.tracking.points_world[:] = batch.own_points
        batch.truth.reconstruction.points_world[:] = batch.own_points
    assert validate_still(batches).tracking_epe < 1e-5


def test_the_rate_warms_up_and_decays() -> None:
    config = TrainConfig(steps=100, warmup_steps=10)
    rates = [learning_rate(step, config) for step in range(101)]
    assert rates[0] < rates[9] == config.learning_rate
    assert all(a >= b for a, b in pairwise(rates[10:]))
    assert rates[-1] == pytest.approx(config.final_learning_rate)


def test_draws_wait_for_nothing_and_have_the_asked_size(pool: Path) -> None:
    draws = PairPool(pool, seed=0, still_share=0.5)
    sizes = {tuple(draws.draw(2).anchor_images.shape) for _ in range(20)}
    assert sizes == {(2, 3, 48, 64), (2, 3, 64, 48)}
