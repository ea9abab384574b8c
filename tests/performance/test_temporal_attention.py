"""Attention over time, around the embedded network: nothing at the start, then information from other frames."""

import sys
from pathlib import Path

import pytest
import torch

from st4rtrack.model.checkpoint import load_model
from st4rtrack.model.hints import Hints
from st4rtrack.model.network import St4RTrack
from st4rtrack.types import TwoPointmaps

sys.path.append(str(Path(__file__).parents[2] / "performance"))

from temporal_attention import TimeAttention, add_time, decode_window

FRAMES = 4


@pytest.fixture
def model() -> St4RTrack:
    """The embedded network, a fresh copy."""
    return load_model(device="cpu", dtype="float32").eval()


@pytest.fixture
def window(model: St4RTrack) -> tuple[torch.Tensor, Hints]:
    """Images of noise [1 + FRAMES, 3, 48, 64], the first the anchor, and their hints."""
    images = torch.rand(1 + FRAMES, 3, 48, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    hints = model.hints(images[:1], images[1:])
    assert hints is not None
    return images, hints


@torch.no_grad()
def decoded(model: St4RTrack, window: tuple[torch.Tensor, Hints]) -> TwoPointmaps:
    images, hints = window
    return decode_window(model, model.encode(images[:1]), model.encode(images[1:]), hints)[0]


def test_a_window_is_decoded_as_its_pairs_are(model: St4RTrack, window: tuple[torch.Tensor, Hints]) -> None:
    images, hints = window
    with torch.no_grad():
        pairs = model.decode(model.encode(images[:1]), model.encode(images[1:]), hints)
    maps = decoded(model, window)
    torch.testing.assert_close(maps.reconstruction.points_world, pairs.reconstruction.points_world, atol=1e-5, rtol=1e-5)
    # the anchor's content is that of the window's first pair; pairs that were looked at alone each have their own
    torch.testing.assert_close(maps.tracking.points_world[0], pairs.tracking.points_world[0], atol=1e-5, rtol=1e-5)


def test_time_that_has_learnt_nothing_changes_no_bit(model: St4RTrack, window: tuple[torch.Tensor, Hints]) -> None:
    before = decoded(model, window)
    new = add_time(model)
    after = decoded(model, window)
    assert len(new) == 2 * model.config.decoder_depth * 6
    for branch in ("tracking", "reconstruction"):
        assert torch.equal(getattr(after, branch).points_world, getattr(before, branch).points_world)
        assert torch.equal(getattr(after, branch).confidence, getattr(before, branch).confidence)


def test_the_zero_projection_learns(model: St4RTrack, window: tuple[torch.Tensor, Hints]) -> None:
    new = add_time(model)
    images, hints = window
    maps, _ = decode_window(model, model.encode(images[:1]), model.encode(images[1:]), hints)
    maps.tracking.points_world.sum().backward()
    assert any(parameter.grad is not None and parameter.grad.abs().max() > 0 for parameter in new)


def learnt_attention() -> TimeAttention:
    torch.manual_seed(1)
    attention = TimeAttention(24, 3)
    torch.nn.init.normal_(attention.attention.out.weight)
    return attention.eval()


def test_tokens_see_their_own_patch_in_other_frames_only() -> None:
    attention, x = learnt_attention(), torch.randn(FRAMES, 5, 24, generator=torch.Generator().manual_seed(2))
    changed = x.clone()
    changed[3, 2] += torch.randn(24, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        differs = (attention(changed) - attention(x)).abs().amax(-1) > 1e-6
    assert differs[:, 2].all()
    assert not differs[:, [0, 1, 3, 4]].any()


def test_only_the_offset_in_time_counts_and_a_frame_alone_is_left_as_it_is() -> None:
    attention = learnt_attention()
    x = torch.randn(2, 1, 24, generator=torch.Generator().manual_seed(4)).expand(-1, 3, -1)
    with torch.no_grad():
        swapped = attention(x.flip(0)).flip(0)
        assert torch.equal(attention(x[:1]), x[:1])
        # backwards in time is not the same as forwards: the offset has a sign
        assert (swapped - attention(x)).abs().max() > 1e-4
        cosines, _ = attention.rope((FRAMES, 1), x.device)
    assert cosines[:, : cosines.shape[1] // 2].std(0).min() > 0  # one half turns with time
    assert (cosines[:, cosines.shape[1] // 2 :] == 1).all()  # the other does not
