"""Classical geometry of a video relative to its anchor, frame by frame, in constant memory.

The frames next to the anchor determine the kind of camera motion (`camera_motion.py`). With parallax, a survey of them gives the
focal length and the static depth of the anchor (`survey.py`), and every frame is registered by PnP against the reference,
initially the anchor. A rotating camera has rotations and no depth (`rotation.py`); a fixed camera is the identity. When too
little of the reference is visible, the current frame becomes the reference. The flow from the anchor is chained along.

    geometry = AnchoredGeometry.of(anchor_rgb, frames_after_it)
    for rgb in frames_after_it: two_view = geometry.next(rgb)

Two chains of flow are used, since neither suits all points: static points are matched with the reference directly, which removes
drift; dynamic points are tracked in enlarged images from frame to frame, since direct flow would match their background.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

import cv2
import numpy as np

from st4rtrack.classical.anchor_matches import (
    SURVEY_FRAMES,
    WITHOUT_DEPTH,
    bidirectional_flow,
    dense_matches,
    matched_frames,
    survey_by_motion,
    survey_matches,
)
from st4rtrack.classical.camera_motion import CameraMotion, MotionKind, camera_motion
from st4rtrack.classical.flow import FlowChain
from st4rtrack.classical.known_survey import Units, survey_known, survey_solved
from st4rtrack.classical.reference import MIN_POSE_INLIERS, Reference
from st4rtrack.classical.rotation import RotationFocal, camera_rotation
from st4rtrack.classical.survey import PRIOR_FOCAL, Survey, survey
from st4rtrack.classical.two_view import TwoView, two_view_from_flow
from st4rtrack.classical.zoom import at_one_focal
from st4rtrack.geometry.camera import pixel_grid
from st4rtrack.geometry.transforms import invert_rigid, rigid, rotation_angle
from st4rtrack.geometry.vectors import length
from st4rtrack.timing import timed
from st4rtrack.types import FocalSource, KnownVideo

LOOK_BACK = 24
MIN_SEEN_SHARE = 0.3
"""Visible share of its known pixels below which the current frame replaces the reference."""
MIN_STAY = 6
MIN_ROTATION_SHARE = 0.1
"""Share of the image that must be matched to estimate a rotation."""
MIN_ROTATION_PARALLAX_DEG = 3.0
"""Minimum parallax of a solution when the motion looks like a rotation: pans of rendered rooms have 0.7 at most, a real one 2.4,
slow arcs 3.6 and more."""
MIN_STILL_SHARE, STILL_PX = 0.15, 1.0
"""Share of the matched pixels that must not move by more than this; otherwise a fixed camera has started to move."""
MIN_TURN = np.deg2rad(1.0)
"""Rotation of a zooming camera from which it is not fixed."""
ZOOM_EVERY = 3
"""Number of frames between zoom tests."""
MIN_ZOOM_VOTES = 2
MIN_SURVEY_FRAMES = 8
"""With fewer frames each pair has its own two-view geometry; poses of one common scale need a survey of this many frames."""
MOTION_ENLARGE = 2


StepFlow = Callable[[int, int], tuple[np.ndarray, np.ndarray]]
"""Flow [height, width, 2] from a frame to a later or earlier one and back."""
SolveCameras = Callable[[float], KnownVideo | None]
"""Known geometry with the cameras of a solver; `None` if they are unreliable or have less than the given parallax (degrees)."""


class AnchoredGeometry:
    """Frame-by-frame geometry of a video, starting at the anchor.

    Attributes:
        motion: camera motion in the frames next to the anchor; `None` if cameras or depth are known.
        surveyed: focal length and depth of the anchor; `None` without parallax.
        solved: the pose of the current frame was estimated; otherwise the pose of the previous frame is reused.
        zooming: indices of frames whose focal length differs from the anchor's.
        zoom_survey: survey used to detect zooms.
    """

    def __init__(
        self,
        anchor_rgb: np.ndarray,
        surveyed: Survey | None,
        *,
        motion: CameraMotion | None = None,
        num_frames: int = 0,
        focal: RotationFocal | None = None,
        known: KnownVideo | None = None,
        units: Units | None = None,
        anchor_index: int = 0,
        step_flow: StepFlow | None = None,
    ) -> None:
        self._step_flow, self._last_index = step_flow, anchor_index
        self.surveyed, self.units, self.motion, self._num_frames = surveyed, units or Units(), motion, num_frames
        self._known, self._anchor_index, self._rotation_focal = known or KnownVideo(), anchor_index, focal
        self._anchor_rgb = anchor_rgb
        self._grey = cv2.cvtColor(anchor_rgb, cv2.COLOR_RGB2GRAY)
        height, width = self._grey.shape
        self._motion = FlowChain(height, width)
        depth = np.zeros((height, width), np.float32) if surveyed is None else surveyed.depth
        if surveyed is not None and surveyed.still is not None:
            depth = np.where(surveyed.still, depth, np.float32(0))
        self._reference = Reference(
            self._grey, depth, np.eye(4), FlowChain(height, width), self._static(anchor_index), is_anchor=True
        )
        self._anchor_from_last = np.eye(4)
        self._past: deque[tuple[np.ndarray, np.ndarray]] = deque([(self._grey, np.eye(4))], maxlen=LOOK_BACK)
        self.solved = True
        self.zooming: list[int] = []
        self.zoom_survey = surveyed if surveyed is not None and surveyed.measured else None

    @classmethod
    @timed("geometry")
    def of(
        cls,
        anchor_rgb: np.ndarray,
        after: Iterable[np.ndarray],
        *,
        known: KnownVideo | None = None,
        anchor_index: int = 0,
        order: Sequence[int] = (),
        solve: SolveCameras | None = None,
    ) -> "AnchoredGeometry":
        """Survey an anchor [height, width, 3] uint8 with the frames next to it (the first `SURVEY_FRAMES` are read).

        Args:
            known: known geometry of the video; then also the indices of the anchor and of the frames (`order`) in it.
            solve: solver for the cameras of a translating camera, if the user provides none.
        """
        frames = list(islice(after, SURVEY_FRAMES))
        known = user = known or KnownVideo()
        static = None if known.static is None else known.static(anchor_index)
        matches = survey_matches(anchor_rgb, frames, static)
        motion = None
        if matches is not None and known.world_from_camera is None and known.depth is None:
            motion = camera_motion(matches, known.focal_px, static)
            min_parallax_deg = MIN_ROTATION_PARALLAX_DEG if motion.kind == "rotation" else 0.0
            asks = motion.may_translate or motion.kind == "dolly_zoom"
            solved = solve(min_parallax_deg) if solve is not None and asks else None
            if solved is not None and (motion.may_translate or solved.focals_px is not None):
                known, misjudged = solved, motion.kind in ("rotation", "dolly_zoom")
                motion = replace(motion, kind="general", parallax="weak") if misjudged else motion
        if matches is not None and motion is not None and known.world_from_camera is None:
            surveyed, focal = survey_by_motion(matches, motion.kind, known.focal_px, static)
            geometry = cls(
                anchor_rgb,
                # without a reliable solution the survey is worse than a depth prior, but can detect a zoom
                surveyed if solve is None else None,
                motion=motion,
                num_frames=len(frames),
                focal=focal,
                known=user,
                anchor_index=anchor_index,
            )
            geometry.zoom_survey = surveyed
            return geometry
        matched = [order[k] for k in matched_frames(len(frames))] if order else []
        if matches is not None and known.focals_px is not None:
            matches = at_one_focal(matches, known.focals_px[matched] / known.focals_px[anchor_index])
        cameras = [known.anchor_from_camera(anchor_index, index) for index in matched]
        inverse = [None if each is None else invert_rigid(each) for each in cameras]
        if matches is not None and motion is not None:
            surveyed, units = survey_solved(known, matches, inverse)
        else:
            surveyed, units = survey_known(known, known.depth_of(anchor_index), matches, inverse)
        if surveyed is not None and static is not None:
            surveyed = replace(surveyed, still=static)
        return cls(
            anchor_rgb, surveyed, motion=motion, num_frames=len(frames), known=known, units=units, anchor_index=anchor_index
        )

    def along(self, step_flow: StepFlow | None = None) -> "AnchoredGeometry":
        """Copy with the same survey in its initial state, to process the video in one direction.

        Args:
            step_flow: provides the flow between frames; its caller also measures the depth of frames with known cameras.
        """
        return self._again(step_flow=step_flow)

    def with_prior_depth(self, depth: np.ndarray) -> "AnchoredGeometry":
        """Copy that estimates poses from a prior depth [height, width] of the anchor, up to scale, if none is measured."""
        if self.surveyed is not None or self.kind in WITHOUT_DEPTH:
            return self
        survey_of_prior = Survey(self.focal_px, (depth / np.median(depth)).astype(np.float32), measured=False)
        source = self._known.focal_source if self._known.focal_px else "prior"
        known = replace(self._known, focal_px=self.focal_px, focal_source=source)
        return self._again(surveyed=survey_of_prior, focal=None, known=known)

    def _again(self, **changes: Any) -> "AnchoredGeometry":
        """Copy in the initial state, with changed arguments."""
        same = {"surveyed": self.surveyed, "motion": self.motion, "num_frames": self._num_frames, "focal": self._rotation_focal}
        same |= {"known": self._known, "units": self.units, "anchor_index": self._anchor_index}
        geometry = AnchoredGeometry(self._anchor_rgb, **(same | changes))
        geometry.zoom_survey = self.zoom_survey
        return geometry

    def with_turning_camera(self, known: KnownVideo) -> "AnchoredGeometry":
        """Copy with the cameras and focal lengths of a zooming camera without translation; other frames stay unsolved."""
        assert self.motion is not None and known.world_from_camera is not None
        turn = float(np.nanmax(rotation_angle(known.world_from_camera[:, :3, :3])))
        motion = replace(self.motion, kind="zoom", parallax="rotation" if turn > MIN_TURN else "none")
        return self._again(known=known, motion=motion, surveyed=None, focal=None, units=Units(cameras=1.0))

    @property
    def measures_depth(self) -> bool:
        """Whether depth is triangulated or known."""
        return self.surveyed is not None and self.surveyed.measured

    @property
    def cameras(self) -> np.ndarray | None:
        """`anchor_from_camera` [T, 4, 4] in survey units, NaN where unknown; `None` if poses are estimated frame by frame."""
        if self._known.world_from_camera is None or self.units.cameras is None:
            return None
        world = self._known.world_from_camera
        cameras = invert_rigid(world[self._anchor_index]) @ world
        cameras[:, :3, 3] /= self.units.cameras
        return cameras

    def points_of(self, index: int) -> np.ndarray:
        """[n, 3] static points visible in a frame: network pixels (u, v) and z-depth in survey units."""
        if self._known.points is None or self.units.cameras is None:
            return np.zeros((0, 3))
        return self._known.points(index) / (1, 1, self.units.cameras)

    @property
    def depth_is_known(self) -> bool:
        """Whether the user provides depth."""
        return self._known.depth is not None

    @property
    def kind(self) -> MotionKind:
        """Kind of camera motion."""
        return "general" if self.motion is None else self.motion.kind

    @property
    def focal_px(self) -> float:
        """Focal length in network pixels."""
        if self._known.focal_px:
            return self._known.focal_px
        if self.surveyed is not None:
            return self.surveyed.focal_px
        return self._rotation_focal.focal_px if self._rotation_focal else PRIOR_FOCAL * max(self._grey.shape)

    @property
    def focals_px(self) -> np.ndarray | None:
        """[T] focal length of each frame in network pixels; `None` if it is constant."""
        return self._known.focals_px

    @property
    def radial(self) -> tuple[float, float] | None:
        """Estimated radial distortion of the images: k1, and its focal length in source pixels."""
        return self._known.radial

    @property
    def focal_source(self) -> FocalSource:
        """Source of the focal length."""
        if self._known.focal_px:
            return self._known.focal_source
        if self.surveyed is not None and self.kind != "forward":
            return "video"
        return "video" if self._rotation_focal is not None and self._rotation_focal.decided else "prior"

    @property
    def anchor_view(self) -> TwoView:
        """Two-view geometry of the anchor with itself."""
        zero = np.zeros((*self._grey.shape, 2), np.float32)
        return self._view(zero, zero, self._unknown_depth if self.surveyed is None else self.surveyed.depth, np.eye(4))

    def skip(self) -> TwoView:
        """Two-view geometry of an unusable frame (black, or after a cut): unsolved, with the flow of the previous frame."""
        self.solved = False
        return self._view(self._motion.forward, self._motion.backward, self._unknown_depth, self._anchor_from_last)

    @timed("geometry")
    def next(self, rgb: np.ndarray, index: int | None = None) -> TwoView:
        """Two-view geometry of the anchor and the next frame [height, width, 3] uint8; `index`: needed with known geometry."""
        grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
        reference, last = self._reference, self._grey
        if self._step_flow is None or index is None or abs(index - self._last_index) > 1:  # after a skipped frame
            forward, backward = bidirectional_flow(last, grey, enlarge=MOTION_ENLARGE)
        else:
            forward, backward = self._step_flow(self._last_index, index)
        self._last_index = self._last_index if index is None else index
        self._motion.extend(forward, backward)
        reference.chain.extend(forward, backward)
        reference.age += 1
        self._grey = grey
        camera = self._known_camera(index)
        if self._step_flow is not None and camera is not None and self._known.depth is None:
            self.solved, self._anchor_from_last = True, camera
            return self._view(self._motion.forward, self._motion.backward, self._unknown_depth, camera)
        reference.chain.correct(*bidirectional_flow(reference.grey, grey, reference.chain.forward, reference.chain.backward))
        if self.kind in WITHOUT_DEPTH:
            self._rotate(grey, index)
            return self._view(self._motion.forward, self._motion.backward, self._unknown_depth, self._anchor_from_last)
        if self.surveyed is None:
            self.solved = self._num_frames < MIN_SURVEY_FRAMES
            seen = two_view_from_flow(reference.chain.forward, reference.chain.backward, self.focal_px)
            return replace(seen, forward_flow=self._motion.forward, backward_flow=self._motion.backward)
        frame_depth = self._locate(grey, index)
        return self._view(self._motion.forward, self._motion.backward, frame_depth, self._anchor_from_last)

    @property
    def _unknown_depth(self) -> np.ndarray:
        return np.zeros(self._grey.shape, np.float32)

    def _rotate(self, grey: np.ndarray, index: int | None) -> None:
        """Estimate the rotation of the current camera against the reference; a fixed camera stays, a zooming one is unsolved."""
        if self.kind != "rotation":
            self.solved = self.kind == "fixed" and self._is_still()
            return
        reference = self._reference
        visible = reference.visible()
        rotation, agreeing = (
            camera_rotation(pixel_grid(*reference.size)[visible], reference.pixels[visible], self.focal_px, grey.shape)
            if visible.mean() > MIN_ROTATION_SHARE
            else (np.eye(3), 0.0)
        )
        self.solved = agreeing > MIN_POSE_INLIERS
        if self.solved:
            self._anchor_from_last = reference.anchor_from_reference @ rigid(rotation.T, np.zeros(3))
        if self.solved and visible.mean() < MIN_SEEN_SHARE and reference.age >= MIN_STAY:
            chain = FlowChain(*grey.shape)
            self._reference = Reference(grey, reference.depth, self._anchor_from_last, chain, self._static(index))

    def _static(self, index: int | None) -> np.ndarray | None:
        """[height, width] bool, static pixels of a frame; `None` if the user provides none."""
        return None if self._known.static is None or index is None else self._known.static(index)

    def _is_still(self) -> bool:
        """Whether enough of the image has not moved since the anchor."""
        matched = self._reference.visible()
        still = length(self._reference.chain.forward) < STILL_PX
        return bool((still & matched).sum() >= MIN_STILL_SHARE * max(matched.sum(), 1))

    def _locate(self, grey: np.ndarray, index: int | None) -> np.ndarray:
        """Estimate the current pose; return the depth [height, width] of the current frame where known or warped."""
        assert self.surveyed is not None
        reference, focal_px = self._reference, self.surveyed.focal_px
        measured = reference.depth > 0
        seen = measured & reference.visible()
        camera = self._known_camera(index)
        registered = reference.registered(seen, focal_px) if camera is None else camera
        self.solved = registered is not None
        if registered is not None:
            self._anchor_from_last = registered
        asked = camera is None and self.kind == "general" and reference.age % ZOOM_EVERY == 0
        if asked and index is not None and self._zooms():
            self.zooming.append(index)
        depth = self._with_known(reference.carried(self._anchor_from_last, focal_px), index)
        self._past.append((grey, self._anchor_from_last))
        if seen.sum() < MIN_SEEN_SHARE * measured.sum() and reference.age >= MIN_STAY:
            self._change_reference(grey, depth, index)
        return depth

    def _zooms(self) -> bool:
        """Whether another focal length of the current frame fits the visible pixels of the reference better."""
        surveyed, reference = self.zoom_survey, self._reference
        if surveyed is None or not (self.measures_depth or reference.is_anchor):
            return False
        return reference.zooms(reference.depth if self.measures_depth else surveyed.depth, surveyed.focal_px)

    def _known_camera(self, index: int | None) -> np.ndarray | None:
        """Known `anchor_from_frame` [4, 4] in survey units, or `None`."""
        camera = None if index is None else self._known.anchor_from_camera(self._anchor_index, index)
        if camera is None or self.units.cameras is None:
            return None
        return rigid(camera[:3, :3], camera[:3, 3] / self.units.cameras)

    def _with_known(self, depth: np.ndarray, index: int | None) -> np.ndarray:
        """Depth [height, width] of a frame in survey units, replaced by the known depth where available."""
        known = None if index is None else self._known.depth_of(index)
        if known is None or self.units.depth is None:
            return depth
        return np.where(known > 0, known / np.float32(self.units.depth), depth).astype(np.float32)

    def _change_reference(self, grey: np.ndarray, depth: np.ndarray, index: int | None) -> None:
        """Make the current frame the reference, surveyed with the frames before it, in the scale of the old one."""
        assert self.surveyed is not None
        before = [past for past, _ in self._past][-2::-1]
        matches, static = dense_matches(grey, before), self._static(index)
        if static is not None:
            matches.valid[:] &= static.ravel()
        found = survey(matches, self.surveyed.focal_px)
        both = (depth > 0) & (found.depth > 0) if found is not None else np.zeros_like(depth, bool)
        if found is None or both.mean() < 0.02:
            return
        scale = float(np.median(depth[both] / found.depth[both]))
        chain = FlowChain(*grey.shape)
        depth = found.depth * np.float32(scale)
        self._reference = Reference(grey, depth, self._anchor_from_last, chain, static)

    def _view(self, forward: np.ndarray, backward: np.ndarray, frame_depth: np.ndarray, anchor_from_frame: np.ndarray) -> TwoView:
        anchor_depth = self._unknown_depth if self.surveyed is None else self.surveyed.depth
        return TwoView(forward, backward, anchor_depth, frame_depth, anchor_from_frame, self.focal_px)


def follow_video(anchor_rgb: np.ndarray, frames: list[np.ndarray]) -> Iterator[TwoView]:
    """`TwoView` of an anchor with itself and then with every following frame."""
    geometry = AnchoredGeometry.of(anchor_rgb, frames)
    yield geometry.anchor_view
    yield from map(geometry.next, frames)
