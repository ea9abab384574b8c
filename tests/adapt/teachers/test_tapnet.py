"""Networks of google-deepmind/tapnet as track teachers: stand-ins with the call signatures of its documentation."""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from st4rtrack.adapt.teachers import open_teachers
from st4rtrack.io.video import open_video
from st4rtrack.types import UserError
from tests.adapt.truth_teachers import UNUSED

RGB = np.random.default_rng(0).integers(0, 255, (5, 32, 48, 3), np.uint8)
QUERY = np.array([[10.5, 8.5], [45.0, 20.0]])
VIDEO = open_video(RGB)

# As documented in google-deepmind/tapnet at commit 148b2c4 (colabs/torch_tapir_demo.ipynb, tapnet/tapnext/tapnext_torch.py).
# Both move every point by (bias[0], bias[1]) resized pixels (x, y) per frame, and hide it from frame `bias[2]` of the video on.
TAPIR = """
import torch

class TAPIR(torch.nn.Module):
    def __init__(self, bilinear_interp_with_depthwise_conv=False, num_pips_iter=4, pyramid_level=1, **options):
        super().__init__()
        assert pyramid_level == 1 and not options
        self.linear = torch.nn.Linear(1, 3)

    def forward(self, video, query_points, is_training=False, query_chunk_size=64):
        b, t, h, w, c = video.shape
        assert (b, h, w, c) == (1, 256, 256, 3) and -1 <= video.min() < -0.9 and 0.9 < video.max() <= 1
        assert query_points.shape[0] == 1 and query_points.shape[2] == 3  # t, y, x
        time = torch.arange(t, dtype=torch.float32)
        since = time[None] - query_points[0, :, :1]
        tracks = query_points[0, :, None, [2, 1]] + since[..., None] * self.linear.bias[:2]
        hidden = torch.where(time >= self.linear.bias[2], 9.0, -9.0).expand(len(since), t)
        return {"tracks": tracks[None], "occlusion": hidden[None], "expected_dist": torch.full_like(hidden, -9)[None]}
"""
TAPNEXT = """
import dataclasses
import torch

@dataclasses.dataclass
class TAPNextTrackingState:
    step: int
    query_points: torch.Tensor
    hidden_state: list

class TAPNext(torch.nn.Module):
    def __init__(self, image_size, width=768):
        super().__init__()
        assert image_size == (256, 256)
        self.linear = torch.nn.Linear(1, 3)

    def forward(self, video, query_points=None, state=None):
        assert not self.training and video.shape == (1, 1, 256, 256, 3) and -1 <= video.min() and video.max() <= 1
        assert (query_points is None) == (state is not None)
        step = 0 if state is None else state.step
        queries = query_points if state is None else state.query_points
        assert (queries[..., 0] == 0).all()
        tracks = queries[:, None, :, 1:] + step * self.linear.bias[:2].flip(0)  # y, x
        visible = torch.where(step >= self.linear.bias[2], -9.0, 9.0).expand(1, 1, queries.shape[1], 1)
        logits = torch.zeros(1, 1, queries.shape[1], 512)
        return tracks, logits, visible, TAPNextTrackingState(step + 1, queries, [])
"""
MODULES = ("tapnet", "tapnet.torch", "tapnet.torch.tapir_model", "tapnet.tapnext", "tapnet.tapnext.tapnext_torch")


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The stand-ins, with a checkpoint of each as it is published."""
    for module, text in {"torch/tapir_model": TAPIR, "tapnext/tapnext_torch": TAPNEXT}.items():
        file = tmp_path / "tapnet" / f"{module}.py"
        file.parent.mkdir(parents=True)
        file.write_text(text)
    state = {"linear.weight": torch.zeros(3, 1), "linear.bias": torch.tensor([8.0, 16.0, 4.0])}
    torch.save(state, tmp_path / "tapir.pt")
    torch.save({"state_dict": {f"tapnext.{key}": value for key, value in state.items()}}, tmp_path / "tapnext.pt")
    monkeypatch.syspath_prepend(tmp_path)
    for name in MODULES:
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield tmp_path
    for name in MODULES:
        sys.modules.pop(name, None)


@pytest.mark.parametrize("anchor", [0, 2, 4])
@pytest.mark.parametrize("kind", ["tapir", "tapnext"])
def test_tapnet_tracks_are_in_frame_pixels_in_both_directions(package: Path, kind: str, anchor: int) -> None:
    teacher = open_teachers(f"{kind}:{package / kind}.pt", "none", VIDEO, fused=UNUSED)[0]
    assert teacher.follows_any and {"tapir": "BootsTAPIR", "tapnext": "TAPNext++"}[kind] in teacher.name
    found = teacher.tracks(RGB, QUERY, anchor)
    since = np.arange(5) - anchor
    since = np.abs(since) if kind == "tapnext" else since  # an online network sees the frames before the anchor reversed
    expected = QUERY + since[:, None, None] * (8 * 48 / 256, 16 * 32 / 256)
    np.testing.assert_allclose(found.tracks_px, expected, atol=1e-4)
    inside = ((expected >= 0) & (expected < (48, 32))).all(axis=-1)
    shown = since < 4 if kind == "tapnext" else np.arange(5) < 4
    np.testing.assert_array_equal(found.visible, inside & shown[:, None])


def test_tapnet_without_the_package_or_with_other_weights_raises(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (package / "damaged.pt").write_bytes(b"damaged")
    torch.save({"other": torch.zeros(1)}, package / "other.pt")
    for name in ("damaged", "other"):
        with pytest.raises(UserError, match=r"is not the checkpoint of BootsTAPIR") as caught:
            open_teachers(f"tapir:{package / name}.pt", "none", VIDEO, fused=UNUSED)[0].tracks(RGB, QUERY, 0)
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="is not a file"):
        open_teachers(f"tapnext:{package}", "none", VIDEO, fused=UNUSED)
    monkeypatch.setitem(sys.modules, "tapnet.torch.tapir_model", None)
    with pytest.raises(UserError, match=r"could not import tapnet \(.*pip install"):
        open_teachers(f"tapir:{package / 'tapir'}.pt", "none", VIDEO, fused=UNUSED)[0].tracks(RGB, QUERY, 0)
