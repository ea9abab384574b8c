"""Scene folders: what `scene.json` says, and what is in `scene.zarr`."""

import json
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numcodecs
import numpy as np
import zarr

from st4rtrack.io.scene import JOURNAL, SCENE_JSON, SCENE_ZARR, load_scene, save_scene
from tests.reliability.case import Case, End, Make
from tests.reliability.damage import DAMAGES
from tests.reliability.hostile_arrays import payload
from tests.reliability.videos import read_video
from tests.synthetic_scene import synthetic_scene

Change = Callable[[Path], None]
_FOLDERS: list[TemporaryDirectory] = []


@cache
def template() -> Path:
    """A valid scene on disk."""
    _FOLDERS.append(TemporaryDirectory())
    return save_scene(synthetic_scene(), Path(_FOLDERS[-1].name) / "scene")


def read_scene(path: Path) -> None:
    """All its arrays, and tracks of a point."""
    scene = load_scene(path)
    for pointmap in (scene.tracking, scene.reconstruction):
        for maps in (pointmap.points_world, pointmap.confidence):  # a scene may do without confidence
            assert maps is None or np.asarray(maps).shape[:3] == scene.rgb.shape[:3]
    assert scene.tracking.visible is None or np.asarray(scene.tracking.visible).shape == scene.rgb.shape[:3]
    assert np.asarray(scene.rgb).dtype == np.uint8
    scene.tracks(scene.pixel_map.source_from_network(np.array([[3.0, 3.0]])))


def changed(change: Change) -> Make:
    """A copy of the valid scene with something changed in its folder."""

    def make(folder: Path, rng: np.random.Generator) -> Path:
        shutil.copytree(template(), folder / "scene")
        change(folder / "scene")
        return folder / "scene"

    return make


def said(**values: Any) -> Make:
    """Another `scene.json`: dots in a name lead inwards ("pixel_map__scale")."""

    def change(folder: Path) -> None:
        data = json.loads((folder / SCENE_JSON).read_text())
        for name, value in values.items():
            *outer, last = name.split("__")
            place = data
            for part in outer:
                place = place[part]
            place[last] = value
        (folder / SCENE_JSON).write_text(json.dumps(data))

    return changed(change)


def text(content: str | bytes) -> Make:
    return changed(
        lambda folder: (folder / SCENE_JSON).write_bytes(content if isinstance(content, bytes) else content.encode()) and None
    )


def metadata(array: str, **values: Any) -> Make:
    """Another description of an array in the store."""

    def change(folder: Path) -> None:
        path = folder / SCENE_ZARR / array / "zarr.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **values}))

    return changed(change)


def chunk(array: str, content: Callable[[bytes], bytes] | None) -> Make:
    """One chunk of an array changed, or missing."""

    def change(folder: Path) -> None:
        path = next(path for path in sorted((folder / SCENE_ZARR / array / "c").rglob("*")) if path.is_file())
        if content is None:
            path.unlink()
        else:
            path.write_bytes(content(path.read_bytes()))

    return changed(change)


def damaged(place: str, damage: str) -> Make:
    """Damage in a file of the scene."""

    def make(folder: Path, rng: np.random.Generator) -> Path:
        shutil.copytree(template(), folder / "scene")
        found = sorted(path for path in (folder / "scene").glob(place) if path.is_file())
        path = found[rng.integers(len(found))]
        path.write_bytes(DAMAGES[damage](path.read_bytes(), rng))
        return folder / "scene"

    return make


def incomplete(journal: bytes, **values: Any) -> Make:
    def change(folder: Path) -> None:
        data = json.loads((folder / SCENE_JSON).read_text())
        (folder / SCENE_JSON).write_text(json.dumps({**data, "status": "incomplete", **values}))
        (folder / JOURNAL).write_bytes(journal)

    return changed(change)


def array_with_code(folder: Path) -> None:
    """An array of the old store format whose filter is a pickle, as `time_s`."""
    target = folder / SCENE_ZARR
    shutil.rmtree(target)
    group = zarr.open_group(str(target), mode="w", zarr_format=2)
    group.create_array("rgb", data=np.zeros((2, 4, 4, 3), np.uint8))
    group.create_array("time_s", shape=(2,), chunks=(2,), dtype="float64", compressors=None)
    described = json.loads((target / "time_s" / ".zarray").read_text())
    described["filters"] = [{"id": "pickle", "protocol": 4}]
    (target / "time_s" / ".zarray").write_text(json.dumps(described))
    import pickle

    (target / "time_s" / "0").write_bytes(pickle.dumps(payload()))


def zstd_bomb(data: bytes) -> bytes:
    return bytes(numcodecs.Zstd(1).encode(bytes(1 << 28)))


def without(*names: str) -> Make:
    def change(folder: Path) -> None:
        for name in names:
            path = folder / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    return changed(change)


def store_is_a_file(folder: Path) -> None:
    shutil.rmtree(folder / SCENE_ZARR)
    (folder / SCENE_ZARR).touch()


def chunk_grid(*sizes: int) -> dict[str, Any]:
    return {"name": "regular", "configuration": {"chunk_shape": list(sizes)}}


HUGE = 10**15
SCENES: list[tuple[str, Make, End]] = [
    ("as-it-is", changed(lambda folder: None), "result"),
    ("other-files-beside", changed(lambda folder: (folder / "notes.txt").touch()), "result"),
    ("json-missing", without(SCENE_JSON), "sentence"),
    ("json-empty", text(""), "sentence"),
    ("json-list", text("[]"), "sentence"),
    ("json-half", text('{"format": "st4rtrack sc'), "sentence"),
    ("json-deep", text("[" * 100000), "sentence"),
    ("json-long-number", text('{"format_version": ' + "9" * 10000 + "}"), "sentence"),
    ("json-no-text", text(b"\xff\xfe\0"), "sentence"),
    ("json-zeros", text(bytes(999)), "sentence"),
    ("json-other", said(format="other"), "sentence"),
    ("newer", said(format_version=99), "sentence"),
    ("version-text", said(format_version="1"), "sentence"),
    ("version-bool", said(format_version=True), "sentence"),
    ("frames-more", said(num_frames=9), "sentence"),
    ("frames-enormous", said(num_frames=HUGE), "sentence"),
    ("frames-negative", said(num_frames=-4), "sentence"),
    ("frames-zero", said(num_frames=0), "sentence"),
    ("frames-fraction", said(num_frames=4.0), "sentence"),
    ("frames-nan", said(num_frames=float("nan")), "sentence"),
    ("frames-text", said(num_frames="4"), "sentence"),
    ("frames-bool", said(num_frames=True), "sentence"),
    ("height-enormous", said(height=HUGE), "sentence"),
    ("height-null", said(height=None), "sentence"),
    ("anchor-beyond", said(anchor_index=4), "sentence"),
    ("anchor-negative", said(anchor_index=-1), "sentence"),
    ("anchor-fraction", said(anchor_index=0.5), "sentence"),
    ("map-zero", said(pixel_map__scale=[0, 0]), "sentence"),
    ("map-nan", said(pixel_map__scale=[float("nan"), 1]), "sentence"),
    ("map-text", said(pixel_map__scale=["a", "b"]), "sentence"),
    ("map-short", said(pixel_map__offset_px=[1]), "sentence"),
    ("map-null", said(pixel_map=None), "sentence"),
    ("size-text", said(source_size=["a", "b"]), "sentence"),
    ("size-short", said(source_size=[5]), "sentence"),
    ("size-negative", said(source_size=[-5, -5]), "sentence"),
    ("info-list", said(info=[]), "sentence"),
    ("info-null", said(info=None), "sentence"),
    ("dtype-other", said(points_dtype="object"), "sentence"),
    ("dtype-list", said(points_dtype=[]), "sentence"),
    ("arrays-text", said(arrays="rgb"), "sentence"),
    ("arrays-none", said(arrays=[]), "sentence"),
    ("arrays-numbers", said(arrays=[1, 2]), "sentence"),
    ("arrays-climb", said(arrays=["../../executed"]), "sentence"),
    ("status-list", said(status=[]), "sentence"),
    ("zarr-missing", without(SCENE_ZARR), "sentence"),
    (
        "zarr-a-file",
        changed(store_is_a_file),
        "sentence",
    ),
    ("zarr-group-missing", without(f"{SCENE_ZARR}/zarr.json"), "sentence"),
    ("array-missing", without(f"{SCENE_ZARR}/tracking/points"), "sentence"),
    ("array-a-group", metadata("rgb", node_type="group"), "sentence"),
    ("array-dtype", metadata("rgb", data_type="float64"), "sentence"),
    ("array-dtype-unknown", metadata("rgb", data_type="object"), "sentence"),
    ("array-shape", metadata("rgb", shape=[4, 6, 9, 3]), "sentence"),
    ("array-shape-text", metadata("rgb", shape="all"), "sentence"),
    ("array-codec-unknown", metadata("rgb", codecs=[{"name": "numcodecs.pickle", "configuration": {}}]), "sentence"),
    ("array-codec-none", metadata("rgb", codecs=[]), "sentence"),
    ("array-chunks-enormous", metadata("rgb", chunk_grid=chunk_grid(10**6, 10**6, 10**6, 3)), "sentence"),
    ("array-chunks-zero", metadata("rgb", chunk_grid=chunk_grid(0, 0, 0, 0)), "sentence"),
    ("array-chunks-small", metadata("tracking/points", chunk_grid=chunk_grid(1, 1, 1, 1)), "sentence"),
    ("array-fill-nan", metadata("tracking/points", fill_value="NaN"), "either"),
    ("small-array-chunks-enormous", metadata("time_s", chunk_grid=chunk_grid(10**13), fill_value=1.0), "sentence"),
    ("chunk-missing-points", chunk("tracking/points", None), "sentence"),
    ("chunk-missing-cameras", chunk("cameras/intrinsics", None), "sentence"),
    ("chunk-empty", chunk("reconstruction/points", lambda data: b""), "sentence"),
    ("chunk-half", chunk("reconstruction/points", lambda data: data[: len(data) // 2]), "sentence"),
    ("chunk-noise", chunk("rgb", lambda data: b"hello" * 9), "sentence"),
    ("chunk-other-size", chunk("rgb", lambda data: bytes(numcodecs.Zstd(1).encode(bytes(5)))), "sentence"),
    ("chunk-bomb", chunk("rgb", zstd_bomb), "sentence"),
    (
        "chunk-claims-terabytes",
        chunk("rgb", lambda data: b"\x28\xb5\x2f\xfd\xe0" + (1 << 42).to_bytes(8, "little") + b"\x01\0\0"),
        "sentence",
    ),
    ("small-chunk-noise", chunk("time_s", lambda data: b"hello" * 9), "sentence"),
    ("incomplete", incomplete(b""), "sentence"),
    ("incomplete-noise", incomplete(bytes(range(256)) * 9), "sentence"),
    ("incomplete-enormous", incomplete(b"", num_frames=10**9), "sentence"),
]


def scene_cases() -> list[Case]:
    """All of them."""
    cases = [Case("scene", name, make, read_scene, end, heavy="bomb" in name) for name, make, end in SCENES]
    cases.append(Case("scene", "old-store-with-code", changed(array_with_code), read_scene, "sentence"))
    cases.append(Case("scene", "old-store-with-code-as-video", changed(array_with_code), read_video, "sentence"))
    for name in (
        "chunk-noise",
        "chunk-bomb",
        "array-dtype",
        "array-chunks-enormous",
        "array-codec-unknown",
        "zarr-group-missing",
    ):
        make = next(make for found, make, _ in SCENES if found == name)
        cases.append(Case("scene", f"{name}-as-video", make, read_video, "sentence"))
    for place, label in ((SCENE_JSON, "json"), (f"{SCENE_ZARR}/**/zarr.json", "store"), (f"{SCENE_ZARR}/**/c/**/0", "chunk")):
        for damage in DAMAGES:
            cases += [Case("scene", f"{label}-{damage}-{i}", damaged(place, damage), read_scene) for i in range(2)]
    return cases
