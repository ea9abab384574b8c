"""Matching head stage: descriptors of image pairs learn where the points of an anchor lie in another image.

The convolutional backbone is frozen. Micro-batch k depends on k and the seed only, so that resuming is bitwise exact.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from st4rtrack.data.augment import jitter_colour
from st4rtrack.data.depth_frames import vary_pixels
from st4rtrack.data.pair_records import TrackedClip, TrackedClips, write_clips
from st4rtrack.model.checkpoint import load_monocular
from st4rtrack.model.config import ModelConfig
from st4rtrack.model.efficientnet import EfficientNetLite0
from st4rtrack.model.matching import CELL, MatchingHead
from st4rtrack.model.monocular import new_monocular
from st4rtrack.options import RunConfig
from st4rtrack.preprocess import normalize_images
from st4rtrack.train.config import TrainConfig
from st4rtrack.train.examples import to_device
from st4rtrack.train.loop import TrainingJob
from st4rtrack.train.presets import MatchingData, Preset
from st4rtrack.train.source import draw_samples, evenly_spaced
from st4rtrack.types import UserError

SOURCES = ("procedural", "world")
"""Source names of `--data NAME=FOLDER`, folders written by `st4rtrack.data.pair_records`."""
DYNAMIC_SHARE = 2 / 3
OCCLUDED_WEIGHT = 0.25
THRESHOLDS_PX = (4, 8, 16)
WINDOW_PX = 2 * CELL
"""Half size of the window around the most likely cell in which its position is refined."""
NAN = float("nan")


class MatchingNetwork(nn.Module):
    """Matching head on a frozen backbone, which is not saved: the parameters are those of `matching_head.` alone.

    Args:
        config: configuration of the network that the head belongs to.
        head: the head to train; a new one if None.
        backbone: the frozen backbone; None to hold weights for saving only.
    """

    def __init__(self, config: ModelConfig, head: MatchingHead | None = None, backbone: EfficientNetLite0 | None = None) -> None:
        super().__init__()
        self.config = config
        self.matching_head = head or MatchingHead()
        self._backbone = (backbone,)  # in a tuple, so that it is not registered as a part

    def forward(self, images: Tensor, pixels: Tensor) -> Tensor:
        """Log probability [pairs, points, cells] of the cells of each frame, for pixels [pairs, points, 2] of its anchor.

        Args:
            images: [clips, frames, 3, height, width] in [-1, 1], the anchor first; frames - 1 pairs per clip.
        """
        (backbone,) = self._backbone
        assert backbone is not None
        pairs = images.shape[1] - 1
        with torch.no_grad():
            levels = backbone(images.flatten(0, 1).contiguous(memory_format=torch.channels_last))
        maps = [level.unflatten(0, images.shape[:2]) for level in levels]
        anchor = tuple(each[:, :1].expand(-1, pairs, -1, -1, -1).flatten(0, 1) for each in maps)
        descriptors, others = self.matching_head(anchor, tuple(each[:, 1:].flatten(0, 1) for each in maps))
        with torch.autocast(images.device.type, enabled=False):
            return self.matching_head.log_likelihood(descriptors.float(), others.float(), pixels)


@dataclass
class MatchingExamples:
    """A micro-batch of clips with positions of anchor points in every frame."""

    images: Tensor  # [clips, frames, 3, height, width] in [-1, 1], the anchor first
    # anchor_pixels, frame_pixels: [pairs, points, 2], positions in the anchor and in the frame
    anchor_pixels: Tensor
    frame_pixels: Tensor
    weight: Tensor  # [pairs, points], 1 for visible points, `OCCLUDED_WEIGHT` for occluded dynamic ones, 0 for padding
    dynamic: Tensor  # [pairs, points] bool
    names: list[str]  # source and index of every clip, for messages

    def __len__(self) -> int:
        return len(self.weight)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of the cells of the descriptors."""
        return self.images.shape[3] // CELL, self.images.shape[4] // CELL


def clip_examples(
    clip: TrackedClip, points: int, rng: np.random.Generator, *, mirror: bool = False, name: str = ""
) -> MatchingExamples:
    """Draw points inside each frame of a clip: visible, or occluded and dynamic; two thirds on dynamic objects."""
    height, width = clip.rgb.shape[1:3]
    inside = ((clip.pixels >= 0) & (clip.pixels < (width, height))).all(-1)
    usable = (clip.valid & inside & (clip.visible | clip.dynamic))[1:].reshape(len(clip.rgb) - 1, -1)
    rows = np.stack([draw_points(row, clip.dynamic.reshape(-1), points, rng) for row in usable])

    def of(grid: np.ndarray) -> np.ndarray:
        return np.stack([values[row] for values, row in zip(grid.reshape(len(rows), usable.shape[1], -1), rows)])

    anchor = of(np.broadcast_to(clip.anchor_pixels, clip.pixels[1:].shape))
    frame = of(clip.pixels[1:])
    weight = of(usable)[..., 0] * np.where(of(clip.visible[1:])[..., 0], 1, OCCLUDED_WEIGHT)
    rgb = clip.rgb
    if mirror:
        rgb = np.ascontiguousarray(rgb[:, :, ::-1])
        for pixels in (anchor, frame):
            pixels[..., 0] = width - pixels[..., 0]
    arrays = (anchor, frame, weight.astype(np.float32), clip.dynamic.reshape(-1)[rows])
    return MatchingExamples(normalize_images(rgb)[None], *(torch.from_numpy(array) for array in arrays), names=[name])


def draw_points(usable: np.ndarray, dynamic: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Draw indices [count] of usable points [N]; zeros if there are none."""
    moving, static = np.flatnonzero(usable & dynamic), np.flatnonzero(usable & ~dynamic)
    static = static if len(static) else moving
    if not len(static):
        return np.zeros(count, np.int64)
    number = min(len(moving), round(DYNAMIC_SHARE * count))
    return np.concatenate([rng.choice(moving, number), rng.choice(static, count - number)])


def stack_examples(examples: Sequence[MatchingExamples]) -> MatchingExamples:
    """Concatenate micro-batches of one image size."""
    if len({each.images.shape[1:] for each in examples}) > 1:
        raise UserError("clips of different sizes cannot share a micro-batch; use --micro-batch 1")
    names = ("images", "anchor_pixels", "frame_pixels", "weight", "dynamic")
    tensors = (torch.cat([getattr(each, name) for each in examples]) for name in names)
    return MatchingExamples(*tensors, names=[name for each in examples for name in each.names])


@dataclass(frozen=True)
class MixedClips:
    """Micro-batches of randomly augmented clips from several sources."""

    sources: Mapping[str, TrackedClips]  # clips by name
    data: MatchingData  # shares and augmentation
    micro_batch: int  # clips per micro-batch
    seed: int  # random seed of sampling and augmentation

    def examples(self, index: int) -> MatchingExamples:
        """Sample micro-batch `index` >= 0."""
        rng = np.random.default_rng((self.seed, index))
        examples = []
        for name, number in draw_samples(self.sources, self.data.shares, self.micro_batch, rng):
            clip = self.sources[name].clip(number)
            rgb = jitter_colour(clip.rgb, self.data.colour, rng)
            rgb = np.stack([vary_pixels(image, rng, self.data.augmentation) for image in rgb])
            mirror = bool(rng.random() < self.data.augmentation.mirror)
            clip = replace(clip, rgb=rgb)
            examples.append(clip_examples(clip, self.data.points, rng, mirror=mirror, name=f"{name} {number}"))
        return stack_examples(examples)


@dataclass
class MatchingLoss:
    """Loss of a micro-batch: weighted mean cross-entropy, and its means over visible and occluded points."""

    total: Tensor
    visible_points: Tensor
    occluded_points: Tensor


def matching_loss(log_likelihood: Tensor, examples: MatchingExamples) -> MatchingLoss:
    """Cross-entropy of the bilinear position of every point over the cells [pairs, points, cells] of its frame."""
    rows, columns = examples.grid
    place = examples.frame_pixels / CELL - 0.5
    corner = place.floor()
    error = torch.zeros_like(examples.weight)
    for offset in (place.new_tensor([x, y]) for y in (0, 1) for x in (0, 1)):
        share = (1 - (corner + offset - place).abs()).prod(-1)
        column, row = ((corner + offset)[..., k].long().clamp(0, size - 1) for k, size in enumerate((columns, rows)))
        error = error - share * log_likelihood.gather(-1, (row * columns + column)[..., None])[..., 0]

    def mean(weight: Tensor) -> Tensor:
        return (error * weight).sum() / weight.sum().clamp(min=1)

    visible = (examples.weight == 1).float()
    return MatchingLoss(mean(examples.weight), mean(visible), mean((examples.weight > 0).float() - visible))


def refined_positions(log_likelihood: Tensor, grid: tuple[int, int]) -> Tensor:
    """Positions [pairs, points, 2] in pixels: the mean over a window around the most likely cell."""
    row, column = torch.meshgrid(*(torch.arange(size, device=log_likelihood.device) for size in grid), indexing="ij")
    centres = (torch.stack([column, row], dim=-1).reshape(-1, 2) + 0.5) * CELL
    best = centres[log_likelihood.argmax(-1)]
    near = ((centres - best[..., None, :]).abs() <= WINDOW_PX).all(-1)
    return log_likelihood.masked_fill(~near, -torch.inf).softmax(-1) @ centres


@dataclass(frozen=True)
class MatchingScore:
    """Share of visible dynamic points within 4, 8 and 16 pixels, mean over the clips of a source; NaN without clips."""

    procedural_4px: float = NAN
    procedural_8px: float = NAN
    procedural_16px: float = NAN
    world_4px: float = NAN
    world_8px: float = NAN
    world_16px: float = NAN

    def __str__(self) -> str:
        shares = {name: [100 * getattr(self, f"{name}_{limit}px") for limit in THRESHOLDS_PX] for name in SOURCES}
        parts = [f"{name} " + " / ".join(f"{share:.1f}" for share in row) for name, row in shares.items() if np.isfinite(row[0])]
        return f"dynamic points within 4 / 8 / 16 px [%]: {', '.join(parts)}"

    @property
    def overall(self) -> float:
        """Model selection score: share within 8 pixels, mean over the sources."""
        known = [value for value in (self.procedural_8px, self.world_8px) if np.isfinite(value)]
        return float(np.mean(known)) if known else float("-inf")


@dataclass(frozen=True)
class MatchingStage:
    """Training of the matching head for `loop.train_stage`."""

    start: MatchingNetwork  # network with initial weights; trained in place
    data: MatchingData  # configuration of the data
    held_out: Mapping[str, TrackedClips]  # validation clips by source

    def network(self, config: TrainConfig, device: torch.device, *, compile: bool) -> nn.Module:
        (backbone,) = self.start._backbone
        assert backbone is not None
        backbone.to(device).float().to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        network = self.start.to(device).float().to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        if compile:
            network.matching_head.compile()
        return network

    def build(self) -> nn.Module:
        return MatchingNetwork(self.start.config)

    def loss(self, network: nn.Module, examples: MatchingExamples, config: TrainConfig) -> MatchingLoss:
        return matching_loss(predict_cells(network, examples, config.precision), examples)

    @torch.no_grad()
    def validate(self, network: nn.Module, device: torch.device, precision: str) -> MatchingScore:
        network.eval()
        shares: dict[str, float] = {}
        for name, clips in self.held_out.items():
            rows = []
            for number in evenly_spaced(len(clips), self.data.validation_clips):
                examples = self._held_out(clips, number, device)
                positions = refined_positions(predict_cells(network, examples, precision), examples.grid)
                error = (positions - examples.frame_pixels).norm(dim=-1)[examples.dynamic & (examples.weight == 1)]
                if len(error):
                    rows.append([float((error < limit).float().mean()) for limit in THRESHOLDS_PX])
            if rows:
                shares |= {f"{name}_{limit}px": float(mean) for limit, mean in zip(THRESHOLDS_PX, np.mean(rows, axis=0))}
        return MatchingScore(**shares)

    @torch.no_grad()
    def pictures(self, network: nn.Module, device: torch.device, precision: str) -> list[np.ndarray]:
        network.eval()
        return [match_sheet(network, self._held_out(clips, 0, device), precision) for clips in self.held_out.values()]

    def _held_out(self, clips: TrackedClips, number: int, device: torch.device) -> MatchingExamples:
        return to_device(clip_examples(clips.clip(number), self.data.points, np.random.default_rng(number)), device)


def predict_cells(network: nn.Module, examples: MatchingExamples, precision: str) -> Tensor:
    """Log probabilities of the cells (`MatchingNetwork.forward`), with matrix products in `precision`."""
    with torch.autocast(examples.images.device.type, torch.bfloat16, enabled=precision == "bfloat16"):
        return network(examples.images, examples.anchor_pixels)


def match_sheet(network: nn.Module, examples: MatchingExamples, precision: str, shown: int = 40) -> np.ndarray:
    """Render a clip: dynamic points in the anchor; predicted positions in the frames, with red lines to the true ones."""
    predicted = refined_positions(predict_cells(network, examples, precision), examples.grid).cpu().numpy()
    images = ((examples.images[0].permute(0, 2, 3, 1).float().cpu().numpy() + 1) * 127.5).round().astype(np.uint8)
    panels = [image.copy() for image in images]
    for pair, panel in enumerate(panels[1:]):
        drawn = (examples.dynamic[pair] & (examples.weight[pair] == 1)).nonzero()[:shown, 0].cpu().numpy()
        anchor, true = (each[pair].cpu().numpy() for each in (examples.anchor_pixels, examples.frame_pixels))
        for k in drawn:
            (start, target, end) = (tuple(int(v) for v in each[k]) for each in (anchor, true, predicted[pair]))
            cv2.circle(panels[0], start, 1, (0, 255, 0), -1)
            cv2.line(panel, target, end, (255, 0, 0), 1, cv2.LINE_AA)
            cv2.circle(panel, end, 1, (0, 255, 0), -1)
    half = -(-len(panels) // 2)
    panels += [np.zeros_like(panels[0])] * (2 * half - len(panels))
    return np.concatenate([np.concatenate(row, axis=1) for row in (panels[:half], panels[half:])])


def open_matching(preset: Preset, run: RunConfig, *, output: Path, init: str, folders: Mapping[str, Path]) -> TrainingJob:
    """Open training of the matching head on a frozen backbone; the network of the preset is used for random weights only.

    Args:
        init: checkpoint with the encoder, "" for the embedded one, or "random"; its matching head, if any, is trained further.
        folders: source folders by a name of `SOURCES`; without any, clips of the procedural world are rendered into `output`.
    """
    data, config = preset.data, preset.train
    assert isinstance(data, MatchingData)
    if unknown := sorted(set(folders) - set(SOURCES)):
        raise UserError(f"--data {unknown[0]}=...: the sources of the matching head are {', '.join(SOURCES)}")
    if not folders:
        folders = {"procedural": output / "procedural"}
        for part, count in (("validation", data.validation_clips), ("train", data.procedural_clips)):
            write_clips(folders["procedural"], "procedural", part, count, seed=0, size=data.size, compile=run.compile)
    sources, held_out = (
        {name: TrackedClips(folders[name], part) for name in sorted(folders)} for part in ("train", "validation")
    )
    start, weights_hash = first_network(preset.model, init, config.seed)
    source = MixedClips(sources, data, config.micro_batch, config.seed)
    return TrainingJob(
        MatchingStage(start, data, held_out),
        start.config,
        source,
        {"init": weights_hash or "random", "datasets": sorted(folders)},
    )


def first_network(config: ModelConfig, init: str, seed: int) -> tuple[MatchingNetwork, str]:
    """Create the network with initial weights, and return it with the hash of the checkpoint; see `init` of `open_matching`."""
    network = new_monocular(config, seed) if init == "random" else load_monocular(init or None, device="cpu")
    torch.manual_seed(seed)
    head = network.matching_head if init and network.matching_head is not None else MatchingHead()
    backbone = network.encoder.pyramid.backbone.requires_grad_(False)
    start = MatchingNetwork(replace(network.config, matching=True), head.requires_grad_(True), backbone)
    return start, network.weights_hash
