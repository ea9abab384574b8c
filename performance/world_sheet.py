"""Contact sheets of the rendered world, next to photographs: `python performance/world_sheet.py OUT.jpg`."""

import argparse
from pathlib import Path

import cv2
import numpy as np

from st4rtrack.data.world.clips import WorldClips
from st4rtrack.data.world.frames import Frame, find_pictures, frames
from st4rtrack.types import UserError

COLUMNS = 8


def depth_picture(depth: np.ndarray, mark: np.ndarray | None = None) -> np.ndarray:
    """Colour-coded inverse depth [H, W] as RGB; black where unknown, green where `mark`."""
    inverse = np.where(depth > 0, 1 / np.maximum(depth, 1e-6), 0)
    level = np.clip(inverse / max(float(np.quantile(inverse, 0.98)), 1e-6), 0, 1)
    picture = np.ascontiguousarray(cv2.applyColorMap((level * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1])
    if mark is not None:
        picture[mark] = picture[mark] // 2 + np.array([0, 110, 0], np.uint8)
    return picture


def grid(pictures: list[np.ndarray], columns: int = COLUMNS) -> np.ndarray:
    """Arrange images of one size in rows."""
    pictures = pictures + [np.zeros_like(pictures[0])] * (-len(pictures) % columns)
    return np.vstack([np.hstack(pictures[k : k + columns]) for k in range(0, len(pictures), columns)])


def photographs(folder: Path, count: int, size: tuple[int, int], seed: int) -> list[np.ndarray]:
    """Read photographs of a folder, cropped to one size."""
    files = find_pictures(folder, "train")
    chosen = np.random.default_rng(seed).permutation(len(files))[:count]
    pictures = []
    for k in chosen:
        image = cv2.imread(str(files[int(k)]), cv2.IMREAD_COLOR)
        assert image is not None, files[int(k)]
        scale = max(size[0] / image.shape[0], size[1] / image.shape[1])
        image = cv2.resize(
            image, (round(image.shape[1] * scale + 0.5), round(image.shape[0] * scale + 0.5)), interpolation=cv2.INTER_AREA
        )
        pictures.append(np.ascontiguousarray(image[: size[0], : size[1], ::-1]))
    return pictures


def draw_sheet(rows: int, seed: int, split: str, size: tuple[int, int], pictures: Path | None, clips: bool) -> np.ndarray:
    """Draw rows of frames, each above its depth with subjects in green; photographs, if any, follow below."""
    if clips:
        shown = []
        for k in range(rows):
            clip = WorldClips(COLUMNS, size, seed, split, pictures=pictures).clip(k)
            shown += [Frame(*row) for row in zip(clip.rgb, clip.depth, clip.intrinsics[:, 0, 0].tolist(), clip.dynamic)]
    else:
        source = frames(seed, split, size, pictures=pictures, views=1)
        shown = [next(source) for _ in range(rows * COLUMNS)]
    strips = []
    for k in range(rows):
        part = shown[k * COLUMNS : (k + 1) * COLUMNS]
        strips += [
            np.hstack([frame.rgb for frame in part]),
            np.hstack([depth_picture(frame.depth, frame.subject) for frame in part]),
        ]
    if pictures is not None and not clips:
        strips.append(grid(photographs(pictures, rows * COLUMNS, size, seed)))
    return np.vstack(strips)


def main() -> None:
    """Entry point of the command line."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("output", type=Path, help="Image to write")
    parser.add_argument("--rows", type=int, default=4, help="Rows of 8 [%(default)s]")
    parser.add_argument("--seed", type=int, default=0, help="Random seed [%(default)s]")
    parser.add_argument("--split", default="train", choices=("train", "validation"), help="Models to use [%(default)s]")
    parser.add_argument("--pictures", type=Path, default=None, help="Folder of photographs for surfaces, shown below [none]")
    parser.add_argument("--clips", action="store_true", help="One clip per row, moving pixels in green")
    options = parser.parse_args()
    try:
        sheet = draw_sheet(options.rows, options.seed, options.split, (192, 256), options.pictures, options.clips)
    except UserError as error:
        parser.exit(2, f"{error}\n")
    options.output.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(options.output), sheet[..., ::-1])


if __name__ == "__main__":
    main()
