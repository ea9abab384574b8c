"""Where the pointmaps of a video come from: the network alone, or geometry fused with a depth prior."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import cast

import numpy as np

from st4rtrack.classical.given import Given
from st4rtrack.classical.solver.cameras import solve_video
from st4rtrack.hints.cameras import solved_cameras
from st4rtrack.hints.depth_prior import DepthPrior, open_depth_prior
from st4rtrack.hints.frames import GreyFrames
from st4rtrack.hints.fused import FusedGeometry
from st4rtrack.hints.steps import StepFlows
from st4rtrack.io.known.pixels import SourceSize
from st4rtrack.model.checkpoint import is_embedded
from st4rtrack.model.network import St4RTrack
from st4rtrack.options import KnownGeometry
from st4rtrack.pipeline.outward import Outward
from st4rtrack.pipeline.pointmaps import NetworkPointmaps, PointmapSource
from st4rtrack.pipeline.preparation import PreparedVideo
from st4rtrack.pipeline.tokens import TokenFile
from st4rtrack.timing import timed
from st4rtrack.types import UserError, Video


def chosen_prior(word: str, model: St4RTrack, source: Video, prepared: PreparedVideo) -> DepthPrior | None:
    """The depth prior of a run, `None` where all geometry is the network's.

    Args:
        word: "auto", or as of `open_depth_prior`.

    Raises:
        UserError: no such prior, or the network takes none.
    """
    if word == "auto":
        word = "builtin" if is_embedded(model) else "none"
    if word != "none" and not model.config.hints:
        raise UserError(f"{model.name} predicts all geometry itself and takes no depth prior; leave out --depth-prior")
    size = SourceSize(source.height, source.width, prepared.pixel_map)
    return open_depth_prior(word, prepared.video, source_size=size, device=str(model.device))


def with_solved_cameras(known: KnownGeometry, source: Video, anchor_index: int) -> KnownGeometry:
    """What the user knows, with the cameras of the global solver where `cameras` asks for them; its focal length where none is given.

    Raises:
        UserError: the solution cannot be trusted.
    """
    if not known.asks_solver:
        return known
    solved = solve_video(source, anchor_index=anchor_index)
    if not solved.trusted:
        raise UserError(
            f"--cameras solver found no cameras that can be trusted: {solved.distrust}; give a file of cameras or none"
        )
    intrinsics = np.array([[solved.focal_px, 0, source.width / 2], [0, solved.focal_px, source.height / 2], [0, 0, 1]])
    return replace(
        known,
        cameras=solved.world_from_camera,
        intrinsics=intrinsics if known.intrinsics is None else known.intrinsics,
    )


class _TimedFlows(StepFlows):
    chain = timed("geometry")(StepFlows.chain)


class _TimedFusion(FusedGeometry):
    __init__ = timed("fusion")(FusedGeometry.__init__)
    _pair = timed("fusion")(FusedGeometry._pair)


def pointmap_source(
    model: St4RTrack,
    prepared: PreparedVideo,
    given: Given,
    prior: DepthPrior | None,
    *,
    static: Callable[[int], np.ndarray] | None,
    batch_size: int,
    kept: TokenFile | None,
) -> tuple[Outward, PointmapSource]:
    """The frames of a video in their order with their classical geometry, and what makes pointmaps of them.

    Args:
        given: what is known of the video; `given.static` are the pixels that tell the camera.
        static: [height, width] bool of a frame, what the user knows to be static.
        batch_size: frames that the network gets at once.
        kept: takes their tokens.
    """
    video, index = prepared.video, prepared.anchor_index
    rgb = video.frame(index)
    if prior is None:
        outward = Outward(video, index, rgb, with_geometry=model.config.hints, given=given)
        return outward, NetworkPointmaps(model, video, index, outward.anchor_view, batch_size=batch_size, kept=kept)
    prior = cast(DepthPrior, timed("prior")(prior))
    size = (video.height, video.width)
    solve = partial(timed("solver")(solved_cameras), prepared.content, size, prepared.pixel_map.scale, index, given)
    steps = _TimedFlows(GreyFrames(video))
    outward = Outward(video, index, rgb, with_geometry=True, given=given, solve=solve, step_flow=steps.chain)
    assert outward.geometry is not None
    if outward.geometry.surveyed is None:
        outward.use_prior_depth(prior(rgb, index, outward.geometry.focal_px).depth)
    fused = _TimedFusion(
        outward.geometry,
        prior,
        steps,
        num_frames=len(video),
        anchor_index=index,
        anchor_rgb=rgb,
        static=static,
        unsolved=outward.unsolved,
    )
    return outward, fused
