"""The complete method: from a video to a scene (paper Fig. 2 and section 3). The second file to read after the README.

video -> frames at network size -> pointmaps of (anchor, frame) -> temporal smoothing -> focal length, pose per frame
-> visibility -> dynamic objects -> scene
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from st4rtrack.hints.provider import chosen_prior
from st4rtrack.io.scene import SceneBuffer, SceneSink, SceneWriter, holds_scene, load_scene
from st4rtrack.io.video import open_video
from st4rtrack.model.checkpoint import load_model
from st4rtrack.model.network import St4RTrack
from st4rtrack.options import FrameSelection, KnownGeometry, ReconstructOptions, with_keywords
from st4rtrack.pipeline.anchor_pairs import pairs_of
from st4rtrack.pipeline.anchors import add_anchors
from st4rtrack.pipeline.cameras import hide_unsolved
from st4rtrack.pipeline.frames import World, process_frames
from st4rtrack.pipeline.motion import dynamic_objects
from st4rtrack.pipeline.pointmaps import TokenFile, chosen_batch_size, pointmap_source
from st4rtrack.pipeline.preparation import environment, prepare, scene_header
from st4rtrack.pipeline.quality import quality_report
from st4rtrack.scene import Scene
from st4rtrack.threads import single_threaded_blas, stop_workers_on_exit


@single_threaded_blas()
def reconstruct(
    video: Any,
    *,
    model: St4RTrack | None = None,
    output: str | Path | None = None,
    known: KnownGeometry | None = None,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
    preparation: Callable[[float], None] | None = None,
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
        preparation: called with the approximate share of the preparation (first frames, camera solver) that is done, 0..1, as its
            frames are read, before the first call of `progress`.
        options: `ReconstructOptions`: anchor, size, depth prior and others.
        frames: selection of the source frames to process.
        keywords: fields of `options` and `frames` by name: `reconstruct("a.mp4", anchor="middle", stop=50)`.
    Returns:
        The scene, read lazily from `output` if given. The anchor camera is exactly the identity.
    Raises:
        UserError: the video, the options or the folder cannot be used.
    """
    options, frames = with_keywords("reconstruct", keywords, options, frames)
    source, model = open_video(video, **vars(frames)), model or load_model()
    prepared = prepare(source, model.config, options, known=known, output=None if overwrite else output, progress=preparation)
    prior = chosen_prior(options.depth_prior, model, prepared.video, prepared.source_size)
    header = scene_header(prepared, model, options, prior)
    if output is not None and not overwrite and holds_scene(output, header):
        return load_scene(output)
    batch_size = chosen_batch_size(options.batch_size, model, prepared.size)
    tokens = TokenFile(len(source), None if output is None else Path(output)) if options.anchor == "auto" else None
    ordered, pointmaps = pointmap_source(model, prepared, prior, batch_size=batch_size, kept=tokens, zoom=options.zoom == "auto")
    world = World.of(pointmaps, prepared, ordered)

    # only now: a network or an anchor without a valid camera must not cost the user the scene that `overwrite` replaces
    sink: SceneSink = SceneBuffer(header) if output is None else SceneWriter.create(output, header, overwrite=overwrite)
    with sink, stop_workers_on_exit():  # always stop the workers and release the folder lock
        process_frames(
            ordered, pointmaps, world, sink, smooth=options.refine, batch_size=batch_size, device=model.device, progress=progress
        )
        results = {**world.results, "content_px": prepared.content_px, "computed": environment(model.device, batch_size)}
        results["cameras_not_found"] = len(hide_unsolved(sink, ordered.all_unsolved))
        if options.anchor == "auto":
            results |= add_anchors(pairs_of(model, prior, sink, batch_size, tokens), sink)
        moving, masks = dynamic_objects(sink, fused=prior is not None, static=prepared.user and prepared.user.static)
        report = partial(quality_report, sink, prepared, ordered, world.focal_px)
        return sink.finish(moving=moving, moving_in_frames=masks, results=results, quality=report)
