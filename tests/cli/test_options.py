from pathlib import Path

import pytest

from st4rtrack.cli.batch import _absolute
from st4rtrack.cli.options import read_anchor
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
