"""From the pixels of a file's image to those of the network: the file shows the source video, perhaps at another size."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from st4rtrack.geometry.camera import pixel_grid
from st4rtrack.geometry.sampling import inside_image, nearest_pixel
from st4rtrack.types import PixelMap, UserError

ASPECT_TOLERANCE = 0.02


@dataclass(frozen=True)
class SourceSize:
    """The source video, for files in its pixels.

    Attributes:
        height, width: pixels.
        pixel_map: to the network's pixels.
    """

    height: int
    width: int
    pixel_map: PixelMap


def network_from_file(file: tuple[int, int], network: tuple[int, int], source: SourceSize | None, path: Path | str) -> PixelMap:
    """From pixels of a file's image to those of the network: a scale, and a shift where the network sees a part of the source.

    Args:
        file, network: (height, width).
        source: which the file's image shows; without, the network sees all of it.
        path: of the file, for the message.
    Raises:
        UserError: the file's image has another shape than the source.
    """
    of = (source.height, source.width) if source is not None else network
    if file == network:
        return PixelMap()
    if abs(np.log((file[1] / file[0]) / (of[1] / of[0]))) > ASPECT_TOLERANCE:
        raise UserError(
            f"{path} is of an image of {file[1]}x{file[0]} pixels, which is no resized {of[1]}x{of[0]}; it must show the same as the video"
        )
    scale = (of[1] / file[1], of[0] / file[0])
    if source is None:
        return PixelMap(scale)
    whole = source.pixel_map
    return PixelMap((whole.scale[0] * scale[0], whole.scale[1] * scale[1]), whole.offset_px)


def at_network_size(maps: np.ndarray, network: tuple[int, int], source: SourceSize | None, path: Path | str) -> np.ndarray:
    """Maps [..., h, w] read at the nearest pixels of the network's image (height, width): between near and far there is nothing.

    Outside the maps' image they are 0. Errors as of `network_from_file`.
    """
    file = (maps.shape[-2], maps.shape[-1])
    if file == network:
        return maps
    pixels_px = network_from_file(file, network, source, path).source_from_network(pixel_grid(*network))
    row, column = nearest_pixel(pixels_px, *file)
    return np.where(inside_image(pixels_px, *file), maps[..., row, column], np.zeros((), maps.dtype))
