"""What networks that know the depth of single images have in common."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from st4rtrack.adapt.priors import TeacherDepth
from st4rtrack.adapt.teachers.teacher import require_frames
from st4rtrack.types import UserError


def depth_by_frame(rgb: np.ndarray, predict: Callable[[np.ndarray], np.ndarray], name: str) -> TeacherDepth:
    """Depth of every frame by itself, each in a scale of its own.

    Args:
        rgb: [T, H, W, 3] uint8.
        predict: depth [H, W] of an image [H, W, 3]; what is not finite or not positive is unknown.
        name: of the teacher.
    Raises:
        UserError: the video has one frame, or the network gave another shape.
    """
    require_frames(rgb)
    depth = np.zeros(rgb.shape[:3], np.float32)
    for t, image in enumerate(rgb):
        found = predict(image)
        if found.shape != image.shape[:2]:
            raise UserError(f"{name} gave depth {list(found.shape)} for an image {list(image.shape[:2])}; it is no depth network")
        depth[t] = np.where(np.isfinite(found) & (found > 0), found, 0.0)
    return TeacherDepth(depth, name)


def digest(paths: list[Path]) -> str:
    """Of the content of files, short: it stands for the version of weights."""
    sha = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            sha.update(hashlib.file_digest(file, "sha256").digest())
    return sha.hexdigest()[:12]
