"""Files that are there whole or not at all, and what killed processes left of them."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from st4rtrack.cli.report import write_report
from st4rtrack.io.files import remove_leftovers, require_downloaded, unfinished_name, whole_file, write_whole
from st4rtrack.io.video import open_video, write_video
from st4rtrack.io.video_writer import write_gif
from st4rtrack.model.checkpoint import load_model
from st4rtrack.types import UserError


def dead_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_an_error_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "state.pt"
    write_whole(path, b"old")
    with pytest.raises(OSError), whole_file(path) as file:
        file.write(b"half of the new")
        raise OSError(28, "No space left on device")
    assert path.read_bytes() == b"old" and list(path.parent.iterdir()) == [path]


def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    path, mine, dead = tmp_path / "a.ply", str(os.getpid()), str(dead_process())
    unfinished = unfinished_name(path)
    left = [tmp_path / f"{unfinished.replace(mine, dead)}.part", tmp_path / f"{unfinished.replace(mine, dead)}.x1.partial"]
    kept = [
        tmp_path / f"{unfinished}.part",  # of this process
        tmp_path / f"{unfinished.replace(mine, dead)[:-1]}x.part",
        tmp_path / f".b.ply{unfinished.removeprefix('.a.ply').replace(mine, dead)}.part",
        tmp_path / f".a.ply.elsewhere-{dead}.part",  # of another machine
        tmp_path / "a.ply.1.part",
    ]
    left[1].mkdir()
    (left[1] / "inside").touch()
    for entry in [left[0], *kept]:
        entry.touch()
    remove_leftovers(path)
    assert sorted(tmp_path.iterdir()) == sorted(kept)
    write_whole(path, b"x")
    assert path.read_bytes() == b"x"


@pytest.mark.parametrize("letter", ["a", "é"])
def test_unfinished_name_of_a_long_name_fits(tmp_path: Path, letter: str) -> None:
    names = [letter * (251 // len(letter.encode())) + ending for ending in (".ply", ".glb")]
    assert len({unfinished_name(tmp_path / name) for name in names}) == 2
    for name in names:
        write_whole(tmp_path / name, b"content")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)


def test_video_with_a_long_name_is_written(tmp_path: Path) -> None:
    for ending in (".mp4", ".gif"):
        path = tmp_path / ("a" * 251 + ending)
        (write_gif if ending == ".gif" else write_video)(path, iter(np.zeros((2, 16, 16, 3), np.uint8)), fps=10)
        assert path.is_file()


def test_report_of_a_command_with_a_name_that_is_not_utf8_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = write_report(ValueError(), ["run", os.fsdecode(b"a\xff.mp4")], [], here=True)
    assert path is not None and "a\\udcff.mp4" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("page", ["\n<!DOCTYPE html>\n<html>", "\ufeff<html lang='en'>", "<!-- Access denied --><HTML>"])
def test_html_page_in_place_of_a_file_is_refused_by_name(tmp_path: Path, page: str) -> None:
    for name in ("a.mp4", "a.png", "a.npz", "a.safetensors", "a.pth"):
        (tmp_path / name).write_text(page, encoding="utf-8")
        with pytest.raises(UserError, match=rf"{name} is an HTML page, not the file itself.*download the file again"):
            (load_model if name in ("a.safetensors", "a.pth") else open_video)(tmp_path / name)


def test_git_lfs_pointer_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "a.pth").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n")
    with pytest.raises(UserError, match=r"a\.pth is a Git LFS pointer, not the file itself; fetch it with: git lfs pull"):
        require_downloaded(tmp_path / "a.pth")
