"""Patch embeddings, and convolutions that oneDNN computes wrongly in bfloat16 on some CPUs."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

import st4rtrack
from st4rtrack.model.config import LARGE, TINY, ModelConfig
from st4rtrack.model.layers import PatchEmbed
from st4rtrack.model.network import St4RTrack
from tests.seeds import SEED

SOURCES = sorted(Path(st4rtrack.__file__).parent.rglob("*.py"))
CONFIGS = {
    "tiny": TINY,
    "patches of 8": ModelConfig(**{**TINY.to_dict(), "patch_size": 8}),
    "large": LARGE,
}
Convolution = nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d


def networks() -> Iterator[tuple[str, nn.Module]]:
    with torch.device("meta"):
        for name, config in CONFIGS.items():
            yield name, St4RTrack(config)


def relative_error(values: torch.Tensor, reference: torch.Tensor) -> float:
    return ((values.double() - reference.double()).norm() / reference.double().norm()).item()


def test_networks_no_convolution_has_a_large_kernel_as_stride() -> None:
    for name, network in networks():
        for path, module in network.named_modules():
            if isinstance(module, Convolution):
                assert not (module.kernel_size == module.stride and max(module.kernel_size) >= 8), f"{path} of {name}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(SOURCES[0].parent)))
def test_sources_convolutions_have_small_literal_kernels(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and re.fullmatch(
            r"(lazy)?conv(_?transpose)?[123]d", ast.unparse(node.func).split(".")[-1].lower()
        ):
            kernel = next((word.value for word in node.keywords if word.arg == "kernel_size"), (node.args + [None] * 3)[2])
            is_small = isinstance(kernel, ast.Constant) and isinstance(kernel.value, int) and kernel.value < 8
            assert is_small, f"line {node.lineno}: use PatchEmbed, or a kernel below 8"


@pytest.mark.parametrize(("channels", "width", "size"), [(3, 192, 16), (24, 192, 16), (24, 32, 4), (8, 16, 8)])
def test_patch_embed_agrees_with_the_convolution(channels: int, width: int, size: int) -> None:
    torch.manual_seed(SEED)
    convolution = nn.Conv2d(channels, width, size, size)
    torch.manual_seed(SEED)
    embed = PatchEmbed(channels, width, size)
    assert {key: value.shape for key, value in embed.state_dict().items()} == {
        key: value.shape for key, value in convolution.state_dict().items()
    }
    torch.testing.assert_close(embed.weight, convolution.weight, rtol=0, atol=0)  # the same initial values
    torch.testing.assert_close(embed.bias, convolution.bias, rtol=0, atol=0)
    maps = torch.randn(2, channels, 4 * size, 6 * size, requires_grad=True)
    expected, features = convolution(maps).permute(0, 2, 3, 1), embed(maps)
    assert relative_error(features, expected) < 2e-6
    weights = torch.randn_like(features)
    (expected_gradient,) = torch.autograd.grad((expected * weights).sum(), convolution.weight)
    (gradient,) = torch.autograd.grad((features * weights).sum(), embed.weight)
    assert relative_error(gradient, expected_gradient) < 1e-5


@pytest.mark.parametrize("name", ["tiny", "large"])
def test_layers_in_bfloat16_agree_with_float32(name: str) -> None:
    generator = torch.Generator().manual_seed(SEED)
    shapes = set()
    with torch.device("meta"):
        modules = [module for module in St4RTrack(CONFIGS[name]).modules() if isinstance(module, (Convolution, PatchEmbed))]
    for module in modules:
        key = (type(module), tuple(module.weight.shape), getattr(module, "stride", None))
        if key in shapes:
            continue
        shapes.add(key)
        layer = module.to_empty(device="cpu").requires_grad_(False)
        for value in layer.parameters():
            value.copy_(torch.randn(value.shape, generator=generator) / value[0].numel() ** 0.5)
        channels = layer.weight.shape[0 if isinstance(layer, nn.ConvTranspose2d) else 1]
        side = 2 * layer.patch_size if isinstance(layer, PatchEmbed) else 6
        maps = torch.randn(1, channels, side, side, generator=generator)
        reference = layer(maps)
        assert relative_error(layer.to(torch.bfloat16)(maps.bfloat16()), reference) < 0.01, key
    assert len(shapes) >= 3
