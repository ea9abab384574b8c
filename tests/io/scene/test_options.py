"""Options that differ between a scene and the one to be made, in the words of the command line."""

import copy
from pathlib import Path
from typing import Any

import pytest

from st4rtrack.io.scene.description import option_differences

SCENE: dict[str, Any] = {
    "format": "st4rtrack scene",
    "status": "incomplete",
    "num_frames": 16,
    "height": 160,
    "width": 256,
    "anchor_index": 0,
    "pixel_map": {"scale": [0.5, 0.5], "offset_px": [0.0, 0.0]},
    "source_size": [320, 512],
    "points_dtype": "float32",
    "arrays": ["rgb"],
    "info": {
        "model": {"name": "tiny", "hash": "0b1ca551631fd3215411", "dtype": "float32"},
        "options": {"refine": ["smoothness"], "depth_prior": "none"},
        "source": {"video": "/videos/a.mp4", "name": "a", "fps": 30.0, "first_frame": 0, "last_frame": 15},
    },
}


def changed(**fields: Any) -> dict[str, Any]:
    """The scene with other values; `info__source__fps` is that of `info["source"]["fps"]`."""
    data = copy.deepcopy(SCENE)
    for name, value in fields.items():
        place = data
        *parents, last = name.split("__")
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = value
    return data


@pytest.mark.parametrize(
    ("fields", "before", "now"),
    [
        ({"height": 80, "width": 128, "pixel_map__scale": [0.25, 0.25]}, ["--size 256"], ["--size 128"]),
        ({"num_frames": 8, "info__source__last_frame": 7}, ["--stop 16"], ["--stop 8"]),
        ({"num_frames": 12, "info__source__first_frame": 4}, ["--start 0"], ["--start 4"]),
        (
            {"num_frames": 8, "info__source__last_frame": 14, "info__source__fps": 15.0},
            ["--stride 1 (or --fps 30)"],
            ["--stride 2 (or --fps 15)"],
        ),
        ({"info__source__fps": 12.0}, ["--fps 30"], ["--fps 12"]),
        ({"anchor_index": 7}, ["--anchor 0"], ["--anchor 7"]),
        ({"info__options__anchor": "auto"}, ["--anchor 0"], ["--anchor auto"]),
        ({"points_dtype": "float16"}, ["--dtype-points float32"], ["--dtype-points float16"]),
        ({"info__options__refine": []}, ["--refine"], ["--no-refine"]),
        ({"info__known__static_mask": "ab12"}, ["no --static-mask"], ["--static-mask ab12"]),
        ({"info__model__hash": "77", "arrays": []}, ["--model tiny (0b1ca551631f)"], ["--model tiny (77)"]),
        ({"info__source__video": "/videos/b.mp4", "num_frames": 3}, ["video /videos/a.mp4"], ["video /videos/b.mp4"]),
        ({"height": 128, "width": 128, "anchor_index": 1}, ["--size 256", "--anchor 0"], ["--size 128", "--anchor 1"]),
        ({"source_size": [1, 2]}, ["source_size = [320, 512]"], ["source_size = [1, 2]"]),
    ],
)
def test_option_differences_names_options_with_both_values(
    fields: dict[str, Any], before: list[str], now: list[str], tmp_path: Path
) -> None:
    assert option_differences(SCENE, changed(**fields), tmp_path) == (before, now)


def test_option_differences_values_of_other_types_are_read_safely(tmp_path: Path) -> None:
    assert option_differences(changed(num_frames="many", height=None, info__source__last_frame=[]), SCENE, tmp_path)[0]


def test_option_differences_same_options_are_none(tmp_path: Path) -> None:
    assert option_differences(SCENE, changed(status="complete", info__results={"content_px": [0, 0, 1, 1]}), tmp_path) == ([], [])
