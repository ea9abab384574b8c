"""Reconstruction of a video with a network adapted to it (`run --adapt`): base scene, adaptation, adapted scene."""

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from st4rtrack.adapt.loop import error_ratio
from st4rtrack.adapt.run import adapt_videos
from st4rtrack.adapt.scenes import OutputPaths, is_monocular
from st4rtrack.io.scene import adopt_scene, finish_adoption, load_scene, read_results, record_result
from st4rtrack.io.system_errors import explain
from st4rtrack.model.checkpoint import load_model
from st4rtrack.model.network import St4RTrack
from st4rtrack.options import AdaptOptions, KnownGeometry, ReconstructOptions
from st4rtrack.pipeline.reconstruct import reconstruct
from st4rtrack.scene import Scene
from st4rtrack.types import UserError, Video

FOLDER = "adaptation"
"""Folder in the scene folder with the adapted checkpoint, its report and, until it is complete, the adapted scene."""
MIN_GAIN = 0.05
"""Minimum relative decrease of both held-out errors that replaces the scene: with 1 to 3 % less, one scene became 5 % worse."""
KEPT = "; kept the base scene"
RESULT = "adaptation"
"""Field of `results` in `scene.json` with the outcome."""


def reconstruct_adapted(
    video: Video,
    *,
    model: St4RTrack,
    output: str | Path,
    minutes: float = 5.0,
    known: KnownGeometry | None = None,
    overwrite: bool = False,
    progress: Callable[[int, int, str], None] | None = None,
    options: ReconstructOptions = ReconstructOptions(),
) -> Scene:
    """Reconstruct a video, adapt the network to it, and reconstruct it again if held-out tracks and depth improve.

    The base scene stays complete in `output` until the adapted one replaces it. It is kept if the adaptation is interrupted, lacks
    memory or data, or does not improve both. The same call resumes. `scene.info["results"]["adaptation"]` has the outcome.

    Args:
        video, model, output, known, overwrite, options: as for `reconstruct`; `output` is required.
        minutes: time budget of the optimiser steps.
        progress: called with (done, total, unit), the unit being "frame" or "step".
    Raises:
        UserError: as `reconstruct`, or the folder holds a scene that was adapted with other options.
    """
    if not 0 < minutes < float("inf"):
        raise UserError(f"--adapt-minutes must be a finite number above 0, got {minutes}")
    if is_monocular(model) and options.depth_prior not in ("auto", "builtin"):
        raise UserError(f"--adapt trains the depth that --depth-prior {options.depth_prior} replaces; leave out one of them")
    run = _Run(video, model, Path(output), minutes, known, options, progress)
    if overwrite:
        shutil.rmtree(run.folder / FOLDER, ignore_errors=True)
    finish_adoption(run.adapted, run.folder)
    earlier = {} if overwrite else read_results(run.folder).get(RESULT, {})
    if earlier.get("complete"):
        return run.finished(earlier)
    base = run.reconstruct(model, run.folder, overwrite=overwrite)
    result = run.adapt(base)
    if result["gained"]:
        scene = run.reconstruct(run.adapted_model(), run.adapted)
        if base.quality and base.quality.reliable and not (scene.quality and scene.quality.reliable):
            result |= {"gained": False, "sentence": f"{result['sentence']}{KEPT}: the adapted one is unreliable"}
    if result["gained"]:
        record_result(run.adapted, RESULT, result, place=run.folder)
        adopt_scene(run.adapted, run.folder)
    else:
        shutil.rmtree(run.adapted, ignore_errors=True)
        record_result(run.folder, RESULT, result)
    return load_scene(run.folder)


@dataclass(frozen=True)
class _Run:
    """Arguments of `reconstruct_adapted`."""

    video: Video
    model: St4RTrack
    folder: Path
    minutes: float
    known: KnownGeometry | None
    options: ReconstructOptions
    progress: Callable[[int, int, str], None] | None

    @property
    def adapted(self) -> Path:
        """Folder of the adapted scene until it is complete."""
        return self.folder / FOLDER / "scene"

    @property
    def checkpoint(self) -> Path:
        """Adapted checkpoint."""
        return self.folder / FOLDER / "model.safetensors"

    def adapted_model(self) -> St4RTrack:
        """Adapted network, with the device and type of the base."""
        return load_model(self.checkpoint, device=str(self.model.device), dtype=str(self.model.dtype).removeprefix("torch."))

    def reconstruct(self, model: St4RTrack, output: Path, *, overwrite: bool = False) -> Scene:
        """Reconstruct the video, or load its complete scene."""
        return reconstruct(
            self.video,
            model=model,
            output=output,
            known=self.known,
            overwrite=overwrite,
            progress=self._in_units_of("frame"),
            options=self.options,
        )

    def adapt(self, base: Scene) -> dict[str, Any]:
        """Adapt the network, or read the result of an adaptation that is complete."""
        outcome: dict[str, Any] = {"minutes": self.minutes, "base": {"name": self.model.name, "hash": self.model.weights_hash}}
        try:
            report = self._report(outcome["base"]) or self._adapt(base)
        except (UserError, RuntimeError, MemoryError, OSError) as error:
            why = str(error) if isinstance(error, UserError) else explain(error)
            if why is None:
                raise
            return outcome | {"gained": False, "complete": False, "sentence": f"kept the base scene: {why}"}
        held_out = report["held_out"]
        gained = report["gained"] and math.isfinite(error_ratio(held_out["before"], held_out["after"], MIN_GAIN))
        kept = (
            "" if gained else f"; kept the base scene (needs {100 * MIN_GAIN:.0f} % less in both)" if report["gained"] else KEPT
        )
        parts = {name: report[name] for name in ("best_step", "steps_done", "held_out")}
        return outcome | parts | {"gained": gained, "complete": True, "sentence": f"{report['sentence']}{kept}"}

    def finished(self, result: dict[str, Any]) -> Scene:
        """Load the final scene."""
        base = {"name": self.model.name, "hash": self.model.weights_hash}
        for name, made, asked in (
            ("--adapt-minutes", result.get("minutes"), self.minutes),
            ("--model", *(f"{each.get('name')} ({str(each.get('hash'))[:12]})" for each in (result.get("base", {}), base))),
        ):
            if made != asked:
                raise UserError(
                    f"{self.folder} holds a scene made with {name} {made}, this run has {name} {asked}; "
                    "choose another folder, or replace it with --overwrite"
                )
        return self.reconstruct(self.adapted_model() if result.get("gained") else self.model, self.folder)

    def _adapt(self, base: Scene) -> dict[str, Any]:
        given, monocular = self.known or KnownGeometry(), is_monocular(self.model)
        self.checkpoint.parent.mkdir(exist_ok=True)
        adapt_videos(
            [self.video],
            output=self.checkpoint,
            model=self.model,
            # the base scene already contains the known geometry
            known=None if monocular else KnownGeometry(intrinsics=given.intrinsics, cameras=given.cameras),
            overwrite=not OutputPaths(self.checkpoint).state.exists(),
            progress=self._in_units_of("step"),
            options=AdaptOptions(minutes=self.minutes, size=self.options.size, fit=self.options.fit, scenes="none"),
            scene=base if monocular else None,
        )
        return self._report() or {}

    def _report(self, base: dict[str, str] | None = None) -> dict[str, Any] | None:
        """Report of a complete adaptation, of this base model if given; `None` without one."""
        paths = OutputPaths(self.checkpoint)
        path = paths.report / "adaptation.json"
        if paths.state.exists() or not self.checkpoint.exists() or not path.exists():
            return None
        report = json.loads(path.read_text())
        return report if base is None or report["options"]["base"] == base else None

    def _in_units_of(self, unit: str) -> Callable[[int, int], None] | None:
        progress = self.progress
        return None if progress is None else lambda done, total: progress(done, total, unit)
