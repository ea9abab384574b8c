"""Augmentation keeps the truth true: what a clip says of its points and cameras still holds, whatever was drawn."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from st4rtrack.data.augment import Augmentation, augment_clip, draw_frames, draw_framing, jitter_colour, mirror_clip
from st4rtrack.data.clip import Clip
from st4rtrack.data.kubric import Kubric
from st4rtrack.data.read_clip import Reading, read_clip
from st4rtrack.data.resample import Framing
from st4rtrack.types import UserError
from tests.procedural_raw import FRAMES, HEIGHT, WIDTH, seen_at, truth, write_kubric

ALL = Augmentation(crop=True, focal=1.8, colour=1.0, mirror=0.5, reverse=0.5, random_anchor=0.5)
ARRAYS = ("rgb", "depth", "intrinsics", "world_from_camera", "tracking_points_world", "tracking_valid", "moving", "supervised")


def clip_of_truth() -> Clip:
    clip = truth()
    half = np.zeros((HEIGHT, WIDTH), bool)
    half[:, : WIDTH // 3] = True
    return Clip(
        clip.rgb,
        clip.depth,
        clip.intrinsics,
        clip.world_from_camera,
        clip.tracking_points_world,
        clip.tracking_valid,
        "truth",
        clip.moving,
        half,
    )


def require_consistent(clip: Clip) -> None:
    """What holds for every clip with dense truth."""
    frames, height, width = clip.depth.shape
    u, v = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    grid = np.stack([u, v], axis=-1)
    np.testing.assert_array_equal(clip.world_from_camera[0], np.eye(4))
    rotation = clip.world_from_camera[:, :3, :3]
    np.testing.assert_allclose(rotation @ rotation.swapaxes(1, 2), np.tile(np.eye(3), (frames, 1, 1)), atol=1e-9)
    assert (np.linalg.det(rotation) > 0).all()
    own = clip.tracking_points_world[0]
    np.testing.assert_allclose(own, clip.reconstruction_points_world[0], atol=1e-4)
    np.testing.assert_allclose(seen_at(own, clip.world_from_camera[0], clip.intrinsics[0]), grid, atol=2e-3)
    for t in range(frames):
        seen = seen_at(clip.reconstruction_points_world[t], clip.world_from_camera[t], clip.intrinsics[t])
        np.testing.assert_allclose(seen, grid, atol=2e-3)


def colours_on_tracks(clip: Clip) -> float:
    """Median difference of colour between an anchor pixel and the pixel that shows its point later, where that is seen."""
    frames, height, width = clip.depth.shape
    differences = []
    for t in range(1, frames):
        points = clip.tracking_points_world[t].astype(float)
        pixels = seen_at(points, clip.world_from_camera[t], clip.intrinsics[t])
        column, row = np.floor(pixels[..., 0]).astype(int), np.floor(pixels[..., 1]).astype(int)
        inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
        row, column = row.clip(0, height - 1), column.clip(0, width - 1)
        off = np.linalg.norm(points - clip.reconstruction_points_world[t][row, column], axis=-1)
        seen = inside & (off < 0.05)
        assert seen.mean() > 0.1
        differences.append(np.abs(clip.rgb[0].astype(float) - clip.rgb[t][row, column])[seen])
    return float(np.median(np.concatenate(differences)))


def test_the_mirror_is_exact() -> None:
    clip, mirrored = clip_of_truth(), mirror_clip(clip_of_truth())
    require_consistent(clip)
    require_consistent(mirrored)
    np.testing.assert_array_equal(mirrored.rgb, clip.rgb[:, :, ::-1])
    np.testing.assert_array_equal(mirrored.tracking_points_world[..., 0], -clip.tracking_points_world[:, :, ::-1, 0])
    assert clip.supervised is not None and clip.moving is not None and mirrored.moving is not None
    np.testing.assert_array_equal(mirrored.supervised, clip.supervised[:, ::-1])
    np.testing.assert_array_equal(mirrored.moving, clip.moving[:, ::-1])
    assert abs(colours_on_tracks(mirrored) - colours_on_tracks(clip)) < 2
    again = mirror_clip(mirrored)
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(again, name), getattr(clip, name))


def test_the_mirror_of_a_lens_beside_the_middle() -> None:
    """Points of the mirrored world are seen where the mirrored picture has them, also with skew."""
    clip = clip_of_truth()
    intrinsics = clip.intrinsics.copy()
    intrinsics[:, 0, 2] += 5
    intrinsics[:, 0, 1] = 1.5
    clip = Clip(**{**{name: getattr(clip, name) for name in ARRAYS}, "intrinsics": intrinsics, "name": "off"})
    mirrored = mirror_clip(clip)
    for t in (0, 3):
        before = seen_at(clip.tracking_points_world[t], clip.world_from_camera[t], clip.intrinsics[t])
        after = seen_at(mirrored.tracking_points_world[t], mirrored.world_from_camera[t], mirrored.intrinsics[t])
        np.testing.assert_allclose(after[:, ::-1, 0], WIDTH - before[..., 0], atol=1e-4)
        np.testing.assert_allclose(after[:, ::-1, 1], before[..., 1], atol=1e-4)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Kubric:
    root = tmp_path_factory.mktemp("kubric")
    write_kubric(root, "scene")
    return Kubric(root)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**31), size=st.sampled_from([(HEIGHT, WIDTH), (24, 24), (32, 48)]))
def test_whatever_is_drawn_is_exact(dataset: Kubric, seed: int, size: tuple[int, int]) -> None:
    rng = np.random.default_rng(seed)
    order, framing = draw_frames(range(FRAMES), ALL, rng), draw_framing(ALL, rng)
    clip = augment_clip(read_clip(dataset.open("scene"), order, Reading(*size), framing), ALL, rng)
    assert clip.rgb.shape == (FRAMES, *size, 3) and clip.tracking_valid.all()
    require_consistent(clip)


def test_a_crop_takes_its_pixels_from_where_it_says(dataset: Kubric) -> None:
    """Without a change of size a crop is a part of the picture, and the camera's middle is moved by as much."""
    whole = read_clip(dataset.open("scene"), range(3), Reading(HEIGHT, WIDTH))
    part = read_clip(dataset.open("scene"), range(3), Reading(24, 32), Framing(24 / 36, (0.25, 1.0)))
    top = HEIGHT - 24
    left = round((WIDTH - 32) * 0.25)
    np.testing.assert_array_equal(part.rgb, whole.rgb[:, top:, left : left + 32])
    np.testing.assert_allclose(part.depth, whole.depth[:, top:, left : left + 32], rtol=1e-6)
    inside = part.tracking_points_world - whole.tracking_points_world[:, top:, left : left + 32]
    assert np.abs(inside).max() < 1e-5
    np.testing.assert_allclose(part.intrinsics[0] - whole.intrinsics[0], [[0, 0, -left], [0, 0, -top], [0, 0, 0]])


def test_a_longer_focal_length_is_a_smaller_field_of_view(dataset: Kubric) -> None:
    whole = read_clip(dataset.open("scene"), range(3), Reading(HEIGHT, WIDTH))
    longer = read_clip(dataset.open("scene"), range(3), Reading(HEIGHT, WIDTH), Framing(0.5))
    focal = 2 * whole.intrinsics[0, 0, 0]
    np.testing.assert_allclose(longer.intrinsics[0], [[focal, 0, WIDTH / 2], [0, focal, HEIGHT / 2], [0, 0, 1]])
    require_consistent(longer)
    assert colours_on_tracks(longer) < 25


def test_time_reversed_and_another_anchor() -> None:
    rng = np.random.default_rng(0)
    assert draw_frames(range(0, 8, 2), Augmentation(), rng) == [0, 2, 4, 6]
    assert draw_frames(range(0, 8, 2), Augmentation(reverse=1.0), rng) == [6, 4, 2, 0]
    anchored = [draw_frames(range(4), Augmentation(random_anchor=1.0), np.random.default_rng(seed)) for seed in range(40)]
    assert {order[0] for order in anchored} == {0, 1, 2, 3}
    assert all(order[1:] == sorted(set(range(4)) - {order[0]}) for order in anchored)


def test_nothing_happens_unless_it_is_asked_for() -> None:
    clip, rng = clip_of_truth(), np.random.default_rng(0)
    assert augment_clip(clip, Augmentation(), rng) is clip
    assert draw_framing(Augmentation(), rng) == Framing()
    np.testing.assert_array_equal(jitter_colour(clip.rgb, 0.0, rng), clip.rgb)


@given(st.integers(0, 2**31), st.floats(0.1, 1.0))
def test_colours_change_alike_everywhere(seed: int, strength: float) -> None:
    """Where two pixels are alike they stay alike, in any frame and place; grey gets no brighter out of order."""
    rng = np.random.default_rng(1)
    few = rng.integers(0, 256, (5, 3), dtype=np.uint8)
    which = rng.integers(0, 5, (3, 6, 7))
    changed = jitter_colour(few[which], strength, np.random.default_rng(seed))
    assert changed.dtype == np.uint8 and changed.shape == (3, 6, 7, 3)
    for k in range(5):
        assert len(np.unique(changed[which == k], axis=0)) == 1
    grey = np.repeat(np.arange(256, dtype=np.uint8), 3).reshape(1, 1, 256, 3)
    assert (np.diff(jitter_colour(grey, strength, np.random.default_rng(seed)).astype(int), axis=2) >= 0).all()


def test_colours_do_change() -> None:
    rgb = truth().rgb
    means = np.array([jitter_colour(rgb, 1.0, np.random.default_rng(seed)).mean(axis=(0, 1, 2)) for seed in range(30)])
    assert (means.std(axis=0) > 8).all() and np.abs(means.mean(axis=0) - rgb.mean(axis=(0, 1, 2))).max() < 25


@settings(deadline=None)
@given(st.integers(0, 2**31))
def test_framings_lie_in_their_range(seed: int) -> None:
    framing = draw_framing(ALL, np.random.default_rng(seed))
    assert 1 / 1.8 - 1e-9 <= framing.share <= 1 and min(framing.place) >= 0 and max(framing.place) <= 1
    assert draw_framing(Augmentation(focal=1.8), np.random.default_rng(seed)).place == (0.5, 0.5)


def test_what_is_wrong_is_named() -> None:
    with pytest.raises(UserError, match=r"focal must be at least 1, got 0\.5"):
        Augmentation(focal=0.5)
    for name in ("colour", "mirror", "reverse", "random_anchor"):
        with pytest.raises(UserError, match=rf"{name} must be in 0..1, got 1\.5"):
            Augmentation(**{name: 1.5})
