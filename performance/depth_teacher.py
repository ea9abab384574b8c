"""Depth targets from an ONNX teacher, cached for `st4rtrack train mono`: `python performance/depth_teacher.py --help`.

The result is a folder with `pictures/NAME.jpg` and `depth/NAME.npy` (inverse depth up to scale and shift, [192, 320] float16, of the
picture stretched to that size). Only rows of the indexes whose licence permits training are taken (column `train`).
"""

import argparse
import csv
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

HELD_OUT_CLIPS = ("sam2_coffee", "mmaction_test", "intel_car", "metaext_515")
"""Clips, and later parts of the same video (`_b`), that no weights are trained on."""
FRAME_STEP = 6


def open_teacher(path: Path) -> Any:
    """An ONNX Runtime session on one thread."""
    import onnxruntime  # pyright: ignore[reportMissingImports] (pip install onnxruntime: no extra of the package needs it)

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def teacher_inverse_depth(session: Any, rgb: np.ndarray) -> np.ndarray:
    """Inverse depth up to scale and shift [192, 320] of a picture [height, width, 3], the mean over the picture and its mirror image."""
    height, width = session.get_inputs()[0].shape[2:]
    interpolation = cv2.INTER_AREA if rgb.shape[1] > width else cv2.INTER_CUBIC
    stretched = cv2.resize(rgb, (width, height), interpolation=interpolation).astype(np.float32)
    plain, mirrored = (_predict(session, image) for image in (stretched, stretched[:, ::-1]))
    mirrored = mirrored[:, ::-1]
    scale, shift = np.polyfit(mirrored.ravel(), plain.ravel(), 1)  # each prediction has its own scale and shift
    return (plain + scale * mirrored + shift) / 2


def _predict(session: Any, image: np.ndarray) -> np.ndarray:
    return session.run(None, {"input": np.ascontiguousarray(image.transpose(2, 0, 1))[None]})[0][0, 0]


def rows(index: Path) -> list[dict[str, str]]:
    """Rows of an index whose licence permits training of weights that are shipped."""
    with index.open(newline="") as file:
        return [row for row in csv.DictReader(file) if row["train"] == "yes"]


def clip_frames(real: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Every sixth frame of the clips that are not held out."""
    for row in rows(real / "index_clips.csv"):
        name = Path(row["file"]).stem
        if name.removesuffix("_b") in HELD_OUT_CLIPS:
            continue
        with av.open(str(real / row["folder"] / row["file"])) as container:
            for number, frame in enumerate(container.decode(video=0)):
                if number % FRAME_STEP == 0:
                    yield f"clip_{name}_{number:04d}", frame.to_ndarray(format="rgb24")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--real", type=Path, required=True, help="folder with images/, clips/ and their indexes")
    parser.add_argument("--teacher", type=Path, required=True, help="ONNX file")
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    session = open_teacher(options.teacher)
    pictures, depths = options.output / "pictures", options.output / "depth"
    for folder in (pictures, depths):
        folder.mkdir(parents=True, exist_ok=True)
    for row in rows(options.real / "index_images.csv"):
        if row["file"].startswith("clipframe"):  # frames of the clips, which are read below
            continue
        shutil.copyfile(options.real / row["folder"] / row["file"], pictures / row["file"])
    for name, rgb in clip_frames(options.real):
        cv2.imwrite(str(pictures / f"{name}.jpg"), rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])
    for number, path in enumerate(sorted(pictures.glob("*.jpg"))):
        target = depths / f"{path.stem}.npy"
        if not target.exists():
            rgb = np.ascontiguousarray(np.asarray(cv2.imread(str(path)))[..., ::-1])
            np.save(target, teacher_inverse_depth(session, rgb).astype(np.float16))
        if number % 500 == 0:
            print(number, path.name, flush=True)


if __name__ == "__main__":
    main()
