"""Feed-forward pairwise networks: the anchor (frame 0) against every frame, all output in the anchor's camera frame."""

from dataclasses import replace

import numpy as np

from st4rtrack.bench.predictions import Method, Prediction
from st4rtrack.bench.protocol import Protocol
from st4rtrack.geometry.sampling import nearest_pixel, sample_map
from st4rtrack.io.formats.common import image_intrinsics
from st4rtrack.io.worldtrack import WorldTrackSequence
from st4rtrack.model.checkpoint import load_model
from st4rtrack.model.network import St4RTrack
from st4rtrack.options import MethodOptions
from st4rtrack.pipeline.reconstruct import reconstruct
from st4rtrack.scene import Scene
from st4rtrack.types import DepthSource, UserError


def st4rtrack(options: MethodOptions) -> Method:
    """St4RTrack: tracks with visibility, reconstruction and cameras."""
    model = load_model(options.model, device=options.device, dtype=options.dtype)  # pyright: ignore[reportArgumentType]
    return lambda sequence: predict_sequence(model, sequence, options)


def pointmaps_only(options: MethodOptions) -> Method:
    """DUSt3R, MASt3R, MonST3R: same two outputs, but the first is the anchor's content at the anchor's time (paper Eq. 2 and 3).

    It is scored as their track, as in the paper's tables; it has no visibility.
    """
    if options.model is None:
        raise UserError("this method needs its weights; pass --model NAME (st4rtrack models) or --model PATH")
    predict = st4rtrack(replace(options, refine=False))  # feed-forward, as in the paper's tables

    def without_visibility(sequence: WorldTrackSequence) -> Prediction:
        prediction = predict(sequence)
        prediction.visible = prediction.visibility = None
        return prediction

    return without_visibility


def predict_sequence(model: St4RTrack, sequence: WorldTrackSequence, options: MethodOptions) -> Prediction:
    """Run the pipeline on the whole sequence; images are stretched, not cropped, so that every ground-truth pixel is covered."""
    scene = reconstruct(sequence.video, model=model, size=options.size, fit="stretch", refine=options.refine)
    assert isinstance(options.protocol, Protocol)
    return scene_prediction(scene, sequence, options.protocol)


def scene_prediction(scene: Scene, sequence: WorldTrackSequence, protocol: Protocol) -> Prediction:
    """Convert a scene of a whole sequence to a prediction."""
    prediction = Prediction(
        reconstruction_world=np.asarray(scene.reconstruction.points_world),
        world_from_camera=np.asarray(scene.cameras.world_from_camera),
        intrinsics=image_intrinsics(scene, scene.pixel_map),
        measured=None if scene.reconstruction.source is None else np.asarray(scene.reconstruction.source) == DepthSource.MEASURED,
    )
    if sequence.tracks_world is not None:
        assert sequence.visible is not None
        seen = sequence.visible[0]
        prediction.tracks_world = np.full((len(sequence), len(seen), 3), np.nan, np.float32)
        prediction.visibility = np.zeros((len(sequence), len(seen)), np.float32)
        tracks, probability = _tracks(scene, sequence.query_px[seen], protocol)
        prediction.tracks_world[:, seen], prediction.visibility[:, seen] = tracks, probability
        prediction.visible = prediction.visibility > 0.5
        prediction.query_px = sequence.query_px
    return prediction


def _tracks(scene: Scene, query_px: np.ndarray, protocol: Protocol) -> tuple[np.ndarray, np.ndarray]:
    """Tracks [time, points, 3] and visibility probability [time, points] of queries [points, 2] in source pixels."""
    points, probability = scene.tracking.points_world, scene.tracking.visibility
    assert probability is not None
    network_px = scene.pixel_map.network_from_source(query_px)
    row, column = nearest_pixel(network_px, *points.shape[1:3])
    if protocol.sampling == "floor":
        tracks = np.asarray(points)[:, row, column]
    else:
        tracks = np.stack([sample_map(np.asarray(frame), network_px) for frame in points])
    return tracks, np.asarray(probability)[:, row, column]
