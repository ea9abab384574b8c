"""Cameras and maps in the files of other tools, given beside a video."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from st4rtrack.io.known.cameras import read_cameras
from st4rtrack.io.known.maps import open_depth
from tests.reliability.case import Case, End, Make
from tests.reliability.damage import DAMAGES
from tests.reliability.folders import png_that_claims
from tests.reliability.hostile_arrays import HOSTILE_MEMBERS, npz, objects
from tests.reliability.videos import written

FRAMES = 4
TUM = "".join(f"{0.1 * i} {0.1 * i} 0 0 0 0 0 1\n" for i in range(FRAMES))


def read_given_cameras(path: Path) -> None:
    """What is read are cameras: finite, or NaN as a whole where there is none."""
    cameras = read_cameras(path).world_from_camera
    known = cameras[np.isfinite(cameras).all(axis=(1, 2))]
    assert cameras.shape[1:] == (4, 4)
    np.testing.assert_allclose(np.abs(np.linalg.det(known)), 1.0, atol=0.1)


def read_given_depth(path: Path) -> None:
    found = open_depth(path)
    for row in range(found.count):
        assert np.isfinite(found.read(row)).all()


def transforms(**changes: Any) -> str:
    """nerfstudio's file."""
    frames = [{"file_path": f"{i}.png", "transform_matrix": np.eye(4).tolist()} for i in range(FRAMES)]
    return json.dumps({"w": 64, "h": 48, "fl_x": 60.0, "fl_y": 60.0, "cx": 32.0, "cy": 24.0, "frames": frames, **changes})


def one_frame(**changes: Any) -> str:
    return transforms(frames=[{"file_path": "0.png", "transform_matrix": np.eye(4).tolist(), **changes}])


CAMERAS: list[tuple[str, str, str, End]] = [
    ("tum", "c.txt", TUM, "result"),
    ("tum-empty", "c.txt", "", "sentence"),
    ("tum-comment", "c.txt", "# nothing\n", "sentence"),
    ("tum-short", "c.txt", "0 1 2 3\n", "sentence"),
    ("tum-words", "c.txt", "a b c d e f g h\n", "sentence"),
    ("tum-nan", "c.txt", "0 nan 0 0 0 0 0 1\n", "either"),
    ("tum-no-rotation", "c.txt", "0 0 0 0 0 0 0 0\n", "sentence"),
    ("tum-huge", "c.txt", "0 1e999 0 0 0 0 0 1\n", "either"),
    ("transforms", "c.json", transforms(), "result"),
    ("transforms-list", "c.json", "[]", "sentence"),
    ("transforms-deep", "c.json", "[" * 100000, "sentence"),
    ("transforms-none", "c.json", transforms(frames=[]), "sentence"),
    ("transforms-text", "c.json", transforms(frames="all"), "sentence"),
    ("transforms-numbers", "c.json", transforms(frames=[1, 2]), "sentence"),
    ("transforms-3x4", "c.json", one_frame(transform_matrix=np.eye(4)[:3].tolist()), "either"),
    ("transforms-ragged", "c.json", one_frame(transform_matrix=[[1, 0], [0]]), "sentence"),
    ("transforms-zeros", "c.json", one_frame(transform_matrix=np.zeros((4, 4)).tolist()), "sentence"),
    ("transforms-nan", "c.json", one_frame(transform_matrix=(np.eye(4) * np.nan).tolist()), "either"),
    ("transforms-size-text", "c.json", transforms(w="wide"), "sentence"),
    ("transforms-size-infinite", "c.json", transforms(w=float("inf")), "sentence"),
    ("transforms-focal-text", "c.json", transforms(fl_x="long"), "sentence"),
    ("transforms-focal-negative", "c.json", transforms(fl_x=-1.0), "sentence"),
    ("transforms-focal-list", "c.json", transforms(fl_x=[1]), "sentence"),
    ("other-ending", "c.xml", "<cameras/>", "sentence"),
]
ARRAYS: list[tuple[str, dict[str, Any], End]] = [
    ("ours", {"world_from_camera": np.tile(np.eye(4), (FRAMES, 1, 1))}, "result"),
    ("zeros", {"world_from_camera": np.zeros((FRAMES, 4, 4))}, "sentence"),
    ("flat", {"world_from_camera": np.float64(1)}, "sentence"),
    ("text", {"world_from_camera": np.full((FRAMES, 4, 4), "x")}, "sentence"),
    ("objects", {"world_from_camera": objects(b"x")}, "sentence"),
    ("other-names", {"poses": np.zeros(3)}, "sentence"),
    ("megasam-flat", {"cam_c2w": np.zeros(4)}, "sentence"),
    ("megasam-images-flat", {"cam_c2w": np.tile(np.eye(4), (2, 1, 1)), "images": np.float64(1)}, "either"),
    ("vipe-numbers-of-text", {"data": np.tile(np.eye(4), (2, 1, 1)), "inds": np.array(["a", "b"])}, "sentence"),
    ("vipe-flat", {"data": np.float64(1), "inds": np.float64(1)}, "sentence"),
    ("vipe-fewer-numbers", {"data": np.tile(np.eye(4), (3, 1, 1)), "inds": np.arange(2)}, "sentence"),
]


def colmap(**files: bytes) -> Make:
    """A model folder."""

    def make(folder: Path, rng: np.random.Generator) -> Path:
        (folder / "model").mkdir()
        for name, content in files.items():
            written(folder / "model" / f"{name}.bin", content)
        return folder / "model"

    return make


def depth_images(content: Callable[[], bytes]) -> Make:
    """A folder of depth, one of its files odd."""

    def make(folder: Path, rng: np.random.Generator) -> Path:
        (folder / "depth").mkdir()
        for i in range(FRAMES):
            good = cv2.imencode(".png", np.full((6, 8), 1000, np.uint16))[1].tobytes()
            written(folder / "depth" / f"{i}.png", content() if i == 1 else good)
        return folder / "depth"

    return make


def held(name: str, content: bytes) -> Make:
    return lambda folder, rng: written(folder / name, content)


def damaged(name: str, content: bytes, damage: str) -> Make:
    return lambda folder, rng: written(folder / name, DAMAGES[damage](content, rng))


def camera_cases() -> list[Case]:
    """All of them."""
    cases = [Case("cameras", n, held(file, text.encode()), read_given_cameras, end) for n, file, text, end in CAMERAS]
    cases += [Case("cameras", f"npz-{n}", held("c.npz", npz(arrays)), read_given_cameras, end) for n, arrays, end in ARRAYS]
    for damage in DAMAGES:
        for name, content in (("c.txt", TUM.encode()), ("c.json", transforms().encode()), ("c.npz", npz(ARRAYS[0][1]))):
            cases.append(Case("cameras", f"{name}-{damage}", damaged(name, content, damage), read_given_cameras))
    noise = np.random.default_rng(0).bytes(500)
    for name, make in (
        ("empty", colmap()),
        ("empty-files", colmap(cameras=b"", images=b"", points3D=b"")),
        ("noise", colmap(cameras=noise, images=noise, points3D=noise)),
        ("enormous-count", colmap(cameras=b"\xff" * 8, images=b"\xff" * 8, points3D=b"\xff" * 8)),
    ):
        cases.append(Case("cameras", f"colmap-{name}", make, read_given_cameras, "sentence"))
    for name, make in (
        ("empty", depth_images(lambda: b"")),
        ("claims", depth_images(lambda: png_that_claims(60000, 60000))),
        ("npy-with-code", held("d.npy", HOSTILE_MEMBERS["pickle-with-code"]())),
        ("npy-of-terabytes", held("d.npy", HOSTILE_MEMBERS["claims-terabytes"]())),
    ):
        cases.append(Case("cameras", f"depth-{name}", make, read_given_depth, "sentence"))
    return cases
