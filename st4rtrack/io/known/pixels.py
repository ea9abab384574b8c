"""Pixel maps from files to the network image; the files show the source video, possibly at another resolution."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from st4rtrack.geometry.camera import pixel_grid
from st4rtrack.geometry.sampling import inside_image, nearest_pixel
from st4rtrack.types import PixelMap, UserError

ASPECT_TOLERANCE = 0.02


@dataclass(frozen=True)
class SourceSize:
    """Size of the source video and its map to network pixels.

    Attributes:
        height, width: source size in pixels.
        pixel_map: map from source pixels to network pixels.
    """

    height: int
    width: int
    pixel_map: PixelMap


def network_from_file(file: tuple[int, int], network: tuple[int, int], source: SourceSize | None, path: Path | str) -> PixelMap:
    """Map from pixels of a file's image to network pixels: a scale, and an offset if the network uses a crop.

    Args:
        file, network: (height, width).
        source: the source that the file's image shows; if `None`, the network uses the whole image.
        path: path of the file, for the message.
    Raises:
        UserError: the aspect ratio of the file's image differs from that of the source.
    """
    of = (source.height, source.width) if source is not None else network
    if file == network:
        return PixelMap()
    if abs(np.log((file[1] / file[0]) / (of[1] / of[0]))) > ASPECT_TOLERANCE:
        raise UserError(
            f"{path} is for {file[1]}x{file[0]} pixels, which is no resized {of[1]}x{of[0]}; it must show the whole video frame"
        )
    scale = (of[1] / file[1], of[0] / file[0])
    if source is None:
        return PixelMap(scale)
    whole = source.pixel_map
    return PixelMap((whole.scale[0] * scale[0], whole.scale[1] * scale[1]), whole.offset_px)


def at_network_size(maps: np.ndarray, network: tuple[int, int], source: SourceSize | None, path: Path | str) -> np.ndarray:
    """Resample maps [..., h, w] to network size (height, width) by nearest neighbour; 0 outside the maps' image.

    Interpolation would create depths between foreground and background. Raises as `network_from_file`.
    """
    file = (maps.shape[-2], maps.shape[-1])
    if file == network:
        return maps
    pixels_px = network_from_file(file, network, source, path).source_from_network(pixel_grid(*network))
    row, column = nearest_pixel(pixels_px, *file)
    return np.where(inside_image(pixels_px, *file), maps[..., row, column], np.zeros((), maps.dtype))
