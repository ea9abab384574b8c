"""Weights and images by formula (`../shared/oracle/README.md`): anyone can make them again, none are stored."""

import argparse
import json
import re
import zlib
from pathlib import Path

import numpy as np
import torch

ARCHITECTURE = (
    "AsymmetricCroCo3DStereo(pos_embed='RoPE100', patch_embed_cls='ManyAR_PatchEmbed', img_size=(512, 288), head_type='dpt', "
    "output_mode='pts3d', depth_mode=('exp', -inf, inf), conf_mode=('exp', 1, inf), enc_embed_dim=64, enc_depth=3, enc_num_heads=4, "
    "dec_embed_dim=48, dec_depth=10, dec_num_heads=3, freeze='encoder')"
)


def formula_weight(key: str, shape: tuple[int, ...]) -> torch.Tensor:
    """One tensor of the official state dict."""
    key = re.sub(r"scratch\.layer_rn\.(\d)", lambda m: f"scratch.layer{int(m[1]) + 1}_rn", key)
    w = np.random.RandomState(zlib.crc32(key.encode()) & 0xFFFFFFFF).standard_normal(shape).astype(np.float32)
    if key.endswith(".bias"):
        return torch.from_numpy(0.05 * w)
    if "norm" in key:
        return torch.from_numpy(1 + 0.1 * w)
    if key == "mask_token":
        return torch.from_numpy(0.02 * w)
    transposed = "act_postprocess.0.1" in key or "act_postprocess.1.1" in key
    fan_in = shape[0] if transposed else int(np.prod(shape[1:]))
    scale = 0.2 if key.endswith("head.4.weight") else 1.0
    return torch.from_numpy((scale * w / np.sqrt(fan_in)).astype(np.float32))


def formula_weights(keys_json: Path) -> dict[str, torch.Tensor]:
    """The whole state dict of a key list."""
    return {key: formula_weight(key, tuple(shape)) for key, shape in json.loads(keys_json.read_text()).items()}


def formula_image(seed: int, height: int, width: int) -> torch.Tensor:
    """An image [1, 3, height, width] in [-1, 1]."""
    rng = np.random.RandomState(seed)
    base = rng.standard_normal((1, 3, height // 16, width // 16)).astype(np.float32)
    base = base.repeat(16, axis=2).repeat(16, axis=3)
    return torch.from_numpy(np.clip(0.6 * base + 0.3 * rng.standard_normal((1, 3, height, width)).astype(np.float32), -1, 1))


def save_official(path: Path, weights: dict[str, torch.Tensor], architecture: str = ARCHITECTURE, **more: object) -> Path:
    """The official `.pth` container."""
    torch.save({"model": weights, "args": argparse.Namespace(model=architecture, lr=5e-5), "epoch": 3, **more}, path)
    return path
