"""Rendered clips with pixel tracks of anchor points, for training the matching head.

python -m st4rtrack.data.pair_records procedural -o DIR --count 4096 --seed 0        # resumable; one core
python -m st4rtrack.data.pair_records world -o DIR --count 2048 --seed 0 --pictures PHOTOS

A clip is one file `FOLDER/train/KIND-SEED-NNNNN.npz` (half a megabyte), or one in `FOLDER/validation`.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from st4rtrack.data.procedural import ProceduralClip, ProceduralConfig, procedural_clip
from st4rtrack.geometry.camera import pixel_grid, project_world
from st4rtrack.io.files import whole_file
from st4rtrack.types import UserError

if TYPE_CHECKING:
    from st4rtrack.data.world.clips import WorldClip

log = logging.getLogger(__name__)

FRAMES = 8
LONGEST_GAP = 63
"""Frames are chosen from this number of frame intervals."""
STRIDE = 2
FAR_PX = 1000.0
"""Positions are clipped to this; points behind a camera are at minus this."""
NEAR_M = 0.01
MIN_DYNAMIC = 0.01
"""Minimum share of dynamic points; another scene takes the place of a clip with fewer."""
TRIES = 20
NEXT_TRY = 1_000_000
VALIDATION_SEED = 9_700_000
"""Offset of the seeds of procedural validation clips."""


@dataclass(frozen=True)
class TrackedClip:
    """Clip with pixel tracks of anchor points on a grid of stride 2; frame 0 is the anchor, the other frames are in order."""

    rgb: np.ndarray  # [frames, height, width, 3] uint8
    pixels: np.ndarray  # [frames, rows, columns, 2] positions of the points in every frame
    log_depth_ratio: np.ndarray  # [frames, rows, columns] log of the depth in a frame over that in the anchor
    visible: np.ndarray  # [frames, rows, columns] bool, in view and not occluded
    dynamic: np.ndarray  # [rows, columns] bool
    valid: np.ndarray  # [rows, columns] bool, false for sky

    @property
    def anchor_pixels(self) -> np.ndarray:
        """Pixels [rows, columns, 2] of the points in the anchor."""
        return pixel_grid(*self.rgb.shape[1:3])[1::STRIDE, 1::STRIDE].astype(np.float32)


def draw_gaps(rng: np.random.Generator) -> np.ndarray:
    """Draw `FRAMES` increasing times: 0, 1, then up to `LONGEST_GAP`, log-uniform."""
    gaps = {0, 1}
    while len(gaps) < FRAMES:
        gaps.add(round(np.exp(rng.uniform(0, np.log(LONGEST_GAP)))))
    return np.array(sorted(gaps))


def draw_order(rng: np.random.Generator) -> np.ndarray:
    """Draw the anchor, the first frame or one during the motion; indices of the frames, the anchor first."""
    anchor = int(rng.choice([0, 0, 0, 1, 2, 3, 4]))
    return np.r_[anchor, np.delete(np.arange(FRAMES), anchor)]


def draw_world_times(rng: np.random.Generator, seconds: float) -> np.ndarray:
    """Draw the times of a clip of the rendered world (`WorldClips.times`)."""
    times = draw_gaps(rng) / rng.uniform(8, 20)
    times *= min(1, seconds / times[-1])
    times += rng.uniform(0, max(seconds - times[-1], 0.05))
    return (times[::-1] if rng.random() < 0.3 else times)[draw_order(rng)]


def track_pixels(clip: "ProceduralClip | WorldClip", order: np.ndarray | None = None) -> TrackedClip:
    """Project the tracks of a clip; its frames are reordered, the anchor first."""
    arrays = (clip.rgb, clip.intrinsics, clip.world_from_camera, clip.tracking_points_world, clip.visible)
    rgb, intrinsics, cameras, points, visible = arrays if order is None else (array[order] for array in arrays)
    assert clip.moving is not None
    grid = (slice(1, None, STRIDE),) * 2
    valid = clip.tracking_valid[0]
    points = points[:, *grid]
    pixels, depth = project_world(points.reshape(len(points), -1, 3), cameras, intrinsics)
    depth = np.maximum(depth, NEAR_M).reshape(points.shape[:3])
    return TrackedClip(
        rgb=rgb,
        pixels=np.clip(np.nan_to_num(pixels, nan=-FAR_PX), -FAR_PX, FAR_PX).reshape(*points.shape[:3], 2).astype(np.float32),
        log_depth_ratio=np.log(depth / depth[:1]).astype(np.float32),
        visible=visible[:, *grid],
        dynamic=(clip.moving & valid)[grid],
        valid=valid[grid],
    )


def procedural_tracks(seed: int, number: int, *, size: tuple[int, int], compile: bool = False) -> TrackedClip:
    """Render clip `number` of a seed of the procedural world."""
    rng = np.random.default_rng((seed, number))
    config = ProceduralConfig(
        height=size[0],
        width=size[1],
        num_frames=FRAMES,
        times=tuple((draw_gaps(rng) / LONGEST_GAP).tolist()),
        falling_share=float(rng.choice([0, 0.8, 0.8])),
        motion=rng.uniform(0.3, 1.2),
        camera_motion=rng.uniform(0.3, 1.1),
        max_parts=int(rng.choice([12, 16, 20])),
        min_fov_deg=40,
        max_fov_deg=85,
        jpeg=0.3,
        noise=rng.uniform(0, 1),
        blur=rng.uniform(0, 1),
        compile=compile,
    )
    order = draw_order(rng)
    return track_pixels(procedural_clip(seed, config, anchor=int(order[0]), number=number), order)


def _renderer(
    kind: str, part: str, seed: int, size: tuple[int, int], *, pictures: Path | None, compile: bool
) -> Callable[[int], TrackedClip]:
    """Function that renders a clip by its number."""
    if kind == "procedural":
        return partial(procedural_tracks, seed + VALIDATION_SEED * (part == "validation"), size=size, compile=compile)
    from st4rtrack.data.world.assets import open_assets
    from st4rtrack.data.world.clips import WorldClips

    assets = open_assets()
    source = WorldClips(size=size, seed=seed, split=part, pictures=pictures, per_scene=2, times=draw_world_times)
    return lambda number: track_pixels(source.clip(number, assets))


def write_clips(
    folder: Path,
    kind: str,
    part: str,
    count: int,
    *,
    seed: int,
    size: tuple[int, int] = (192, 256),
    pictures: Path | None = None,
    compile: bool = False,
) -> None:
    """Render clips; existing files are kept.

    Args:
        folder: the clips are written to its sub-folder `part`.
        kind: "procedural" or "world".
        part: "train" or "validation"; they have disjoint scenes.
        count, seed: number of clips, and seed of all.
        size: (height, width).
        pictures: folder of photographs for surfaces of the rendered world.
        compile: fuse the procedural renderer with `torch.compile`.
    """
    render = None
    for number in range(count):
        path = folder / part / f"{kind}-{seed}-{number:05d}.npz"
        if path.exists():
            continue
        render = render or _renderer(kind, part, seed, size, pictures=pictures, compile=compile)
        for attempt in range(TRIES):
            clip = render(number + attempt * NEXT_TRY)
            if clip.dynamic.mean() >= MIN_DYNAMIC:
                break
        save_clip(path, clip)
        log.info("%s", path)


def save_clip(path: Path, clip: TrackedClip) -> None:
    """Save a clip: JPEG images, positions and depth ratios in half precision."""
    encoded = [cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])[1].ravel() for image in clip.rgb]
    with whole_file(path) as file:
        np.savez_compressed(
            file,
            jpeg=np.concatenate(encoded),
            jpeg_end=np.cumsum([len(data) for data in encoded]),
            pixels=clip.pixels.astype(np.float16),
            log_depth_ratio=clip.log_depth_ratio.astype(np.float16),
            visible=np.packbits(clip.visible, axis=-1),
            dynamic=clip.dynamic,
            valid=clip.valid,
        )


class TrackedClips:
    """Clips of `folder`/`part` written by `write_clips`; part is "train" or "validation"."""

    def __init__(self, folder: Path, part: str) -> None:
        self.paths = sorted((folder / part).glob("*.npz"))
        if not self.paths:
            raise UserError(f"{folder / part} holds no clips; render them with python -m st4rtrack.data.pair_records")

    def __len__(self) -> int:
        return len(self.paths)

    def clip(self, index: int) -> TrackedClip:
        """Load clip `index`, 0 <= index < len(self)."""
        path = self.paths[index]
        try:
            with np.load(path) as file:
                arrays = {name: file[name] for name in file.files}
            ends = arrays["jpeg_end"]
            images = [cv2.imdecode(data, cv2.IMREAD_COLOR) for data in np.split(arrays["jpeg"], ends[:-1])]
            valid = arrays["valid"]
            return TrackedClip(
                rgb=np.ascontiguousarray(np.stack([np.asarray(image) for image in images])[..., ::-1]),
                pixels=arrays["pixels"].astype(np.float32),
                log_depth_ratio=arrays["log_depth_ratio"].astype(np.float32),
                visible=np.unpackbits(arrays["visible"], axis=-1, count=valid.shape[1]).astype(bool),
                dynamic=arrays["dynamic"],
                valid=valid,
            )
        except Exception as error:  # zip, zlib, OpenCV and shape errors of a damaged file
            raise UserError(f"could not read {path}: {error}; remove it, and render it again") from None


def main() -> None:
    """Entry point of the command line."""
    from st4rtrack.data.world.frames import rendering_parser

    parser = rendering_parser(str(__doc__).splitlines()[0], "clips", 2048)
    parser.add_argument("kind", choices=("procedural", "world"), help="Procedural world, or world of real objects")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    size = (options.height, options.width)
    try:
        write_clips(
            options.o, options.kind, options.split, options.count, seed=options.seed, size=size, pictures=options.pictures
        )
    except UserError as error:
        parser.exit(2, f"{error}\n")


if __name__ == "__main__":
    main()
