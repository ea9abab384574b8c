"""The time line of a player: which frame is shown at which moment. No clock of its own, so it can be tested without waiting."""

import numpy as np


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
