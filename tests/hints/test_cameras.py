"""Cameras of the global solver as something that is known of a video, in network pixels."""

from dataclasses import replace

import numpy as np
import pytest

from st4rtrack.classical.solver.cameras import SolvedCameras
from st4rtrack.classical.solver.evidence import Evidence
from st4rtrack.geometry.transforms import rigid
from st4rtrack.hints import cameras as module
from st4rtrack.hints.cameras import HintInputs, solved_cameras
from st4rtrack.io.video import open_video
from st4rtrack.types import KnownVideo

SOURCE, NETWORK, SCALE = (80, 120), (36, 60), (0.5, 0.45)


def solution(distrust: str = "") -> SolvedCameras:
    world_from_camera = np.stack([np.eye(4), rigid(np.eye(3), np.array([1.0, 0.0, 0.0]))])
    one = np.zeros(1, np.int64)
    middle = np.array([[SOURCE[1] / 2 + 10, SOURCE[0] / 2 + 20]])
    return SolvedCameras(world_from_camera, 100.0, np.array([[0.0, 0.0, 4.0]]), one, one, middle, Evidence(), distrust=distrust)


def solved(monkeypatch: pytest.MonkeyPatch, found: SolvedCameras, known: KnownVideo) -> tuple[KnownVideo | None, dict]:
    asked: dict = {}
    monkeypatch.setattr(module, "solve_video", lambda video, **options: asked.update(options) or found)
    return solved_cameras(inputs(known)), asked


def inputs(known: KnownVideo) -> HintInputs:
    video, content = (open_video(np.zeros((2, *size, 3), np.uint8)) for size in (NETWORK, SOURCE))
    return HintInputs(video, 1, known, content, SCALE)


def test_solved_cameras_trusted_solution_is_given_in_network_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    given, asked = solved(monkeypatch, solution(), KnownVideo())
    assert given is not None and given.world_from_camera is not None and given.points is not None
    assert asked["anchor_index"] == 1 and asked["focal_px"] is None
    assert given.focal_px == pytest.approx(50.0) and given.focal_source == "video"
    np.testing.assert_allclose(given.points(0), [[NETWORK[1] / 2 + 5, NETWORK[0] / 2 + 9, 4.0]])
    assert len(given.points(1)) == 0


def test_solved_cameras_keep_a_known_focal_length_and_its_source(monkeypatch: pytest.MonkeyPatch) -> None:
    given, asked = solved(monkeypatch, solution(), KnownVideo(focal_px=50.0, focal_source="metadata"))
    assert asked["focal_px"] == pytest.approx(100.0)
    assert given is not None and given.focal_source == "metadata"


def test_solved_cameras_that_are_not_trusted_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    assert solved(monkeypatch, solution("too few static points"), KnownVideo())[0] is None
    monkeypatch.setattr(module, "solve_video", lambda video, **options: solution())
    assert solved_cameras(inputs(KnownVideo()), 3.0) is None  # the solution has no parallax


def test_solved_cameras_with_a_focal_length_weighed_against_the_prior_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    given, _ = solved(monkeypatch, replace(solution(), focal_by_prior=True), KnownVideo())
    assert given is not None and given.focal_source == "prior"
