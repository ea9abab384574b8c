"""Frame preprocessing: undistort, resize to the network size, then crop (inference) or stretch (benchmark).

The centre of the first pixel is at (0.5, 0.5), so a resize is a pure scale and a crop a pure shift; `PixelMap` holds both.
Frames are resized as they are read. The sizes are chosen elsewhere: the model configuration holds long side and patch size.
"""

import dataclasses
from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING

import cv2
import numpy as np

from st4rtrack.geometry.lens import Lens
from st4rtrack.timing import timed
from st4rtrack.types import PixelMap, UserError, Video

if TYPE_CHECKING:
    import torch


def to_network_size(video: Video, *, long_side: int, patch_size: int, square_ok: bool = True) -> tuple[Video, PixelMap]:
    """Resize a video to `long_side`, then centre-crop both sides to multiples of the patch size.

    Args:
        video: of any size and orientation.
        long_side: pixels, at least `patch_size`.
        patch_size: pixels; both sides become multiples of it.
        square_ok: if False, a square video is cropped to 4:3, for models trained without square images.
    Returns:
        The video at network size, resized lazily as frames are read, and the map from source pixels to network pixels.
    Raises:
        UserError: a side is shorter than one patch after resizing.

    Source: the released demo's image loading.
    """
    height, width = _size_at_long_side(video, long_side, patch_size)
    # 2 * (side // 2), as released: for odd sizes too, the centre of the crop falls between two pixels.
    crop_height, crop_width = (_whole_patches(2 * (side // 2), patch_size) for side in (height, width))
    if height == width and not square_ok:
        crop_height = _whole_patches(3 * crop_width // 4, patch_size)
    _require_a_patch(video, crop_height, crop_width, (height, width), patch_size)
    top, left = height // 2 - crop_height // 2, width // 2 - crop_width // 2
    read = _Resized(video, height, width, top, left, crop_height, crop_width)
    pixel_map = PixelMap((width / video.width, height / video.height), (float(-left), float(-top)))
    return dataclasses.replace(video, height=crop_height, width=crop_width, read=read), pixel_map


def stretch_to_network_size(video: Video, *, long_side: int, patch_size: int) -> tuple[Video, PixelMap]:
    """Resize the whole image to the size that `to_network_size` crops to, without cropping.

    The two axes are scaled differently, by up to one patch. The published benchmark does this so that every ground-truth pixel
    is in view. (It resizes twice; here once, to the same size.)

    Args:
        video: of any size and orientation.
        long_side: pixels, at least `patch_size`.
        patch_size: pixels; both sides become multiples of it.
    Returns:
        The video at network size, resized lazily as frames are read, and the map from source pixels to network pixels.
    Raises:
        UserError: a side is shorter than one patch after resizing.
    """
    scaled = _size_at_long_side(video, long_side, patch_size)
    height, width = (_whole_patches(2 * (side // 2), patch_size) for side in scaled)
    _require_a_patch(video, height, width, scaled, patch_size)
    read = _Resized(video, height, width, 0, 0, height, width)
    pixel_map = PixelMap((width / video.width, height / video.height))
    return dataclasses.replace(video, height=height, width=width, read=read), pixel_map


def crop(video: Video, left: int, top: int, right: int, bottom: int) -> tuple[Video, PixelMap]:
    """Crop a rectangle out of a video; also returns the map from source pixels to crop pixels."""

    def read(start: int, stop: int) -> Iterator[np.ndarray]:
        return (frame[top:bottom, left:right] for frame in video.read(start, stop))

    part = dataclasses.replace(video, height=bottom - top, width=right - left, read=read)
    return part, PixelMap(offset_px=(float(-left), float(-top)))


def undistort(video: Video, lens: Lens) -> Video:
    """Undistort a video to the ideal pinhole image of its lens, lazily as frames are read."""

    def read(start: int, stop: int) -> Iterator[np.ndarray]:
        return (undistort_image(frame, lens) for frame in video.read(start, stop))

    return dataclasses.replace(video, read=read, focal_px=lens.ideal[0])


@timed("undistort")
def undistort_image(image: np.ndarray, lens: Lens) -> np.ndarray:
    """Resample a distorted image [height, width, 3] uint8 to the ideal pinhole image of the same size."""
    return cv2.remap(
        image, *_undistortion(lens, image.shape[0], image.shape[1]), cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )


@lru_cache(maxsize=2)
def _undistortion(lens: Lens, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Maps of `cv2.remap`."""
    first_pixel = np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])  # in OpenCV its centre is at zero
    camera, ideal = lens.camera_intrinsics - first_pixel, lens.ideal_intrinsics - first_pixel
    create = cv2.fisheye.initUndistortRectifyMap if lens.model == "fisheye" else cv2.initUndistortRectifyMap
    return create(camera, lens.opencv_coefficients, np.eye(3), ideal, (width, height), cv2.CV_16SC2)


def normalize_images(rgb: np.ndarray) -> "torch.Tensor":
    """Convert images to the input format of the network.

    Args:
        rgb: [..., height, width, 3] uint8.
    Returns:
        [..., 3, height, width] float32 in [-1, 1], on the CPU.
    """
    import torch  # imported late: resizing alone does not need PyTorch

    rgb = np.asarray(rgb)
    if rgb.dtype != np.uint8 or rgb.ndim < 3 or rgb.shape[-1] != 3:
        raise ValueError(f"images must be [..., height, width, 3] uint8, got {list(rgb.shape)} {rgb.dtype}")
    channels_first = torch.from_numpy(np.ascontiguousarray(np.moveaxis(rgb, -1, -3)))
    return channels_first.to(torch.float32).div_(255).sub_(0.5).div_(0.5)


@dataclasses.dataclass(frozen=True)
class _Resized:
    """`Video.read` that resizes to height x width, then crops to crop_height x crop_width at (top, left)."""

    video: Video
    height: int
    width: int
    top: int
    left: int
    crop_height: int
    crop_width: int

    def __call__(self, start: int, stop: int) -> Iterator[np.ndarray]:
        rows = slice(self.top, self.top + self.crop_height)
        columns = slice(self.left, self.left + self.crop_width)
        for frame in self.video.read(start, stop):
            yield np.ascontiguousarray(_resize(frame, self.height, self.width)[rows, columns])


@timed("resize")
def _resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize an image: area averaging when shrinking, bicubic otherwise.

    The release shrinks with Pillow's Lanczos, which widens with the scale. OpenCV's does not and would alias. Area averages
    are the only OpenCV filter that uses every source pixel, and the difference does not justify a second resampler.
    """
    if image.shape[:2] == (height, width):
        return image
    shrinks = height <= image.shape[0] and width <= image.shape[1]
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)


def _size_at_long_side(video: Video, long_side: int, patch_size: int) -> tuple[int, int]:
    if long_side < patch_size:
        raise UserError(f"size {long_side} is smaller than one patch of {patch_size} pixels; choose a larger size")
    longest = max(video.height, video.width)
    return round(video.height * long_side / longest), round(video.width * long_side / longest)


def _whole_patches(side: int, patch_size: int) -> int:
    return side // patch_size * patch_size


def _require_a_patch(video: Video, height: int, width: int, scaled: tuple[int, int], patch_size: int) -> None:
    if min(height, width) < patch_size:
        raise UserError(
            f"{video.name} is too thin: its {video.width}x{video.height} pixels become {scaled[1]}x{scaled[0]} at the network, "
            f"less than one patch of {patch_size}; choose a larger size, or crop the video's long side"
        )
