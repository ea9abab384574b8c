"""What an adaptation gives, and how it is told."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from st4rtrack.adapt.state import Progress
from st4rtrack.io.files import write_whole
from st4rtrack.model.network import St4RTrack


@dataclass(frozen=True)
class Adaptation:
    """An adaptation that ended.

    Attributes:
        model: the network with the weights that were kept.
        checkpoint: file for `load_model`.
        report: folder with `adaptation.json`, the picture, scenes, and what the teachers said.
        names: of the videos.
        progress: the steps and the measurements.
        steps: that were allowed.
        options: all that decided the result, plain values.
    """

    model: St4RTrack
    checkpoint: Path
    report: Path
    names: list[str]
    progress: Progress
    steps: int
    options: dict[str, Any]

    @property
    def gained(self) -> bool:
        """Whether the held-out tracks are nearer than the base's."""
        return self.progress.best_step > 0

    @property
    def before(self) -> dict[str, Any]:
        """Held-out figures of the base (fields of `Measurement`)."""
        return self.progress.measurements[0]

    @property
    def after(self) -> dict[str, Any]:
        """Held-out figures of what was kept."""
        return next(row for row in self.progress.measurements if row["step"] == self.progress.best_step)

    @property
    def sentence(self) -> str:
        """What came of it."""
        before, after, now = self.before["error_px"], self.after["error_px"], self.progress
        if not self.gained:
            return f"no gain in {now.step} steps, the base is kept: held-out tracks are {before:.2f} pixels off"
        fall = 100 * (before - after) / before
        return (
            f"adapted to {', '.join(self.names)}: held-out tracks are {after:.2f} pixels off, before {before:.2f} "
            f"({fall:.0f} % less), by step {now.best_step} of {now.step}"
        )

    def write_json(self, path: Path) -> None:
        """Everything as JSON; what is not finite is null."""
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


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
