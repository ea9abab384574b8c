"""Every frame from the video to the scene: through the network, consistent over time, with its camera and what it sees of the anchor."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from st4rtrack.classical.two_view import TwoView
from st4rtrack.io.known.known import KnownVideo
from st4rtrack.io.memory import give_back_freed
from st4rtrack.io.scene import SceneSink
from st4rtrack.model.network import St4RTrack
from st4rtrack.pipeline.ahead import run_ahead
from st4rtrack.pipeline.cameras import anchor_intrinsics, solve_camera
from st4rtrack.pipeline.known import Placing
from st4rtrack.pipeline.outward import Outward
from st4rtrack.pipeline.pointmaps import Anchor, encode_anchor, predict_batch, predict_frames, predict_reconstructions
from st4rtrack.pipeline.refine import Refinement, drawn_to_surface, frames_needed, refined
from st4rtrack.pipeline.tokens import TokenFile
from st4rtrack.pipeline.tracks import cycle_error, visible_probability
from st4rtrack.types import Pointmap, TwoPointmaps, Video

FRAMES_BETWEEN_RELEASES = 8
"""After so many, freed memory goes back to the system: what is held would grow by a tenth over
thousands of frames. Under one percent of the time."""


@dataclass(frozen=True)
class World:
    """What all frames of a video share: the anchor's camera frame, and how a frame finds its place in it.

    Attributes:
        anchor: as the network knows it.
        anchor_index: of the processed frames.
        points: the anchor's content at its own time.
        intrinsics: [3, 3] network pixels, as those points have them.
        placing: by what the user knows; `None` where that is nothing.
    """

    anchor: Anchor
    anchor_index: int
    points: Pointmap
    intrinsics: np.ndarray
    placing: Placing | None

    @classmethod
    def of(cls, model: St4RTrack, video: Video, outward: Outward, anchor_index: int, known: KnownVideo | None) -> "World":
        """The world of a video at network size.

        Raises:
            UserError: the anchor's points fit no camera, or not what is known.
        """
        rgb = video.frame(anchor_index)
        anchor = encode_anchor(model, rgb, outward.anchor_view)
        own = predict_batch(model, anchor, rgb[None], [outward.anchor_view])[0]
        intrinsics, placing = anchor_intrinsics(own.tracking), None
        if known is not None:
            predict = partial(predict_reconstructions, model, anchor, video)
            placing = Placing(known, anchor_index, own, intrinsics, outward.units, predict)
        return cls(anchor, anchor_index, own.tracking, intrinsics, placing)

    @property
    def results(self) -> dict[str, Any]:
        """What was found out about it, plain values."""
        if self.placing is None:
            return {"focal_px": self.intrinsics[0, 0]}
        return {"focal_px": self.placing.intrinsics(self.anchor_index)[0, 0], **self.placing.results}

    def intrinsics_of(self, index: int) -> np.ndarray:
        """[3, 3] of a frame."""
        return self.intrinsics if self.placing is None else self.placing.intrinsics(index)

    def place(self, index: int, maps: TwoPointmaps, neighbour: np.ndarray) -> tuple[TwoPointmaps, np.ndarray, bool]:
        """Pointmaps and `world_from_camera` [4, 4] of a frame, and whether that was found; else it is the neighbour's."""
        if self.placing is not None:
            return self.placing.place(index, maps, neighbour)
        found = np.eye(4) if index == self.anchor_index else solve_camera(maps.reconstruction, self.intrinsics)
        return maps, neighbour if found is None else found, found is not None


def process_frames(
    video: Video,
    outward: Outward,
    model: St4RTrack,
    world: World,
    steps: Refinement,
    sink: SceneSink,
    *,
    batch_size: int,
    kept: TokenFile | None,
    progress: Callable[[int, int], None] | None,
) -> None:
    """All frames that the sink misses, each written as soon as it is known. Reading, the network and this loop overlap.

    Args:
        video: at network size.
        outward: its frames in the order in which they are read.
        model, world: what predicts and places them.
        steps: of refinement.
        sink: takes them.
        batch_size: frames at once.
        kept: takes their tokens, for anchors that come later.
        progress: called with (frames done, frames in all).
    """
    done = sink.frames_done
    returned: dict[int, np.ndarray] = {}  # of the frames that wait for the network, where classical geometry knows it
    needed = frames_needed(done, world.anchor_index, steps)
    frames = run_ahead(_noting_cycle_errors(outward.frames(needed), returned), batch_size)
    predicted = run_ahead(predict_frames(model, world.anchor, frames, batch_size=batch_size, kept=kept), batch_size)
    for index, rgb, maps in refined(predicted, world.points, world.anchor_index, steps):
        cycle = returned.pop(index, None)
        if done[index]:  # on disk already, and only looked at again for its neighbours' sake
            continue
        _write(sink, world, steps, index, rgb, float(video.time_s[index]), maps, cycle)
        done[index] = True
        num_done = int(done.sum())
        if num_done % FRAMES_BETWEEN_RELEASES == 0:
            give_back_freed()
        if progress:
            progress(num_done, len(video))


def _noting_cycle_errors(
    frames: Iterator[tuple[int, np.ndarray, TwoView | None]], returned: dict[int, np.ndarray]
) -> Iterator[tuple[int, np.ndarray, TwoView | None]]:
    """The frames, and in `returned` how well the optical flow of each comes back."""
    for index, rgb, view in frames:
        if view is not None:
            returned[index] = cycle_error(view)
        yield index, rgb, view


def _write(
    sink: SceneSink,
    world: World,
    steps: Refinement,
    index: int,
    rgb: np.ndarray,
    time_s: float,
    maps: TwoPointmaps,
    cycle: np.ndarray | None,
) -> None:
    """A frame with its camera and with what it sees of the anchor."""
    at_anchor = index == world.anchor_index
    # a frame without a camera has its neighbour's on the anchor's side, and is marked
    towards_anchor = index - int(np.sign(index - world.anchor_index))
    neighbour = np.eye(4) if at_anchor else sink.read("world_from_camera", towards_anchor)
    maps, camera, solved = world.place(index, maps, neighbour)
    intrinsics = world.intrinsics_of(index)
    if steps.surface and solved and not at_anchor:
        maps = drawn_to_surface(maps, camera, intrinsics)
    probability = np.ones(rgb.shape[:2], np.float32)
    if not at_anchor:
        probability = visible_probability(maps, camera, intrinsics, world.anchor.rgb, rgb, cycle_error=cycle)
    probability = probability.astype(np.float16)  # before it is compared, so that what is stored agrees
    sink.write_frame(
        index,
        rgb=rgb,
        time_s=time_s,
        tracking_points=maps.tracking.points_world,
        tracking_confidence=maps.tracking.confidence,
        visible=probability > 0.5,
        visible_probability=probability,
        reconstruction_points=maps.reconstruction.points_world,
        reconstruction_confidence=maps.reconstruction.confidence,
        world_from_camera=camera,
        intrinsics=intrinsics,
        solved=solved,
    )
