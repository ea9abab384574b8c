"""Words of the command line, and the cache: asked once, found again only for the same question, made again when broken."""

from pathlib import Path

import numpy as np
import pytest

from st4rtrack.adapt.priors import Priors, TeacherDepth, TeacherTracks
from st4rtrack.adapt.teachers import gather_priors, open_teachers
from st4rtrack.io.video import open_video
from st4rtrack.types import UserError
from tests.adapt.truth_teachers import UNUSED

RGB = np.random.default_rng(0).integers(0, 255, (3, 16, 24, 3), np.uint8)
QUERY = np.array([[3.5, 4.5], [9.5, 9.5]])
VIDEO = open_video(RGB)


class Counting:
    """Both teachers; counts how often it is asked."""

    follows_any = True

    def __init__(self, name: str = "counting 1", depth: float = 1.0) -> None:
        self.name, self.value, self.asked = name, depth, 0

    def tracks(self, rgb: np.ndarray, query_px: np.ndarray, anchor_index: int) -> TeacherTracks:
        self.asked += 1
        tracks = np.tile(query_px, (len(rgb), 1, 1)).astype(np.float32)
        return TeacherTracks(query_px, tracks, np.ones(tracks.shape[:2], bool), self.name)

    def depth(self, rgb: np.ndarray, anchor_index: int) -> TeacherDepth:
        self.asked += 1
        return TeacherDepth(np.full(rgb.shape[:3], self.value, np.float32), self.name, np.tile(np.eye(4), (len(rgb), 1, 1)))


def gather(teacher: Counting, cache: Path, rgb: np.ndarray = RGB, query_px: np.ndarray = QUERY) -> Priors:
    return gather_priors(rgb, query_px, 0, teacher, teacher, cache=cache)


def test_said_once_is_known(tmp_path: Path) -> None:
    teacher = Counting()
    first, again = gather(teacher, tmp_path), gather(teacher, tmp_path)
    assert teacher.asked == 2
    np.testing.assert_array_equal(again.tracks.tracks_px, first.tracks.tracks_px)
    assert again.depth is not None and first.depth is not None
    np.testing.assert_array_equal(again.depth.depth, first.depth.depth)
    assert again.depth.world_from_camera is not None
    assert again.tracks.name == "counting 1"
    assert len(list(tmp_path.iterdir())) == 2


def test_another_question_is_asked_again(tmp_path: Path) -> None:
    teacher = Counting()
    gather(teacher, tmp_path)
    other = RGB.copy()
    other[2, 3, 4, 1] ^= 1
    gather(teacher, tmp_path, rgb=other)
    assert teacher.asked == 4
    gather(teacher, tmp_path, query_px=QUERY + 0.25)
    assert teacher.asked == 5  # depth does not depend on the queries
    newer = Counting("counting 2")
    gather(newer, tmp_path)
    assert newer.asked == 2


def test_a_broken_cache_is_made_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    teacher = Counting()
    gather(teacher, tmp_path)
    for path in tmp_path.iterdir():
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    gather(teacher, tmp_path)
    assert teacher.asked == 4
    assert "computing it again" in caplog.text
    gather(teacher, tmp_path)
    assert teacher.asked == 4


def test_silence_is_no_depth(tmp_path: Path) -> None:
    assert gather(Counting(depth=0.0), tmp_path).depth is None


def test_one_frame_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="1 frame"):
        gather(Counting(), tmp_path, rgb=RGB[:1])


@pytest.mark.parametrize("bad", [np.nan, -1.0])
def test_unfit_depth_is_a_sentence_and_is_not_kept(tmp_path: Path, bad: float) -> None:
    with pytest.raises(UserError, match=r"not finite|negative"):
        gather(Counting(depth=bad), tmp_path)
    assert not list(tmp_path.glob("depth*"))


def test_words_open_teachers(tmp_path: Path) -> None:
    tracks, depth = open_teachers("fused", "none", VIDEO, fused=UNUSED)
    assert tracks is UNUSED and depth is None
    np.savez(tmp_path / "a.npz", depth=np.ones(RGB.shape[:3]))
    tracks, depth = open_teachers(str(tmp_path / "a.npz"), str(tmp_path / "a.npz"), VIDEO, fused=UNUSED)
    assert not tracks.follows_any and depth is not None
    assert open_teachers("fused", "fused", VIDEO, fused=UNUSED)[1] is UNUSED


@pytest.mark.parametrize(
    ("tracks", "depth", "message"),
    [
        ("magic", "none", "--tracks must be fused"),
        ("fused", "magic", "unknown depth prior 'magic'"),
        ("absent.npz", "none", "does not exist"),
        ("cotracker:", "none", "does not exist"),
        ("fused", "moge:absent.pt", "does not exist"),
        ("fused", "transformers:absent", "does not exist"),
        ("cotracker:.", "none", "must be a clone of co-tracker"),
        ("fused", "transformers:tests", "no config.json"),
        ("fused", "moge:tests", "not a file"),
    ],
)
def test_unknown_words_are_a_sentence(tracks: str, depth: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        open_teachers(tracks, depth, VIDEO, fused=UNUSED)
    assert "\n" not in str(caught.value)
