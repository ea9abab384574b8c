"""Where pointmaps come from: the depth prior of a run."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from st4rtrack.data.procedural import ProceduralConfig, procedural_clip
from st4rtrack.hints.depth_prior import DepthPrior
from st4rtrack.hints.provider import chosen_prior
from st4rtrack.io.video import open_video
from st4rtrack.model.checkpoint import load_model, save_model
from st4rtrack.model.network import St4RTrack
from st4rtrack.options import ReconstructOptions
from st4rtrack.pipeline.preparation import prepare
from st4rtrack.pipeline.reconstruct import reconstruct
from st4rtrack.types import UserError
from tests.moving_camera import walk
from tests.synthetic import TruthNetwork


@pytest.fixture(scope="module")
def model() -> St4RTrack:
    return load_model(device="cpu", dtype="float32")


def prior_of(word: str, model: St4RTrack) -> DepthPrior | None:
    video = open_video(walk(2).rgb)
    return chosen_prior(word, model, video, prepare(video, model.config, ReconstructOptions(anchor=0, size=64)).source_size)


def prior_name(word: str, model: St4RTrack) -> str | None:
    prior = prior_of(word, model)
    return None if prior is None else prior.name


def test_depth_prior_auto_is_the_monocular_head_of_the_network(model: St4RTrack, tmp_path: Path) -> None:
    assert (prior_name("auto", model) or "").startswith("tiny (")
    assert prior_name("auto", model) == prior_name("builtin", model)
    assert prior_name("none", model) is None
    changed = load_model(device="cpu", dtype="float32")
    assert changed.monocular_head is not None
    changed.monocular_head.out.weight.data.mul_(0.5)
    save_model(changed, tmp_path / "changed.safetensors")
    changed = load_model(tmp_path / "changed.safetensors", device="cpu", dtype="float32")
    assert (prior_name("auto", changed) or "").startswith("changed (")
    video = open_video(walk(1).rgb)
    before, after = prior_of("auto", model), prior_of("auto", changed)
    assert before is not None and after is not None
    assert np.median(after(video.frame(0), 0).depth / before(video.frame(0), 0).depth) > 1.1


def test_depth_prior_network_with_decoders_refuses_one() -> None:
    clip = procedural_clip(3, ProceduralConfig(height=48, width=64, num_frames=2, setting="room"))
    network = TruthNetwork(clip)
    prepared = prepare(open_video(clip.rgb), network.config, ReconstructOptions(anchor=0, size=64))
    assert chosen_prior("auto", network, open_video(clip.rgb), prepared.source_size) is None
    with pytest.raises(UserError, match="takes no depth prior"):
        chosen_prior("builtin", network, open_video(clip.rgb), prepared.source_size)


def test_depth_prior_is_an_option_of_the_scene(model: St4RTrack, tmp_path: Path) -> None:
    video = replace(open_video(walk(2).rgb), name="walk")
    scene = reconstruct(video, model=model, size=64, output=tmp_path / "scene")
    assert scene.info["options"]["depth_prior"].startswith("tiny (")
    with pytest.raises(UserError, match="depth_prior"):
        reconstruct(video, model=model, size=64, output=tmp_path / "scene", depth_prior="none")
    other = reconstruct(video, model=model, size=64, depth_prior="none")
    assert not np.array_equal(scene.reconstruction.points_world, other.reconstruction.points_world)
