"""Layout of a video image: scene content, bars around it, static overlays, stereo pairs, and 360-degree images.

Decided from a few frames (`sampled_indices`) at any reduced size. Bars: every pixel has the dark colour of the border in all
frames, up to a straight edge; or a blurred, enlarged copy of the video fills them, as phones and editors do with a portrait
video. Overlays: image gradients that persist while those of the scene change, so that nothing is decided in static images.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

NUM_PAIRS = 8
"""Positions in the video that are sampled with a pair of frames: one pair shows one subtitle, all of them a logo."""
PAIR_GAP = 6
"""Frames between the two frames of a pair: a quarter of a second, less than a subtitle lasts."""

MAX_BAR_LEVEL = 96
"""Maximum grey level of bars: a uniformly bright border may be sky or a wall."""
BAR_TOLERANCE = 12
"""Change of a uniform bar by compression, in grey levels; near an edge, colour may change by four times that."""
MIN_BAR_SHARE, MIN_LAST_ROW_SHARE = 0.97, 0.75
"""Minimum share of bar pixels in the outermost rows of a bar, and in its last row; `MIN_TEXT_ROW_SHARE` in subtitle rows."""
MIN_TEXT_ROW_SHARE = 0.4
MAX_CONTENT_SHARE = 0.4
MAX_LONE_CONTENT_SHARE = 0.15
"""Maximum share of bar-coloured pixels just beyond a single bar: it needs a clearer edge than a pair of equal bars."""
EDGE_ROWS = 3
MIN_BAR_THICKNESS = 0.015
MIN_FRAME_CONTRAST = 24
"""Minimum difference of the 99th and the 5th percentile of grey levels of analysed frames: others count as black."""

MAX_BLURRED_DETAIL = 0.35
"""Second difference of grey levels along the edge, over the median in the image centre: 0.05 to 0.22 in blurred bars."""
MIN_BLURRED_BAR, MAX_BLURRED_BAR = 0.05, 0.4
"""Width of a blurred bar over that of the image."""
MIN_BLURRED_SIDE = 32
"""Minimum short side in pixels of images that are tested for blurred bars."""
EDGE_STEP, MIN_EDGE_STEP, MIN_EDGE_ROWS = 3.0, 2.0, 0.4
"""Step at the edge of a blurred bar over the median step between columns within it, the same in grey levels, and share of the
rows with this step: 0.5 to 1, 0.38 at most in photographs without bars."""
MIN_BLURRED_CORRELATION = 0.75
"""Minimum correlation of blurred bars with the enlarged content: at least 0.8 if blur and enlargement differ from those tried."""
BLURRED_COLUMNS, BLURS, ZOOMS = 64, (0.02, 0.05, 0.1), (1.0, 1.15, 1.3)
"""Number of columns for the comparison; blurs in widths of the image; enlargements relative to the one that just fills it."""

MIN_OVERLAY_GRADIENT = 20.0
"""Minimum gradient (grey levels per pixel) of the edges of logos and letters."""
MAX_OVERLAY_VARIATION = 0.2
"""Maximum standard deviation of a persistent gradient over its mean: the effect of compression on an edge."""
MIN_CHANGE_AROUND, MIN_CHANGE_RATIO = 6.0, 4.0
"""Minimum median change (grey levels) of the scene around an overlay, and over that of its edges: else the scene is static."""
MAX_CHANGE_WITHIN = 3.2
"""Maximum median change of the edges of an overlay: 0 to 2.5 in logos and subtitles; slow texture has 3.8 and more."""
MIN_CHANGING_SHARE = 0.3
"""Minimum share of the image that must change to distinguish overlays from the scene."""
MIN_EDGE_GRADIENT, MIN_COHERENCE, MAX_COHERENT_SHARE = 8.0, 0.95, 0.25
"""Edges whose mean gradient is at least 0.95 of the mean gradient length persist. Outside overlays, 0 to 0.17 of the edges do in
clips of moving cameras; if more do, the camera is fixed, and unchanging pixels are scene."""
MIN_OVERLAY_PIXELS, MIN_OVERLAY_SHARE = 4e-4, 0.008
"""Minimum share of the image of one part of an overlay, and of all: clips without any have up to 0.006 of false parts."""
MAX_REGION, MIN_EDGE_DENSITY = 0.12, 0.12
"""Maximum share of the image that one overlay covers, and minimum share of edge pixels in it."""
RING_PX = 6

STEREO_ROWS = 96
MAX_STEREO_SHIFT = 0.1
"""Maximum disparity in widths of one view."""
MIN_STEREO_CORRELATION = 0.8
MIN_STEREO_SHARE = 0.6

ASPECT_TOLERANCE = 0.01
MAX_SEAM = 1.5
"""Maximum difference between the first and the last column over that of adjacent columns: the image continues around it."""
MAX_POLE = 0.35
"""Maximum difference along the first and the last row, each the image of one point, over that along the middle row."""
PANORAMA_WIDTH = 256

Stereo = Literal["none", "side_by_side", "over_under"]


@dataclass(frozen=True)
class Layout:
    """Parts of the image that do not show the scene.

    Attributes:
        content: (left, top, right, bottom) of the image inside the bars, in source pixels.
        overlay: [height, width] bool at the size of the analysed frames, pixels of logos and subtitles; `None` in static images.
        stereo: arrangement of two stereo views in one image.
    """

    content: tuple[int, int, int, int]
    overlay: np.ndarray | None
    stereo: Stereo


def sampled_indices(num_frames: int) -> list[int]:
    """Indices of the frames for `find_layout`, increasing: pairs of nearby frames spread over the video."""
    gap = min(PAIR_GAP, max(num_frames // 6, 1))
    starts = np.linspace(0, max(num_frames - 1 - gap, 0), NUM_PAIRS).round().astype(int)
    return sorted({min(int(start) + step, num_frames - 1) for start in starts for step in (0, gap)})


def find_layout(frames: Sequence[np.ndarray], source_size: tuple[int, int]) -> Layout:
    """Detect bars, overlays and stereo pairs of a video.

    Args:
        frames: those of `sampled_indices`, each [height, width, 3] uint8 RGB, all of one size, 320 pixels or so on the long side.
        source_size: (height, width) of the source, for `Layout.content`.
    """
    height, width = frames[0].shape[:2]
    lit = [frame for frame in frames if _contrast(frame) >= MIN_FRAME_CONTRAST]
    left, top, right, bottom = _content(np.stack(lit)) if len(lit) >= 2 else (0, 0, width, height)
    if len(lit) >= 2 and (left, top, right, bottom) == (0, 0, width, height):
        side, above = _blurred_bar(np.stack(lit)), _blurred_bar(np.stack(lit).swapaxes(1, 2))
        left, top, right, bottom = side, above, width - side, height - above
    inside = [frame[top:bottom, left:right] for frame in lit]
    scale = np.array([source_size[1] / width, source_size[0] / height])
    first, last = (
        np.ceil(np.array([left, top]) * scale),
        np.array(source_size[::-1]) - np.ceil((width - right, height - bottom) * scale),
    )
    content = (int(first[0]), int(first[1]), int(last[0]), int(last[1]))
    overlay = None
    if len(lit) >= 4 and (found := _overlay(inside)) is not None:
        overlay = np.zeros((height, width), bool)
        overlay[top:bottom, left:right] = found
    return Layout(content, overlay, _stereo(inside) if inside else "none")


def _contrast(frame: np.ndarray) -> float:
    dark, bright = np.percentile(frame.max(-1), (5, 99))
    return float(bright - dark)


def _content(frames: np.ndarray) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) of the content of frames [frames, height, width, 3]."""
    border = np.concatenate([frames[:, 0], frames[:, -1], frames[:, :, 0], frames[:, :, -1]], axis=1)
    other = _deviation(frames, np.median(border, axis=(0, 1))) > BAR_TOLERANCE
    rows, columns = (_busy(other.mean(axis)) for axis in (1, 0))
    top, bottom = _bars(frames[:, :, columns])
    left, right = _bars(frames[:, rows].swapaxes(1, 2))
    height, width = frames.shape[1:3]
    return left, top, width - right, height - bottom


def _busy(share: np.ndarray) -> slice:
    """Range from the first to the last row with pixels of another colour than the border."""
    busy = np.flatnonzero(share > 0.25 * share.max())
    return slice(busy[0], busy[-1] + 1) if len(busy) else slice(None)


def _bars(frames: np.ndarray) -> tuple[int, int]:
    """Thickness of the top and bottom bars of frames [frames, height, width, 3]."""
    found = [_bar(frames), _bar(frames[:, ::-1])]
    equal = min(found)[0] >= 0.7 * max(found)[0] - 1
    limit = MAX_CONTENT_SHARE if equal else MAX_LONE_CONTENT_SHARE
    top, bottom = (thickness if beyond <= limit else 0 for thickness, beyond in found)
    return (top, bottom) if top + bottom < 0.8 * frames.shape[1] else (0, 0)


def _bar(frames: np.ndarray) -> tuple[int, float]:
    """Thickness of the top bar, 0 without one, and the share of bar pixels beyond its edge."""
    colour = np.median(frames[:, :2], axis=(0, 1, 2))
    if colour.max() > MAX_BAR_LEVEL:
        return 0, 1.0
    share = (_deviation(frames, colour) <= BAR_TOLERANCE).mean(1)
    within = share >= MIN_TEXT_ROW_SHARE
    run = len(share) if within.all() else int(np.argmin(within))
    clean = np.flatnonzero(share[:run] >= MIN_LAST_ROW_SHARE)
    thickness = int(clean[-1]) + 1 if len(clean) else 0
    if thickness < max(MIN_BAR_THICKNESS * len(share), 2) or thickness + EDGE_ROWS > len(share):
        return 0, 1.0
    if share[:2].min() < MIN_BAR_SHARE:
        return 0, 1.0
    return thickness, float(share[thickness : thickness + EDGE_ROWS].min())


def _blurred_bar(frames: np.ndarray) -> int:
    """Width of equal side bars of frames [frames, height, width, 3] that contain a blurred copy of the content; 0 without."""
    frames = frames[:: max(len(frames) // 8, 1)].astype(np.float32)
    width = frames.shape[2]
    if min(frames.shape[1:3]) < MIN_BLURRED_SIDE:
        return 0
    detail = np.abs(np.diff(frames, 2, axis=1)).mean((0, 1, 3))
    sharp = np.flatnonzero(detail > MAX_BLURRED_DETAIL * np.median(detail[3 * width // 8 : 5 * width // 8]))
    if not len(sharp):
        return 0
    bar = int(min(sharp[0], width - 1 - sharp[-1]))
    if not MIN_BLURRED_BAR * width <= bar <= MAX_BLURRED_BAR * width:
        return 0
    steps = np.median(np.abs(np.diff(frames, axis=2)).mean(3), axis=0)
    steps = np.minimum(steps, steps[:, ::-1])  # edges must be symmetric
    start = max(bar - 3, 1)
    bar = start + int(np.argmax(steps[:, start : bar + 3].mean(0))) + 1
    limit = max(EDGE_STEP * float(np.median(steps[:, :start])), MIN_EDGE_STEP)
    if (steps[:, bar - 1] > limit).mean() < MIN_EDGE_ROWS:
        return 0
    return bar if _copy_correlation(frames, bar) > MIN_BLURRED_CORRELATION else 0


def _copy_correlation(frames: np.ndarray, bar: int) -> float:
    """Maximum correlation of bars with a blurred copy of the content between them, enlarged to fill the image or stretched."""
    height, width = frames.shape[1:3]
    inner = width - 2 * bar
    small = (BLURRED_COLUMNS, max(round(height * BLURRED_COLUMNS / width), 1))
    side = max(bar * BLURRED_COLUMNS // width - 1, 1)
    cuts = [(height, inner), *((height * inner / (width * zoom), inner / zoom) for zoom in ZOOMS)]

    def bars(images: list[np.ndarray]) -> np.ndarray:
        both = np.stack([(image[:, :side], image[:, -side:]) for image in images])
        return both - both.mean((2, 3), keepdims=True)

    shown = bars([cv2.resize(frame, small, interpolation=cv2.INTER_AREA) for frame in frames])
    best = 0.0
    for rows, columns in cuts:
        top, left = round((height - rows) / 2), round((width - columns) / 2)
        parts = [cv2.resize(f[top : height - top, left : width - left], small, interpolation=cv2.INTER_AREA) for f in frames]
        for blur in BLURS:
            copy = bars([cv2.GaussianBlur(part, (0, 0), blur * BLURRED_COLUMNS) for part in parts])
            best = max(best, float((copy * shown).sum() / np.sqrt(max((copy**2).sum() * (shown**2).sum(), 1e-6))))
    return best


def _deviation(frames: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """90th percentile over frames of the distance [height, width] from a colour: in brightness or, at a quarter, in a channel."""
    difference = frames.astype(np.float32) - colour.astype(np.float32)
    brightness = difference @ np.array([0.299, 0.587, 0.114], np.float32)
    distance = np.maximum(np.abs(brightness), np.abs(difference).max(-1) / 4)
    return np.quantile(distance, 0.9, axis=0, method="higher")


def _overlay(frames: list[np.ndarray]) -> np.ndarray | None:
    """Pixels [height, width] bool of logos and subtitles; `None` if the scene moves too little to decide."""
    greys = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY).astype(np.float32) for frame in frames]
    gradients = np.stack([np.stack([cv2.Sobel(g, cv2.CV_32F, 1, 0), cv2.Sobel(g, cv2.CV_32F, 0, 1)]) / 4 for g in greys])
    change = np.std(greys, axis=0)
    if (change > MIN_CHANGE_AROUND).mean() < MIN_CHANGING_SHARE:
        return None
    overlay = _regions(_persistent(gradients), change)
    votes = sum(_regions(_persistent(gradients[k : k + 2]), np.abs(greys[k] - greys[k + 1])) for k in range(0, len(greys) - 1, 2))
    found = (overlay > 0) | (votes >= 2)
    if found.mean() < MIN_OVERLAY_SHARE:
        found[:] = False
    lengths = np.linalg.norm(gradients, axis=1).mean(0)
    edges = (lengths > MIN_EDGE_GRADIENT) & ~found
    coherent = np.linalg.norm(gradients.mean(0), axis=0) > MIN_COHERENCE * lengths
    return None if (coherent & edges).sum() > MAX_COHERENT_SHARE * edges.sum() else found


def _persistent(gradients: np.ndarray) -> np.ndarray:
    """Pixels [height, width] bool with an equal strong gradient in all of [frames, 2, height, width]."""
    strength = np.linalg.norm(gradients.mean(0), axis=0)
    return (strength > MIN_OVERLAY_GRADIENT) & (np.sqrt(gradients.var(0).sum(0)) < MAX_OVERLAY_VARIATION * strength)


def _regions(edges: np.ndarray, change: np.ndarray) -> np.ndarray:
    """Filled regions [height, width] int of dense groups of edge pixels that do not change while the image around them does."""
    size = max(round(0.03 * min(edges.shape)), 3)
    kernel = cv2.getStructuringElement(cv2.MORPH_RECT, (2 * size + 1, size))
    joined = cv2.morphologyEx(edges.astype(np.uint8), cv2.MORPH_CLOSE, kernel)
    contours, _ = cv2.findContours(joined, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    found = np.zeros(edges.shape, np.uint8)
    for contour in contours:
        if MIN_OVERLAY_PIXELS <= cv2.contourArea(contour) / edges.size <= MAX_REGION:
            region = cv2.dilate(cv2.drawContours(np.zeros(edges.shape, np.uint8), [contour], -1, 1, cv2.FILLED), np.ones((5, 5)))
            around = (cv2.dilate(region, np.ones((2 * RING_PX + 1, 2 * RING_PX + 1))) > 0) & (region == 0)
            inside = edges & (region > 0)
            if inside.sum() >= max(MIN_OVERLAY_PIXELS * edges.size, MIN_EDGE_DENSITY * region.sum()) and around.any():
                within = float(np.median(change[inside]))
                limit = max(MIN_CHANGE_AROUND, MIN_CHANGE_RATIO * within)
                if within <= MAX_CHANGE_WITHIN and np.median(change[around]) > limit:
                    found[region > 0] = 1
    return found.astype(int)


def _stereo(frames: list[np.ndarray]) -> Stereo:
    """Detect whether both halves of the image show one scene, shifted along the rows."""
    greys = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames[:: max(len(frames) // 4, 1)]]
    height, width = greys[0].shape
    beside = np.median([_same_share(grey[:, : width // 2], grey[:, width - width // 2 :]) for grey in greys])
    above = np.median([_same_share(grey[: height // 2], grey[height - height // 2 :]) for grey in greys])
    if max(beside, above) < MIN_STEREO_SHARE:
        return "none"
    return "side_by_side" if beside >= above else "over_under"


def _same_share(first: np.ndarray, second: np.ndarray) -> float:
    """Share of the textured neighbourhoods of a grey image that match another one in the same row."""
    size = (STEREO_ROWS, STEREO_ROWS)
    a, b = (_band(cv2.resize(grey, size, interpolation=cv2.INTER_AREA)) for grey in (first, second))
    power = cv2.blur(a * a, (9, 9))
    best = np.zeros_like(a)
    for shift in range(-round(MAX_STEREO_SHIFT * size[0]), round(MAX_STEREO_SHIFT * size[0]) + 1):
        moved = np.roll(b, shift, axis=1)
        best = np.maximum(best, cv2.blur(a * moved, (9, 9)) / np.sqrt(np.maximum(power * cv2.blur(moved * moved, (9, 9)), 1e-6)))
    textured = power > 9
    return float((best[textured] > MIN_STEREO_CORRELATION).mean()) if textured.mean() > 0.1 else 0.0


def _band(grey: np.ndarray) -> np.ndarray:
    levels = grey.astype(np.float32)
    return cv2.GaussianBlur(levels, (0, 0), 1.0) - cv2.GaussianBlur(levels, (0, 0), 4.0)


def is_panorama(frames: Sequence[np.ndarray]) -> bool:
    """Whether most of some frames [height, width, 3] uint8 are equirectangular images of the whole sphere."""
    return bool(frames) and float(np.mean([_is_equirectangular(frame) for frame in frames])) > 0.5


def _is_equirectangular(rgb: np.ndarray) -> bool:
    height, width = rgb.shape[:2]
    if abs(width / height / 2 - 1) > ASPECT_TOLERANCE:
        return False
    small = cv2.resize(
        cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), (PANORAMA_WIDTH, PANORAMA_WIDTH // 2), interpolation=cv2.INTER_AREA
    ).astype(np.float32)
    across = np.abs(np.diff(small, axis=1))
    middle = float(across[PANORAMA_WIDTH // 4 - 16 : PANORAMA_WIDTH // 4 + 16].mean())
    seam, poles = float(np.abs(small[:, 0] - small[:, -1]).mean()), float(max(across[0].mean(), across[-1].mean()))
    return middle > 1 and seam <= MAX_SEAM * float(across.mean()) and poles <= MAX_POLE * middle
