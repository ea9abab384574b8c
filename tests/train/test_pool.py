"""Cached pairs: the same from the same seed, and truth and hints that belong together."""

from pathlib import Path

import numpy as np
import pytest
import torch

from st4rtrack.train.config import PoolConfig
from st4rtrack.train.pool import fill_pool, from_records, render_shard

POOL = PoolConfig(pairs=16, shard_pairs=8, clip_frames=3, pairs_per_anchor=2, sizes=((48, 64), (64, 48)), compile=False, seed=5)


def test_a_shard_comes_from_its_seed() -> None:
    np.testing.assert_array_equal(*(render_shard(POOL, 1, 48, 64) for _ in range(2)))


def test_a_pool_that_was_stopped_goes_on(tmp_path: Path) -> None:
    fill_pool(tmp_path / "whole", POOL)
    (tmp_path / "parts").mkdir()
    first = tmp_path / "parts" / "000000.npy"
    first.write_bytes((tmp_path / "whole" / "000000.npy").read_bytes())
    before = first.stat().st_mtime_ns
    fill_pool(tmp_path / "parts", POOL)
    assert first.stat().st_mtime_ns == before
    assert (tmp_path / "parts" / "000001.npy").read_bytes() == (tmp_path / "whole" / "000001.npy").read_bytes()


@pytest.fixture(scope="module")
def records() -> np.ndarray:
    return render_shard(POOL, 11, 96, 128)


@pytest.mark.parametrize("mirror", [False, True])
def test_truth_and_hints_of_a_batch_fit_together(records: np.ndarray, mirror: bool) -> None:
    """Where things stand still, tracking truth at the anchor's pixel is the anchor's own point; points lie on their side of the image;
    and the flow leads to what looks alike."""
    examples = from_records(records, mirror=mirror)
    supervision, truth, (anchors, frames) = examples.supervision, examples.supervision.truth, examples.images.chunk(2)
    valid = truth.tracking.valid
    assert valid is not None
    error = (truth.tracking.points_world - supervision.anchor_points).norm(dim=-1)
    assert error[valid & ~supervision.moving].max() < 0.02
    rays = supervision.anchor_points[..., 0] / supervision.anchor_points[..., 2].clamp(min=1e-6)
    assert (rays[:, :, 0][valid[:, :, 0]] < 0).all() and (rays[:, :, -1][valid[:, :, -1]] > 0).all()
    warped = torch.nn.functional.l1_loss(anchors, frames)
    assert examples.hints.anchor_maps[:, 5:8].mean() < warped


def test_pairs_of_an_anchor_with_itself_do_not_move(records: np.ndarray) -> None:
    examples = from_records(records, still=True)
    supervision, truth, (anchors, frames) = examples.supervision, examples.supervision.truth, examples.images.chunk(2)
    assert torch.equal(anchors, frames)
    assert torch.equal(truth.tracking.points_world, supervision.anchor_points)
    assert not supervision.moving.any() and not examples.hints.forward_flow.any()
