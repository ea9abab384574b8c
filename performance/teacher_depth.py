"""Inverse depth of videos by an ONNX teacher, for `--depth-prior`: `python performance/teacher_depth.py VIDEO... --teacher ONNX -o DIR`.

Writes DIR/NAME.npz with `inverse_depth` [frames, h, w] float16, up to scale and shift, of every frame of the source, so that any selection
of frames can use it: `st4rtrack run VIDEO --depth-prior DIR/NAME.npz`, `st4rtrack batch VIDEO... --depth-prior 'DIR/{name}.npz'`.
`--score` prints, for WorldTrack sequences with depth, AbsRel and the share within 1.25 after one scale and one shift per frame in inverse
depth, and AbsRel after one scale per sequence.
"""

import argparse
from pathlib import Path

import cv2
import numpy as np
from depth_teacher import open_teacher, teacher_inverse_depth
from monocular import scores

from st4rtrack.hints.depth_prior.open import open_depth_prior
from st4rtrack.io.files import whole_file
from st4rtrack.io.video import open_video
from st4rtrack.io.worldtrack import read_worldtrack
from st4rtrack.metrics.depth import RelativeDepth

LONG_SIDE = 320
"""Of the maps: that of the teacher."""
SMALLEST = 1e-3
"""Smallest inverse depth as a share of the frame's largest: files mark unknown depth by 0."""


def write_inverse_depth(teacher: Path, video: Path, path: Path) -> None:
    """Writes the inverse depth of all frames of a video."""
    session, opened = open_teacher(teacher), open_video(video)
    scale = min(1, LONG_SIDE / max(opened.height, opened.width))
    size = (round(opened.width * scale), round(opened.height * scale))
    frames = []
    for rgb in opened.frames():
        inverse = cv2.resize(teacher_inverse_depth(session, rgb), size)
        frames.append(np.maximum(inverse / inverse.max(), SMALLEST).astype(np.float16))
    with whole_file(path) as file:
        np.savez_compressed(file, inverse_depth=np.stack(frames))


def score(path: Path, prior_path: Path) -> str:
    """A row of the table: AbsRel and share within 1.25 (scale and shift per frame), AbsRel (one scale)."""
    sequence = read_worldtrack(path, name=path.stem)
    prior = open_depth_prior(str(prior_path), sequence.video)
    assert prior is not None
    rows, one_scale = [], RelativeDepth()
    for index, (rgb, depth) in enumerate(zip(sequence.video.frames(), sequence.read_depth(), strict=True)):
        known = np.isfinite(depth) & (depth > 0)
        if known.any():
            inverse = cv2.resize(prior(rgb, index).values, depth.shape[::-1])
            rows.append(scores(inverse, np.where(known, depth, 1), fit=known, count=known, shift=True))
            one_scale.add(1 / inverse, depth)
    relative, within = np.mean(rows, axis=0)
    return f"| {sequence.name} | {relative:.3f} | {within:.1f} % | {one_scale.result().abs_rel:.3f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", type=Path, nargs="+")
    parser.add_argument("--teacher", type=Path, required=True, help="ONNX file")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument(
        "--score", action="store_true", help="the videos are WorldTrack sequences with depth: print a row of scores each"
    )
    options = parser.parse_args()
    for video in options.videos:
        path = options.output / f"{open_video(video).name}.npz"
        if not path.exists():
            write_inverse_depth(options.teacher, video, path)
        print(score(video, path) if options.score else path, flush=True)


if __name__ == "__main__":
    main()
