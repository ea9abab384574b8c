"""Rough estimate of the cost of a run before it starts: frames, time and disk space, from fixed rates."""

from dataclasses import dataclass

import torch

from st4rtrack.hints.provider import takes_hints
from st4rtrack.io.scene.folder import scene_bytes
from st4rtrack.io.scene.table import SceneHeader
from st4rtrack.model.network import St4RTrack
from st4rtrack.options import ReconstructOptions
from st4rtrack.preprocess import to_network_size
from st4rtrack.types import Video

_START_S = 10.0  # imports, loading, camera solver of the shortest videos, overview
_METHOD_S = 0.28  # processor time per frame at 256x144 with the embedded model, cameras and writing (performance/README.md)
_METHOD_PIXELS = 256 * 144
_DECODED_PIXELS_PER_S = 50e6  # per core: HEVC 1080p with tone mapping, measured
_USED_CORES = 1.6  # of all cores: the rest waits for the network (5.6 frames per second on two cores)
_NETWORK_FLOPS = {"cpu": 5e10, "mps": 2e12, "cuda": 3e13}  # per second; per core for "cpu"
_AUTO_ANCHORS = 3  # pairs per frame with --anchor auto, and maps on disk: between two and four
_EXPORT_BYTES = 15  # per pixel of the video, measured: PLY and its sequence 15, USD and COLMAP 14, Rerun 25, others less
_OVERVIEW_BYTES = 3_000_000
_FEW_FRAMES = 60
_RATE = 10.0
_LENGTH_S = 10.0


@dataclass(frozen=True)
class RunEstimate:
    """Approximate cost of a run on disk and in time; `smaller`: options that reduce it, "" if it is small."""

    frames: int
    seconds: float
    num_bytes: int
    smaller: str

    def __str__(self) -> str:
        tens = max(1, round(self.seconds / 10))
        time = f"{10 * tens} s" if tens < 6 else f"{round(self.seconds / 60)} min"
        size = f"{self.frames} frames, about {time}, {max(0.01, self.num_bytes / 1e9):.2g} GB"
        return f"{size}; less with {self.smaller}" if self.smaller else size


def estimate_run(video: Video, model: St4RTrack, options: ReconstructOptions, exports: int = 0) -> RunEstimate:
    """Estimate the cost of a run on the selected frames of a video at source size, with a number of export formats.

    Raises:
        UserError: the video is too small for the network.
    """
    long_side = options.size or model.config.image_size
    fitted, _ = to_network_size(video, long_side=long_side, patch_size=model.config.patch_size)
    header = SceneHeader(len(video), fitted.height, fitted.width, points_dtype=options.points_dtype)
    pairs = _AUTO_ANCHORS if options.anchor == "auto" else 1
    seconds = _START_S + len(video) * pairs * _frame_s(fitted, model) + _decode_s(video)
    num_bytes = scene_bytes(header) * (pairs + 1) // 2  # half is one anchor
    num_bytes += _OVERVIEW_BYTES + exports * _EXPORT_BYTES * len(video) * fitted.height * fitted.width
    return RunEstimate(len(video), seconds, num_bytes, _smaller(video))


def _frame_s(fitted: Video, model: St4RTrack) -> float:
    pixels, cores = fitted.height * fitted.width, max(1, torch.get_num_threads())
    method_s = _METHOD_S * pixels / _METHOD_PIXELS / min(cores, _USED_CORES)
    if takes_hints(model.config):
        return method_s
    tokens = pixels / model.config.patch_size**2
    flops = 2.0 * sum(weights.numel() for weights in model.parameters()) * tokens
    rate = _NETWORK_FLOPS.get(model.device.type, _NETWORK_FLOPS["cpu"]) * (cores if model.device.type == "cpu" else 1)
    return 0.5 * method_s + flops / rate


def _decode_s(video: Video) -> float:
    frames = int(video.frame_index[-1] - video.frame_index[0]) + 1  # skipped frames are decoded, too
    return frames * video.height * video.width / _DECODED_PIXELS_PER_S


def _smaller(video: Video) -> str:
    if len(video) <= _FEW_FRAMES:
        return ""
    length_s = float(video.time_s[-1] - video.time_s[0])
    rate = (len(video) - 1) / length_s if length_s > 0 else 0.0
    options = [f"--fps {_RATE:.0f}"] if rate > 1.1 * _RATE else []
    if length_s > 1.1 * _LENGTH_S:
        options.append(f"--stop {float(video.time_s[0]) + _LENGTH_S:.0f}s")
    return " ".join(options)
