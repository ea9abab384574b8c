"""Entry point of training: runs a preset with the user's folders and weights."""

import logging
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from st4rtrack.data.clip import Clip, ClipSource
from st4rtrack.data.procedural import ProceduralClips, ProceduralConfig
from st4rtrack.data.training import TrainingData, open_training_source
from st4rtrack.io.files import expanded
from st4rtrack.model.checkpoint import load_model
from st4rtrack.model.config import ModelConfig
from st4rtrack.model.network import St4RTrack
from st4rtrack.options import RunConfig
from st4rtrack.train.config import TrainConfig
from st4rtrack.train.forward import new_model
from st4rtrack.train.loop import PairStage, StageScore, TrainingJob, train_stage
from st4rtrack.train.matching import open_matching
from st4rtrack.train.monocular import open_monocular
from st4rtrack.train.parallel import Processes, check_split
from st4rtrack.train.presets import DATASETS, PRESETS, MatchingData, MonocularData, Preset, ReadClips, RenderedClips
from st4rtrack.train.source import ClipExamples, ExampleSource, held_out_clips
from st4rtrack.train.validate import HeldOut
from st4rtrack.types import UserError

logger = logging.getLogger(__name__)

VALIDATION_SEED = 9_000_000


@dataclass(frozen=True)
class Repeated:
    """Clip source that repeats the first `distinct` clips of another source."""

    clips: ClipSource
    distinct: int

    def clip(self, index: int) -> Clip:
        return self.clips.clip(index % self.distinct)


def find_preset(name: str) -> Preset:
    """Look up a preset by name."""
    if name not in PRESETS:
        raise UserError(f"preset must be one of {', '.join(PRESETS)}, got {name!r}")
    return PRESETS[name]


def run_preset(
    preset: Preset,
    run: RunConfig,
    *,
    output: Path,
    processes: Processes,
    init: str = "",
    folders: dict[str, Path] | None = None,
    change_options: bool = False,
) -> StageScore:
    """Train with a preset, or resume the run in `output`.

    Args:
        preset: one of `PRESETS`, or a custom one.
        run: configuration of the execution.
        output: output folder of the run.
        processes: training processes.
        init: initial weights: as accepted by `load_model`, "random", or "" for the default of the preset.
        folders: folders of the data sets by name.
        change_options: resume even if the options differ from those of the run.
    Raises:
        UserError: as `loop.train_stage`; or weights or data are missing or incompatible.
    """
    check_split(preset.train.micro_batches, processes)
    folders = folders or {}
    if isinstance(preset.data, MonocularData):
        job = open_monocular(preset, run, output=output, init=init, folders=folders)
    elif isinstance(preset.data, MatchingData):
        job = open_matching(preset, run, output=output, init=init, folders=folders)
    else:
        model = first_weights(preset, init)
        source, held_out = open_data(preset.data, preset.train, folders, processes)
        job = TrainingJob(
            PairStage(model, held_out), model.config, source, {"init": init or "random", "datasets": sorted(folders)}
        )
    job = replace(job, options={"data": asdict(preset.data)} | job.options)
    return train_stage(job, preset.train, run, output=output, processes=processes, change_options=change_options)


def first_weights(preset: Preset, init: str) -> St4RTrack:
    """Create the network with initial weights, on the CPU.

    Raises:
        UserError: required weights are missing or of another architecture.
    """
    if not init and preset.from_weights:
        raise UserError("this preset needs pretrained weights; pass --init mast3r (or dust3r, monst3r, a file), or --init random")
    if init in ("", "random"):
        return new_model(preset.model, preset.train.seed)
    model = load_model(init, device="cpu", dtype="float32")
    if problem := _other_architecture(model.config, preset.model):
        raise UserError(f"--init {init} has another architecture than the preset: {problem}")
    model.config = preset.model
    return model


def _other_architecture(found: ModelConfig, wanted: ModelConfig) -> str:
    """Describe the first architecture difference, "" if none; the image size does not count, as no weight depends on it."""
    found = replace(found, image_size=wanted.image_size)
    names = [field.name for field in fields(found) if getattr(found, field.name) != getattr(wanted, field.name)]
    return f"{names[0]} is {getattr(found, names[0])}, not {getattr(wanted, names[0])}" if names else ""


def parse_folders(options: tuple[str, ...]) -> dict[str, Path]:
    """Parse data set folders from strings NAME=PATH."""
    folders = {}
    for option in options:
        name, separator, path = option.partition("=")
        if not separator or not name or not path:
            raise UserError(f"--data must be NAME=FOLDER, such as kubric=/data/kubric, got {option!r}")
        folders[name] = expanded(path)
        if not folders[name].is_dir():
            raise UserError(f"--data {option}: folder {folders[name]} does not exist; pass an existing one")
    return folders


def open_data(
    data: RenderedClips | ReadClips, config: TrainConfig, folders: dict[str, Path], processes: Processes
) -> tuple[ExampleSource, list[HeldOut]]:
    """Open the training source and the validation data of a run; data sets without a folder are not used."""
    if isinstance(data, ReadClips):
        clips = open_training_source(_described(data, folders, config.seed))
        return ClipExamples(clips, config.micro_batch, data.with_anchor), _held_out(data.held_out, config)
    if folders:
        raise UserError(f"this preset renders its own data; remove --data {next(iter(folders))}=...")
    renderer = ProceduralConfig(height=data.height, width=data.width, num_frames=data.frames)
    device = processes.device if processes.device.type == "cuda" else "cpu"  # scenes are float64, which not all devices support
    clips = ProceduralClips(renderer, config.seed, str(device))
    return ClipExamples(Repeated(clips, data.distinct) if data.distinct else clips, config.micro_batch), _held_out(data, config)


def _described(data: ReadClips, folders: dict[str, Path], seed: int) -> TrainingData:
    unknown = sorted(set(folders) - set(DATASETS))
    if unknown:
        raise UserError(f"--data {unknown[0]}=...: the data sets of this preset are {', '.join(DATASETS)}")
    if not folders:
        raise UserError(f"this preset needs {', '.join(DATASETS)}; pass their folders: --data {DATASETS[0]}=FOLDER ...")
    missing = [name for name in DATASETS if name not in folders]
    if missing:
        logger.warning("the published training also uses %s; the result will differ without it", " and ".join(missing))
    return data.described(folders, seed)


def _held_out(data: RenderedClips, config: TrainConfig) -> list[HeldOut]:
    renderer = ProceduralConfig(height=data.height, width=data.width, num_frames=data.validation_frames)
    clips = ProceduralClips(renderer, config.seed if data.distinct else VALIDATION_SEED)
    return held_out_clips(clips, range(data.validation_clips))
