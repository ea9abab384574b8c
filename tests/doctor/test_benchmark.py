"""Where the time goes: every part of a run is found, and the pipeline is left as it was."""

from pathlib import Path

import pytest
import torch

from st4rtrack import timing
from st4rtrack.doctor import benchmark as module
from st4rtrack.doctor import stages
from st4rtrack.doctor.benchmark import MEANINGS, Peaks, run_benchmark
from st4rtrack.doctor.counting import StandIn
from st4rtrack.doctor.fit import predict_pairs
from st4rtrack.doctor.report import benchmark_lines
from st4rtrack.io.video import write_video
from st4rtrack.model.checkpoint import load_model
from st4rtrack.model.config import TINY
from st4rtrack.model.network import St4RTrack
from st4rtrack.train.forward import new_model
from tests.moving_camera import walk


@pytest.fixture(scope="module")
def model() -> St4RTrack:
    return load_model(device="cpu", dtype="float32")


FUSION = {"solver", "prior", "static_depth", "fusion"}


@pytest.mark.parametrize("prior", [False, True])
def test_every_part_of_a_run_is_timed_and_nothing_stays_switched_on(
    model: St4RTrack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prior: bool
) -> None:
    monkeypatch.setattr(module, "measure_peaks", lambda *_: Peaks(1e12, 1e10))
    model = model if prior else new_model(TINY, seed=0).eval()
    write_video(tmp_path / "walk.mp4", iter(walk(8 if prior else 5).rgb), fps=10)
    measured = run_benchmark(str(tmp_path / "walk.mp4"), model, size=64, folder=tmp_path)
    assert not timing._running
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in model.modules())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["walk.mp4"]

    without = {*stages.NETWORK, "hints", "points"} if prior else FUSION
    assert [row.part for row in measured.rows] == [part for part in MEANINGS if part not in without], "each part took some time"
    assert sum(row.seconds for row in measured.rows) >= 0.95 * measured.seconds, "parts overlap, and nothing is missing"
    network = {row.part: row for row in measured.rows if row.flops_per_s is not None}
    assert set(network) == (set() if prior else set(stages.NETWORK))
    assert all(row.flops_per_s and row.bytes_per_s for row in network.values())

    table = "\n".join(benchmark_lines(measured))
    assert "1,000 GFLOP/s" in table and f"{measured.frames} frames in" in table and "64x48" in table
    assert ("prior" if prior else "decoder") in table


def test_timed_pipeline_counts_images_and_costs_grow_with_them(model: St4RTrack) -> None:
    watch = module.Stopwatch()
    with torch.inference_mode(), stages.timed_pipeline(watch, model) as given:
        model.encode(torch.zeros(2, 3, 32, 64))
        model.encode(torch.zeros(1, 3, 32, 64))
    assert given == {"encode": 3} and set(watch.seconds) == {"encode"}
    stand_in = StandIn(model.config, torch.float32, torch.device("cpu"))
    one, wide = (
        stand_in.part_costs(lambda network, width=width: predict_pairs(network, 1, 32, width, stand_in.device))
        for width in (64, 128)
    )
    assert min(one["encode"]) > 0 and max(one["decoder"]) == max(one["heads"]) == 0, "a network without decoders"
    assert wide["encode"][0] == pytest.approx(2 * one["encode"][0], rel=0.05)
