"""Frames per second of everything but the network, from a video file to a scene on disk: `python performance/stubbed_network.py`.

The released architecture at 512x288 without hints. Its answers are precomputed: ground-truth pointmaps of a rendered clip with
noise. What remains is decoding, resizing, checks, smoothing, cameras by PnP, visibility, quality, dynamic objects, and writing.

    python performance/stubbed_network.py --rounds 3 --baseline COMMIT [--threads 1]
"""

import argparse
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from baseline import add_options, compare, table

HEIGHT, WIDTH, RENDERED = 288, 512, 12
NOISE = 0.005
"""Relative noise of the pointmaps, constant over squares of 8 pixels."""
STAGES = ("read", "resize", "geometry", "points", "refinement", "cameras", "visibility", "motion", "write", "rest")


def write_inputs(folder: Path, frames: int) -> None:
    """Write the clip, back and forth, and its pointmaps."""
    from st4rtrack.data.procedural import ProceduralConfig, procedural_clip
    from st4rtrack.geometry.camera import pixel_grid, unproject
    from st4rtrack.geometry.transforms import transform_points
    from st4rtrack.io.video import write_video

    config = ProceduralConfig(
        HEIGHT // 2, WIDTH // 2, RENDERED, setting="room", camera="orbit", camera_motion=2.0, moving_share=0.7
    )
    clip = procedural_clip(23, config)  # half the size, enlarged: rendering takes a second per frame
    rgb = np.stack([cv2.resize(image, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC) for image in clip.rgb])
    order = [*range(RENDERED), *range(RENDERED - 2, 0, -1)]
    write_video(folder / "clip.mp4", (rgb[order[k % len(order)]] for k in range(frames)), fps=12)
    grid = pixel_grid(HEIGHT // 2, WIDTH // 2).reshape(-1, 2)
    points = [
        transform_points(camera, unproject(grid, np.where(depth > 0, depth, 20.0).ravel(), intrinsics))
        for depth, camera, intrinsics in zip(clip.depth, clip.world_from_camera, clip.intrinsics, strict=True)
    ]
    maps = np.stack([np.nan_to_num(clip.tracking_points_world), np.reshape(points, clip.tracking_points_world.shape)])
    maps = np.stack([[cv2.resize(each, (WIDTH, HEIGHT)) for each in branch] for branch in maps.astype(np.float32)])
    random = np.random.default_rng(0)
    noise = random.normal(1, NOISE, (2, RENDERED, HEIGHT // 8, WIDTH // 8, 1)).repeat(8, 2).repeat(8, 3)
    confidence = 1 + 5 * random.random((2, RENDERED, HEIGHT // 8, WIDTH // 8)).repeat(8, 2).repeat(8, 3)
    np.savez(folder / "maps.npz", maps=(maps * noise).astype(np.float32), confidence=confidence.astype(np.float32), rgb=rgb)


def stubbed_model(path: Path) -> Any:
    """A network of the released kind that answers with the pointmaps of the most similar image in a file."""
    import torch
    from torch.nn import functional as F

    from st4rtrack.model.config import ModelConfig
    from st4rtrack.model.encoder import Tokens
    from st4rtrack.model.network import St4RTrack
    from st4rtrack.preprocess import normalize_images
    from st4rtrack.types import Pointmap, TwoPointmaps

    stored = np.load(path)
    maps, confidence = (torch.from_numpy(stored[name]) for name in ("maps", "confidence"))

    class Stubbed(St4RTrack):
        def encode(self, images: torch.Tensor) -> Tokens:
            features = F.avg_pool2d(images, 16).flatten(1)
            return Tokens(features[:, None], (1, 1))

        def decode(self, anchor_tokens: Tokens, frame_tokens: Tokens, hints: Any = None) -> TwoPointmaps:
            found = torch.cdist(frame_tokens.features[:, 0], known).argmin(1)
            return TwoPointmaps(*(Pointmap(maps[k, found], confidence[k, found]) for k in (0, 1)))

    small = ModelConfig(
        encoder_width=64, encoder_depth=1, encoder_heads=4, decoder_width=64, decoder_depth=4, decoder_heads=4, head="conv"
    )
    model = Stubbed(small).eval()
    known = F.avg_pool2d(normalize_images(stored["rgb"]), 16).flatten(1)
    return model


def measure(folder: Path) -> dict[str, float]:
    """Figures of one run in this process; the seconds of each stage are processor time of its thread."""
    import st4rtrack
    from st4rtrack.io.video import open_video
    from st4rtrack.timing import Stopwatch, recording, timed_items

    model, video = stubbed_model(folder / "maps.npz"), open_video(str(folder / "clip.mp4"))
    with tempfile.TemporaryDirectory() as out:
        st4rtrack.reconstruct(video, model=model, output=f"{out}/warm", stop=8)
        stopwatch = Stopwatch(clock=time.thread_time)
        start, start_cpu = time.perf_counter(), time.process_time()
        with recording(stopwatch), stopwatch.part("rest"):
            st4rtrack.reconstruct(replace(video, read=timed_items("read")(video.read)), model=model, output=f"{out}/scene")
        wall, cpu, frames = time.perf_counter() - start, time.process_time() - start_cpu, len(video)
    stages = {f"{stage} [ms per frame]": 1000 * stopwatch.seconds[stage] / frames for stage in STAGES}
    return {"frames per second": frames / wall, "processor time per frame [ms]": 1000 * cpu / frames, **stages}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    parser.add_argument("--frames", type=int, default=96)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measure(options.child)))
        return
    from machine import machine

    with tempfile.TemporaryDirectory() as folder:
        write_inputs(Path(folder), options.frames)
        found = compare(__file__, Path(folder), options)
    print(
        f"{machine()}; {options.frames} frames of {WIDTH}x{HEIGHT}, {options.threads} threads, medians of {options.rounds} rounds\n"
    )
    print(table(found))


if __name__ == "__main__":
    main()
