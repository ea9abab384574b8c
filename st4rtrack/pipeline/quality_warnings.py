"""Warnings of the quality report: a code, the observation, and a fix. docs/quality.md lists them."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from st4rtrack.types import QualityWarning

MAX_RANGES = 6
"""Maximum number of frame ranges named in a sentence."""


class WarningKind(NamedTuple):
    """Template of the sentence, filled with `frames` and facts; and whether the warning makes a scene unreliable."""

    sentence: str
    serious: bool


WARNINGS = {
    "cut": WarningKind("the video has a hard cut at {frames}; run each shot on its own: {shots}", True),
    "zoom": WarningKind(
        "the focal length changes (zoom) and could not be estimated for each frame; leave that part out with --start and --stop, "
        "or provide --cameras with a focal length for each frame",
        True,
    ),
    "zoom_estimated": WarningKind(
        "the focal length changes (zoom) to {wide:.2f} to {tele:.2f} times the first one, estimated for each frame; "
        "if it does not, use --zoom none",
        False,
    ),
    "rotation_only": WarningKind(
        "the camera only rotates, so depth comes from a prior and not from parallax; move sideways while filming, or provide --depth",
        False,
    ),
    "fixed_camera": WarningKind(
        "the camera does not move, so depth comes from a prior and not from parallax; move sideways while filming, or provide --depth",
        False,
    ),
    "dark_frames": WarningKind(
        "{frames} are black or faded, and unsolved; leave them out with --start and --stop, or choose another --anchor", False
    ),
    "anchor_moved": WarningKind(
        "frame {asked} is black or blank and cannot be the anchor: frame {used} is used; choose another one with --anchor", False
    ),
    "low_light": WarningKind("the video is too dark to match image points; film with more light or a longer exposure", True),
    "low_texture": WarningKind(
        "the video shows too little texture to match image points; film with textured objects in view, or provide --cameras", True
    ),
    "bars": WarningKind("the image has bars ({bars}), which are ignored; crop them for full resolution", False),
    "overlay": WarningKind(
        "a logo or subtitles stay fixed in the image and are left out of pose estimation; a --static-mask is more exact",
        False,
    ),
    "focal_at_limit": WarningKind(
        "the focal length is at a limit of the search, so it is not known; provide it with --intrinsics", True
    ),
    "short_video": WarningKind(
        "the video is too short ({count} of {needed} frames) to estimate {unknown}: a prior is used; use more, or --intrinsics",
        False,
    ),
    "panorama": WarningKind(
        "the video shows the whole sphere (360 degrees), which no single camera sees; make a flat view of it first: "
        "ffmpeg -i VIDEO -vf v360=e:flat:yaw=0:pitch=0:h_fov=90:v_fov=59:w=1280:h=720 FLAT.mp4",
        True,
    ),
    "distortion": WarningKind(
        "the lens distorts the image (k1 about {k1:.3f} at a focal length of {focal_px:.0f} px); "
        "run again with --distortion={k1:.3f} --intrinsics={focal_px:.0f}, or with a calibration of the camera",
        False,
    ),
    "side_by_side": WarningKind(
        "the frames show two images side by side, or one above the other; crop the video to one of them", True
    ),
    "unsolved_frames": WarningKind(
        "no pose was estimated for {frames} ({percent:.0f} % of the video); nothing is visible there, and exports leave them out: "
        "choose another --anchor, or leave that part out with --start and --stop",
        True,
    ),
    "camera_jump": WarningKind(
        "the camera path jumps at {frames}, {ratio:.0f} times as far as around it; "
        "look at these frames, and run the parts on their own with --start and --stop",
        True,
    ),
    "inconsistent": WarningKind(
        "cameras and points contradict the motion in the video by {error_px:.0f} px; "
        "film slowly and in good light, provide --intrinsics, or run a part with --start and --stop",
        True,
    ),
}


def quality_warning(code: str, frames: Sequence[int] = (), *, serious: bool | None = None, **facts: Any) -> QualityWarning:
    """Create a warning from the table.

    Args:
        code: a key of `WARNINGS`.
        frames: indices of the affected frames among the processed ones; empty: the whole video.
        serious: default: as in the table.
        facts: further values of the sentence template.
    """
    kind = WARNINGS[code]
    frames = sorted({int(frame) for frame in frames})
    sentence = kind.sentence.format(frames=frame_ranges(frames), **facts)
    return QualityWarning(code, tuple(frames), sentence, kind.serious if serious is None else serious)


def cut_warning(first_frames: Sequence[int], frame_index: np.ndarray) -> QualityWarning:
    """Warning about hard cuts, with the options to run each shot separately.

    Args:
        first_frames: indices among the processed frames of the first frame of each shot but the first.
        frame_index: [time] index of each processed frame in the source (`Video.frame_index`).
    """
    starts = [0, *sorted(first_frames)]
    stops = [int(frame_index[start]) for start in starts[1:]] + [int(frame_index[-1]) + 1]
    ends = [*starts[1:], len(frame_index)]  # a single frame is no shot
    shots = [
        f"--start {int(frame_index[start])} --stop {stop}"
        for start, end, stop in zip(starts, ends, stops, strict=True)
        if end - start > 1
    ]
    shown = shots if len(shots) <= MAX_RANGES else [*shots[: MAX_RANGES - 1], f"{len(shots) - MAX_RANGES + 1} more"]
    return quality_warning("cut", first_frames, shots="; ".join(shown))


def frame_ranges(frames: Sequence[int]) -> str:
    """Increasing frame indices as text: "frame 3", "frames 3-7, 12", "some frames" for none."""
    if not frames:
        return "some frames"
    groups = np.split(np.asarray(frames), np.flatnonzero(np.diff(frames) > 1) + 1)
    ranges = [str(group[0]) if len(group) == 1 else f"{group[0]}-{group[-1]}" for group in groups]
    if len(ranges) > MAX_RANGES:
        ranges = [*ranges[:MAX_RANGES], f"and {sum(map(len, groups[MAX_RANGES:]))} more"]
    return ("frame " if len(frames) == 1 else "frames ") + ", ".join(ranges)
