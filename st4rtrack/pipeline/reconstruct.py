"""The complete method: from a video to a scene (paper Fig. 2 and section 3). The second file to read after the README.

video -> frames at network size -> pointmaps of (anchor, frame) -> temporal smoothing -> focal length, pose per frame
-> visibility -> dynamic objects -> scene
"""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from st4rtrack.classical.side_by_side import blas_on_one_thread
from st4rtrack.hints.cameras import with_solved_cameras
from st4rtrack.hints.provider import chosen_prior, takes_hints
from st4rtrack.io.known.known import known_of_video
from st4rtrack.io.known.pixels import SourceSize
from st4rtrack.io.scene import SceneBuffer, SceneSink, SceneWriter, holds_scene, load_scene
from st4rtrack.io.video import open_video
from st4rtrack.model.checkpoint import load_model
from st4rtrack.model.network import St4RTrack
from st4rtrack.options import FrameSelection, KnownGeometry, ReconstructOptions, positive_int, with_keywords
from st4rtrack.pipeline.ahead import ended_together
from st4rtrack.pipeline.anchor_pairs import LiftedPairs, NetworkPairs
from st4rtrack.pipeline.anchors import add_anchors
from st4rtrack.pipeline.frames import World, process_frames
from st4rtrack.pipeline.known import with_observations
from st4rtrack.pipeline.motion import dynamic_masks, moving_masks, moving_points
from st4rtrack.pipeline.pointmaps import automatic_batch_size, pointmap_source
from st4rtrack.pipeline.preparation import prepare, scene_header
from st4rtrack.pipeline.quality import focal_evidence, observed_warnings, quality_report, record_shares
from st4rtrack.pipeline.refine import smoothing_chosen
from st4rtrack.pipeline.repeatable import computed_with
from st4rtrack.pipeline.tokens import TokenFile
from st4rtrack.pipeline.unsolved import hide_unsolved
from st4rtrack.quality import QualityReport
from st4rtrack.scene import Scene
from st4rtrack.types import KnownVideo

logger = logging.getLogger(__name__)


@blas_on_one_thread()
def reconstruct(
    video: Any,
    *,
    model: St4RTrack | None = None,
    output: str | Path | None = None,
    known: KnownGeometry | None = None,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
    options: ReconstructOptions = ReconstructOptions(),
    frames: FrameSelection = FrameSelection(),
    **keywords: Any,
) -> Scene:
    """Track and reconstruct a whole video in the camera frame of the anchor.

    Args:
        video: path of a video, a folder or glob of images, an array [time, height, width, 3] uint8, or a `Video`.
        model: the network; default: the embedded one.
        output: scene folder; frames are streamed to it, in constant memory. `None` keeps the scene in memory.
        known: user-provided geometry, which replaces estimates.
        overwrite: replace an existing scene in `output`.
        progress: called with (frames done, all frames) after each frame; its exceptions end the call, and the same call resumes
            the scene in `output`.
        options: `ReconstructOptions`: anchor, size, depth prior and others.
        frames: selection of the source frames to process.
        keywords: fields of `options` and `frames` by name: `reconstruct("a.mp4", anchor="middle", stop=50)`.
    Returns:
        The scene, read lazily from `output` if given. The anchor camera is exactly the identity.
    Raises:
        UserError: the video, the options or the folder cannot be used.
    """
    options, frames = with_keywords("reconstruct", keywords, options, frames)
    source = open_video(video, **vars(frames))
    model, smooth = model or load_model(), smoothing_chosen(options.refine)
    finished = None if overwrite else output
    prepared = prepare(source, model.config, anchor=options.anchor, size=options.size, fit=options.fit, output=finished)
    network_video, pixel_map, anchor_index = prepared.video, prepared.pixel_map, prepared.anchor_index
    size_px = (network_video.height, network_video.width)
    user = (
        known_of_video(with_solved_cameras(known, source, anchor_index), source, pixel_map, size_px, anchor_index)
        if known
        else None
    )
    prior = chosen_prior(options.depth_prior, model, network_video, SourceSize(source.height, source.width, pixel_map))
    stored = {
        "refine": ["smoothness"] if smooth else [],
        "depth_prior": "none" if prior is None else prior.name,
        **({"anchor": "auto"} if options.anchor == "auto" else {}),
    }
    said = None if user is None else user.said
    header = scene_header(source, network_video, pixel_map, model, anchor_index, options.points_dtype, options=stored, known=said)
    if output is not None and not overwrite and holds_scene(output, header):
        return load_scene(output)
    automatic = options.batch_size in (None, "auto")
    batch_size = (
        automatic_batch_size(model.config, model.device, *size_px)
        if automatic
        else positive_int(options.batch_size, "batch_size")
    )
    evidence = with_observations(user or KnownVideo(), source, prepared)
    kept = TokenFile(len(source), None if output is None else Path(output)) if options.anchor == "auto" else None
    static = None if user is None else user.static
    outward, pointmaps = pointmap_source(model, prepared, evidence, prior, static=static, batch_size=batch_size, kept=kept)
    world = World.of(pointmaps, network_video.frame(anchor_index), outward.units, anchor_index, user)

    # only now: a network or an anchor without a valid camera must not cost the user the scene that `overwrite` replaces
    sink: SceneSink = SceneBuffer(header) if output is None else SceneWriter.create(output, header, overwrite=overwrite)
    with sink, ended_together():  # always stop the workers and release the folder lock
        process_frames(network_video, outward, pointmaps, world, smooth, sink, batch_size=batch_size, progress=progress)
        results = {
            **world.results,
            "content_px": prepared.content_px,
            "cameras_not_found": len(hide_unsolved(sink, outward.all_unsolved)),
            "computed": computed_with(model.device, batch_size),
        }
        if options.anchor == "auto":
            pairs = NetworkPairs(model, sink, batch_size, kept) if prior is None else LiftedPairs(sink)
            results |= add_anchors(pairs, sink, place_lost=not takes_hints(model.config))
        moving = moving_points(sink.read, len(source), anchor_index)
        if static is not None:
            moving &= ~static(anchor_index)
        shares: list[float] = []
        masks = dynamic_masks(sink.read, len(source))
        if prior is None:
            masks = moving_masks(sink.read, len(source), anchor_index, moving)
        in_frames = record_shares(masks, shares)
        focal = focal_evidence(None if user is None else user.focal_px, outward.geometry, world.focal_px, max(size_px))
        warnings = observed_warnings(prepared.warnings, outward, source)
        parallax = None if outward.motion is None or outward.motion.kind == "unknown" else outward.motion.parallax

        def report() -> QualityReport:
            share = sum(shares) / len(shares)
            return quality_report(sink, moving_share=share, parallax=parallax, warnings=warnings, **focal)

        scene = sink.finish(moving=moving, moving_in_frames=in_frames, results=results, quality=report)
    if scene.quality is not None and not scene.quality.reliable:
        logger.warning("the scene is unreliable: %s", next(w.sentence for w in scene.quality.warnings if w.serious))
    return scene
