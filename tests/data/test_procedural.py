"""The procedural world: its truth must be exact, since everything else is measured against it."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from st4rtrack.data.procedural import (
    ClipBatch,
    ProceduralConfig,
    procedural_clip,
    reconstruction_points,
    render_clips,
    tracking_points,
)

CONFIG = ProceduralConfig(height=48, width=64, num_frames=3)
SCENES = 16


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def clips() -> ClipBatch:
    return render_clips(SCENES, CONFIG, seed=3)


def to_pixels(clips: ClipBatch, points: torch.Tensor, anchor: int) -> torch.Tensor:
    """Points [B, F, H, W, 3] of the anchor's camera frame to pixels [B, F, H, W, 2] of frame f."""
    camera_from_anchor = torch.linalg.inv(clips.world_from_camera) @ clips.world_from_camera[:, anchor, None]
    inside = torch.einsum("bfij,bfhwj->bfhwi", camera_from_anchor[..., :3, :3], points.double())
    inside = inside + camera_from_anchor[..., None, None, :3, 3]
    image = torch.einsum("bij,bfhwj->bfhwi", clips.intrinsics, inside)
    return image[..., :2] / image[..., 2:]


def pixel_centres(height: int, width: int) -> torch.Tensor:
    v, u = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    return torch.stack([u, v], -1)


def camera_rays(clips: ClipBatch) -> torch.Tensor:
    """Rays [B, H, W, 3] through the pixel centres, z = 1."""
    pixels = pixel_centres(*clips.depth.shape[2:]).double()
    pixels = torch.cat([pixels, torch.ones_like(pixels[..., :1])], -1)
    return torch.einsum("bij,hwj->bhwi", torch.linalg.inv(clips.intrinsics), pixels)


def test_shapes_and_types(clips: ClipBatch) -> None:
    shape = (SCENES, 3, 48, 64)
    points, visible, moving = tracking_points(clips, 1)
    assert clips.rgb.shape == (*shape, 3) and clips.rgb.dtype == torch.uint8
    assert clips.depth.shape == visible.shape == clips.part_index.shape == shape
    assert points.shape == reconstruction_points(clips, 1).shape == clips.local_points.shape == (*shape, 3)
    assert points.dtype == clips.depth.dtype == torch.float32
    assert visible.dtype == moving.dtype == torch.bool and moving.shape == (SCENES, 48, 64)
    assert clips.valid.shape == clips.object_index.shape == shape and clips.valid.dtype == torch.bool
    assert {int(setting) for setting in clips.setting} == {0, 1, 2}, "a room, a flat ground and a terrain are among the scenes"
    assert clips.world_from_part.shape == (SCENES, 3, CONFIG.max_parts + 1, 4, 4)
    assert clips.part_moves.shape == (SCENES, CONFIG.max_parts + 1) and not clips.part_moves[:, 0].any()


def test_every_pixel_sees_something_at_a_fair_distance() -> None:
    clips = render_clips(60, replace(CONFIG, height=24, width=32), seed=11)
    assert torch.isfinite(clips.depth).all() and torch.isfinite(clips.local_points).all()
    depth = clips.depth[clips.valid].numpy()
    assert depth.min() > 0.25 and depth.max() < 50
    low, middle, high = np.quantile(depth, [0.1, 0.5, 0.9])
    assert 1.2 < low < 2.4 and 2.6 < middle < 5.0 and 5.0 < high < 14.0
    moving = tracking_points(clips, 0)[2].float().mean()
    assert 0.08 < moving < 0.35
    assert (clips.part_index > 0).float().mean() > 0.25


def test_only_the_sky_has_no_depth(clips: ClipBatch) -> None:
    room = clips.setting == 0
    assert clips.valid[room].all() and not clips.valid[~room].all()
    assert (clips.part_index[~clips.valid] == -1).all() and (clips.object_index[~clips.valid] == -1).all()
    # What is invalid lies above everything that is not: no ray that falls towards near ground is without depth.
    world_ray = torch.einsum("bfij,bhwj->bfhwi", clips.world_from_camera[..., :3, :3], camera_rays(clips))
    eye_height = -clips.world_from_camera[:, :, 1, 3]
    reach = clips.waves[:, 0].abs().sum(1)
    flat_depth = (eye_height + reach[:, None])[..., None, None] / world_ray[..., 1].clamp(min=1e-6)
    assert not (~clips.valid & (flat_depth < 49.9)).any()
    _, visible, moving = tracking_points(clips, 1)
    sky = ~clips.valid[:, 1]
    assert sky.any()
    assert not visible.transpose(0, 1)[:, sky].any() and not moving[sky].any()


@pytest.mark.parametrize("anchor", [0, 2])
def test_reconstruction_projects_to_the_pixel_centres(clips: ClipBatch, anchor: int) -> None:
    pixels = to_pixels(clips, reconstruction_points(clips, anchor), anchor)
    assert (pixels - pixel_centres(48, 64))[clips.valid].abs().max() < 1e-3


def test_tracking_at_the_anchor_is_the_reconstruction(clips: ClipBatch) -> None:
    points, visible, _ = tracking_points(clips, 1)
    valid = clips.valid[:, 1]
    torch.testing.assert_close(points[:, 1][valid], reconstruction_points(clips, 1)[:, 1][valid], atol=1e-5, rtol=1e-5)
    assert (visible[:, 1] == valid).all()


def test_only_moving_parts_move(clips: ClipBatch) -> None:
    points, _, moving = tracking_points(clips, 0)
    part_moves = torch.gather(clips.part_moves, 1, clips.part_index[:, 0].clamp(min=0).flatten(1)).reshape(moving.shape)
    travel = (points - points[:, :1]).norm(dim=-1).amax(1)
    assert travel[~part_moves].max() < 1e-5
    assert (moving == (travel > 0.01)).all()
    assert moving.any() and not moving.all()


def test_warping_by_the_true_track_explains_the_colours() -> None:
    sharp = replace(CONFIG, height=96, width=128, num_frames=2, noise=0.3, blur=0.0, jpeg=0.0, exposure=0.2)
    clips = render_clips(20, sharp, seed=5)
    points, visible, _ = tracking_points(clips, 0)
    grid = to_pixels(clips, points, 0)[:, 1] / torch.tensor([128.0, 96.0]) * 2 - 1
    first, second = (clips.rgb[:, f].permute(0, 3, 1, 2).float() / 255 for f in range(2))
    # Exposure changes per frame and channel: not an error of the geometry.
    second = second * (first.mean((2, 3), keepdim=True) / second.mean((2, 3), keepdim=True))
    warped = F.grid_sample(second, grid.float(), align_corners=False)
    seen = visible[:, 1]
    error = (warped - first).abs().mean(1)[seen].mean()
    unwarped = (second - first).abs().mean(1)[seen].mean()
    assert error < 0.035
    assert error < 0.5 * unwarped


def norm(clips: ClipBatch, scene: int, part: int, local: np.ndarray) -> np.ndarray:
    """Level of points [..., 3] in a part's frame: below 1 inside, 1 on its surface."""
    level = np.maximum(np.abs(local).max(-1), np.sqrt((clips.quadric[scene, part].numpy() * local**2).sum(-1)))
    across, along = clips.power[scene, part].tolist()
    if across:
        x, y, z = np.moveaxis(np.abs(local), -1, 0)
        level = ((x**across + z**across) ** (along / across) + y**along) ** (1 / along)
    return level


def above_ground(clips: ClipBatch, scene: int, world: np.ndarray) -> np.ndarray:
    """Height in metres of world points [..., 3] above the ground of an outdoor scene."""
    amplitude, along_x, along_z, phase = clips.waves[scene].numpy()[..., None]
    x, y, z = np.moveaxis(world, -1, 0)
    return (amplitude * np.sin(along_x * x.ravel() + along_z * z.ravel() + phase)).sum(0).reshape(y.shape) - y


def blocked_by_marching(clips: ClipBatch, scene: int, frame: int, point_world: np.ndarray, steps: int = 4000) -> bool:
    """Whether any solid holds a point of the segment from the camera to 1 cm before `point_world`: slow and plain."""
    eye = clips.world_from_camera[scene, frame, :3, 3].numpy()
    length = float(np.linalg.norm(point_world - eye))
    share = np.linspace(0, 1 - 0.01 / length, steps)[:, None]
    line = np.concatenate([eye + share * (point_world - eye), np.ones((steps, 1))], 1)
    if clips.setting[scene] == 0:
        local = (line @ np.linalg.inv(clips.world_from_part[scene, frame, 0].numpy()).T)[:, :3]
        outside = (np.abs(local) > 1).any()
    else:
        outside = (above_ground(clips, scene, line[:, :3]) < 0).any()
    if outside:
        return True
    for part in range(1, clips.quadric.shape[1]):
        local = (line @ np.linalg.inv(clips.world_from_part[scene, frame, part].numpy()).T)[:, :3]
        if (norm(clips, scene, part, local) <= 1).any():
            return True
    return False


def test_visibility_agrees_with_marching_along_the_ray(clips: ClipBatch) -> None:
    points, visible, _ = tracking_points(clips, 0)
    pixels = to_pixels(clips, points, 0)
    random = np.random.default_rng(0)
    agree, hidden, total = 0, 0, 150
    for row_of_valid in random.permutation(int(clips.valid[:, 0].sum()))[:total]:
        scene, row, column = clips.valid[:, 0].nonzero()[row_of_valid].tolist()
        anchor_point = np.append(points[scene, 2, row, column].double().numpy(), 1.0)
        point_world = (clips.world_from_camera[scene, 0].numpy() @ anchor_point)[:3]
        u, v = pixels[scene, 2, row, column].tolist()
        ahead = (np.linalg.inv(clips.world_from_camera[scene, 2].numpy()) @ np.append(point_world, 1.0))[2] > 0
        seen = ahead and 0 < u < 64 and 0 < v < 48 and not blocked_by_marching(clips, scene, 2, point_world)
        agree += seen == bool(visible[scene, 2, row, column])
        hidden += not seen
    assert hidden > 5
    assert agree >= total - 2  # grazing surfaces: the march stops a centimetre short


def test_rendered_depth_agrees_with_marching(clips: ClipBatch) -> None:
    """No solid before the rendered surface, and the surface belongs to the part that is named."""
    world = clips.world_from_camera[:, :1] @ torch.eye(4, dtype=torch.float64)
    points = reconstruction_points(clips, 0)[:, 1].double()
    random = np.random.default_rng(1)
    blocked, total = 0, 80
    for row_of_valid in random.permutation(int(clips.valid[:, 1].sum()))[:total]:
        scene, row, column = clips.valid[:, 1].nonzero()[row_of_valid].tolist()
        point_world = (world[scene, 0].numpy() @ np.append(points[scene, row, column].numpy(), 1.0))[:3]
        blocked += blocked_by_marching(clips, scene, 1, point_world)
        part = int(clips.part_index[scene, 1, row, column])
        pose = clips.world_from_part[scene, 1, part].numpy()
        local = clips.local_points[scene, 1, row, column].double().numpy()
        np.testing.assert_allclose(pose[:3, :3] @ local + pose[:3, 3], point_world, atol=5e-5)
    assert blocked == 0


def test_every_point_lies_on_the_surface_of_its_part(clips: ClipBatch) -> None:
    """To 1e-3 of a part's half size, thin ones to 0.2 mm (float32, metres away), and on grounds to 1e-4 of the depth."""
    kinds = set()
    for scene in range(SCENES):
        for part in clips.part_index[scene].unique().tolist():
            here = clips.part_index[scene] == part
            local = clips.local_points[scene][here].double().numpy()
            if part == 0 and clips.setting[scene] > 0:
                assert (np.abs(above_ground(clips, scene, local)) < 1e-4 * clips.depth[scene][here].numpy() + 2e-5).all()
            elif part >= 0:
                thinnest = clips.world_from_part[scene, 0, part, :3, :3].norm(dim=0).min().item()
                assert np.abs(norm(clips, scene, part, local) - 1).max() < max(1e-3, 2e-4 / thinnest)
            kinds.add((part == 0, bool(clips.power[scene, part, 0] > 0), bool(clips.quadric[scene, part].any())))
    assert len(kinds) == 4, "backdrops, superquadrics, boxes and quadrics were all seen"


def test_same_seed_same_clips_other_seed_other_clips() -> None:
    config = replace(CONFIG, num_frames=2)
    first, again, other = (render_clips(2, config, seed=seed) for seed in (7, 7, 8))
    assert (first.rgb == again.rgb).all() and (first.depth == again.depth).all()
    assert not torch.allclose(first.depth, other.depth)
    assert not torch.allclose(first.depth[0], first.depth[1])


def test_the_global_random_state_is_left_alone() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    render_clips(1, replace(CONFIG, num_frames=1), seed=1)
    assert (before == torch.get_rng_state()).all()


def test_more_frames_sample_the_same_motion_more_finely() -> None:
    few = render_clips(3, replace(CONFIG, num_frames=2), seed=4)
    many = render_clips(3, replace(CONFIG, num_frames=9), seed=4)
    torch.testing.assert_close(few.world_from_camera[:, 1], many.world_from_camera[:, -1])
    step = (many.world_from_camera[:, 1:, :3, 3] - many.world_from_camera[:, :-1, :3, 3]).norm(dim=-1)
    assert (step.amax(1) <= 3.5 * step.mean(1) + 1e-9).all()


def test_size_of_the_pieces_does_not_change_the_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    config = replace(CONFIG, num_frames=1, height=40, width=24)
    whole = render_clips(2, config, seed=6)
    monkeypatch.setattr("st4rtrack.data.procedural_render.RAYS_PER_CALL_EAGER", 250)
    pieces = render_clips(2, config, seed=6)
    assert (whole.rgb == pieces.rgb).all() and (whole.part_index == pieces.part_index).all()


def test_shadows_only_darken() -> None:
    config = replace(CONFIG, num_frames=1)
    lit, dark = (render_clips(4, replace(config, shadows=on), seed=2) for on in (False, True))
    assert (lit.depth == dark.depth).all()
    assert (lit.rgb != dark.rgb).any()


def test_motion_zero_is_a_still_world() -> None:
    clips = render_clips(4, replace(CONFIG, motion=0.0, camera_motion=0.0), seed=9)
    points, visible, moving = tracking_points(clips, 0)
    assert not moving.any() and not clips.part_moves.any() and (visible == clips.valid[:, :1]).all()
    torch.testing.assert_close(clips.depth[:, 0], clips.depth[:, 2])
    torch.testing.assert_close(points[:, 0], points[:, 2])


def test_one_clip_as_arrays() -> None:
    clip = procedural_clip(21, replace(CONFIG, num_frames=4), anchor=2)
    assert clip.rgb.shape == (4, 48, 64, 3) and clip.rgb.dtype == np.uint8
    assert clip.intrinsics.shape == (4, 3, 3) and clip.time_s.shape == (4,) and (np.diff(clip.time_s) > 0).all()
    assert (clip.world_from_camera[2] == np.eye(4)).all()
    valid = clip.tracking_valid[2]
    assert valid.any() and (clip.tracking_valid == valid).all() and (clip.reconstruction_valid == (clip.depth > 0)).all()
    np.testing.assert_allclose(clip.tracking_points_world[2][valid], clip.reconstruction_points_world[2][valid], atol=1e-5)
    np.testing.assert_allclose(clip.reconstruction_points_world[2, ..., 2], clip.depth[2], rtol=1e-6, atol=1e-7)
    assert (clip.visible[2] == valid).all() and clip.moving.shape == (48, 64)
    again = procedural_clip(21, replace(CONFIG, num_frames=4), anchor=2)
    assert (again.rgb == clip.rgb).all()
