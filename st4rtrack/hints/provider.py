"""The one provider of everything that a network receives beforehand: flow, cameras, static depth, a depth prior, and what the user knows.

Nothing outside this package asks whether a network was trained with hints.
"""

from collections.abc import Callable
from functools import partial

import numpy as np

from st4rtrack.hints.cameras import solved_cameras
from st4rtrack.hints.depth_prior import DepthPrior, open_depth_prior
from st4rtrack.hints.frames import GreyFrames
from st4rtrack.hints.fused import FusedGeometry
from st4rtrack.hints.outward import Outward
from st4rtrack.hints.steps import StepFlows
from st4rtrack.io.known.pixels import SourceSize
from st4rtrack.model.checkpoint import is_embedded
from st4rtrack.model.config import ModelConfig
from st4rtrack.model.network import St4RTrack
from st4rtrack.types import KnownVideo, UserError, Video


def takes_hints(config: ModelConfig) -> bool:
    """Whether a network receives anything beforehand; the released architecture does not."""
    return config.hints


def chosen_prior(word: str, model: St4RTrack, video: Video, source_size: SourceSize) -> DepthPrior | None:
    """The depth prior of a run, `None` where all geometry is the network's.

    Args:
        word: "auto", or as of `open_depth_prior`.
        video: at network size.
        source_size: of the video that the user gave.

    Raises:
        UserError: no such prior, or the network takes none.
    """
    if word == "auto":
        word = "builtin" if is_embedded(model) else "none"
    if word != "none" and not takes_hints(model.config):
        raise UserError(f"{model.name} predicts all geometry itself and takes no depth prior; leave out --depth-prior")
    return open_depth_prior(word, video, source_size=source_size, device=str(model.device))


def provide_hints(
    config: ModelConfig,
    video: Video,
    anchor_index: int,
    *,
    known: KnownVideo | None = None,
    prior: DepthPrior | None = None,
    content: Video | None = None,
    scale: tuple[float, float] = (1.0, 1.0),
    static: Callable[[int], np.ndarray] | None = None,
) -> tuple[Outward, FusedGeometry | None]:
    """The frames of a video outward from the anchor with their classical geometry, and, with a depth prior, the fused geometry.

    Args:
        config: of the network.
        video: at network size.
        known: what is known of it; its static pixels tell the camera.
        prior: depth of single frames; then also `content`, the video at source size without bars, which the cameras are solved from.
        scale: network pixels per pixel of `content`, across and down.
        static: [height, width] bool of a frame, what the user knows to be static.
    """
    rgb = video.frame(anchor_index)
    if prior is None or content is None:
        return Outward(video, anchor_index, rgb, with_geometry=takes_hints(config), known=known), None
    size = (video.height, video.width)
    solve = partial(solved_cameras, content, size, scale, anchor_index, known or KnownVideo())
    steps = StepFlows(GreyFrames(video))
    outward = Outward(video, anchor_index, rgb, with_geometry=True, known=known, solve=solve, step_flow=steps.chain)
    assert outward.geometry is not None
    if outward.geometry.surveyed is None:
        outward.use_prior_depth(prior(rgb, anchor_index, outward.geometry.focal_px).depth)
    return outward, FusedGeometry(
        outward.geometry,
        prior,
        steps,
        num_frames=len(video),
        anchor_index=anchor_index,
        anchor_rgb=rgb,
        static=static,
        unsolved=outward.unsolved,
    )
