"""What the procedural world promises beside exact pictures: contact, cameras, identity, independence of the batch."""

from collections.abc import Iterator
from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from st4rtrack.data.clip import Clip, ClipSource
from st4rtrack.data.procedural import ProceduralClips, ProceduralConfig, render_clips, tracking_points
from st4rtrack.data.procedural_config import SETTINGS, Sampler
from st4rtrack.data.procedural_ground import columns_of, ground_y, meet_ground, sample_waves
from st4rtrack.data.procedural_scene import SceneBatch, sample_scenes
from st4rtrack.types import UserError

CONFIG = ProceduralConfig(height=48, width=64, num_frames=5)


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def body_points(scenes: SceneBatch) -> torch.Tensor:
    """Points [B, F, P, N, 3] in the world on and in every part but the backdrop, by brute force on a fine grid of directions."""
    axis = torch.linspace(-1, 1, 13, dtype=torch.float64)
    grid = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
    grid = grid[grid.abs().amax(-1) == 1]
    quadric, power = scenes.quadric[:, 1:, None], scenes.power[:, 1:, None]
    level = torch.maximum(grid.abs().amax(-1), (quadric * grid**2).sum(-1).sqrt())
    x, y, z = grid.abs().unbind(-1)
    across, along = power.clamp(min=1.4).unbind(-1)
    rounded = ((x**across + z**across) ** (along / across) + y**along) ** (1 / along)
    local = grid / torch.where(power[..., 0] > 0, rounded, level)[..., None]
    pose = scenes.world_from_part[:, :, 1:, None]
    return (pose[..., :3, :3] @ local[:, None, ..., None])[..., 0] + pose[..., :3, 3]


def height_above_ground(scenes: SceneBatch, points: torch.Tensor) -> torch.Tensor:
    """Metres [...] above floor or ground of points [B, ..., 3]."""
    columns = [c.reshape(-1, *([1] * (points.dim() - 2))) for c in columns_of(scenes.waves)]
    return ground_y(columns, points[..., 0], points[..., 2]) - points[..., 1]


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("scale", [1.0, 4.0])
def test_a_camera_stays_in_its_room_above_the_ground_and_out_of_objects(setting: str, scale: float) -> None:
    config = replace(CONFIG, setting=setting, camera_motion=scale, motion=1.5)
    scenes = sample_scenes(80, config, seed=1)
    eye = scenes.world_from_camera[..., :3, 3]
    assert height_above_ground(scenes, eye).min() > 0.15
    local = torch.linalg.solve(scenes.world_from_part, scenes.world_from_camera[:, :, None, :, 3:])[..., :3, 0]
    if setting == "room":
        assert local[:, :, 0].abs().max() < 1
    outside = (local[:, :, 1:].abs() > 1).any(-1)
    assert outside.all()
    steps = torch.linalg.inv(scenes.world_from_camera[:, :-1]) @ scenes.world_from_camera[:, 1:]
    turn = torch.rad2deg(torch.arccos(((steps.diagonal(dim1=-2, dim2=-1)[..., :3].sum(-1) - 1) / 2).clamp(-1, 1)))
    assert turn.max() < 60, "no camera jumps past its target"


def test_pictures_of_a_wild_camera_stay_in_the_room() -> None:
    clips = render_clips(12, replace(CONFIG, setting="room", camera_motion=4.0, height=24, width=32), seed=2)
    assert clips.valid.all() and clips.depth.min() > 0.25 and clips.depth.max() < 50


@pytest.mark.parametrize("setting", ["room", "ground"])
def test_what_stands_or_rolls_touches_the_floor_and_nothing_dips_in(setting: str) -> None:
    config = replace(CONFIG, setting=setting, motion=1.5)
    scenes = sample_scenes(40, config, seed=5)
    height = height_above_ground(scenes, body_points(scenes)).amin(-1)
    present = scenes.present[:, 1:]
    lowest = torch.full((40, CONFIG.num_frames, config.groups), torch.inf, dtype=torch.float64)
    index = (scenes.object_of_part[:, None, 1:] - 1).expand(-1, CONFIG.num_frames, -1)
    lowest = lowest.scatter_reduce(2, index, torch.where(present[:, None], height, torch.inf), "amin")
    there = torch.isfinite(lowest)
    assert lowest[there].min() > -0.002, "nothing goes through the floor"
    gap = lowest.amin(1)  # what hops is down at some time only
    stands = torch.zeros(40, config.groups, dtype=torch.long)
    stands = stands.scatter_reduce(1, index[:, 0], (scenes.grounded & scenes.present)[:, 1:].long(), "amax") > 0
    grounded = stands & there.all(1)
    sliding = grounded & ((lowest.amax(1) - gap) < 0.02)
    assert sliding.sum() > 0.7 * grounded.sum() > 15
    # The brute-force points miss the very lowest one of a rounded part by a few millimetres.
    assert gap[sliding].max() < 0.02


def test_the_ground_is_met_at_its_first_root() -> None:
    sampler = Sampler(0, 0, 100)
    eye = sampler.uniform(0.6, 2.0)
    waves = sample_waves(sampler, torch.ones(100, dtype=torch.bool), eye)
    rays = sampler.normal(1.0, 3, 40)
    x, y, z = torch.zeros(100, 1), -eye[:, None].float(), torch.zeros(100, 1)
    dx, dy, dz = rays[:, 0], rays[:, 1].abs() + 0.03, rays[:, 2]
    columns = columns_of(waves)
    start = [c.expand(100, 40) for c in (x, y, z)]
    t = meet_ground(*start, *(d.float() for d in (dx, dy, dz)), *(c.float() for c in columns))[0].double()
    height = ground_y(columns, dx * t, dz * t) - (y + dy * t)
    assert (height.abs() < 1e-4 * t * rays.norm(dim=1).clamp(min=0.03)).all()
    # No earlier point of the ray lies in the ground, but for crests that hide less than a pixel (4 milliradians at 256 pixels).
    before = torch.linspace(0.02, 0.999, 400, dtype=torch.float64) * t[..., None]
    columns = [c[..., None] for c in columns]
    early = ground_y(columns, dx[..., None] * before, dz[..., None] * before) - (y[..., None] + dy[..., None] * before)
    angle = (early / (before * rays.norm(dim=1)[..., None])).amin(-1)
    assert angle.min() > -4e-3
    assert (angle < -1e-3).double().mean() < 0.002


def test_objects_keep_their_identity_along_tracks() -> None:
    clips = render_clips(12, replace(CONFIG, height=64, width=96, num_frames=3), seed=8)
    points, visible, _ = tracking_points(clips, 0)
    camera_from_anchor = torch.linalg.inv(clips.world_from_camera[:, 2]) @ clips.world_from_camera[:, 0]
    there = torch.einsum("bij,bhwj->bhwi", camera_from_anchor[:, :3, :3], points[:, 2].double())
    there = there + camera_from_anchor[:, None, None, :3, 3]
    image = torch.einsum("bij,bhwj->bhwi", clips.intrinsics, there)
    column, row = (image[..., :2] / image[..., 2:].clamp(min=1e-3)).floor().long().unbind(-1)
    seen = visible[:, 2]
    scene = torch.arange(12)[:, None, None].expand_as(seen)
    found = clips.object_index[scene[seen], 2, row[seen], column[seen]]
    expected = clips.object_index[:, 0][seen]
    assert (expected > 0).double().mean() > 0.1
    # A pixel's centre and the point within it lie on two sides of a silhouette now and then.
    assert (found == expected).double().mean() > 0.97
    same_part = torch.gather(clips.object_of_part, 1, clips.part_index.clamp(min=0).flatten(1)).reshape(clips.depth.shape)
    assert (same_part[clips.valid] == clips.object_index[clips.valid]).all()


def test_a_track_is_its_local_point_posed_again() -> None:
    clips = render_clips(6, CONFIG, seed=12)
    points, _, _ = tracking_points(clips, 1)
    valid = clips.valid[:, 1]
    scene = torch.arange(6)[:, None, None].expand_as(valid)[valid]
    part = clips.part_index[:, 1][valid]
    local = torch.nn.functional.pad(clips.local_points[:, 1][valid].double(), (0, 1), value=1.0)
    for frame in range(CONFIG.num_frames):
        world = (clips.world_from_part[scene, frame, part] @ local[..., None])[..., :3, 0]
        anchor = torch.linalg.inv(clips.world_from_camera[scene, 1])
        posed = (anchor[:, :3, :3] @ world[..., None])[..., 0] + anchor[:, :3, 3]
        torch.testing.assert_close(points[:, frame][valid].double(), posed, atol=1e-4, rtol=1e-5)


def test_a_scene_does_not_depend_on_its_batch() -> None:
    many = render_clips(5, CONFIG, seed=3, first=10)
    for row in (0, 3):
        one = render_clips(1, CONFIG, seed=3, first=10 + row)
        torch.testing.assert_close(one.depth[0], many.depth[row], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(one.world_from_part[0], many.world_from_part[row])
        assert (one.rgb[0] == many.rgb[row]).double().mean() > 0.999
        assert (one.object_index[0] == many.object_index[row]).double().mean() > 0.999
    assert not torch.allclose(many.depth[0], many.depth[1])


def test_motion_has_all_its_kinds() -> None:
    """Over many scenes: parts that squash, limbs that swing against their roots, things that leave the picture and come back."""
    scenes = sample_scenes(120, replace(CONFIG, num_frames=9), seed=0)
    scale = scenes.world_from_part[:, :, 1:, :3, :3].norm(dim=-2)
    stretch = scale.amax(1) / scale.amin(1)
    assert (stretch.amax(-1) > 1.05).any(1).double().mean() > 0.1
    root, limb = scenes.world_from_part[:, :, 1 : CONFIG.groups + 1], scenes.world_from_part[:, :, CONFIG.groups + 1 :]
    owner = scenes.object_of_part[:, CONFIG.groups + 1 :] - 1
    index = owner[:, None, :, None, None].expand(-1, 9, -1, 4, 4)
    relative = torch.linalg.solve(torch.gather(root, 2, index), limb)
    swings = (relative - relative[:, :1]).abs().amax((1, 3, 4)) > 0.02
    assert 0.1 < swings.double().mean() < 0.7
    clips = render_clips(12, replace(CONFIG, num_frames=12, height=24, width=32), seed=6)
    visible = tracking_points(clips, 0)[1]
    gone = torch.cummax((~visible).long(), 1).values.bool()
    back = (gone & visible).any(1) & clips.valid[:, 0]
    assert back.double().mean() > 0.003


@pytest.mark.parametrize("change", [{"noise": 0.0}, {"blur": 0.0}, {"exposure": 0.0}, {"jpeg": 0.0}, {"shadows": False}])
def test_optics_change_pictures_but_no_truth(change: dict) -> None:
    config = replace(CONFIG, height=32, width=48, num_frames=2)
    plain, changed = render_clips(8, config, seed=4), render_clips(8, replace(config, **change), seed=4)
    assert (plain.depth == changed.depth).all() and (plain.local_points == changed.local_points).all()
    assert (plain.rgb != changed.rgb).any()


def test_fields_of_view_fill_the_range() -> None:
    scenes = sample_scenes(200, CONFIG, seed=7)
    fov = torch.rad2deg(2 * torch.arctan(CONFIG.width / 2 / scenes.intrinsics[:, 0, 0]))
    assert 30 <= fov.min() < 35 and 95 < fov.max() <= 100


def test_a_source_of_clips_gives_any_number_again() -> None:
    source: ClipSource = ProceduralClips(replace(CONFIG, num_frames=4, setting="terrain"), seed=2)
    clip, again, other = source.clip(123456), source.clip(123456), source.clip(0)
    assert isinstance(clip, Clip) and clip.rgb.shape == (4, 48, 64, 3)
    for field in fields(Clip):
        np.testing.assert_array_equal(getattr(clip, field.name), getattr(again, field.name))
    assert (clip.rgb != other.rgb).any() and clip.name != other.name
    assert (clip.world_from_camera[0] == np.eye(4)).all()
    assert (clip.tracking_valid == clip.reconstruction_valid[:1]).all() and not clip.tracking_valid.all()
    valid = clip.reconstruction_valid[0]
    np.testing.assert_allclose(clip.tracking_points_world[0][valid], clip.reconstruction_points_world[0][valid], atol=1e-4)
    with pytest.raises(IndexError):
        source.clip(-1)


@pytest.mark.parametrize(
    "wrong", [{"setting": "moon"}, {"camera": "drone"}, {"min_fov_deg": 90.0, "max_fov_deg": 60.0}, {"max_parts": 1}]
)
def test_wrong_options_are_named(wrong: dict) -> None:
    with pytest.raises(UserError, match=r"procedural|field of view|max_parts"):
        ProceduralConfig(**wrong)


@pytest.mark.parametrize("parts", [2, 3, 20])
def test_any_number_of_parts(parts: int) -> None:
    clips = render_clips(2, replace(CONFIG, max_parts=parts, num_frames=1), seed=1)
    assert clips.world_from_part.shape[2] == parts + 1 and clips.part_index.max() <= parts


def test_falling_share_makes_objects_come_down() -> None:
    config = ProceduralConfig(num_frames=16, falling_share=1.0, moving_share=1.0)
    scenes = sample_scenes(8, config, seed=5)
    height = scenes.world_from_part[:, :, 1:, 1, 3]  # y points down
    dropped = (height[:, -1] - height[:, 0])[scenes.present[:, 1:]]
    assert (dropped > 0.05).float().mean() > 0.8  # measured: 0.91; 0.33 without falling
    still = sample_scenes(8, replace(config, falling_share=0.0), seed=5)
    without = (still.world_from_part[:, -1, 1:, 1, 3] - still.world_from_part[:, 0, 1:, 1, 3])[still.present[:, 1:]]
    assert (without > 0.05).float().mean() < 0.5
