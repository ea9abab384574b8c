"""Peak memory of whole runs of different lengths, each in a process of its own: `python performance/memory.py`."""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from machine import machine
from peak import peak_mib

from st4rtrack.data.procedural import ProceduralConfig, procedural_clip
from st4rtrack.io.video import write_video


def run_once(video: str, frames: int) -> None:
    """Reconstructs the first frames of a video to disk and prints the peak of resident memory in MiB."""
    import st4rtrack

    with tempfile.TemporaryDirectory() as folder:
        st4rtrack.reconstruct(video, output=Path(folder) / "scene", stop=frames)
    print(peak_mib())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, nargs="+", default=[50, 400])
    parser.add_argument("--child", nargs=2, metavar=("VIDEO", "FRAMES"))
    options = parser.parse_args()
    if options.child:
        run_once(options.child[0], int(options.child[1]))
        return
    print(f"{machine()}; embedded model, 512x288 video, scene streamed to disk\n")
    print("| frames | peak memory, MiB | against the shortest |\n|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        video = Path(folder) / "walk.mp4"
        clip = procedural_clip(0, ProceduralConfig(height=288, width=512, num_frames=25)).rgb
        write_video(video, (clip[k % len(clip)] for k in range(max(options.frames))), fps=30)
        first = None
        for frames in sorted(options.frames):
            command = [sys.executable, __file__, "--child", str(video), str(frames)]
            peak = float(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])
            first = first or peak
            print(f"| {frames} | {peak:.0f} | {peak / first:.3f} |", flush=True)


if __name__ == "__main__":
    main()
