"""Training presets: those of the paper and the release, of the embedded model, and a tiny sanity check.

Sources: paper section 4.1 ("Datasets", "Training and Inference"); the released training scripts for details it omits and for
the later reweighted variants. Batch sizes are for four GPUs, as published.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from st4rtrack.data.augment import Augmentation
from st4rtrack.data.depth_frames import FrameAugmentation
from st4rtrack.data.training import Published, TrainingData, published_data
from st4rtrack.losses.objective import PUBLISHED
from st4rtrack.model.config import EMBEDDED, LARGE, MONOCULAR, TINY, ModelConfig
from st4rtrack.train.config import TrainConfig
from st4rtrack.types import UserError

DATASETS = ("point_odyssey", "dynamic_replica", "kubric")
"""Data set names of `--data NAME=FOLDER`."""


@dataclass(frozen=True)
class RenderedClips:
    """Data configuration: procedural clips, rendered on demand."""

    frames: int = 24  # frames per clip; the first is the anchor
    # height, width: size of the network images, pixels
    height: int = 288
    width: int = 512
    distinct: int = 0  # number of distinct clips, 0 for no limit
    # validation_clips, validation_frames: number and length of the validation clips; with `distinct` these are training clips
    validation_clips: int = 8
    validation_frames: int = 8


@dataclass(frozen=True)
class ReadClips:
    """Data configuration: clips of the paper's data sets, read from folders."""

    published: Published  # name of the published mixture
    with_anchor: bool = True  # include the pair (anchor, anchor); as released for clips, not for pairs
    augmentation: Augmentation = field(default_factory=Augmentation)  # augmentation of the clips; none, as published
    held_out: RenderedClips = field(default_factory=RenderedClips)  # procedural validation clips

    def described(self, folders: dict[str, Path], seed: int) -> TrainingData:
        """Training data of the mixture, with folders by name of the data set."""
        data = published_data(self.published, **folders, seed=seed)
        return replace(data, augmentation=self.augmentation)


@dataclass(frozen=True)
class MonocularData:
    """Data configuration of monocular training."""

    # share of samples by source; normalised over the available sources
    shares: Mapping[str, float] = field(
        default_factory=lambda: {"pictures": 0.6, "procedural": 0.25, "world": 0.4, "multiview": 0.2}
    )
    # (height, width) of micro-batches, drawn at random
    sizes: tuple[tuple[int, int], ...] = ((192, 256),) * 4 + ((256, 192), (144, 256))
    augmentation: FrameAugmentation = field(default_factory=FrameAugmentation)  # augmentation of every frame
    procedural_frames: int = 4096  # number of frames to render if no folder is passed
    validation_frames: int = 128  # maximum number of validation frames per source


@dataclass(frozen=True)
class MatchingData:
    """Data configuration of the matching head."""

    # share of clips by source; normalised over the available sources
    shares: Mapping[str, float] = field(default_factory=lambda: {"procedural": 0.5, "world": 0.5})
    points: int = 320  # anchor points per image pair
    colour: float = 0.7  # strength of `jitter_colour` of each clip
    # colour, degradations and mirroring of single images; they are not cropped
    augmentation: FrameAugmentation = field(default_factory=lambda: FrameAugmentation(colour=0.2, blur=0.3, noise=0.4))
    size: tuple[int, int] = (192, 256)  # (height, width) of the clips that are rendered if no folder is passed
    procedural_clips: int = 2048  # number of these clips
    validation_clips: int = 48  # maximum number of validation clips per source


@dataclass(frozen=True)
class Preset:
    """A training configuration without paths of data and weights."""

    model: ModelConfig  # configuration of the network
    train: TrainConfig  # configuration of the optimisation
    data: RenderedClips | ReadClips | MonocularData | MatchingData  # configuration of the data
    from_weights: bool = False  # whether the published run starts from other weights, so that `--init` is required


def _large(published: Published, loss: str) -> Preset:
    """A published run: AdamW at 5e-5, 1 epoch warm-up, half cosine, frozen encoder, 4 GPUs."""
    data = published_data(published, **dict.fromkeys(DATASETS, Path()))
    micro_batch = 22 if published == "pair" else 1
    batch_size = 4 * micro_batch
    epoch_clips = len(data.sources) * data.samples_per_epoch
    train = TrainConfig(
        steps=data.epochs * epoch_clips // batch_size,
        batch_size=batch_size,
        micro_batch=micro_batch,
        learning_rate=5e-5,
        final_learning_rate=1e-6,
        warmup_steps=epoch_clips // batch_size,
        clip_norm=0.8,
        frozen="encoder",
        loss=PUBLISHED[loss],
    )
    return Preset(LARGE, train, ReadClips(published, with_anchor=published != "pair"), from_weights=True)


PRESETS: dict[str, Preset] = {
    # the paper: clips of 24 frames, strides 1 to 6, 50 epochs
    "large-seq": _large("paper", "paper"),
    # the release's pairs, including distant frames, without reweighting
    "large-pair": _large("pair", "paper"),
    # the released seq-reweight model: clips of 16 frames, larger weight of dynamic pixels
    "large-seq-reweight": _large("seq", "seq-reweight"),
    # the released pair-reweight model, with the pair branch that its script leaves out
    "large-pair-reweight": _large("pair", "pair-reweight"),
    # as large-seq, on procedural clips
    "large-procedural": replace(_large("paper", "paper"), data=RenderedClips()),
    # a small pair network, on procedural clips
    "tiny": Preset(
        TINY,
        TrainConfig(batch_size=4, micro_batch=2, loss=PUBLISHED["tiny"]),
        RenderedClips(frames=6, height=192, width=256, validation_clips=16, validation_frames=6),
    ),
    # encoder and monocular depth head, on single pictures and rendered frames
    "mono": Preset(
        MONOCULAR,
        TrainConfig(
            steps=5000,
            learning_rate=1e-3,
            final_learning_rate=1e-5,
            warmup_steps=200,
            weight_decay=0.02,
            clip_norm=5.0,
            precision="float32",
            average=0.998,
        ),
        MonocularData(),
    ),
    # matching head on the frozen backbone, on rendered clips
    "match": Preset(
        EMBEDDED,
        TrainConfig(
            steps=5000,
            batch_size=1,
            micro_batch=1,
            learning_rate=6e-4,
            final_learning_rate=1.2e-5,
            warmup_steps=200,
            weight_decay=0.02,
            precision="float32",
        ),
        MatchingData(),
    ),
    # sanity check: overfits a tiny network on one clip in a minute on a CPU
    "overfit": Preset(
        replace(TINY, encoder_width=96, encoder_depth=2, encoder_heads=2, decoder_width=96, decoder_depth=2, decoder_heads=2),
        TrainConfig(
            steps=600, batch_size=1, micro_batch=1, learning_rate=2e-3, warmup_steps=30, average=0.9, loss=PUBLISHED["paper"]
        ),
        RenderedClips(frames=3, height=48, width=64, distinct=1, validation_clips=1, validation_frames=3),
    ),
}

ALL_AUGMENTATION = Augmentation(crop=True, focal=1.3, colour=0.5, mirror=0.5, reverse=0.5, random_anchor=0.5)
"""Augmentation of `--augment`: all kinds at moderate strength. Its effect was not measured."""


def with_options(preset: Preset, **changes: Any) -> Preset:
    """Replace options of a preset; `None` keeps an option.

    Args:
        preset: one of `PRESETS`.
        changes: fields of `TrainConfig`; or `augment`, for presets that read data sets.
    Raises:
        UserError: the preset does not have an option.
    """
    changes = {name: value for name, value in changes.items() if value is not None}
    data = preset.data
    if changes.pop("augment", False):
        if not isinstance(data, ReadClips):
            raise UserError("--augment needs a preset that reads data sets, such as large-seq")
        data = replace(data, augmentation=ALL_AUGMENTATION)
    if "batch_size" in changes and "micro_batch" not in changes:
        changes["micro_batch"] = math.gcd(changes["batch_size"], preset.train.micro_batch)
    return replace(preset, train=replace(preset.train, **changes), data=data)
