"""A growing pool of rendered pairs with truth and two-view estimates on disk, so that neither renderer nor flow is waited for twice.

A shard is one `.npy` file of fixed-size records, read by memory map. Truth is kept at every second pixel: half the size in each
direction trains as well and quarters the files. One process may fill the pool while another trains from it.
"""

import json
import logging
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from st4rtrack.data.procedural import (
    ClipBatch,
    ProceduralConfig,
    reconstruction_points,
    render_clips,
    select_clips,
    tracking_points,
)
from st4rtrack.geometry.transforms import invert_rigid
from st4rtrack.model.hints import assemble_hints
from st4rtrack.model.two_view import estimate_many
from st4rtrack.preprocess import normalize_images
from st4rtrack.train.batch import Batch
from st4rtrack.train.config import PoolConfig
from st4rtrack.types import Pointmap, TwoPointmaps

logger = logging.getLogger(__name__)

NEAREST_M, FARTHEST_M = 0.2, 50.0


def record_type(height: int, width: int) -> np.dtype:
    """One rendered pair. Axis 0 of the fields with truth: which of the two frames is the anchor."""
    half = ((height + 1) // 2, (width + 1) // 2)
    return np.dtype(
        [
            ("rgb", np.uint8, (2, height, width, 3)),
            ("own_points", np.float16, (2, *half, 3)),
            ("tracking", np.float16, (2, *half, 3)),
            ("reconstruction", np.float16, (2, *half, 3)),
            ("moving", np.bool_, (2, *half)),
            ("flow", np.float16, (2, height, width, 2)),
            ("depth", np.float16, (2, height, width)),
            ("first_from_second", np.float32, (4, 4)),
        ]
    )


def fill_pool(folder: Path, config: PoolConfig) -> None:
    """Render shards until the pool holds `config.pairs` pairs; a pool that was stopped goes on where it stopped."""
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
            np.save(file, render_shard(config, config.seed + index, height, width))
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
    (folder / "pool.json").write_text(
        json.dumps({"pairs": shards * config.shard_pairs, "seed": config.seed, "sizes": config.sizes})
    )


def render_shard(config: PoolConfig, seed: int, height: int, width: int) -> np.ndarray:
    """Records of one size: scenes, truth and two-view estimates, all from the seed.

    Rarely a camera that moves far leaves its room; such pairs are left out, so there are `shard_pairs` records or a few less.
    """
    rng = np.random.default_rng(seed)
    scene = ProceduralConfig(height=height, width=width, num_frames=2, compile=config.compile)
    scene = replace(scene, motion=float(rng.uniform(0.3, 1.5)), camera_motion=float(rng.choice([0.3, 0.7, 1.0, 1.4, 2.5, 4.0])))
    clips = render_clips(config.shard_pairs, scene, seed=seed)
    clips = select_clips(clips, (clips.depth.amin((1, 2, 3)) > NEAREST_M) & (clips.depth.amax((1, 2, 3)) < FARTHEST_M))
    records = np.zeros(len(clips.rgb), record_type(height, width))
    records["rgb"] = clips.rgb.numpy()
    _write_truth(records, clips)
    pairs = [(rgb[0], rgb[1]) for rgb in clips.rgb.numpy()]
    for record, found in zip(records, estimate_many(pairs), strict=True):
        record["flow"][0], record["flow"][1] = found.forward_flow, found.backward_flow
        record["depth"][0], record["depth"][1] = found.anchor_depth, found.frame_depth
        record["first_from_second"] = found.anchor_from_frame
    return records


def _write_truth(records: np.ndarray, clips: ClipBatch) -> None:
    for anchor in (0, 1):
        other = 1 - anchor
        points, _, moving = tracking_points(clips, anchor)
        records["own_points"][:, anchor] = points[:, anchor, ::2, ::2].numpy()
        records["tracking"][:, anchor] = points[:, other, ::2, ::2].numpy()
        records["reconstruction"][:, anchor] = reconstruction_points(clips, anchor)[:, other, ::2, ::2].numpy()
        records["moving"][:, anchor] = moving[:, ::2, ::2].numpy()


class PairPool:
    """Random batches from the shards that exist so far."""

    def __init__(self, folder: Path, *, seed: int, still_share: float, augment: bool = True) -> None:
        self.folder = folder
        self.rng = np.random.default_rng(seed)
        self.still_share = still_share
        self.augment = augment
        self.shards: list[Path] = []

    def draw(self, batch_size: int) -> Batch:
        """A batch of ordered pairs of one size. Waits for the first shard."""
        self._look_for_shards()
        records = np.load(self.shards[self.rng.integers(len(self.shards))], mmap_mode="r")
        rows = np.sort(self.rng.choice(len(records), min(batch_size, len(records)), replace=False))
        anchors = self.rng.integers(2, size=len(rows))
        still = self.rng.random(len(rows)) < self.still_share
        mirror = self.augment and bool(self.rng.random() < 0.5)
        return make_batch(records[rows], anchors, still, mirror=mirror)

    def _look_for_shards(self) -> None:
        while True:
            self.shards = sorted(self.folder.glob("*.npy"))
            if self.shards:
                return
            time.sleep(5)


def make_batch(records: np.ndarray, anchors: np.ndarray, still: np.ndarray, *, mirror: bool) -> Batch:
    """Ordered pairs of records [batch].

    Args:
        records: of `record_type`.
        anchors: [batch] which frame is the anchor.
        still: [batch] bool, pair the anchor with itself.
        mirror: flip left and right.
    """
    each = np.arange(len(records))
    frames = np.where(still, anchors, 1 - anchors)
    own = records["own_points"][each, anchors]
    tracking = np.where(still[:, None, None, None], own, records["tracking"][each, anchors])
    reconstruction = np.where(still[:, None, None, None], own, records["reconstruction"][each, anchors])
    moving = records["moving"][each, anchors] & ~still[:, None, None]
    maps = [torch.from_numpy(np.ascontiguousarray(m)).float() for m in (own, tracking, reconstruction)]
    unit = maps[0].norm(dim=-1).flatten(1).mean(1)
    anchor_images, frame_images = (normalize_images(records["rgb"][each, which]) for which in (anchors, frames))
    two_view = _two_view(records, anchors, still)
    moving = torch.from_numpy(moving)
    if mirror:
        flip = torch.tensor([-1.0, 1.0, 1.0])
        maps = [m.flip(2) * flip for m in maps]
        anchor_images, frame_images, moving = anchor_images.flip(3), frame_images.flip(3), moving.flip(2)
        two_view = _mirror_two_view(two_view)
    hints = assemble_hints(anchor_images, frame_images, **two_view)
    valid = torch.ones_like(moving)
    truth = TwoPointmaps(Pointmap(maps[1], valid=valid), Pointmap(maps[2], valid=valid))
    return Batch(anchor_images, frame_images, hints, truth, moving, unit, maps[0])


def _two_view(records: np.ndarray, anchors: np.ndarray, still: np.ndarray) -> dict[str, Tensor]:
    """Two-view estimates turned so that the chosen frame is the anchor and its median depth the unit."""
    each = np.arange(len(records))
    moved = ~still
    depth = records["depth"][each, anchors].astype(np.float32) * moved[:, None, None]
    other_depth = records["depth"][each, 1 - anchors].astype(np.float32) * moved[:, None, None]
    relative = np.array(records["first_from_second"])
    relative[anchors == 1] = invert_rigid(relative[anchors == 1])
    relative[still] = np.eye(4)
    unit = np.array([np.median(d[d > 0]) if (d > 0).any() else 1.0 for d in depth], np.float32)
    relative[:, :3, 3] /= unit[:, None]
    flow = records["flow"].astype(np.float32) * moved[:, None, None, None, None]
    return {
        "forward_flow": torch.from_numpy(flow[each, anchors]),
        "backward_flow": torch.from_numpy(flow[each, 1 - anchors]),
        "anchor_depth": torch.from_numpy(depth / unit[:, None, None]),
        "frame_depth": torch.from_numpy(other_depth / unit[:, None, None]),
        "anchor_from_frame": torch.from_numpy(relative),
    }


def _mirror_two_view(two_view: dict[str, Tensor]) -> dict[str, Tensor]:
    flip = torch.tensor([-1.0, 1.0])
    mirror = torch.diag(torch.tensor([-1.0, 1.0, 1.0, 1.0]))
    return {
        "forward_flow": two_view["forward_flow"].flip(2) * flip,
        "backward_flow": two_view["backward_flow"].flip(2) * flip,
        "anchor_depth": two_view["anchor_depth"].flip(2),
        "frame_depth": two_view["frame_depth"].flip(2),
        "anchor_from_frame": mirror @ two_view["anchor_from_frame"] @ mirror,
    }
