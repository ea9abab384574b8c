"""The methods with global alignment, from sequence files to predictions, with a small network of formula weights."""

import dataclasses
import logging
from pathlib import Path

import numpy as np
import pytest
import torch

from st4rtrack.bench.global_alignment.pairs import parse_graph, predict_pairs
from st4rtrack.bench.global_alignment.problem import PairwisePointmaps
from st4rtrack.bench.methods import aligned, make_method
from st4rtrack.bench.methods.aligned import DUST3R, align_sequence
from st4rtrack.bench.predictions import read_prediction, write_prediction
from st4rtrack.bench.protocol import CORRECTED
from st4rtrack.io.worldtrack import WorldTrackSequence, encode_jpeg, read_worldtrack, write_worldtrack
from st4rtrack.model.checkpoint import load_model, save_model
from st4rtrack.model.config import ModelConfig
from st4rtrack.model.encoder import Tokens
from st4rtrack.model.network import St4RTrack
from st4rtrack.options import MethodOptions
from st4rtrack.types import Pointmap, TwoPointmaps, UserError
from tests.bench.global_alignment.rigid_scene import (
    camera_errors,
    jittered,
    pairwise,
    plane_scene,
    rigid_scene,
    scene_error,
    true_flow,
)
from tests.formula import formula_weight
from tests.worldtrack_data import HEIGHT, WIDTH, write_sequence

SMALL = ModelConfig(
    encoder_width=32,
    encoder_depth=1,
    encoder_heads=2,
    decoder_width=32,
    decoder_depth=2,
    decoder_heads=2,
    head="conv",
    image_size=64,
)
FRAMES = 6


@pytest.fixture
def weights(tmp_path: Path) -> str:
    model = St4RTrack(SMALL)
    model.load_state_dict({key: formula_weight(key, tuple(value.shape)) for key, value in model.state_dict().items()})
    save_model(model, tmp_path / "small.safetensors")
    return str(tmp_path / "small.safetensors")


@pytest.fixture
def sequence(tmp_path: Path) -> WorldTrackSequence:
    return dataclasses.replace(write_sequence(tmp_path / "data" / "one.npz", frames=FRAMES), name="set/one")


def options(weights: str | None, **more: object) -> MethodOptions:
    chosen = MethodOptions(CORRECTED, model=weights, device="cpu", dtype="float32", iterations=10)
    return dataclasses.replace(chosen, **more)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("name", ["dust3r-ga", "mast3r-ga", "monst3r-ga"])
def test_from_files_to_a_prediction(name: str, weights: str, sequence: WorldTrackSequence, tmp_path: Path) -> None:
    prediction = make_method(name, options(weights))(sequence)
    write_prediction(tmp_path / "p.npz", prediction)
    read = read_prediction(tmp_path / "p.npz", sequence)
    assert read.reconstruction_world is not None and read.world_from_camera is not None and read.tracks_world is None
    assert read.reconstruction_world.shape == (FRAMES, HEIGHT, WIDTH, 3)
    assert np.isfinite(read.reconstruction_world).all() and (read.reconstruction_world[0, ..., 2] > 0).all()
    assert np.array_equal(read.world_from_camera[0], np.eye(4))
    turn = read.world_from_camera[:, :3, :3]
    assert np.allclose(turn @ np.swapaxes(turn, 1, 2), np.eye(3), atol=1e-5)


def test_what_does_not_fit_a_sequence_names_it(weights: str, sequence: WorldTrackSequence) -> None:
    with pytest.raises(UserError, match="set/one: --graph oneref-9 is out of range"):
        make_method("dust3r-ga", options(weights, graph="oneref-9"))(sequence)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"model": None}, "--model"),
        ({"graph": "ring"}, "got 'ring'"),
        ({"iterations": -1}, "--iterations"),
        ({"flow": Path("nowhere")}, "--flow nowhere is not a folder"),
    ],
)
def test_mistakes_are_said_before_anything_runs(weights: str, more: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_method("monst3r-ga", options(weights, **more))


def test_pairs_are_those_of_the_network(weights: str) -> None:
    model = load_model(weights, device="cpu", dtype="float32")
    rgb = np.random.default_rng(0).integers(0, 255, (3, 48, 64, 3), np.uint8)
    edges = parse_graph("complete").edges(3)
    pairs = predict_pairs(model, rgb, edges)
    images = torch.from_numpy(rgb).permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.inference_mode():
        out = model(images[edges[:, 0]], images[edges[:, 1]])
    for side, maps in enumerate((out.tracking, out.reconstruction)):
        assert np.allclose(pairs.points[:, side], maps.points_world, rtol=2e-3, atol=1e-3)
        assert np.allclose(pairs.confidence[:, side], maps.confidence, rtol=2e-3)


class RigidNetwork(St4RTrack):
    """Answers with the pairs of a scene; frame k is of the colour 20 k, which survives JPEG."""

    def __init__(self, pairs: PairwisePointmaps) -> None:
        super().__init__(SMALL)
        self.pairs = pairs
        self.edge_of = {(int(i), int(j)): e for e, (i, j) in enumerate(self.pairs.edges)}
        self.encoded = 0

    def encode(self, images: torch.Tensor) -> Tokens:
        self.encoded += len(images)
        return Tokens(((images[:, 0, 0, 0] + 1) * 127.5 / 20).round(), (1, 1))

    def decode(self, anchor_tokens: Tokens, frame_tokens: Tokens, hints: object = None) -> TwoPointmaps:
        found = zip(anchor_tokens.features.int().tolist(), frame_tokens.features.int().tolist(), strict=True)
        edges = [self.edge_of[pair] for pair in found]
        points, confidence = torch.from_numpy(self.pairs.points[edges]), torch.from_numpy(self.pairs.confidence[edges])
        return TwoPointmaps(*[Pointmap(points[:, side], confidence[:, side]) for side in (0, 1)])


def colours() -> np.ndarray:
    return np.zeros((FRAMES, HEIGHT, WIDTH, 3), np.uint8) + 20 * np.arange(FRAMES, dtype=np.uint8)[:, None, None, None]


def test_a_network_that_is_right_gives_the_scene() -> None:
    scene = rigid_scene(FRAMES, height=HEIGHT, width=WIDTH, focal_px=55.0)
    model = RigidNetwork(pairwise(scene, noise=0.015, outliers=0.03))
    prediction = align_sequence(
        model, colours(), parse_graph("swinstride-3-noncyclic"), dataclasses.replace(DUST3R, iterations=150)
    )
    assert model.encoded == FRAMES  # each image once
    assert prediction.reconstruction_world is not None and prediction.world_from_camera is not None
    assert scene_error(prediction.reconstruction_world, scene) < 0.01
    degrees, distance = camera_errors(prediction.world_from_camera, scene)
    assert degrees < 1.0 and distance < 0.02


def test_flow_from_files_helps_monst3r(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stored images are twice the network's size, and flow is in their pixels."""
    scene = plane_scene(FRAMES, height=HEIGHT, width=WIDTH, focal_px=55.0)
    pairs = jittered(pairwise(scene, "swin-2-noncyclic", noise=0.005))
    model = RigidNetwork(pairs)
    monkeypatch.setattr(aligned, "load_model", lambda source, **_: model)
    images = [encode_jpeg(image.repeat(2, axis=0).repeat(2, axis=1)) for image in colours()]
    write_worldtrack(
        tmp_path / "one.npz",
        images_jpeg=images,
        fx_fy_cx_cy=np.array([110.0, 110.0, WIDTH, HEIGHT]),
        camera_from_world=None,
        visibility=np.ones((FRAMES, 1), bool),
        tracks_camera=np.ones((FRAMES, 1, 3)),
    )
    sequence = read_worldtrack(tmp_path / "one.npz", name="set/one")
    (tmp_path / "flow" / "set").mkdir(parents=True)
    np.savez(tmp_path / "flow" / "set" / "one.npz", pairs=pairs.edges, flow=2 * true_flow(scene, pairs.edges))
    errors = {}
    for flow in (None, tmp_path / "flow"):
        chosen = options("rigid", graph="swin-2-noncyclic", flow=flow, iterations=50)
        prediction = make_method("monst3r-ga", chosen)(sequence)
        assert prediction.reconstruction_world is not None
        errors[flow] = scene_error(prediction.reconstruction_world, scene)
    assert errors[tmp_path / "flow"] < 0.9 * errors[None]
    (tmp_path / "flow" / "set" / "one.npz").unlink()
    with pytest.raises(UserError, match="set/one: there is no optical flow"):
        make_method("monst3r-ga", options("rigid", graph="swin-2-noncyclic", flow=tmp_path / "flow"))(sequence)


def test_a_network_without_sense_is_said_so(weights: str, caplog: pytest.LogCaptureFixture) -> None:
    model = load_model(weights, device="cpu", dtype="float32")
    with caplog.at_level(logging.WARNING):
        align_sequence(model, colours()[:2], parse_graph("complete"), dataclasses.replace(DUST3R, iterations=0))
    assert "implausible focal length" in caplog.text
