"""The released size itself, with formula weights: gigabytes and a minute, so not by default."""

from pathlib import Path

import pytest
import torch

from st4rtrack.model.checkpoint import load_model
from st4rtrack.model.config import LARGE
from tests.formula import ARCHITECTURE, formula_image, formula_weights, save_official
from tests.shared_data import shared

LARGE_ARCHITECTURE = ARCHITECTURE.replace(
    "enc_embed_dim=64, enc_depth=3, enc_num_heads=4", "enc_embed_dim=1024, enc_depth=24, enc_num_heads=16"
)
LARGE_ARCHITECTURE = LARGE_ARCHITECTURE.replace(
    "dec_embed_dim=48, dec_depth=10, dec_num_heads=3", "dec_embed_dim=768, dec_depth=12, dec_num_heads=12"
)


@pytest.mark.slow
def test_a_checkpoint_of_the_released_size_loads_and_runs(tmp_path: Path) -> None:
    path = save_official(tmp_path / "large.pth", formula_weights(shared("oracle/model_large_keys.json")), LARGE_ARCHITECTURE)
    model = load_model(path, device="cpu", dtype="float32")
    assert model.config == LARGE
    # the release counts 571,171,208, with the mask token and two residual units that nothing uses
    assert sum(p.numel() for p in model.parameters()) == 571_171_208 - 768 - 2 * 2 * 256 * (256 * 9 + 1)
    with torch.inference_mode():
        out = model(formula_image(1, 32, 48), formula_image(2, 32, 48))
    for pointmap in (out.tracking, out.reconstruction):
        assert torch.isfinite(pointmap.points_world).all()
