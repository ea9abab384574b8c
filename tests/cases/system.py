"""Commands in conditions that people report: each function runs one in a folder and gives exit code and output."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import st4rtrack
from st4rtrack.model.checkpoint import load_model
from st4rtrack.types import UserError
from tests.cases.clips import Look, all_black, moving
from tests.cases.measure import Row
from tests.cases.table import Case, Expected
from tests.reliability.checkpoints import saved, weights
from tests.reliability.videos import encode

COMMAND = [sys.executable, "-m", "st4rtrack"]
PACKAGE = Path(st4rtrack.__file__).parents[1]
LOOK = Look(seed=12, width=96, height=72, frames=4)
SECONDS = 600
FAULTS = ("Traceback", "this is a fault", "Internal error", "already executing", "terminate called", "BrokenPipe")


WITHOUT_TRIMESH = """
from importlib.machinery import PathFinder
find = PathFinder.find_spec
PathFinder.find_spec = classmethod(lambda cls, name, *more: None if name.split(".")[0] == "trimesh" else find(name, *more))
"""


def command(*arguments: str, folder: Path, **how: Any) -> Row:
    """Runs the command in the folder: exit code, and both streams as one message."""
    how = {"env": environment(), **how}
    done = subprocess.run(
        [*COMMAND, *arguments], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=SECONDS, **how
    )
    return {"exit_code": done.returncode, "messages": [done.stdout.decode(errors="replace")]}


def environment(**more: str) -> dict[str, str]:
    """The environment with the package that is under test; `more` comes before everything else of the same name."""
    path = os.pathsep.join([*([more.pop("before")] if "before" in more else []), str(PACKAGE), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PYTHONPATH": path, **more}


def small_video(folder: Path, name: str = "clip.mp4", frames: int = 4) -> Path:
    return encode(folder / name, moving(Look(seed=12, width=96, height=72, frames=frames)).rgb, crf="12")


def byte_name(folder: Path) -> Row:
    """A file name with a byte that is not UTF-8."""
    small_video(folder)
    name = os.fsdecode(b"clip\xff.mp4")
    (folder / "clip.mp4").rename(folder / name)
    return command("run", name, folder=folder)


def long_name(folder: Path) -> Row:
    """A name of 254 bytes: that of the scene would be longer than file systems take."""
    small_video(folder, "a" * 250 + ".mp4")
    return command("run", "a" * 250 + ".mp4", folder=folder)


def interrupted_twice(folder: Path) -> Row:
    """Two Ctrl-C within 50 ms, at several moments while frames are computed."""
    small_video(folder, frames=40)
    ends = [_interrupt(folder, delay_s) for delay_s in (0.0, 0.2, 0.6)]
    bad = [output for code, output in ends if code not in (1, 130, -signal.SIGINT) or any(word in output for word in FAULTS)]
    return {"exit_code": 0, "messages": bad, "quiet": not bad}


def _interrupt(folder: Path, delay_s: float) -> tuple[int, str]:
    """Exit code and output of a run that is interrupted twice, some time after its first frame."""
    process = subprocess.Popen(
        [*COMMAND, "run", "clip.mp4", "-o", "scene", "--json", "--overwrite"],
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # shells let background jobs ignore it
    )
    assert process.stdout is not None
    while (line := process.stdout.readline()) and '"progress"' not in line:
        pass
    time.sleep(delay_s)
    for _ in range(2):
        process.send_signal(signal.SIGINT)
        time.sleep(0.05)
    output = process.communicate(timeout=SECONDS)[0]
    return process.returncode, output


def closed_pipe(folder: Path, words: str) -> Row:
    """The reader of the output goes away after one line."""
    small_video(folder)
    line = f"{' '.join(COMMAND)} {words} | head -1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", line], cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=SECONDS
    )
    output = done.stdout.decode(errors="replace")
    return {
        "exit_code": 0,
        "messages": [output],
        "quiet": not any(word in output for word in FAULTS),
    }


def unknown_user(folder: Path) -> Row:
    """A user id without an entry in passwd, HOME unset, as in containers."""
    (folder / "sitecustomize.py").write_text(
        "import pwd\n\ndef getpwuid(uid):\n    raise KeyError(f'getpwuid(): uid not found: {uid}')\n\npwd.getpwuid = getpwuid\n"
    )
    env = environment(before=str(folder))
    return command(
        "doctor", folder=folder, env={k: v for k, v in env.items() if k not in ("HOME", "USER", "LOGNAME", "LNAME", "USERNAME")}
    )


def hub(folder: Path) -> Row:
    """A hub id while the hub cannot be reached."""
    small_video(folder)
    env = environment(HF_ENDPOINT="http://127.0.0.1:9", HF_HOME=str(folder / "hub"))
    return command("run", "clip.mp4", "--model", "someone/some-model", folder=folder, env=env)


def numpy_checkpoint(folder: Path) -> Row:
    """A checkpoint that holds a NumPy scalar beside the weights: the outcome must be that without it."""
    outcomes = []
    for more in ({}, {"best": np.float64(1.5), "step": np.int64(3)}):
        (folder / "model.pth").write_bytes(saved({"model": dict(weights()), **more}))
        try:
            outcomes.append(load_model(folder / "model.pth").name)
        except UserError as error:
            outcomes.append(str(error))
    return {"exit_code": 0, "messages": outcomes, "same": outcomes[0] == outcomes[1]}


def lfs_pointer(folder: Path) -> Row:
    """A Git LFS pointer in place of the weights."""
    small_video(folder)
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 2289000000\n"
    (folder / "model.safetensors").write_text(pointer)
    return command("run", "clip.mp4", "--model", "model.safetensors", folder=folder)


def without_trimesh(folder: Path) -> Row:
    """`--export glb` where trimesh is not installed: refused before the run."""
    small_video(folder)
    (folder / "sitecustomize.py").write_text(WITHOUT_TRIMESH)
    row = command("run", "clip.mp4", "-o", "scene", "--export", "glb", folder=folder, env=environment(before=str(folder)))
    return row | {"refused_before": not (folder / "scene").exists()}


def run_words(folder: Path, *words: str, frames: int = 4, black: bool = False, twice: bool = False) -> Row:
    """`run` on a small clip with more options."""
    if black:
        encode(folder / "clip.mp4", all_black(LOOK).rgb, crf="12")
    else:
        small_video(folder, frames=frames)
    row = command("run", "clip.mp4", "-o", "scene", *words, folder=folder)
    return command("run", "clip.mp4", "-o", "scene", *words, folder=folder) if twice else row


def batch_options(folder: Path) -> Row:
    """Options of `run` that `batch` lacks."""
    helps = [command(name, "--help", folder=folder, env=environment(COLUMNS="200"))["messages"][0] for name in ("run", "batch")]
    options = [{word.strip(",│") for word in text.split() if word.startswith("--")} for text in helps]
    missing = sorted(options[0] - options[1] - {"--queries", "--help"})
    return {"exit_code": 0, "messages": [f"batch lacks {', '.join(missing)}"], "missing": missing}


def _case(name: str, make: Callable[..., Row], *expected: Expected, reported: str = "", **options: Any) -> Case:
    return Case(name, "system", make, expected, options, reported=reported)


def _run(name: str, *words: str, expected: Expected, **how: Any) -> Case:
    return Case(name, "system", lambda folder: run_words(folder, *words, **how), (expected,))


QUIET = Expected(values=(("quiet", True),))
SYSTEM = [
    _case("byte-name", byte_name, Expected(exit_code=0), reported="tarindexer#9"),
    _case(
        "long-name",
        long_name,
        Expected(exit_code=2, sentence="name.*long|too long|shorter"),
        Expected(exit_code=0),
        reported="yt-dlp#11364",
    ),
    _case(
        "interrupted-twice",
        interrupted_twice,
        QUIET,
    ),
    _case("closed-pipe-run", closed_pipe, QUIET, words="run clip.mp4 -o scene --json", reported="Backblaze B2#1071"),
    _case("closed-pipe-doctor", closed_pipe, QUIET, words="doctor", reported="Backblaze B2#1071"),
    _case("unknown-user", unknown_user, Expected(exit_code=0), reported="unsloth-zoo PR#719"),
    _case("hub-unreachable", hub, Expected(exit_code=2, sentence="network|offline|connect|reach"), reported="vggt-omega#5"),
    _case("numpy-checkpoint", numpy_checkpoint, Expected(values=(("same", True),)), reported="nerfstudio PR#3702"),
    _case("lfs-pointer", lfs_pointer, Expected(exit_code=2, sentence="LFS")),
    _case("glb-without-trimesh", without_trimesh, Expected(exit_code=2, sentence="trimesh", values=(("refused_before", True),))),
    _case("batch-options", batch_options, Expected(values=(("missing", []),))),
    _run("complete-already", expected=Expected(sentence="already complete"), twice=True),
    _run("not-metres", expected=Expected(sentence="not metres")),
    _run("quality-line", expected=Expected(sentence="reliable|quality")),
    _run("require-reliable", "--require-reliable", expected=Expected(exit_code=3), black=True),
]
