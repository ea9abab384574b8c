"""Runs a measurement in child processes of this tree and of baseline commits in turn, and tabulates the medians."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of a comparison."""
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--baseline", nargs="*", default=[], help="commits to compare with; ratios are to the first")
    parser.add_argument("--threads", type=int, default=2, help="1: processor time is not disturbed by waiting threads")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)


@contextmanager
def trees(baselines: list[str]) -> Iterator[dict[str, Path]]:
    """Source trees by name: the baselines as git worktrees, and this one."""
    with tempfile.TemporaryDirectory() as folder:
        found = {commit: Path(folder) / str(number) for number, commit in enumerate(baselines)}
        try:
            for commit, tree in found.items():
                subprocess.run(["git", "worktree", "add", "--quiet", "--detach", str(tree), commit], cwd=ROOT, check=True)
            yield {**found, "this tree": ROOT}
        finally:
            for tree in found.values():
                subprocess.run(["git", "worktree", "remove", "--force", str(tree)], cwd=ROOT, check=False)


def compare(script: str, inputs: Path, options: argparse.Namespace) -> dict[str, list[dict[str, float]]]:
    """Run `script --child inputs` in each tree, interleaved; each child prints a JSON object of numbers as its last line."""
    found: dict[str, list[dict[str, float]]] = {}
    with trees(options.baseline) as sources:
        for _ in range(options.rounds):
            for name, tree in sources.items():
                threads = {"OMP_NUM_THREADS": str(options.threads), "OPENCV_FOR_THREADS_NUM": str(options.threads)}
                environment = os.environ | threads | {"PYTHONPATH": str(tree)}
                command = [sys.executable, "-W", "ignore", script, "--child", str(inputs)]
                done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
                found.setdefault(name, []).append(json.loads(done.stdout.splitlines()[-1]))
    return found


def table(found: dict[str, list[dict[str, float]]]) -> str:
    """Medians of each figure per tree, and the median of the ratios of the last to the first tree, round by round."""
    names = list(found)
    figures = list(found[names[-1]][0])
    lines = ["| figure | " + " | ".join(names) + " | last / first |", "|---" * (len(names) + 2) + "|"]
    for figure in figures:
        values = [np.array([run.get(figure, np.nan) for run in found[name]]) for name in names]
        ratio = f"{np.median(values[-1] / values[0]):.2f}" if len(names) > 1 else ""
        lines.append(f"| {figure} | " + " | ".join(f"{np.median(each):.4g}" for each in values) + f" | {ratio} |")
    return "\n".join(lines)
