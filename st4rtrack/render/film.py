"""Film of a scene, rendered without a screen: the video with its tracks, beside turning 3D views of the results."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from st4rtrack.io.video_writer import write_gif, write_video
from st4rtrack.render.draw import ACCENT, GREY, INK, NOTHING, PAGE, RECONSTRUCTION, TRACKING, put_text, text_width
from st4rtrack.render.panels import PanelRenderer, Panels
from st4rtrack.render.rows import frame_cell
from st4rtrack.scene import Scene
from st4rtrack.types import UserError

LEAST_WIDTH_PX = 480
GIF_FPS = 12.5
_POINTS = 80_000

_HEADINGS = {
    "input": ("Video", ""),
    "tracks": ("Tracks", "of the anchor's points"),
    "pair": ("Pair output", "of the anchor and this frame"),
    "reconstruction": ("Accumulated reconstruction", "and the camera path"),
    "trajectories": ("Accumulated tracking", "the anchor's points now, and paths of the dynamic ones"),
}
"""Heading of each panel, and an explanation beside it."""

Box = tuple[int, int, int, int]
"""Left, top, width, height in pixels."""


@dataclass(frozen=True)
class FilmLayout:
    """Positions in every picture of the film, in pixels."""

    height: int  # height, width: of the picture, even
    width: int
    text: int  # letter height of the headings, which are above the boxes
    input: Box  # input, tracks, pair: boxes of the upper row
    tracks: Box
    pair: Box
    reconstruction: Box  # reconstruction, trajectories: boxes of the lower row (accumulated reconstruction, accumulated tracks)
    trajectories: Box
    timeline: Box  # box of a thin line below


def _size(box: Box) -> tuple[int, int]:
    return box[3], box[2]


def plan_film(frame_height: int, frame_width: int, width: int) -> FilmLayout:
    """Plan the layout: two frames and the pair above, two larger views below; a portrait video makes the pair wider."""
    aspect = frame_width / frame_height
    width -= width % 2
    margin, gap, text = round(0.0125 * width), max(round(0.008 * width), 4), max(round(0.0125 * width), 10)
    heading, inner = round(1.75 * text), width - 2 * margin
    upper = round(min((inner - 2 * gap) / (2 * aspect + 1.6), 0.3 * width))
    cell = max(round(upper * aspect), 1)
    top = margin // 2 + heading
    lower_top, lower = top + upper + heading, round(0.3 * width)
    half = (inner - gap) // 2
    line_top = lower_top + lower + gap
    height = line_top + max(gap // 2, 2) + gap
    pair_left = margin + 2 * (cell + gap)
    return FilmLayout(
        height=height + height % 2,
        width=width,
        text=text,
        input=(margin, top, cell, upper),
        tracks=(margin + cell + gap, top, cell, upper),
        pair=(pair_left, top, width - margin - pair_left, upper),
        reconstruction=(margin, lower_top, half, lower),
        trajectories=(width - margin - half, lower_top, half, lower),
        timeline=(margin, line_top, inner, max(gap // 2, 2)),
    )


def render_film(
    scene: Scene, *, width: int = 1280, turn_deg: float = 40.0, stride: int = 1, hold: int = 0
) -> tuple[int, Iterator[np.ndarray]]:
    """Render the pictures of a film one at a time: how many, and an iterator; memory does not grow with the video.

    Upper row: the frame, its tracks of the anchor's points, and both outputs of the pair (anchor, frame) in one view. Lower row:
    the accumulated reconstruction with the camera path, and the anchor's points now with the past paths of dynamic ones. The
    views start near the cameras, turn aside and come back. The last frame is repeated `hold` times, while the views keep turning.
    """
    if width < LEAST_WIDTH_PX:
        raise UserError(f"width of a film must be at least {LEAST_WIDTH_PX} pixels, got {width}")
    if stride < 1 or hold < 0:
        raise UserError(f"stride must be at least 1 and hold at least 0, got {stride} and {hold}")
    frames = np.arange(0, len(scene), stride).tolist()
    frames += [frames[-1]] * hold
    return len(frames), _pictures(scene, frames, width, turn_deg)


def _pictures(scene: Scene, frames: list[int], width: int, turn_deg: float) -> Iterator[np.ndarray]:
    frame_height, frame_width = scene.rgb.shape[1:3]
    layout = plan_film(frame_height, frame_width, width)
    renderer = PanelRenderer(
        scene,
        cell=_size(layout.tracks),
        pair=_size(layout.pair),
        view=_size(layout.trajectories),
        azimuths_deg=np.linspace(0, turn_deg, 5).tolist(),
        spacing_px=max(17 * width / 1600, 12.0),
        most_points=_POINTS,
    )
    page = _page(layout)
    for k, frame in enumerate(frames):
        azimuth_deg = turn_deg * (1 - np.cos(2 * np.pi * k / len(frames))) / 2
        yield _composed(page, layout, scene, renderer.at(frame, azimuth_deg))


def write_film(
    scene: Scene,
    path: str | Path,
    *,
    fps: float | None = None,
    width: int | None = None,
    turn_deg: float = 40.0,
    stride: int | None = None,
    hold_s: float = 1.0,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write a film of a scene, see `render_film`: .mp4 for players and browsers, or .gif.

    Args:
        scene: in memory or on disk.
        path: output file, written atomically.
        fps: Pictures per second. Default: the film is as long as the video.
        width: Width in pixels. Default: 1280; GIF: 640.
        turn_deg: Rotation of the views in degrees.
        stride: frames per picture. Default: 1; GIF: to at most about 12.5 pictures per second.
        hold_s: Duration of the last picture in seconds.
        progress: called with (pictures done, pictures in total).
    Raises:
        UserError: the suffix is neither .mp4 nor .gif, or an option is out of range.
    """
    path = Path(path)
    gif = path.suffix.lower() == ".gif"
    if not gif and path.suffix.lower() != ".mp4":
        raise UserError(f"{path} must end in .mp4 or .gif")
    if fps is not None and not 0 < fps <= 240:
        raise UserError(f"fps must be above 0 and at most 240, got {fps:g}")
    span = float(scene.time_s[-1]) - float(scene.time_s[0])
    own_fps = float(np.clip((len(scene) - 1) / span, 1, 60)) if span > 0 else 10.0  # what players support
    if stride is None:
        stride = max(round((fps or own_fps) / GIF_FPS), 1) if gif else 1
    fps = fps or own_fps / max(stride, 1)
    hold = round(hold_s * fps)
    count, pictures = render_film(scene, width=width or (640 if gif else 1280), turn_deg=turn_deg, stride=stride, hold=hold)
    (write_gif if gif else write_video)(path, _counted(pictures, count, progress), fps=fps)


def _counted(pictures: Iterator[np.ndarray], count: int, progress: Callable[[int, int], None] | None) -> Iterator[np.ndarray]:
    for k, picture in enumerate(pictures):
        yield picture
        if progress:
            progress(k + 1, count)


def _page(layout: FilmLayout) -> np.ndarray:
    """Background common to all pictures: headings on white."""
    page = np.full((layout.height, layout.width, 3), PAGE, np.uint8)
    small = max(round(0.8 * layout.text), 9)
    for panel, (name, what) in _HEADINGS.items():
        left, top, width, _ = getattr(layout, panel)
        baseline = top - 0.5 * layout.text
        used = put_text(page, name, left, baseline, layout.text, INK, bold=True) + small
        if text_width(what, small) < width - used:
            put_text(page, what, left + used, baseline, small, GREY)
    return page


def _composed(page: np.ndarray, layout: FilmLayout, scene: Scene, panels: Panels) -> np.ndarray:
    picture = page.copy()
    small = max(round(0.8 * layout.text), 9)
    _, _, cell_width, cell_height = layout.input
    image = frame_cell(scene, panels.frame, panels.input, cell_height, cell_width, small, max(layout.text // 5, 2))
    pair = panels.pair.copy()
    used = put_text(pair, "tracking", 0.6 * small, len(pair) - 0.7 * small, small, TRACKING, bold=True)
    put_text(pair, "reconstruction", used + 1.4 * small, len(pair) - 0.7 * small, small, RECONSTRUCTION, bold=True)
    for panel, part in (vars(panels) | {"input": image, "pair": pair}).items():
        if panel in _HEADINGS:
            left, top, width, height = getattr(layout, panel)
            picture[top : top + height, left : left + width] = part
    left, top, width, height = layout.timeline
    done = round(width * (panels.frame + 1) / len(scene))
    picture[top : top + height, left : left + width] = NOTHING
    picture[top : top + height, left : left + done] = ACCENT
    return picture
