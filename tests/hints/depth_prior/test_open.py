"""Depth priors by their words: files, the monocular head, nothing, and mistakes."""

from pathlib import Path

import numpy as np
import pytest

from st4rtrack.hints.depth_prior import DepthPrior
from st4rtrack.hints.depth_prior.open import open_depth_prior
from st4rtrack.io.known.matching import SourceSize
from st4rtrack.io.video import open_video
from st4rtrack.model import checkpoint
from st4rtrack.model.checkpoint import save_model
from st4rtrack.model.monocular import new_monocular
from st4rtrack.types import PixelMap, UserError
from tests.model.test_monocular import SMALL

RGB = np.random.default_rng(0).integers(0, 255, (3, 144, 256, 3), np.uint8)
VIDEO = open_video(RGB)
DEPTH = np.random.default_rng(1).uniform(1, 2, RGB.shape[:3]).astype(np.float32)


def opened(source: object, **options: object) -> DepthPrior:
    prior = open_depth_prior(str(source), VIDEO, **options)  # pyright: ignore[reportArgumentType]
    assert prior is not None
    return prior


def test_none_is_no_prior() -> None:
    assert open_depth_prior("none", VIDEO) is None


@pytest.mark.parametrize("height_width", [(144, 256), (90, 50), (300, 400)])
def test_builtin_any_frame_size_gives_depth_of_that_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, height_width: tuple[int, int]
) -> None:
    save_model(new_monocular(SMALL, 0), tmp_path / "tiny.safetensors")
    monkeypatch.setattr(checkpoint.resources, "files", lambda _: tmp_path)
    (tmp_path / "weights").symlink_to(tmp_path)
    rgb = np.zeros((*height_width, 3), np.uint8)
    prior = opened("builtin")
    found = prior(rgb, 0)
    assert found.kind == "depth" and found.values.shape == found.log_error.shape == height_width
    assert found.values.dtype == found.log_error.dtype == np.float32
    assert (found.values > 0).all() and (found.log_error > 0).all()
    assert found.focal_px is not None and 0.5 < found.focal_px / max(height_width) < 1.5
    from_path = opened(tmp_path / "tiny.safetensors")
    assert from_path.name == prior.name and "(" in prior.name
    np.testing.assert_array_equal(from_path(rgb, 0).values, found.values)


def test_builtin_brighter_frame_gives_other_depth(tmp_path: Path) -> None:
    save_model(new_monocular(SMALL, 0), tmp_path / "a.safetensors")
    prior = opened(tmp_path / "a.safetensors")
    assert np.abs(prior(RGB[0], 0).values - prior(RGB[0] // 4, 0).values).max() > 0


@pytest.mark.parametrize("array", ["depth", "depth_map", "inverse_depth", "disparity"])
def test_npz_array_name_gives_kind_and_rows_in_order(tmp_path: Path, array: str) -> None:
    np.savez(tmp_path / "a.npz", allow_pickle=False, **{array: DEPTH.astype(np.float16)})
    prior = opened(tmp_path / "a.npz")
    for index in (2, 0):
        found = prior(RGB[index], index)
        assert found.kind == ("depth" if array.startswith("depth") else "inverse_depth")
        np.testing.assert_allclose(found.values, DEPTH[index], rtol=1e-3)
        assert (found.log_error > 0).all() and found.focal_px is None


def test_npz_of_source_frames_at_another_size_gives_processed_frames_at_network_size(tmp_path: Path) -> None:
    small = DEPTH[:, ::2, ::2]
    np.savez(tmp_path / "a.npz", depth=small)
    source = open_video(RGB, start=1)
    prior = open_depth_prior(str(tmp_path / "a.npz"), source)
    assert prior is not None
    np.testing.assert_array_equal(prior(RGB[1], 0).values, small[1].repeat(2, axis=0).repeat(2, axis=1))


def test_npz_of_a_cropped_source_gives_the_part_that_the_network_sees(tmp_path: Path) -> None:
    whole = np.random.default_rng(2).uniform(1, 2, (3, 160, 256)).astype(np.float32)
    np.savez(tmp_path / "a.npz", depth=whole)
    prior = opened(tmp_path / "a.npz", source_size=SourceSize(160, 256, PixelMap((1.0, 1.0), (0.0, -8.0))))
    np.testing.assert_array_equal(prior(RGB[0], 0).values, whole[0, 8:152])


def test_folder_of_a_file_per_frame_gives_depth_and_its_digest(tmp_path: Path) -> None:
    for index, frame in enumerate(DEPTH):
        np.save(tmp_path / f"{index:04d}.npy", np.where(frame > 1.5, frame, np.nan if index else -1))
    prior = opened(tmp_path)
    found = prior(RGB[1], 1)
    np.testing.assert_array_equal(found.values, np.where(DEPTH[1] > 1.5, DEPTH[1], 0))
    np.testing.assert_array_equal(prior(RGB[0], 0).values > 0, DEPTH[0] > 1.5)
    np.save(tmp_path / "0002.npy", DEPTH[0])
    assert opened(tmp_path).name != prior.name


@pytest.mark.parametrize(
    ("depth", "message"),
    [
        (np.ones((2, 144, 256)), "of 2 frames, but the video goes to frame 2"),
        (np.ones((3, 256, 144)), "another aspect ratio"),
        (np.ones((3, 4, 144, 256)), r"must be \[frames, height, width\]"),
        (np.full((3, 144, 256), "x"), "must be numbers"),
    ],
)
def test_npz_of_another_video_raises(tmp_path: Path, depth: np.ndarray, message: str) -> None:
    np.savez(tmp_path / "a.npz", depth=depth)
    with pytest.raises(UserError, match=message) as caught:
        opened(tmp_path / "a.npz")(RGB[0], 0)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("magic", "unknown depth prior 'magic'; choose one of: builtin, none"),
        ("", "unknown depth prior ''"),
        ("absent.npz", "absent.npz does not exist"),
        ("moge:absent.pt", "absent.pt does not exist"),
        ("moge:", "its path does not exist"),
        ("transformers:absent", "absent does not exist"),
        ("transformers-inverse:tests", "no config.json"),
        ("tests", "holds no file of depth"),
        ("pyproject.toml", "not a file of depth"),
    ],
)
def test_unknown_source_raises_with_what_there_is(source: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        open_depth_prior(source, VIDEO)
    assert "\n" not in str(caught.value)


def test_hub_id_fetches_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.json").write_text("{}")
    asked = []

    def snapshot_download(repository: str, allow_patterns: list[str]) -> str:
        asked.append((repository, allow_patterns))
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    names = [opened(source).name for source in ("org/name", "transformers-inverse:org/name")]
    assert asked == [("org/name", ["*.json", "*.safetensors"])] * 2
    assert "inverse" in names[1] and names[0] != names[1]
