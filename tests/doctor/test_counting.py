"""Counts against what can be said beforehand, and against real tensors."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from st4rtrack.doctor.benchmark import measure_peaks
from st4rtrack.doctor.counting import StandIn
from st4rtrack.doctor.fit import memory_need, size_of_16_to_9
from st4rtrack.model.config import LARGE, TINY, ModelConfig
from st4rtrack.model.network import St4RTrack
from st4rtrack.model.traceable import weight_shapes

SMALL = ModelConfig(
    encoder_width=32, encoder_depth=1, encoder_heads=2, decoder_width=32, decoder_depth=2, decoder_heads=2, head="conv"
)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def small() -> StandIn:
    return StandIn(SMALL, torch.float32, CPU)


def test_a_matrix_product(small: StandIn) -> None:
    cost = small.cost(lambda _: torch.empty(8, 16) @ torch.empty(16, 32))
    assert cost.flops == 2 * 8 * 16 * 32
    product = 4 * (8 * 16 + 16 * 32 + 8 * 32)
    assert cost.moved_bytes == product + 4 * (8 * 16 + 16 * 32)  # read and written; and what `empty` makes counts as written
    assert cost.peak_bytes == product


def test_what_is_given_back_does_not_count_and_views_are_free(small: StandIn) -> None:
    def chain(_: St4RTrack) -> torch.Tensor:
        x = torch.empty(1000)
        for _ in range(5):
            x = x.view(10, 100).t().t().view(1000) + 1
        return x.view(10, 100).t()

    cost = small.cost(chain)
    assert cost.peak_bytes == 2 * 4000
    assert cost.moved_bytes == 4000 + 5 * 8000


def test_the_network_costs_what_it_does_in_earnest(small: StandIn) -> None:
    model = St4RTrack(SMALL).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counted:
        model(torch.zeros(1, 3, 32, 48), torch.zeros(1, 3, 32, 48))
    shape = (1, 3, 32, 48)
    assert small.cost(lambda network: network(torch.empty(shape), torch.empty(shape))).flops == counted.get_total_flops() > 0
    assert small.parameters == sum(value.numel() for value in model.parameters())


def test_nothing_without_content_stays_behind() -> None:
    StandIn(SMALL, torch.float32, CPU).cost(lambda network: network.encode(torch.empty(1, 3, 64, 32)))
    assert torch.isfinite(St4RTrack(SMALL).eval().encode(torch.zeros(1, 3, 64, 32)).features).all()


def test_memory() -> None:
    tiny = memory_need(TINY, *size_of_16_to_9(TINY, None), torch.float32, CPU)
    assert (tiny.height, tiny.width) == (144, 256)
    assert tiny.weight_bytes == 4 * tiny.parameters
    assert 0 < tiny.activation_bytes < 2**30
    assert tiny.host_bytes(10**9) == 10**9 + max(tiny.loading_bytes, tiny.device_bytes)
    half = memory_need(SMALL, 32, 64, torch.bfloat16, CPU)
    assert half.weight_bytes == 2 * half.parameters and half.loading_bytes == 6 * half.parameters
    assert half.batch == 8 and memory_need(SMALL, 160, 320, torch.bfloat16, CPU).batch == 6
    assert memory_need(SMALL, 640, 640, torch.bfloat16, CPU).batch == 1


def test_parameters_of_large() -> None:
    # the release counts 571,171,208, with the mask token and two residual units that nothing uses
    released = 571_171_208 - 768 - 2 * 2 * 256 * (256 * 9 + 1)
    assert sum(shape.numel() for shape in weight_shapes(LARGE).values()) == released


def test_peaks_are_rates() -> None:
    peaks = measure_peaks(CPU, torch.float32, seconds=0, scale=16)
    assert 1e6 < peaks.flops_per_s < 1e16 and 1e6 < peaks.bytes_per_s < 1e14
