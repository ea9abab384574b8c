import numpy as np
import pytest
import torch

from st4rtrack.data.procedural import ProceduralConfig, procedural_clip
from st4rtrack.geometry.transforms import rotation_angle
from st4rtrack.model.hints import estimate_hints, sample_by_flow
from st4rtrack.model.network import skeleton_points
from st4rtrack.model.two_view import estimate_two_view
from st4rtrack.preprocess import normalize_images


@pytest.fixture(scope="module")
def pair() -> tuple:
    """A static room seen by a moving camera, with a field of view near the assumed one."""
    clip = procedural_clip(13, ProceduralConfig(num_frames=2, moving_share=0.0, min_fov_deg=58, max_fov_deg=60))
    return clip, estimate_two_view(clip.rgb[0], clip.rgb[1])


def test_flow_camera_and_depth_of_a_static_room(pair: tuple) -> None:
    clip, found = pair
    true = clip.world_from_camera[1]
    assert np.rad2deg(rotation_angle(found.anchor_from_frame[:3, :3].T @ true[:3, :3])) < 1.0
    direction = found.anchor_from_frame[:3, 3] @ true[:3, 3]
    assert direction > 0.98 * np.linalg.norm(found.anchor_from_frame[:3, 3]) * np.linalg.norm(true[:3, 3])
    known = found.anchor_depth > 0
    assert known.mean() > 0.3
    ratio = np.log(found.anchor_depth[known] / clip.depth[0][known])
    assert np.median(np.abs(ratio - np.median(ratio))) < 0.1


def test_the_same_images_give_the_same_estimate_and_no_motion(pair: tuple) -> None:
    clip, found = pair
    again = estimate_two_view(clip.rgb[0], clip.rgb[1])
    np.testing.assert_array_equal(again.anchor_from_frame, found.anchor_from_frame)
    np.testing.assert_array_equal(again.anchor_depth, found.anchor_depth)
    still = estimate_two_view(clip.rgb[0], clip.rgb[0])
    assert np.abs(still.forward_flow).max() < 0.5
    assert not still.anchor_depth.any()
    np.testing.assert_allclose(still.anchor_from_frame, np.eye(4), atol=1e-3)


@pytest.mark.parametrize("images", [np.zeros((2, 32, 48, 3), np.uint8), np.zeros((2, 16, 16, 3), np.uint8), "noise"])
def test_images_that_tell_nothing_give_finite_hints(images: np.ndarray | str) -> None:
    if isinstance(images, str):
        images = np.random.default_rng(0).integers(0, 255, (2, 64, 48, 3), dtype=np.uint8)
    hints = estimate_hints(*normalize_images(images)[:, None])
    for value in vars(hints).values():
        assert torch.isfinite(value).all()


def test_sampling_by_flow_follows_it() -> None:
    maps = torch.arange(20.0).reshape(1, 1, 4, 5)
    flow = torch.zeros(1, 4, 5, 2)
    torch.testing.assert_close(sample_by_flow(maps, flow), maps)
    flow[..., 0] = 1.0
    torch.testing.assert_close(sample_by_flow(maps, flow)[..., :4], maps[..., 1:])


def test_with_nothing_learnt_the_output_is_the_classical_geometry(pair: tuple) -> None:
    """Both branches of raw zeros, trusting what is known, put static points at the same place."""
    clip, _ = pair
    hints = estimate_hints(*normalize_images(clip.rgb)[:, None])
    raw = torch.zeros(1, 6, 192, 256)
    raw[:, 4:] = 20.0
    tracking, reconstruction = skeleton_points(raw, raw, hints)
    known = (hints.anchor_maps[:, 10] > 0) & (hints.consistency > 0.9)
    scale = np.median(clip.depth[0][known[0].numpy()])
    error = np.linalg.norm(tracking[known].numpy() * scale - clip.tracking_points_world[1][known[0].numpy()], axis=-1)
    assert np.median(error) < 0.1 * scale
    assert torch.isfinite(reconstruction).all()
