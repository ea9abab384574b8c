"""`st4rtrack bench adaptation`: rows that differ only in what their name says."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.adapt.small import small_base, small_clip, write_clip
from tests.conftest import Run

ROWS = "feed-forward,instance,domain,without-depth"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for name, seed in (("one", 23), ("two", 24)):
        write_clip(folder / "set" / f"{name}.npz", small_clip(num_frames=4, seed=seed))
    return folder


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_base(tmp_path_factory.mktemp("base"))


def test_rows_are_adapted_to_the_truth_scored_and_put_in_a_table(run: Run, data: Path, base: Path) -> None:
    given = ("bench", "adaptation", "--data", data, "-o", "table", "--rows", ROWS, "--tracks", "truth", "--depth", "truth")
    given = (
        *given,
        "--model",
        base,
        "--steps",
        2,
        "--batch-size",
        3,
        "--freeze",
        "encoder",
        "--device",
        "cpu",
        "--figure",
        "set/one",
    )
    code, said = run(*given, "--learning-rate", 0.01)
    assert code == 0, said
    rows = {row: json.loads(Path(f"table/scores/{row}.json").read_text()) for row in ROWS.split(",")}
    assert all(set(scores["sequences"]) == {"set/one", "set/two"} for scores in rows.values())
    assert Path("table/report.md").exists()
    models = {path.relative_to("table/models").as_posix() for path in Path("table/models").rglob("*.safetensors")}
    assert {"instance/set_one.safetensors", "instance/set_two.safetensors", "domain/set_one_set_two.safetensors"} <= models
    assert not [name for name in models if name.startswith("feed-forward")]
    figure = cv2.imread("table/figure_set_one.jpg")
    assert figure is not None and figure.shape[1] == 1600 and figure.shape[0] > 1000  # four scenes, two beside each other
    options = json.loads(Path("table/models/without-depth/set_one_adapted/adaptation.json").read_text())["options"]
    assert options["loss"]["depth"] == 0 and options["loss"]["trajectory"] > 0
    with np.load("table/truth/tracks/one.npz") as tracks:
        assert np.abs(tracks["tracks_px"][0] - tracks["query_px"]).max() < 1e-3
        assert tracks["visible"][0].all() and not tracks["visible"].all()
    with np.load("table/truth/depth/one.npz") as depth:
        assert depth["depth"].shape == (4, 64, 96)
    made = {path: path.stat().st_mtime_ns for path in Path("table/predictions").rglob("*.npz")}
    assert len(made) == 8
    code, said = run(*given, "--learning-rate", 0.01)
    assert code == 0 and all(path.stat().st_mtime_ns == then for path, then in made.items()), said
    code, said = run(*given, "--learning-rate", 0.02)
    assert code == 2 and "learning_rate was 0.01, now 0.02" in said, said


def test_an_unknown_row_is_a_sentence(run: Run, data: Path) -> None:
    code, said = run("bench", "adaptation", "--data", data, "-o", "table", "--rows", "all")
    assert code == 2 and "--rows" in said
    code, said = run("bench", "adaptation", "--data", data, "-o", "table", "--figure", "three")
    assert code == 2 and "got three" in said and "set/two" in said
