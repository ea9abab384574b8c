"""Reproducibility: the environment that a scene depends on, stored with it, and deterministic PyTorch on a GPU.

CPU runs are always reproducible: two runs with the same versions, batches and threads are bitwise equal, because sums are
computed in the same order and all random choices are seeded.
"""

import os
from typing import Any

import torch

from st4rtrack.pipeline.cameras import SEED


def computed_with(device: torch.device, batch_size: int) -> dict[str, Any]:
    """Settings that the last digits of a scene depend on, plain data for `scene.json`.

    Args:
        device: device of the network.
        batch_size: frames per batch.
    """
    return {
        "device": str(device),
        "threads": torch.get_num_threads(),
        "batch_size": batch_size,
        "deterministic": device.type == "cpu" or torch.are_deterministic_algorithms_enabled(),
        "seed": SEED,
        "torch": torch.__version__,
    }


def use_deterministic_algorithms() -> None:
    """Select deterministic kernels in this process, also on a GPU, where they are slower.

    Must be called before the first computation on a GPU, because cuBLAS reads its workspace setting only once. Operations without
    a deterministic kernel raise `RuntimeError`.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(True)
