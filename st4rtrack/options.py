"""Options of functions and commands as dataclasses; field descriptions are also the help of the command line."""

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from st4rtrack.errors import UserError

SOLVER = "solver"
"""Value of `cameras`, instead of a file: estimate cameras and focal length with the global solver."""


@dataclass(frozen=True)
class FrameSelection:
    """Selection of the frames to process."""

    start: int | str | None = None
    """First frame: source frame number, or seconds as in 2.5s."""
    stop: int | str | None = None
    """End (exclusive): source frame number, or seconds as in 7s."""
    stride: int = 1
    """Take every n-th frame, after --fps."""
    fps: float | None = None
    """Target frame rate; surplus frames are dropped. For a folder of images: its frame rate (default 30)."""


@dataclass(frozen=True)
class DeviceOptions:
    """Device and precision of the network."""

    device: str = "auto"
    """Device: auto, cpu, cuda, cuda:1 or mps. batch: several (cuda:0,cuda:2); auto and cuda use all GPUs."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Precision of the network; auto: bfloat16 where it is fast."""
    deterministic: bool = False
    """Bitwise reproducible on GPU (slower); CPU runs always are."""


@dataclass(frozen=True)
class ReconstructOptions:
    """Reconstruction of a video."""

    anchor: int | str = 0
    """World frame: index of a processed frame, middle, or auto (0, plus further anchors)."""
    size: int | None = None
    """Long side at the network in pixels. Default: the model's own."""
    fit: Literal["crop", "stretch"] = "crop"
    """Fit sides to multiples of the patch size: crop, or stretch (as the benchmark does)."""
    batch_size: int | str | None = None
    """Frames per batch. Default: by device."""
    points_dtype: Literal["float32", "float16"] = "float32"
    """Type of the stored points; float16 halves the folder."""
    depth_prior: str = "auto"
    """Monocular depth prior: builtin, none, hub id, model folder, or depth maps."""
    refine: bool = True
    """Temporally smooth the tracks (two-sided window)."""
    zoom: Literal["auto", "none"] = "auto"
    """Zoom: estimate the focal length of each frame where the video zooms, or assume a constant one."""


@dataclass(frozen=True)
class RunAdaptation:
    """Adaptation of the model to the video of a run."""

    adapt: bool = False
    """Adapt the model to this video, and keep the scene of the adapted model if it is better."""
    adapt_minutes: float = 5.0
    """Time budget of the adaptation (minutes)."""


@dataclass(frozen=True)
class KnownGeometry:
    """User-provided geometry. `batch`: {name} in a path is the name of the scene folder."""

    intrinsics: str | Path | Any | None = None
    """Known intrinsics: fx[,fy[,cx,cy]] in source pixels, or a file (docs/known.md)."""
    cameras: str | Path | Any | None = None
    """Known cameras: solver, COLMAP folder, TUM trajectory, transforms.json or .npz."""
    distortion: str | Path | Any | None = None
    """Lens distortion: k1[,k2[,p1,p2[,k3]]], fisheye:k1,k2,k3,k4, or a calibration file (docs/known.md)."""
    depth: str | Path | Any | None = None
    """Known z-depth (0: unknown): .npz, or folder of 16-bit PNG, TIFF, .npy or .npz."""
    depth_per_unit: float | None = None
    """Integer depth scale: values per unit (default 1000: millimetres, 5000: TUM, 256: KITTI)."""
    static_mask: str | Path | Any | None = None
    """Mask of the static scene (white): an image, or a folder with an image per frame."""
    metres_per_unit: float | None = None
    """Metric scale: metres per unit of the known cameras or depth, else of the model's world."""
    known_distance: str | None = None
    """Metric scale from two pixels of the anchor frame: u1,v1,u2,v2=metres."""

    def __bool__(self) -> bool:
        return any(value is not None for value in vars(self).values())

    @property
    def asks_solver(self) -> bool:
        """Whether the cameras are to be estimated by the global solver."""
        return isinstance(self.cameras, str | Path) and str(self.cameras) == SOLVER

    def of_video(self, name: str) -> "KnownGeometry":
        """Replace {name} in paths by the name of a video."""
        texts = {key: str(value).replace("{name}", name) for key, value in vars(self).items() if isinstance(value, str | Path)}
        return replace(self, **texts)

    def absolute(self) -> "KnownGeometry":
        """Make paths absolute, so that they are valid in every working directory."""
        names = ["cameras", "depth", "static_mask"]
        for name in ("intrinsics", "distortion"):
            if re.fullmatch(r"(fisheye:)?[\d.,eE+\s-]*", str(getattr(self, name))) is None:
                names.append(name)
        paths = {name: value for name in names if isinstance(value := getattr(self, name), str | Path) and str(value) != SOLVER}
        return replace(self, **{name: Path(path).absolute() for name, path in paths.items()})


@dataclass(frozen=True)
class LearningOptions:
    """Teachers and optimisation of an adaptation."""

    tracks: str | Any = "fused"
    """Track teacher: fused (built in), or another one (docs/adaptation.md)."""
    depth: str | Any = "fused"
    """Depth teacher: fused (built in), none, a depth model, or depth maps."""
    steps: int = 500
    """Maximum number of optimiser steps; early stopping on held-out tracks."""
    minutes: float | None = None
    """Time budget of the optimiser steps (minutes)."""
    loss: Literal["auto", "relative", "paper", "released"] | Any = "auto"
    """Loss: relative error, as in the paper, or as in the released scripts; auto: by the model."""
    freeze: Literal["auto", "reconstruction", "anchored", "encoder"] = "auto"
    """Frozen parts in addition to the encoder; anchored also preserves their output; auto: by the model."""
    learning_rate: float | None = None
    """Peak learning rate. Default: 5e-5 (paper), larger for a monocular head."""
    batch_size: int | str | None = None
    """Frames per step. Default: 24, fewer where memory is short."""
    device: str = "auto"
    """Device: auto, cpu, cuda, cuda:1 or mps."""

    def config(self) -> dict[str, Any]:
        """Fields of `AdaptConfig` that these options set."""
        names = ("steps", "minutes", "freeze", "learning_rate", "patience", "seed")
        values = {name: getattr(self, name, None) for name in names}
        return {name: value for name, value in values.items() if value not in (None, "auto")}


@dataclass(frozen=True)
class AdaptOptions(LearningOptions):
    """Teachers, optimisation and results of an adaptation."""

    without: str | Any = ""
    """Loss terms to leave out, separated by commas: trajectory, depth, alignment, held, pose."""
    patience: int = 6
    """Early stopping: evaluations (one every 25 steps) without improvement."""
    size: int | None = None
    """Long side at the network in pixels. Default: the model's own."""
    fit: Literal["crop", "stretch"] = "crop"
    """Fit sides to multiples of the patch size: crop, or stretch as the benchmark does."""
    seed: int = 0
    """Random seed of the samples and of the held-out tracks."""
    changes_only: bool = False
    """Store only the changed weights; loading them needs the base model."""
    scenes: Literal["first", "all", "none"] = "first"
    """Scenes to write before and after adaptation: of the first video, of all, or none."""


@dataclass(frozen=True)
class MethodOptions:
    """Inputs of the method; every method uses only some of them."""

    protocol: Literal["published", "corrected", "tapvid3d"] | Any = "published"
    """Queries: sampled at their pixel (published) or sub-pixel position; tapvid3d: in all frames."""
    model: str | None = None
    """Name (st4rtrack models), checkpoint, folder or hub id. Default: tiny, for st4rtrack."""
    device: str = "auto"
    """Device: auto, cpu, cuda, cuda:1 or mps."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Precision of the network; auto: bfloat16 where it is fast."""
    size: int | None = None
    """Long side at the network in pixels. Default: the model's own."""
    refine: bool = True
    """Temporally smooth the tracks of st4rtrack."""
    tracks: Path | None = None
    """Folder of SpatialTracker tracks (docs/spatracker.md)."""
    cameras: Path | None = None
    """spatracker-monst3r: folder of predictions with cameras."""
    flow: Path | None = None
    """monst3r-ga: folder of optical flow (docs/benchmark.md)."""
    graph: str = "swinstride-5-noncyclic"
    """Global alignment: complete, swin-K, swinstride-K, logwin-K (each also -noncyclic), oneref-R."""
    iterations: int = 300
    """Global alignment: number of iterations."""


@dataclass(frozen=True)
class PresetChanges:
    """Optimisation; default: as in the preset."""

    steps: int | None = None
    """Optimiser steps."""
    batch_size: int | None = None
    """Samples (pairs or clips) per step, over all processes."""
    micro_batch: int | None = None
    """Samples per forward pass (gradient accumulation)."""
    learning_rate: float | None = None
    """Peak learning rate."""
    precision: Literal["bfloat16", "float32"] | None = None
    """Precision of matrix products."""
    seed: int | None = None
    """Random seed of weights and data."""
    augment: bool = False
    """Augment clips: crop, focal length, colour, mirror, time reversal, anchor."""


@dataclass(frozen=True)
class RunConfig:
    """Execution; no effect on the weights beyond rounding, and may differ in a resumed run."""

    device: str = "auto"
    """Device: auto, cpu or cuda."""
    parallel: Literal["ddp", "fsdp"] = "ddp"
    """Under torchrun: replicated (ddp) or sharded (fsdp) network."""
    workers: int = 0
    """Data workers per training process."""
    compile: bool = True
    """Compile the renderer with torch.compile (needs a C++ compiler)."""
    compile_network: bool = False
    """Compile the network too: minutes at the start, then faster."""
    validate_every: int = 500
    """Steps between validations."""
    save_every: int = 250
    """Steps between checkpoints."""
    report_every: int = 50
    """Steps between points of the training curves."""
    on_non_finite: Literal["stop", "skip"] = "stop"
    """Non-finite loss or gradient: stop the run, or skip the step."""
    skip_limit: int = 10
    """Maximum number of steps skipped in a row."""
    save_dtype: Literal["float16", "bfloat16", "float32"] = "float16"
    """Type of the final weights; the training state is always float32."""


def with_keywords(function: str, keywords: Mapping[str, Any], *options: Any) -> list[Any]:
    """Replace fields in option dataclasses by the keywords of a function.

    Raises:
        TypeError: no dataclass has such a field.
    """
    names = [{field.name for field in dataclasses.fields(each)} for each in options]
    if unknown := sorted(keywords.keys() - set().union(*names)):
        raise TypeError(f"{function}() got an unexpected keyword argument {unknown[0]!r}")
    chosen = [{name: value for name, value in keywords.items() if name in own} for own in names]
    return [replace(each, **changes) for each, changes in zip(options, chosen, strict=True)]


def positive_int(value: Any, name: str) -> int:
    """Check for a whole number of at least 1.

    Raises:
        UserError: the value is not one.
    """
    try:
        number = int(value)
    except ValueError:
        number = 0
    if number < 1:
        raise UserError(f"{name} must be a whole number of at least 1, got {value}")
    return number
