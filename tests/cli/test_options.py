from pathlib import Path

import pytest

from st4rtrack.cli.batch import _absolute
from st4rtrack.cli.options import checked, read_anchor
from st4rtrack.options import FrameSelection, ReconstructOptions, with_keywords
from st4rtrack.types import UserError
from tests.conftest import Run


def test_an_anchor_is_a_number_or_a_word() -> None:
    assert [read_anchor(value) for value in ("0", "17", "middle", "auto")] == [0, 17, "middle", "auto"]
    for value in ("-1", "1.5", "last", ""):
        with pytest.raises(UserError, match="'middle' or 'auto'"):
            read_anchor(value)


def test_sources_of_a_batch_paths_become_absolute_and_words_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("builtin", "depth"):
        Path(name).mkdir()
    assert [_absolute(word) for word in ("builtin", "none", "org/name")] == ["builtin", "none", "org/name"]
    assert _absolute("depth") == str(tmp_path / "depth") and _absolute("x/{name}.npz") == str(tmp_path / "x/{name}.npz")


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (["run", "a.mp4", "--points", "float16"], "--dtype-points"),
        (["batch", "a.mp4", "-o", "out", "--points=float16"], "--dtype-points"),
        (["export", "scene", "ply", "--points", "9"], "--max-points"),
        (["export", "scene", "glb", "--tracks", "9"], "--max-tracks"),
    ],
)
def test_renamed_option_is_refused_with_the_new_name(run: Run, arguments: list[str], name: str) -> None:
    code, said = run(*arguments)
    assert code == 2 and f"was renamed; use {name}" in said


def test_removed_option_is_refused(run: Run) -> None:
    code, said = run("train", "tiny", "--pairs", "9")
    assert code == 2 and "--pairs of train was removed; leave it out" in said


def test_checked_options_understand_words_and_refuse_counts() -> None:
    assert checked(ReconstructOptions(anchor="3", batch_size="auto")) == ReconstructOptions(anchor=3)
    assert checked(ReconstructOptions(anchor="middle", batch_size="8", size=64)).batch_size == 8
    for wrong in (ReconstructOptions(size=0), ReconstructOptions(batch_size="many")):
        with pytest.raises(UserError, match="whole number of at least 1"):
            checked(wrong)


def test_with_keywords_replaces_fields_and_refuses_unknown_names() -> None:
    scene, frames = with_keywords("reconstruct", {"stop": 5, "anchor": 2}, ReconstructOptions(size=64), FrameSelection(stride=2))
    assert scene == ReconstructOptions(size=64, anchor=2) and frames == FrameSelection(stride=2, stop=5)
    with pytest.raises(TypeError, match=r"reconstruct\(\) got an unexpected keyword argument 'points'"):
        with_keywords("reconstruct", {"points": 1}, scene, frames)
