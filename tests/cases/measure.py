"""A scene against the truth of its clip, and what it says about itself."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from st4rtrack.geometry.camera import pixel_grid
from st4rtrack.geometry.transforms import invert_rigid, rotation_angle, transform_points
from st4rtrack.scene import Scene
from tests.cases.world import Clip

Row = dict[str, Any]


def angle_deg(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """[...] degrees between rotations of rigid transforms [..., 4, 4]."""
    return np.degrees(rotation_angle(np.swapaxes(a[..., :3, :3], -1, -2) @ b[..., :3, :3]))


def measure(scene: Scene, clip: Clip) -> Row:
    """Errors of cameras, focal length and depth over the frames that have truth and a pose; absent where no frame has.

    The world of a scene has no unit: lengths are multiplied by the median of true over estimated depth.
    """
    count = min(len(scene), len(clip))
    cameras, matrices = np.asarray(scene.cameras.world_from_camera)[:count], np.asarray(scene.cameras.intrinsics)[:count]
    solved = np.ones(count, bool) if scene.cameras.solved is None else np.asarray(scene.cameras.solved)[:count].astype(bool)
    true, anchor = clip.world_from_camera[:count], scene.anchor_index
    row: Row = {
        "frames": len(scene),
        "anchor": anchor,
        "solved_share": float(solved.mean()),
        "unsolved": np.flatnonzero(~solved).tolist(),
    }
    visible = scene.tracking.visible
    others = [k for k in np.flatnonzero(~solved) if k != anchor]
    row["visible_unsolved"] = 0.0 if visible is None else max((float(np.mean(visible[k])) for k in others), default=0.0)
    usable = np.flatnonzero(solved & np.isfinite(true).all((1, 2)) & np.isfinite(cameras).all((1, 2)))
    if len(usable) == 0:
        return row
    first = anchor if anchor in usable else int(usable[0])
    found, truth = (invert_rigid(m[first]) @ m[usable] for m in (cameras, true))
    others = usable != first
    if others.any():
        angles = angle_deg(found, truth)[others]
        row |= {"angle_deg": float(angles.mean()), "angle_max_deg": float(angles.max())}
    for step in (first + 1, first - 1):
        if step in usable:
            row["step_deg"] = float(angle_deg(found[usable == step], truth[usable == step])[0])
            break
    ratio = matrices[:, 0, 0] / scene.pixel_map.scale[0] / clip.intrinsics[:count, 0, 0]
    row |= {"focal_ratio": float(ratio[first]), "focal_ratio_last": float(ratio[usable[-1]])}
    row |= _depth(scene, clip, usable, cameras)
    scale = row.get("scale", 1.0)
    row |= {"path": scale * _reach(found), "path_true": _reach(truth)}
    return row


def _reach(relative: np.ndarray) -> float:
    """Largest distance from the first camera."""
    return float(np.linalg.norm(relative[:, :3, 3], axis=1).max())


def _depth(scene: Scene, clip: Clip, frames: np.ndarray, cameras: np.ndarray) -> Row:
    """Relative depth errors after one median scale, static and dynamic; at the pixels of the network that have truth."""
    height, width = scene.rgb.shape[1:3]
    source = scene.pixel_map.source_from_network(pixel_grid(height, width))
    column, row = (np.clip(source[..., k].astype(int), 0, clip.depth.shape[2 - k] - 1) for k in (0, 1))
    found, true, moving = [], [], []
    for k in frames:
        points = np.asarray(scene.reconstruction.points_world[int(k)], np.float64)
        depth = transform_points(invert_rigid(cameras[k]), points.reshape(-1, 3))[:, 2].reshape(height, width)
        truth = clip.depth[k][row, column]
        counted = np.isfinite(truth) & (truth > 0) & np.isfinite(depth) & (depth > 0)
        found.append(depth[counted])
        true.append(truth[counted])
        moving.append(clip.moving[k][row, column][counted])
    found, true, moving = (np.concatenate(part) for part in (found, true, moving))
    if len(found) == 0:
        return {}
    scale = float(np.median(true) / np.median(found))
    error = np.abs(scale * found / true - 1)
    medians = {name: float(np.median(error[mask])) for name, mask in (("static", ~moving), ("moving", moving)) if mask.any()}
    return {"scale": scale, "abs_rel": float(error.mean()), **{f"depth_{name}": value for name, value in medians.items()}}


def quality_of(folder: Path) -> Row:
    """What `scene.json` says under `quality`; empty for scenes without it."""
    header = json.loads((folder / "scene.json").read_text(encoding="utf-8"))
    return header.get("quality") or header.get("info", {}).get("quality") or {}


def is_good(row: Row) -> bool:
    """Camera error under 2 degrees and AbsRel under 0.25."""
    return number(row, "angle_deg") < 2 and number(row, "abs_rel") < 0.25


def number(row: Row, name: str) -> float:
    """A figure of a row, infinite where it is absent or not finite."""
    value = row.get(name)
    return np.inf if value is None or not np.isfinite(value) else float(value)
