"""CoTracker behind the interface: a stand-in with its call signature."""

import importlib.util
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from st4rtrack.adapt.teachers.networks import open_cotracker
from st4rtrack.types import UserError

RGB = np.random.default_rng(0).integers(0, 255, (4, 32, 48, 3), np.uint8)
QUERY = np.array([[10.5, 8.5], [45.0, 20.0]])

PREDICTOR = """
import torch

class CoTrackerPredictor(torch.nn.Module):
    def __init__(self, checkpoint="./checkpoints/scaled_offline.pth", offline=True, v2=False, window_len=60):
        super().__init__()
        assert checkpoint is None and offline and not v2
        self.model = torch.nn.Linear(1, 2)

    def forward(self, video, queries=None, segm_mask=None, grid_size=0, grid_query_frame=0, backward_tracking=False):
        b, t, c, h, w = video.shape
        assert (b, c) == (1, 3) and video.max() > 1.5 and queries.shape[2] == 3
        assert backward_tracking == bool((queries[..., 0] > 0).any())
        since = torch.arange(t)[:, None] - queries[0, :, 0]
        tracks = queries[:, None, :, 1:] + since[None, ..., None] * self.model.bias
        return tracks, torch.ones(b, t, queries.shape[1], dtype=torch.bool)
"""


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A stand-in that moves every point by (2, 0) pixels a frame."""
    (tmp_path / "cotracker").mkdir()
    (tmp_path / "cotracker" / "__init__.py").touch()
    (tmp_path / "cotracker" / "predictor.py").write_text(PREDICTOR)
    (tmp_path / "checkpoints").mkdir()
    state = {"weight": torch.zeros(2, 1), "bias": torch.tensor([2.0, 0.0])}
    torch.save(state, tmp_path / "checkpoints" / "scaled_offline.pth")
    for name in ("cotracker", "cotracker.predictor"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield tmp_path
    for name in ("cotracker", "cotracker.predictor"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("anchor", [0, 2])
def test_cotracker_is_called_as_it_wants(checkout: Path, anchor: int, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        teacher = open_cotracker(checkout)
    assert "CC-BY-NC" in caplog.text
    found = teacher.tracks(RGB, QUERY, anchor)
    expected = QUERY + 2.0 * (np.arange(4) - anchor)[:, None, None] * (1, 0)
    np.testing.assert_allclose(found.tracks_px, expected, atol=1e-5)
    np.testing.assert_array_equal(found.visible, expected[..., 0] < 48)
    assert "CoTracker3" in found.name
    assert str(checkout) not in sys.path


def test_cotracker_in_a_hub_cache(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    hub = tmp_path_factory.mktemp("hub")
    (checkout / "checkpoints").rename(hub / "checkpoints")
    checkout.rename(hub / "facebookresearch_co-tracker_main")
    assert open_cotracker(hub).tracks(RGB, QUERY, 0).tracks_px.shape == (4, 2, 2)


def test_cotracker_without_what_it_needs_is_a_sentence(checkout: Path) -> None:
    weights = checkout / "checkpoints" / "scaled_offline.pth"
    if importlib.util.find_spec("cotracker") is None:
        with pytest.raises(UserError, match="could not import cotracker"):
            open_cotracker(weights).tracks(RGB, QUERY, 0)
    weights.write_bytes(b"damaged")
    with pytest.raises(UserError, match="not the checkpoint") as caught:
        open_cotracker(checkout).tracks(RGB, QUERY, 0)
    assert "\n" not in str(caught.value)
    weights.unlink()
    with pytest.raises(UserError, match="put the weights of the offline CoTracker3 there"):
        open_cotracker(checkout)
