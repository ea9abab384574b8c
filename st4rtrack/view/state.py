"""What the user has chosen, apart from how it is asked for and drawn."""

import threading
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from st4rtrack.view.layers import SceneLayers, Settings
from st4rtrack.view.picking import PointPath, Ray, pixel_on_picture, pixel_on_points
from st4rtrack.view.placement import picture_half_size, place

ALL = "side by side"
MOST_PICKED = 6


@dataclass(frozen=True)
class Moment:
    """All that decides the picture, so that two equal moments need not be drawn twice.

    Attributes:
        frames: of each shown scene: (which scene, its frame).
        settings: layers and points.
        through: whether the window looks through the first scene's camera.
        picked: how often points were picked or cleared.
    """

    frames: tuple[tuple[int, int], ...]
    settings: Settings
    through: bool
    picked: int


class ViewState:
    """The state of one viewer. Every change wakes whoever draws; all methods may be called from any thread.

    Args:
        scenes: the scenes, the first being the one whose time line is shown; not empty.
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

    def choose(self, name: str) -> None:
        """Shows one scene by its name, or all side by side."""
        with self._lock:
            names = [layers.name for layers in self.scenes]
            self.shown = list(range(len(names))) if name == ALL else [names.index(name)]
            self.placements, self.start_view = place(self.scenes, self.shown)
        self.changed.set()

    def set(self, **settings: Any) -> None:
        """Changes some of the `Settings`."""
        with self._lock:
            self.settings = replace(self.settings, **settings)
        self.changed.set()

    def look_through(self, through: bool) -> None:
        """Looks through the camera of the shown frame, or leaves it."""
        self.through = through
        self.changed.set()

    def play(self, playing: bool) -> None:
        """Starts or stops the time line."""
        with self._lock:
            self.timeline.play(playing)
        self.changed.set()

    def step(self, frames: int) -> None:
        """Stops, and goes on by some frames."""
        with self._lock:
            self.timeline.step(frames)
        self.changed.set()

    def seek(self, frame: int) -> None:
        """Goes to a frame."""
        with self._lock:
            self.timeline.seek(frame)
        self.changed.set()

    def advance(self, clock_s: float) -> Moment:
        """Moves the time line on to a moment of a steady clock, and says what is to be seen."""
        with self._lock:
            self.timeline.advance(clock_s)
            frames = tuple((which, self.frame_of(which)) for which in self.shown)
            return Moment(frames, self.settings, self.through, self._picked)

    def frame_of(self, which: int) -> int:
        """The frame of a scene that is shown now."""
        if which == 0:
            return self.timeline.frame
        return nearest_frame(np.asarray(self.scenes[which].scene.time_s), self.timeline.now_s)

    def hit(self, origin: np.ndarray, direction: np.ndarray, picture_depth: float) -> tuple[int, np.ndarray] | None:
        """What a click means.

        Args:
            origin, direction: [3] the ray of the click, as shown.
            picture_depth: at which the anchor's picture stands before its camera, as a share of the scene's extent; 0: not shown.
        Returns:
            Which scene and which network pixel [2] of its anchor; None where nothing was met.
        """
        found = []
        for which in self.shown:
            placement = self.placements[which]
            for hit in self._hits(which, placement.ray(origin, direction), picture_depth):
                if hit is not None:
                    found.append((hit[1] * placement.scale, which, hit[0]))
        return min(found, key=lambda hit: hit[0])[1:] if found else None

    def add_path(self, which: int, path: PointPath) -> None:
        """Keeps a picked point; beyond `MOST_PICKED` the oldest goes."""
        with self._lock:
            self.paths[which] = [*self.paths[which], path][-MOST_PICKED:]
            self._picked += 1
        self.changed.set()

    def clear_paths(self) -> None:
        """Forgets all picked points."""
        with self._lock:
            self.paths = {which: [] for which in self.paths}
            self._picked += 1
        self.changed.set()

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
    """The picked points in Markdown: where they are in the anchor, how far and how fast they go."""
    rows = ["| | pixel | length | straight | speed now | fastest |", "|-|-|-|-|-|-|"]
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
    """Plays frames at the times of their source, over and over; frames that come too fast are skipped, never queued.

    Args:
        time_s: [frames] presentation times, increasing.
        frame: the first one shown.
        speed: 1 is the speed of the source.
    """

    def __init__(self, time_s: np.ndarray, *, frame: int = 0, speed: float = 1.0) -> None:
        times = np.asarray(time_s, np.float64)
        step = float(np.median(np.diff(times))) if len(times) > 1 else 0.0
        self._time_s = times - times[0] if step > 0 else np.arange(len(times)) / 30.0
        self._end_s = float(self._time_s[-1]) + (step if step > 0 else 1 / 30.0)  # the last frame is shown as long as the others
        self.speed = speed
        self.playing = False
        self._last_s: float | None = None
        self.seek(frame)

    def __len__(self) -> int:
        return len(self._time_s)

    @property
    def now_s(self) -> float:
        """Seconds of the source since its first frame."""
        return self._now_s

    @property
    def frame(self) -> int:
        """The frame that is shown."""
        return int(np.clip(np.searchsorted(self._time_s, self._now_s + 1e-9, side="right") - 1, 0, len(self) - 1))

    def seek(self, frame: int) -> None:
        """Goes to a frame; beyond the ends is the end."""
        self._now_s = float(self._time_s[int(np.clip(frame, 0, len(self) - 1))])

    def step(self, frames: int) -> None:
        """Stops, and goes some frames on (or back); after the last comes the first."""
        self.playing = False
        self.seek((self.frame + frames) % len(self))

    def play(self, playing: bool) -> None:
        """Starts or stops."""
        self.playing = playing
        self._last_s = None

    def advance(self, clock_s: float) -> None:
        """Moves on to the moment `clock_s` of any steady clock, if playing."""
        if self.playing and self._last_s is not None:
            self._now_s = (self._now_s + self.speed * max(clock_s - self._last_s, 0.0)) % self._end_s
        self._last_s = clock_s if self.playing else None


def nearest_frame(time_s: np.ndarray, now_s: float) -> int:
    """The frame shown at `now_s` after the first, for a scene whose times may differ from those of the time line."""
    times = np.asarray(time_s, np.float64)
    return int(np.argmin(np.abs(times - times[0] - now_s)))
