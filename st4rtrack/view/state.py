"""Viewer state chosen by the user, independent of controls and drawing."""

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from st4rtrack.view.layers import SceneLayers, Settings
from st4rtrack.view.placement import PointPath, Ray, picture_half_size, pixel_on_picture, pixel_on_points, place

ALL = "side by side"
MOST_PICKED = 6


@dataclass(frozen=True)
class DisplayState:
    """Everything that determines the picture; equal moments need not be drawn twice."""

    frames: tuple[tuple[int, int], ...]  # (scene index, frame index) of each shown scene
    settings: Settings  # settings of layers and points
    through: bool  # whether the window looks through the first scene's camera
    picked: int  # counter of changes of the picked points


class ViewState:
    """State of one viewer. Every change wakes the drawing thread; all methods are thread-safe.

    Args:
        scenes: scenes, not empty; the timeline is that of the first.
    """

    def __init__(self, scenes: list[SceneLayers]) -> None:
        self.scenes = scenes
        self.settings = Settings()
        self.timeline = Timeline(np.asarray(scenes[0].scene.time_s))
        self.through = False
        self.paths: dict[int, list[PointPath]] = {which: [] for which in range(len(scenes))}
        self.changed = threading.Event()
        self._lock = threading.RLock()
        self._picked = 0
        self.choose(ALL)

    @contextlib.contextmanager
    def _change(self) -> Iterator[None]:
        """Change the state as one step, and wake the drawing thread."""
        with self._lock:
            yield
        self.changed.set()

    def choose(self, name: str) -> None:
        """Show one scene by name, or all side by side."""
        with self._change():
            names = [layers.name for layers in self.scenes]
            self.shown = list(range(len(names))) if name == ALL else [names.index(name)]
            self.placements, self.start_view = place(self.scenes, self.shown)

    def set(self, **settings: Any) -> None:
        """Change some of the `Settings`."""
        with self._change():
            self.settings = replace(self.settings, **settings)

    def look_through(self, through: bool) -> None:
        """Look through the camera of the shown frame, or stop doing so."""
        with self._change():
            self.through = through

    def play(self, playing: bool) -> None:
        """Start or stop playback."""
        with self._change():
            self.timeline.play(playing)

    def step(self, frames: int) -> None:
        """Stop playback and step by some frames."""
        with self._change():
            self.timeline.step(frames)

    def seek(self, frame: int) -> None:
        """Go to a frame."""
        with self._change():
            self.timeline.seek(frame)

    def advance(self, clock_s: float) -> DisplayState:
        """Advance the timeline to a time of a monotonic clock, and return what to draw."""
        with self._lock:
            self.timeline.advance(clock_s)
            frames = tuple((which, self.frame_of(which)) for which in self.shown)
            return DisplayState(frames, self.settings, self.through, self._picked)

    def frame_of(self, which: int) -> int:
        """Index of the currently shown frame of a scene."""
        if which == 0:
            return self.timeline.frame
        return nearest_frame(np.asarray(self.scenes[which].scene.time_s), self.timeline.now_s)

    def hit(self, origin: np.ndarray, direction: np.ndarray, picture_depth: float) -> tuple[int, np.ndarray] | None:
        """Resolve a click to a pixel of an anchor.

        Args:
            origin, direction: [3] ray of the click, in window coordinates.
            picture_depth: depth of the anchor's picture in its camera relative to the scene's extent; 0: not shown.
        Returns:
            Scene index and network pixel [2] of its anchor; None if the ray hits nothing.
        """
        found = []
        for which in self.shown:
            placement = self.placements[which]
            for hit in self._hits(which, placement.ray(origin, direction), picture_depth):
                if hit is not None:
                    found.append((hit[1] * placement.scale, which, hit[0]))
        return min(found, key=lambda hit: hit[0])[1:] if found else None

    def add_path(self, which: int, path: PointPath) -> None:
        """Add a picked point; beyond `MOST_PICKED` the oldest is removed."""
        with self._change():
            self.paths[which] = [*self.paths[which], path][-MOST_PICKED:]
            self._picked += 1

    def clear_paths(self) -> None:
        """Remove all picked points."""
        with self._change():
            self.paths = {which: [] for which in self.paths}
            self._picked += 1

    def _hits(self, which: int, ray: Ray, picture_depth: float) -> list[tuple[np.ndarray, float] | None]:
        layers = self.scenes[which]
        scene, anchor = layers.scene, layers.scene.anchor_index
        least = layers.least_confidence("tracking", self.settings.least_sure)
        hits = [pixel_on_points(scene, self.frame_of(which), ray, least_confidence=least)]
        if picture_depth > 0:
            pose = np.asarray(scene.cameras.world_from_camera[anchor], np.float64)
            size = (int(scene.rgb.shape[1]), int(scene.rgb.shape[2]))
            depth = picture_depth * layers.extent
            hits.append(pixel_on_picture(ray, pose, picture_half_size(scene, anchor), depth, size))
        return hits


def path_table(state: ViewState) -> str:
    """Markdown table of the picked points: pixel in the anchor, path length, displacement and speed."""
    rows = ["| | pixel | path length | displacement | speed now | max. speed |", "|-|-|-|-|-|-|"]
    for which in state.shown:
        frame = state.frame_of(which)
        for k, path in enumerate(state.paths[which]):
            u, v = path.query_source_px
            speed = path.speed
            now = "-" if np.isnan(speed[frame]) else f"{speed[frame]:.3g}"
            known = speed[np.isfinite(speed)]
            fastest = f"{known.max():.3g}" if len(known) else "-"
            name = f"{state.scenes[which].name} {k + 1}" if len(state.scenes) > 1 else f"{k + 1}"
            rows.append(f"| {name} | {u:.0f}, {v:.0f} | {path.length:.3g} | {path.displacement:.3g} | {now} | {fastest} |")
    return "\n".join(rows)


class Timeline:
    """Looping playback of frames at their source times; frames that come too fast are skipped, never queued.

    Args:
        time_s: [frames] presentation times, increasing.
        frame: initial frame.
        speed: playback speed; 1 is that of the source.
    """

    def __init__(self, time_s: np.ndarray, *, frame: int = 0, speed: float = 1.0) -> None:
        times = np.asarray(time_s, np.float64)
        step = float(np.median(np.diff(times))) if len(times) > 1 else 0.0
        self._time_s = times - times[0] if step > 0 else np.arange(len(times)) / 30.0
        self._end_s = float(self._time_s[-1]) + (step if step > 0 else 1 / 30.0)  # the last frame lasts as long as the others
        self.speed = speed
        self.playing = False
        self._last_s: float | None = None
        self.seek(frame)

    def __len__(self) -> int:
        return len(self._time_s)

    @property
    def now_s(self) -> float:
        """Playback time in seconds since the first frame."""
        return self._now_s

    @property
    def frame(self) -> int:
        """Index of the shown frame."""
        return int(np.clip(np.searchsorted(self._time_s, self._now_s + 1e-9, side="right") - 1, 0, len(self) - 1))

    def seek(self, frame: int) -> None:
        """Go to a frame, clamped to the valid range."""
        self._now_s = float(self._time_s[int(np.clip(frame, 0, len(self) - 1))])

    def step(self, frames: int) -> None:
        """Stop playback and step forwards or backwards; wraps around."""
        self.playing = False
        self.seek((self.frame + frames) % len(self))

    def play(self, playing: bool) -> None:
        """Start or stop playback."""
        self.playing = playing
        self._last_s = None

    def advance(self, clock_s: float) -> None:
        """Advance to the time `clock_s` of a monotonic clock, if playing."""
        if self.playing and self._last_s is not None:
            self._now_s = (self._now_s + self.speed * max(clock_s - self._last_s, 0.0)) % self._end_s
        self._last_s = clock_s if self.playing else None


def nearest_frame(time_s: np.ndarray, now_s: float) -> int:
    """Index of the frame shown `now_s` after the first, for a scene whose times may differ from those of the timeline."""
    times = np.asarray(time_s, np.float64)
    return int(np.argmin(np.abs(times - times[0] - now_s)))
