"""Feed-forward methods: what the pipeline says about a sequence, read at the queries by the rule of the protocol."""

from pathlib import Path

import numpy as np
import pytest

from st4rtrack.bench.methods import make_method
from st4rtrack.bench.methods.bounds import static_prediction
from st4rtrack.bench.methods.pairwise import predict_sequence
from st4rtrack.bench.protocol import CORRECTED, PUBLISHED
from st4rtrack.bench.score import score_sequence
from st4rtrack.data.procedural import ProceduralClip, ProceduralConfig, procedural_clip
from st4rtrack.geometry.camera import pixel_grid
from st4rtrack.geometry.transforms import invert_rigid, transform_points
from st4rtrack.io.video import open_video
from st4rtrack.io.worldtrack import WorldTrackSequence, encode_jpeg, read_worldtrack, write_worldtrack
from st4rtrack.options import MethodOptions
from tests.formula import formula_weights, save_official
from tests.shared_data import shared
from tests.synthetic import TruthNetwork
from tests.worldtrack_data import write_sequence

GRID = pixel_grid(192, 256)[5::9, 5::9]


@pytest.fixture(scope="module")
def clip() -> ProceduralClip:
    return procedural_clip(3, ProceduralConfig(num_frames=5, setting="room"))


@pytest.fixture(scope="module")
def sequence(clip: ProceduralClip, tmp_path_factory: pytest.TempPathFactory) -> WorldTrackSequence:
    """The clip as a file, but with its images before compression: the truth's network knows them by their pixels."""
    path = tmp_path_factory.mktemp("data") / "clip.npz"
    camera_from_world = invert_rigid(clip.world_from_camera)
    tracks = clip.tracking_points_world[:, 5::9, 5::9].reshape(5, -1, 3).astype(np.float64)
    k = clip.intrinsics[0]
    write_worldtrack(
        path,
        images_jpeg=[encode_jpeg(image) for image in clip.rgb],
        fx_fy_cx_cy=np.array([k[0, 0], k[1, 1], k[0, 2], k[1, 2]]),
        camera_from_world=camera_from_world,
        visibility=clip.visible[:, 5::9, 5::9].reshape(5, -1),
        tracks_camera=transform_points(camera_from_world, tracks),
        depth=clip.depth,
    )
    sequence = read_worldtrack(path)
    sequence.__dict__["video"] = open_video(clip.rgb)
    return sequence


def test_the_truth_in_place_of_the_network_scores_100(clip: ProceduralClip, sequence: WorldTrackSequence) -> None:
    np.testing.assert_allclose(sequence.query_px, GRID.reshape(-1, 2), atol=0.01)
    for protocol in (CORRECTED, PUBLISHED):
        prediction = predict_sequence(TruthNetwork(clip), sequence, MethodOptions(protocol, size=256))  # pyright: ignore
        row = score_sequence(sequence, prediction, protocol)
        assert row["tracking"]["all"]["median"]["apd"] > 99.9
        assert row["tracking"]["all"]["median"]["epe"] < 0.02
        assert row["tapvid3d"]["oa"] > 95 and row["cameras"]["ate"] < 0.01
    corrected = score_sequence(sequence, prediction, CORRECTED)
    assert corrected["reconstruction"]["median"]["apd"] == 100 and corrected["depth"]["abs_rel"] < 0.005


def test_the_protocol_decides_where_a_pointmap_is_read(clip: ProceduralClip, sequence: WorldTrackSequence) -> None:
    moved = clip.tracking_points_world
    sequence_px = sequence.query_px + (0.3, 0.4)  # from pixel centres to between them
    shifted = read_worldtrack(sequence.path)
    shifted.__dict__.update(video=sequence.video, query_px=sequence_px)
    floor, between = (
        predict_sequence(TruthNetwork(clip), shifted, MethodOptions(protocol, size=256, refine=False)).tracks_world
        for protocol in (PUBLISHED, CORRECTED)
    )
    assert floor is not None and between is not None
    rows, columns = (GRID[..., 1] - 0.5).astype(int), (GRID[..., 0] - 0.5).astype(int)
    np.testing.assert_array_equal(floor, moved[:, rows, columns].reshape(5, -1, 3))
    top = 0.7 * moved[:, rows, columns] + 0.3 * moved[:, rows, columns + 1]
    bottom = 0.7 * moved[:, rows + 1, columns] + 0.3 * moved[:, rows + 1, columns + 1]
    np.testing.assert_allclose(between, (0.6 * top + 0.4 * bottom).reshape(5, -1, 3), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("method", ["st4rtrack", "dust3r", "mast3r", "monst3r"])
def test_official_checkpoints_of_formula_weights_run(method: str, tmp_path: Path) -> None:
    path = save_official(tmp_path / "official.pth", formula_weights(shared("oracle/model_small_keys.json")))
    sequence = write_sequence(tmp_path / "one.npz", frames=3)
    options = MethodOptions(CORRECTED, model=str(path), device="cpu", dtype="float32", size=64)
    prediction = make_method(method, options)(sequence)
    assert sequence.visible is not None and prediction.tracks_world is not None
    assert prediction.reconstruction_world is not None and prediction.reconstruction_world.shape == (3, 48, 64, 3)
    assert np.isfinite(prediction.tracks_world).all(axis=(0, 2)).tolist() == sequence.visible[0].tolist()
    assert (prediction.visible is None) == (method != "st4rtrack")
    assert score_sequence(sequence, prediction, CORRECTED)["tracking"]["all"]["non_finite"] == 0


def test_the_first_depth_without_motion(tmp_path: Path) -> None:
    still = write_sequence(tmp_path / "still.npz", moving_share=0.0, fixed_camera=True)
    row = score_sequence(still, static_prediction(still), CORRECTED)
    assert row["tracking"]["all"]["median"]["epe"] < 1e-6
    depth = still.read_depth()
    known = (depth > 0).all(axis=0)
    changed = np.abs(depth - depth[0])[:, known].mean()
    assert row["reconstruction"]["median"]["epe"] == pytest.approx(changed, rel=0.2)  # what moves in depth is all it misses
    moving = write_sequence(tmp_path / "moving.npz")
    surface = static_prediction(moving).reconstruction_world
    assert surface is not None and np.isfinite(surface).all()  # holes of the depth are filled
