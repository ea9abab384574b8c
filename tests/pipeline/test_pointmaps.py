"""The network as the pipeline uses it gives the numbers of the network called pair by pair."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from st4rtrack.data.procedural import ProceduralConfig, procedural_clip
from st4rtrack.io.video import open_video
from st4rtrack.model.config import LARGE, MONOCULAR, TINY, ModelConfig
from st4rtrack.model.encoder import Tokens
from st4rtrack.model.network import St4RTrack
from st4rtrack.pipeline.pointmaps import NetworkPointmaps, TokenFile, encode_anchor, predict_batch, predict_frames
from st4rtrack.preprocess import normalize_images
from st4rtrack.train.forward import new_model
from st4rtrack.types import Pointmap
from tests.synthetic import TruthNetwork

SMALL = {"encoder_width": 64, "encoder_depth": 3, "encoder_heads": 4, "decoder_width": 48, "decoder_depth": 4, "decoder_heads": 4}


@pytest.fixture(scope="module")
def rgb() -> np.ndarray:
    return procedural_clip(5, ProceduralConfig(64, 96, 5, setting="room", camera="orbit")).rgb


def assert_same(ours: Pointmap, plain: Pointmap) -> None:
    assert ours.confidence is not None and plain.confidence is not None
    for a, b in ((ours.points_world, plain.points_world[0].numpy()), (ours.confidence, plain.confidence[0].numpy())):
        error = np.abs(a - b) / np.abs(b).mean()
        assert error.max() < 1e-4 and np.median(error) < 1e-5


@pytest.mark.parametrize("config", [replace(LARGE, **SMALL), replace(TINY, **SMALL), MONOCULAR], ids=["dpt", "conv", "monocular"])
def test_batches_that_share_an_anchor_equal_pair_by_pair(config: ModelConfig, rgb: np.ndarray) -> None:
    model: St4RTrack = new_model(config, seed=3).eval()
    anchor = encode_anchor(model, rgb[0])
    found = list(predict_frames(model, anchor, enumerate(rgb), batch_size=3))
    assert [index for index, _, _ in found] == list(range(len(rgb)))
    with torch.inference_mode():
        for index, frame, maps in found:
            assert frame is rgb[index] or (frame == rgb[index]).all()
            plain = model(normalize_images(rgb[:1]), normalize_images(frame[None]))
            assert_same(maps.tracking, plain.tracking)
            assert_same(maps.reconstruction, plain.reconstruction)
    assert not (found[0][2].tracking.points_world == found[-1][2].tracking.points_world).all()


@pytest.mark.parametrize("config", [replace(LARGE, **SMALL), replace(TINY, **SMALL)], ids=["dpt", "conv"])
def test_a_branch_that_nobody_asked_for_is_not_computed(
    config: ModelConfig, rgb: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = new_model(config, seed=3).eval()
    anchor, pointmaps = encode_anchor(model, rgb[0]), NetworkPointmaps(model, open_video(rgb), 0, batch_size=1)
    both = {k: predict_batch(model, anchor, rgb[k : k + 1])[0].reconstruction for k in (1, 3)}
    monkeypatch.setattr(model.tracking_head, "forward", None)
    for index, found in pointmaps.reconstructions((1, 3)):
        np.testing.assert_array_equal(found.points_world, both[index].points_world)
        np.testing.assert_array_equal(found.confidence, both[index].confidence)


def test_only_the_layers_that_heads_read_are_kept() -> None:
    model = new_model(replace(LARGE, **SMALL), seed=0).eval()
    with torch.inference_mode():
        anchor, frames = model.encode(torch.rand(1, 3, 32, 48)), model.encode(torch.rand(3, 3, 32, 48))
        tracking, reconstruction = model.decoder(anchor, frames)
    assert model.config.head_layers == (0, 2, 3, 4)
    assert [x.shape[0] for x in tracking] == [1, 3, 3, 3] and [x.shape[0] for x in reconstruction] == [3] * 4
    assert [x.shape[2] for x in tracking] == [64, 48, 48, 48]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_tokens_come_back_as_they_were(tmp_path: Path, dtype: torch.dtype) -> None:
    kept = TokenFile(10, tmp_path)
    assert kept.find([0]) is None
    features = torch.randn(3, 6, 4).to(dtype)
    kept.keep([7, 2, 4], Tokens(features, (2, 3)))
    found = kept.find([4, 7])
    assert found is not None and found.grid == (2, 3) and found.features.dtype == dtype
    assert torch.equal(found.features, features[[2, 0]])
    assert kept.find([4, 5]) is None
    assert not list(tmp_path.iterdir())  # nothing is left where the user looks


def test_a_frame_is_encoded_once_whatever_pairs_it_is_in() -> None:
    clip = procedural_clip(3, ProceduralConfig(num_frames=4, setting="room", height=48, width=64))
    network, kept = TruthNetwork(clip), TokenFile(4)
    frames = list(enumerate(clip.rgb))
    maps = [list(predict_frames(network, encode_anchor(network, clip.rgb[k]), frames, batch_size=2, kept=kept)) for k in (0, 3)]
    assert network.encoded == 4 + 2  # and either anchor
    for (_, _, first), (_, _, again) in zip(*maps, strict=True):
        assert (first.reconstruction.points_world == again.reconstruction.points_world).all()
