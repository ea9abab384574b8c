"""The mixture of a training run, opened from folders of raw data."""

import gzip
import json
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from st4rtrack.data.augment import Augmentation
from st4rtrack.data.dynamic_replica import DynamicReplica
from st4rtrack.data.point_odyssey import PointOdyssey, training_names
from st4rtrack.data.sampling import SequenceClips
from st4rtrack.data.training import Mixture, SourceConfig, TrainingData, open_training_source, published_data
from st4rtrack.types import UserError
from tests.procedural_raw import FRAMES, pixels_of, procedural_world, write_kubric
from tests.raw_data import World, write_dynamic_replica, write_point_odyssey


def sources_of(data: TrainingData) -> list[SequenceClips]:
    mixture = open_training_source(data)
    assert isinstance(mixture, Mixture)
    return [source for source in mixture.sources if isinstance(source, SequenceClips)]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Each of the three sets with what the training must leave out."""
    root = tmp_path_factory.mktemp("training")
    world = procedural_world(pixels_of(0, 100))
    for name in ("cab_e_ego2", "kitchen"):
        write_point_odyssey(root / "po", name, world, split="train")
    for name in ("ani2_a", "character1", "r4_new"):
        write_point_odyssey(root / "po", name, World(frames=2), split="train")
    write_point_odyssey(root / "po", "few_points", World(points=16), split="train")
    frames = write_dynamic_replica(root / "dr", {"scene": world})
    (root / "dr" / "test").rename(root / "dr" / "train")
    (root / "dr" / "train" / "frame_annotations_test.jgz").unlink()
    (root / "dr" / "train" / "frame_annotations_train_full.json").write_text(json.dumps(frames))
    write_kubric(root / "kubric", "000")
    for k in range(1, 11):
        (root / "kubric" / f"{k:03d}").mkdir()
    return {"point_odyssey": root / "po", "dynamic_replica": root / "dr", "kubric": root / "kubric"}


def small(data: TrainingData) -> TrainingData:
    """A published mixture at the size of the folders."""
    sources = tuple(replace(source, strides=(1, 2), clip_step=1) for source in data.sources)
    return replace(data, sources=sources, frames=3, height=24, width=32, samples_per_epoch=4)


def test_the_paper_s_mixture(folders: dict[str, Path]) -> None:
    source = open_training_source(small(published_data("paper", **folders, seed=3)))
    clips = [source.clip(k) for k in range(12)]
    names = [clip.name.split(",")[0] for clip in clips]
    assert [names.count(name) for name in ("scene_source_left", "000")] == [4, 4]
    assert {*names} == {"cab_e_ego2", "kitchen", "scene_source_left", "000"}
    for clip, name in zip(clips, names, strict=True):
        assert clip.rgb.shape == (3, 24, 32, 3) and clip.depth.shape == clip.tracking_valid.shape == (3, 24, 32)
        assert clip.tracking_valid.any() and clip.moving is not None
        assert (clip.supervised is not None) == (name == "000")
        if clip.supervised is not None:  # as released, both branches learn from the foreground alone
            np.testing.assert_array_equal(clip.reconstruction_valid[0], clip.supervised)
    again = pickle.loads(pickle.dumps(source))
    for k in (0, 5, 100):
        np.testing.assert_array_equal(again.clip(k).rgb, source.clip(k).rgb)


def test_published_amounts(tmp_path: Path) -> None:
    """The table of the paper and of the two scripts."""
    roots = {"point_odyssey": tmp_path / "po", "dynamic_replica": tmp_path / "dr", "kubric": tmp_path / "k"}
    paper, seq, pair = (published_data(name, **roots) for name in ("paper", "seq", "pair"))
    assert [(d.frames, d.samples_per_epoch, d.epochs, d.curriculum) for d in (paper, seq, pair)] == [
        (24, 600, 50, False),
        (16, 800, 100, False),
        (2, 12800, 100, True),
    ]
    assert all(s.strides == (1, 2, 3, 4, 5, 6) for s in paper.sources)
    assert {s.name: s.strides for s in seq.sources} == {"point_odyssey": (2, 3, 4), "dynamic_replica": (4, 5, 6), "kubric": (1,)}
    assert [len(s.strides) for s in pair.sources] == [16, 16, 6] and pair.sources[0].strides[-1] == 120
    assert [s.clip_step for s in seq.sources] == [32, 32, 1] and [s.clip_step for s in pair.sources] == [32, 32, 8]
    assert [s.weight for s in paper.sources] == [1, 1, 1] and paper.augmentation == Augmentation()
    assert [(s.foreground_only, s.crop) for s in paper.sources] == [(False, False), (False, False), (True, True)]
    assert [s.name for s in published_data("seq", kubric="x").sources] == ["kubric"]
    with pytest.raises(UserError, match="needs the folder of at least one of point_odyssey, dynamic_replica, kubric"):
        published_data("paper")


def test_weights_and_augmentation_reach_the_sources(folders: dict[str, Path]) -> None:
    data = small(published_data("paper", point_odyssey=folders["point_odyssey"], kubric=folders["kubric"]))
    data = replace(data, sources=(replace(data.sources[0], weight=2.5), data.sources[1]), augmentation=Augmentation(mirror=0.5))
    odyssey, kubric = sources_of(data)
    assert (odyssey.sampling.samples_per_epoch, kubric.sampling.samples_per_epoch) == (10, 4)
    assert odyssey.sampling.seed != kubric.sampling.seed
    assert odyssey.augmentation == Augmentation(mirror=0.5) and kubric.augmentation == Augmentation(mirror=0.5, crop=True)


def test_point_odyssey_filters(folders: dict[str, Path]) -> None:
    dataset = PointOdyssey(folders["point_odyssey"], "train")
    assert len(dataset.names) == 6 and dataset.length("kitchen") == FRAMES
    assert training_names(dataset) == ["cab_e_ego2", "kitchen"]


def test_the_last_value_of_depth_is_no_measurement(tmp_path: Path) -> None:
    class Sky(World):
        def depth(self, t: int) -> np.ndarray:
            depth = super().depth(t)
            depth[:3] = 1000.0
            return depth

    write_point_odyssey(tmp_path, "outdoors", Sky(), split="train")
    data = published_data("paper", point_odyssey=tmp_path)
    data = replace(data, sources=(replace(data.sources[0], strides=(1,)),), frames=3, height=36, width=48)
    clip = open_training_source(data).clip(0)
    assert not clip.reconstruction_valid[:, :3].any() and clip.reconstruction_valid[:, 3:].all()
    everything = replace(data, sources=(replace(data.sources[0], farthest_m=float("inf")),))
    assert open_training_source(everything).clip(0).reconstruction_valid.all()


@pytest.mark.parametrize("listing", ["frame_annotations_train.jgz", "frame_annotations_train.json"])
def test_dynamic_replica_leaves_out_what_is_missing(tmp_path: Path, listing: str) -> None:
    world = World(frames=6, points=30)
    frames = write_dynamic_replica(tmp_path, {"a": world, "b": world})
    (tmp_path / "test").rename(tmp_path / "train")
    folder = tmp_path / "train"
    (folder / "frame_annotations_test.jgz").unlink()
    text = json.dumps(frames).encode()
    (folder / listing).write_bytes(gzip.compress(text) if listing.endswith("jgz") else text)
    left = [frame for frame in frames if frame["sequence_name"] == "a" and frame["camera_name"] == "left"]
    (folder / left[0]["depth"]["path"]).unlink()
    (folder / left[5]["trajectories"]["path"]).unlink()
    for path in (folder / "b_source_left" / "images").iterdir():
        path.unlink()
    assert DynamicReplica(tmp_path, "train").names == ["a_source_left", "b_source_left"]
    present = DynamicReplica(tmp_path, "train", skip_missing=True)
    assert present.names == ["a_source_left"] and present.length("a_source_left") == 4
    np.testing.assert_array_equal(present.open("a_source_left").read_rgb(0), world.rgb(1))
    for path in (folder / "a_source_left" / "images").iterdir():
        path.unlink()
    with pytest.raises(UserError, match="whose files exist in"):
        DynamicReplica(tmp_path, "train", skip_missing=True)


def test_what_is_wrong_is_named(tmp_path: Path, folders: dict[str, Path]) -> None:
    with pytest.raises(UserError, match="has no folder 'train'"):
        open_training_source(published_data("paper", point_odyssey=tmp_path))
    with pytest.raises(UserError, match="needs at least one data set"):
        open_training_source(TrainingData(()))
    with pytest.raises(UserError, match="kubric has weight 0, which gives no samples"):
        open_training_source(TrainingData((SourceConfig("kubric", folders["kubric"], weight=0),)))
    with pytest.raises(UserError, match="training data 'kinetics' is unknown"):
        open_training_source(TrainingData((SourceConfig("kinetics", tmp_path),)))  # pyright: ignore
    with pytest.raises(UserError, match=r"kubric in .*: none of 1 sequences has the 24 frames"):
        open_training_source(TrainingData((SourceConfig("kubric", folders["kubric"]),)))
