"""The whole corpus, and a process of its own to try it in."""

import argparse
import faulthandler
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tests.reliability.arrays import array_cases
from tests.reliability.cameras import camera_cases
from tests.reliability.case import Case, Outcome, try_case
from tests.reliability.checkpoints import checkpoint_cases
from tests.reliability.folders import folder_cases
from tests.reliability.scenes import scene_cases
from tests.reliability.videos import video_cases

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 20
"""Processor time in which an input must have come to its end, making it included; as it passes for others, six times that."""
LIMIT_BYTES = 3 << 30
"""Address space that reading may take beside that of the libraries."""


@cache
def corpus() -> list[Case]:
    """Every input; their names are unique."""
    cases = [*video_cases(), *folder_cases(), *array_cases(), *checkpoint_cases(), *scene_cases(), *camera_cases()]
    assert len({str(case) for case in cases}) == len(cases)
    return cases


@dataclass(frozen=True)
class Trial:
    """An outcome with what it took: processor seconds, and the peak of resident memory beyond the start's in bytes."""

    outcome: Outcome
    seconds: float
    peak_bytes: int


def try_all(cases: Iterable[Case]) -> Iterator[Trial]:
    """Tries inputs in processes of their own with bounded memory; one that kills its process is a failure, and the next has a new one."""
    left = {str(case): case for case in cases}
    while left:
        command = [sys.executable, "-m", "tests.reliability.corpus", *left]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT) as child:
            assert child.stdout is not None
            for line in child.stdout:
                said = json.loads(line)
                del left[f"{said['outcome']['kind']}-{said['outcome']['name']}"]
                yield Trial(Outcome(**said["outcome"]), said["seconds"], said["peak_bytes"])
        if left:
            case = left.pop(next(iter(left)))
            cause = signal.Signals(-child.returncode).name if child.returncode < 0 else f"exit code {child.returncode}"
            yield Trial(Outcome(case.kind, case.name, "failure", f"the process ended with {cause}"), LIMIT_S, 0)


def _status(name: str) -> int:
    """Of this process in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def _try_here(case: Case) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        place = Path(folder) / "inputs"
        place.mkdir()
        Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
        before, start = _status("VmRSS"), time.process_time()
        signal.setitimer(signal.ITIMER_PROF, LIMIT_S)
        signal.alarm(6 * LIMIT_S)
        outcome = try_case(case, place, Path(folder) / "executed")
        signal.alarm(0)
        signal.setitimer(signal.ITIMER_PROF, 0)
        os.chdir("/")
        return {"outcome": asdict(outcome), "seconds": time.process_time() - start, "peak_bytes": _status("VmHWM") - before}


def main() -> None:
    """Tries the named inputs one by one, a line of JSON each."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("names", nargs="*")
    names = set(parser.parse_args().names)
    import torch

    torch.set_num_threads(1)
    faulthandler.enable()
    space = _status("VmSize") + LIMIT_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (space, space))
    for case in corpus():
        if str(case) in names:
            print(json.dumps(_try_here(case)), flush=True)


if __name__ == "__main__":
    main()
