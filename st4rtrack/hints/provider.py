"""Single provider of the network's hints: flow, cameras, static depth, a depth prior, and user-provided geometry.

No code outside this package checks whether a network was trained with hints.
"""

from collections.abc import Callable
from functools import partial

import numpy as np

from st4rtrack.hints.cameras import solved_cameras, turning_cameras
from st4rtrack.hints.depth_prior import DepthPrior, open_depth_prior
from st4rtrack.hints.depth_prior.builtin import BuiltinPrior
from st4rtrack.hints.frame_encoder import FrameEncoder
from st4rtrack.hints.frame_order import OrderedFrames
from st4rtrack.hints.fused import FusedGeometry
from st4rtrack.hints.steps import GreyFrames, StepFlows
from st4rtrack.io.known.pixels import SourceSize
from st4rtrack.model.config import ModelConfig
from st4rtrack.model.network import St4RTrack
from st4rtrack.types import KnownVideo, UserError, Video

MAY_ZOOM = ("fixed", "rotation", "zoom")
"""Camera motions next to the anchor in which the camera does not translate: it may zoom, there or later."""


def takes_hints(config: ModelConfig) -> bool:
    """Whether a network uses hints; the released architecture does not."""
    return config.hints


def chosen_prior(word: str, model: St4RTrack, video: Video, source_size: SourceSize) -> DepthPrior | None:
    """Depth prior of a run, `None` if the network predicts all geometry.

    Args:
        word: "auto", the monocular head of the network if it has one; or a source for `open_depth_prior`.
        video: at network size.
        source_size: size of the user's video.

    Raises:
        UserError: unknown prior, or a network that does not use one.
    """
    own = model.config.monocular and takes_hints(model.config)
    if word == "auto":
        word = "builtin" if own else "none"
    if word != "none" and not takes_hints(model.config):
        raise UserError(f"{model.name} predicts all geometry and takes no depth prior; leave out --depth-prior")
    if word == "builtin" and own:  # so that an adapted or retrained network counts
        return BuiltinPrior(model.monocular_network())
    return open_depth_prior(word, video, source_size=source_size, device=str(model.device))


def provide_hints(
    model: St4RTrack,
    video: Video,
    anchor_index: int,
    *,
    known: KnownVideo | None = None,
    prior: DepthPrior | None = None,
    content: Video | None = None,
    scale: tuple[float, float] = (1.0, 1.0),
    static: Callable[[int], np.ndarray] | None = None,
    zoom: bool = False,
) -> tuple[OrderedFrames, FusedGeometry | None]:
    """Frames of a video outward from the anchor with classical geometry and, with a depth prior, the fused geometry.

    Args:
        model: the network.
        video: at network size.
        known: known geometry; pose estimation uses its static pixels.
        prior: depth prior; requires `content`, the video at source size without bars, for the camera solver.
        scale: network pixels per content pixel, horizontal and vertical.
        static: function from a frame index to [height, width] bool, user-provided static pixels.
        zoom: whether the focal length may change.
    """
    rgb = video.frame(anchor_index)
    if prior is None or content is None:
        return OrderedFrames(video, anchor_index, rgb, with_geometry=takes_hints(model.config), known=known), None
    size = (video.height, video.width)
    known = known or KnownVideo()
    solve = partial(solved_cameras, content, size, scale, anchor_index, known, zoom=zoom)
    steps = StepFlows(GreyFrames(video))
    ordered = OrderedFrames(video, anchor_index, rgb, with_geometry=True, known=known, solve=solve, step_flow=steps.chain)
    assert ordered.geometry is not None
    if (zoom or known.focals_px is not None) and ordered.motion is not None and ordered.motion.kind in MAY_ZOOM:
        turning = turning_cameras(content, size, scale, anchor_index, known)
        if turning is not None:
            ordered.use_turning_camera(turning)
    if ordered.geometry.surveyed is None:
        ordered.use_prior_depth(prior(rgb, anchor_index, ordered.geometry.focal_px).depth)
    return ordered, FusedGeometry(
        ordered.geometry,
        prior,
        steps,
        num_frames=len(video),
        anchor_index=anchor_index,
        anchor_rgb=rgb,
        static=static,
        unsolved=ordered.unsolved,
        matching=_matching(model, prior),
    )


def _matching(model: St4RTrack, prior: DepthPrior) -> FrameEncoder | None:
    """Encoder of frames for the network's matching head, the one of its depth prior if possible; `None` without such a head."""
    if model.matching_head is None:
        return None
    if isinstance(prior, BuiltinPrior) and prior.encoder.network.matching_head is model.matching_head:
        return prior.encoder
    return FrameEncoder(model.monocular_network())
