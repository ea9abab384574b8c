"""Networks as ONNX: the files give the numbers of PyTorch, apart from the check that the export itself makes."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from st4rtrack.model import onnx
from st4rtrack.model.config import LARGE, TINY, ModelConfig
from st4rtrack.model.hints import Hints, estimate_hints
from st4rtrack.model.network import St4RTrack
from st4rtrack.model.onnx import HINTS, MAPS, export_onnx, network_size, open_session, run_graph
from st4rtrack.types import UserError
from tests.conftest import Run
from tests.moving_camera import walk

NARROW = {"encoder_width": 32, "encoder_heads": 2, "decoder_width": 32, "decoder_heads": 2}
SMALL = replace(TINY, **NARROW, encoder_depth=1, decoder_depth=1, image_size=64)
RELEASED = replace(LARGE, **NARROW, encoder_depth=1, decoder_depth=2, image_size=64)
"""The architecture of large at a fraction of its width and depth."""


def network(config: ModelConfig) -> St4RTrack:
    torch.manual_seed(0)
    return St4RTrack(config).eval()


def images(height: int, width: int) -> list[torch.Tensor]:
    rgb = walk(2).rgb[:, :height, :width]
    return [torch.from_numpy(image).permute(2, 0, 1)[None] / 127.5 - 1 for image in rgb]


def maps_of(model: St4RTrack, anchor: torch.Tensor, frame: torch.Tensor, hints: Hints | None) -> list[torch.Tensor]:
    with torch.inference_mode():
        out = model.decode(model.encode(anchor), model.encode(frame), hints)
    return [x for maps in (out.tracking, out.reconstruction) for x in (maps.points_world, maps.confidence)]


def assert_agree(found: list[np.ndarray], expected: list[torch.Tensor]) -> None:
    for name, ours, theirs in zip(MAPS, found, expected, strict=True):
        assert ours.shape == tuple(theirs.shape), name
        assert np.abs(ours - theirs.numpy()).max() <= 1e-3 * theirs.abs().max(), name


@pytest.mark.slow
def test_the_released_architecture_is_one_graph_of_a_pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx, "INLINE_BYTES", 0)  # as if its weights were too large for one file
    model = network(RELEASED)
    written = export_onnx(model, tmp_path / "pair.onnx", height=32, width=64)
    assert written == [tmp_path / "pair.onnx"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pair.onnx", "pair.onnx.data"]
    session, pair = open_session(written[0], threads=1), images(32, 64)
    assert [entry.name for entry in session.get_inputs()] == ["anchor_images", "frame_images"]
    assert [entry.name for entry in session.get_outputs()] == list(MAPS)
    assert [entry.shape for entry in session.get_inputs()] == [[1, 3, 32, 64]] * 2
    assert_agree(run_graph(session, pair), maps_of(model, *pair, None))
    assert torch.isfinite(model(*pair).tracking.points_world).all(), "the network itself is as it was"


@pytest.mark.parametrize("dynamic", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_network_with_hints_is_an_encoder_and_a_decoder(tmp_path: Path, dynamic: bool) -> None:
    model = network(SMALL)
    written = export_onnx(model, tmp_path / "small.onnx", height=32, width=64, dynamic=dynamic)
    assert [path.name for path in written] == ["small.encoder.onnx", "small.decoder.onnx"]
    encoder, decoder = (open_session(path, threads=1) for path in written)
    assert [entry.name for entry in decoder.get_inputs()] == ["anchor_tokens", "frame_tokens", *HINTS]
    anchor, frame = images(96, 80) if dynamic else images(32, 64)  # neither the size nor the shape that it was exported with
    hints = estimate_hints(anchor, frame)
    tokens = [torch.from_numpy(run_graph(encoder, [x])[0]) for x in (anchor, frame)]
    assert tokens[0].shape == ((1, 6, 5, 32) if dynamic else (1, 2, 4, 32))
    found = run_graph(decoder, [*tokens, *(getattr(hints, name).contiguous() for name in HINTS)])
    assert_agree(found, maps_of(model, anchor, frame, hints))


def test_mistakes_are_named_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = network(SMALL)
    with pytest.raises(UserError, match=r"--height must be a multiple of 16"):
        export_onnx(model, tmp_path / "a.onnx", height=50)
    with pytest.raises(UserError, match=r"--width must be"):
        export_onnx(model, tmp_path / "a.onnx", width=0)
    with pytest.raises(UserError, match="end in"):
        export_onnx(model, tmp_path / "a.pt")
    (tmp_path / "a.decoder.onnx").touch()
    with pytest.raises(UserError, match="--overwrite"):
        export_onnx(model, tmp_path / "a.onnx")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match=r'pip install "st4rtrack\[onnx\]"'):
        export_onnx(model, tmp_path / "b.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["a.decoder.onnx"]


def test_the_size_is_the_models_own_at_16_to_9() -> None:
    for config, size in (
        (SMALL, (32, 64)),
        (replace(SMALL, image_size=256), (144, 256)),
        (replace(SMALL, image_size=512), (288, 512)),
    ):
        with torch.device("meta"):
            model = St4RTrack(config)
        assert network_size(model, None, None) == size
    assert network_size(model, 16, None) == (16, 512)


def test_options_of_onnx_are_refused_elsewhere(run: Run) -> None:
    code, said = run("convert", "tiny", "model", "--dynamic")
    assert code == 2 and ".onnx" in said and not Path("model").exists()
    code, said = run("convert", "tiny", "model.onnx", "--width", 100)
    assert code == 2 and "multiple of 16" in said and not list(Path().iterdir())
