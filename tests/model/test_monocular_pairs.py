"""Pointmaps of pairs from monocular depth and hints."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from st4rtrack.classical.two_view import TwoView
from st4rtrack.data.procedural import ProceduralClip, ProceduralConfig, procedural_clip
from st4rtrack.geometry.camera import pixel_grid, project
from st4rtrack.geometry.transforms import invert_rigid, rigid, transform_points
from st4rtrack.model.checkpoint import load_model, save_model
from st4rtrack.model.config import MONOCULAR, ModelConfig
from st4rtrack.model.hints import Hints, hints_of_views
from st4rtrack.model.monocular_pairs import KNOWN_ERROR, anchor_pointmap, pair_pointmaps
from st4rtrack.preprocess import normalize_images
from st4rtrack.train.forward import new_model
from st4rtrack.types import MonocularDepth, UserError

SMALL = replace(MONOCULAR, encoder_width=16, pyramid_width=8)
SIZE = (64, 96)
FRAME = 2
ERROR = 0.2


@pytest.fixture(scope="module")
def clip() -> ProceduralClip:
    return procedural_clip(23, ProceduralConfig(*SIZE, 3, setting="room", camera="orbit", camera_motion=1.0, moving_share=0.7))


def unit_of(clip: ProceduralClip) -> float:
    return float(np.median(clip.depth[0]))


def true_hints(clip: ProceduralClip, *, known: slice) -> Hints:
    """Hints with the true flow and camera, and the true depth in some columns, in units of the anchor's median depth."""
    unit, camera = unit_of(clip), clip.world_from_camera[FRAME]
    in_camera = transform_points(invert_rigid(camera), clip.tracking_points_world[FRAME].reshape(-1, 3).astype(np.float64))
    flow = (project(in_camera, clip.intrinsics[FRAME]).reshape(*SIZE, 2) - pixel_grid(*SIZE)).astype(np.float32)
    depth = np.zeros((2, *SIZE), np.float32)
    depth[..., known] = clip.depth[[0, FRAME]][..., known] / unit
    relative = rigid(camera[:3, :3], camera[:3, 3] / unit)
    view = TwoView(flow, -flow, depth[0], depth[1], relative, float(clip.intrinsics[0, 0, 0]))
    seen = clip.visible[FRAME] & clip.tracking_valid[FRAME]
    return replace(hints_of_views([view]), consistency=torch.from_numpy(seen)[None].float())


def monocular(clip: ProceduralClip, frame: int, scale: float) -> MonocularDepth:
    """True depth in another scale."""
    log_depth = torch.from_numpy(clip.depth[frame] * scale).float().log()[None]
    zero = torch.zeros(1)
    return MonocularDepth(log_depth, torch.full_like(log_depth, ERROR).log(), zero, zero)


@pytest.mark.parametrize("known", [slice(0, 40), slice(0, 0)], ids=["some depth known", "no depth known"])
def test_pair_pointmaps_true_depth_in_another_scale_gives_true_points(clip: ProceduralClip, known: slice) -> None:
    hints, unit = true_hints(clip, known=known), unit_of(clip)
    anchor = anchor_pointmap(monocular(clip, 0, 3.0), hints)
    maps = pair_pointmaps(monocular(clip, FRAME, 0.2), hints, anchor)
    np.testing.assert_allclose(anchor.points_world[0], clip.tracking_points_world[0] / unit, rtol=1e-2, atol=1e-2)
    wanted = clip.reconstruction_points_world[FRAME] / unit
    np.testing.assert_allclose(maps.reconstruction.points_world[0], wanted, rtol=1e-2, atol=2e-2)

    tracking, still = maps.tracking.points_world[0].numpy(), anchor.points_world[0].numpy()
    static = ~clip.moving & clip.visible[FRAME]
    assert static.mean() > 0.3 and np.mean((tracking == still).all(axis=-1)[static]) > 0.97
    moved = np.linalg.norm(clip.tracking_points_world[FRAME] - clip.tracking_points_world[0], axis=-1) / unit
    dynamic = clip.visible[FRAME] & (moved > 0.05)
    assert dynamic.sum() > 50
    error = np.linalg.norm(tracking - clip.tracking_points_world[FRAME] / unit, axis=-1)[dynamic]
    assert np.median(error) < 0.1 * np.median(moved[dynamic])


def test_pair_pointmaps_confidence_is_that_of_the_depth(clip: ProceduralClip) -> None:
    hints = true_hints(clip, known=slice(0, 40))
    anchor = anchor_pointmap(monocular(clip, 0, 3.0), hints)
    found = pair_pointmaps(monocular(clip, FRAME, 3.0), hints, anchor).reconstruction.confidence
    assert found is not None and anchor.confidence is not None
    for confidence in (found[0], anchor.confidence[0]):
        torch.testing.assert_close(confidence[:, 40:], torch.full((SIZE[0], SIZE[1] - 40), 1 + 1 / ERROR))
        assert confidence[:, :40].median() == pytest.approx(1 + 1 / KNOWN_ERROR)


def test_monocular_network_pair_with_itself_gives_equal_branches(clip: ProceduralClip) -> None:
    model = load_model(device="cpu")
    images = normalize_images(clip.rgb[:1])
    with torch.inference_mode():
        maps, frame = model(images, images), normalize_images(clip.rgb[FRAME:])
        hints = model.hints(images, frame)
        only = model.decode_reconstruction(model.encode(images), model.encode(frame), hints)
        both = model.decode(model.encode(images), model.encode(frame), hints)
    torch.testing.assert_close(maps.tracking.points_world, maps.reconstruction.points_world)
    assert float(maps.tracking.points_world[..., 2].median()) == pytest.approx(1, rel=1e-3)
    torch.testing.assert_close(only.points_world, both.reconstruction.points_world)


def test_monocular_network_gradient_of_both_branches_reaches_the_monocular_head(clip: ProceduralClip) -> None:
    model, images = new_model(SMALL, seed=0), normalize_images(clip.rgb[[0, FRAME]])
    hints = true_hints(clip, known=slice(0, 40))
    with torch.no_grad():
        tokens = model.encode(images)
    anchor, frame = (tokens.map(lambda x, k=k: x[k : k + 1]) for k in range(2))
    assert model.monocular_head is not None
    for branch in ("tracking", "reconstruction"):
        model.zero_grad()
        getattr(model.decode(anchor, frame, hints), branch).points_world[:, :, 40:].square().sum().backward()
        gradient = model.monocular_head.out.weight.grad
        assert gradient is not None and bool(gradient.isfinite().all()) and float(gradient.abs().max()) > 0


def test_monocular_network_file_has_no_decoders_and_loads(tmp_path) -> None:
    model = new_model(SMALL, seed=0)
    save_model(model, tmp_path / "small.safetensors")
    loaded = load_model(tmp_path / "small.safetensors", device="cpu")
    assert {name.split(".")[0] for name in loaded.state_dict()} == {"encoder", "monocular_head"}
    own = loaded.monocular_network()
    assert own.encoder is loaded.encoder and own.monocular_head is loaded.monocular_head
    assert (own.name, own.weights_hash) == ("small", loaded.weights_hash)


@pytest.mark.parametrize("change", [{"monocular": False}, {"hints": False}])
def test_config_monocular_head_without_what_it_needs_raises(change: dict[str, object]) -> None:
    with pytest.raises(UserError, match="the head 'monocular' needs"):
        ModelConfig.from_dict(SMALL.to_dict() | change)
