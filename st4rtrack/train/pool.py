"""On-disk pool of rendered training pairs with ground truth and hints, so that rendering and optical flow run only once.

Clips are rendered and tracked from both ends like a video (`classical/anchored.py`), and pairs of their frames are stored. A
shard is one `.npy` file of fixed-size records, memory-mapped for reading. Ground truth is stored at every second pixel: half
resolution trains as well and needs less disk space.
"""

import json
import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from st4rtrack.classical.anchored import follow_video
from st4rtrack.classical.two_view import estimate_two_view
from st4rtrack.data.procedural import (
    ClipBatch,
    ProceduralConfig,
    clips_to,
    reconstruction_points,
    render_clips,
    select_clips,
    tracking_points,
)
from st4rtrack.io.files import write_whole
from st4rtrack.losses.objective import Supervision
from st4rtrack.model.hints import assemble_hints
from st4rtrack.preprocess import normalize_images
from st4rtrack.train.config import PoolConfig
from st4rtrack.train.examples import Examples
from st4rtrack.train.simulated import Simulation
from st4rtrack.types import Pointmap, TwoPointmaps

logger = logging.getLogger(__name__)

MIN_VALID_SHARE = 0.3
MOVES_M = 0.01
MIN_KNOWN_SHARE = 0.02
TWO_VIEW_FIELDS = ("forward_flow", "backward_flow", "anchor_depth", "frame_depth", "anchor_from_frame", "focal_px")


def record_type(height: int, width: int) -> np.dtype:
    """Record dtype of one ordered pair: images, ground truth in metres at every second pixel, and the `TwoView` fields."""
    half = ((height + 1) // 2, (width + 1) // 2)
    return np.dtype(
        [
            ("rgb", np.uint8, (2, height, width, 3)),
            ("own_points", np.float16, (*half, 3)),
            ("tracking", np.float16, (*half, 3)),
            ("reconstruction", np.float16, (*half, 3)),
            ("own_valid", np.bool_, half),
            ("frame_valid", np.bool_, half),
            ("forward_flow", np.float16, (height, width, 2)),
            ("backward_flow", np.float16, (height, width, 2)),
            ("anchor_depth", np.float16, (height, width)),
            ("frame_depth", np.float16, (height, width)),
            ("anchor_from_frame", np.float32, (4, 4)),
            ("focal_px", np.float32),
        ]
    )


def fill_pool(folder: Path, config: PoolConfig, device: str = "cpu") -> None:
    """Render shards on `device` until the pool has `config.pairs` pairs; resumes an incomplete pool."""
    folder.mkdir(parents=True, exist_ok=True)
    shards = -(-config.pairs // config.shard_pairs)
    start = time.monotonic()
    made = 0
    for index in range(shards):
        path = folder / f"{index:06d}.npy"
        if path.exists():
            continue
        height, width = config.sizes[index % len(config.sizes)]
        partial = path.with_suffix(".partial")
        with partial.open("wb") as file:
            np.save(file, render_shard(config, config.seed + index, height, width, device))
        partial.replace(path)
        made += 1
        rate = (time.monotonic() - start) / made
        logger.info(
            "pool: shard %d of %d, %.1f pairs/s, %.0f min left",
            index + 1,
            shards,
            config.shard_pairs / rate,
            rate * (shards - index - 1) / 60,
        )
    content = {"pairs": shards * config.shard_pairs, "seed": config.seed, "sizes": config.sizes}
    write_whole(folder / "pool.json", json.dumps(content).encode())


def render_shard(config: PoolConfig, seed: int, height: int, width: int, device: str = "cpu") -> np.ndarray:
    """Render the records of one shard, with ground truth and hints, deterministically from the seed.

    Clips that show mostly sky are left out, so there may be a few fewer than `shard_pairs` records.
    """
    rng = np.random.default_rng(seed)
    kind = rng.choice(["followed", "simulated", "lone"], p=config.shares)
    frames, per_anchor = (config.clip_frames, config.pairs_per_anchor) if kind == "followed" else (2, 1)
    scene = ProceduralConfig(height=height, width=width, num_frames=frames, compile=config.compile)
    camera_motion = float(rng.choice([0.5, 1.0, 1.5, 2.5, 4.0]))
    scene = replace(scene, motion=float(rng.uniform(0.3, 2.0)), camera_motion=camera_motion)
    clips = render_clips(config.shard_pairs // (2 * per_anchor), scene, seed=seed, device=device)
    clips = select_clips(clips, clips.valid.float().mean((1, 2, 3)) > MIN_VALID_SHARE)
    records = []
    for order in (range(frames), range(frames - 1, -1, -1)):
        later = sorted(rng.choice(frames, per_anchor, replace=False).tolist()) if kind == "followed" else [1]
        part = _frames_of(clips, [order[0], *(order[k] for k in later)])
        views = (
            _simulated(part, seed)
            if kind == "simulated"
            else _estimated([rgb[list(order)] for rgb in clips.rgb.cpu().numpy()], later)
        )
        records.append(_records(part, views))
    return np.concatenate(records)


def _estimated(videos: list[np.ndarray], later: Sequence[int]) -> dict[str, np.ndarray]:
    """Estimate `TwoView` fields [clips, frames, ...] between frame 0 and the frames `later` of videos [time, height, width, 3].

    A clip of two frames is treated as an independent pair.
    """
    views = []
    for rgb in videos:
        followed = [None, estimate_two_view(rgb[0], rgb[1])] if len(rgb) == 2 else list(follow_video(rgb[0], list(rgb[1:])))
        views.append([followed[k] for k in later])
    return {name: np.array([[getattr(view, name) for view in of_clip] for of_clip in views]) for name in TWO_VIEW_FIELDS}


def _simulated(pairs: ClipBatch, seed: int) -> dict[str, np.ndarray]:
    """Simulate the `TwoView` fields [clips, 1, ...] of the first and second frame."""
    there, back = tracking_points(pairs, 0)[0][:, 1], tracking_points(pairs, 1)[0][:, 0]
    return {name: value[:, None].cpu().numpy() for name, value in Simulation(pairs, seed).views(0, 1, there, back).items()}


def _records(part: ClipBatch, views: dict[str, np.ndarray]) -> np.ndarray:
    """Records of all pairs (first frame, other frame) of all clips."""
    points, surfaces = tracking_points(part, 0)[0].cpu(), reconstruction_points(part, 0).cpu()
    part = clips_to(part, "cpu")
    clips, frames, height, width = part.depth.shape
    records = np.zeros((clips, frames - 1), record_type(height, width))
    rgb, valid = part.rgb.numpy(), part.valid[:, :, ::2, ::2].numpy()
    records["rgb"][:, :, 0], records["rgb"][:, :, 1] = rgb[:, :1], rgb[:, 1:]
    records["own_points"] = points[:, :1, ::2, ::2].numpy()
    records["tracking"] = points[:, 1:, ::2, ::2].numpy()
    records["reconstruction"] = surfaces[:, 1:, ::2, ::2].numpy()
    records["own_valid"], records["frame_valid"] = valid[:, :1], valid[:, 1:]
    for name in TWO_VIEW_FIELDS:
        records[name] = views[name]
    return records.reshape(-1)


def _frames_of(clips: ClipBatch, frames: list[int]) -> ClipBatch:
    over_time = ("rgb", "depth", "part_index", "local_points", "world_from_camera", "world_from_part")
    return replace(clips, **{name: getattr(clips, name)[:, frames] for name in over_time})


def from_records(records: np.ndarray, names: Sequence[str] = (), *, mirror: bool = False, still: bool = False) -> Examples:
    """Micro-batch of records [pairs] of `record_type`; `mirror` flips horizontally, `still` makes pairs (anchor, anchor)."""
    if still:
        records = _still(records)
    maps = [torch.from_numpy(records[name]).float() for name in ("own_points", "tracking", "reconstruction")]
    masks = [torch.from_numpy(records[name]) for name in ("own_valid", "frame_valid")]
    two_view = {name: torch.from_numpy(records[name]).float() for name in TWO_VIEW_FIELDS}
    images = [normalize_images(records["rgb"][:, which]) for which in (0, 1)]
    if mirror:
        maps = [m.flip(2) * torch.tensor([-1.0, 1.0, 1.0]) for m in maps]
        masks, images = [m.flip(2) for m in masks], [i.flip(3) for i in images]
        two_view = _mirror_two_view(two_view)
    own, tracking, reconstruction = maps
    unit = network_unit(own, masks[0], two_view["anchor_depth"][:, ::2, ::2])
    moving = ((tracking - own).norm(dim=-1) > MOVES_M) & masks[0]
    truth = TwoPointmaps(Pointmap(tracking, valid=masks[0]), Pointmap(reconstruction, valid=masks[1]))
    pairs = torch.arange(len(records))
    supervision = Supervision(truth, own, moving=moving, unit=unit)
    return Examples(
        torch.cat(images), pairs, len(records) + pairs, supervision, list(names), assemble_hints(*images, **two_view), stride=2
    )


def _still(records: np.ndarray) -> np.ndarray:
    """Records of the pairs (anchor, anchor) of the same videos."""
    records = records.copy()
    records["rgb"][:, 1] = records["rgb"][:, 0]
    for name, of_anchor in (("tracking", "own_points"), ("reconstruction", "own_points"), ("frame_valid", "own_valid")):
        records[name] = records[of_anchor]
    records["frame_depth"] = records["anchor_depth"]
    records["forward_flow"] = records["backward_flow"] = 0
    records["anchor_from_frame"] = np.eye(4)
    return records


def network_unit(own_points: Tensor, valid: Tensor, hint_depth: Tensor) -> Tensor:
    """Length of one network unit in metres [batch], from the hint depth, so that all pairs of an anchor share it.

    Without hint depth it is the mean distance of the anchor points.
    """
    units = []
    for points, mask, known in zip(own_points, valid, hint_depth, strict=True):
        both = mask & (known > 0)
        ratio = points[..., 2][both] / known[both]
        distance = points.norm(dim=-1)[mask]
        units.append(ratio.median() if both.float().mean() > MIN_KNOWN_SHARE else distance.mean())
    return torch.stack(units)


def _mirror_two_view(two_view: dict[str, Tensor]) -> dict[str, Tensor]:
    flip = torch.tensor([-1.0, 1.0])
    mirror = torch.diag(torch.tensor([-1.0, 1.0, 1.0, 1.0]))
    return {
        "forward_flow": two_view["forward_flow"].flip(2) * flip,
        "backward_flow": two_view["backward_flow"].flip(2) * flip,
        "anchor_depth": two_view["anchor_depth"].flip(2),
        "frame_depth": two_view["frame_depth"].flip(2),
        "anchor_from_frame": mirror @ two_view["anchor_from_frame"] @ mirror,
        "focal_px": two_view["focal_px"],
    }
