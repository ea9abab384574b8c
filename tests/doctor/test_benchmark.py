"""The benchmark times all stages of a run and leaves the pipeline as it was; model memory follows the counted constants."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from st4rtrack import timing
from st4rtrack.doctor import benchmark as module
from st4rtrack.doctor.benchmark import NETWORK, STAGES, benchmark_lines, flops_per_frame, gemm_flops_per_s
from st4rtrack.doctor.report import MODELS, size_of_16_to_9
from st4rtrack.io.video import write_video
from st4rtrack.model.checkpoint import load_model
from st4rtrack.model.config import LARGE, TINY
from st4rtrack.model.layers import _rope_tables
from st4rtrack.model.network import St4RTrack, network_of
from st4rtrack.model.precision_check import example_hints
from st4rtrack.train.forward import new_model
from tests.moving_camera import walk

CPU = torch.device("cpu")
FUSION = {"solver", "prior", "matching", "static_depth", "fusion"}


@pytest.fixture(scope="module")
def model() -> St4RTrack:
    return load_model(device="cpu", dtype="float32")


@pytest.mark.parametrize("prior", [False, True])
def test_benchmark_times_every_stage_of_a_run(
    model: St4RTrack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prior: bool
) -> None:
    monkeypatch.setattr(module, "gemm_flops_per_s", lambda *_: 1e12)
    monkeypatch.setattr(module, "SHARE_OF_A_LINE", 1e-9)
    model = model if prior else new_model(TINY, seed=0).eval()
    write_video(tmp_path / "walk.mp4", iter(walk(8 if prior else 5).rgb), fps=10)
    lines = benchmark_lines(str(tmp_path / "walk.mp4"), model, size=64, folder=tmp_path)
    assert not timing._running
    assert sorted(path.name for path in tmp_path.iterdir()) == ["walk.mp4"]

    absent = {*NETWORK, "points"} if prior else FUSION | {"visibility"}  # an untrained network gives no poses
    seconds = {words[0]: float(words[1]) for words in map(str.split, lines) if words and words[0] in STAGES}
    assert list(seconds) == [stage for stage in STAGES if stage not in absent], "each stage took some time"
    total = float(lines[1].split(" frames in ")[1].split()[0])
    assert sum(seconds.values()) >= 0.95 * total, "stages overlap, and none is missing"
    assert "64x48" in lines[1]
    assert lines[-1].endswith("of the measured GEMM peak (1,000 GFLOP/s)") != prior


def test_flops_grow_with_the_width_of_the_frame(model: St4RTrack) -> None:
    narrow, wide = (flops_per_frame(model, torch.zeros(1, 32, width, 3, dtype=torch.uint8).numpy()) for width in (64, 128))
    assert narrow > 0 and wide == pytest.approx(2 * narrow, rel=0.05)


def test_gemm_peak_is_a_rate() -> None:
    assert 1e6 < gemm_flops_per_s(CPU, torch.float32, seconds=0, side=128) < 1e16


def test_parameters_of_large_agree_with_the_release() -> None:
    # the release counts 571,171,208, with the mask token and two residual units that nothing uses
    released = 571_171_208 - 768 - 2 * 2 * 256 * (256 * 9 + 1)
    assert sum(value.numel() for value in network_of(LARGE).state_dict().values()) == released


def test_network_size_of_a_16_to_9_video_is_a_multiple_of_the_patch() -> None:
    assert size_of_16_to_9(TINY, None) == (144, 256)
    assert size_of_16_to_9(LARGE, 100) == (48, 96)


@pytest.mark.parametrize("name", MODELS)
def test_activation_memory_agrees_with_the_live_tensors(name: str) -> None:
    config, bytes_per_pixel = MODELS[name]
    fake = FakeTensorMode()
    _rope_tables.cache_clear()  # of other tests' tensors, and below of fake ones
    with fake:
        network = network_of(config, {key: torch.empty(value.shape) for key, value in network_of(config).state_dict().items()})
    with fake, torch.no_grad(), LiveTensors() as live:
        images = torch.empty(2, 3, 64, 128)
        hints = example_hints((2, 64, 128), torch.Generator()) if config.hints else None
        tokens = network.encode(images)
        anchor = network.encode(images[:1])
        network.decode(anchor, tokens, hints)
    _rope_tables.cache_clear()
    assert live.peak_bytes == pytest.approx(2 * 64 * 128 * bytes_per_pixel, rel=0.05)


class LiveTensors(TorchDispatchMode):
    """Sums up the memory that operations allocate, until it is freed."""

    def __init__(self) -> None:
        super().__init__()
        self.peak_bytes = 0
        self._alive: WeakIdKeyDictionary = WeakIdKeyDictionary()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        is_view = any(value.alias_info and not value.alias_info.is_write for value in func._schema.returns)
        if not is_view and func.namespace != "prim":
            for storage in (leaf.untyped_storage() for leaf in tree_leaves(out) if isinstance(leaf, Tensor)):
                self._alive[storage] = storage.nbytes()
            self.peak_bytes = max(self.peak_bytes, sum(self._alive.values()))
        return out
