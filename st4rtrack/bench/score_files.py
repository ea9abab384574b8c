"""Stage 2 on disk: score a folder of predictions against a folder of ground truth into one JSON file; resumable by sequence."""

import json
import logging
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from st4rtrack.bench.methods.bounds import plane_prediction, static_prediction
from st4rtrack.bench.parallel import each
from st4rtrack.bench.predict import read_manifest
from st4rtrack.bench.predictions import read_prediction
from st4rtrack.bench.protocol import Protocol
from st4rtrack.bench.score import FIGURES, Row, mean_row, score_sequence
from st4rtrack.io.files import write_whole
from st4rtrack.io.npz import npz_keys
from st4rtrack.io.worldtrack import find_worldtrack, read_worldtrack
from st4rtrack.types import UserError

logger = logging.getLogger(__name__)

FORMAT = 1
BOUNDS = {"plane": lambda sequence: plane_prediction(sequence, sequence.intrinsics), "static": static_prediction}
"""Methods that every other one is compared with: no knowledge of the depth, and true depth of frame 0 without motion."""
NO_SET = "sequences"
"""Set name of the sequences that are in no sub-folder."""


def score(
    data: str | Path,
    predictions: str | Path,
    output: str | Path,
    protocol: Protocol,
    *,
    name: str | None = None,
    bounds: bool = False,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Score every sequence of a folder and write the score file.

    Args:
        data: folder of WorldTrack sequences.
        predictions: folder with one `.npz` per sequence, sub-folders mirrored.
        output: JSON file; an earlier score file is replaced.
        protocol: evaluation protocol.
        name: name of the method. Default: the method in the folder's manifest, or the folder's name.
        bounds: also score `BOUNDS` on the same sequences, for the report.
        workers: number of processes.
        progress: called with (sequences done, sequences in all).
    Returns:
        Content of the score file: protocol, metrics (units), a row per sequence, per folder of sequences, and the mean.
    Raises:
        UserError: a sequence or its prediction is missing, damaged, or of the wrong shape or order; `output` is not a score file.
    """
    data, predictions, output = Path(data), Path(predictions), Path(output)
    _require_ours(output)
    pairs = _paired(find_worldtrack(data), predictions)
    manifest = read_manifest(predictions)
    journal = _Journal(output.with_name(f".{output.name}.part"), [protocol.name, bounds])
    tasks = [pair for pair in pairs if not journal.has(*pair)]
    done = len(pairs) - len(tasks)
    for task, by_method in zip(tasks, each(_score_one, tasks, workers, _both, (protocol, bounds)), strict=True):
        journal.add(*task, by_method)
        done += 1
        if progress:
            progress(done, len(pairs))
    rows = {method: {name: journal.rows[name][method] for name, _, _ in pairs} for method in ("", *(BOUNDS if bounds else ()))}
    scores = {
        "format": FORMAT,
        "method": name or manifest.get("method") or predictions.resolve().name,
        "model": manifest.get("model"),
        "protocol": {**asdict(protocol), "predicted_with": manifest.get("protocol")},
        "figures": FIGURES,
        **_summed_up(rows.pop(""), protocol),
        "bounds": {method: _summed_up(rows_of, protocol) for method, rows_of in rows.items()},
    }
    write_whole(output, (json.dumps(scores, indent=1) + "\n").encode())
    journal.path.unlink(missing_ok=True)
    return scores


def _summed_up(rows: dict[str, Row], protocol: Protocol) -> dict[str, Any]:
    """Rows of all sequences, and the means of their sets and of all."""
    sets = {folder: mean_row(part, protocol) for folder, part in _sets(rows).items()}
    return {"sequences": rows, "sets": sets, "mean": mean_row(list(rows.values()), protocol)}


def set_of(sequence: str) -> str:
    """Set of a sequence: its folder."""
    return sequence.rpartition("/")[0] or NO_SET


def _paired(sequences: list[tuple[str, Path]], predictions: Path) -> list[tuple[str, Path, Path]]:
    """Return (name, sequence, prediction) of each sequence. A prediction may be missing only if the method predicts nothing
    that the sequence has ground truth for: a tracking-only method needs no file for a sequence without tracks.
    """
    if not predictions.is_dir():
        raise UserError(f"{predictions} is not a folder with predictions; check the path")
    pairs = [(name, path, predictions / f"{name}.npz") for name, path in sequences]
    stored = {key for _, _, file in pairs if file.is_file() for key in npz_keys(file)}
    offered = {"tracks_world" if key.startswith("tracks_") else key for key in stored}
    kept = []
    for name, path, file in pairs:
        measured = {key for truth, key in TRUTH_OF.items() if truth in npz_keys(path)}
        if file.is_file():
            kept.append((name, path, file))
        elif not offered or measured & offered:
            raise UserError(f"{name}: there is no prediction; expected {file}")
        else:
            logger.info("%s is left out: it has no ground truth for the predictions in %s", name, predictions)
    return kept


TRUTH_OF = {"tracks_XYZ": "tracks_world", "depth_map": "reconstruction_world"}
"""Array of a sequence's file -> array of a prediction for which it is the ground truth."""


def _sets(rows: dict[str, Row]) -> dict[str, list[Row]]:
    """Group rows by the folder of their sequence, as the data sets of the benchmark are stored."""
    sets: dict[str, list[Row]] = {}
    for name, row in rows.items():
        sets.setdefault(set_of(name), []).append(row)
    return sets


def _both(protocol: Protocol, bounds: bool) -> tuple[Protocol, bool]:
    return protocol, bounds


def _score_one(how: tuple[Protocol, bool], task: tuple[str, Path, Path]) -> dict[str, Row]:
    """Rows of the method ("") and of each bound, which has the same parts only."""
    (protocol, bounds), (name, source, file) = how, task
    sequence = read_worldtrack(source, name=name, num_frames=protocol.num_frames)
    rows = {"": score_sequence(sequence, read_prediction(file, sequence), protocol)}
    for method, predict in BOUNDS.items() if bounds else ():
        row = score_sequence(sequence, predict(sequence), protocol)
        rows[method] = {key: row[key] for key in row if key in rows[""]}
    return rows


def _require_ours(output: Path) -> None:
    """Refuse to replace a file that is not a score file."""
    if not output.exists():
        return
    try:
        ours = "sequences" in json.loads(output.read_text())
    except (ValueError, OSError, TypeError):
        ours = False
    if not ours:
        raise UserError(f"{output} exists and is not a score file; choose another file with -o")


class _Journal:
    """Journal of scored rows, one line each, with the state of their files: an interrupted scoring resumes from it."""

    def __init__(self, path: Path, how: list) -> None:
        self.path, self.rows = path, dict[str, dict[str, Row]]()
        self._how = how
        self._known: dict[str, list] = {}
        lines = path.read_text().splitlines() if path.exists() else []
        for line in lines:
            try:
                entry = json.loads(line)
            except ValueError:
                break  # incomplete last line
            self._known[entry["name"]] = entry["state"]
            self.rows[entry["name"]] = entry["rows"]

    def has(self, name: str, source: Path, file: Path) -> bool:
        return self._known.get(name) == self._state(source, file)

    def add(self, name: str, source: Path, file: Path, rows: dict[str, Row]) -> None:
        self.rows[name] = rows
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a") as lines:
            lines.write(json.dumps({"name": name, "state": self._state(source, file), "rows": rows}) + "\n")

    def _state(self, source: Path, file: Path) -> list:
        stats = [path.stat() for path in (source, file)]
        return [*self._how, *(value for stat in stats for value in (stat.st_size, stat.st_mtime_ns))]


def summary(scores: dict[str, Any]) -> str:
    """Summary of the mean scores of a score file, one line per scored part."""
    mean = scores["mean"]
    lines = [f"{scores['method']}, {scores['protocol']['name']} protocol, mean of {len(scores['sequences'])} sequences"]
    points = [(f"tracking, {name}", part) for name, part in mean.get("tracking", {}).items()]
    if "reconstruction" in mean:
        points.append(("reconstruction", mean["reconstruction"]))
    lines += [f"  {label}: {_points(part)}" for label, part in points]
    if "tapvid3d" in mean:
        part = mean["tapvid3d"]
        likely = f", calibration error {_shown(part['calibration_error'], 3)}" if "calibration_error" in part else ""
        shown = ", ".join(f"{key.upper()} {_shown(part[key], 1)} %" for key in ("aj", "apd", "oa"))
        lines.append(f"  TAPVid-3D, world: {shown}{likely}")
    for scaling, part in mean.get("tapvid3d_camera", {}).items():
        if isinstance(part, dict):
            shown = ", ".join(f"{key.upper()} {_shown(part[key], 1)} %" for key in ("aj", "apd", "oa"))
            lines.append(f"  TAPVid-3D, camera, {scaling}: {shown}")
    if "cameras" in mean:
        part = mean["cameras"]
        step = f"{_shown(part['rpe_translation'], 3)} m, {_shown(part['rpe_rotation'], 2)} degrees"
        focal = f", focal error {_shown(part['focal_error'], 1)} %" if "focal_error" in part else ""
        lines.append(f"  cameras: ATE {_shown(part['ate'], 3)} m, RPE {step}{focal}")
    if "depth" in mean:
        part = mean["depth"]
        lines.append(f"  depth: {_depth(part)}, scale drift {_shown(part['scale_drift'], 3)}")
        lines += [f"  depth, {name}: {_depth(one)}" for name, one in part.items() if isinstance(one, dict)]
    if "static" in mean:
        lines.append(f"  static points move by {_shown(mean['static']['static_motion'], 3)} m in 8 frames")
    return "\n".join(lines)


def _points(part: dict[str, Any]) -> str:
    figures = [
        f"{alignment} APD {_shown(part[alignment]['apd'], 1)} %, EPE {_shown(part[alignment]['epe'], 3)} m"
        for alignment in ("median", "sim3")
    ]
    lost = f", {part['non_finite']:,} not finite" if part["non_finite"] else ""
    return f"{'; '.join(figures)} ({part['points']:,} points{lost})"


def _depth(part: dict[str, Any]) -> str:
    return f"AbsRel {_shown(part['abs_rel'], 3)}, within 1.25 {_shown(part['delta_1_25'], 1)} %"


def _shown(value: float | None, digits: int) -> str:
    return "unknown" if value is None else f"{value:.{digits}f}"
