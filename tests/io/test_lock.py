"""One writer per folder, and a killed one leaves nothing that blocks."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from st4rtrack.io import lock
from st4rtrack.io.lock import LOCK, FolderLock, locked
from st4rtrack.types import UserError

HOLDER = "import sys\nfrom st4rtrack.io.lock import FolderLock\nheld = FolderLock(sys.argv[1])\nprint('held', flush=True)\nsys.stdin.read()"


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock of the folder."""
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_second_process_is_refused_and_told_who_the_first_is(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    with pytest.raises(UserError, match=rf"is being written to by another process \({holder.pid} on .+\); wait") as error:
        FolderLock(tmp_path, patience_s=0)
    assert str(tmp_path) in str(error.value)


def test_a_killed_process_does_not_block(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert (tmp_path / LOCK).exists(), "nobody was there to take it away"
    FolderLock(tmp_path, patience_s=0).release()
    assert not (tmp_path / LOCK).exists()


def test_a_second_writer_in_the_same_process_is_refused_until_the_first_is_done(tmp_path: Path) -> None:
    first = FolderLock(tmp_path)
    with pytest.raises(UserError, match=f"another process .{os.getpid()} "):
        FolderLock(tmp_path, patience_s=0)
    first.release()
    first.release()
    FolderLock(tmp_path, patience_s=0).release()
    assert not list(tmp_path.iterdir())


def test_a_writer_that_is_forgotten_gives_its_lock_back(tmp_path: Path) -> None:
    FolderLock(tmp_path)
    FolderLock(tmp_path, patience_s=0).release()


def test_it_waits_a_moment_for_a_process_that_is_ending(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, asked = FolderLock(tmp_path), list[float]()

    def sleep(seconds: float) -> None:
        asked.append(seconds)
        if len(asked) == 3:
            first.release()

    monkeypatch.setattr(lock.time, "sleep", sleep)
    FolderLock(tmp_path, patience_s=60).release()
    assert len(asked) == 3


def test_a_folder_that_goes_away_is_noticed_and_one_in_its_place_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    held = FolderLock(folder)
    held.require_folder()
    folder.rename(tmp_path / "moved")
    with pytest.raises(UserError, match="was moved or removed"):
        held.require_folder()
    folder.mkdir()
    other = FolderLock(folder)
    with pytest.raises(UserError, match="was moved or removed"):
        held.require_folder()
    held.release()
    other.require_folder()
    other.release()


def test_a_disk_without_locks_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def unsupported(_: int) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(lock, "_lock", unsupported)
    FolderLock(tmp_path).release()
    assert "cannot be locked" in caplog.text


def test_a_folder_is_made_and_does_not_stay_when_nothing_came(tmp_path: Path) -> None:
    with pytest.raises(KeyError), locked(tmp_path / "a"):
        raise KeyError
    assert not (tmp_path / "a").exists()
    with locked(tmp_path / "a"):
        (tmp_path / "a/x").touch()
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["x"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_copy_of_the_process_does_not_take_the_lock_away(tmp_path: Path) -> None:
    code = (
        "import os, sys\nfrom st4rtrack.io.lock import FolderLock\nheld = FolderLock(sys.argv[1])\n"
        "pid = os.fork()\nif pid == 0:\n    held.release()\n    os._exit(0)\nos.waitpid(pid, 0)\nheld.require_folder()"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
