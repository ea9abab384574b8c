"""The procedural world looked at and measured: `python performance/procedural_world.py` writes docs/procedural-world.md and its picture.

The statistics of the test sequences stand beside those of the generator for comparison only.
"""

import argparse
import time
from dataclasses import dataclass, fields, replace
from pathlib import Path

import cv2
import numpy as np
from machine import machine

from st4rtrack.data.procedural import ProceduralClip, ProceduralConfig, procedural_clip, render_clips, tracking_points
from st4rtrack.data.procedural_config import SETTINGS
from st4rtrack.geometry.camera import project
from st4rtrack.geometry.transforms import invert_rigid, transform_points
from st4rtrack.io.worldtrack import read_worldtrack

DOCS = Path(__file__).parent.parent / "docs"
FRAMES = 24
LATER = 8
SHEET_SCENES = 24
SHEET_JPEG_QUALITY = 78
PALETTE = np.random.default_rng(4).integers(60, 256, (64, 3))


@dataclass(frozen=True)
class Figures:
    """One clip in figures; NaN where there are no tracks."""

    near: float
    middle: float
    far: float
    known: float
    view: float
    flow: float
    moving: float
    travel: float
    kept: float


HEADINGS = {
    "near": "depth 10 % (m)",
    "middle": "50 %",
    "far": "90 %",
    "known": "pixels with depth (%)",
    "view": "field of view (deg)",
    "flow": f"flow over {LATER} frames (% of width)",
    "moving": "moving (%)",
    "travel": "camera travel / depth",
    "kept": "still visible at the end (%)",
}


def depth_figures(depth: np.ndarray, intrinsics: np.ndarray, world_from_camera: np.ndarray) -> dict[str, float]:
    """Of depth [T, H, W], 0 or not finite where unknown, and cameras."""
    known = np.isfinite(depth) & (depth > 0)
    low, middle, high = np.quantile(depth[known], [0.1, 0.5, 0.9])
    side = max(depth.shape[1:])
    path = np.linalg.norm(np.diff(world_from_camera[:, :3, 3], axis=0), axis=1).sum()
    return {
        "near": low,
        "middle": middle,
        "far": high,
        "known": 100 * known.mean(),
        "view": 2 * np.rad2deg(np.arctan(side / 2 / intrinsics[0, 0])),
        "travel": path / middle,
    }


def track_figures(
    tracks: np.ndarray, visible: np.ndarray, intrinsics: np.ndarray, world_from_camera: np.ndarray, width: int
) -> dict[str, float]:
    """Of tracks [T, N, 3] of points seen in frame 0, visible [T, N]."""
    pixels = [project(transform_points(invert_rigid(world_from_camera[t]), tracks[t]), intrinsics) for t in (0, LATER)]
    flow = np.linalg.norm(pixels[1] - pixels[0], axis=-1)[visible[LATER]]
    travel = np.linalg.norm(tracks - tracks[:1], axis=-1).max(0)
    return {
        "flow": 100 * float(np.median(flow)) / width if len(flow) else np.nan,
        "moving": 100 * float((travel > 0.01).mean()),
        "kept": 100 * float(visible[-1].mean()),
    }


def figures_of_clip(clip: ProceduralClip) -> Figures:
    """All figures of a procedural clip whose anchor is frame 0."""
    valid = clip.tracking_valid[0]
    tracks, visible = clip.tracking_points_world[:, valid], clip.visible[:, valid]
    cameras, width = clip.world_from_camera, clip.depth.shape[2]
    return Figures(
        **depth_figures(clip.depth, clip.intrinsics[0], cameras),
        **track_figures(tracks, visible, clip.intrinsics[0], cameras, width),
    )


def figures_of_sequence(path: Path) -> Figures:
    """All figures of the first frames of a sequence with depth, and with tracks if it has any."""
    sequence = read_worldtrack(path, num_frames=FRAMES)
    depth = sequence.read_depth()
    tracked = {"flow": np.nan, "moving": np.nan, "kept": np.nan}
    if sequence.tracks_world is not None and sequence.visible is not None:
        seen = sequence.visible[0]
        tracked = track_figures(
            sequence.tracks_world[:, seen],
            sequence.visible[:, seen],
            sequence.intrinsics,
            sequence.world_from_camera,
            depth.shape[2],
        )
    return Figures(**depth_figures(depth, sequence.intrinsics, sequence.world_from_camera), **tracked)


def table_row(name: str, figures: list[Figures], shares: tuple[float, ...]) -> str:
    """Quantiles over clips of each figure, as a row of a table."""
    cells = [name]
    for field in fields(Figures):
        values = np.array([getattr(one, field.name) for one in figures])
        values = values[np.isfinite(values)]
        digits = 2 if field.name == "travel" else 1
        cells.append(" / ".join(f"{np.quantile(values, share):.{digits}f}" for share in shares) if len(values) else "-")
    return "| " + " | ".join(cells) + " |"


def with_tracks(clip: ProceduralClip, frame: int, spacing: int = 14) -> np.ndarray:
    """Frame with the paths of a grid of the anchor's points up to it; orange what moves, blue what is still."""
    picture = np.ascontiguousarray(clip.rgb[frame])
    height, width = clip.moving.shape
    for row in range(spacing // 2, height, spacing):
        for column in range(spacing // 2, width, spacing):
            if not (clip.tracking_valid[0, row, column] and clip.visible[frame, row, column]):
                continue
            path = []
            for t in range(frame + 1):
                point = transform_points(
                    invert_rigid(clip.world_from_camera[t]), clip.tracking_points_world[t, row, column][None]
                )
                path.append(project(point, clip.intrinsics[t])[0] - 0.5)
            line = np.round(np.array(path) * 16).astype(np.int32)
            colour = (255, 140, 0) if clip.moving[row, column] else (60, 160, 255)
            cv2.polylines(picture, [line[:, None]], False, colour, 1, cv2.LINE_AA, 4)
            cv2.circle(picture, tuple(int(c) for c in line[-1]), 24, colour, -1, cv2.LINE_AA, 4)
    return picture


def sheet(number_of_scenes: int, seed: int) -> np.ndarray:
    """Scenes in two columns: the anchor, frame 16 with tracks, depth of the anchor, objects of the anchor (moving ones bright)."""
    config = ProceduralConfig(height=120, width=160, num_frames=FRAMES)
    rows = []
    for number in range(number_of_scenes):
        clip = procedural_clip(seed, config, number=number)
        close = np.where(clip.depth[0] > 0, np.clip(1.2 / np.maximum(clip.depth[0], 1e-3), 0, 1), 0)
        depth = cv2.applyColorMap((255 * np.sqrt(close)).astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1]
        depth = np.where(clip.depth[0][..., None] > 0, depth, 0)
        objects = PALETTE[clip.object_index[0]] * np.where(clip.moving, 1.0, 0.35)[..., None]
        objects = np.where(clip.object_index[0][..., None] > 0, objects, 40)
        rows.append(np.concatenate([clip.rgb[0], with_tracks(clip, 16), depth, objects.astype(np.uint8)], 1))
    half = len(rows) // 2
    gap = np.full((half * config.height, 8, 3), 255, np.uint8)
    return np.concatenate([np.concatenate(rows[:half]), gap, np.concatenate(rows[half:])], 1)


def speed(compiled: bool, pairs: int) -> tuple[float, float]:
    """Pairs per second of processor time at 192x256 rendered, and rendered with the tracks of one anchor."""
    config = ProceduralConfig(compile=compiled)
    for setting in SETTINGS:
        tracking_points(render_clips(1, replace(config, setting=setting), seed=1), 0)
    start = time.process_time()
    clips = render_clips(pairs, config, seed=2)
    rendered = time.process_time() - start
    tracking_points(clips, 0)
    return pairs / rendered, pairs / (time.process_time() - start)


def report(scenes: int, sequences: Path, seed: int) -> str:
    """The text of the page."""
    config = ProceduralConfig(height=96, width=128, num_frames=FRAMES)
    table = ["| | " + " | ".join(HEADINGS[field.name] for field in fields(Figures)) + " |", "|---" * (len(HEADINGS) + 1) + "|"]
    mixed = [figures_of_clip(procedural_clip(seed, config, number=number)) for number in range(scenes)]
    table.append(table_row(f"procedural, {scenes} clips: 10 / 50 / 90 %", mixed, (0.1, 0.5, 0.9)))
    for setting in SETTINGS:
        chosen = replace(config, setting=setting)
        some = [figures_of_clip(procedural_clip(seed, chosen, number=number)) for number in range(scenes // 4)]
        table.append(table_row(f"only {setting}, {scenes // 4} clips: median", some, (0.5,)))
    for path in sorted(sequences.glob("*.npz")):
        table.append(table_row(path.stem, [figures_of_sequence(path)], (0.5,)))
    lines = [f"| {name} | {a:.1f} | {b:.1f} |" for name, (a, b) in (("eager", speed(False, 16)), ("compiled", speed(True, 32)))]
    speeds = ["| pairs per second of processor time, 256x192 | rendered | and tracked |", "|---|---|---|", *lines]
    return PAGE.format(table="\n".join(table), speeds="\n".join(speeds), machine=machine(), frames=FRAMES)


PAGE = """# The procedural world

`data/procedural.py` renders clips with exact ground truth: colour, depth, cameras, the 3D track of every pixel of the
anchor with visibility and motion, and object labels. It is a seeded ray caster in PyTorch. Scene `i` of a seed is the
same alone, in a batch and in every process.

![Twenty-four scenes: anchor, frame 16 with tracks, depth, objects](images/procedural-world.jpg)

Each scene: the anchor; frame 16 of {frames} with the trajectories of visible anchor points (orange: dynamic, blue:
static); depth of the anchor (bright is near, black is sky); its objects (bright: moving).

- **Settings**: rooms, flat grounds and height fields with sky. The sky, and ground beyond 50 m, has no depth: `valid`
  is false there.
- **Shapes**: boxes, boxes with cut corners, ellipsoids, cylinders, superquadrics; poles, plates, tables on four legs.
- **Motion**: sliding, turning, hopping, rolling, floating, crossing the image behind and in front of others; chains of
  limbs that swing on joints; squash and shear. Standing and rolling objects touch the ground at all times, floating
  ones never do.
- **Cameras**: fixed, hand-held, dolly, orbit, pan; 30 to 100 degrees across the long side; never outside the room,
  under the ground or in an object.
- **Images**: plain, repetitive and rich textures by formula, a lamp or the sun, shadows, haze; defocus and motion
  blur, varying exposure, noise, JPEG (on the CPU only). Motion blur is along the mean motion of the static scene, the
  same for the whole image.
- **Not modelled**: reflections, transparency, meshes, bending. Objects may pass through one another. Hills stay below
  the camera and cast no shadow.

## Statistics

Clips of {frames} frames from the generator, and the first {frames} frames of the test sequences (measured here for
comparison, never trained on). Depth over all frames. Flow: median length of the image motion of points of frame 0
that are visible in both frames. Camera travel: length of its path over the median depth.

{table}

## Speed

{machine}

{speeds}

Written by `python performance/procedural_world.py`.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=int, default=200)
    parser.add_argument("--sequences", type=Path, default=Path("../shared/sequences"))
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--sheet-only", action="store_true")
    options = parser.parse_args()
    picture = sheet(SHEET_SCENES, options.seed)
    (DOCS / "images").mkdir(exist_ok=True)
    quality = [cv2.IMWRITE_JPEG_QUALITY, SHEET_JPEG_QUALITY]
    cv2.imwrite(str(DOCS / "images" / "procedural-world.jpg"), picture[..., ::-1], quality)
    if not options.sheet_only:
        (DOCS / "procedural-world.md").write_text(report(options.scenes, options.sequences, options.seed))


if __name__ == "__main__":
    main()
