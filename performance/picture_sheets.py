"""Pictures with their predicted depth, for grading by eye: `python performance/picture_sheets.py FOLDER -o SHEETS [--count 140]`.

Pictures are drawn at random by a seed from all images of FOLDER whose names begin with one of --prefixes. Near is bright.
"""

import argparse
from pathlib import Path

import cv2
import numpy as np

from st4rtrack.hints.depth_prior.networks import BuiltinPrior
from st4rtrack.model.checkpoint import load_model
from st4rtrack.render.draw import DEPTH_MAP, map_colours, robust_range

SIZE = (192, 256)
ROWS, COLUMNS = 5, 2


def panel(path: Path, number: int, prior: BuiltinPrior) -> np.ndarray:
    """Picture and inverse depth beside each other, each fitted into `SIZE`, with the number of the picture."""
    image = np.asarray(cv2.imread(str(path)))
    scale = min(SIZE[0] / image.shape[0], SIZE[1] / image.shape[1])
    height, width = (max(16, round(side * scale / 16) * 16) for side in image.shape[:2])
    rgb = np.ascontiguousarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)[..., ::-1])
    inverse = 1 / prior(rgb, 0).values
    page = np.full((SIZE[0] + 8, 2 * SIZE[1] + 16, 3), 255, np.uint8)
    for column, picture in enumerate((rgb, map_colours(inverse, robust_range(inverse), DEPTH_MAP))):
        page[:height, column * (SIZE[1] + 4) :][:, :width] = picture
    cv2.putText(page, str(number), (4, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (0, 0, 0), 4)
    cv2.putText(page, str(number), (4, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (255, 255, 0), 2)
    return page


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--count", type=int, default=140)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--prefixes", nargs="*", default=[""])
    parser.add_argument("--model", default=None)
    options = parser.parse_args()
    prior = BuiltinPrior(load_model(options.model, device="cpu").monocular_network())
    paths = sorted(path for path in options.folder.rglob("*.jpg") if path.name.startswith(tuple(options.prefixes)))
    chosen = np.random.default_rng(options.seed).permutation(len(paths))[: options.count]
    panels = [panel(paths[index], number, prior) for number, index in enumerate(chosen)]
    options.output.mkdir(parents=True, exist_ok=True)
    for start in range(0, len(panels), ROWS * COLUMNS):
        part = panels[start : start + ROWS * COLUMNS]
        part += [np.full_like(part[0], 255)] * (ROWS * COLUMNS - len(part))
        sheet = np.concatenate([np.concatenate(part[k::ROWS], axis=1) for k in range(ROWS)])
        cv2.imwrite(str(options.output / f"sheet_{start // (ROWS * COLUMNS):02d}.png"), sheet[..., ::-1])
    (options.output / "pictures.txt").write_text("\n".join(f"{n} {paths[i]}" for n, i in enumerate(chosen)) + "\n")


if __name__ == "__main__":
    main()
