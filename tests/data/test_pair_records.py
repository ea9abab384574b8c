"""Clips with pixel tracks: times, projection, records."""

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from st4rtrack.data import pair_records
from st4rtrack.data.pair_records import (
    FRAMES,
    LONGEST_GAP,
    TrackedClip,
    TrackedClips,
    draw_gaps,
    draw_order,
    draw_world_times,
    procedural_tracks,
    save_clip,
    track_pixels,
    write_clips,
)
from st4rtrack.data.procedural import ProceduralConfig, procedural_clip
from st4rtrack.data.world.assets import Assets, build_assets, open_assets
from st4rtrack.types import UserError
from tests.made_up_world import write_library

SIZE = (32, 48)


@pytest.fixture(scope="module")
def clip() -> TrackedClip:
    """A procedural clip."""
    return procedural_tracks(3, 1, size=SIZE)


def test_draw_gaps_any_seed_gives_increasing_times_with_a_short_gap() -> None:
    longest = []
    for seed in range(20):
        gaps = draw_gaps(np.random.default_rng(seed))
        assert len(gaps) == FRAMES and gaps[0] == 0 and gaps[1] == 1 and (np.diff(gaps) > 0).all()
        longest.append(gaps[-1])
    assert 30 < max(longest) <= LONGEST_GAP


def test_draw_world_times_any_seed_stays_within_the_scene() -> None:
    for seed in range(20):
        times = draw_world_times(np.random.default_rng(seed), 4.0)
        assert times.shape == (FRAMES,) and times.min() >= 0 and times.max() <= 4.06


def test_draw_order_many_draws_has_other_anchors_in_front() -> None:
    orders = [draw_order(np.random.default_rng(seed)) for seed in range(20)]
    assert all(sorted(order) == list(range(FRAMES)) and (np.diff(order[1:]) > 0).all() for order in orders)
    assert {int(order[0]) for order in orders} == {0, 1, 2, 3, 4}


def test_procedural_clip_chosen_times_equal_the_even_clip_at_those_times() -> None:
    size = {"height": SIZE[0], "width": SIZE[1], "noise": 0.0, "blur": 0.0, "jpeg": 0.0}
    even = procedural_clip(4, ProceduralConfig(num_frames=5, **size))
    chosen = procedural_clip(4, ProceduralConfig(num_frames=3, times=(0.0, 0.25, 1.0), **size))
    for name in ("world_from_camera", "tracking_points_world", "depth"):
        np.testing.assert_allclose(getattr(chosen, name), getattr(even, name)[[0, 1, 4]], atol=1e-5)
    np.testing.assert_allclose(chosen.time_s, [0, 0.5 / 12, 2 / 12])


@pytest.mark.parametrize("times", [(0.0, 0.5), (0.5, 0.2, 1.0), (0.0, 0.5, 1.5)])
def test_procedural_config_wrong_times_raises(times: tuple[float, ...]) -> None:
    with pytest.raises(UserError, match="times must be 3 increasing numbers"):
        ProceduralConfig(num_frames=3, times=times)


def test_procedural_tracks_points_start_at_their_anchor_pixels(clip: TrackedClip) -> None:
    assert clip.rgb.shape == (FRAMES, *SIZE, 3) and clip.pixels.shape == (FRAMES, 16, 24, 2)
    np.testing.assert_allclose(clip.pixels[0][clip.valid], clip.anchor_pixels[clip.valid], atol=1e-2)
    assert clip.visible[0][clip.valid].all()
    in_view = clip.pixels[clip.visible]
    assert (in_view >= 0).all() and (in_view <= (48, 32)).all()
    moved = np.linalg.norm(clip.pixels - clip.pixels[:1], axis=-1).max(0)
    assert moved[clip.valid].max() > 1


def test_track_pixels_point_twice_as_far_halves_its_offset() -> None:
    rendered = procedural_clip(0, ProceduralConfig(num_frames=3, height=8, width=8))
    cameras = np.tile(np.eye(4), (3, 1, 1))
    cameras[1, 2, 3], cameras[2, 2, 3] = -2, 5
    intrinsics = np.tile([[40.0, 0, 4], [0, 40, 4], [0, 0, 1]], (3, 1, 1))
    points = np.ones((3, 8, 8, 3)) * [0.1, 0.2, 2]
    clip = track_pixels(replace(rendered, intrinsics=intrinsics, world_from_camera=cameras, tracking_points_world=points))
    np.testing.assert_allclose(clip.pixels[:, 0, 0], [[6, 8], [5, 6], [-1000, -1000]], atol=1e-5)
    assert clip.log_depth_ratio[1, 0, 0] == pytest.approx(np.log(2))


def test_save_clip_loads_the_same_clip(clip: TrackedClip, tmp_path: Path) -> None:
    save_clip(tmp_path / "train" / "a.npz", clip)
    loaded = TrackedClips(tmp_path, "train").clip(0)
    tolerance = {"rgb": 255, "pixels": 0.5, "log_depth_ratio": 5e-3}
    for field in fields(clip):
        values, expected = getattr(loaded, field.name), getattr(clip, field.name)
        assert values.dtype == expected.dtype and values.shape == expected.shape
        np.testing.assert_allclose(values.astype(float), expected.astype(float), atol=tolerance.get(field.name, 0))
    assert np.abs(loaded.rgb.astype(float) - clip.rgb).mean() < 8


def test_write_clips_twice_renders_missing_clips_only(clip: TrackedClip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = []

    def rendered(seed: int, number: int, **options: object) -> TrackedClip:
        numbers.append((seed, number))
        return clip

    monkeypatch.setattr(pair_records, "procedural_tracks", rendered)
    monkeypatch.setattr(pair_records, "MIN_DYNAMIC", 0.0)
    for count in (1, 2):
        write_clips(tmp_path, "procedural", "train", count, seed=5, size=SIZE)
    write_clips(tmp_path, "procedural", "validation", 1, seed=5, size=SIZE)
    assert numbers == [(5, 0), (5, 1), (5 + pair_records.VALIDATION_SEED, 0)]
    assert [path.name for path in TrackedClips(tmp_path, "train").paths] == [f"procedural-5-0000{k}.npz" for k in (0, 1)]


def test_write_clips_without_dynamic_points_tries_another_scene(
    clip: TrackedClip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = []
    monkeypatch.setattr(pair_records, "procedural_tracks", lambda seed, number, **_: numbers.append(number) or clip)
    monkeypatch.setattr(pair_records, "MIN_DYNAMIC", 2.0)
    monkeypatch.setattr(pair_records, "TRIES", 3)
    write_clips(tmp_path, "procedural", "train", 1, seed=5, size=SIZE)
    assert numbers == [0, 1_000_000, 2_000_000]


def test_write_clips_of_the_world_starts_at_anchor_pixels(
    made_up: Assets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ST4RTRACK_ASSETS", str(made_up.folder))
    monkeypatch.setattr(pair_records, "MIN_DYNAMIC", 0.0)
    write_clips(tmp_path, "world", "train", 1, seed=0, size=SIZE)
    clip = TrackedClips(tmp_path, "train").clip(0)
    assert clip.valid.any()
    np.testing.assert_allclose(clip.pixels[0][clip.valid], clip.anchor_pixels[clip.valid], atol=0.1)


@pytest.fixture
def made_up(tmp_path_factory: pytest.TempPathFactory) -> Assets:
    """Assets of made-up boxes, without people and skies."""
    pytest.importorskip("embreex", reason="embreex is not installed (pip install 'st4rtrack[world]')")
    folder = tmp_path_factory.mktemp("world")
    build_assets(folder / "cache", write_library(folder / "furniture"), None, with_people=False)
    return open_assets(folder / "cache")


def test_tracked_clips_empty_folder_or_damaged_file_raises(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no clips"):
        TrackedClips(tmp_path, "train")
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "a.npz").write_bytes(b"PK damaged")
    with pytest.raises(UserError, match=r"could not read .*a\.npz"):
        TrackedClips(tmp_path, "train").clip(0)
