"""Precision and recall of the detectors of the quality report, on generated videos and on real clips.

    python performance/quality_detectors.py [--variants 100] [--clips FOLDER ...]

Every variant is a room of its own (textures, sizes, balls, camera path, noise, JPEG quality). All detectors run on all clean variants; each
fault is put into every fourth of them. Clips are taken as clean single shots: what is found in them is listed, to be looked at.
"""

import argparse
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from st4rtrack.classical.anchored import _dense_matches
from st4rtrack.classical.camera_motion import camera_motion
from st4rtrack.classical.frame_checks import FrameChecks
from st4rtrack.classical.layout import find_layout, sampled_indices
from st4rtrack.io.video import open_video

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.classical.scenes import Room, compressed, noisy, with_bars, with_logo, with_text

NUM_FRAMES = 12
CODES = ("cut", "black", "dark", "low_texture", "bars", "overlay", "stereo", "fixed", "rotation", "zoom", "dolly_zoom")
NETWORK_SIDE, LAYOUT_SIDE = 256, 320

Images = list[np.ndarray]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variants", type=int, default=100, help="clean generated videos")
    parser.add_argument("--first", type=int, default=0, help="number of the first of them")
    parser.add_argument("--clips", nargs="*", default=[], help="folders of real clips")
    options = parser.parse_args()
    false, hits, tries, clean = defaultdict(int), defaultdict(int), defaultdict(int), 0
    for seed in range(options.first, options.first + options.variants):
        for expected, images in variants(seed):
            found = detected(images)
            clean += not expected
            for code in found - expected - _implied(expected):
                false[code] += not expected
            for code in expected:
                tries[code], hits[code] = tries[code] + 1, hits[code] + (code in found)
    print(f"{clean} clean variants\ncode         recall      false on clean")
    for code in CODES:
        print(f"{code:12s} {hits[code]:3d}/{tries[code]:3d}     {false[code]:3d}/{clean}", flush=True)
    for folder in options.clips:
        for path in sorted(Path(folder).glob("*.mp4")):
            found = detected(list(open_video(str(path)).frames(0, None)))
            if found:
                print(f"{path.name:28s} {' '.join(sorted(found))}", flush=True)


def _implied(expected: set[str]) -> set[str]:
    """What else may be said of a video with a fault."""
    return set(CODES) if expected else set()


def variants(seed: int) -> Iterator[tuple[set[str], Images]]:
    """Codes to be found, none for a clean one, and the video."""
    rng = np.random.default_rng(seed)
    size = ((120, 160), (144, 192), (160, 120), (112, 200))[seed % 4]
    room = Room(
        seed,
        *size,
        focal=float(rng.uniform(0.6, 1.1)),
        num_balls=int(rng.integers(0, 4)),
        ball_radius=float(rng.uniform(0.4, 0.9)),
    )
    noise, quality, sign = float(rng.uniform(0, 3)), int(rng.integers(60, 95)), float(rng.choice([-1, 1]))

    def finish(images: Images) -> Images:
        return compressed(noisy(images, noise, seed=seed), quality)

    x, yaw = sign * float(rng.uniform(0.5, 1.2)), float(rng.uniform(-8, 8))
    moving = room.video(NUM_FRAMES, x=x, z=float(rng.uniform(-0.4, 0.6)), yaw_deg=yaw)
    yield set(), finish(moving)
    if seed % 4:
        return
    yield from ((codes, finish(images)) for codes, images in faults(room, moving, rng, sign))


def faults(room: Room, moving: Images, rng: np.random.Generator, sign: float) -> Iterator[tuple[set[str], Images]]:
    half, num = NUM_FRAMES // 2, len(moving)
    other = room.video(half, x=0.8 * sign, yaw_deg=lambda s: 150 + 5 * s, z=lambda s: 4.0)
    yield {"cut"}, moving[:half] + other
    yield {"cut", "black"}, moving[:half] + [np.zeros_like(moving[0])] * 3 + other
    yield {"black"}, moving[:5] + [np.zeros_like(moving[0])] * 2 + moving[7:]
    gain = float(rng.uniform(0.015, 0.04))
    yield {"dark"}, noisy(moving, 2.5, gain=gain)
    yield {"low_texture"}, noisy([np.full_like(moving[0], int(rng.integers(120, 235)))] * num, 1.5)
    height, width = moving[0].shape[:2]
    red, green, blue = rng.integers(0, 30, 3).tolist()
    colour = (int(red), int(green), int(blue))
    yield {"bars"}, with_bars(moving, int(rng.uniform(0.05, 0.2) * height), 0, colour)
    yield {"bars"}, with_bars(moving, 0, int(rng.uniform(0.05, 0.3) * width), colour)
    yield {"overlay"}, with_logo(moving)
    lines = ("HELLO THERE", "SUBTITLE", "WHAT IS IT", "GO AWAY")
    yield {"overlay"}, [with_text([image], lines[4 * k // num])[0] for k, image in enumerate(moving)]
    right = room.video(num, x=lambda s: 0.06 + 0.8 * s, yaw_deg=-4)
    left = room.video(num, x=lambda s: 0.8 * s, yaw_deg=-4)
    yield {"stereo"}, [np.ascontiguousarray(np.hstack(pair)[:, ::2]) for pair in zip(left, right, strict=True)]
    yield {"fixed"}, room.video(num)
    yield {"rotation"}, room.video(num, yaw_deg=sign * float(rng.uniform(8, 35)), pitch_deg=float(rng.uniform(-5, 5)))
    yield {"zoom"}, room.video(num, zoom=float(np.exp(sign * rng.uniform(0.12, 0.55))))
    far = float(rng.uniform(0.8, 1.4))
    yield {"dolly_zoom"}, room.video(num, z=far, zoom=lambda s: (4 - far * s) / 4)


def detected(images: Images) -> set[str]:
    """Codes found in a video."""
    reduced = [_resized(image, NETWORK_SIDE) for image in images]
    found = _of_frames(reduced)
    looked_at = [_resized(images[k], LAYOUT_SIDE) for k in sampled_indices(len(images))]
    layout = find_layout(looked_at, images[0].shape[:2])
    found |= {"bars"} if layout.content != (0, 0, images[0].shape[1], images[0].shape[0]) else set()
    found |= {"overlay"} if layout.overlay is not None and layout.overlay.any() else set()
    found |= {"stereo"} if layout.stereo != "none" else set()
    greys = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in reduced[:65]]
    kind = camera_motion(_dense_matches(greys[0], greys[1:])).kind if "cut" not in found else "unknown"
    return found | ({kind} if kind in CODES else set())


def _of_frames(images: Images) -> set[str]:
    checks, began = FrameChecks(), time.perf_counter()
    for index, image in enumerate(images):
        checks.add(index, image)
    checks.finish()
    SECONDS.append((time.perf_counter() - began) / len(images))
    found = {"cut"} if checks.cuts else set()
    counts = {state: len(checks.frames_in(state)) for state in ("black", "dark", "low_texture")}
    if counts["black"]:
        found |= {"black"}
    if counts["dark"] + counts["black"] > len(images) / 2:
        found |= {"dark"}
    return found | ({"low_texture"} if counts["low_texture"] else set())


SECONDS: list[float] = []


def _resized(image: np.ndarray, side: int) -> np.ndarray:
    scale = min(side / max(image.shape[:2]), 1.0)
    size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


if __name__ == "__main__":
    main()
    print(f"checks of frames: {1e3 * float(np.median(SECONDS)):.1f} ms per frame")
