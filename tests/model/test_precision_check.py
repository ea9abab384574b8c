"""Self-check of bfloat16: a broken machine falls back to float32."""

import logging
from pathlib import Path

import pytest
import torch
from torch import Tensor

from st4rtrack.model import precision_check
from st4rtrack.model.checkpoint import load_model, save_model
from st4rtrack.model.config import TINY, ModelConfig
from st4rtrack.model.layers import PatchEmbed
from st4rtrack.model.precision_check import LIMIT, point_difference
from st4rtrack.train.forward import new_model

SMALL = ModelConfig(
    encoder_width=32,
    encoder_depth=1,
    encoder_heads=2,
    decoder_width=32,
    decoder_depth=2,
    decoder_heads=2,
    head="conv",
)
CPU = torch.device("cpu")


@pytest.fixture
def model_path(tmp_path: Path) -> Path:
    save_model(new_model(SMALL, 0), tmp_path / "small.safetensors")
    return tmp_path / "small.safetensors"


@pytest.fixture
def pair_path(tmp_path: Path) -> Path:
    """A network whose tokens matter, as after training."""
    model = new_model(TINY, 0)
    for head in (model.tracking_head, model.reconstruction_head):
        torch.nn.init.normal_(head.out.weight, std=0.1)
    save_model(model, tmp_path / "pair.safetensors")
    return tmp_path / "pair.safetensors"


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Results of the checks."""
    results: list[float] = []

    def counted(*arguments) -> float:
        results.append(point_difference(*arguments))
        return results[-1]

    monkeypatch.setattr(precision_check, "point_difference", counted)
    return results


@pytest.fixture
def broken_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    """Patch embeddings that are wrong in bfloat16, by as much as on a CPU with AMX."""
    right = PatchEmbed.forward

    def wrong(self: PatchEmbed, maps: Tensor) -> Tensor:
        features = right(self, maps)
        return features.flip(-1) if features.dtype == torch.bfloat16 else features

    monkeypatch.setattr(PatchEmbed, "forward", wrong)


def load(path: Path | str) -> torch.dtype:
    return load_model(path, device="cpu", dtype="bfloat16").dtype


@pytest.mark.parametrize("name", ["pair", "tiny"])
def test_precision_check_right_bfloat16_is_used(
    name: str, pair_path: Path, runs: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    assert load(pair_path if name == "pair" else name) == torch.bfloat16
    assert not caplog.records
    assert len(runs) == 1 and 0 < runs[0] < LIMIT / 2


@pytest.mark.usefixtures("broken_bfloat16")
def test_precision_check_wrong_bfloat16_falls_back_with_one_warning(pair_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert load(pair_path) == torch.float32
    (warning,) = caplog.records
    assert warning.levelno == logging.WARNING and "using float32" in warning.getMessage()


def test_precision_check_float32_is_not_checked(model_path: Path, runs: list[float]) -> None:
    load_model(model_path, device="cpu", dtype="float32")
    assert not runs


def test_precision_check_not_finite_falls_back(model_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision_check, "point_difference", lambda *_: float("nan"))
    assert load(model_path) == torch.float32
