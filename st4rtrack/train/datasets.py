"""From what a preset says about data, and the user's folders, to micro-batches by number and to what is measured on."""

import json
import logging
import time
from dataclasses import dataclass, replace
from pathlib import Path

from st4rtrack.data.clip import Clip, ClipSource
from st4rtrack.data.procedural import ProceduralConfig
from st4rtrack.data.procedural_source import ProceduralClips
from st4rtrack.data.training import TrainingData, open_training_source
from st4rtrack.io.files import expanded
from st4rtrack.options import RunConfig
from st4rtrack.train.config import PoolConfig, TrainConfig
from st4rtrack.train.parallel import Processes
from st4rtrack.train.pool import fill_pool
from st4rtrack.train.presets import DATASETS, CachedPairs, ReadClips, RenderedClips
from st4rtrack.train.source import ClipExamples, ExampleSource, PoolExamples, held_out_clips, held_out_pairs
from st4rtrack.train.validate import HeldOut
from st4rtrack.types import UserError

logger = logging.getLogger(__name__)

VALIDATION_SEED = 9_000_000


@dataclass(frozen=True)
class Repeated:
    """The first `distinct` clips of a source, over and over."""

    clips: ClipSource
    distinct: int

    def clip(self, index: int) -> Clip:
        return self.clips.clip(index % self.distinct)


def parse_folders(options: tuple[str, ...]) -> dict[str, Path]:
    """Folders of data sets from texts NAME=PATH.

    Raises:
        UserError: not of that form, or no such folder.
    """
    folders = {}
    for option in options:
        name, separator, path = option.partition("=")
        if not separator or not name or not path:
            raise UserError(f"--data takes NAME=FOLDER, such as kubric=/data/kubric, not {option!r}")
        folders[name] = expanded(path)
        if not folders[name].is_dir():
            raise UserError(f"--data {option}: there is no folder {folders[name]}")
    return folders


def open_data(
    data: CachedPairs | RenderedClips | ReadClips,
    config: TrainConfig,
    run: RunConfig,
    folders: dict[str, Path],
    pools: Path,
    processes: Processes,
) -> tuple[ExampleSource, list[HeldOut]]:
    """What a run learns from, and what it is measured on.

    Args:
        data: as the preset says.
        config: sizes of batches, and the seed.
        run: whether the renderer of cached pairs is compiled.
        folders: of the data sets that are read; of those that are not given nothing is learnt.
        pools: folder for cached pairs; they are made first, by the first process.
        processes: those that train; on CUDA, clips are rendered where they train.
    Raises:
        UserError: a folder is missing, or its data cannot be read.
    """
    if isinstance(data, ReadClips):
        clips = open_training_source(_described(data, folders, config.seed))
        return ClipExamples(clips, config.micro_batch, data.with_anchor), _held_out(data.held_out, config)
    if folders:
        raise UserError(f"this preset makes its own data; it takes no --data {next(iter(folders))}=...")
    if isinstance(data, RenderedClips):
        renderer = ProceduralConfig(height=data.height, width=data.width, num_frames=data.frames)
        clips = ProceduralClips(renderer, config.seed, _renderer(processes))
        return ClipExamples(Repeated(clips, data.distinct) if data.distinct else clips, config.micro_batch), _held_out(
            data, config
        )
    for name, pool in (("validation", data.validation), ("pool", data.pool)):
        _fill_together(pools / name, replace(pool, compile=run.compile), processes)
    cached = PoolExamples(pools / "pool", micro_batch=config.micro_batch, seed=config.seed)
    return cached, held_out_pairs(pools / "validation")


def _described(data: ReadClips, folders: dict[str, Path], seed: int) -> TrainingData:
    unknown = sorted(set(folders) - set(DATASETS))
    if unknown:
        raise UserError(f"--data {unknown[0]}=...: this preset learns from {', '.join(DATASETS)}")
    if not folders:
        raise UserError(f"this preset learns from {', '.join(DATASETS)}; give their folders: --data {DATASETS[0]}=FOLDER ...")
    missing = [name for name in DATASETS if name not in folders]
    if missing:
        logger.warning("the published mixture has %s too; without it this is another training", " and ".join(missing))
    return data.described(folders, seed)


def _held_out(data: RenderedClips, config: TrainConfig) -> list[HeldOut]:
    renderer = ProceduralConfig(height=data.height, width=data.width, num_frames=data.validation_frames)
    clips = ProceduralClips(renderer, config.seed if data.distinct else VALIDATION_SEED)
    return held_out_clips(clips, range(data.validation_clips))


def _renderer(processes: Processes) -> str:
    """Where clips are rendered: scenes are float64, which not every kind of device knows."""
    return str(processes.device) if processes.device.type == "cuda" else "cpu"


def _fill_together(folder: Path, pool: PoolConfig, processes: Processes) -> None:
    """Waits on the disk and not on a message: rendering may take hours, and messages time out."""
    if processes.first:
        fill_pool(folder, pool, _renderer(processes))
    while not processes.first and _pairs_in(folder) < pool.pairs:
        time.sleep(0.5)


def _pairs_in(folder: Path) -> int:
    """As many as a pool says it holds, 0 while it is made."""
    try:
        return int(json.loads((folder / "pool.json").read_text())["pairs"])
    except (OSError, ValueError, KeyError):
        return 0
