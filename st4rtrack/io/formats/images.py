"""Images of a scene at source resolution if the source video can be opened, else at network resolution."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import cv2
import numpy as np

from st4rtrack.geometry.camera import pixel_grid
from st4rtrack.geometry.lens import Lens
from st4rtrack.geometry.sampling import inside_image, nearest_pixel
from st4rtrack.io.files import matches_of
from st4rtrack.io.frames import FrameReader, frames_of
from st4rtrack.io.images import encode_jpeg
from st4rtrack.io.scene.description import source_paths
from st4rtrack.io.video import open_video
from st4rtrack.preprocess import undistort_image
from st4rtrack.scene import Scene
from st4rtrack.types import PixelMap, UserError, Video

logger = logging.getLogger(__name__)

_SAME_TIME_S = 2e-3
_MAX_DIFFERENCE = 16.0
"""Maximum mean absolute difference (0 to 255) between a resized source frame and the same frame in the scene."""


@dataclass(frozen=True)
class SceneImages:
    """Images of all frames of a scene."""

    height: int  # height, width: image size in pixels
    width: int
    image_map: PixelMap  # map from image pixels to network pixels
    scene: Scene  # the scene
    source: Video | None = None  # the video that the images are read from; None if `scene.rgb` is used
    position: np.ndarray | None = None  # [time] position of each frame in that video
    lens: Lens | None = None  # lens whose distortion is removed from these images; `None`: they are left as they are

    def frames(self, index: Sequence[int] | np.ndarray) -> Iterator[np.ndarray]:
        """Images [height, width, 3] uint8 of the frames `index` (increasing or repeated), decoded one at a time."""
        if self.source is None or self.position is None:
            return (np.asarray(self.scene.rgb[int(t)], np.uint8) for t in index)
        read = self.source.read
        frames_at = read.at if isinstance(read, FrameReader) else frames_of(self.source)
        positions, repeats = np.unique(self.position[np.asarray(index, int)], return_counts=True)
        images = frames_at(positions.tolist())
        if self.lens is not None:
            images = map(partial(undistort_image, lens=self.lens), images)
        return (rgb for rgb, times in zip(images, repeats, strict=True) for _ in range(times))

    def from_network(self, values: np.ndarray, outside: float = 0) -> np.ndarray:
        """Resize a map [height, width] of network pixels to image size (nearest neighbour); `outside` beyond the network's crop."""
        inside = inside_image(self._network_px, *values.shape)
        return np.where(inside, values[nearest_pixel(self._network_px, *values.shape)], np.asarray(outside, values.dtype))

    def write_jpegs(self, folder: Path, frames: np.ndarray) -> None:
        """Write the images of frames as `frame_000000.jpg` and so on to a new folder."""
        folder.mkdir(parents=True)
        for frame, rgb in zip(frames, self.frames(frames)):
            (folder / f"frame_{frame:06d}.jpg").write_bytes(encode_jpeg(rgb))

    def write_png(self, path: Path, values: np.ndarray, outside: float = 0) -> None:
        """Write a map [height, width] of network pixels, uint8 or uint16, as an image; creates the folder."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(cv2.imencode(".png", self.from_network(values, outside))[1].tobytes())

    @cached_property
    def _network_px(self) -> np.ndarray:
        """Network pixels [height, width, 2] of the image pixels."""
        return self.image_map.network_from_source(pixel_grid(self.height, self.width))


def scene_images(scene: Scene, *, distorted: bool = False) -> SceneImages:
    """Images of a scene at source resolution, or at network resolution with a warning that gives the reason.

    Args:
        scene: in memory or on disk.
        distorted: whether the images keep their lens distortion, for formats with a distortion model (`image_map.lens`).
    """
    try:
        video = _open_source(scene)
        position = _positions(scene, video)
        if distorted:
            return SceneImages(video.height, video.width, scene.pixel_map, scene, video, position)
        return SceneImages(video.height, video.width, scene.pixel_map.ideal, scene, video, position, scene.pixel_map.lens)
    except UserError as reason:
        height, width = scene.rgb.shape[1:3]
        logger.warning("images and intrinsics are written at network size, %d x %d pixels, because %s", width, height, reason)
        return SceneImages(height, width, PixelMap(), scene)


def _open_source(scene: Scene) -> Video:
    source = scene.info.get("source", {})
    name = str(source.get("video", "array"))
    if name == "array":
        raise UserError("the scene was not made from a file")
    paths = source_paths(source, getattr(scene.rgb, "source", None))
    found = [path for path in paths if path.exists() or matches_of(path)]
    video = open_video(found[0] if found else name)
    if (video.height, video.width) != tuple(scene.source_size):
        raise UserError(f"{name} has frames of another size than the source of the scene")
    return video


def _positions(scene: Scene, video: Video) -> np.ndarray:
    """Positions [time] of the scene's frames in the video: by timestamps or, if these do not match, evenly spaced."""
    time_s, steps = np.asarray(scene.time_s, np.float64), max(len(scene) - 1, 1)
    position = np.searchsorted(video.time_s, time_s - _SAME_TIME_S).clip(0, len(video) - 1)
    if (np.abs(video.time_s[position] - time_s) <= _SAME_TIME_S).all() and _same_picture(scene, video, position):
        return position
    first, last = (scene.info["source"].get(key) for key in ("first_frame", "last_frame"))
    if first is not None and last is not None and last < len(video) and (last - first) % steps == 0:
        position = np.linspace(first, last, len(scene)).round().astype(int)
        if _same_picture(scene, video, position):
            return position
    raise UserError(f"{video.source} is not the video that the scene was made from")


def _same_picture(scene: Scene, video: Video, position: np.ndarray) -> bool:
    """Whether the first frame equals that of the scene within the crop of the network."""
    source, lens = video.frame(int(position[0])), scene.pixel_map.lens
    source = (source if lens is None else undistort_image(source, lens)).astype(np.float32)
    own = np.asarray(scene.rgb[0], np.float32)
    (scale_u, scale_v), (left, top) = scene.pixel_map.scale, scene.pixel_map.offset_px
    size = (round(video.width * scale_u), round(video.height * scale_v))
    resized = cv2.resize(source, size, interpolation=cv2.INTER_AREA)[round(-top) :, round(-left) :]
    if resized.shape[0] < own.shape[0] or resized.shape[1] < own.shape[1]:
        return False
    return float(np.abs(resized[: own.shape[0], : own.shape[1]] - own).mean()) <= _MAX_DIFFERENCE
