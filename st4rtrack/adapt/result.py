"""Result of an adaptation and its JSON report."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from st4rtrack.adapt.measure import errors_of
from st4rtrack.adapt.state import Progress
from st4rtrack.io.files import write_whole
from st4rtrack.model.network import St4RTrack


@dataclass(frozen=True)
class Adaptation:
    """Result of a finished adaptation.

    Attributes:
        model: network with the best weights.
        checkpoint: checkpoint file for `load_model`.
        report: folder with `adaptation.json`, the figure, scenes and the cached teacher output.
        names: names of the videos.
        progress: history of steps and measurements.
        options: all options that affect the result, plain values.
    """

    model: St4RTrack
    checkpoint: Path
    report: Path
    names: list[str]
    progress: Progress
    options: dict[str, Any]

    @property
    def gained(self) -> bool:
        """Whether the held-out errors, in 2D and in depth, are lower than those of the base model."""
        return self.progress.best_step > 0

    @property
    def before(self) -> dict[str, Any]:
        """Held-out metrics of the base model (fields of `Measurement`)."""
        return self.progress.measurements[0]

    @property
    def after(self) -> dict[str, Any]:
        """Held-out metrics of the best weights."""
        return next(row for row in self.progress.measurements if row["step"] == self.progress.best_step)

    @property
    def sentence(self) -> str:
        """One-sentence summary of the result."""
        (before, before_depth), (after, after_depth) = errors_of(self.before), errors_of(self.after)
        now = self.progress
        if not self.gained:
            return f"no improvement in {now.step} steps, kept the base model: held-out track error {before:.2f} px"
        depth = "distance of the branches" if self.after["depth_error"] is None else "depth error"
        also = f", {depth} {_less(before_depth, after_depth)}" if before_depth and after_depth is not None else ""
        return (
            f"adapted to {', '.join(self.names)}: held-out track error {after:.2f} px, before {before:.2f} px "
            f"({_less(before, after)}){also}, at step {now.best_step} of {now.step}"
        )

    def write_json(self, path: Path) -> None:
        """Write the result as JSON; non-finite numbers become null."""
        content = {
            "sentence": self.sentence,
            "gained": self.gained,
            "checkpoint": self.checkpoint.name,
            "videos": self.names,
            "best_step": self.progress.best_step,
            "steps_done": self.progress.step,
            "seconds": round(self.progress.seconds, 3),
            "held_out": {"before": self.before, "after": self.after},
            "options": self.options,
            "measurements": self.progress.measurements,
            "steps": self.progress.steps,
        }
        write_whole(path, (json.dumps(_finite(content), indent=1, allow_nan=False) + "\n").encode())


def _less(before: float, after: float) -> str:
    return f"{100 * (before - after) / before:.0f} % less"


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
