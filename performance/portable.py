"""Numeric tests on other instruction sets, thread counts and seeds: `make test-portable`, which keeps the table in portable.json.

Nine runs cover every pair of instruction set, number of threads and seed. The variables can only lower what the processor has.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from machine import machine
from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__  # pyright: ignore[reportAttributeAccessIssue]

NUMERIC_TESTS = (
    "tests/model/test_patch_embed.py",
    "tests/model/test_precision_check.py",
    "tests/model/test_network.py",
    "tests/model/test_hints.py",
    "tests/train/test_source.py",
    "tests/losses",
    "tests/geometry",
    "tests/metrics",
)
"""Tests that compare floating-point results; those that draw random numbers take their seed from tests/seeds.py."""
THREADS, SEEDS = (1, 4), (0, 1, 2)
LONGEST_S = 60
WIDE = " ".join(name for name in __cpu_dispatch__ if name.startswith(("AVX512", "X86_V4")) and __cpu_features__[name])
LOWERED = {
    "AVX2": {
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "ATEN_CPU_CAPABILITY": "avx2",
        "OPENBLAS_CORETYPE": "Haswell",
        "NPY_DISABLE_CPU_FEATURES": WIDE,
    },
    "AVX512_CORE": {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE", "ATEN_CPU_CAPABILITY": "avx512", "OPENBLAS_CORETYPE": "SkylakeX"},
}
"""Settings of oneDNN, PyTorch's own kernels, OpenBLAS (NumPy) and NumPy's own kernels, by name of the instruction set."""


def instruction_sets() -> dict[str, dict[str, str]]:
    """Settings by instruction set: the lowered ones below what this processor has, and all that it has."""
    units = torch.cpu.get_capabilities()
    known = {"amx_bf16": "AMX", "avx512_bf16": "AVX512_CORE_BF16", "avx512_f": "AVX512_CORE", "avx2": "AVX2"}
    highest = next((name for unit, name in known.items() if units.get(unit)), "default")
    lower = {"AVX512_CORE": (), "AVX2": ("AVX2",)}.get(highest, tuple(LOWERED) if units.get("avx512_f") else ())
    return {**{name: LOWERED[name] for name in lower if name != highest}, highest: {}}


def name_of(case: ElementTree.Element) -> str:
    return f"{case.get('classname')}::{case.get('name')}"


def run_tests(settings: dict[str, str], threads: int, seed: int) -> dict[str, Any]:
    """One run of the numeric tests: counts, names of failed tests, seconds in all, and the longest test."""
    count = str(threads)
    variables = {"OMP_NUM_THREADS": count, "OPENBLAS_NUM_THREADS": count, "ST4RTRACK_TEST_SEED": str(seed), **settings}
    variables["OMP_WAIT_POLICY"] = "PASSIVE"  # threads that spin where fewer cores are free make a test of 14 s one of minutes
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-m", "not slow", "-p", "no:xdist", f"--junit-xml={report}", *NUMERIC_TESTS]
        done = subprocess.run(command, env={**os.environ, **variables}, capture_output=True, text=True)
        if not report.exists():
            sys.exit(done.stdout + done.stderr)
        cases = list(ElementTree.parse(report).iter("testcase"))
    failed = [name_of(case) for case in cases if case.find("failure") is not None or case.find("error") is not None]
    seconds = [float(case.get("time", 0)) for case in cases]
    longest = max(cases, key=lambda case: float(case.get("time", 0)))
    return {
        "passed": len(cases) - len(failed) - sum(case.find("skipped") is not None for case in cases),
        "failed": failed,
        "seconds": round(sum(seconds)),
        "longest_s": round(max(seconds), 1),
        "longest": name_of(longest),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("portable.json"))
    parser.add_argument("--jobs", type=int, default=1, help="runs at the same time")
    options = parser.parse_args()
    cover = [
        (name, settings, THREADS[(row + seed) % len(THREADS)], seed)
        for row, (name, settings) in enumerate(instruction_sets().items())
        for seed in SEEDS
    ]
    columns = ("instruction_set", "threads", "seed", "passed", "failed", "seconds", "longest_s", "longest")
    print(f"{machine()}\n\n| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    rows: list[dict[str, Any]] = []
    with ThreadPoolExecutor(options.jobs) as pool:
        for (name, _, threads, seed), result in zip(cover, pool.map(lambda run: run_tests(*run[1:]), cover), strict=True):
            rows.append({"instruction_set": name, "threads": threads, "seed": seed, **result})
            counted = {**rows[-1], "failed": len(result["failed"])}
            print(f"| {' | '.join(str(counted[column]) for column in columns)} |", flush=True)
            for test in result["failed"]:
                print(f"  failed: {test}", file=sys.stderr, flush=True)
            options.output.write_text(json.dumps({"machine": machine(), "runs": rows}, indent=1) + "\n")
    sys.exit(any(row["failed"] or row["longest_s"] >= LONGEST_S for row in rows))


if __name__ == "__main__":
    main()
