"""What the package carries and which names it has."""

from pathlib import Path

import pytest

import st4rtrack
from st4rtrack.io.video import open_video
from tests.synthetic_scene import synthetic_scene


def test_package_demo_clip_is_small_and_decodes() -> None:
    path = Path(st4rtrack.__file__).parent / "data" / "demo.mp4"
    video = open_video(path)
    assert path.stat().st_size < 1_000_000
    assert (len(video), video.height, video.width) == (36, 288, 512)


def test_package_renamed_name_is_refused_with_the_new_one() -> None:
    with pytest.raises(AttributeError, match=r"use st4rtrack\.KnownGeometry"):
        st4rtrack.Known  # noqa: B018  # pyright: ignore[reportAttributeAccessIssue]


def test_scene_repr_is_one_short_line() -> None:
    text = repr(synthetic_scene())
    assert text.startswith("Scene(") and "\n" not in text and len(text) < 300
