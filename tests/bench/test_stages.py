"""Predict, score, report from the command line: what is written, what is kept, what is refused."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from st4rtrack.bench import predict
from st4rtrack.bench.methods import METHODS, make_method
from st4rtrack.bench.protocol import PUBLISHED
from st4rtrack.options import MethodOptions
from st4rtrack.types import UserError
from tests.conftest import Run
from tests.worldtrack_data import write_sequence


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_sequence(tmp_path / "data" / "adt_mini" / "one.npz")
    write_sequence(tmp_path / "data" / "adt_mini" / "two.npz", seed=1, frames=6)
    write_sequence(tmp_path / "data" / "pstudio_mini" / "three.npz", seed=2, fixed_camera=True)
    return tmp_path / "data"


def predict_and_score(run: Run, data: Path, *options: object) -> dict:
    assert run("bench", "predict", "--data", data, "-o", "p", "--method", "plane")[0] == 0
    code, said = run("bench", "score", "--data", data, "--predictions", "p", "-o", "s.json", *options)
    assert code == 0, said
    return json.loads(Path("s.json").read_text())


def test_stages_on_disk(run: Run, data: Path) -> None:
    scores = predict_and_score(run, data)
    assert sorted(path.relative_to("p").as_posix() for path in Path("p").rglob("*.npz")) == [
        "adt_mini/one.npz",
        "adt_mini/two.npz",
        "pstudio_mini/three.npz",
    ]
    assert list(scores["sequences"]) == ["adt_mini/one", "adt_mini/two", "pstudio_mini/three"]
    assert scores["method"] == "plane" and scores["protocol"]["name"] == "published"
    assert set(scores["sets"]) == {"adt_mini", "pstudio_mini"} and scores["sets"]["adt_mini"]["sequences"] == 2
    row = scores["sequences"]["adt_mini/one"]
    for part in (row["tracking"]["all"], row["tracking"]["dynamic"], row["reconstruction"]):
        for alignment in ("median", "sim3"):
            assert 0 <= part[alignment]["apd"] <= 100 and part[alignment]["epe"] > 0
    expected = np.mean([row["tracking"]["all"]["median"]["apd"] for row in scores["sequences"].values()])
    assert scores["mean"]["tracking"]["all"]["median"]["apd"] == pytest.approx(expected)
    for figure in scores["figures"].values():
        assert figure["unit"] and figure["meaning"] and figure["better"] in ("higher", "lower", None)


def test_corrected_protocol_from_the_command_line(run: Run, data: Path) -> None:
    scores = predict_and_score(run, data, "--protocol", "corrected", "--name", "a plane")
    assert scores["protocol"]["depth_range_m"] == [0.0, None] and scores["method"] == "a plane"


def test_score_has_the_bounds_of_the_same_sequences_by_default(run: Run, data: Path) -> None:
    scores = predict_and_score(run, data, "--name", "mine")
    plane = scores["bounds"]["plane"]
    assert plane.keys() == {"sequences", "sets", "mean"}
    one, other = (rows["mean"]["reconstruction"]["sim3"] for rows in (plane, scores))
    assert one == pytest.approx(other, rel=1e-5)  # the method is the plane; its file has float32
    static = scores["bounds"]["static"]["sequences"]["adt_mini/one"]
    assert static.keys() == scores["sequences"]["adt_mini/one"].keys()
    assert static["tracking"]["all"]["median"]["apd"] > plane["mean"]["tracking"]["all"]["median"]["apd"]
    assert predict_and_score(run, data, "--no-bounds")["bounds"] == {}


def test_predicting_goes_on_where_it_was(run: Run, data: Path) -> None:
    command = ("bench", "predict", "--data", data, "-o", "p", "--method", "plane")
    assert run(*command)[0] == 0
    kept, missing = Path("p/adt_mini/one.npz"), Path("p/adt_mini/two.npz")
    before = kept.stat().st_mtime_ns
    content = missing.read_bytes()
    missing.unlink()
    assert run(*command)[0] == 0
    assert kept.stat().st_mtime_ns == before and missing.read_bytes() == content
    assert run(*command, "--protocol", "published")[0] == 0  # a plane does not depend on it
    code, said = run(*command, "--size", "64")
    assert code == 2 and "size None, not 64" in said and "--overwrite" in said
    code, said = run(*command[:-1], "monst3r", "--overwrite")  # cannot be made, and costs nothing
    assert code == 2 and "--model" in said and missing.read_bytes() == content
    assert run(*command, "--size", "64", "--overwrite")[0] == 0
    assert kept.stat().st_mtime_ns > before


def test_predictions_of_other_embedded_weights_are_not_reused(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = MethodOptions(model="tiny", protocol=PUBLISHED)
    assert len(predict.predict(data, tmp_path / "p", "plane", options)) == 3
    assert len(predict.predict(data, tmp_path / "p", "plane", options)) == 3
    monkeypatch.setattr("st4rtrack.model.checkpoint.embedded_hash", lambda: "other")
    with pytest.raises(UserError, match=r"predicted with weights .* use --overwrite"):
        predict.predict(data, tmp_path / "p", "plane", options)


def test_workers_give_the_same_scores(run: Run, data: Path) -> None:
    one = predict_and_score(run, data)
    for stage in (
        ("predict", "--method", "plane", "-o", "q"),
        ("score", "--predictions", "q", "-o", "t.json", "--name", "plane"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "st4rtrack", "bench", *stage, "--data", str(data), "--workers", "2"],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
    assert json.loads(Path("t.json").read_text()) == one


def test_wrong_files_end_in_one_sentence(run: Run, data: Path) -> None:
    score = ("bench", "score", "--data", data, "--predictions", "p", "-o", "s.json")
    for arguments, expected in (
        (("bench", "predict", "--data", "nowhere", "-o", "p"), "nowhere is not a folder"),
        (("bench", "predict", "--data", data, "-o", "p", "--method", "best"), "--method must be one of st4rtrack"),
        (("bench", "predict", "--data", data, "-o", "p", "--method", "monst3r"), "--model"),
        (("bench", "predict", "--data", data, "-o", data, "--method", "plane"), "not predictions"),
        (score, "p is not a folder with predictions"),
    ):
        code, said = run(*arguments)
        assert code == 2 and expected in said and "Traceback" not in said, said
    assert not Path("p").exists()
    predict_and_score(run, data)
    Path("p/adt_mini/two.npz").unlink()
    code, said = run(*score)
    assert code == 2 and "adt_mini/two: there is no prediction" in said
    Path("notes.json").write_text("[]")
    code, said = run(*score[:-1], "notes.json")
    assert code == 2 and "notes.json exists and is not a score file" in said
    assert Path("notes.json").read_text() == "[]"


def test_scoring_needs_no_network(run: Run, data: Path) -> None:
    predict_and_score(run, data)
    check = (
        "import sys; from st4rtrack.cli.main import main; "
        f"main(['bench', 'score', '--data', {str(data)!r}, '--predictions', 'p', '-o', 's.json']); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"


def test_every_method_is_there_or_says_what_it_needs(tmp_path: Path) -> None:
    options = MethodOptions(PUBLISHED, device="cpu", dtype="float32")
    for name in METHODS:
        if name in ("st4rtrack", "sfm", "plane", "static"):
            assert callable(make_method(name, options))
        else:
            with pytest.raises(UserError, match=r"--(model|tracks|cameras)"):
                make_method(name, options)


def test_a_table_of_methods_and_a_report_of_its_scores(run: Run, data: Path) -> None:
    code, said = run("bench", "table", "--data", data, "-o", "table", "--methods", "plane,static", "--protocols", "corrected")
    assert code == 0, said
    scores = sorted(Path("table/scores").glob("*.json"))
    assert [path.name for path in scores] == ["plane-corrected.json", "static-corrected.json"]
    code, said = run("bench", "report", *scores, "-o", "again")
    assert code == 0, said
    for name in ("report.md", "tables.csv", "tables.tex"):
        assert Path("again", name).read_text() == Path("table", name).read_text()
        assert f"again/{name}" in said
    command = ("bench", "table", "--data", data / "pstudio_mini", "-o", "alone", "--methods", "plane", "--protocols", "corrected")
    assert run(*command)[0] == 0
    assert "| static (bound) |" in Path("alone/report.md").read_text()
    assert "(bound)" not in Path("table/report.md").read_text()
    code, said = run("bench", "table", "--data", data, "-o", "table", "--methods", "plane,best")
    assert code == 2 and "--methods must be among" in said
