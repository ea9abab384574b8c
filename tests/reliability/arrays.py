"""Files of arrays: sequences, predictions, teachers' tracks and depth, query points."""

import pickle
import zipfile
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from st4rtrack.adapt.teachers import open_teachers
from st4rtrack.adapt.teachers.files import FileTracks
from st4rtrack.bench.predictions import Prediction, read_prediction, write_prediction
from st4rtrack.io.npz import read_npz
from st4rtrack.io.queries import read_queries
from st4rtrack.io.video import open_video
from st4rtrack.io.worldtrack import read_worldtrack
from tests.adapt.truth_teachers import UNUSED
from tests.reliability.case import Case, End, Make
from tests.reliability.damage import DAMAGES
from tests.reliability.hostile_arrays import (
    HOSTILE_MEMBERS,
    archive,
    array_bomb,
    arrays_of,
    lying_archive,
    member,
    npz,
    objects,
    payload,
)
from tests.reliability.videos import read_video, written
from tests.worldtrack_data import write_sequence

FRAMES, POINTS = 4, 20
RGB = np.zeros((FRAMES, 32, 48, 3), np.uint8)


@cache
def sequence_bytes() -> bytes:
    with TemporaryDirectory() as folder:
        write_sequence(Path(folder) / "sequence.npz", frames=FRAMES, points=POINTS)
        return (Path(folder) / "sequence.npz").read_bytes()


JPEG_NAME = "images_jpeg_bytes"


def sequence(change: Callable[[dict[str, Any]], dict[str, Any]]) -> bytes:
    whole = arrays_of(sequence_bytes())
    return npz({**whole, **change(whole)})


Change = Callable[[dict[str, Any]], dict[str, Any]]
SEQUENCES: list[tuple[str, Change, End]] = [
    ("as-it-is", lambda a: {}, "result"),
    ("images-as-objects", lambda a: {JPEG_NAME: objects(*a[JPEG_NAME].tolist())}, "result"),
    ("no-images", lambda a: {JPEG_NAME: None}, "sentence"),
    ("zero-images", lambda a: {JPEG_NAME: a[JPEG_NAME][:0]}, "sentence"),
    (
        "one-frame",
        lambda a: {k: a[k][:1] for k in (JPEG_NAME, "tracks_XYZ", "visibility", "depth_map", "extrinsics_w2c")},
        "result",
    ),
    ("images-of-numbers", lambda a: {JPEG_NAME: np.full(FRAMES, 1 << 40)}, "sentence"),
    ("images-of-floats", lambda a: {JPEG_NAME: np.ones(FRAMES)}, "sentence"),
    ("images-of-text", lambda a: {JPEG_NAME: np.array(["a", "b", "c", "d"])}, "sentence"),
    ("one-image-empty", lambda a: {JPEG_NAME: objects(*a[JPEG_NAME][:3].tolist(), b"")}, "sentence"),
    ("one-image-torn", lambda a: {JPEG_NAME: objects(*a[JPEG_NAME][:3].tolist(), a[JPEG_NAME][3][:99])}, "sentence"),
    ("fewer-images", lambda a: {JPEG_NAME: a[JPEG_NAME][:2]}, "sentence"),
    ("no-focal", lambda a: {"fx_fy_cx_cy": None}, "sentence"),
    ("focal-zero", lambda a: {"fx_fy_cx_cy": np.zeros(4)}, "sentence"),
    ("focal-nan", lambda a: {"fx_fy_cx_cy": np.full(4, np.nan)}, "sentence"),
    ("focal-of-text", lambda a: {"fx_fy_cx_cy": np.array(["1", "2", "3", "4"])}, "sentence"),
    ("focal-of-bytes", lambda a: {"fx_fy_cx_cy": objects(b"1", b"2", b"3", b"4")}, "sentence"),
    ("focal-complex", lambda a: {"fx_fy_cx_cy": np.full(4, 1 + 1j)}, "sentence"),
    ("cameras-singular", lambda a: {"extrinsics_w2c": np.zeros((FRAMES, 4, 4))}, "sentence"),
    ("cameras-nan", lambda a: {"extrinsics_w2c": np.full((FRAMES, 4, 4), np.nan)}, "sentence"),
    ("cameras-infinite", lambda a: {"extrinsics_w2c": np.full((FRAMES, 4, 4), np.inf)}, "sentence"),
    ("cameras-3x4", lambda a: {"extrinsics_w2c": a["extrinsics_w2c"][:, :3]}, "sentence"),
    ("cameras-of-text", lambda a: {"extrinsics_w2c": np.full((FRAMES, 4, 4), "x")}, "sentence"),
    ("tracks-flat", lambda a: {"tracks_XYZ": np.float32(3.0)}, "sentence"),
    ("tracks-of-text", lambda a: {"tracks_XYZ": np.full((FRAMES, POINTS, 3), "x")}, "sentence"),
    ("tracks-nan", lambda a: {"tracks_XYZ": np.full((FRAMES, POINTS, 3), np.nan, np.float32)}, "either"),
    ("tracks-infinite", lambda a: {"tracks_XYZ": np.full((FRAMES, POINTS, 3), np.inf, np.float32)}, "either"),
    ("no-tracks-at-all", lambda a: {"tracks_XYZ": np.zeros((FRAMES, 0, 3)), "visibility": np.zeros((FRAMES, 0), bool)}, "either"),
    ("zero-times", lambda a: {"tracks_XYZ": np.zeros((0, 5, 3)), "visibility": np.zeros((0, 5), bool)}, "sentence"),
    ("no-visibility", lambda a: {"visibility": None}, "sentence"),
    ("visibility-of-text", lambda a: {"visibility": np.full((FRAMES, POINTS), "yes")}, "sentence"),
    ("depth-flat", lambda a: {"depth_map": np.zeros(3)}, "sentence"),
    ("depth-of-text", lambda a: {"depth_map": np.full((FRAMES, 48, 64), "x")}, "sentence"),
]


def read_sequence(path: Path) -> None:
    """All of a sequence: truth, depth, frames."""
    found = read_worldtrack(path)
    assert np.isfinite(found.world_from_camera).all()
    if found.has_depth:
        found.read_depth()
    read_video(path)
    assert len(found.video) == len(found)


@cache
def true_sequence() -> Any:
    folder = TemporaryDirectory()
    made = write_sequence(Path(folder.name) / "truth.npz", frames=FRAMES, points=POINTS)
    made.__dict__["kept"] = folder  # lives as long as the sequence
    return made


@cache
def prediction_bytes() -> bytes:
    with TemporaryDirectory() as folder:
        truth = true_sequence()
        path = Path(folder) / "prediction.npz"
        write_prediction(
            path, Prediction(np.where(truth.visible[0][:, None], truth.tracks_world, np.nan), np.ones((FRAMES, 6, 8, 3)))
        )
        return path.read_bytes()


PREDICTIONS: list[tuple[str, Change, End]] = [
    ("as-it-is", lambda a: {}, "result"),
    ("of-nothing", lambda a: {"tracks_world": None, "reconstruction_world": None}, "sentence"),
    ("flat", lambda a: {"tracks_world": np.float32(1)}, "sentence"),
    ("other-points", lambda a: {"tracks_world": a["tracks_world"][:, :5]}, "sentence"),
    ("fewer-frames", lambda a: {"tracks_world": a["tracks_world"][:2]}, "sentence"),
    ("of-text", lambda a: {"tracks_world": a["tracks_world"].astype("S9")}, "sentence"),
    ("complex", lambda a: {"tracks_world": a["tracks_world"] * 1j}, "sentence"),
    ("of-objects", lambda a: {"tracks_world": objects(b"x", b"y")}, "sentence"),
    ("reconstruction-flat", lambda a: {"reconstruction_world": np.zeros(4)}, "sentence"),
    ("reconstruction-4-axes", lambda a: {"reconstruction_world": np.zeros((FRAMES, 6, 8, 4))}, "sentence"),
    ("reconstruction-empty", lambda a: {"reconstruction_world": np.zeros((FRAMES, 0, 8, 3))}, "sentence"),
    ("visible-of-text", lambda a: {"visible": np.full((FRAMES, POINTS), "x")}, "sentence"),
    ("query-flat", lambda a: {"query_px": np.float64(1)}, "sentence"),
]


def read_one_prediction(path: Path) -> None:
    read_prediction(path, true_sequence())


TRACKS = {
    "query_px": np.array([[4.5, 6.5], [20.5, 10.5]]),
    "tracks_px": np.tile(np.array([[4.5, 6.5], [20.5, 10.5]]), (FRAMES, 1, 1)),
    "visible": np.ones((FRAMES, 2), bool),
}
DEPTH = {"depth": np.ones((FRAMES, 32, 48))}
TEACHER_TRACKS: list[tuple[str, dict[str, Any], End]] = [
    ("as-they-are", {}, "result"),
    ("nan", {"tracks_px": TRACKS["tracks_px"] * np.nan}, "sentence"),
    ("infinite-query", {"query_px": TRACKS["query_px"] * np.inf}, "sentence"),
    ("flat-query", {"query_px": np.float64(1)}, "sentence"),
    ("flat-query-of-size", {"query_px": np.float64(1), "width": 48, "height": 32}, "sentence"),
    ("objects", {"tracks_px": objects(b"x")}, "sentence"),
    ("visible-text", {"visible": np.full((FRAMES, 2), "x")}, "sentence"),
    ("visible-flat", {"visible": np.True_}, "sentence"),
    ("width-nan", {"width": np.nan, "height": 32.0}, "sentence"),
    ("width-infinite", {"width": np.inf, "height": 32.0}, "sentence"),
    ("width-enormous", {"width": 10**18, "height": 10**18}, "sentence"),
    (
        "no-points",
        {key: value[..., :0, :] if value.ndim > 1 and key != "visible" else value[:, :0] for key, value in TRACKS.items()},
        "sentence",
    ),
]
TEACHER_DEPTH: list[tuple[str, dict[str, Any], End]] = [
    ("as-it-is", {}, "result"),
    ("nan", {"depth": DEPTH["depth"] * np.nan}, "result"),
    ("negative", {"depth": -DEPTH["depth"]}, "result"),
    ("objects", {"depth": objects(b"x")}, "sentence"),
    ("empty", {"depth": np.zeros((FRAMES, 0, 0))}, "sentence"),
    ("cameras-of-text", {"world_from_camera": np.full((FRAMES, 4, 4), "x")}, "sentence"),
    ("cameras-flat", {"world_from_camera": np.float64(1)}, "sentence"),
]


def read_teacher_tracks(path: Path) -> None:
    FileTracks(path).tracks(RGB, TRACKS["query_px"], 0)


def read_teacher_depth(path: Path) -> None:
    teacher = open_teachers("fused", str(path), open_video(RGB), fused=UNUSED)[1]
    assert teacher is not None
    teacher.depth(RGB, 0)


def depth_folder(content: Callable[[], bytes]) -> Make:
    """A folder of one `.npy` per frame, one of them odd."""

    def make(folder: Path, rng: np.random.Generator) -> Path:
        (folder / "depth").mkdir()
        for i in range(FRAMES):
            np.save(folder / "depth" / f"{i}.npy", np.ones((32, 48)))
        written(folder / "depth" / "1.npy", content())
        return folder / "depth"

    return make


QUERIES: list[tuple[str, str, bytes, End]] = [
    ("plain", "q.csv", b"1,2\n3,4\n", "result"),
    ("marked-utf-8", "q.csv", b"\xef\xbb\xbfu,v\n1,2\n", "result"),
    ("windows-lines", "q.csv", b"u,v\r\n1,2\r\n", "result"),
    ("mac-lines", "q.csv", b"u,v\r1,2\r", "result"),
    ("utf-16", "q.csv", "u,v\n1,2\n".encode("utf-16"), "result"),
    ("empty", "q.csv", b"", "sentence"),
    ("zeros", "q.csv", bytes(99), "sentence"),
    ("noise", "q.csv", np.random.default_rng(0).bytes(999), "sentence"),
    ("one-long-line", "q.csv", b"1," * 200000, "sentence"),
    ("one-long-cell", "q.csv", b"1" * 200000, "sentence"),
    ("infinite", "q.csv", b"1e999,2\n", "sentence"),
    ("semicolons", "q.csv", b"1;2\n", "result"),
    ("decimal-commas", "q.csv", b'"1,5","2,5"\n', "sentence"),
    ("open-quote", "q.csv", b'"1,2\n3,4\n', "sentence"),
    ("ragged", "q.csv", b"1,2\n3\n", "sentence"),
    ("no-zip", "q.npz", b"hello", "sentence"),
    ("pickle", "q.npz", pickle.dumps(payload()), "sentence"),
    ("bare-array", "q.npz", member("'<f8'", "(1, 2)", bytes(16)), "sentence"),
    ("array-of-text", "q.npz", npz({"queries": np.array([["a", "b"]])}), "sentence"),
    ("complex", "q.npz", npz({"queries": np.ones((1, 2)) * 1j}), "sentence"),
    ("unequal-columns", "q.npz", npz({"u": np.ones(2), "v": np.ones(3)}), "sentence"),
    ("one-column", "q.npz", npz({"u": np.ones(2)}), "sentence"),
    ("nothing", "q.npz", npz({}), "sentence"),
    ("objects", "q.npz", archive({"queries.npy": member("'|O'", "(1,)", pickle.dumps(objects(payload())))}), "sentence"),
]


def hold(name: str, content: Callable[[], bytes]) -> Make:
    return lambda folder, rng: written(folder / name, content())


def damaged(name: str, content: Callable[[], bytes], damage: str) -> Make:
    return lambda folder, rng: written(folder / name, DAMAGES[damage](content(), rng))


ARCHIVES: list[tuple[str, Callable[[], bytes], End]] = [
    (
        "climbs-out",
        lambda: archive({"../../executed.npy": member(content=bytes(16)), "/etc/x.npy": member(content=bytes(16))}),
        "result",
    ),
    ("lies-about-size", lambda: lying_archive("a.npy", 1 << 40), "sentence"),
    ("bomb", array_bomb, "sentence"),
    ("of-lzma", lambda: archive({"a.npy": member(content=bytes(16))}, zipfile.ZIP_LZMA), "result"),
    ("of-no-arrays", lambda: archive({"readme.txt": b"hello"}), "either"),
    (
        "encrypted",
        lambda: archive({"a.npy": member(content=bytes(16))}).replace(
            b"PK\x01\x02\x14\x03\x14\0\0\0", b"PK\x01\x02\x14\x03\x14\0\1\0"
        ),
        "sentence",
    ),
]


def array_cases() -> list[Case]:
    """All of them."""
    cases = [
        Case("arrays", f"member-{n}", hold("a.npz", partial(_in_archive, m)), read_npz, "either")
        for n, m in HOSTILE_MEMBERS.items()
    ]
    cases += [
        Case("arrays", f"archive-{name}", hold("a.npz", content), read_npz, end, heavy=name == "bomb")
        for name, content, end in ARCHIVES
    ]
    cases += [
        Case("arrays", f"sequence-{n}", hold("s.npz", partial(sequence, change)), read_sequence, end)
        for n, change, end in SEQUENCES
    ]
    for name, change, end in PREDICTIONS:
        cases.append(
            Case(
                "arrays",
                f"prediction-{name}",
                hold("p.npz", partial(_changed, prediction_bytes, change)),
                read_one_prediction,
                end,
                named=("truth",),
            )
        )
    for name, new, end in TEACHER_TRACKS:
        cases.append(Case("arrays", f"tracks-{name}", hold("t.npz", partial(npz, {**TRACKS, **new})), read_teacher_tracks, end))
    for name, new, end in TEACHER_DEPTH:
        cases.append(Case("arrays", f"depth-{name}", hold("d.npz", partial(npz, {**DEPTH, **new})), read_teacher_depth, end))
    for name, content in HOSTILE_MEMBERS.items():
        if name in ("pickle-with-code", "claims-terabytes", "header-torn", "negative-shape", "no-magic", "empty-member"):
            cases.append(Case("arrays", f"depth-folder-{name}", depth_folder(content), read_teacher_depth, "sentence"))
    cases.append(Case("arrays", "depth-folder-archive", depth_folder(prediction_bytes), read_teacher_depth, "sentence"))
    cases += [
        Case("arrays", f"queries-{n}", hold(file, lambda c=content: c), read_queries, end) for n, file, content, end in QUERIES
    ]
    readers = {
        "sequence": (sequence_bytes, read_sequence),
        "prediction": (prediction_bytes, read_one_prediction),
        "tracks": (partial(npz, TRACKS), read_teacher_tracks),
        "depth": (partial(npz, DEPTH), read_teacher_depth),
        "queries": (partial(npz, {"queries": np.ones((5, 2))}), read_queries),
    }
    for name, (content, read) in readers.items():
        cases += [Case("arrays", f"{name}-{damage}", damaged("x.npz", content, damage), read) for damage in DAMAGES]
    return cases


def _in_archive(content: Callable[[], bytes]) -> bytes:
    return archive({"a.npy": content()})


def _changed(content: Callable[[], bytes], change: Change) -> bytes:
    whole = arrays_of(content())
    return npz({**whole, **change(whole)})
