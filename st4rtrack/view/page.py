"""Single-file HTML page that shows a scene in any browser, without server or network."""

import base64
import dataclasses
import hashlib
import html
import json
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from st4rtrack import __version__
from st4rtrack.geometry.vectors import all_components, all_finite
from st4rtrack.io.files import whole_file
from st4rtrack.io.formats.common import fx_fy_cx_cy, lengths
from st4rtrack.render.draw import TIME_MAP, map_colours, printable, video_name
from st4rtrack.render.rows import identity_colours
from st4rtrack.render.sample import scene_facts
from st4rtrack.scene import Scene
from st4rtrack.types import UserError
from st4rtrack.view.sampling import (
    Branch,
    Budget,
    chosen_frames,
    chosen_pixels,
    chosen_tracks,
    decimation,
    frame_cloud,
    moving_mask,
    robust_box,
    scene_sample,
    start_view,
)

_BRANCHES: tuple[Branch, Branch] = ("reconstruction", "tracking")
_PICTURE_BYTES = 40_000
_SURE_LEVELS = 255
BITS = 14
"""Bits per axis: a step is about a ten thousandth of the scene, far below the network's error."""
_MEASURED_FRAMES = 3


@dataclass(frozen=True)
class Content:
    """Sampled content of a scene on the page."""

    budget: Budget  # limits of the content
    frames: np.ndarray  # [frames] frame indices
    pixels: np.ndarray  # [points, 2] (row, column)
    moving: np.ndarray  # [points] bool, dynamic points of the anchor
    tracks: np.ndarray  # [tracks] indices into `pixels`
    low: np.ndarray  # low, high: [3] corners of the box in which positions are quantised
    high: np.ndarray
    # per branch, confidence quantiles that divide it into equal shares; `None` without confidence
    levels: dict[Branch, np.ndarray | None]

    @classmethod
    def of(cls, scene: Scene, budget: Budget) -> "Content":
        moving, pixels = moving_mask(scene), chosen_pixels(scene, budget.points_per_frame)
        samples: dict[Branch, tuple[np.ndarray, np.ndarray]] = {branch: scene_sample(scene, branch) for branch in _BRANCHES}
        low, high = robust_box(np.concatenate([points for points, _ in samples.values()]))
        return cls(
            budget=budget,
            frames=chosen_frames(scene, budget),
            pixels=pixels,
            moving=moving[pixels[:, 0], pixels[:, 1]],
            tracks=chosen_tracks(moving, pixels, budget.tracks),
            low=low,
            high=high,
            levels={branch: _levels(confidence) for branch, (_, confidence) in samples.items()},
        )


def fitted_content(scene: Scene, budget: Budget, most_bytes: float) -> Content:
    """Choose the content, with fewer points if the page would exceed `most_bytes`, estimated from a few frames."""
    content = Content.of(scene, budget)
    measured = content.frames[np.linspace(0, len(content.frames) - 1, _MEASURED_FRAMES).astype(int)]
    packed = float(np.mean([len(frame) for frame in packed_frames(scene, content, measured)]))
    pictures = float(np.mean([len(_picture(np.asarray(scene.rgb[t], np.uint8))) for t in measured.tolist()]))
    room = 0.95 * most_bytes * 3 / 4 / len(content.frames) - pictures  # base64 writes four letters for three bytes
    share = room / max(packed - pictures, 1.0)
    if share >= 1:
        return content
    fewer = max(int(share * len(content.pixels)), 1)
    return Content.of(scene, dataclasses.replace(budget, points_per_frame=fewer))


def _levels(confidence: np.ndarray) -> np.ndarray | None:
    """Confidence quantiles for the page, which thresholds by share of points because confidence has no unit; None if constant."""
    if not len(confidence) or np.ptp(confidence) == 0:
        return None
    return np.quantile(confidence, np.arange(1, _SURE_LEVELS) / _SURE_LEVELS)


def packed_frames(scene: Scene, content: Content, frames: np.ndarray) -> Iterator[bytes]:
    """Packed bytes of each frame in the format of `readFrame` in data.js."""
    track_pixels = content.pixels[content.tracks]
    for t in frames.tolist():
        parts = []
        for branch in _BRANCHES:
            points, _, confidence = frame_cloud(scene, t, branch, content.pixels)
            parts.append(_packed_points(points, confidence, content, branch))
        seen = np.ones(len(track_pixels), np.uint8)
        if scene.tracking.visible is not None:
            seen = np.asarray(scene.tracking.visible[t], np.uint8)[track_pixels[:, 0], track_pixels[:, 1]]
        seen = seen * np.uint8(scene.solved_frames[t])
        yield zlib.compress(b"".join([*parts, seen.tobytes(), _picture(np.asarray(scene.rgb[t], np.uint8))]), 6)


def _packed_points(points: np.ndarray, confidence: np.ndarray, content: Content, branch: Branch) -> bytes:
    """Byte planes: high and low bytes of positions, each predicted from its left and upper neighbours, and confidence levels."""
    with np.errstate(invalid="ignore"):
        known = all_finite(points) & all_components((points >= content.low) & (points <= content.high))
    share = np.where(known[:, None], (points - content.low) / (content.high - content.low), 0)
    grid = np.rint(share.T * (2**BITS - 1)).astype(np.int32).reshape(3, len(np.unique(content.pixels[:, 0])), -1)
    steps = np.diff(np.diff(grid, axis=2, prepend=0), axis=1, prepend=0)
    folded = np.where(steps < 0, -2 * steps - 1, 2 * steps)  # small differences of either sign get a high byte of 0
    levels = content.levels[branch]
    sure = np.full(len(points), _SURE_LEVELS) if levels is None else 1 + np.searchsorted(levels, np.nan_to_num(confidence))
    high, low = (folded >> 8).astype(np.uint8), (folded & 255).astype(np.uint8)
    return high.tobytes() + low.tobytes() + np.where(known, sure, 0).astype(np.uint8).tobytes()


def _picture(rgb: np.ndarray) -> bytes:
    """JPEG of at most about 40 kB; points take their colours from it."""
    encoded = b""
    for quality in (88, 75, 60, 40, 20):
        encoded = cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
        if len(encoded) <= _PICTURE_BYTES:
            return encoded
    return encoded if min(rgb.shape[:2]) < 16 else _picture(cv2.resize(rgb, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))


WINDOW_ASPECT = 1.6
"""Width / height of the window for which the start view is fitted."""

_SCRIPTS = ("data.js", "camera.js", "renderer.js", "page.js")
_MOST_ACCUMULATED = 16
"""Maximum number of accumulated frames drawn together: more are slow without a good graphics card."""
_STATIC_ALPHA = 110
"""Opacity of static tracks, so that dynamic ones stand out."""
_SPEEDS = (0.1, 0.25, 0.5, 1.0, 2.0)
_CALM_SECONDS = 3.0
"""Videos shorter than this start in slow motion."""


def write_page(
    scene: Scene,
    path: str | Path,
    *,
    title: str | None = None,
    max_frames: int = Budget.frames,
    max_points: int = Budget.points_per_frame,
    max_tracks: int = Budget.tracks,
    megabytes: float = 25.0,
) -> None:
    """Write a page with timeline, layers and orbit controls that opens from disk. Frames are read one at a time.

    Args:
        title: Title of the page. Default: the name of the video.
        max_frames: Maximum number of frames; a longer video is strided.
        max_points: Maximum number of points in a frame, of each branch.
        max_tracks: Maximum number of tracks with a tail.
        megabytes: Approximate maximum size of the file in 10^6 bytes; a larger one gets fewer points.
    Raises:
        UserError: one of the numbers is out of range.
    """
    for name, value in (("max_frames", max_frames), ("max_points", max_points), ("megabytes", megabytes)):
        if not value > 0:
            raise UserError(f"{name} must be more than 0, got {value:g}; omit the option for the default")
    if max_tracks < 0:
        raise UserError(f"max_tracks must be 0 or more, got {max_tracks}; omit the option for the default")
    content = fitted_content(scene, Budget(max_frames, max_points, max_tracks), 1e6 * megabytes)
    head, tail = _page_around(scene, content, printable(title or video_name(scene.info)))
    with whole_file(Path(path)) as file:
        file.write(head.encode())
        for number, packed in enumerate(packed_frames(scene, content, content.frames)):
            file.write(f'<script type="text/plain" id="frame-{number}">'.encode() + base64.b64encode(packed) + b"</script>\n")
        file.write(tail.encode())


def _header(scene: Scene, content: Content) -> dict[str, Any]:
    """Header that the page needs before the first frame; plain data."""
    height, width = scene.rgb.shape[1:3]
    view = start_view(scene, aspect=WINDOW_ASPECT)
    colours = np.full((len(content.tracks), 4), 255, np.uint8)
    if len(content.tracks):
        colours[:, :3] = identity_colours(content.pixels[content.tracks][:, ::-1])
    moves = bool(content.moving.any())
    colours[~content.moving[content.tracks], 3] = _STATIC_ALPHA if moves else 255
    return {
        "size": [width, height],
        "pixels": {
            "rows": np.unique(content.pixels[:, 0]).tolist(),
            "columns": np.unique(content.pixels[:, 1]).tolist(),
            "pitch": float(np.sqrt(height * width / len(content.pixels))),
        },
        "box": {"low": content.low.tolist(), "size": (content.high - content.low).tolist()},
        "extent": float(np.linalg.norm(content.high - content.low)) / 2,
        "frames": _frame_facts(scene, content),
        "anchor": int(np.flatnonzero(content.frames == scene.anchor_index)[0]),
        "start_frame": int(0.6 * (len(content.frames) - 1)),
        "start_view": {
            "eye": view.eye.tolist(),
            "target": view.target.tolist(),
            "up": view.up.tolist(),
            "fov_deg": view.fov_deg,
            "aspect": WINDOW_ASPECT,
        },
        "bits": BITS,
        "most_accumulated": _MOST_ACCUMULATED,
        "moving": base64.b64encode(content.moving.astype(np.uint8).tobytes()).decode(),
        "paleness": 0.5 if moves else 0.0,
        "tracks": content.tracks.tolist(),
        "track_colours": base64.b64encode(colours.tobytes()).decode(),
        "layers": {
            "reconstruction": True,
            "accumulated": False,
            "tracking": False,
            "moving": False,
            "tracks": True,
            "cameras": True,
            "picture": True,
        },
    }


def _frame_facts(scene: Scene, content: Content) -> list[dict[str, Any]]:
    world_from_camera = np.asarray(scene.cameras.world_from_camera, np.float64)
    intrinsics = np.asarray(scene.cameras.intrinsics, np.float64)
    colours = map_colours(np.linspace(0, 1, len(content.frames)), (0.0, 1.0), TIME_MAP) / 255
    return [
        {
            "number": t,
            "time_s": round(float(scene.time_s[t]), 6),
            "world_from_camera": world_from_camera[t, :3].ravel().tolist(),
            "intrinsics": fx_fy_cx_cy(intrinsics[t]).tolist(),
            "colour": colour.round(3).tolist(),
        }
        for t, colour in zip(content.frames.tolist(), colours, strict=True)
    ]


def _page_around(scene: Scene, content: Content, title: str) -> tuple[str, str]:
    """HTML before and after the frames."""
    names = sorted(entry.name for entry in resources.files("st4rtrack.view").joinpath("assets", "shaders").iterdir())
    shaders = {name: _asset(f"shaders/{name}") for name in names}
    script = f"const SHADERS = {_embedded(shaders)};\n" + "".join(_asset(name) for name in _SCRIPTS)
    script = f'"use strict";\n(() => {{\n{script}}})();\n'
    style = _asset("page.css")
    duration = float(scene.time_s[content.frames[-1]]) - float(scene.time_s[content.frames[0]])
    speed = max((s for s in _SPEEDS[1:4] if s * _CALM_SECONDS <= duration), default=_SPEEDS[1])
    values = {
        "script_hash": _content_hash(script),
        "style_hash": _content_hash(style),
        "version": html.escape(__version__),
        "title": html.escape(title),
        "facts": html.escape(" · ".join(["St4RTrack", *scene_facts(scene), lengths(scene.info)])),
        "style": style,
        "moving_state": "" if content.moving.any() else "disabled",
        "sure_state": "" if any(levels is not None for levels in content.levels.values()) else "disabled",
        "legend": html.escape(_legend(content)),
        "decimation": html.escape(decimation(scene, content.budget)),
        "speeds": "".join(f'<option value="{s:g}"{" selected" if s == speed else ""}>{s:g} ×</option>' for s in _SPEEDS),
        "header": _embedded(_header(scene, content)),
        "script": script,
    }
    before, after = _asset("page.html").split("{{frames}}")
    return _filled(before, values), _filled(after, values)


def _filled(template: str, values: dict[str, str]) -> str:
    """Replace `{{name}}` in a single pass, so that inserted values are not expanded again."""
    return re.sub(r"\{\{(\w+)\}\}", lambda mark: values[mark[1]], template)


def _embedded(data: Any) -> str:
    """JSON that is safe inside a script element."""
    return json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def _content_hash(text: str) -> str:
    """Hash of a script for the content security policy: only this text may run."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _asset(name: str) -> str:
    return resources.files("st4rtrack.view").joinpath("assets", name).read_text(encoding="utf-8")


def _legend(content: Content) -> str:
    lines = "Lines: paths of the anchor's points, coloured by their position in the anchor. " if len(content.tracks) else ""
    legend = lines + "Pyramids: the cameras, from first (magenta) to last (yellow)."
    if len(content.frames) > _MOST_ACCUMULATED:
        legend += f" Accumulated: {_MOST_ACCUMULATED} frames, evenly spread, up to the current one."
    return legend
