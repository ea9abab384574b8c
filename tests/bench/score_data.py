"""Score files with figures that the tests choose."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from st4rtrack.bench.protocol import PROTOCOLS
from st4rtrack.bench.score import FIGURES

ONE = {"adt_mini/a": (80.0, 0.2), "adt_mini/b": (60.0, 0.4), "po_mini/a": (50.0, 0.5)}
OTHER = {"adt_mini/a": (90.0, 0.3), "adt_mini/b": (70.0, 0.5), "po_mini/a": (40.0, 0.4)}
"""APD and EPE of two methods on sequences of published sets; their means of sets are alike."""


def row(apd: float | None, epe: float | None, *, non_finite: int = 0, sequences: int | None = None) -> dict[str, Any]:
    """A row whose figures are `apd` and `epe` everywhere, SIM(3) one percent and one centimetre better."""
    error = {
        "median": {"apd": apd, "epe": epe, "scale": 2.0},
        "sim3": {"apd": None if apd is None else apd + 1, "epe": None if epe is None else epe - 0.01, "scale": 2.5},
        "points": 6400,
        "non_finite": non_finite,
    }
    made: dict[str, Any] = {
        "points": 100,
        "tracking": {"all": error, "dynamic": error},
        "reconstruction": error,
        "cameras": {"ate": 0.5, "rpe_translation": 0.01, "rpe_rotation": 0.2, "frames": 64},
        "depth": {"abs_rel": 0.125, "delta_1_25": 80.0, "points": 6400, "non_finite": 0},
        "tapvid3d": {"aj": 12.0, "apd": 34.0, "oa": 56.0, "points": 6000},
    }
    return made if sequences is None else made | {"sequences": sequences, "curves": CURVES}


CURVES = {
    "time": {"frame": [0, 1, 2], "points": [100, 100, 100], "apd": [90.0, 80.0, None], "epe": [0.1, 0.2, None]},
    "distance": {"edges_m": [0, 1, 8, None], "points": [200, 100, 0], "apd": [90.0, 80.0, None], "epe": [0.1, 0.2, None]},
    "motion": {"edges_m": [0, 0.01, None], "points": [200, 100], "apd": [90.0, 80.0], "epe": [0.1, 0.2]},
}


def write_scores(
    path: Path,
    method: str,
    sequences: Mapping[str, tuple[float | None, float | None]],
    *,
    protocol: str = "published",
    non_finite: int = 0,
    **changes: Any,
) -> Path:
    """A score file of APD and EPE by sequence; the figures of sets and the mean are plain means. `changes` replace its parts."""
    rows = {name: row(*figures, non_finite=non_finite) for name, figures in sequences.items()}
    sets: dict[str, list[tuple[float | None, float | None]]] = {}
    for name, figures in sequences.items():
        sets.setdefault(name.rpartition("/")[0] or "sequences", []).append(figures)
    content = {
        "format": 1,
        "method": method,
        "model": None,
        "protocol": asdict(PROTOCOLS[protocol]) | {"predicted_with": protocol},
        "figures": FIGURES,
        "sequences": rows,
        "sets": {name: _mean(figures, non_finite) for name, figures in sets.items()},
        "mean": _mean(list(sequences.values()), non_finite * len(sequences)),
    }
    path.write_text(json.dumps(content | changes))
    return path


def _mean(figures: list[tuple[float | None, float | None]], non_finite: int) -> dict[str, Any]:
    known = [[value for value in column if value is not None] for column in zip(*figures)]
    apd, epe = (sum(values) / len(values) if values else None for values in known)
    return row(apd, epe, non_finite=non_finite, sequences=len(figures))
