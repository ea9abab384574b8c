"""Training and validation data of a preset, from its data configuration and the user's folders."""

import logging
from dataclasses import dataclass
from pathlib import Path

from st4rtrack.data.clip import Clip, ClipSource
from st4rtrack.data.procedural import ProceduralClips, ProceduralConfig
from st4rtrack.data.training import TrainingData, open_training_source
from st4rtrack.io.files import expanded
from st4rtrack.train.config import TrainConfig
from st4rtrack.train.parallel import Processes
from st4rtrack.train.presets import DATASETS, ReadClips, RenderedClips
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


def parse_folders(options: tuple[str, ...]) -> dict[str, Path]:
    """Parse data set folders from strings NAME=PATH.

    Raises:
        UserError: an option has another form, or its folder does not exist.
    """
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
    """Open the training source and the validation data of a run.

    Args:
        data: data configuration of the preset.
        config: batch sizes and seed.
        folders: folders of the data sets by name; data sets without a folder are not used.
        processes: training processes; on CUDA, clips are rendered on the training device.
    Raises:
        UserError: a folder is missing, or its data cannot be read.
    """
    if isinstance(data, ReadClips):
        clips = open_training_source(_described(data, folders, config.seed))
        return ClipExamples(clips, config.micro_batch, data.with_anchor), _held_out(data.held_out, config)
    if folders:
        raise UserError(f"this preset renders its own data; remove --data {next(iter(folders))}=...")
    renderer = ProceduralConfig(height=data.height, width=data.width, num_frames=data.frames)
    clips = ProceduralClips(renderer, config.seed, _renderer(processes))
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


def _renderer(processes: Processes) -> str:
    """Device to render clips on; scenes are float64, which not all device types support."""
    return str(processes.device) if processes.device.type == "cuda" else "cpu"
