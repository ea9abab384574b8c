"""What `real_video.py` writes: tables of figures, and one contact sheet per clip."""

from typing import Any

import cv2
import numpy as np

from st4rtrack.geometry.transforms import invert_rigid, transform_maps
from st4rtrack.render.draw import chip, fit_image, map_colours, put_text, robust_range
from st4rtrack.scene import Scene

Row = dict[str, Any]

SHORT, LONG = 16, 48
"""Frames of sheep.mp4 whose first depth is compared."""

COLUMNS = {
    "abs_rel": ("AbsRel", "{:.3f}"),
    "within_percent": ("within 1.25, %", "{:.0f}"),
    "scale_drift": ("scale drift (std of log)", "{:.3f}"),
    "measured_percent": ("measured pixels, %", "{:.0f}"),
    "measured_near_percent": ("measured within 3 %, %", "{:.0f}"),
    "ate_m": ("ATE, m", "{:.4f}"),
    "rpe_deg": ("RPE, deg", "{:.2f}"),
    "focal_error_percent": ("focal error, %", "{:.1f}"),
    "static_motion_m": ("motion of static points, m", "{:.3f}"),
    "focal_ratio": ("focal / reference", "{:.3f}"),
    "motion_percent": ("motion, % of depth", "{:.2f}"),
    "step_ratio": ("largest / median step", "{:.2f}"),
    "ate_percent": ("ATE, % of path extent", "{:.2f}"),
    "reprojection_px": ("static tracks, px", "{:.1f}"),
    "disagreement": ("disagreement of log depth", "{:.3f}"),
    "abs_rel_short": (f"AbsRel to teacher, {SHORT} frames", "{:.3f}"),
    "abs_rel_long": (f"AbsRel to teacher, {LONG} frames", "{:.3f}"),
    "within_1px_percent": ("within 1 px, %", "{:.0f}"),
    "within_2px_percent": ("within 2 px, %", "{:.0f}"),
    "within_4px_percent": ("within 4 px, %", "{:.0f}"),
    "moving_percent": ("labelled moving, %", "{:.0f}"),
    "cpu_s": ("CPU s", "{:.1f}"),
    "quality": ("quality", "{}"),
}


def markdown(results: Row, titles: dict[str, str]) -> str:
    """All parts as tables under their titles."""
    parts = [
        "# The embedded model on real video",
        "",
        "Made by `python performance/real_video.py`. docs/real-video.md explains the figures.",
    ]
    for part, title in titles.items():
        if part in results["parts"]:
            parts += ["", f"## {title}", "", results["parts"][part]["machine"], "", *table(results["parts"][part]["rows"])]
    return "\n".join(parts) + "\n"


def table(rows: list[Row]) -> list[str]:
    """Lines of one table."""
    columns = [key for key in COLUMNS if any(row.get(key) is not None for row in rows)]
    lines = [f"| | | {' | '.join(COLUMNS[key][0] for key in columns)} |", "|" + "---|" * (len(columns) + 2)]
    for row in rows:
        cells = ["-" if row.get(key) is None else COLUMNS[key][1].format(row[key]) for key in columns]
        lines.append(f"| {row['name']} | {row['kind']} | {' | '.join(cells)} |")
    return lines


def camera_depth(scene: Scene, frame: int) -> np.ndarray:
    """z depth [height, width] of the reconstruction in the camera of its frame."""
    camera_from_world = invert_rigid(np.asarray(scene.cameras.world_from_camera[frame], np.float64))
    return transform_maps(camera_from_world, np.asarray(scene.reconstruction.points_world[frame], np.float64))[..., 2]


def contact_sheet(scene: Scene, name: str, *, cell_width: int = 480) -> np.ndarray:
    """Frame, log depth (bright is near) and moving mask at the start, the middle and the end, [height, width, 3] uint8."""
    frames = sorted({0, len(scene) // 2, len(scene) - 1})
    height, width = scene.rgb.shape[1:3]
    cell = (round(cell_width * height / width), cell_width)
    depths = np.stack([camera_depth(scene, t) for t in frames])
    with np.errstate(all="ignore"):
        log_depth = np.log(np.where(depths > 0, depths, np.nan))
    limits, columns = robust_range(log_depth), []
    for frame, depth in zip(frames, log_depth, strict=True):
        rgb = np.asarray(scene.rgb[frame], np.uint8)
        picture = fit_image(rgb, *cell)
        chip(picture, f"frame {frame}", 16)
        coloured = map_colours(depth, limits, cv2.COLORMAP_VIRIDIS, reverse=True)
        moving = np.asarray(scene.reconstruction.moving[frame], bool) if scene.reconstruction.moving is not None else None
        mask = rgb // 4 if moving is None else np.where(moving[..., None], rgb, rgb // 4)
        columns.append(np.concatenate([picture, fit_image(coloured, *cell, smooth=False), fit_image(mask, *cell, smooth=False)]))
    body = np.concatenate(columns, axis=1)
    title = np.full((32, body.shape[1], 3), 255, np.uint8)
    put_text(title, name if scene.quality is None else f"{name}: {scene.quality.summary(len(scene))}", 8, 22, 15)
    return np.concatenate([title, body])
