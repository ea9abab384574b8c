"""Depth networks of others: a stand-in with MoGe's call signature, and a small random model of transformers."""

import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from st4rtrack.hints.depth_prior.networks import MoGePrior, TransformersPrior, kind_of
from st4rtrack.types import UserError

RGB = np.random.default_rng(0).integers(0, 255, (32, 48, 3), np.uint8)


class MoGeStandIn:
    """Depth is brightness; its mask hides the left half, which is infinitely far then.

    Call signature of `MoGeModel.infer` in microsoft/MoGe at commit 637e23e (`moge/model/v2.py`).
    """

    def infer(
        self,
        image: torch.Tensor,
        num_tokens: int | None = None,
        resolution_level: int = 9,
        force_projection: bool = True,
        apply_mask: bool = True,
        fov_x: float | None = None,
        use_fp16: bool = True,
    ) -> dict[str, torch.Tensor]:
        assert image.shape == (3, 32, 48) and image.max() <= 1 and not use_fp16
        depth = 1 + image.mean(dim=0)
        depth[:, :24] = torch.inf
        focal = 1.25 if fov_x is None else 0.5 / np.tan(np.radians(fov_x) / 2)
        return {"depth": depth, "intrinsics": torch.diag(torch.tensor([focal, focal * 48 / 32, 1.0]))}


@pytest.mark.parametrize(("focal_px", "expected_px"), [(None, 60.0), (36.0, 36.0)])
def test_moge_depth_and_focal_length_are_in_the_frame(tmp_path: Path, focal_px: float | None, expected_px: float) -> None:
    (tmp_path / "model.pt").write_bytes(b"weights")
    found = MoGePrior(tmp_path / "model.pt", model=MoGeStandIn())(RGB, 0, focal_px)
    assert found.kind == "depth" and found.focal_px == pytest.approx(expected_px)
    assert not found.values[:, :24].any()
    np.testing.assert_allclose(found.values[:, 24:], 1 + RGB[:, 24:].mean(axis=-1) / 255, rtol=1e-5)


def test_moge_depth_of_another_size_raises(tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(b"weights")
    wrong = SimpleNamespace(infer=lambda *_, **__: {"depth": torch.ones(3, 4), "intrinsics": torch.eye(3)})
    with pytest.raises(UserError, match=r"returned depth \[3, 4\] for a frame \[32, 48\]"):
        MoGePrior(tmp_path / "model.pt", model=wrong)(RGB, 0)


@pytest.mark.parametrize(("encoder", "version"), [("dinov2_vitl14", "v1"), ({"backbone": "dinov2_vits14"}, "v2")])
def test_moge_checkpoint_selects_the_version_of_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoder: Any, version: str
) -> None:
    loaded = []

    class Model(MoGeStandIn):
        @classmethod
        def from_pretrained(cls, path: str) -> "Model":
            loaded.append(path)
            return cls()

        def to(self, device: str) -> "Model":
            return self

        def eval(self) -> "Model":
            return self

    versions = {name: SimpleNamespace(MoGeModel=Model if name == version else None) for name in ("v1", "v2")}
    package = SimpleNamespace(model=SimpleNamespace(**versions))
    monkeypatch.setitem(sys.modules, "moge", package)  # pyright: ignore[reportArgumentType]
    monkeypatch.setitem(sys.modules, "moge.model", package.model)  # pyright: ignore[reportArgumentType]
    torch.save({"model_config": {"encoder": encoder}, "model": {}}, tmp_path / "model.pt")
    assert MoGePrior(tmp_path / "model.pt")(RGB, 0).focal_px == pytest.approx(60)
    assert loaded == [str(tmp_path / "model.pt")]


@pytest.mark.skipif(importlib.util.find_spec("moge") is not None, reason="MoGe is installed")
def test_moge_not_installed_raises(tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(b"weights")
    with pytest.raises(UserError, match="MoGe is not installed"):
        MoGePrior(tmp_path / "model.pt")(RGB, 0)


@pytest.mark.skipif(importlib.util.find_spec("transformers") is not None, reason="transformers is installed")
def test_transformers_not_installed_raises(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match="transformers is not installed"):
        TransformersPrior(tmp_path)(RGB, 0)


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        ({"model_type": "depth_anything", "depth_estimation_type": "relative"}, "inverse_depth"),
        ({"model_type": "depth_anything", "depth_estimation_type": "metric"}, "depth"),
        ({"model_type": "dpt"}, "inverse_depth"),
        ({"model_type": "zoedepth"}, "depth"),
    ],
)
def test_transformers_kind_follows_the_configuration(config: dict[str, str], kind: str) -> None:
    assert kind_of(SimpleNamespace(**config)) == kind


class ProcessorStandIn:
    """The call signatures of the image processors of ZoeDepth and Depth Pro."""

    def __init__(self, model_type: str) -> None:
        self.sizes = {"zoedepth": {"source_sizes", "target_sizes"}, "depth_pro": {"target_sizes"}}[model_type]
        self.focal = {"zoedepth": {}, "depth_pro": {"focal_length": torch.tensor(70.0)}}[model_type]

    def __call__(self, images: np.ndarray, return_tensors: str) -> Any:
        assert return_tensors == "pt" and images.shape == RGB.shape
        inputs = {"pixel_values": torch.ones(1, 3, 8, 8)}
        return type("Inputs", (dict,), {"to": lambda self, device: self})(inputs)

    def post_process_depth_estimation(self, outputs: dict[str, torch.Tensor], **sizes: Any) -> list[dict[str, torch.Tensor]]:
        assert set(sizes) == self.sizes and all(size == [RGB.shape[:2]] for size in sizes.values())
        return [{"predicted_depth": 2 * outputs["predicted_depth"][0, 0, 0].expand(RGB.shape[:2]), **self.focal}]


@pytest.mark.parametrize(("model_type", "focal_px"), [("zoedepth", None), ("depth_pro", 70.0)])
def test_transformers_model_with_post_processing_gives_its_depth_and_focal_length(
    tmp_path: Path, model_type: str, focal_px: float | None
) -> None:
    class Model:
        config = SimpleNamespace(model_type=model_type)

        def __call__(self, pixel_values: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"predicted_depth": pixel_values[:, 0] * 3}

    (tmp_path / "config.json").write_text("{}")
    prior = TransformersPrior(tmp_path)
    prior.__dict__["_loaded"] = (ProcessorStandIn(model_type), Model())
    found = prior(RGB, 0)
    assert found.kind == "depth" and found.focal_px == focal_px
    np.testing.assert_array_equal(found.values, np.full(RGB.shape[:2], 6, np.float32))


@pytest.fixture
def small_model(tmp_path: Path) -> tuple[Path, Any]:
    """A random DPT."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    pytest.importorskip("PIL", reason="the image processor needs Pillow")
    torch.manual_seed(0)
    config = transformers.DPTConfig(
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=32,
        patch_size=8,
        backbone_out_indices=[0, 1, 2, 3],
        neck_hidden_sizes=[8, 8, 8, 8],
        fusion_hidden_size=8,
        is_hybrid=False,
    )
    transformers.DPTForDepthEstimation(config).save_pretrained(tmp_path)
    transformers.DPTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    return tmp_path, config


def test_transformers_small_random_model_gives_depth_of_the_frame(small_model: tuple[Path, Any]) -> None:
    prior, depth = TransformersPrior(small_model[0]), TransformersPrior(small_model[0], kind="depth")
    inverse_found, depth_found = prior(RGB, 0), depth(RGB, 0)
    assert inverse_found.kind == "inverse_depth" and depth_found.kind == "depth" and prior.name != depth.name
    assert inverse_found.values.shape == RGB.shape[:2] and (inverse_found.values > 0).all()
    np.testing.assert_allclose(inverse_found.values, np.maximum(depth_found.values, 1e-3 * depth_found.values.max()), rtol=1e-6)
