"""Entry point of training: runs a preset with the user's folders and weights."""

from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from st4rtrack.model.checkpoint import load_model
from st4rtrack.model.config import ModelConfig
from st4rtrack.model.network import St4RTrack
from st4rtrack.options import RunConfig
from st4rtrack.train.datasets import open_data
from st4rtrack.train.forward import new_model
from st4rtrack.train.loop import PairStage, StageScore, train_stage
from st4rtrack.train.matching import train_matching
from st4rtrack.train.monocular import train_monocular
from st4rtrack.train.parallel import Processes, check_split
from st4rtrack.train.presets import PRESETS, MatchingData, MonocularData, Preset
from st4rtrack.types import UserError


def find_preset(name: str) -> Preset:
    """Look up a preset by name.

    Raises:
        UserError: the name is unknown.
    """
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
    data = preset.data
    if isinstance(data, MonocularData | MatchingData):
        choices: dict[str, Any] = {"init": init, "folders": folders, "change_options": change_options}
        choices |= {"model": preset.model, "output": output, "processes": processes}
        if isinstance(data, MonocularData):
            return train_monocular(preset.train, run, data, **choices)
        return train_matching(preset.train, run, data, **choices)
    check_split(preset.train.micro_batches, processes)
    model = first_weights(preset, init)
    source, held_out = open_data(data, preset.train, folders or {}, processes)
    options = {"init": init or "random", "data": asdict(data), "datasets": sorted(folders or {})}
    return train_stage(
        PairStage(model, held_out),
        model.config,
        preset.train,
        run,
        source=source,
        output=output,
        processes=processes,
        options=options,
        change_options=change_options,
    )


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
