"""Runs every case of `table.py` end to end, compares with the truth and writes a table: before, now.

python -m tests.cases.run [--only KIND ...] [--name PART] [--clean 100] [--output performance/cases.json] [--again]

One process; a run that is stopped continues with the cases that are left. `performance/cases_before.json` holds the results of
the same command with the package of commit 0e6ca57.
"""

import argparse
import json
import re
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import st4rtrack
from st4rtrack.io.files import whole_file
from st4rtrack.model.network import St4RTrack
from st4rtrack.options import KnownGeometry
from st4rtrack.pipeline.reconstruct import reconstruct
from st4rtrack.types import UserError
from tests.cases.expectations import failures
from tests.cases.logged import logged_messages
from tests.cases.measure import Row, measure, quality_of
from tests.cases.reading import READING
from tests.cases.report import write_report
from tests.cases.sequences import sequence_cases
from tests.cases.system import SYSTEM
from tests.cases.table import Case, all_cases
from tests.cases.world import Clip
from tests.reliability.videos import encode
from tests.shared_data import SHARED

SAME_BITS: dict[str, Any] = {"x264-params": "threads=1:lookahead-threads=1:sync-lookahead=0:asm=0"}
"""Without it, x264 gives other bits each time (its assembler code too), and geometry near a threshold other figures."""
RESULTS = Path(__file__).parents[2] / "performance"


def run_clip(case: Case, folder: Path, model: St4RTrack | None = None) -> Row:
    """Makes the clip of a case, writes it as H.264 where it is not a file already, reconstructs it and measures the scene."""
    clip: Clip = case.make(case.look, **case.options)
    video = folder / f"{case.name}.mp4"
    encode(video, clip.rgb, crf="10", preset="fast", **SAME_BITS)
    return run_video(case, video, clip, folder, model)


def run_video(case: Case, video: Path, clip: Clip, folder: Path, model: St4RTrack | None = None) -> Row:
    """Reconstructs a video and measures the scene; an error becomes a row too."""
    options = dict(case.run)
    mask = options.pop("static_mask", None)
    known = None if mask is None else KnownGeometry(static_mask=~mask(case.look))
    row: Row = {"kind": case.kind}
    with logged_messages() as messages:
        try:
            scene = reconstruct(video, model=model, known=known, output=folder / "scene", overwrite=True, **options)
            quality = quality_of(folder / "scene")
            row |= measure(scene, clip) | {"exit_code": 0, "quality": {k: v for k, v in quality.items() if k != "warnings"}}
            warnings = quality.get("warnings", [])
            row["codes"] = sorted({w["code"] for w in warnings})
            row["serious"] = sorted({w["code"] for w in warnings if w.get("serious", True)})
            messages += [w["sentence"] for w in warnings]
        except UserError as error:
            row |= {"exit_code": 2, "codes": []}
            messages.append(str(error))
    return row | {"messages": list(dict.fromkeys(messages))}


def run_case(case: Case, model: St4RTrack | None = None) -> Row:
    """The row of a case: what was measured, what failed, the time."""
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        try:
            if case.kind == "sequence":
                row = run_video(case, case.options["path"], case.make(**case.options), Path(folder), model)
            elif case.kind in ("reading", "system"):
                row = {"kind": case.kind, **case.make(Path(folder), **case.options)}
            else:
                row = run_clip(case, Path(folder), model)
        except Exception as error:  # a fault of one case must not end the others
            row = {"kind": case.kind, "exit_code": 1, "codes": [], "messages": [f"{type(error).__name__}: {error}"]}
    row["messages"] = [without_folders(message) for message in row.get("messages", [])]
    return row | {"failures": failures(case, row), "seconds": round(time.monotonic() - begun, 1)}


def without_folders(message: str) -> str:
    """The end of a message, with the names of files but not of the folders of this machine."""
    return re.sub(r"(?<![\w:/])(/[\w.~ +-]+)+/", "", message)[-2000:]


def _rounded(value: Any) -> Any:
    """Floats at six significant digits; NaN and infinity become null."""
    if isinstance(value, float | np.floating):
        return float(f"{value:.6g}") if np.isfinite(value) else None
    if isinstance(value, np.bool_):
        return bool(value)
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    return [_rounded(one) for one in value] if isinstance(value, list | tuple) else value


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "--only", nargs="*", metavar="KIND", help="kinds: geometry, picture, reading, system, clean, sequence [all]"
    )
    parser.add_argument("--name", default="", help="cases whose name contains this [all]")
    parser.add_argument("--clean", type=int, default=100, help="number of clean variants [100]")
    parser.add_argument("--shared", type=Path, default=SHARED, help="folder of the shared sequences [../shared]")
    parser.add_argument("--output", type=Path, default=RESULTS / "cases.json", help="results, read first and continued")
    parser.add_argument("--table", action="store_true", help="run nothing, write the table from the results")
    parser.add_argument("--again", action="store_true", help="also run the cases that have a result")
    options = parser.parse_args()
    stored = json.loads(options.output.read_text()) if options.output.exists() else {}
    results: dict[str, Row] = stored.get("results", {})
    cases = [*all_cases(options.clean), *READING, *SYSTEM, *sequence_cases(options.shared)]
    chosen = [c for c in cases if not options.table and (not options.only or c.kind in options.only) and options.name in c.name]
    chosen.sort(key=lambda c: c.name[-2:] in ("-b", "-c", "-d"))  # a run that is stopped has seen every situation
    model = None
    for case in chosen:
        if case.name in results and not options.again:
            continue
        if model is None and case.kind not in ("reading", "system"):
            model = st4rtrack.load_model()
        row = results[case.name] = _rounded(run_case(case, model))
        print(
            f"{case.name:22s} {row['seconds']:6.1f} s  {'right' if not row['failures'] else '; '.join(row['failures'])}",
            flush=True,
        )
        with whole_file(options.output) as file:
            file.write(
                (json.dumps({"version": st4rtrack.__version__, "results": results}, indent=1, ensure_ascii=False) + "\n").encode()
            )
    write_report(cases, results, RESULTS)


if __name__ == "__main__":
    main()
