"""Result of an adaptation, its JSON report and its picture: the scene before and after, and curves over the steps."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from st4rtrack.adapt.loop import Progress
from st4rtrack.adapt.measure import errors_of
from st4rtrack.io.files import write_whole
from st4rtrack.model.network import St4RTrack
from st4rtrack.render.adaptation import BLUE, Curve, Plot, write_adaptation
from st4rtrack.render.draw import ACCENT, GREY
from st4rtrack.scene import Scene

NOT_TERMS = ("step", "video", "gradient_norm", "cameras_not_found")
"""Keys of a step's log row other than the loss and its terms."""

SMOOTHED_STEPS = 15


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
        finite = json.loads(json.dumps(content), parse_constant=lambda _: None)
        write_whole(path, (json.dumps(finite, indent=1, allow_nan=False) + "\n").encode())


def _less(before: float, after: float) -> str:
    return f"{100 * (before - after) / before:.0f} % less"


def write_picture(found: Adaptation, scenes: Mapping[str, Scene]) -> Path:
    """Write the figure `adaptation.png` into the report folder.

    Args:
        scenes: "Before" and "After"; if empty, the figure has only curves.
    """
    first, title = found.options["videos"][0], f"{found.sentence[:1].upper()}{found.sentence[1:]}"
    subtitle = f"tracks: {first['tracks']}, depth: {first['depth'] or 'none'}"
    return write_adaptation(found.report / "adaptation.png", scenes, _plots(found), title=title, subtitle=subtitle)


def _plots(found: Adaptation) -> list[Plot]:
    """Plots of held-out error, branch agreement and every loss term over the steps."""
    measured, kept = found.progress.measurements, float(found.progress.best_step)

    def curve(name: str, key: str, colour: tuple[int, int, int]) -> Curve:
        x = np.array([row["step"] for row in measured], float)
        y = np.array([np.nan if row[key] is None else row[key] for row in measured], float)
        return Curve(name, x, y, colour, marks=True)

    tracks = [curve("learnt", "learnt_px", GREY), curve("held out", "error_px", BLUE)]
    if any(row["moving_px"] is not None for row in measured):
        tracks.insert(0, curve("moving", "moving_px", ACCENT))
    drawn = [Plot("Tracks (pixels)", tracks, kept)]
    for title, key in (("Branches apart (share)", "agreement"), ("Depth (log error)", "depth_error")):
        if any(row[key] is not None for row in measured):
            drawn.append(Plot(title, [curve("held out", key, BLUE)], kept))
    rows = found.progress.steps
    for term in [key for key in {key: None for row in rows for key in row} if key not in NOT_TERMS]:
        y = np.array([row.get(term, np.nan) for row in rows], float)
        x = np.array([row["step"] for row in rows], float)
        both = [Curve("each step", x, y, (200, 205, 212)), Curve(f"mean of {SMOOTHED_STEPS}", x, _smoothed(y), BLUE)]
        drawn.append(Plot(f"Loss: {term}", both, kept))
    return drawn


def _smoothed(values: np.ndarray) -> np.ndarray:
    """Moving average over finite values."""
    finite = np.isfinite(values)
    window = np.ones(min(SMOOTHED_STEPS, len(values)))
    total = np.convolve(np.where(finite, values, 0.0), window, mode="same")
    count = np.convolve(finite.astype(float), window, mode="same")
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
