"""Depth in OpenEXR images, read with the optional package OpenEXR: OpenCV's wheels are built without it."""

import importlib
from pathlib import Path
from typing import Any

import numpy as np

from st4rtrack.types import UserError

_CHANNELS = ("Z", "Depth", "depth", "Y", "R", "V")


def read_exr_depth(path: Path) -> np.ndarray:
    """[height, width] float32 of the channel that is called as depth is, or of the only one.

    Raises:
        UserError: the package is missing, or the file is damaged or has no such channel.
    """
    try:
        openexr: Any = importlib.import_module("OpenEXR")
    except ImportError:
        fix = 'install it with: pip install "st4rtrack[images]"; or convert the depth to .npy or 16-bit PNG'
        raise UserError(f"{path} is an OpenEXR image, which needs the package OpenEXR; {fix}") from None
    try:
        channels = openexr.File(str(path), separate_channels=True).channels()
    except Exception as error:  # whatever its C++ throws
        raise UserError(f"{path} cannot be read as an OpenEXR image; write it again") from error
    by_name = {name.rsplit(".", 1)[-1]: channel for name, channel in channels.items()}
    name = next((name for name in _CHANNELS if name in by_name), None)
    if name is None and len(by_name) == 1:
        name = next(iter(by_name))
    if name is None:
        raise UserError(f"{path} has no depth channel (Z); it has {', '.join(channels)}")
    return np.asarray(by_name[name].pixels, np.float32)
