"""Frames per second and processor time from a video file to a scene on disk with the embedded model.

    python performance/end_to_end.py --rounds 3 --baseline 0e6ca57

Every run is a process of its own; those of the baseline commit, from a git worktree, and of this tree alternate. The first frames
warm up. Where the time goes says `st4rtrack doctor --benchmark`.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

from baseline import add_options, compare, table


def write_clip(path: Path, frames: int, height: int, width: int) -> None:
    """A rendered room with moving objects, back and forth."""
    from st4rtrack.data.procedural import ProceduralConfig, procedural_clip
    from st4rtrack.io.video import write_video

    config = ProceduralConfig(height, width, 16, setting="room", camera="orbit", camera_motion=2.0, moving_share=0.7)
    clip = procedural_clip(23, config).rgb
    order = [*range(len(clip)), *range(len(clip) - 2, 0, -1)]
    write_video(path, (clip[order[k % len(order)]] for k in range(frames)), fps=12)


def measure(video: Path) -> dict[str, float]:
    """Figures of one run in this process."""
    begun, begun_cpu = time.perf_counter(), time.process_time()
    import st4rtrack

    model = st4rtrack.load_model()
    with tempfile.TemporaryDirectory() as folder:
        st4rtrack.reconstruct(str(video), model=model, output=f"{folder}/warm", stop=4)
        start, start_cpu = time.perf_counter(), time.process_time()
        scene = st4rtrack.reconstruct(str(video), model=model, output=f"{folder}/scene")
    wall, cpu, frames = time.perf_counter() - start, time.process_time() - start_cpu, len(scene.time_s)
    return {
        "frames per second": frames / wall,
        "processor time per frame [ms]": 1000 * cpu / frames,
        "start with 4 frames [s]": start - begun,
        "start with 4 frames, processor time [s]": start_cpu - begun_cpu,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    parser.add_argument("--frames", type=int, default=96)
    parser.add_argument("--size", type=int, nargs=2, default=[288, 512], metavar=("HEIGHT", "WIDTH"), help="of the clip")
    parser.add_argument("--video", type=Path, help="instead of the rendered clip")
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measure(options.child)))
        return
    from machine import machine

    with tempfile.TemporaryDirectory() as folder:
        video = options.video or Path(folder) / "clip.mp4"
        if options.video is None:
            write_clip(video, options.frames, *options.size)
        found = compare(__file__, video.resolve(), options)
    print(f"{machine()}; {video.name}, {options.threads} threads, medians of {options.rounds} interleaved rounds\n")
    print(table(found))


if __name__ == "__main__":
    main()
