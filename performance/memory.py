"""Peak memory and pace of whole runs of different lengths, each in a process of its own: `python performance/memory.py`.

    python performance/memory.py --frames 64 10000 --size 96 128 --network 128       # a long video in a quarter of an hour

Pace: processor seconds per frame in the second and in the last tenth of the run, which other work on the machine disturbs less than
the clock's.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from machine import machine
from peak import peak_mib

from st4rtrack.data.procedural import ProceduralConfig, procedural_clip
from st4rtrack.io.video import write_video


def run_once(video: str, frames: int, network: int | None) -> None:
    """Reconstructs the first frames of a video to disk; prints peak memory in MiB and both paces in seconds per frame."""
    import st4rtrack

    clock = []
    with tempfile.TemporaryDirectory() as folder:
        st4rtrack.reconstruct(
            video,
            output=Path(folder) / "scene",
            stop=frames,
            size=network,
            progress=lambda done, _: clock.append(time.process_time()),
        )
    tenth = len(clock) // 10
    early, late = (clock[2 * tenth] - clock[tenth]) / tenth, (clock[-1] - clock[-1 - tenth]) / tenth
    print(peak_mib(), early, late)


def write_walk(path: Path, height: int, width: int, frames: int) -> None:
    """A video of any length: a rendered walk, forth and back."""
    clip = procedural_clip(0, ProceduralConfig(height=height, width=width, num_frames=25)).rgb
    way = [*range(len(clip)), *range(len(clip) - 2, 0, -1)]
    write_video(path, (clip[way[k % len(way)]] for k in range(frames)), fps=30)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, nargs="+", default=[50, 400])
    parser.add_argument("--size", type=int, nargs=2, default=[288, 512], metavar=("HEIGHT", "WIDTH"), help="of the video")
    parser.add_argument("--network", type=int, help="long side at the network; default the model's own")
    parser.add_argument("--child", nargs=2, metavar=("VIDEO", "FRAMES"))
    options = parser.parse_args()
    if options.child:
        run_once(options.child[0], int(options.child[1]), options.network)
        return
    height, width = options.size
    network = [] if options.network is None else ["--network", str(options.network)]
    side = "its own long side" if options.network is None else f"a long side of {options.network} pixels"
    print(f"{machine()}; embedded model at {side}, {width}x{height} video, scene streamed to disk\n")
    print("| frames | peak memory, MiB | against the shortest | pace at the end against the start |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        video = Path(folder) / "walk.mp4"
        write_walk(video, height, width, max(options.frames))
        first = None
        for frames in sorted(options.frames):
            command = [sys.executable, __file__, "--child", str(video), str(frames), *network]
            said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
            peak, early, late = map(float, said[-3:])
            first = first or peak
            print(f"| {frames} | {peak:.0f} | {peak / first:.3f} | {early / late:.2f} |", flush=True)


if __name__ == "__main__":
    main()
