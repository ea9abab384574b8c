"""Which points of the anchor the teacher is asked to follow, which of them move, and which are kept for measuring."""

import numpy as np

from st4rtrack.adapt.priors import TeacherTracks
from st4rtrack.geometry.camera import project
from st4rtrack.geometry.sampling import sample_map
from st4rtrack.geometry.transforms import transform_points

MOVES_LONG_SIDES = 0.01
"""A track that departs so far from what a static point would do, in long sides of the image, moves; or, where most tracks depart,
three times as far as they do."""

HELD_OUT_CELL = 1 / 16
"""Side of the squares that are held out together, in long sides of the image: neighbours of what is learnt would measure little."""


def grid_queries(height: int, width: int, count: int) -> np.ndarray:
    """Pixels [about count, 2] (u, v), float64, of a grid in the middle of the image."""
    spacing = max(1.0, float(np.sqrt(height * width / count)))
    columns, rows = max(1, round(width / spacing)), max(1, round(height / spacing))
    u, v = np.meshgrid((np.arange(columns) + 0.5) * width / columns, (np.arange(rows) + 0.5) * height / rows)
    return np.stack([u.ravel(), v.ravel()], axis=1)


def more_queries(query_px: np.ndarray, moving: np.ndarray, height: int, width: int, most: int) -> np.ndarray:
    """Pixels [at most `most`, 2] half a grid step around the moving ones, evenly chosen.

    Args:
        query_px: [N, 2] of `grid_queries`.
        moving: [N] bool.
    """
    quarter = 0.25 * max(1.0, float(np.sqrt(height * width / len(query_px))))
    around = np.array([[-1, -1], [1, -1], [-1, 1], [1, 1]]) * quarter
    more = (query_px[moving][:, None] + around).reshape(-1, 2)
    more = more[((more > 0) & (more < (width, height))).all(axis=1)]
    return more[np.linspace(0, len(more) - 1, min(most, len(more))).round().astype(np.int64)] if len(more) else more


def moving_tracks(
    tracks: TeacherTracks, anchor_points: np.ndarray, camera_from_world: np.ndarray, intrinsics: np.ndarray
) -> np.ndarray:
    """Which tracks [N] bool are not where a static point would be.

    Args:
        tracks: of the teacher.
        anchor_points: [height, width, 3] content of the anchor at its own time, world units.
        camera_from_world: [T, 4, 4], NaN where unknown.
        intrinsics: [3, 3] network pixels.
    """
    height, width = anchor_points.shape[:2]
    points = sample_map(anchor_points.astype(np.float64), tracks.query_px.astype(np.float64))
    departs = np.full(tracks.visible.shape, np.nan)
    for t, camera in enumerate(camera_from_world):
        in_camera = transform_points(camera, points)
        with np.errstate(all="ignore"):
            far = np.linalg.norm(project(in_camera, intrinsics) - tracks.tracks_px[t], axis=-1)
        departs[t] = np.where(tracks.visible[t] & (in_camera[:, 2] > 0), far, np.nan)
    known = np.isfinite(departs).any(axis=0)
    furthest = np.zeros(len(points))
    furthest[known] = np.nanquantile(departs[:, known], 0.9, axis=0)
    usual = float(np.median(furthest[known])) if known.any() else 0.0
    return furthest > max(MOVES_LONG_SIDES * max(height, width), 3 * usual)


def held_out_tracks(query_px: np.ndarray, moving: np.ndarray, height: int, width: int, share: float, seed: int) -> np.ndarray:
    """Which tracks [N] bool are only measured on: those in a share of the squares of the image, drawn at random, the same for a seed.

    The same share of the squares with dynamic points and of the others is drawn, so that both are measured. At least one of several
    is held out, and at least one is not.

    Args:
        query_px: [N, 2].
        moving: [N] bool, dynamic points.
        share: of the squares.
    """
    side = HELD_OUT_CELL * max(height, width)
    cells = np.floor(query_px / side).astype(np.int64) @ (1 << 20, 1)
    dynamic = np.unique(cells[moving])
    rng = np.random.default_rng([seed, 1])
    held = np.zeros(len(cells), bool)
    for names in (dynamic, np.setdiff1d(cells, dynamic)):
        if len(names):
            count = int(np.clip(round(share * len(names)), 1, max(1, len(names) - 1)))
            held |= np.isin(cells, rng.permutation(names)[:count])
    if held.all():  # all in one square
        held[1:] = False
    return held
