"""Adaptation of a monocular head to videos: its depth against teacher depth, up to one scale per frame.

Fused geometry aligns monocular depth to the measured depth of every frame by one scale (`hints/fusion.py`) and uses it where
nothing is measured: on dynamic objects, and without parallax. What adapts is therefore the shape of the depth of a frame.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from st4rtrack.adapt.config import AdaptConfig
from st4rtrack.adapt.inputs import copy_frames, mapped
from st4rtrack.adapt.measure import Measurement, mean_of_finite
from st4rtrack.adapt.objective import StepLoss, turn_of
from st4rtrack.adapt.prepare import grid_queries, held_out_tracks, hold_out_depth
from st4rtrack.adapt.priors import DepthTeacher, TeacherTracks, TrackTeacher
from st4rtrack.adapt.teachers import gather_priors
from st4rtrack.adapt.teachers.fused import MAX_LOG_ERROR
from st4rtrack.geometry.camera import project, unproject
from st4rtrack.geometry.sampling import nearest_pixel
from st4rtrack.geometry.transforms import transform_points
from st4rtrack.hints.depth_prior import PriorDepth
from st4rtrack.hints.frame_encoder import FrameEncoder
from st4rtrack.hints.fusion import MIN_MEASURED, align, fuse
from st4rtrack.losses.adaptation import AdaptationLoss
from st4rtrack.losses.monocular import gradient_term, masked_median
from st4rtrack.model.monocular import MonocularNetwork
from st4rtrack.model.network import St4RTrack
from st4rtrack.scene import Scene
from st4rtrack.types import DepthSource, UserError, Video

TRAINED, FROZEN = ("monocular_head.", "encoder.pyramid."), ("monocular_head.focal.", "encoder.pyramid.backbone.")
"""Prefixes of the trained parameters, and of those among them that are frozen."""
HELD_OUT_CELL = 1 / 8
"""Side of the squares held out together, in long image sides: where fusion interpolates over them, the shape of depth counts."""
MAX_RESIDUAL = 1.0
"""Clamp of log-depth residuals, against outliers of the teacher."""
GRADIENT = 0.5
"""Weight of the gradient of the residual, relative to the residual."""
LOST = 0.1
"""Clamp of reprojection errors, in long sides of the image."""


@dataclass(frozen=True)
class DepthVideo:
    """A video prepared for the adaptation of a monocular head; h x w is the native size of the network.

    Attributes:
        maps: backbone maps [T, channels, rows, columns], the input of pyramid and head.
        target: [T, h, w] log teacher depth for training, NaN where unknown or held out.
        base: [T, h, w] log depth of the base model.
        dynamic: [T, h, w] bool, dynamic pixels.
        tracks: static tracks with teacher depth, in pixels of the native size.
        track_depth: [T, N] log teacher depth at the tracks, NaN where unknown or invisible.
        held_out: [N] bool, tracks that are held out for measurement.
        world_from_camera: [T, 4, 4] of the scene, its anchor camera is the identity.
        intrinsics: [T, 3, 3] for the native size.
        anchor_index: index of the anchor frame.
    """

    maps: tuple[np.ndarray, ...]
    target: np.ndarray
    base: np.ndarray
    dynamic: np.ndarray
    tracks: TeacherTracks
    track_depth: np.ndarray
    held_out: np.ndarray
    world_from_camera: np.ndarray
    intrinsics: np.ndarray
    anchor_index: int

    def __len__(self) -> int:
        return len(self.target)

    @cached_property
    def supervised(self) -> np.ndarray:
        """Indices of the frames with enough teacher depth."""
        return np.array([t for t, target in enumerate(self.target) if np.isfinite(target).sum() >= MIN_MEASURED], np.int64)


@torch.no_grad()
def prepare_depth(
    model: St4RTrack,
    video: Video,
    scene: Scene,
    teachers: tuple[TrackTeacher, DepthTeacher | None],
    config: AdaptConfig,
    *,
    folder: Path,
    cache: Path | None,
) -> DepthVideo:
    """Precompute all constant inputs of a video at network size; arrays go to an empty folder.

    `scene`: of the video by the base model, for cameras and dynamic objects; `cache`: folder of the teachers' output.

    Raises:
        UserError: the teachers know the depth of too few static points.
    """
    rgb = mapped(folder, "rgb", (len(video), video.height, video.width, 3), np.uint8)
    copy_frames(video, rgb)
    maps, base = _encoded(model, rgb, folder)
    queries = grid_queries(video.height, video.width, config.queries)
    priors = gather_priors(rgb, queries, scene.anchor_index, *teachers, cache=cache)
    if priors.depth is None:
        raise UserError(f"{video.name}: no teacher knows any depth, since the camera does not translate; pass one with --depth")
    track_depth, depth, held_out = _hold_out(priors.tracks, priors.depth.depth, scene, config)
    height, width = base.shape[1:]
    scale = np.array([width / video.width, height / video.height])
    found = DepthVideo(
        maps,
        _target(depth, mapped(folder, "target", base.shape, np.float32)),
        base,
        _dynamic_pixels(scene, base.shape[1:], folder),
        replace(
            priors.tracks,
            query_px=priors.tracks.query_px * scale,
            tracks_px=(priors.tracks.tracks_px * scale).astype(np.float32),
        ),
        track_depth,
        held_out,
        np.asarray(scene.cameras.world_from_camera, np.float64),
        np.asarray(scene.cameras.intrinsics, np.float64) * np.array([[scale[0]], [scale[1]], [1.0]]),
        scene.anchor_index,
    )
    for purpose, chosen in (("learn from", ~held_out), ("measure on", held_out)):
        if not len(found.supervised) or not np.isfinite(track_depth[:, chosen]).any():
            raise UserError(f"{video.name}: too few static points have teacher depth to {purpose}; pass a teacher with --depth")
    return found


def _hold_out(
    tracks: TeacherTracks, depth: np.ndarray, scene: Scene, config: AdaptConfig
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Log depth [T, N] at static visible tracks, depth [T, H, W] for training, and held-out tracks [N] bool."""
    height, width = depth.shape[1:]
    row, column = nearest_pixel(tracks.query_px, height, width)
    dynamic = np.zeros(len(row), bool) if scene.tracking.moving is None else np.asarray(scene.tracking.moving)[row, column]
    held_out = held_out_tracks(tracks.query_px, dynamic, height, width, config.held_out_share, config.seed, cell=HELD_OUT_CELL)
    at_tracks, training = hold_out_depth(depth, tracks, held_out & ~dynamic, cell=HELD_OUT_CELL)
    return _log(np.where(tracks.visible & ~dynamic, at_tracks, 0)), training, held_out


def _target(depth: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Fill the target [T, h, w] with the log depth of nearest pixels, NaN where unknown."""
    for t, each in enumerate(depth):
        target[t] = _log(cv2.resize(each, target.shape[:0:-1], interpolation=cv2.INTER_NEAREST))
    return target


def _log(depth: np.ndarray) -> np.ndarray:
    return np.log(np.where(depth > 0, depth, np.nan))


def _encoded(model: St4RTrack, rgb: np.ndarray, folder: Path) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
    """Backbone maps and log depth of every frame, at the native size of the network."""
    encoder = FrameEncoder(model.monocular_network())
    stored: list[np.ndarray] = []
    base = np.empty(0)
    for t, image in enumerate(rgb):
        maps = encoder(image)
        log_depth = encoder.network.depth(maps).log_depth[0]
        if t == 0:
            base = mapped(folder, "base", (len(rgb), *log_depth.shape), np.float32)
            stored = [mapped(folder, f"map{k}", (len(rgb), *part.shape[1:]), np.float32) for k, part in enumerate(maps)]
        base[t] = log_depth.cpu().numpy()
        for rows, part in zip(stored, maps, strict=True):
            rows[t] = part[0].cpu().numpy()
    return tuple(stored), base


def _dynamic_pixels(scene: Scene, size: tuple[int, ...], folder: Path) -> np.ndarray:
    """Dynamic pixels [T, h, w] bool of a scene, at the native size of the network."""
    found, source = mapped(folder, "dynamic", (len(scene), *size), np.bool_), scene.reconstruction.source
    for t in range(len(scene)):
        dynamic = np.zeros(size, np.uint8) if source is None else (np.asarray(source[t]) == DepthSource.DYNAMIC).astype(np.uint8)
        found[t] = cv2.resize(dynamic, size[::-1], interpolation=cv2.INTER_NEAREST) > 0
    return found


@dataclass(frozen=True)
class DepthTask:
    """Loss and measurement of a monocular head on videos."""

    model: St4RTrack
    videos: list[DepthVideo]
    frames: list[int]
    config: AdaptConfig
    weights: AdaptationLoss

    @cached_property
    def network(self) -> MonocularNetwork:
        """Trained part of the network, which shares the weights of the model."""
        return self.model.monocular_network()

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        """Trained parameters: the feature pyramid and the depth layers of the head."""
        return {
            name: parameter
            for name, parameter in self.model.named_parameters()
            if name.startswith(TRAINED) and not name.startswith(FROZEN)
        }

    def loss(self, step: int) -> StepLoss:
        """Loss of random frames of one video; every video is used once before any is used again."""
        number, rng = turn_of(step, len(self.videos), self.config.seed)
        video = self.videos[number]
        # half of the frames need no teacher depth: objects must not change their depth where nothing is measured either
        few = np.setdiff1d(np.arange(len(video)), video.supervised)
        count = min(self.frames[number], len(video))
        chosen = rng.permutation(few)[: min(count // 2, len(few))]
        chosen = np.concatenate([chosen, rng.permutation(video.supervised)[: count - len(chosen)]])
        log_depth = self._predict(video, chosen)
        target, base = (torch.from_numpy(each[chosen]).to(log_depth) for each in (video.target, video.base))
        parts = depth_terms(log_depth, target, base)
        terms = {"depth": self.weights.depth, "held": self.weights.held}
        total = sum((terms[name] * value for name, value in parts.items() if terms[name]), start=log_depth.new_zeros(()))
        return StepLoss(total, {name: float(value.detach()) for name, value in parts.items()}, 0, number)

    @torch.no_grad()
    def measure(self) -> Measurement:
        """Errors of the fused depth at held-out static tracks, whose measured depth is not fused, in all frames."""
        rows = np.array([self._errors(video) for video in self.videos])
        far, learnt, depth, changed = (mean_of_finite(column) for column in rows.T)
        unsupervised = changed if np.isfinite(changed) else None
        return Measurement(far, None, learnt, agreement=None, depth_error=depth, unsupervised=unsupervised)

    def _predict(self, video: DepthVideo, frames: np.ndarray) -> Tensor:
        maps = tuple(torch.from_numpy(each[frames]).to(self.model.device) for each in video.maps)
        return self.network.depth(maps).log_depth

    def _errors(self, video: DepthVideo) -> tuple[float, float, float, float]:
        """Held-out and training reprojection error, held-out log-depth error, and change of the depth of dynamic pixels."""
        far, off = (np.full(video.track_depth.shape, np.nan) for _ in range(2))
        changes = [np.empty(0)]
        for t in video.supervised:
            log_depth = self._predict(video, np.array([t]))[0].cpu().numpy()
            known = np.flatnonzero(np.isfinite(video.track_depth[t]))
            row, column = nearest_pixel(video.tracks.tracks_px[t, known], *log_depth.shape)
            measured = np.exp(np.nan_to_num(video.target[t], nan=-np.inf))
            fused, dynamic = _fused(log_depth, measured), video.dynamic[t]
            if dynamic.any():
                changes.append(np.abs(np.log(fused / _fused(video.base[t], measured)))[dynamic])
            depth = fused[row, column]
            off[t, known] = np.abs(np.log(depth) - video.track_depth[t, known])
            far[t, known] = self._reprojection(video, int(t), known, depth)
        far[video.anchor_index] = np.nan  # zero for any depth
        held_out, change = video.held_out, np.concatenate(changes)
        return (
            mean_of_finite(far[:, held_out]),
            mean_of_finite(far[:, ~held_out]),
            mean_of_finite(off[:, held_out]),
            float(np.median(change)) if len(change) else float("nan"),
        )

    @staticmethod
    def _reprojection(video: DepthVideo, t: int, points: np.ndarray, depth: np.ndarray) -> np.ndarray:
        """Distance in pixels of the track points of a frame, projected to the anchor at `depth`, from their queries."""
        in_camera = unproject(video.tracks.tracks_px[t, points].astype(np.float64), depth, video.intrinsics[t])
        in_anchor = transform_points(video.world_from_camera[t], in_camera)
        with np.errstate(all="ignore"):
            pixels = project(in_anchor, video.intrinsics[video.anchor_index])
        distance = np.linalg.norm(pixels - video.tracks.query_px[points], axis=-1)
        most = LOST * max(video.target.shape[1:])
        return np.minimum(np.where(in_anchor[:, 2] > 0, distance, most), most)


def _fused(log_depth: np.ndarray, measured: np.ndarray) -> np.ndarray:
    """Depth [h, w] of a frame as a run computes it from monocular log depth and measured depth, 0 where unknown."""
    error = np.full(measured.shape, MAX_LOG_ERROR, np.float32)
    prior = PriorDepth("depth", np.exp(log_depth), error)
    alignment = align(prior, measured, error)
    assert alignment is not None  # MIN_MEASURED
    return fuse(prior, alignment, measured, error).depth


def depth_terms(log_depth: Tensor, target: Tensor, base: Tensor) -> dict[str, Tensor]:
    """Terms of the loss of predicted log depth [F, h, w], unweighted."""
    known = target.isfinite()
    supervised = known.sum((1, 2), keepdim=True) >= MIN_MEASURED
    known, everywhere = known & supervised, torch.ones_like(known)
    residual, before = (torch.where(known, each - target.nan_to_num(), 0.0) for each in (log_depth, base))
    scale, scale_before = (masked_median(each.detach(), known)[:, None, None] for each in (residual, before))
    residual = (residual - scale).clamp(-MAX_RESIDUAL, MAX_RESIDUAL)
    change = log_depth - base
    shift = masked_median(change.detach(), everywhere)[:, None, None]
    change = change - torch.where(supervised, scale - scale_before, shift)
    return {
        "depth": _masked_mean(residual.abs(), known) + GRADIENT * gradient_term(residual, known),
        "held": _masked_mean(change.abs(), ~known) + gradient_term(change, ~known),
    }


def _masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over frames of the mean of each frame's masked values [F, h, w]; frames without any do not count."""
    counts = mask.sum((1, 2))
    return ((values * mask).sum((1, 2)) / counts.clamp(min=1)).sum() / (counts > 0).sum().clamp(min=1)
