from pathlib import Path

import pytest
import torch

from st4rtrack.data.procedural import ProceduralConfig, procedural_clip
from st4rtrack.model.encoder import Tokens
from st4rtrack.pipeline.pointmaps import TokenFile, encode_anchor, predict_frames
from tests.synthetic import TruthNetwork


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
