"""Self-check of bfloat16: a broken machine falls back to float32, and no state of the cache stops a model from loading."""

import json
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
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder, at first absent."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "st4rtrack" / "precision"


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
    """Results of the checks that were computed, not read from the cache."""
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
    name: str, pair_path: Path, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert load(pair_path if name == "pair" else name) == torch.bfloat16
    assert not caplog.records
    (record,) = cache.iterdir()
    assert 0 < json.loads(record.read_text())["difference"] < LIMIT / 2


@pytest.mark.usefixtures("broken_bfloat16")
def test_precision_check_wrong_bfloat16_falls_back_with_one_warning(
    pair_path: Path, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert load(pair_path) == torch.float32
    (warning,) = caplog.records
    assert warning.levelno == logging.WARNING and "using float32" in warning.getMessage()
    caplog.clear()
    assert load(pair_path) == torch.float32 and len(caplog.records) == 1  # from the cache, too


def test_precision_check_float32_is_not_checked(model_path: Path, cache: Path, runs: list[float]) -> None:
    load_model(model_path, device="cpu", dtype="float32")
    assert not runs and not cache.exists()


def test_precision_check_not_finite_falls_back(model_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision_check, "point_difference", lambda *_: float("nan"))
    assert load(model_path) == torch.float32
    assert load(model_path) == torch.float32


def test_precision_check_cached_runs_once(model_path: Path, cache: Path, runs: list[float]) -> None:
    load(model_path)
    load(model_path)
    assert len(runs) == 1


@pytest.mark.parametrize("change", ["isa", "capability", "weights", "pytorch", "processor"])
def test_precision_check_other_setting_runs_again(
    change: str, model_path: Path, cache: Path, runs: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    load(model_path)
    if change == "isa":
        monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "SSE41")
    elif change == "capability":
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "DEFAULT")
    elif change == "weights":
        save_model(new_model(SMALL, 1), model_path)
    elif change == "pytorch":
        monkeypatch.setattr(torch, "__version__", "2.99.0")
    else:
        monkeypatch.setattr(precision_check, "processor", lambda: "another processor")
    load(model_path)
    assert len(runs) == 2


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"\xff\xfe", b'{"key": 1, "difference": 0}'])
def test_precision_check_damaged_cache_runs_again(content: bytes, model_path: Path, cache: Path, runs: list[float]) -> None:
    load(model_path)
    (record,) = cache.iterdir()
    intact = record.read_text()
    record.write_bytes(content)
    assert load(model_path) == torch.bfloat16
    assert len(runs) == 2 and record.read_text() == intact


def test_precision_check_unwritable_cache_runs_each_time(
    model_path: Path, tmp_path: Path, runs: list[float], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    for _ in range(2):
        assert load(model_path) == torch.bfloat16
    assert len(runs) == 2 and not caplog.records


def test_precision_check_read_only_cache_is_read(model_path: Path, cache: Path, runs: list[float]) -> None:
    load(model_path)
    cache.chmod(0o500)
    try:
        load(model_path)
    finally:
        cache.chmod(0o700)
    assert len(runs) == 1


def test_precision_check_without_home_runs_each_time(
    model_path: Path, runs: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    for _ in range(2):
        assert load(model_path) == torch.bfloat16
    assert len(runs) == 2
