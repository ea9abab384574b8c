"""Shards of the rendered world as records of `data/depth_frames.py`: `python performance/world_records.py SHARDS -o FOLDER`.

Shards are packed for disk, records are read at random by memory map. Shards that have their records already are left out, so the
command can run again while others are rendered.
"""

import argparse
from pathlib import Path

import numpy as np

from st4rtrack.data.depth_frames import frame_record
from st4rtrack.data.world.frames import read_shard
from st4rtrack.io.files import whole_file


def convert(shard: Path, target: Path) -> None:
    """One shard, all of one size."""
    frames = read_shard(shard)
    records = np.zeros(len(frames), frame_record(*frames[0].depth.shape))
    for record, frame in zip(records, frames, strict=True):
        record["rgb"], record["depth"], record["focal_px"], record["subject"] = frame
    with whole_file(target) as file:
        np.save(file, records)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shards", type=Path, help="folder with train-SEED-NNNNN.npz and validation-SEED-NNNNN.npz")
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    for shard in sorted(options.shards.glob("*-*-*.npz")):
        target = options.output / shard.stem.split("-")[0] / f"{shard.stem}.npy"
        if not target.exists():
            convert(shard, target)
            print(target, flush=True)


if __name__ == "__main__":
    main()
