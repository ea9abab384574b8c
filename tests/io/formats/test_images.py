"""Finding the source video's frames again, and saying why not."""

import dataclasses
import logging
import shutil

import cv2
import numpy as np
import pytest

from st4rtrack.io.formats.frames import every_nth
from st4rtrack.io.formats.images import scene_images
from st4rtrack.io.scene import load_scene, save_scene
from st4rtrack.types import UserError
from tests.io.formats.exact_scene import SOURCE_SIZE, exact_scene


def source_frame(tmp_path, number: int) -> np.ndarray:
    return cv2.cvtColor(cv2.imread(str(tmp_path / "video" / f"{number:03d}.png")), cv2.COLOR_BGR2RGB)


def test_frames_of_a_choice_of_the_video(tmp_path) -> None:
    scene = every_nth(exact_scene(tmp_path), 2)  # frames 1, 3, 5: the anchor is 1
    assert scene.anchor_index == 0 and len(scene) == 3
    images = scene_images(scene)
    assert (images.height, images.width) == SOURCE_SIZE
    for frame, rgb in zip((1, 3, 5), images.frames(range(3))):
        np.testing.assert_array_equal(rgb, source_frame(tmp_path, frame))


def test_a_video_without_a_clock_is_found_by_its_frame_numbers(tmp_path) -> None:
    scene = exact_scene(tmp_path)
    scene = dataclasses.replace(scene, time_s=scene.time_s * 3)  # as with --fps 10
    (rgb,) = scene_images(scene).frames([4])
    np.testing.assert_array_equal(rgb, source_frame(tmp_path, 4))


def test_a_relative_path_is_looked_for_beside_the_scene(tmp_path, monkeypatch) -> None:
    scene = exact_scene(tmp_path)
    scene.info["source"]["video"] = "video"
    folder = save_scene(scene, tmp_path / "scene")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert scene_images(load_scene(folder)).height == SOURCE_SIZE[0]


def test_scene_moved_with_its_video_finds_the_video(tmp_path) -> None:
    scene = exact_scene(tmp_path / "before")
    save_scene(scene, tmp_path / "before" / "scene")
    shutil.move(tmp_path / "before", tmp_path / "after")
    assert scene_images(load_scene(tmp_path / "after" / "scene")).height == SOURCE_SIZE[0]


@pytest.mark.parametrize("change", ["gone", "other size", "other pictures", "array", "nothing known"])
def test_other_pictures_are_not_taken_for_it(tmp_path, caplog, change) -> None:
    scene = exact_scene(tmp_path)
    reason = {"gone": "does not exist", "other size": "another size", "other pictures": "is not the video"}.get(
        change, "from a file"
    )
    if change == "gone":
        shutil.rmtree(tmp_path / "video")
    elif change == "other size":
        scene = dataclasses.replace(scene, source_size=(60, 45))
    elif change == "other pictures":
        for path in (tmp_path / "video").iterdir():
            cv2.imwrite(str(path), 255 - cv2.imread(str(path)))
    else:
        scene.info["source"] = {"video": "array"} if change == "array" else {}
    with caplog.at_level(logging.WARNING):
        images = scene_images(scene)
    assert reason in caplog.text and (images.height, images.width) == (24, 16)
    np.testing.assert_array_equal(next(images.frames([3])), scene.rgb[3])


def test_every_nth_of_a_scene_on_disk(tmp_path) -> None:
    scene = exact_scene(tmp_path, anchor_index=4)
    lazy = every_nth(load_scene(save_scene(scene, tmp_path / "scene")), 3)  # frames 1 and 4
    assert len(lazy) == 2 and lazy.anchor_index == 1
    np.testing.assert_array_equal(lazy.tracking.points_world[1], scene.tracking.points_world[4])
    np.testing.assert_array_equal(np.asarray(lazy.cameras.world_from_camera), scene.cameras.world_from_camera[[1, 4]])
    np.testing.assert_array_equal(lazy.rgb[:, 3], scene.rgb[[1, 4], 3])
    assert lazy.rgb.shape == (2, 24, 16, 3) and lazy.tracking.moving.shape == (24, 16)
    assert every_nth(scene, 1) is scene
    for stride in (0, -1, 2.5):
        with pytest.raises(UserError, match="stride"):
            every_nth(scene, stride)
