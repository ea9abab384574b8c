"""What the package carries and which names it has."""

from pathlib import Path

import numpy as np
import pytest

import st4rtrack
from st4rtrack.io.video import open_video
from st4rtrack.types import DepthSource
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


def test_display_confidence_dynamic_pixels_of_fused_geometry_are_not_the_least_confident() -> None:
    scene = synthetic_scene()
    maps, dynamic = scene.reconstruction, np.asarray(scene.reconstruction.moving[0])
    assert dynamic.any() and not dynamic.all()
    np.testing.assert_array_equal(scene.display_confidence(maps, 0), maps.confidence[0])  # a network's confidence is comparable
    maps.source = np.full(maps.moving.shape, DepthSource.MEASURED, np.uint8)
    found = scene.display_confidence(maps, 0)
    assert found is not None and (found[dynamic] == np.max(maps.confidence[0])).all()
    np.testing.assert_array_equal(found[~dynamic], maps.confidence[0][~dynamic])
