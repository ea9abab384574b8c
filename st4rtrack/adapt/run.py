"""Entry point of adaptation, from videos to output files. Read this first; `loop.py` has the optimisation."""

import copy
import json
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from st4rtrack.adapt.config import ANCHORED_WEIGHT, AdaptConfig, default_config, default_frames
from st4rtrack.adapt.loop import Learning, PairTask, Task, adapt
from st4rtrack.adapt.monocular import DepthTask, prepare_depth
from st4rtrack.adapt.prepare import prepare_video
from st4rtrack.adapt.priors import DepthTeacher, TrackTeacher
from st4rtrack.adapt.result import Adaptation, write_picture
from st4rtrack.adapt.scenes import OutputPaths, Scenes, is_monocular
from st4rtrack.adapt.teachers import FusedTeacher, open_teachers
from st4rtrack.io.known.matching import SourceSize
from st4rtrack.io.lock import locked
from st4rtrack.io.video import open_video
from st4rtrack.losses.adaptation import MONOCULAR, NAMED, AdaptationLoss
from st4rtrack.model.checkpoint import Base, find_base, load_model, save_changes, save_model
from st4rtrack.model.device import choose_dtype
from st4rtrack.model.network import St4RTrack
from st4rtrack.options import (
    AdaptOptions,
    FrameSelection,
    KnownGeometry,
    ReconstructOptions,
    positive_int,
    with_keywords,
)
from st4rtrack.pipeline.preparation import prepare
from st4rtrack.scene import Scene
from st4rtrack.types import KnownVideo, UserError, Video

INFO_KEY = "st4rtrack_adaptation"
"""Key in the header of an adapted checkpoint, with the summary and the options."""

_INPUTS = ".inputs_"
"""Name prefix of the temporary folder with the precomputed arrays; deleted when the process ends."""


def adapt_videos(
    videos: Sequence[Any],
    *,
    output: str | Path | None = None,
    model: str | Path | St4RTrack = "tiny",
    config: AdaptConfig | Mapping[str, Any] = MappingProxyType({}),
    known: KnownGeometry | None = None,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
    options: AdaptOptions = AdaptOptions(),
    frames: FrameSelection = FrameSelection(),
    scene: Scene | None = None,
    **keywords: Any,
) -> Adaptation:
    """Adapt a model to one video, or one model to several (paper section 3.3, "instance" and "domain").

    Args:
        videos: each as accepted by `reconstruct`. The first of the selected frames is the anchor.
        output: checkpoint path, a `.safetensors` file; default NAME_adapted.safetensors in the current folder.
        model: base model, as accepted by `load_model`, or a network, which is copied.
        config: configuration of the optimisation, or some fields of `AdaptConfig` that override `options`. The defaults of
            learning rate, frozen parts, weight of dynamic points and precision depend on the model and the device.
        known: user-provided intrinsics and cameras of every video, not estimated then; {name} in a path is the video name.
            Cameras are used by the built-in teachers only.
        overwrite: replace an existing output and restart an unfinished adaptation.
        progress: called with (steps done, total steps).
        options: teachers, loss, frozen parts and the other `AdaptOptions`; `tracks`, `depth` and `loss` may be objects too.
        frames: frames of each video to process.
        scene: scene of a single video, made by the base model; the built-in teachers of a network without decoders read it.
        keywords: fields of `options` and `frames` by name: `adapt_videos(["a.mp4"], steps=100, stop=50)`.
    Returns:
        The adapted network with its files and metrics; the base model if there was no improvement.
    Raises:
        UserError: a video, an option or a file cannot be used, or another process writes to the output.
        KeyboardInterrupt: passed on; the same call resumes the adaptation.
    """
    options, frames = with_keywords("adapt_videos", keywords, options, frames)
    opened = _opened(videos, frames)
    paths = _output_paths(output, opened, overwrite)
    with locked(paths.report):
        for left in paths.report.glob(f"{_INPUTS}*"):  # of a killed process
            shutil.rmtree(left, ignore_errors=True)
        if overwrite:
            paths.state.unlink(missing_ok=True)
        network, base = _base(model, options.device, options.changes_only)
        scenes = Scenes(network, paths, options, overwrite=overwrite, given=scene)
        chosen = config if isinstance(config, AdaptConfig) else _config(network, {**options.config(), **config})
        loss = _loss(options, network, chosen)
        tasks = [_task(video, network, options, chosen, known, scenes) for video in opened]
        _require_terms(loss, tasks)
        stored = _stored(network, tasks, options, loss, chosen)
        shown = {"first": tasks[:1], "all": tasks, "none": []}[options.scenes]
        before = [scenes.make(task.source, task.known, task.fused, "before") for task in shown]
        with tempfile.TemporaryDirectory(prefix=_INPUTS, dir=paths.report) as folder:
            job = _prepared(network, tasks, chosen, loss, folder=Path(folder), cache=paths.report / "teachers")
            learning = adapt(job, chosen, state=paths.state, options=stored, progress=progress)
        if learning.progress.best_step:
            network.name = paths.checkpoint.stem
        after = [scenes.make(task.source, task.known, task.fused, "after") for task in shown]
        names = [video.name for video in opened]
        found = Adaptation(network, paths.checkpoint, paths.report, names, learning.progress, stored)
        write_picture(found, {"Before": before[0], "After": after[0]} if shown else {})
        found.write_json(paths.report / "adaptation.json")
        _save(found, learning, base)
        paths.state.unlink(missing_ok=True)
        return found


def _opened(videos: Sequence[Any], frames: FrameSelection) -> list[Video]:
    """Open the videos and give each a unique name."""
    if not videos:
        raise UserError("there is no video to adapt to; pass at least one")
    opened: list[Video] = []
    for source in videos:
        video = open_video(source, **vars(frames))
        if len(video) < 2:
            raise UserError(f"{video.name} has one frame; adaptation learns from motion and needs at least two")
        taken = sum(video.name == other.name.rpartition("~")[0] or video.name == other.name for other in opened)
        opened.append(replace(video, name=f"{video.name}~{taken + 1}") if taken else video)
    return opened


def _output_paths(output: str | Path | None, videos: list[Video], overwrite: bool) -> OutputPaths:
    name = videos[0].name if len(videos) == 1 else f"{videos[0].name}_and_{len(videos) - 1}_more"
    checkpoint = Path(output) if output is not None else Path(f"{name}_adapted.safetensors")
    if checkpoint.suffix != ".safetensors":
        raise UserError(f"-o must end in .safetensors, got {checkpoint}")
    if checkpoint.exists() and not overwrite and not OutputPaths(checkpoint).state.exists():  # state left: killed at the end
        raise UserError(f"{checkpoint} already exists; choose another path with -o, or replace it with --overwrite")
    paths = OutputPaths(checkpoint)
    try:
        paths.report.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"could not create the folder {paths.report} ({error.strerror}); choose another path with -o") from None
    return paths


def _base(model: str | Path | St4RTrack, device: str, changes_only: bool) -> tuple[St4RTrack, Base | None]:
    """Load the network in float32, and the base model that a file of weight changes refers to."""
    if isinstance(model, St4RTrack):
        if changes_only:
            raise UserError(
                "changes_only needs a model loaded from a file, not a network in memory; pass a path or save the whole model"
            )
        return copy.deepcopy(model).float(), None
    network = load_model(model, device=device, dtype="float32")
    return network, find_base(network, model) if changes_only else None


def _config(model: St4RTrack, given: Mapping[str, Any]) -> AdaptConfig:
    precision = str(choose_dtype("auto", model.device)).removeprefix("torch.")
    config = AdaptConfig(**{"precision": precision, **default_config(model.config), **given})
    if is_monocular(model) and config.freeze != "encoder":
        raise UserError(
            f"--freeze {config.freeze} needs a network with decoders, and {model.name} has only a monocular head; "
            "leave out --freeze"
        )
    return config


def _loss(options: AdaptOptions, model: St4RTrack, config: AdaptConfig) -> AdaptationLoss:
    loss = options.loss
    if is_monocular(model) and loss != "auto":
        raise UserError(f"--loss {loss} needs a network with decoders, and {model.name} has only a monocular head; leave it out")
    if loss == "auto":
        loss = MONOCULAR if is_monocular(model) else "paper"
    if isinstance(loss, str):
        if loss not in NAMED:
            raise UserError(f"loss must be one of auto, {', '.join(NAMED)}, got {loss!r}")
        loss = NAMED[loss]
    if config.freeze == "anchored" and not loss.held:
        loss = replace(loss, held=ANCHORED_WEIGHT)
    without = options.without.split(",") if isinstance(options.without, str) and options.without else options.without
    return replace(loss, **dict.fromkeys(without, 0.0))


@dataclass(frozen=True)
class _Task:
    """A video in source and network size, its teachers (the built-in one too), frames per step and user-provided geometry."""

    source: Video
    video: Video
    fused: FusedTeacher
    tracks: TrackTeacher
    depth: DepthTeacher | None
    frames: int
    known: KnownGeometry | None
    known_video: KnownVideo | None

    @property
    def stored(self) -> dict[str, Any]:
        """Properties that affect the result, as plain values."""
        return {
            "name": self.video.name,
            "frames": len(self.video),
            "first_frame": int(self.video.frame_index[0]),
            "last_frame": int(self.video.frame_index[-1]),
            "size": [self.video.height, self.video.width],
            "frames_per_step": self.frames,
            "tracks": self.tracks.name,
            "depth": None if self.depth is None else self.depth.name,
            **({} if self.known_video is None else {"known": self.known_video.description}),
        }


def _task(
    video: Video,
    model: St4RTrack,
    options: AdaptOptions,
    config: AdaptConfig,
    known: KnownGeometry | None,
    scenes: Scenes,
) -> _Task:
    own = known_of_one(known, video) if known else None
    prepared = prepare(video, model.config, ReconstructOptions(size=options.size, fit=options.fit), known=own)
    fitted, fused = prepared.video, scenes.teacher(video, own)
    tracks, depth = _teachers((options.tracks, options.depth), fitted, fused, prepared.source_size, str(model.device))
    frames = default_frames(model.config, model.device.type, fitted.height, fitted.width)
    if options.batch_size not in (None, "auto"):
        frames = positive_int(options.batch_size, "batch_size")
    return _Task(video, fitted, fused, tracks, depth, max(2, min(frames, config.frames, len(video))), own, prepared.user)


def _teachers(
    given: tuple[str | TrackTeacher, str | DepthTeacher], video: Video, fused: FusedTeacher, source: SourceSize, device: str
) -> tuple[TrackTeacher, DepthTeacher | None]:
    """Teachers of a video; option strings are resolved to teacher objects."""
    words = [each.replace("{name}", video.name) if isinstance(each, str) else "" for each in given]
    by_word = open_teachers(words[0] or "fused", words[1] or "none", video, fused=fused, device=device, source=source)
    tracks, depth = given
    return by_word[0] if isinstance(tracks, str) else tracks, by_word[1] if isinstance(depth, str) else depth


def _require_terms(loss: AdaptationLoss, tasks: Sequence[_Task]) -> None:
    if not (loss.trajectory or loss.alignment or (loss.depth and any(task.depth for task in tasks))):
        raise UserError(
            "all loss terms are disabled or have no teacher; change --without or --loss, or choose a teacher with --depth"
        )


def _stored(
    network: St4RTrack, tasks: Sequence[_Task], options: AdaptOptions, loss: AdaptationLoss, config: AdaptConfig
) -> dict[str, Any]:
    """What an adaptation depends on, plain data: an unfinished one goes on only with the same."""
    return {
        "base": {"name": network.name, "hash": network.weights_hash},
        "videos": [task.stored for task in tasks],
        "fit": options.fit,
        "loss": asdict(loss),
        "config": asdict(config),
    }


def _prepared(
    model: St4RTrack, tasks: list[_Task], config: AdaptConfig, loss: AdaptationLoss, *, folder: Path, cache: Path
) -> Task:
    """Precompute the constant inputs of every video in a folder of its own."""
    videos, frames, monocular = [], [task.frames for task in tasks], is_monocular(model)
    for number, task in enumerate(tasks):
        own, teachers = folder / str(number), (task.tracks, task.depth)
        own.mkdir()
        if monocular:
            videos.append(prepare_depth(model, task.video, task.fused.scene, teachers, config, folder=own, cache=cache))
        else:
            more = {"frames": task.frames, "folder": own, "cache": cache, "known": task.known_video}
            videos.append(prepare_video(model, task.video, teachers, config, **more))
    return (DepthTask if monocular else PairTask)(model, videos, frames, config, loss)


def _save(found: Adaptation, learning: Learning, base: Base | None) -> None:
    """Write the checkpoint atomically."""
    info = {INFO_KEY: json.dumps({"result": found.sentence, "options": found.options})}
    partial = found.checkpoint.with_name(f".{found.checkpoint.name}.part")
    if base is None:
        save_model(found.model, partial, info=info)
    else:
        names = set(learning.parameters) if found.gained else set()
        save_changes(found.model, partial, base=base, names=names, info=info)
    partial.replace(found.checkpoint)


def known_of_one(known: KnownGeometry, video: Video) -> KnownGeometry:
    """User-provided geometry of one video, with {name} in paths replaced by its name."""
    for name in ("depth", "depth_per_unit", "static_mask", "metres_per_unit", "known_distance"):
        if getattr(known, name) is not None:
            raise UserError(
                f"adaptation uses known intrinsics and cameras, not {name}; pass depth as a teacher (depth=FILE, --depth FILE)"
            )
    return known.of_video(video.name)
