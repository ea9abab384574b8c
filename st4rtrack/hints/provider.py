"""Single provider of the network's hints: flow, cameras, static depth, a depth prior, and user-provided geometry.

No code outside this package checks whether a network was trained with hints.
"""

from functools import partial

import numpy as np

from st4rtrack.classical.anchored import StepFlow
from st4rtrack.hints.cameras import HintInputs, solved_cameras, turning_cameras
from st4rtrack.hints.depth_prior import DepthPrior
from st4rtrack.hints.depth_prior.networks import BuiltinPrior
from st4rtrack.hints.depth_prior.open import open_depth_prior
from st4rtrack.hints.depth_prior.steady import SteadyPrior
from st4rtrack.hints.frame_encoder import FrameEncoder
from st4rtrack.hints.frame_order import OrderedFrames
from st4rtrack.hints.fused import FusedGeometry
from st4rtrack.hints.steps import GreyFrames, StepFlows
from st4rtrack.io.known.matching import SourceSize
from st4rtrack.model.config import ModelConfig
from st4rtrack.model.network import St4RTrack
from st4rtrack.types import UserError, Video

STEADY_FRAMES = 12
"""Number of frames whose depth prior gives the contrast of depth for a fixed camera."""
MAY_ZOOM = ("fixed", "rotation", "zoom")
"""Camera motions next to the anchor in which the camera does not translate: it may zoom, there or later."""


def takes_hints(config: ModelConfig) -> bool:
    """Whether the pointmaps of a network are classical geometry with monocular depth; not so for the released architecture."""
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
    own = takes_hints(model.config)
    if word == "auto":
        word = "builtin" if own else "none"
    if word != "none" and not own:
        raise UserError(f"{model.name} predicts all geometry and takes no depth prior; leave out --depth-prior")
    if word == "builtin":  # so that an adapted or retrained network counts
        return BuiltinPrior(model.monocular_network())
    return open_depth_prior(word, video, source_size=source_size, device=str(model.device))


def ordered_frames(inputs: HintInputs, prior: DepthPrior | None, step_flow: StepFlow | None = None) -> OrderedFrames:
    """Frames of a video outward from the anchor; with a depth prior, with classical geometry.

    Args:
        prior: depth prior; frames without a camera from the solver or the user are registered against it.
        step_flow: see `AnchoredGeometry.along`.
    """
    video, known = inputs.video, inputs.known
    if prior is None:
        return OrderedFrames(video, inputs.anchor_index, with_geometry=False, known=known)
    solve = partial(solved_cameras, inputs)
    ordered = OrderedFrames(video, inputs.anchor_index, with_geometry=True, known=known, solve=solve, step_flow=step_flow)
    geometry = ordered.geometry
    assert geometry is not None
    if (inputs.zoom or known.focals_px is not None) and geometry.motion is not None and geometry.kind in MAY_ZOOM:
        turning = turning_cameras(inputs)
        geometry = geometry if turning is None else geometry.with_turning_camera(turning)
    focals_px = np.full(len(video), geometry.focal_px) if geometry.focals_px is None else geometry.focals_px
    ordered.geometry = geometry.with_prior(lambda frame, index: prior(frame, index, float(focals_px[index])).depth)
    return ordered


def provide_hints(model: St4RTrack, inputs: HintInputs, prior: DepthPrior | None) -> tuple[OrderedFrames, FusedGeometry | None]:
    """Frames of a video in order, and with a depth prior the fused geometry; the model's matching head is used."""
    if prior is None:
        return ordered_frames(inputs, None), None
    steps = StepFlows(GreyFrames(inputs.video))
    ordered = ordered_frames(inputs, prior, steps.chain)
    assert ordered.geometry is not None
    steady = prior
    if ordered.geometry.kind == "fixed":
        steady = SteadyPrior(prior, ordered.near_frames(STEADY_FRAMES), ordered.geometry.focal_px)
    return ordered, FusedGeometry(ordered, steady, steps, static=inputs.static, matching=_matching(model, prior))


def _matching(model: St4RTrack, prior: DepthPrior) -> FrameEncoder | None:
    """Encoder of frames for the network's matching head, shared with the depth prior if possible; `None` without such a head."""
    if model.matching_head is None:
        return None
    if isinstance(prior, BuiltinPrior) and prior.encoder.network.matching_head is model.matching_head:
        return prior.encoder
    return FrameEncoder(model.monocular_network())
