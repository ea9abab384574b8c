"""Frame subsets of a scene; the arrays stay in place and frames are read on access."""

import dataclasses
from typing import Any, TypeVar

import numpy as np

from st4rtrack.scene import Scene
from st4rtrack.types import Array, Cameras, Pointmap, UserError

_Fields = TypeVar("_Fields", Pointmap, Cameras)


class ChosenFrames:
    """Lazy view of the frames `index` [chosen] of an array [time, ...] in memory or on disk."""

    def __init__(self, array: Array, index: np.ndarray) -> None:
        self._array, self._index = array, index
        self.source = getattr(array, "source", None)
        self.shape, self.dtype = (len(index), *array.shape[1:]), array.dtype
        self.ndim = len(self.shape)

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, key: Any) -> np.ndarray:
        frames, *rest = key if isinstance(key, tuple) else (key,)
        chosen = self._index[frames]
        if isinstance(chosen, np.integer):
            return np.asarray(self._array[int(chosen)])[tuple(rest)]
        return np.stack([np.asarray(self._array[int(frame)]) for frame in chosen])[(slice(None), *rest)]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self[:].astype(dtype or self.dtype, copy=False)


def every_nth(scene: Scene, stride: int) -> Scene:
    """Select every `stride`-th frame of a scene, including the anchor frame.

    Raises:
        UserError: the stride is not an integer of at least 1.
    """
    if isinstance(stride, bool) or not isinstance(stride, int) or stride < 1:
        raise UserError(f"stride must be a whole number of frames, 1 or more, not {stride!r}")
    if stride == 1:
        return scene
    index = np.arange(scene.anchor_index % stride, len(scene), stride)

    def chosen(fields: _Fields) -> _Fields:
        arrays = {field.name: getattr(fields, field.name) for field in dataclasses.fields(fields)}
        timeless = {"moving"}
        return dataclasses.replace(
            fields, **{name: ChosenFrames(a, index) for name, a in arrays.items() if a is not None and name not in timeless}
        )

    return dataclasses.replace(
        scene,
        rgb=ChosenFrames(scene.rgb, index),
        time_s=np.asarray(scene.time_s)[index],
        tracking=chosen(scene.tracking),
        reconstruction=chosen(scene.reconstruction),
        cameras=chosen(scene.cameras),
        anchor_index=scene.anchor_index // stride,
    )
