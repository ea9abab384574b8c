"""A short clip to try things on: a procedural scene written as a video. `python -m st4rtrack.data.demo_clip OUT.mp4`"""

import sys
from pathlib import Path

from st4rtrack.data.procedural import ProceduralConfig, procedural_clip
from st4rtrack.io.video import write_video

SEED = 23
FRAMES = 24
RATE = 12.0


def write_demo_clip(path: Path) -> None:
    """Renders 24 frames at 512x384 to a video file: a room with things that move, an orbiting camera."""
    path.parent.mkdir(parents=True, exist_ok=True)
    config = ProceduralConfig(384, 512, FRAMES, setting="room", camera="orbit", camera_motion=2.0, moving_share=0.7)
    clip = procedural_clip(SEED, config)
    write_video(path, iter(clip.rgb), fps=RATE)


if __name__ == "__main__":
    write_demo_clip(Path(sys.argv[1]))
