"""Which videos a pattern names, and that every video keeps a folder of its own."""

import json
from pathlib import Path

import pytest

from st4rtrack.batch.jobs import find_jobs
from st4rtrack.types import UserError


def files(*paths: str) -> None:
    for path in paths:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_bytes(b"")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(*patterns: str, output: str = "out") -> dict[str, str]:
    """Folder of the scene by path of the video, relative to here."""
    return {str(Path(job.video).relative_to(Path.cwd())): job.name for job in find_jobs(patterns, Path(output))}


def test_patterns_paths_and_folders_name_videos_once_and_in_natural_order() -> None:
    files("v/clip10.mp4", "v/clip2.mp4", "v/notes.txt", "v/.hidden.mp4", "v/deep/a.mov", "frames/0.png", "frames/1.png")
    assert list(names("v/*.mp4")) == ["v/clip2.mp4", "v/clip10.mp4"]
    assert list(names("v")) == ["v/clip2.mp4", "v/clip10.mp4"]  # a folder stands for its video files
    assert names("frames") == {"frames": "frames"}  # unless it holds images: then it is one video
    assert set(names("v/**/*.m*")) == {"v/clip2.mp4", "v/clip10.mp4", "v/deep/a.mov"}
    assert list(names("v/clip10.mp4", "v/*.mp4", "v")) == ["v/clip10.mp4", "v/clip2.mp4"]
    files("v/clip[1].mp4")
    assert list(names("v/clip[1].mp4")) == ["v/clip[1].mp4"]  # a file of that name comes before a pattern


def test_scenes_in_the_output_folder_are_no_videos() -> None:
    files("v/a.mp4", "v/out/a/scene.zarr/x", "v/out/film.mp4")
    assert names("v/*", "v/**/*.mp4", output="v/out") == {"v/a.mp4": "a"}


def test_videos_of_one_name_get_folders_by_their_parents_then_numbers() -> None:
    files("day1/cam.mp4", "day2/cam.mp4", "day2/cam.mov", "day2/cam.avi", "x/day2/cam.mp4")
    found = names("day1/cam.mp4", "day2/cam.mp4", "day2/cam.mov", "day2/cam.avi", "x/day2/cam.mp4")
    assert list(found.values()) == ["cam", "day2_cam", "day2_cam_2", "day2_cam_3", "day2_cam_4"]


def test_a_video_keeps_the_folder_of_its_scene_when_others_join() -> None:
    files("day1/cam.mp4", "day2/cam.mp4")
    assert names("day2/cam.mp4") == {"day2/cam.mp4": "cam"}
    scene = {
        "format": "st4rtrack scene",
        "format_version": 1,
        "info": {"source": {"video": str(Path("day2/cam.mp4").absolute())}},
    }
    files("out/cam/scene.json")
    Path("out/cam/scene.json").write_text(json.dumps(scene))
    assert names("*/cam.mp4") == {"day1/cam.mp4": "day1_cam", "day2/cam.mp4": "cam"}
    Path("out/cam").rename("out/day2_cam")
    assert names("day2/cam.mp4") == {"day2/cam.mp4": "day2_cam"}  # also where another name has become free
    Path("out/day2_cam").rename("out/cam")
    # alone it gets the plain name, and the refusal to mix scenes with it: no video moves to another folder unseen
    assert names("day1/cam.mp4") == {"day1/cam.mp4": "cam"}


def test_mistakes_end_in_a_sentence() -> None:
    files("frames/0.png")
    for pattern, expected in (
        ("none.mp4", "no video matches none.mp4"),
        ("*.mp4", "no video matches"),
        ("frames/*", "is a single image"),
    ):
        with pytest.raises(UserError, match=expected.replace("*", r"\*")):
            names(pattern)
    with pytest.raises(UserError, match="at least one"):
        names()
