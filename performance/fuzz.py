"""Coverage-guided fuzzing of the readers of our own formats: `python performance/fuzz.py --minutes 10 --seed 0`.

Needs atheris (`pip install atheris`). One process per reader, one after the other, each with its share of the time. An input that ends in
anything but a result or a `UserError`, takes more than ten seconds or more than 2 GB, is a crash: it is printed, and kept in
`build/fuzz`. Writes `performance/reliability/fuzz.json`, from which `performance/reliability.py` makes its table.
"""

import argparse
import importlib
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "performance" / "reliability" / "fuzz.json"
CRASHES = ROOT / "build" / "fuzz"
INSTRUMENTED = [
    "st4rtrack.io",
    "st4rtrack.model",
    "st4rtrack.bench.predictions",
    "st4rtrack.adapt.teachers.files",
    "st4rtrack.hints.depth_prior.open",
]
READERS = (
    "npz",
    "member",
    "objects",
    "queries",
    "csv",
    "scene",
    "store",
    "safetensors",
    "config",
    "images",
    "prediction",
    "sequence",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--readers", nargs="+", default=list(READERS), choices=READERS)
    parser.add_argument("--child", choices=READERS, help=argparse.SUPPRESS)
    options, rest = parser.parse_known_args()
    if options.child:
        _fuzz(options.child, rest)
        return
    rows = [_run(reader, 60 * options.minutes / len(options.readers), options.seed) for reader in options.readers]
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps({"seed": options.seed, "readers": rows}, indent=1) + "\n")
    print(f"wrote {RESULTS}")
    sys.exit(any(row["crashes"] for row in rows))


def _run(reader: str, seconds: float, seed: int) -> dict[str, Any]:
    """One reader in a process of its own; what libFuzzer says of it."""
    CRASHES.mkdir(parents=True, exist_ok=True)
    limits = [
        f"-max_total_time={max(1, round(seconds))}",
        f"-seed={seed + 1}",
        "-timeout=10",
        "-rss_limit_mb=2048",
        "-max_len=65536",
    ]
    command = [
        sys.executable,
        __file__,
        "--child",
        reader,
        *limits,
        "-print_final_stats=1",
        f"-artifact_prefix={CRASHES}/{reader}-",
    ]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", cwd=ROOT)
    said = done.stderr
    progress = re.findall(r"cov: (\d+) ft: \d+ .*?rss: (\d+)Mb", said)
    executed = re.search(r"stat::number_of_executed_units:\s*(\d+)", said)
    row = {
        "reader": reader,
        "seconds": round(seconds),
        "executions": int(executed[1]) if executed else 0,
        "covered": int(progress[-1][0]) if progress else 0,
        "rss_mb": [int(progress[len(progress) // 2][1]), int(progress[-1][1])] if progress else [],
        "crashes": int(done.returncode != 0 or executed is None),
    }
    print(row, flush=True)
    if row["crashes"]:
        print(done.stdout[-2000:], said[-2000:], f"exit code {done.returncode}", sep="\n", flush=True)
    return row


def _fuzz(reader: str, arguments: list[str]) -> None:
    """Never returns: libFuzzer ends the process."""
    atheris: Any = importlib.import_module("atheris")  # a tool of its own, not among the project's
    sys.path.insert(0, str(ROOT))
    import torch  # not instrumented, nor is what it imports
    import zarr

    with atheris.instrument_imports(include=INSTRUMENTED, enable_loader_override=False):
        from tests.reliability import fuzz_targets

    import warnings

    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    assert zarr.__version__
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    target: Callable[[bytes], None] = fuzz_targets.target(reader, folder)
    seeds = folder / "seeds"
    seeds.mkdir()
    for i, content in enumerate(fuzz_targets.seeds(reader)):
        (seeds / str(i)).write_bytes(content)
    atheris.Setup([sys.argv[0], *arguments, str(seeds)], target)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
