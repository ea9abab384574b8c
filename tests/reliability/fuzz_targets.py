"""What the fuzzer calls: each of our readers on any bytes, with whole files to begin from."""

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from st4rtrack.io.npz import read_byte_objects, read_npz
from st4rtrack.io.queries import read_queries
from st4rtrack.io.scene import SCENE_JSON, SCENE_ZARR
from st4rtrack.io.video import open_video
from st4rtrack.types import UserError
from tests.reliability import arrays, checkpoints, folders, hostile_arrays
from tests.reliability.scenes import read_scene, template


def seeds(reader: str) -> list[bytes]:
    """Whole inputs, and the hostile ones of the corpus."""
    members = [make() for make in hostile_arrays.HOSTILE_MEMBERS.values()]
    found: dict[str, list[bytes]] = {
        "npz": [hostile_arrays.archive({"a.npy": member}) for member in members] + [arrays.sequence_bytes()],
        "member": members,
        "objects": [member[128:] for member in members] + [_pickled([b"one", b"two"])],
        "queries": [hostile_arrays.npz({"queries": np.ones((3, 2))}), hostile_arrays.npz({"u": np.ones(2), "v": np.ones(2)})],
        "csv": [content for _, name, content, _ in arrays.QUERIES if name.endswith("csv") and len(content) < 9999],
        "scene": [(template() / SCENE_JSON).read_bytes()],
        "store": [path.read_bytes() for path in sorted((template() / SCENE_ZARR).rglob("*")) if path.is_file()],
        "safetensors": [checkpoints.whole()],
        "config": [json.dumps(checkpoints.CONFIG.to_dict()).encode()],
        "images": [folders.encoded(suffix) for suffix in folders.SUFFIXES],
        "prediction": [arrays.prediction_bytes()],
        "sequence": [arrays.sequence_bytes()],
    }
    return found[reader]


def target(reader: str, folder: Path) -> Callable[[bytes], None]:
    """A function that reads bytes as such a file, and raises what is not a result or a sentence."""
    files: dict[str, tuple[str, Callable[[Path], Any]]] = {
        "npz": ("a.npz", read_npz),
        "queries": ("q.npz", read_queries),
        "csv": ("q.csv", read_queries),
        "safetensors": ("m.safetensors", checkpoints.read_model),
        "images": ("a.png", lambda path: next(open_video(path).frames())),
        "prediction": ("p.npz", arrays.read_one_prediction),
        "sequence": ("s.npz", arrays.read_sequence),
    }
    special: dict[str, Callable[[bytes], Any]] = {
        "member": lambda data: _read(folder / "a.npz", hostile_arrays.archive({"a.npy": data}), read_npz),
        "objects": lambda data: read_byte_objects(data, (2,), "array"),
        "config": lambda data: _read(folder / "m.safetensors", _configured(data), checkpoints.read_model),
        "scene": partial(_read_scene, folder / "scene"),
        "store": partial(_read_store, folder / "scene"),
    }
    if reader in files:
        name, read = files[reader]
        special[reader] = lambda data: _read(folder / name, data, read)
    elif reader in ("scene", "store"):
        shutil.copytree(template(), folder / "scene")
    chosen = special[reader]

    def judged(data: bytes) -> None:
        try:
            chosen(data)
        except UserError as error:
            assert "\n" not in str(error), error

    return judged


def _read(path: Path, data: bytes, read: Callable[[Path], Any]) -> None:
    path.write_bytes(data)
    read(path)


def _read_scene(folder: Path, data: bytes) -> None:
    (folder / SCENE_JSON).write_bytes(data)
    read_scene(folder)


def _read_store(folder: Path, data: bytes) -> None:
    """The first byte chooses which file of the store the others replace."""
    paths = sorted(path for path in (template() / SCENE_ZARR).rglob("*") if path.is_file())
    source = paths[(data or b"\0")[0] % len(paths)]
    target_path = folder / SCENE_ZARR / source.relative_to(template() / SCENE_ZARR)
    try:
        target_path.write_bytes(data[1:])
        read_scene(folder)
    finally:
        shutil.copyfile(source, target_path)


def _configured(data: bytes) -> bytes:
    return checkpoints.safetensors(header={checkpoints.CONFIG_KEY: data.decode("utf-8", "replace")})


def _pickled(items: list[bytes]) -> bytes:
    import pickle

    return pickle.dumps(hostile_arrays.objects(*items), 4)
