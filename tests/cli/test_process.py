"""How commands end as processes: Ctrl-C, closed pipes, names that are not UTF-8, users without a home folder."""

import json
import os
import pwd
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from st4rtrack.cli import main as cli
from st4rtrack.cli.process import command_name
from st4rtrack.cli.report import report_text
from st4rtrack.doctor.machine import hub_folder
from st4rtrack.io.files import expanded
from st4rtrack.types import UserError

posix = pytest.mark.skipif(os.name == "nt", reason="signals and pipes of POSIX")

COMMAND = """
import os, signal, sys, threading
from st4rtrack.cli import main as cli
from st4rtrack.cli.reporter import answer, wrote
from st4rtrack.threads import stop_workers_on_exit, prefetch

def frames():
    yield 0
    print("ready", file=sys.stderr, flush=True)
    threading.Event().wait(600)  # one step that cannot be interrupted
    yield 1

def work(what: str = "") -> None:
    if what == "name":
        wrote(os.fsdecode(b"a\\xff.ply"))
    elif what == "lines":
        while True:
            answer("x" * 100)
    else:
        with stop_workers_on_exit():
            for _ in prefetch(prefetch(frames(), 1), 1):
                pass

signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background of a shell
cli.COMMANDS["work"] = work
cli.main()
"""


def start(*arguments: str, **environment: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, "work", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **environment},
    )


@posix
@pytest.mark.parametrize("presses", [1, 3])
@pytest.mark.parametrize("mode", ["plain", "json"])
def test_ctrl_c_during_a_long_step_ends_with_one_sentence(presses: int, mode: str) -> None:
    process = start(*(["--json"] if mode == "json" else []))
    assert process.stderr is not None and process.stderr.readline() == b"ready\n"
    for _ in range(presses):
        process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)  # the step itself would take ten minutes
    assert process.returncode == 1
    if mode == "json":
        events = [json.loads(line) for line in out.splitlines()]
        assert [event["event"] for event in events] == ["start", "error"] and events[-1]["kind"] == "stopped" and err == b""
    else:
        assert (out, err) == (b"", b"\nst4rtrack: interrupted; run the same command again to resume\n")


@posix
def test_sigterm_kills_the_process() -> None:
    with start() as process:
        assert process.stderr is not None and process.stderr.readline() == b"ready\n"
        process.terminate()
        assert process.communicate(timeout=60) == (b"", b"") and process.returncode == -signal.SIGTERM


@posix
@pytest.mark.parametrize("arguments", [["--what", "lines"], ["--what", "lines", "--json"], ["--help"]], ids=" ".join)
def test_closed_pipe_ends_quietly(arguments: list[str]) -> None:
    with start(*arguments) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=60) in (0, 1)  # 0: all of the help fitted into the pipe


@pytest.mark.skipif(sys.platform != "linux", reason="other systems allow no such name")
@pytest.mark.parametrize(("encoding", "printed"), [("utf-8", b"wrote a\xff.ply\n"), ("ascii", b"wrote a\xff.ply\n")])
def test_name_not_utf8_is_printed_as_it_is(encoding: str, printed: bytes) -> None:
    out, err = start("--what", "name", PYTHONIOENCODING=f"{encoding}:strict").communicate(timeout=60)
    assert (out, err) == (printed, b"")


@posix
def test_closed_standard_streams_do_no_harm() -> None:
    shell = ["sh", "-c", 'exec "$0" "$@" >&- 2>&-', sys.executable, "-c", COMMAND, "work", "--what", "name"]
    assert subprocess.run(shell, timeout=60, check=False).returncode == 0


@pytest.fixture
def no_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user id without a passwd entry, as in containers, and no HOME."""

    def unknown(number: int) -> object:
        raise KeyError(f"getpwuid(): uid not found: {number}")

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    for name in ("HOME", "HF_HOME", "HF_HUB_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)


@posix
@pytest.mark.usefixtures("no_home")
def test_user_without_home_folder_gets_reports_and_sentences() -> None:
    assert hub_folder() == Path("~/.cache/huggingface/hub")
    assert "## Command" in report_text(
        ValueError("x"),
        ["run"],
        [],
    )
    with pytest.raises(UserError, match=r"~/x\.pth is in a home folder that is not known here; give the absolute path"):
        expanded("~/x.pth")


@posix
@pytest.mark.usefixtures("no_home")
@pytest.mark.parametrize("arguments", [["batch", "~/x.mp4", "-o", "out"], ["convert", "~/x.pth", "y.safetensors"]], ids=" ".join)
def test_command_with_unknown_home_folder_ends_in_a_sentence(run, arguments: list[str]) -> None:
    code, said = run(*arguments)
    assert code == 2 and "home folder that is not known here" in said and "Traceback" not in said


def test_main_called_from_python_leaves_ctrl_c_alone(capsys: pytest.CaptureFixture) -> None:
    before = signal.getsignal(signal.SIGINT)
    cli.main(["--version"])
    assert signal.getsignal(signal.SIGINT) is before and capsys.readouterr().out.startswith("st4rtrack ")


@pytest.mark.parametrize(
    ("found", "called", "name"),
    [
        ("/usr/bin/st4rtrack", "/usr/bin/st4rtrack", "st4rtrack"),
        (None, ".venv/bin/st4rtrack", ".venv/bin/st4rtrack"),
        (None, "/x/st4rtrack/__main__.py", f"{sys.executable} -m st4rtrack"),
    ],
)
def test_command_name_not_on_the_path_is_a_path(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, found: str | None, called: str, name: str
) -> None:
    monkeypatch.chdir(tmp_path)  # the interpreter's path is shortened below the current folder
    monkeypatch.setattr("shutil.which", lambda _: found)
    monkeypatch.setattr("sys.argv", [called])
    assert command_name() == name
