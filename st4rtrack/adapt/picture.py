"""Picture of an adaptation: the scene before and after, and curves over the steps."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from st4rtrack.adapt.result import Adaptation
from st4rtrack.render.adaptation import BLUE, Curve, Plot, write_adaptation
from st4rtrack.render.draw import ACCENT, GREY
from st4rtrack.scene import Scene

NOT_TERMS = ("step", "video", "gradient_norm", "cameras_not_found")
"""Keys of a step's log row other than the loss and its terms."""

SMOOTHED_STEPS = 15


def write_picture(found: Adaptation, scenes: Mapping[str, Scene]) -> Path:
    """Write the figure `adaptation.png` into the report folder.

    Args:
        scenes: "Before" and "After"; if empty, the figure has only curves.
    """
    first = found.options["videos"][0]
    teachers = f"tracks: {first['tracks']}, depth: {first['depth'] or 'none'}"
    return write_adaptation(
        found.report / "adaptation.png", scenes, plots(found), title=_capital(found.sentence), subtitle=teachers
    )


def plots(found: Adaptation) -> list[Plot]:
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


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
