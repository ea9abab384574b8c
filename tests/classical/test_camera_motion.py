"""Kinds of camera motion from dense matches of generated videos."""

import cv2
import numpy as np
import pytest

from st4rtrack.classical.anchor import Matches
from st4rtrack.classical.camera_motion import CameraMotion, MotionKind, camera_motion
from st4rtrack.classical.flow import dense_flow, returns
from st4rtrack.geometry.camera import pixel_grid
from tests.classical.scenes import Room

ROOM_SIZE = (144, 192)
ROOM = Room(3, height=ROOM_SIZE[0], width=ROOM_SIZE[1])


def motion_of(num_frames: int = 12, room: Room = ROOM, static: np.ndarray | None = None, **motion: object) -> CameraMotion:
    greys = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in room.video(num_frames, **motion)]
    forward = [dense_flow(greys[0], grey) for grey in greys[1:]]
    valid = [returns(flow, dense_flow(grey, greys[0])) for flow, grey in zip(forward, greys[1:], strict=True)]
    size = greys[0].shape
    grid = pixel_grid(*size)
    pixels = np.stack([(grid + flow).reshape(-1, 2) for flow in forward])
    matches = Matches(grid.reshape(-1, 2), pixels, np.stack(valid).reshape(len(valid), -1), (size[0], size[1]))
    if static is not None:
        matches.valid[:] &= static.ravel()
    return camera_motion(matches, static=static)


@pytest.mark.parametrize("balls", [0, 6])
def test_camera_motion_fixed_camera_despite_dynamic_objects(balls: int) -> None:
    found = motion_of(6, Room(3, num_balls=balls))
    assert (found.kind, found.parallax) == ("fixed", "none")


@pytest.mark.parametrize("num_frames", [3, 4, 5])
def test_camera_motion_last_of_few_frames_moves_is_not_fixed(num_frames: int) -> None:
    assert motion_of(num_frames, x=lambda s: 0.25 * (s == 1), time=0).kind != "fixed"


def test_camera_motion_pan_is_rotation() -> None:
    found = motion_of(yaw_deg=15, pitch_deg=3)
    assert (found.kind, found.parallax) == ("rotation", "rotation")


@pytest.mark.parametrize(
    ("kind", "error", "asks"), [("rotation", 0.1, False), ("rotation", 0.5, True), ("general", 9, True), ("zoom", 9, False)]
)
def test_camera_motion_small_translation_may_hide_in_a_rotation_that_fits_badly(
    kind: MotionKind, error: float, asks: bool
) -> None:
    assert CameraMotion(kind, "weak", rotation_error=error).may_translate == asks


@pytest.mark.parametrize("zoom", [1.35, 0.75])
def test_camera_motion_zoom_has_no_parallax(zoom: float) -> None:
    found = motion_of(zoom=zoom)
    assert (found.kind, found.parallax) == ("zoom", "none")


def test_camera_motion_dolly_zoom_found() -> None:
    assert motion_of(z=1.2, zoom=0.7).kind == "dolly_zoom"


@pytest.mark.parametrize("z", [1.2, -1.2])
def test_camera_motion_along_the_axis_is_forward(z: float) -> None:
    found = motion_of(z=z)
    assert (found.kind, found.parallax) == ("forward", "good")


def test_camera_motion_sideways_has_good_parallax() -> None:
    found = motion_of(x=0.9, yaw_deg=-4)
    assert (found.kind, found.parallax) == ("general", "good")


def test_camera_motion_static_mask_of_a_quarter_of_the_image_leaves_the_kind() -> None:
    static = pixel_grid(*ROOM_SIZE)[..., 0] < ROOM_SIZE[1] / 4
    assert motion_of(x=0.9, yaw_deg=-4, static=static).kind == "general"
    assert motion_of(x=0.9, yaw_deg=-4, static=np.zeros(ROOM_SIZE, bool)).kind == "unknown"


def test_camera_motion_without_matches_is_unknown() -> None:
    found = camera_motion(Matches(np.ones((10, 2)), np.ones((3, 10, 2)), np.zeros((3, 10), bool), (120, 160)))
    assert (found.kind, found.parallax) == ("unknown", "none")
