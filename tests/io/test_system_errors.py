"""Troubles of the machine become sentences, and secrets leave them."""

import errno
from pathlib import Path

import pytest
import torch

from st4rtrack.io.system_errors import explain
from st4rtrack.io.text import redacted, without_home


def chained(inner: BaseException) -> Exception:
    """As a library raises: its own error while handling another."""
    try:
        try:
            raise inner
        except BaseException as error:
            raise RuntimeError("a library's own words") from error
    except RuntimeError as error:
        return error


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/out/a"), ("no space is left", "/out/a", "free some")),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), ("quota", "free some")),
        (PermissionError(errno.EACCES, "Permission denied", "/out/b"), ("permission", "/out/b", "chmod")),
        (OSError(errno.EROFS, "Read-only file system", "/out/c"), ("read-only", "-o")),
        (OSError(errno.EMFILE, "Too many open files"), ("too many files", "ulimit")),
        (OSError(errno.ENAMETOOLONG, "File name too long", "/out/e"), ("too long", "/out/e", "-o")),
        (FileNotFoundError(errno.ENOENT, "No such file or directory"), ("current folder was deleted",)),
        (MemoryError(), ("this machine has no memory", "--batch-size")),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"), ("the device has no memory", "--device cpu")),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory"),
            ("machine has no memory",),
        ),
        (RuntimeError("I/O error: No space left on device (os error 28)"), ("no space is left",)),
        (chained(OSError(errno.ENOSPC, "No space left on device", "/out/d")), ("/out/d",)),
        (chained(MemoryError()), ("no memory",)),
    ],
)
def test_a_trouble_has_a_sentence_and_a_way_out(error: BaseException, words: tuple[str, ...]) -> None:
    sentence = explain(error)
    assert sentence is not None and "\n" not in sentence and "{" not in sentence
    for word in words:
        assert word in sentence


@pytest.mark.parametrize("error", [ValueError("x"), KeyError("memory"), FileNotFoundError(errno.ENOENT, "No such file", "a")])
def test_other_errors_have_none(error: BaseException) -> None:
    assert explain(error) is None


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("https://me:pass@host/a.mp4 and rtsp://u@cam", "https://***@host/a.mp4 and rtsp://***@cam"),
        ("https://host/a.mp4?x=1&token=abc&y=2", "https://host/a.mp4?x=1&token=***&y=2"),
        ("no https:/me:pass@host/a.mp4", "no https:/***@host/a.mp4"),
        ("C:/me@home/a.mp4", "C:/me@home/a.mp4"),
        ("key hf_abcdefghijklmnop123 of", "key *** of"),
        ("https://host/a@b.mp4, me@host, x://", "https://host/a@b.mp4, me@host, x://"),
        ('{"a": "http://host", "b": "c@d"}', '{"a": "http://host", "b": "c@d"}'),
    ],
)
def test_secrets_leave_a_text(text: str, cleaned: str) -> None:
    assert redacted(text) == cleaned


def test_the_home_folder_leaves_a_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ann")
    assert without_home("/home/ann/a.mp4, /home/anna/b, in /home/ann") == "~/a.mp4, /home/anna/b, in ~"
    assert str(Path("~").expanduser()) == "/home/ann"
