"""The method: a video in, a scene out (paper Fig. 2 and section 3). The second file to read after the README.

video -> frames at network size -> pointmaps of (anchor, frame) -> consistent over time -> focal length, a camera per frame
-> visibility -> motion -> scene
"""

import logging
from collections.abc import Callable, Collection, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack

import numpy as np

from st4rtrack.classical.two_view import TwoView
from st4rtrack.io.known.known import Known, KnownVideo, known_of_video
from st4rtrack.io.scene import SceneBuffer, SceneHeader, SceneSink, SceneWriter, holds_scene, load_scene
from st4rtrack.io.video import open_video
from st4rtrack.model.checkpoint import load_model
from st4rtrack.model.network import St4RTrack
from st4rtrack.pipeline.ahead import ended_together, run_ahead
from st4rtrack.pipeline.anchor_pairs import NetworkPairs
from st4rtrack.pipeline.anchors import add_anchors
from st4rtrack.pipeline.cameras import anchor_intrinsics, solve_camera
from st4rtrack.pipeline.known import Placing, given_geometry
from st4rtrack.pipeline.motion import moving_masks, moving_points
from st4rtrack.pipeline.outward import Outward
from st4rtrack.pipeline.pointmaps import (
    Anchor,
    automatic_batch_size,
    encode_anchor,
    predict_batch,
    predict_frames,
    predict_reconstructions,
)
from st4rtrack.pipeline.refine import Refinement, chosen_refinement, drawn_to_surface, frames_needed, refined
from st4rtrack.pipeline.repeatable import computed_with
from st4rtrack.pipeline.tokens import TokenFile
from st4rtrack.pipeline.tracks import cycle_error, visible_probability
from st4rtrack.preprocess import stretch_to_network_size, to_network_size
from st4rtrack.types import PixelMap, Pointmap, Scene, TwoPointmaps, UserError, Video

logger = logging.getLogger(__name__)


class Selection(TypedDict, total=False):
    """Which frames of the source: `start` and `stop` as frame numbers or seconds ("2.5s"), `fps` to drop to, then every `stride`-th."""

    start: int | str | None
    stop: int | str | None
    stride: int
    fps: float | None


def reconstruct(
    video: Any,
    *,
    model: St4RTrack | None = None,
    anchor: int | Literal["middle", "auto"] = 0,
    output: str | Path | None = None,
    size: int | None = None,
    fit: Literal["crop", "stretch"] = "crop",
    batch_size: int | None = None,
    points_dtype: Literal["float32", "float16"] = "float32",
    known: Known | None = None,
    refine: bool | Collection[str] = True,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
    **selection: Unpack[Selection],
) -> Scene:
    """Tracks and reconstructs a whole video in the anchor's camera frame.

    Args:
        video: path of a video, a folder or glob of images, an array [time, height, width, 3] uint8, or a `Video`.
        model: the network; default the embedded one.
        anchor: which of the processed frames is the world, or "middle"; "auto" is the first, and adds anchors in other frames until every
            pixel of every frame belongs to a track (`Scene.anchors`).
        output: scene folder; frames stream to it and memory does not grow with the video. `None` keeps the scene in memory.
        size: long side in pixels at the network; default the model's own.
        fit: what is done about sides that are no multiple of the patch: cut off the rest, or stretch the image a little (the benchmark).
        batch_size: frames at once; default by device.
        points_dtype: of the stored points.
        known: what the user knows: intrinsics, cameras, depth, what is static, the scale; it replaces what would be estimated.
        refine: whether pointmaps are made consistent over time: `True` frees tracks of their noise; names of steps take just those
            (`pipeline.refine.Refinement`: agreement, smoothness, surface).
        overwrite: replace a scene that is in `output`.
        progress: called with (frames done, frames in all) after each frame; what it raises ends the call, and the scene in `output`
            can be gone on with.
        selection: see `Selection`.
    Returns:
        The scene, read lazily from `output` when given. The anchor's camera is exactly the identity.
    Raises:
        UserError: the video, the options or the folder cannot be used.
    """
    source = open_video(video, **selection)
    model = model or load_model()
    fitted = to_network_size if fit == "crop" else stretch_to_network_size
    network_video, pixel_map = fitted(source, long_side=size or model.config.image_size, patch_size=model.config.patch_size)
    anchor_index = _anchor_index(anchor, len(source))
    steps = chosen_refinement(refine)
    size_px = (network_video.height, network_video.width)
    given = known_of_video(known, source, pixel_map, size_px, anchor_index) if known else None
    header = _header(
        source,
        network_video,
        pixel_map,
        model,
        anchor_index,
        points_dtype,
        steps=steps,
        every_pixel=anchor == "auto",
        given=given,
    )
    if output is not None and not overwrite and holds_scene(output, header):
        return load_scene(output)
    batch_size = batch_size or automatic_batch_size(model, network_video.height, network_video.width)
    anchor_rgb = network_video.frame(anchor_index)
    told = None if given is None else given_geometry(given)
    outward = Outward(network_video, anchor_index, anchor_rgb, with_geometry=model.config.hints, given=told)
    encoded = encode_anchor(model, anchor_rgb, outward.anchor_view)
    own = predict_batch(model, encoded, anchor_rgb[None], [outward.anchor_view])[0]
    intrinsics = anchor_intrinsics(own.tracking)
    placing = None
    if given is not None:
        predict = partial(predict_reconstructions, model, encoded, network_video)
        placing = Placing(given, anchor_index, own, intrinsics, outward.units, predict)

    # only now: a network or an anchor that fits no camera must not cost the user the scene that `overwrite` replaces
    sink: SceneSink = SceneBuffer(header) if output is None else SceneWriter.create(output, header, overwrite=overwrite)
    with sink, ended_together():  # whatever happens: nothing works on, and the folder is free for who goes on
        kept = TokenFile(len(source), None if output is None else Path(output)) if anchor == "auto" else None
        _process_frames(
            network_video, outward, model, encoded, own.tracking, intrinsics, steps, placing, batch_size, sink, progress, kept
        )
        further: dict[str, Any] = {}
        if anchor == "auto":
            further = add_anchors(NetworkPairs(model, sink, batch_size, kept), sink, place_lost=not model.config.hints)
        unsolved = [k for k in range(len(source)) if not sink.read("solved", k)]
        if unsolved:
            logger.warning(
                "no camera was found for %d of %d frames (the first is %d); each has its neighbour's",
                len(unsolved),
                len(source),
                unsolved[0],
            )
        focal_px = (intrinsics if placing is None else placing.intrinsics(anchor_index))[0, 0]
        units = {} if placing is None else placing.results
        moving = moving_points(sink.read, len(source), anchor_index)
        computed = computed_with(model.device, batch_size)
        return sink.finish(
            moving=moving,
            moving_in_frames=moving_masks(sink.read, len(source), anchor_index, moving),
            results={"focal_px": focal_px, "cameras_not_found": len(unsolved), "computed": computed, **units, **further},
        )


def _process_frames(
    video: Video,
    outward: Outward,
    model: St4RTrack,
    anchor: Anchor,
    anchor_points: Pointmap,
    intrinsics: np.ndarray,
    steps: Refinement,
    placing: Placing | None,
    batch_size: int,
    sink: SceneSink,
    progress: Callable[[int, int], None] | None,
    kept: TokenFile | None = None,
) -> None:
    """All missing frames, each written as soon as it is known. Reading, the network and this loop overlap."""
    anchor_index, done = sink.header.anchor_index, sink.frames_done
    returned: dict[int, np.ndarray] = {}  # of the frames that wait for the network, where classical geometry knows it
    needed = frames_needed(done, anchor_index, steps)
    frames = run_ahead(_noting_cycle_errors(outward.frames(needed), returned), batch_size)
    predicted = run_ahead(predict_frames(model, anchor, frames, batch_size=batch_size, kept=kept), batch_size)
    for index, rgb, maps in refined(predicted, anchor_points, anchor_index, steps):
        cycle = returned.pop(index, None)
        if done[index]:  # on disk already, and only looked at again for its neighbours' sake
            continue
        # a frame without a camera has its neighbour's on the anchor's side, and is marked
        towards_anchor = index - int(np.sign(index - anchor_index))
        neighbour = np.eye(4) if index == anchor_index else sink.read("world_from_camera", towards_anchor)
        if placing is None:
            found = np.eye(4) if index == anchor_index else solve_camera(maps.reconstruction, intrinsics)
            camera, solved = neighbour if found is None else found, found is not None
        else:
            maps, camera, solved = placing.place(index, maps, neighbour)
            intrinsics = placing.intrinsics(index)
        if steps.surface and solved and index != anchor_index:
            maps = drawn_to_surface(maps, camera, intrinsics)
        probability = np.ones(rgb.shape[:2], np.float32)
        if index != anchor_index:
            probability = visible_probability(maps, camera, intrinsics, anchor.rgb, rgb, cycle_error=cycle)
        _write(sink, index, rgb, float(video.time_s[index]), maps, probability, camera, intrinsics, solved=solved)
        done[index] = True
        if progress:
            progress(int(done.sum()), len(video))


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
    index: int,
    rgb: np.ndarray,
    time_s: float,
    maps: TwoPointmaps,
    probability: np.ndarray,
    world_from_camera: np.ndarray,
    intrinsics: np.ndarray,
    *,
    solved: bool,
) -> None:
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
        world_from_camera=world_from_camera,
        intrinsics=intrinsics,
        solved=solved,
    )


def _anchor_index(anchor: int | str, num_frames: int) -> int:
    if anchor == "middle":
        return num_frames // 2
    if anchor == "auto":
        return 0
    if isinstance(anchor, str) or not 0 <= anchor < num_frames:
        raise UserError(
            f"the anchor must be a frame number from 0 to {num_frames - 1} (of the frames processed), 'middle' or 'auto', got {anchor!r}"
        )
    return int(anchor)


def _header(
    source: Video,
    video: Video,
    pixel_map: PixelMap,
    model: St4RTrack,
    anchor_index: int,
    points_dtype: Literal["float32", "float16"],
    *,
    steps: Refinement,
    every_pixel: bool,
    given: KnownVideo | None,
) -> SceneHeader:
    info: dict[str, Any] = {
        "model": {"name": model.name, "hash": model.weights_hash, "dtype": str(model.dtype).removeprefix("torch.")},
        "options": {"refine": steps.names},
        "source": {
            "video": source.source,
            "name": source.name,
            "fps": _rate(source),
            "first_frame": int(source.frame_index[0]),
            "last_frame": int(source.frame_index[-1]),
        },
    }
    if every_pixel:
        info["options"]["anchor"] = "auto"
    if given is not None:
        info["known"] = given.said
    return SceneHeader(
        num_frames=len(source),
        height=video.height,
        width=video.width,
        anchor_index=anchor_index,
        pixel_map=pixel_map,
        source_size=(source.height, source.width),
        info=info,
        points_dtype=points_dtype,
    )


def _rate(video: Video) -> float | None:
    """Mean frames per second of what is processed."""
    span = float(video.time_s[-1] - video.time_s[0])
    return round((len(video) - 1) / span, 6) if span > 0 else None
