"""What commands survive: `python performance/faults.py` writes performance/reliability/faults.json.

    python performance/faults.py --commands run train --kills 5 -o faults.json

Kills: every command is started, killed (SIGKILL) at a random moment, and started again until it ends; it survived when the
result equals the uninterrupted one bit for bit. Then what else can happen to `run` while it writes: a full disk, a file that may
not grow, permission lost, a folder moved away, no memory here or on the device, a second writer. Each must end in a sentence and
exit code 2, and the same command must then go on to the same result. Needs POSIX; where no disk may be mounted, the full one is
left out, and that is said.
"""

import argparse
import contextlib
import importlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from fault_jobs import JOBS, Job, result, write_material

from st4rtrack.cli.main import main as st4rtrack
from st4rtrack.cli.progress import Progress
from st4rtrack.io.lock import FolderLock

NOBODY = 65534
FAULT_AT_FRAME = 3
Inside = Callable[[], None]
"""What is done in the started process before the command: it makes the fault happen."""


@dataclass
class Row:
    """How often a command survived something."""

    command: str
    kind: str
    times: int
    survived: int
    seed: int


def start(job: Job, folder: Path, inside: Inside | None = None) -> int:
    """Starts a command in a copy of this process, which has all modules loaded; gives its process number."""
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        os.chdir(folder)
        with said_in(folder).open("a") as said, contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            try:
                if inside:
                    inside()
                st4rtrack(list(job.arguments))
                code = 0
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else 1
    finally:
        os._exit(code)


def said_in(folder: Path) -> Path:
    """What commands in a folder say: beside it, as its disk may be full."""
    return folder.with_name(f"{folder.name}.txt")


def ended(pid: int, timeout_s: float = 600.0) -> int | None:
    """Exit code of a process, negative for a signal; `None` when it has not ended in time."""
    until = time.monotonic() + timeout_s
    while (found := os.waitpid(pid, os.WNOHANG)) == (0, 0):
        if time.monotonic() > until:
            return None
        time.sleep(0.002)
    return os.waitstatus_to_exitcode(found[1])


def run_to_the_end(job: Job, folder: Path) -> bool:
    """Whether the command ends well, or says that its output is there already."""
    code = ended(start(job, folder))
    return code == 0 or (code == 2 and "exists already" in said_in(folder).read_text().splitlines()[-1])


@contextlib.contextmanager
def new_folder(root: Path) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(dir=root))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def complain(folder: Path, what: str) -> None:
    lines = said_in(folder).read_text().splitlines()[-12:]
    print(f"  did not survive: {what}\n    " + "\n    ".join(lines), file=sys.stderr)


def kills(name: str, root: Path, times: int, seed: int) -> Row:
    """Kills a command at random moments, a new folder each time."""
    job, rng = JOBS[name], random.Random(f"{seed} {name}")
    with new_folder(root) as folder:
        begin = time.monotonic()
        if not run_to_the_end(job, folder):
            complain(folder, "nothing had been done to it")
            return Row(name, "SIGKILL", times, 0, seed)
        whole_s, wanted = time.monotonic() - begin, result(folder / "out")
    row = Row(name, "SIGKILL", 0, 0, seed)
    while row.times < times:
        with new_folder(root) as folder:
            moment = rng.uniform(0, whole_s)
            pid = start(job, folder)
            if ended(pid, moment) is not None:
                whole_s *= 0.95  # it was done before, as the machine is faster now
                continue
            os.kill(pid, signal.SIGKILL)
            ended(pid)
            row.times += 1
            found = result(folder / "out") if run_to_the_end(job, folder) else {}
            row.survived += found == wanted
            if found != wanted:
                differing = sorted(key for key in wanted.keys() | found.keys() if wanted.get(key) != found.get(key))
                complain(folder, f"{name} killed after {moment:.3f} s of {whole_s:.3f} s; differing: {differing[:5]}")
    return row


def at_frame(fault: Inside) -> Inside:
    """Lets a fault happen when `FAULT_AT_FRAME` frames are written."""

    def inside() -> None:
        def call(self: Progress, done: int, total: int) -> None:
            self.done = done
            if done == FAULT_AT_FRAME:
                fault()

        Progress.__call__ = call

    return inside


def raising(error: BaseException) -> Inside:
    def fault() -> None:
        raise error

    return at_frame(fault)


def file_limit() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))  # as on a full disk, but by a limit that needs no rights


def move_away() -> None:
    Path("out").rename("moved")


def lose_permission() -> None:
    for folder in [Path("out"), *Path("out").rglob("*")]:
        folder.chmod(0o500 if folder.is_dir() else 0o400)
    if os.geteuid() == 0:
        os.seteuid(NOBODY)


def get_permission(folder: Path) -> None:
    for entry in [folder / "out", *(folder / "out").rglob("*")]:
        entry.chmod(0o700 if entry.is_dir() else 0o600)


def put_back(folder: Path) -> None:
    (folder / "moved").rename(folder / "out")


def fill_disk() -> None:
    with contextlib.suppress(OSError), Path("ballast").open("wb", buffering=0) as ballast:
        while True:
            ballast.write(bytes(4096))


def empty_disk(folder: Path) -> None:
    (folder / "ballast").unlink()


def nothing(_: Path) -> None:
    """What needs no healing: the next process is without the fault."""


@dataclass(frozen=True)
class Fault:
    """Something that happens to `run`, what heals it, and words of the sentence that it ends with."""

    inside: Inside
    heal: Callable[[Path], None]
    words: str


FAULTS = {
    "disk full": Fault(at_frame(fill_disk), empty_disk, "no space is left"),
    "file size limit": Fault(at_frame(file_limit), nothing, "may not become larger"),
    "permission lost": Fault(at_frame(lose_permission), get_permission, "permission was refused"),
    "folder moved away": Fault(at_frame(move_away), put_back, "was moved or removed"),
    "out of device memory": Fault(raising(torch.OutOfMemoryError("CUDA out of memory")), nothing, "the device has no memory"),
    "out of host memory": Fault(raising(MemoryError()), nothing, "this machine has no memory"),
}


def faults(root: Path, seed: int, kinds: list[str]) -> list[Row]:
    """Each fault once; they happen at a frame, not at random."""
    job, rows = JOBS["run"], []
    with new_folder(root) as folder:
        run_to_the_end(job, folder)
        wanted = result(folder / "out")
    for kind in kinds:
        with new_folder(root) as folder, small_disk(folder) if kind == "disk full" else contextlib.nullcontext(True) as there:
            if not there:
                print("disk full: not tried, as no disk may be mounted here", file=sys.stderr)
                continue
            code = ended(start(job, folder, FAULTS[kind].inside))
            sentence = said_in(folder).read_text().splitlines()[-1] if code == 2 else ""
            FAULTS[kind].heal(folder)
            well = FAULTS[kind].words in sentence and run_to_the_end(job, folder) and result(folder / "out") == wanted
            if not well:
                complain(folder, f"{kind}, exit code {code}, {sentence!r}")
            rows.append(Row("run", kind, 1, int(well), seed))
    return [*rows, second_writer(root, seed)]


def second_writer(root: Path, seed: int) -> Row:
    """A scene that another process writes to: the second is refused, and nothing changes."""
    with new_folder(root) as folder:
        (folder / "out").mkdir()
        holder = FolderLock(folder / "out")
        before = sorted(folder.rglob("*"))
        code = ended(start(JOBS["run"], folder))
        sentence = said_in(folder).read_text().splitlines()[-1]
        well = code == 2 and "is being written to by" in sentence and sorted(folder.rglob("*")) == before
        holder.release()
    return Row("run", "second writer", 1, int(well), seed)


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[bool]:
    """Makes a folder a disk of its own of 32 MB, if that is allowed here."""
    mounted = (
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", str(folder)], capture_output=True).returncode == 0
    )
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", str(folder)], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--commands", nargs="*", choices=JOBS, default=list(JOBS))
    parser.add_argument("--kinds", nargs="*", choices=FAULTS, default=list(FAULTS), help="other faults than kills")
    parser.add_argument("--kills", type=int, default=30, help="of each command")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).parent / "reliability/faults.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for module in {module for job in JOBS.values() for module in job.modules}:
        importlib.import_module(module)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder).resolve()
        root.chmod(0o755)
        write_material(root)
        for name in options.commands:
            rows.append(kills(name, root, options.kills, options.seed))
            print(rows[-1], file=sys.stderr, flush=True)
        rows += faults(root, options.seed, options.kinds) if options.kinds else []
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    for row in rows:
        print(f"{row.command}: {row.kind}: survived {row.survived} of {row.times}")
    sys.exit(any(row.survived < row.times for row in rows))


if __name__ == "__main__":
    main()
