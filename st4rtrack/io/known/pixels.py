"""Pixel maps from files to the network image; the files show the source video, possibly at another resolution."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from st4rtrack.geometry.camera import pixel_grid
from st4rtrack.geometry.sampling import inside_image, nearest_pixel
from st4rtrack.types import PixelMap, UserError

ASPECT_TOLERANCE = 0.02
PATCH_PX = 14
"""Networks with DINOv2 features resize images to multiples of this size, which changes the aspect ratio."""
LARGEST_CROP = 0.2
"""Maximum share of the width that a centre crop leaves out; more is an image that is padded to a square."""


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


def network_from_file(
    file: tuple[int, int], network: tuple[int, int], source: SourceSize | None, path: Path | str, *, cropped: bool = False
) -> PixelMap:
    """Map from pixels of a file's image to network pixels: a scale, and an offset if one of them is a crop of the source.

    Args:
        file, network: (height, width).
        source: the source that the file's image shows; if `None`, the network uses the whole image.
        path: path of the file, for the message.
        cropped: whether the file's image is a centre crop of the source, scaled uniformly, of its full width or height.
    Raises:
        UserError: the aspect ratio of the file's image differs from that of the source.
    """
    of = (source.height, source.width) if source is not None else network
    if file == network and not _distorted(file, source):
        return PixelMap()
    scale, offset_px = (of[1] / file[1], of[0] / file[0]), (0.0, 0.0)
    if cropped:
        scale = (min(scale), min(scale))
        offset_px = ((of[1] - scale[0] * file[1]) / 2, (of[0] - scale[1] * file[0]) / 2)
    if 2 * offset_px[0] > LARGEST_CROP * of[1] or not (cropped or _is_resized(file, of)):
        raise UserError(
            f"{path} is for {file[1]}x{file[0]} pixels, which is no resized {of[1]}x{of[0]}; it must show the whole video frame"
        )
    return PixelMap(scale, offset_px).then(source.pixel_map if source is not None else PixelMap())


def _distorted(file: tuple[int, int], source: SourceSize | None) -> bool:
    """Whether a file of this size shows the source images with their lens distortion."""
    return source is not None and source.pixel_map.lens is not None and file == (source.height, source.width)


def _is_resized(file: tuple[int, int], of: tuple[int, int]) -> bool:
    """Whether two sizes (height, width) have the same aspect ratio, up to rounding of a side to whole patches."""
    off_px = min(abs(file[0] - file[1] * of[0] / of[1]), abs(file[1] - file[0] * of[1] / of[0]))
    patches = file[0] % PATCH_PX == file[1] % PATCH_PX == 0 and off_px <= PATCH_PX / 2
    return patches or abs(np.log((file[1] / file[0]) / (of[1] / of[0]))) <= ASPECT_TOLERANCE


def at_network_size(
    maps: np.ndarray, network: tuple[int, int], source: SourceSize | None, path: Path | str, *, cropped: bool = False
) -> np.ndarray:
    """Resample maps [..., h, w] to network size (height, width) by nearest neighbour; 0 outside the maps' image.

    Interpolation would create depths between foreground and background. `cropped` and errors: see `network_from_file`.
    """
    file = (maps.shape[-2], maps.shape[-1])
    if file == network and not _distorted(file, source):
        return maps
    pixels_px = network_from_file(file, network, source, path, cropped=cropped).source_from_network(pixel_grid(*network))
    row, column = nearest_pixel(pixels_px, *file)
    return np.where(inside_image(pixels_px, *file), maps[..., row, column], np.zeros((), maps.dtype))
