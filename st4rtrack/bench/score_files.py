"""Stage 2 on disk: score a folder of predictions against a folder of ground truth into one JSON file; resumable by sequence."""

import json
import logging
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

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
NO_SET = "sequences"
"""Set name of the sequences that are in no sub-folder."""


def score(
    data: str | Path,
    predictions: str | Path,
    output: str | Path,
    protocol: Protocol,
    *,
    name: str | None = None,
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
    journal = _Journal(output.with_name(f".{output.name}.part"), protocol)
    tasks = [pair for pair in pairs if not journal.has(*pair)]
    done = len(pairs) - len(tasks)
    for task, row in zip(tasks, each(_score_one, tasks, workers, _same, (protocol,)), strict=True):
        journal.add(*task, row)
        done += 1
        if progress:
            progress(done, len(pairs))
    rows = {sequence: journal.rows[sequence] for sequence, _, _ in pairs}
    scores = {
        "format": FORMAT,
        "method": name or manifest.get("method") or predictions.resolve().name,
        "model": manifest.get("model"),
        "protocol": {**asdict(protocol), "predicted_with": manifest.get("protocol")},
        "figures": FIGURES,
        "sequences": rows,
        "sets": {folder: mean_row(part, protocol) for folder, part in _sets(rows).items()},
        "mean": mean_row(list(rows.values()), protocol),
    }
    write_whole(output, (json.dumps(scores, indent=1) + "\n").encode())
    journal.path.unlink(missing_ok=True)
    return scores


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
    offered = {key for _, _, file in pairs if file.is_file() for key in npz_keys(file)}
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


def _same(protocol: Protocol) -> Protocol:
    return protocol


def _score_one(protocol: Protocol, task: tuple[str, Path, Path]) -> Row:
    name, source, file = task
    sequence = read_worldtrack(source, name=name, num_frames=protocol.num_frames)
    return score_sequence(sequence, read_prediction(file, sequence), protocol)


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

    def __init__(self, path: Path, protocol: Protocol) -> None:
        self.path, self.rows = path, dict[str, Row]()
        self._protocol = protocol.name
        self._known: dict[str, list] = {}
        lines = path.read_text().splitlines() if path.exists() else []
        for line in lines:
            try:
                entry = json.loads(line)
            except ValueError:
                break  # incomplete last line
            self._known[entry["name"]] = entry["state"]
            self.rows[entry["name"]] = entry["row"]

    def has(self, name: str, source: Path, file: Path) -> bool:
        return self._known.get(name) == self._state(source, file)

    def add(self, name: str, source: Path, file: Path, row: Row) -> None:
        self.rows[name] = row
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a") as lines:
            lines.write(json.dumps({"name": name, "state": self._state(source, file), "row": row}) + "\n")

    def _state(self, source: Path, file: Path) -> list:
        stats = [path.stat() for path in (source, file)]
        return [self._protocol, *(value for stat in stats for value in (stat.st_size, stat.st_mtime_ns))]


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
        lines.append(f"  TAPVid-3D: {shown}{likely}")
    if "cameras" in mean:
        part = mean["cameras"]
        step = f"{_shown(part['rpe_translation'], 3)} m, {_shown(part['rpe_rotation'], 2)} degrees"
        lines.append(f"  cameras: ATE {_shown(part['ate'], 3)} m, RPE {step}")
    if "depth" in mean:
        part = mean["depth"]
        lines.append(f"  depth: AbsRel {_shown(part['abs_rel'], 3)}, within 1.25 {_shown(part['delta_1_25'], 1)} %")
    return "\n".join(lines)


def _points(part: dict[str, Any]) -> str:
    figures = [
        f"{alignment} APD {_shown(part[alignment]['apd'], 1)} %, EPE {_shown(part[alignment]['epe'], 3)} m"
        for alignment in ("median", "sim3")
    ]
    lost = f", {part['non_finite']:,} not finite" if part["non_finite"] else ""
    return f"{'; '.join(figures)} ({part['points']:,} points{lost})"


def _shown(value: float | None, digits: int) -> str:
    return "unknown" if value is None else f"{value:.{digits}f}"
