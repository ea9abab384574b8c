"""Frame subsets of a scene; the arrays stay in place and frames are read on access."""

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from st4rtrack.io.formats.common import time_codes
from st4rtrack.io.video import frame_position
from st4rtrack.scene import Scene
from st4rtrack.types import Array, Cameras, Pointmap, TrackingOverTime, UserError

_Fields = TypeVar("_Fields", bound=Pointmap | Cameras)
_STANDARD_RATES = (24000 / 1001, 24, 25, 30000 / 1001, 30, 48, 50, 60000 / 1001, 60, 120, 240)
_ROUNDED_S = 1e-3
_MAX_OUTPUT_FRAMES = 2
"""Maximum number of output frames at a constant rate, relative to the number of frames."""


class ChosenFrames:
    """Lazy view of the frames `index` [chosen] of an array [time, ...] in memory or on disk; `change` maps each frame."""

    def __init__(self, array: Array, index: np.ndarray, change: Callable[[np.ndarray], np.ndarray] | None = None) -> None:
        self._array, self._index, self._change = array, index, change
        self.source = getattr(array, "source", None)
        self.shape, self.dtype = (len(index), *array.shape[1:]), array.dtype
        self.ndim = len(self.shape)

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, key: Any) -> np.ndarray:
        frames, *rest = key if isinstance(key, tuple) else (key,)
        chosen = self._index[frames]
        if isinstance(chosen, np.integer):
            return self._frame(int(chosen))[tuple(rest)]
        return np.stack([self._frame(int(frame)) for frame in chosen])[(slice(None), *rest)]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self[:].astype(dtype or self.dtype, copy=False)

    def _frame(self, index: int) -> np.ndarray:
        frame = np.asarray(self._array[index])
        return frame if self._change is None else self._change(frame).astype(self.dtype)


def every_nth(scene: Scene, stride: int) -> Scene:
    """Select every `stride`-th frame of a scene, including the anchor frame.

    Raises:
        UserError: the stride is not an integer of at least 1.
    """
    if isinstance(stride, bool) or not isinstance(stride, int) or stride < 1:
        raise UserError(f"stride must be a whole number of frames, 1 or more, not {stride!r}")
    return scene if stride == 1 else chosen_frames(scene, np.arange(scene.anchor_index % stride, len(scene), stride))


def chosen_frames(scene: Scene, index: np.ndarray) -> Scene:
    """The frames `index` of a scene, in increasing order and possibly repeated; they must include the anchor frame."""

    def chosen(fields: _Fields) -> _Fields:
        arrays = {field.name: getattr(fields, field.name) for field in dataclasses.fields(fields)}
        timeless = {"moving"} if isinstance(fields, TrackingOverTime) else set()
        return dataclasses.replace(
            fields, **{name: ChosenFrames(a, index) for name, a in arrays.items() if a is not None and name not in timeless}
        )

    def position(frame: int) -> int:
        return int(np.abs(index - frame).argmin())

    return dataclasses.replace(
        scene,
        rgb=ChosenFrames(scene.rgb, index),
        time_s=np.asarray(scene.time_s)[index],
        tracking=chosen(scene.tracking),
        reconstruction=chosen(scene.reconstruction),
        cameras=chosen(scene.cameras),
        anchor_index=position(scene.anchor_index),
        anchors={position(frame): chosen(anchor) for frame, anchor in scene.anchors.items()},
    )


def frame_range(scene: Scene, start: int | str | None, stop: int | str | None, *, with_anchor: bool) -> Scene:
    """Select the frames from `start` to before `stop`: source frame numbers, or seconds as in "2.5s".

    Args:
        scene: in memory or on disk.
        start, stop: default: the first frame, the end.
        with_anchor: whether the anchor frame must be among them, because its pixels are tracked.
    Raises:
        UserError: there is no such frame, or the anchor frame is not among them.
    """
    source = scene.info.get("source", {})
    known = source.get("first_frame") is not None and source.get("last_frame") is not None
    first, last = (source["first_frame"], source["last_frame"]) if known else (0, len(scene) - 1)
    numbers = np.linspace(first, last, len(scene)).round().astype(int)
    time_s = np.asarray(scene.time_s, np.float64)
    low = 0 if start is None else frame_position(numbers, time_s, "start", start)
    high = len(scene) if stop is None else frame_position(numbers, time_s, "stop", stop)
    if low >= high:
        frames = f"its frames are {numbers[0]} to {numbers[-1]}, {time_s[0]:.2f} to {time_s[-1]:.2f} s"
        end = "the end" if stop is None else f"before {stop}"
        raise UserError(f"the scene has no frame from {numbers[0] if start is None else start} to {end}: {frames}")
    anchors = {frame: maps for frame, maps in scene.anchors.items() if low <= frame < high}
    if not low <= scene.anchor_index < high:
        if with_anchor:
            other = f"choose --anchor {min(anchors)}" if anchors else "include it"
            raise UserError(
                f"the anchor, source frame {numbers[scene.anchor_index]}, whose points are tracked, is not selected; {other}"
            )
        scene = dataclasses.replace(scene, tracking=dataclasses.replace(scene.tracking, moving=None))  # the mask of another frame
    if known:
        source = {**source, "first_frame": int(numbers[low]), "last_frame": int(numbers[high - 1])}
        scene = dataclasses.replace(scene, info={**scene.info, "source": source})
    return chosen_frames(dataclasses.replace(scene, anchors=anchors), np.arange(low, high))


def of_anchor(scene: Scene, frame: int) -> Scene:
    """The scene with the tracks of one of its anchors, in the same world frame.

    Raises:
        UserError: the frame is no anchor.
    """
    if frame == scene.anchor_index:
        return scene
    if frame not in scene.anchors:
        known = ", ".join(str(number) for number in sorted([scene.anchor_index, *scene.anchors]))
        raise UserError(f"frame {frame} is no anchor of this scene; choose one of: {known}")
    return dataclasses.replace(scene, tracking=scene.anchors[frame], anchor_index=frame, anchors={})


def at_constant_rate(scene: Scene) -> tuple[Scene, np.ndarray, float]:
    """Select frames at a constant frame rate, for tools that address time by frame number.

    Every frame is selected, and the rate is the mean one, if the frame rate is constant. Else the rate is one over the median
    interval, and each output frame shows the frame nearest in time.

    Returns:
        The selected frames, their indices [output frames] in `scene`, and frames per second.
    """
    codes, rate = time_codes(scene)
    time_s = np.asarray(scene.time_s, np.float64) - float(scene.time_s[0])
    if codes == list(range(len(scene))):
        # The nearest standard rate, if the timestamps, which may be rounded to milliseconds, agree with it.
        nearest = min(_STANDARD_RATES, key=lambda standard: abs(standard - rate))
        agrees = float(time_s[-1]) * abs(rate / nearest - 1) <= _ROUNDED_S
        return scene, np.arange(len(scene)), nearest if agrees else rate
    intervals_s = np.diff(time_s)
    median_rate = 1 / float(np.median(intervals_s[intervals_s > 0]))
    if time_s[-1] * median_rate < _MAX_OUTPUT_FRAMES * len(scene):
        rate = median_rate
    output_s = np.arange(round(time_s[-1] * rate) + 1) / rate
    shown = np.searchsorted((time_s[1:] + time_s[:-1]) / 2, output_s)
    shown[np.abs(shown - scene.anchor_index).argmin()] = scene.anchor_index
    return chosen_frames(scene, shown), shown, rate
