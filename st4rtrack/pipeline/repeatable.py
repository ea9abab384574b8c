"""The same input gives the same scene: what that depends on, said in the scene, and what PyTorch needs for it on a GPU.

On a processor it is so without being asked: two runs with the same versions, batches and threads are equal bit for bit, because sums
are then taken in the same order and every random choice has a fixed seed.
"""

import os
from typing import Any

import torch

from st4rtrack.pipeline.cameras import SEED


def computed_with(device: torch.device, batch_size: int) -> dict[str, Any]:
    """What the last digits of a scene depend on, plain data for `scene.json`.

    Args:
        device: of the network.
        batch_size: frames at once.
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
    """Makes this process choose kernels that add in a fixed order, on a GPU too, where they are slower.

    To be called before the first computation on a GPU, because cuBLAS reads its workspace from the environment once. An operation without
    such a kernel raises `RuntimeError` rather than being computed otherwise.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(True)
