"""`st4rtrack adapt` as a user meets it."""

import json
from pathlib import Path

import numpy as np
import pytest

from st4rtrack.io.video import write_video
from st4rtrack.model.checkpoint import load_model
from tests.adapt.small import small_base, small_clip
from tests.conftest import Run


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("video") / "room.mp4"
    write_video(path, iter(small_clip(num_frames=4).rgb), fps=10)
    return path


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_base(tmp_path_factory.mktemp("base"))


def test_adapt_writes_a_model_and_says_what_came_of_it(run: Run, video: Path, base: Path) -> None:
    given = ("adapt", video, "--model", base, "--steps", 2, "--batch-size", 3, "--without", "depth", "--scenes", "none")
    code, said = run(*given, "--depth", "none", "--device", "cpu")
    assert code == 0, said
    assert load_model("room_adapted.safetensors", device="cpu").name == "room_adapted"
    told = json.loads(Path("room_adapted/adaptation.json").read_text())
    assert told["sentence"] in said and told["sentence"].startswith(("adapted to room", "no improvement"))
    assert told["options"]["loss"]["depth"] == 0 and told["options"]["config"]["steps"] == 2
    assert Path("room_adapted/adaptation.png").stat().st_size > 1000
    code, said = run(*given)
    assert code == 2 and "--overwrite" in said


def test_mistakes_end_in_a_sentence(run: Run, video: Path, base: Path) -> None:
    np.savez("tracks.npz", query_px=np.ones((3, 2)), tracks_px=np.ones((9, 3, 2)), visible=np.ones((9, 3), bool))
    for given, expected in (
        ((video, "--without", "colour"), "--without must be among trajectory"),
        ((video, "--batch-size", "many"), "--batch-size"),
        ((video, "--stop", 1), "one frame"),
        (("none.mp4",), "does not exist"),
        ((video, "--tracks", "guess"), "--tracks must be"),
        ((video, "--tracks", "{name}.npz"), "room.npz does not exist"),
        ((video, "--tracks", "tracks.npz"), "must be [4, points, 2]"),
        ((video, "-o", "model.pth"), ".safetensors"),
    ):
        code, said = run("adapt", *given, "--model", base, "--scenes", "none", "--depth", "none", "--device", "cpu")
        assert code == 2 and expected in said, said
        assert "Traceback" not in said
        assert not list(Path().glob("*.safetensors"))
