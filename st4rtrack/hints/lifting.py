"""Anchor points in other frames: static ones stay; dynamic ones follow chained flow and are lifted by the frame depth.

Flow fails where objects are small, rotate, or are occluded for a while. Such points move with the dynamic pixels of equal colour
around them, and are recovered by their appearance in the anchor (`hints/matching.py`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from torch import Tensor

from st4rtrack.classical.flow import returns, sample_flow
from st4rtrack.classical.two_view import TwoView, pixel_rays, pixels_of_points
from st4rtrack.geometry.camera import pixel_grid
from st4rtrack.geometry.sampling import inside_image
from st4rtrack.geometry.transforms import invert_rigid, transform_maps
from st4rtrack.geometry.vectors import length
from st4rtrack.hints.matching import AppearanceMatcher
from st4rtrack.hints.steps import Flows
from st4rtrack.model.matching import MatchingHead

MIN_MOTION = 0.008
"""Distance of a tracked pixel from the projection of the static point, in long sides of the image, above which it has moved."""
RADIUS, ACROSS = 0.043, 7
"""Neighbourhood of a lost point: radius in long sides of the image (11 px at 256), and number of samples along the diameter."""
MIN_AROUND = 3
SAME_COLOUR = 25.0
"""Distance in CIELAB (8 bits per channel) at which the weight of a neighbour drops to about a third."""
UNCHANGED_COLOUR = 40.0
"""Distance in CIELAB beyond which the pixel shows another point: an occluder, or disoccluded background."""
PULL = 0.5
"""Share of the distance to the surrounding dynamic pixels by which a point off every object is pulled back to one."""
DEPTH_PX = 9
"""Window size in which the object depth is searched for a point just off its object."""


@dataclass(frozen=True)
class TrackedFrame:
    """Part of a frame's geometry that tracks need.

    Attributes:
        depth: [H, W] z-depth.
        dynamic: [H, W] bool, dynamic pixels.
        colour: [H, W, 3] smoothed CIELAB, from `appearance`.
        maps: backbone maps for the matching head; empty without one.
    """

    depth: np.ndarray
    dynamic: np.ndarray
    colour: np.ndarray
    maps: Sequence[Tensor] = ()


def appearance(rgb: np.ndarray) -> np.ndarray:
    """Smoothed CIELAB [H, W, 3] float32 of an image [H, W, 3] uint8."""
    return cv2.GaussianBlur(cv2.cvtColor(rgb, cv2.COLOR_RGB2LAB).astype(np.float32), (0, 0), 1.0)


class LiftedTracks:
    """3D tracks of the anchor's points in one direction through a video.

    Args:
        anchor: the first frame.
        focal_px: focal length of the first frame; that of another one is in its `TwoView`.
        head: matching head, which corrects drift and finds lost points; `None`: flow alone.

    Attributes:
        points: [H, W, 3] in the last frame, in the anchor camera.
        pixels: [H, W, 2] pixels in the last frame.
    """

    def __init__(self, anchor: TrackedFrame, focal_px: float, head: MatchingHead | None = None) -> None:
        self._size = (anchor.depth.shape[0], anchor.depth.shape[1])
        self._grid = pixel_grid(*self._size)
        self._colour, self._last = anchor.colour, anchor
        self._follows = self._may_move = anchor.dynamic
        self._matcher = None if head is None else AppearanceMatcher(head, anchor.maps, self._size)
        self.pixels = self._grid.astype(np.float32)
        rays = pixel_rays(self._grid, focal_px, self._size).astype(np.float32)
        self.points = self._start = rays * anchor.depth[..., None]

    def next(self, frame: TrackedFrame, view: TwoView, step: Flows) -> np.ndarray:
        """Advance the tracks to the next frame; return the points [H, W, 3] in it.

        Args:
            frame: the next frame.
            view: flow from the anchor to it, and its pose.
            step: flow from the last frame to it and back.
        """
        pixels, moved = self._followed(frame, step)
        at_rest = self._projected(self._start, view).astype(np.float32)
        begins, rests = self._changes(frame, view, at_rest)
        pixels = np.where(begins[..., None], self._grid + view.forward_flow, pixels)
        self._follows = (self._follows | begins) & ~rests
        rays = pixel_rays(pixels, view.focal_px, self._size)
        now = transform_maps(view.anchor_from_frame, rays * self._depth(frame, pixels)[..., None])
        moved = ((moved | begins) & ~rests)[..., None]
        self.points = np.where(moved, now, np.where(rests[..., None], self._start, self.points)).astype(np.float32)
        self.pixels = np.where(moved, pixels, self._projected(self.points, view)).astype(np.float32)
        self._last = frame
        return self.points

    def _followed(self, frame: TrackedFrame, step: Flows) -> tuple[np.ndarray, np.ndarray]:
        """Pixels [H, W, 2] of the dynamic points in the next frame, and which of them [H, W] bool are tracked."""
        forward, backward = step
        on_object = returns(forward, backward) & self._last.dynamic
        kept = self._follows & _nearest(on_object, self.pixels)
        reliable = kept.copy()
        pixels = self.pixels + sample_flow(forward, self.pixels)
        lost = np.argwhere(self._follows & ~kept)
        row, column = lost.T
        there, found = self._with_those_around(lost, on_object, forward)
        pixels[row[found], column[found]] = there[found]
        kept[row[found], column[found]] = True
        if self._matcher is not None:
            pixels = self._matcher.corrected(frame.maps, pixels, self._follows, reliable, frame.dynamic)
        return pixels, kept

    def _with_those_around(self, lost: np.ndarray, on_object: np.ndarray, flow: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pixels [N, 2] of lost points [N, 2] (row, column), moved with the dynamic pixels around them; whether there are any."""
        height, width = self._size
        position = self.pixels[lost[:, 0], lost[:, 1]]
        around = position[:, None] + _disc(RADIUS * max(self._size))
        inside = inside_image(around, height, width)
        column, row = np.clip(np.floor(around), 0, (width - 1, height - 1)).astype(np.intp).transpose(2, 0, 1)
        chosen = on_object[row, column] & inside
        differs = length(self._last.colour[row, column] - self._colour[lost[:, 0], lost[:, 1]][:, None])
        weight = chosen * (np.exp(-((differs / SAME_COLOUR) ** 2)) + 1e-3)
        weight = (weight / np.maximum(weight.sum(1, keepdims=True), 1e-9))[..., None]
        beside = ~_nearest(self._last.dynamic, position)[:, None]
        towards = (np.stack([column, row], axis=-1) + 0.5 - position[:, None]) * beside[..., None]
        there = position + (weight * (flow[row, column] + PULL * towards)).sum(1)
        return there, chosen.sum(1) >= MIN_AROUND

    def _changes(self, frame: TrackedFrame, view: TwoView, at_rest: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Masks [H, W] of points that start and that stop moving; `at_rest`: their projections if they are static."""
        there = self._grid + view.forward_flow
        seen = returns(view.forward_flow, view.backward_flow)
        away = length((at_rest - there).astype(np.float32)) > MIN_MOTION * max(self._size)
        dynamic = frame.dynamic.astype(np.float32)
        unchanged = self._unchanged(frame, at_rest)
        # otherwise the flow has drifted off the object, or has been captured by a passing object
        begins = seen & away & ~self._follows & self._may_move & (sample_flow(dynamic, there) > 0.5)
        rests = seen & ~away & self._follows & unchanged & (sample_flow(dynamic, at_rest) < 0.1)
        self._may_move = self._may_move | (unchanged & (sample_flow(dynamic, at_rest) > 0.5))
        return begins, rests

    def _unchanged(self, frame: TrackedFrame, pixels: np.ndarray) -> np.ndarray:
        """Points [H, W] bool whose colour in a frame, at pixels [H, W, 2], equals that in the anchor."""
        return length(sample_flow(frame.colour, pixels) - self._colour) < UNCHANGED_COLOUR

    def _depth(self, frame: TrackedFrame, pixels: np.ndarray) -> np.ndarray:
        """Depth [H, W] of a frame at pixels [H, W, 2]; just off an object, the depth of the object."""
        dynamic = frame.dynamic.astype(np.float32)
        count, total = (cv2.blur(field, (DEPTH_PX, DEPTH_PX)) for field in (dynamic, dynamic * frame.depth))
        near = count * DEPTH_PX**2 > 3.5
        of_objects = np.where(near & ~frame.dynamic, total / np.maximum(count, 1e-6), frame.depth)
        return np.where(_nearest(near & ~frame.dynamic, pixels), _nearest(of_objects, pixels), sample_flow(frame.depth, pixels))

    def _projected(self, points: np.ndarray, view: TwoView) -> np.ndarray:
        """Pixels [H, W, 2] in a frame of points in the anchor camera."""
        return pixels_of_points(transform_maps(invert_rigid(view.anchor_from_frame), points), view.focal_px, self._size)


def _nearest(field: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """Sample a field [H, W] at the nearest pixels [..., 2]; the border value is repeated."""
    column, row = np.clip(np.floor(pixels), 0, (field.shape[1] - 1, field.shape[0] - 1)).astype(np.intp).T
    return field[row.T, column.T]


@lru_cache(maxsize=4)
def _disc(radius: float) -> np.ndarray:
    """Offsets [K, 2] of a sampling grid within a disc."""
    across = np.linspace(-radius, radius, ACROSS)
    offsets = np.stack(np.meshgrid(across, across), axis=-1).reshape(-1, 2)
    return offsets[length(offsets) <= radius]
