"""Training data from a configuration: which data sets, in which folders, and how many samples of each."""

from dataclasses import dataclass, field, replace
from math import inf
from pathlib import Path
from typing import Any, Literal

import numpy as np

from st4rtrack.data import kubric, point_odyssey
from st4rtrack.data.augment import Augmentation
from st4rtrack.data.clip import Clip, ClipSource
from st4rtrack.data.dynamic_replica import DynamicReplica
from st4rtrack.data.kubric import Kubric
from st4rtrack.data.point_odyssey import PointOdyssey
from st4rtrack.data.read_clip import Reading
from st4rtrack.data.sampling import ClipDataset, Sampling, SequenceClips
from st4rtrack.types import UserError

DatasetName = Literal["point_odyssey", "dynamic_replica", "kubric"]
Published = Literal["paper", "seq", "pair"]


@dataclass(frozen=True)
class SourceConfig:
    """Configuration of one data set of a mixture."""

    name: DatasetName  # name of the data set
    root: Path  # folder that holds its split (Kubric: its sequences)
    # strides, clip_step: see `Sampling`
    strides: tuple[int, ...] = (1, 2, 3, 4, 5, 6)
    clip_step: int = 32
    weight: float = 1.0  # samples per epoch, relative to `TrainingData.samples_per_epoch`
    split: str = "train"  # folder of the split; not used for Kubric
    farthest_m: float = inf  # depth from this value on counts as unknown
    foreground_only: bool = False  # see `Reading`; Kubric only
    crop: bool = False  # crop at a random position, whatever the augmentation says


@dataclass(frozen=True)
class TrainingData:
    """Configuration of a mixture of data sets."""

    sources: tuple[SourceConfig, ...]  # the data sets
    frames: int = 24  # frames per clip; two make a pair
    # height, width: size of the clips in pixels
    height: int = 288
    width: int = 512
    samples_per_epoch: int = 600  # clips per epoch of a source of weight 1
    epochs: int = 50  # length of the training, over which the curriculum is spread
    curriculum: bool = False  # whether large strides come later
    augmentation: Augmentation = field(default_factory=Augmentation)  # augmentation of all sources
    seed: int = 0  # random seed


_PAPER_STRIDES = tuple(range(1, 7))
_PAIR_STRIDES = (1, *range(8, 121, 8))
_STRIDES: dict[Published, dict[DatasetName, tuple[int, ...]]] = {
    "paper": {"point_odyssey": _PAPER_STRIDES, "dynamic_replica": _PAPER_STRIDES, "kubric": _PAPER_STRIDES},
    "seq": {"point_odyssey": (2, 3, 4), "dynamic_replica": (4, 5, 6), "kubric": (1,)},
    "pair": {"point_odyssey": _PAIR_STRIDES, "dynamic_replica": _PAIR_STRIDES, "kubric": (1, 3, 5, 7, 9, 11)},
}
_AMOUNTS: dict[Published, dict[str, Any]] = {
    "paper": {"frames": 24, "samples_per_epoch": 600, "epochs": 50},
    "seq": {"frames": 16, "samples_per_epoch": 800, "epochs": 100},
    "pair": {"frames": 2, "samples_per_epoch": 12800, "epochs": 100, "curriculum": True},
}


def published_data(
    published: Published,
    *,
    point_odyssey: str | Path | None = None,
    dynamic_replica: str | Path | None = None,
    kubric: str | Path | None = None,
    seed: int = 0,
) -> TrainingData:
    """Data mixture of the paper or of a released training script; data sets without a folder are left out.

    Args:
        published: "paper" (Sec. 4: 24 frames, strides 1 to 6, 600 clips of each set, 50 epochs), "seq" or "pair" (the scripts).
        point_odyssey, dynamic_replica, kubric: folders into which the data sets were unpacked.
        seed: random seed.
    """
    roots: dict[DatasetName, str | Path | None] = {
        "point_odyssey": point_odyssey,
        "dynamic_replica": dynamic_replica,
        "kubric": kubric,
    }
    sources = [_published_source(published, name, Path(root)) for name, root in roots.items() if root is not None]
    if not sources:
        raise UserError(f"training data {published!r} needs the folder of at least one of {', '.join(roots)}")
    return TrainingData(tuple(sources), seed=seed, **_AMOUNTS[published])


def open_training_source(data: TrainingData) -> ClipSource:
    """Open a mixture as a source of clips; it can be pickled, and reads files only when a clip is requested."""
    if not data.sources:
        raise UserError("training data needs at least one data set; add a source")
    sources, counts = [], []
    for k, config in enumerate(data.sources):
        count = round(config.weight * data.samples_per_epoch)
        if count < 1:
            raise UserError(f"training data: {config.name} has weight {config.weight}, which gives no samples; leave it out")
        seed = int(np.random.SeedSequence((data.seed, k)).generate_state(1)[0])
        dataset, names = _open_dataset(config)
        sources.append(
            SequenceClips(
                dataset,
                names,
                Sampling(data.frames, config.strides, config.clip_step, count, data.epochs, data.curriculum, seed),
                Reading(data.height, data.width, farthest_m=config.farthest_m, foreground_only=config.foreground_only),
                replace(data.augmentation, crop=data.augmentation.crop or config.crop),
                label=f"{config.name} in {config.root}",
            )
        )
        counts.append(count)
    return Mixture(tuple(sources), tuple(counts), data.seed)


def _published_source(published: Published, name: DatasetName, root: Path) -> SourceConfig:
    source = SourceConfig(name, root, _STRIDES[published][name])
    if name == "kubric":
        # Kubric images are square; the release crops a wide region at a random height, and trains on the foreground only.
        return replace(source, clip_step=8 if published == "pair" else 1, foreground_only=True, crop=True)
    if name == "point_odyssey":
        return replace(source, farthest_m=point_odyssey.FARTHEST_M * (1 - 1e-5))  # the largest 16-bit value is not a measurement
    return source


def _open_dataset(config: SourceConfig) -> tuple[ClipDataset, list[str]]:
    """Open a data set; also returns the names of its training sequences."""
    if config.name == "point_odyssey":
        dataset = PointOdyssey(config.root, config.split)
        return dataset, point_odyssey.training_names(dataset)
    if config.name == "dynamic_replica":
        dataset = DynamicReplica(config.root, config.split, skip_missing=True)
        return dataset, dataset.names
    if config.name == "kubric":
        dataset = Kubric(config.root)
        return dataset, kubric.training_names(dataset)
    raise UserError(f"training data {config.name!r} is unknown; choose point_odyssey, dynamic_replica or kubric")


@dataclass(frozen=True)
class Mixture:
    """Mixture of clip sources (itself a `ClipSource`), reshuffled every epoch.

    An epoch has `samples_per_epoch` clips of each source, read at indices 0, 1, 2, ... over the epochs, none twice.
    """

    sources: tuple[ClipSource, ...]
    samples_per_epoch: tuple[int, ...]
    seed: int = 0
    total: int = field(init=False)

    def __post_init__(self) -> None:
        if len(self.sources) != len(self.samples_per_epoch) or min(self.samples_per_epoch, default=0) < 0:
            raise UserError(
                f"a mixture of {len(self.sources)} sources needs as many counts >= 0, got {list(self.samples_per_epoch)}"
            )
        object.__setattr__(self, "total", sum(self.samples_per_epoch))
        if not self.total:
            raise UserError("a mixture needs a source with samples; all counts are 0")

    def clip(self, index: int) -> Clip:
        """Return clip `index` >= 0."""
        source, number = self.locate(index)
        return self.sources[source].clip(number)

    def locate(self, index: int) -> tuple[int, int]:
        """Source of clip `index`, and the index of the clip in that source."""
        epoch, k = divmod(index, self.total)
        k = int(np.random.default_rng((self.seed, epoch)).permutation(self.total)[k])
        ends = np.cumsum(self.samples_per_epoch)
        source = int(np.searchsorted(ends, k, side="right"))
        count = self.samples_per_epoch[source]
        return source, epoch * count + k - int(ends[source] - count)
