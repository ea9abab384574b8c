"""Stage 2 on disk: score a folder of predictions against a folder of ground truth into one JSON file."""

import json
import logging
import re
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from st4rtrack.bench.methods.bounds import plane_prediction, static_prediction
from st4rtrack.bench.predict import each, read_manifest
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
    manifest, rows = read_manifest(predictions), {method: dict[str, Row]() for method in ("", *(BOUNDS if bounds else ()))}
    tasks = [(*pair, protocol, bounds) for pair in pairs]
    for done, ((name_of, *_), by_method) in enumerate(zip(pairs, each(_score_one, tasks, workers)), start=1):
        for method, row in by_method.items():
            rows[method][name_of] = row
        if progress:
            progress(done, len(pairs))
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
    return scores


def _summed_up(rows: dict[str, Row], protocol: Protocol) -> dict[str, Any]:
    """Rows of all sequences, and the means of their sets and of all."""
    sets: dict[str, list[Row]] = {}
    for name, row in rows.items():
        sets.setdefault(set_of(name), []).append(row)
    means = {folder: mean_row(part, protocol) for folder, part in sets.items()}
    return {"sequences": rows, "sets": means, "mean": mean_row(list(rows.values()), protocol)}


def set_of(sequence: str) -> str:
    """Name of the set of a sequence: the folder part of its name."""
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


def _score_one(task: tuple[str, Path, Path, Protocol, bool]) -> dict[str, Row]:
    """Rows by name: "" is the method, the others are the bounds, reduced to the parts that the method has."""
    name, source, file, protocol, bounds = task
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


def summary(scores: dict[str, Any]) -> str:
    """Summary of the mean scores of a score file, one line per scored part."""
    mean = scores["mean"]
    lines = [f"{scores['method']}, {scores['protocol']['name']} protocol, mean of {len(scores['sequences'])} sequences"]
    points = {f"tracking, {name}": part for name, part in mean.get("tracking", {}).items()}
    points |= {name: mean[name] for name in ("reconstruction",) if name in mean}
    for label, part in points.items():
        both = "; ".join(f"{name} {_listed(part[name], apd='APD {:.1f} %', epe='EPE {:.3f} m')}" for name in ("median", "sim3"))
        lost = f", {part['non_finite']:,} not finite" if part["non_finite"] else ""
        lines.append(f"  {label}: {both} ({part['points']:,} points{lost})")
    tapvid3d = {"aj": "AJ {:.1f} %", "apd": "APD {:.1f} %", "oa": "OA {:.1f} %"}
    if "tapvid3d" in mean:
        lines.append(f"  TAPVid-3D, world: {_listed(mean['tapvid3d'], **tapvid3d, calibration_error='calibration error {:.3f}')}")
    for scaling, part in mean.get("tapvid3d_camera", {}).items():
        if isinstance(part, dict):
            lines.append(f"  TAPVid-3D, camera, {scaling}: {_listed(part, **tapvid3d)}")
    if "cameras" in mean:
        errors = {"ate": "ATE {:.3f} m", "rpe_translation": "RPE {:.3f} m", "rpe_rotation": "{:.2f} degrees"}
        lines.append(f"  cameras: {_listed(mean['cameras'], **errors, focal_error='focal error {:.1f} %')}")
    depth = {"abs_rel": "AbsRel {:.3f}", "delta_1_25": "within 1.25 {:.1f} %"}
    if "depth" in mean:
        lines.append(f"  depth: {_listed(mean['depth'], **depth, scale_drift='scale drift {:.3f}')}")
        parts = {name: one for name, one in mean["depth"].items() if isinstance(one, dict)}
        lines += [f"  depth, {name}: {_listed(one, **depth)}" for name, one in parts.items()]
    if "static" in mean:
        lines.append(f"  static points move by {_listed(mean['static'], static_motion='{:.3f} m')} in 8 frames")
    return "\n".join(lines)


def _listed(part: dict[str, Any], **formats: str) -> str:
    """Format the metrics of a part; missing ones are left out."""
    shown = (
        re.sub("{.*}", "unknown", text) if part[name] is None else text.format(part[name])
        for name, text in formats.items()
        if name in part
    )
    return ", ".join(shown)
