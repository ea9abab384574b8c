import numpy as np
import pytest
import torch

from st4rtrack.model.checkpoint import load_model
from st4rtrack.model.config import MONOCULAR, ModelConfig
from st4rtrack.model.layers import attend
from st4rtrack.model.network import St4RTrack
from tests.formula import formula_image, formula_weights, save_official
from tests.seeds import SEED
from tests.shared_data import shared

SMALL = ModelConfig(
    encoder_width=32, encoder_depth=1, encoder_heads=2, decoder_width=32, decoder_depth=2, decoder_heads=2, head="conv"
)


@pytest.fixture(scope="module")
def released_small(tmp_path_factory: pytest.TempPathFactory) -> St4RTrack:
    weights = formula_weights(shared("oracle/model_small_keys.json"))
    path = save_official(tmp_path_factory.mktemp("official") / "small.pth", weights)
    return load_model(path, device="cpu", dtype="float32")


@pytest.mark.parametrize(("index", "height", "width"), [(0, 64, 96), (1, 96, 64), (2, 48, 80), (3, 64, 64)])
def test_agrees_with_the_released_implementation(released_small: St4RTrack, index: int, height: int, width: int) -> None:
    oracle = np.load(shared("oracle/model_small.npz"))
    with torch.inference_mode():
        out = released_small(formula_image(100 + 10 * index, height, width), formula_image(101 + 10 * index, height, width))
    for name, value in (
        ("tracking", out.tracking.points_world),
        ("tracking_conf", out.tracking.confidence),
        ("reconstruction", out.reconstruction.points_world),
        ("reconstruction_conf", out.reconstruction.confidence),
    ):
        expected = oracle[f"{height}x{width}/{name}"].squeeze()
        difference = np.abs(value.squeeze().numpy() - expected).max()
        assert difference <= 1e-4 * np.abs(expected).max(), name


def test_one_encoding_of_the_anchor_serves_many_frames(released_small: St4RTrack) -> None:
    anchor = formula_image(1, 48, 64)
    frames = torch.cat([formula_image(2, 48, 64), formula_image(3, 48, 64)])
    with torch.inference_mode():
        together = released_small.decode(released_small.encode(anchor), released_small.encode(frames))
        apart = released_small(anchor, frames[1:])
    torch.testing.assert_close(together.tracking.points_world[1:], apart.tracking.points_world, rtol=1e-4, atol=1e-5)


def test_both_attentions_give_the_same_numbers() -> None:
    query, key, value = torch.randn(3, 2, 4, 10, 16, generator=torch.Generator().manual_seed(SEED))
    torch.testing.assert_close(
        attend(query, key, value, fused=True), attend(query, key, value, fused=False), rtol=1e-5, atol=1e-6
    )


def test_shapes_types_and_gradients() -> None:
    torch.manual_seed(SEED)
    model = St4RTrack(SMALL)
    anchor, frame = torch.rand(2, 2, 3, 48, 32) * 2 - 1
    out = model(anchor, frame)
    for pointmap in (out.tracking, out.reconstruction):
        assert pointmap.points_world.shape == (2, 48, 32, 3)
        assert pointmap.confidence is not None and pointmap.confidence.shape == (2, 48, 32)
        assert pointmap.points_world.dtype == torch.float32
        assert (pointmap.confidence > 1).all()
    (out.tracking.points_world.sum() + out.reconstruction.points_world.sum() + out.tracking.confidence.sum()).backward()
    without = [name for name, p in model.named_parameters() if p.grad is None]
    assert not without


def test_bfloat16_weights_give_float32_points() -> None:
    model = St4RTrack(SMALL).to(torch.bfloat16)
    with torch.inference_mode():
        out = model(torch.zeros(1, 3, 32, 32), torch.zeros(1, 3, 32, 32))
    assert out.tracking.points_world.dtype == torch.float32
    assert out.tracking.confidence is not None and out.tracking.confidence.dtype == torch.float32


@pytest.mark.parametrize(
    ("anchor", "frame", "message"),
    [
        ((1, 3, 30, 32), (1, 3, 30, 32), "multiples of 16"),
        ((1, 3, 32, 32), (1, 3, 32, 48), "differ"),
        ((3, 32, 32), (3, 32, 32), "batch, 3"),
    ],
)
def test_wrong_shapes_are_named(anchor: tuple[int, ...], frame: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        St4RTrack(SMALL)(torch.zeros(anchor), torch.zeros(frame))


def test_hints_are_required_without_decoders() -> None:
    model = St4RTrack(MONOCULAR)
    tokens = model.encode(torch.zeros(1, 3, 32, 32))
    with pytest.raises(ValueError, match="hints"):
        model.decode(tokens, tokens)
