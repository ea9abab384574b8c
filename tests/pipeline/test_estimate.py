"""What a run says of itself before it starts, and that it looks for room first."""

import re
import shutil
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest

from st4rtrack.io.scene import SceneWriter
from st4rtrack.io.scene.folder import scene_bytes
from st4rtrack.io.scene.table import SceneHeader
from st4rtrack.io.video import open_video
from st4rtrack.model.checkpoint import load_model
from st4rtrack.options import ReconstructOptions
from st4rtrack.pipeline.estimate import estimate_run
from st4rtrack.pipeline.preparation import watched
from st4rtrack.types import UserError

Usage = namedtuple("Usage", "total used free")


def test_estimate_run_of_a_long_video_names_frames_time_size_and_options() -> None:
    video = open_video(np.broadcast_to(np.zeros((1, 1, 1, 3), np.uint8), (3600, 192, 108, 3)), fps=60)
    model = load_model(device="cpu")
    estimate = estimate_run(video, model, ReconstructOptions())
    assert re.fullmatch(r"3600 frames, about \d+ min, \d+\.\d GB; less with --fps 10 --stop 10s", str(estimate))
    assert 3 < estimate.num_bytes / 1e9 < 7 and 2 < estimate.seconds / 60 < 60
    short = estimate_run(open_video(video, fps=10, stop="10s"), model, ReconstructOptions())
    assert short.frames == 100 and short.num_bytes == pytest.approx(estimate.num_bytes / 36, rel=0.03)


def test_estimate_run_counts_exports_and_short_runs_in_seconds() -> None:
    video = open_video(np.broadcast_to(np.zeros((1, 1, 1, 3), np.uint8), (36, 288, 512, 3)), fps=12)
    model = load_model(device="cpu")
    plain, exported = (estimate_run(video, model, ReconstructOptions(), exports) for exports in (0, 1))
    assert exported.num_bytes - plain.num_bytes == 36 * 144 * 256 * 15  # exactly the vertices of the PLY
    assert re.fullmatch(r"36 frames, about [234]0 s, 0\.0\d+ GB", str(plain))


def test_watched_reports_once_with_increasing_shares() -> None:
    video, shares = open_video(np.zeros((5, 16, 16, 3), np.uint8)), []
    read = watched(video, shares.append, 0.2, 0.6, 4)
    assert len(list(read.frames())) == len(list(read.frames())) == 5
    assert shares == pytest.approx([0.3, 0.4, 0.5, 0.6])
    assert watched(video, None, 0, 1, 5) is video


def test_scene_writer_without_room_keeps_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    header = SceneHeader(4, 16, 16)
    SceneWriter.create(tmp_path / "scene", header).close()
    before = sorted(path.name for path in (tmp_path / "scene").rglob("*"))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**12, 0, 10**6))
    large = SceneHeader(1000, 16, 16)
    assert scene_bytes(large) > 10**6
    with pytest.raises(UserError, match=r"needs about .* GB left"):
        SceneWriter.create(tmp_path / "scene", large, overwrite=True)
    assert sorted(path.name for path in (tmp_path / "scene").rglob("*")) == before
    with pytest.raises(UserError, match="GB left"):
        SceneWriter.create(tmp_path / "other" / "scene", large)
    assert not (tmp_path / "other").exists()
