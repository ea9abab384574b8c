"""Single frames with exact (rendered) or teacher depth, for monocular depth training.

A rendered shard is one memory-mapped `.npy` file of records (`frame_record`), in `FOLDER/train` or `FOLDER/validation`.
Depth 0 means infinitely far (sky), NaN means unknown.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from st4rtrack.data.augment import jitter_colour
from st4rtrack.data.procedural import ProceduralConfig, render_clips
from st4rtrack.io.files import whole_file
from st4rtrack.types import UserError

HELD_OUT_PICTURES = 128
HELD_OUT_PREFIX = "clip_"
"""Images with this prefix are video frames: their neighbouring frames are trained on, so they are never held out."""


@dataclass(frozen=True)
class DepthFrame:
    """An image with inverse depth of the same field of view; their resolutions may differ."""

    rgb: np.ndarray  # [height, width, 3] uint8
    inverse_depth: np.ndarray  # [rows, columns] float32, 0 for infinitely far, NaN for unknown
    subject: np.ndarray  # [rows, columns] bool, pixels of dynamic objects, people and animals
    scaled: bool  # whether the inverse depth is known up to a scale; otherwise up to a scale and a shift
    focal: float = float("nan")  # focal length divided by the long side of the image, NaN if unknown


class DepthFrameSource(Protocol):
    """Source of depth frames; an index always gives the same frame."""

    def __len__(self) -> int: ...

    def frame(self, index: int) -> DepthFrame:
        """Return frame `index`, 0 <= index < len(self)."""
        ...


class TeacherPictures:
    """Images with a teacher's inverse depth: `FOLDER/pictures/NAME.jpg` with `FOLDER/depth/NAME.npy`.

    Args:
        folder: written by `performance/depth_teacher.py`.
        held_out: select the validation images; otherwise all others.
    """

    def __init__(self, folder: Path, *, held_out: bool) -> None:
        self.folder = folder
        names = sorted(path.stem for path in (folder / "depth").glob("*.npy"))
        chosen = held_out_names(names)
        self.names = [name for name in names if (name in chosen) == held_out]
        if not self.names:
            raise UserError(f"{folder} holds no pictures/NAME.jpg with depth/NAME.npy; run performance/depth_teacher.py first")

    def __len__(self) -> int:
        return len(self.names)

    def frame(self, index: int) -> DepthFrame:
        name = self.names[index]
        image = cv2.imread(str(self.folder / "pictures" / f"{name}.jpg"))
        if image is None:
            raise UserError(f"could not read {self.folder / 'pictures' / f'{name}.jpg'}; run performance/depth_teacher.py again")
        inverse_depth = np.load(self.folder / "depth" / f"{name}.npy").astype(np.float32)
        return DepthFrame(
            np.ascontiguousarray(image[..., ::-1]), inverse_depth, np.zeros(inverse_depth.shape, bool), scaled=False
        )


def held_out_names(names: Sequence[str], count: int = HELD_OUT_PICTURES) -> set[str]:
    """Names of the images held out for validation: those with the smallest SHA-256, at most one in ten."""
    stills = [name for name in names if not name.startswith(HELD_OUT_PREFIX)]
    ranked = sorted(stills, key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    return set(ranked[: min(count, len(stills) // 10 + 1)])


def frame_record(height: int, width: int) -> np.dtype:
    """Record type of a rendered frame: image, z depth in metres, focal length in pixels, pixels of dynamic objects."""
    size = (height, width)
    return np.dtype(
        [("rgb", np.uint8, (*size, 3)), ("depth", np.float16, size), ("focal_px", np.float32), ("subject", np.bool_, size)]
    )


class RenderedFrames:
    """Rendered frames from all shards of `folder`/`part`; part is "train" or "validation"."""

    def __init__(self, folder: Path, part: str = "train") -> None:
        self.shards = sorted((folder / part).glob("*.npy"))
        lengths = [len(np.load(path, mmap_mode="r")) for path in self.shards]
        self.ends = np.cumsum(lengths)
        if not sum(lengths):
            raise UserError(f"{folder / part} holds no rendered frames; give a folder with {part}/*.npy")

    def __len__(self) -> int:
        return int(self.ends[-1])

    def frame(self, index: int) -> DepthFrame:
        shard = int(np.searchsorted(self.ends, index, side="right"))
        row = index - (int(self.ends[shard - 1]) if shard else 0)
        record = np.load(self.shards[shard], mmap_mode="r")[row]
        depth = record["depth"].astype(np.float32)
        inverse_depth = np.divide(1.0, depth, out=depth.copy(), where=depth != 0)
        focal = float(record["focal_px"]) / max(depth.shape)
        return DepthFrame(np.array(record["rgb"]), inverse_depth, np.array(record["subject"]), scaled=True, focal=focal)


def write_records(path: Path, rgb: np.ndarray, depth: np.ndarray, focal_px: np.ndarray, subject: np.ndarray) -> None:
    """Write a shard of rendered frames; arrays [frames, ...], see `frame_record`."""
    records = np.zeros(len(rgb), frame_record(*depth.shape[1:]))
    records["rgb"], records["depth"], records["focal_px"], records["subject"] = rgb, depth, focal_px, subject
    with whole_file(path) as file:
        np.save(file, records)


def write_procedural_frames(
    folder: Path, part: str, count: int, *, seed: int, compile: bool, shard_frames: int = 64, size: tuple[int, int] = (192, 256)
) -> None:
    """Render frames of the procedural world into shards; existing shards are kept. Shard k uses the seed `seed` + k.

    Args:
        folder: the shards are written to its sub-folder `part`.
        part: "train" or "validation".
        count: number of frames, rounded up to a multiple of `shard_frames`.
        seed: seed of the first shard.
        compile: fuse the renderer with `torch.compile`.
        shard_frames: frames per shard, two of each scene.
        size: (height, width).
    """
    config = ProceduralConfig(height=size[0], width=size[1], num_frames=2, compile=compile)
    for number in range(-(-count // shard_frames)):
        path = folder / part / f"procedural_{seed + number}.npy"
        if not path.exists():
            clips = render_clips(shard_frames // 2, config, seed=seed + number)
            focal_px = clips.intrinsics[:, None, 0, 0].expand(-1, 2)
            tensors = (clips.rgb, clips.depth, focal_px, clips.object_index > 0)
            write_records(path, *(tensor.flatten(0, 1).numpy() for tensor in tensors))


@dataclass(frozen=True)
class FrameAugmentation:
    """Augmentation of depth frames; the defaults are those used to train the embedded model."""

    whole: float = 0.3  # probability of taking the largest crop with the aspect ratio of the network input
    min_crop: float = 0.6  # smallest side of the other crops, as a share of the largest crop
    # largest factor by which the crop is stretched in one direction (only where the focal length is unknown)
    aspect: float = 1.15
    mirror: float = 0.5  # probability of a horizontal flip
    colour: float = 0.7  # strength of `jitter_colour`
    # grey, blur, noise, jpeg: probabilities of these degradations
    grey: float = 0.05
    blur: float = 0.15
    noise: float = 0.2
    jpeg: float = 0.2


def augment_frame(frame: DepthFrame, size: tuple[int, int], rng: np.random.Generator, config: FrameAugmentation) -> DepthFrame:
    """Take a random crop of a frame at the network size (height, width) and jitter its colours."""
    share, place = float(np.sqrt(rng.uniform(config.min_crop**2, 1))), rng.random(2)
    if rng.random() < config.whole:
        share = 1.0
    stretch = config.aspect ** rng.uniform(-1, 1) if np.isnan(frame.focal) else 1.0
    mirrored = rng.random() < config.mirror
    frame = crop_frame(frame, size, share=share, place=(place[0], place[1]), stretch=stretch)
    if mirrored:
        frame = replace(frame, **{name: getattr(frame, name)[:, ::-1] for name in ("rgb", "inverse_depth", "subject")})
    return replace(frame, rgb=vary_pixels(np.ascontiguousarray(frame.rgb), rng, config))


def crop_frame(
    frame: DepthFrame, size: tuple[int, int], *, share: float = 1.0, place: tuple[float, float] = (0.5, 0.5), stretch: float = 1.0
) -> DepthFrame:
    """Crop a frame to the aspect ratio of `size` (height, width) and resize it.

    Args:
        share: size of the crop relative to the largest possible one.
        place: position of the crop in the frame, vertical and horizontal, 0 to 1.
        stretch: factor by which the result is stretched horizontally.
    """
    height, width = frame.rgb.shape[:2]
    aspect = size[1] / size[0] / stretch
    crop_height = share * min(height, width / aspect)
    crop = (crop_height / height, crop_height * aspect / width)
    start = (place[0] * (1 - crop[0]), place[1] * (1 - crop[1]))
    rgb = _resample(frame.rgb, start, crop, size, smooth=True)
    inverse_depth = _resample(frame.inverse_depth, start, crop, size, smooth=not frame.scaled)
    subject = _resample(frame.subject.astype(np.uint8), start, crop, size, smooth=False).astype(bool)
    focal = frame.focal * max(height, width) / max(crop_height, crop_height * aspect)
    return replace(frame, rgb=rgb, inverse_depth=inverse_depth, subject=subject, focal=focal)


def _resample(
    image: np.ndarray, start: tuple[float, float], crop: tuple[float, float], size: tuple[int, int], *, smooth: bool
) -> np.ndarray:
    """Crop and resize; `start` and `crop` are relative to its sides, rounded to whole pixels (error at most half a pixel)."""
    rows, columns = (
        slice(round(s * n), max(round((s + c) * n), round(s * n) + 1))
        for s, c, n in zip(start, crop, image.shape[:2], strict=True)
    )
    part = np.ascontiguousarray(image[rows, columns])
    shrinks = part.shape[0] > size[0]
    interpolation = (cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR) if smooth else cv2.INTER_NEAREST
    return cv2.resize(part, (size[1], size[0]), interpolation=interpolation)


def vary_pixels(rgb: np.ndarray, rng: np.random.Generator, config: FrameAugmentation) -> np.ndarray:
    """Jitter the colours of an image [height, width, 3] uint8 and degrade it at random."""
    grey, blur, noise, jpeg = rng.random(4) < (config.grey, config.blur, config.noise, config.jpeg)
    if config.colour:
        rgb = jitter_colour(rgb, config.colour, rng)
    if grey:
        rgb = np.repeat(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=-1)
    if blur:
        rgb = cv2.GaussianBlur(rgb, (0, 0), rng.uniform(0.4, 1.5))
    if noise:
        grain = rng.normal(0, rng.uniform(1, 10), rgb.shape)
        rgb = np.clip(rgb + grain, 0, 255).astype(np.uint8)
    if jpeg:
        encoded = cv2.imencode(".jpg", rgb, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(30, 90))])[1]
        rgb = np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR))
    return rgb
