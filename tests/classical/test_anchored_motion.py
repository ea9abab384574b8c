"""Geometry of a video by the kind of camera motion: estimated quantities and unsolved frames."""

from dataclasses import replace
from typing import Literal

import numpy as np
import pytest

from st4rtrack.classical import anchored
from st4rtrack.classical.anchored import AnchoredGeometry
from st4rtrack.classical.camera_motion import CameraMotion
from st4rtrack.geometry.transforms import rotation_angle
from st4rtrack.types import KnownVideo
from tests.cases import clips
from tests.cases.clips import Look
from tests.cases.world import Clip

LOOK = Look(seed=3, width=128, height=96, frames=12)
FINE = replace(LOOK, width=192, height=144)


def follow(geometry: AnchoredGeometry, rgb: np.ndarray) -> tuple[np.ndarray, list[bool]]:
    """Cameras [time, 4, 4] of the frames after the anchor, and which of them are solved."""
    cameras, solved = [], []
    for index, frame in enumerate(rgb, 1):
        cameras.append(geometry.next(frame, index).anchor_from_frame)
        solved.append(geometry.solved)
    return np.stack(cameras), solved


def with_prior(clip: Clip, **known: object) -> AnchoredGeometry:
    """Geometry of a clip with the true depth of the anchor as prior."""
    geometry = AnchoredGeometry.of(clip.rgb[0], clip.rgb[1:], known=KnownVideo(**{"focal_px": LOOK.focal_px, **known}))  # pyright: ignore[reportArgumentType]
    return geometry.with_prior(lambda _, index: clip.depth[index])


def followed(clip: Clip) -> tuple[AnchoredGeometry, np.ndarray, list[bool]]:
    geometry = AnchoredGeometry.of(clip.rgb[0], clip.rgb[1:])
    return geometry, *follow(geometry, clip.rgb[1:])


def angles_deg(cameras: np.ndarray, clip: Clip) -> np.ndarray:
    return np.rad2deg(
        rotation_angle(np.swapaxes(cameras[:, :3, :3], 1, 2) @ clip.world_from_camera[1 : 1 + len(cameras), :3, :3])
    )


def test_pan_has_rotations_without_translation_and_the_focal_length_of_the_video() -> None:
    clip = clips.rotation(FINE, 30, 4)
    geometry, cameras, solved = followed(clip)
    assert geometry.kind == "rotation" and geometry.anchor_depth is None and geometry.focal_source == "video"
    assert geometry.focal_px == pytest.approx(clip.intrinsics[0, 0, 0], rel=0.05)
    assert not cameras[:, :3, 3].any()
    assert all(solved)
    assert angles_deg(cameras, clip).max() < 1.0


def test_pan_beyond_the_image_gets_a_new_reference_with_the_mask_of_its_frame() -> None:
    clip = clips.rotation(replace(LOOK, frames=16), 75)
    asked: list[int] = []

    def static(index: int) -> np.ndarray:
        asked.append(index)
        return np.ones((LOOK.height, LOOK.width), bool)

    geometry = AnchoredGeometry.of(clip.rgb[0], clip.rgb[1:], known=KnownVideo(focal_px=LOOK.focal_px, static=static))
    assert geometry.kind == "rotation"
    cameras = [geometry.next(frame, index).anchor_from_frame for index, frame in enumerate(clip.rgb[1:], 1)]
    assert geometry.solved and max(asked) > 0
    assert angles_deg(np.stack(cameras), clip).max() < 3.0


@pytest.mark.parametrize(("error", "kind"), [(0.5, "general"), (0.1, "rotation")])
def test_doubtful_rotation_is_general_motion_where_the_solver_finds_cameras(
    monkeypatch: pytest.MonkeyPatch, error: float, kind: str
) -> None:
    clip = clips.moving(replace(LOOK, frames=4), "arc")
    given = KnownVideo(focal_px=LOOK.focal_px, world_from_camera=clip.world_from_camera)
    found = CameraMotion("rotation", "rotation", rotation_error=error)
    monkeypatch.setattr(anchored, "camera_motion", lambda *_: found)
    assert AnchoredGeometry.of(clip.rgb[0], clip.rgb[1:], order=[1, 2, 3], solve=lambda parallax: given).kind == kind
    assert AnchoredGeometry.of(clip.rgb[0], clip.rgb[1:], order=[1, 2, 3], solve=lambda parallax: None).kind == "rotation"


def test_fixed_camera_is_the_identity_and_unsolved_once_it_starts_to_move() -> None:
    still = clips.tripod(replace(LOOK, frames=8))
    moving = clips.moving(replace(LOOK, frames=5, speed=3.0))
    geometry, cameras, solved = followed(still)
    assert geometry.kind == "fixed" and all(solved)
    assert geometry.focal_source == "prior"
    np.testing.assert_array_equal(cameras, np.tile(np.eye(4), (7, 1, 1)))
    cameras, solved = follow(geometry, moving.rgb)
    assert solved == [True, False, False, False, False]
    np.testing.assert_array_equal(cameras, np.tile(np.eye(4), (5, 1, 1)))


@pytest.mark.parametrize("make", [clips.zoom, lambda look: clips.zoom(look, 0.6)])
def test_zoom_is_unsolved(make: object) -> None:
    geometry, _, solved = followed(make(LOOK))  # pyright: ignore[reportCallIssue]
    assert geometry.kind == "zoom"
    assert not any(solved)


@pytest.mark.parametrize("path", ["slide", "handheld", "arc", "rise"])
def test_first_step_of_a_moving_camera_fits_the_truth(path: str) -> None:
    clip = clips.moving(LOOK, path)
    geometry = with_prior(clip)
    cameras, solved = follow(geometry, clip.rgb[1:])
    assert geometry.kind == "general" and all(solved)
    assert angles_deg(cameras, clip)[0] < 0.3


def test_skipped_frame_is_unsolved_and_the_frame_after_it_is_matched_with_the_frame_before_it() -> None:
    clip = clips.moving(LOOK)
    geometry = with_prior(clip)
    before, _ = follow(geometry, clip.rgb[1:4])
    skipped = geometry.skip()
    assert not geometry.solved
    np.testing.assert_array_equal(skipped.anchor_from_frame, before[-1])
    after, solved = follow(geometry, clip.rgb[5:8])
    assert all(solved)
    assert np.rad2deg(rotation_angle(after[:, :3, :3].swapaxes(1, 2) @ clip.world_from_camera[5:8, :3, :3])).max() < 0.7


def test_static_mask_keeps_a_moving_body_out_of_depth_and_poses() -> None:
    """A textured half of the image moves rigidly by itself: without the mask it competes with the scene."""
    clip = clips.moving(LOOK)
    other = clips.moving(replace(LOOK, seed=11, direction=-1, speed=1.5))
    static = np.ones((LOOK.height, LOOK.width), bool)
    static[:, LOOK.width * 2 // 5 :] = False
    rgb = np.where(static[..., None], clip.rgb, other.rgb)
    both = replace(clip, rgb=rgb)
    geometry = with_prior(both, static=lambda _: static)
    masked, solved = follow(geometry, rgb[1:])
    assert all(solved)
    misled, _ = follow(with_prior(both), rgb[1:])
    assert np.median(angles_deg(masked, clip)) < 1 < np.median(angles_deg(misled, clip)) / 3
    known = KnownVideo(LOOK.focal_px, clip.world_from_camera, static=lambda _: static)
    geometry = AnchoredGeometry.of(rgb[0], rgb[1:], known=known, order=range(1, LOOK.frames))
    assert geometry.anchor_depth is not None and geometry.anchor_depth.static is static


@pytest.mark.parametrize("source", ["metadata", "user"])
def test_known_focal_length_is_used_with_its_source(source: Literal["metadata", "user"]) -> None:
    clip = clips.moving(LOOK)
    geometry = AnchoredGeometry.of(clip.rgb[0], clip.rgb[1:], known=KnownVideo(focal_px=111.0, focal_source=source))
    assert geometry.focal_px == 111.0
    assert geometry.focal_source == source
