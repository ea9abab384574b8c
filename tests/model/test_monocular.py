"""EfficientNet encoder and monocular head."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from st4rtrack.model.checkpoint import load_model, load_monocular, save_model
from st4rtrack.model.config import MONOCULAR, TINY, ModelConfig
from st4rtrack.model.efficientnet import BATCH_NORM_EPS, LEVEL_CHANNELS, EfficientNetLite0, from_imagenet
from st4rtrack.model.encoder import PyramidEncoder
from st4rtrack.model.monocular import MonocularNetwork, new_monocular
from st4rtrack.model.network import St4RTrack
from st4rtrack.pipeline.pointmaps import TokenFile
from st4rtrack.types import UserError

SMALL = replace(MONOCULAR, encoder_width=16, decoder_width=16, decoder_depth=1, decoder_heads=2, pyramid_width=8)
NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def package_shapes() -> dict[str, tuple[int, ...]]:
    """Names and shapes in `efficientnet-lite0-57934424.pth`, from the table of the paper."""
    shapes: dict[str, tuple[int, ...]] = {}

    def add(convolution: str, norm: str, shape: tuple[int, ...]) -> None:
        shapes[f"{convolution}.weight"] = shape
        shapes.update({f"{norm}.{name}": () if name == "num_batches_tracked" else shape[:1] for name in NORM})

    add("_conv_stem", "_bn0", (32, 3, 3, 3))
    rows = [(32, 16, 3), (16, 24, 3), (24, 24, 3), (24, 40, 5), (40, 40, 5), (40, 80, 3), (80, 80, 3), (80, 80, 3)]
    rows += [(80, 112, 5), (112, 112, 5), (112, 112, 5), (112, 192, 5), *[(192, 192, 5)] * 3, (192, 320, 3)]
    for number, (channels, out_channels, kernel) in enumerate(rows):
        block, wide = f"_blocks.{number}.", channels * (6 if number else 1)
        if number:
            add(f"{block}_expand_conv", f"{block}_bn0", (wide, channels, 1, 1))
        add(f"{block}_depthwise_conv", f"{block}_bn1", (wide, 1, kernel, kernel))
        add(f"{block}_project_conv", f"{block}_bn2", (out_channels, wide, 1, 1))
    add("_conv_head", "_bn1", (1280, 320, 1, 1))
    return shapes | {"_fc.weight": (1000, 1280), "_fc.bias": (1000,)}


class Recorded(dict[str, torch.Tensor]):
    """Weights that record which were read."""

    def __init__(self, weights: dict[str, torch.Tensor]) -> None:
        super().__init__(weights)
        self.names: set[str] = set()

    def __getitem__(self, name: str) -> torch.Tensor:
        self.names.add(name)
        return super().__getitem__(name)


def test_imagenet_key_map_package_names_reads_all_but_the_classifier() -> None:
    shapes = package_shapes()
    assert len(shapes) == 296
    weights = Recorded({name: torch.rand(shape) + 0.5 for name, shape in shapes.items()})
    state = from_imagenet(weights)
    EfficientNetLite0().load_state_dict(state)  # every name and shape
    classifier = {name for name in shapes if name.startswith(("_conv_head", "_bn1", "_fc"))}
    assert weights.names == {name for name in set(shapes) - classifier if not name.endswith("num_batches_tracked")}


def test_imagenet_weights_folded_equal_batch_normalisation() -> None:
    torch.manual_seed(0)
    weights = {name: torch.rand(shape) + 0.5 for name, shape in package_shapes().items()}
    network = EfficientNetLite0()
    network.load_state_dict(from_imagenet(weights))
    images = torch.randn(2, 3, 16, 20)
    padded = F.pad(images, (0, 1, 0, 1))  # TensorFlow's SAME for even sides
    raw = F.conv2d(padded, weights["_conv_stem.weight"], stride=2)
    mean, variance, gain, bias = (weights[f"_bn0.{name}"] for name in ("running_mean", "running_var", "weight", "bias"))
    expected = F.batch_norm(raw, mean, variance, gain, bias, eps=BATCH_NORM_EPS)
    torch.testing.assert_close(network.stem(images), expected)


@pytest.mark.parametrize("size", [(64, 96), (48, 80)])
def test_pyramid_encoder_any_multiple_of_16_gives_levels_and_tokens(size: tuple[int, int]) -> None:
    tokens = PyramidEncoder(SMALL)(torch.rand(2, 3, *size))
    assert tokens.grid == (size[0] // 16, size[1] // 16)
    assert tokens.features.shape == (2, tokens.grid[0] * tokens.grid[1], SMALL.encoder_width)
    strides = (2, 4, 8, 16, 32)
    channels = (LEVEL_CHANNELS[0], *(SMALL.pyramid_width,) * 4)
    expected = [(2, c, -(-size[0] // s), -(-size[1] // s)) for c, s in zip(channels, strides, strict=True)]
    assert [tuple(level.shape) for level in tokens.levels] == expected


def test_pyramid_encoder_kernels_below_stride_8_only() -> None:
    """bfloat16 convolutions with kernel = stride >= 8 are wrong on some processors."""
    kernels = [max(m.stride) for m in MonocularNetwork(SMALL).modules() if isinstance(m, torch.nn.Conv2d)]
    assert max(kernels) < 8


def test_monocular_network_random_images_gives_finite_positive_depth() -> None:
    network = new_monocular(SMALL, seed=0)
    found = network(torch.rand(2, 3, 48, 64) * 2 - 1)
    assert found.log_depth.shape == found.log_error.shape == (2, 48, 64)
    assert found.log_focal.shape == found.log_focal_error.shape == (2,)
    for value in (found.log_depth, found.log_error, found.log_focal, found.log_focal_error):
        assert value.dtype == torch.float32 and bool(value.exp().isfinite().all()) and bool((value.exp() > 0).all())


def test_monocular_network_wrong_size_raises() -> None:
    with pytest.raises(ValueError, match="multiples of 16"):
        new_monocular(SMALL, seed=0)(torch.rand(1, 3, 40, 64))


def test_load_monocular_half_precision_file_gives_the_same_depth(tmp_path: Path) -> None:
    network = new_monocular(SMALL, seed=0).half().float()
    save_model(network, tmp_path / "mono.safetensors", dtype=torch.float16)
    loaded = load_monocular(tmp_path / "mono.safetensors", device="cpu")
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float32}
    images = torch.rand(1, 3, 32, 48)
    torch.testing.assert_close(loaded(images).log_depth, network(images).log_depth)


def test_load_monocular_whole_network_gives_the_depth_of_its_head(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = St4RTrack(SMALL).eval()
    save_model(network, tmp_path / "whole.safetensors")
    loaded = load_monocular(tmp_path / "whole.safetensors", device="cpu")
    images = torch.rand(1, 3, 32, 48)
    torch.testing.assert_close(loaded(images).log_depth, network.monocular(network.encode(images)).log_depth)
    assert load_model(tmp_path / "whole.safetensors", device="cpu", dtype="float32").config == SMALL


def test_load_monocular_without_head_raises(tmp_path: Path) -> None:
    save_model(St4RTrack(TINY), tmp_path / "pair.safetensors")
    with pytest.raises(UserError, match="no monocular depth head"):
        load_monocular(tmp_path / "pair.safetensors")


def test_network_with_pyramid_pair_gives_finite_points_and_reads_kept_tokens() -> None:
    torch.manual_seed(0)
    network = St4RTrack(SMALL).eval()
    images = torch.rand(2, 3, 48, 64) * 2 - 1
    with torch.inference_mode():
        tokens, hints = network.encode(images), network.hints(images[:1], images)
        expected = network.decode(tokens.map(lambda x: x[:1]), tokens, hints)
        kept = TokenFile(4)
        kept.keep([3, 1], tokens)
        anchor, frames = kept.find([3]), kept.find([3, 1])
        assert anchor is not None and frames is not None
        found = network.decode(anchor, frames, hints)
    assert bool(expected.tracking.points_world.isfinite().all())
    torch.testing.assert_close(found.tracking.points_world, expected.tracking.points_world)
    torch.testing.assert_close(found.reconstruction.points_world, expected.reconstruction.points_world)


def test_config_without_encoder_option_loads_as_vit() -> None:
    values = {key: value for key, value in TINY.to_dict().items() if key not in ("encoder", "pyramid_width", "monocular")}
    assert ModelConfig.from_dict(values) == TINY
    assert TINY.size_multiple == MONOCULAR.size_multiple == 16


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"encoder": "resnet"}, "encoder must be"),
        ({"encoder": "vit", "encoder_heads": 2, "monocular": True}, "monocular head needs"),
        ({"head": "conv"}, "no longer supported; run this checkpoint with st4rtrack 0.1.0 at commit"),
        ({"head": "conv", "hints": False}, "needs the head 'monocular'"),
    ],
)
def test_config_impossible_encoder_raises(change: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        ModelConfig.from_dict(SMALL.to_dict() | change)
