"""Geometry of the frames of a video relative to its anchor: flow, camera and known depth, frame by frame in constant memory.

Sources of cameras, in this order: the user; the global solver, if the camera translates; the identity of a fixed camera, or the
rotations of a rotating one (`registration.py`); PnP against the depth of a reference frame (initially the anchor), which is known,
triangulated, or from a depth prior. The flow from the anchor is chained over the frames.

    geometry = AnchoredGeometry.of(anchor_rgb, frames_after_it, solve=solve).with_prior(prior)
    for index, rgb in frames_after_it: two_view = geometry.next(rgb, index)

Two chains of flow are used, since neither suits all points: static points are matched with the reference directly, which removes
drift; dynamic points are tracked from frame to frame, since direct flow would match their background.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

import cv2
import numpy as np

from st4rtrack.classical.anchor import (
    NEIGHBOUR_FRAMES,
    AnchorDepth,
    Units,
    known_anchor_depth,
    neighbour_matches,
    triangulated_anchor,
)
from st4rtrack.classical.camera_motion import WITHOUT_DEPTH, CameraMotion, MotionKind, camera_motion
from st4rtrack.classical.flow import FlowChain, bidirectional_flow
from st4rtrack.classical.registration import MIN_POSE_INLIERS, Reference, RotationFocal, camera_rotation, rotation_focal
from st4rtrack.classical.solver.evidence import PRIOR_FOCAL
from st4rtrack.classical.two_view import TwoView
from st4rtrack.geometry.camera import pixel_grid
from st4rtrack.geometry.transforms import invert_rigid, rigid, rotation_angle
from st4rtrack.geometry.vectors import length
from st4rtrack.timing import timed
from st4rtrack.types import FocalSource, KnownVideo

MIN_SEEN_SHARE = 0.3
"""Visible share of its known pixels below which the current frame replaces the reference."""
MIN_STAY = 6
MIN_CARRIED_SHARE = 0.02
"""Share of a new reference whose depth must be known from the old one, to have its scale."""
MIN_ROTATION_SHARE = 0.1
"""Share of the image that must be matched to estimate a rotation."""
FADING_SHARE = 0.6
"""Share of matches that agree with a rotation below which the current frame replaces the reference, before no pose is found."""
MIN_ROTATION_PARALLAX_DEG = 3.0
"""Minimum parallax of a solution when the motion looks like a rotation: pans of rendered rooms have 0.7 at most, a real one 2.4,
slow arcs 3.6 and more."""
MIN_STILL_SHARE, STILL_PX = 0.15, 1.0
"""Share of the matched pixels that must not move by more than this; otherwise a fixed camera has started to move."""
MIN_TURN = np.deg2rad(1.0)
"""Rotation of a zooming camera from which it is not fixed."""
MOTION_ENLARGE = 2

StepFlow = Callable[[int, int], tuple[np.ndarray, np.ndarray]]
"""Flow [height, width, 2] from a frame to a later or earlier one and back."""
SolveCameras = Callable[[float], KnownVideo | None]
"""Known geometry with the cameras of a solver; `None` if they are unreliable or have less than the given parallax (degrees)."""
DepthOfFrame = Callable[[np.ndarray, int], np.ndarray]
"""Depth [height, width] up to scale of a frame [height, width, 3] uint8 and its index, from a prior."""


class AnchoredGeometry:
    """Frame-by-frame geometry of a video, starting at the anchor.

    Attributes:
        motion: camera motion in the frames next to the anchor; `None` if the user provides cameras or depth.
        anchor_depth: depth of the anchor; `None` where none is measured or known, before `with_prior`.
        units: units of the known geometry.
        solved: the pose of the current frame was estimated; otherwise the pose of the previous frame is reused.
    """

    def __init__(
        self,
        anchor_rgb: np.ndarray,
        anchor_depth: AnchorDepth | None = None,
        *,
        motion: CameraMotion | None = None,
        focal: RotationFocal | None = None,
        known: KnownVideo | None = None,
        units: Units | None = None,
        anchor_index: int = 0,
        prior: DepthOfFrame | None = None,
        step_flow: StepFlow | None = None,
    ) -> None:
        self.anchor_depth, self.motion, self.units = anchor_depth, motion, units or Units()
        self._anchor_rgb, self._anchor_index, self._rotation_focal = anchor_rgb, anchor_index, focal
        self._known = known or KnownVideo()
        self._prior, self._step_flow, self._last_index = prior, step_flow, anchor_index
        self._grey = cv2.cvtColor(anchor_rgb, cv2.COLOR_RGB2GRAY)
        self._motion = FlowChain(*self._grey.shape)
        depth = self._unknown_depth if anchor_depth is None else anchor_depth.depth
        if anchor_depth is not None and anchor_depth.static is not None:
            depth = np.where(anchor_depth.static, depth, np.float32(0))
        chain = FlowChain(*self._grey.shape)
        self._reference = Reference(self._grey, depth, np.eye(4), chain, self._static(anchor_index))
        self._anchor_from_last = np.eye(4)
        self.solved = True

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
        """Geometry of an anchor [height, width, 3] uint8 from the frames next to it (the first `NEIGHBOUR_FRAMES` are read).

        Args:
            known: known geometry of the video.
            anchor_index, order: indices of the anchor and of the frames, for known geometry.
            solve: solver for the cameras of a translating camera, or for the focal length, if the user provides none.
        """
        user = known or KnownVideo()
        static = None if user.static is None else user.static(anchor_index)
        matches = neighbour_matches(anchor_rgb, list(islice(after, NEIGHBOUR_FRAMES)), static)
        motion = None if matches is None else camera_motion(matches, user.focal_px, static)
        known, motion = _with_solver(user, motion, solve)
        depth, units = known_anchor_depth(known, triangulated_anchor(known, matches, anchor_index, order), anchor_index, user)
        if depth is not None and static is not None:
            depth = replace(depth, static=static)
        rotates = matches is not None and motion is not None and motion.kind == "rotation" and known.focal_px is None
        focal = rotation_focal(matches) if matches is not None and rotates else None
        return cls(anchor_rgb, depth, motion=motion, focal=focal, known=known, units=units, anchor_index=anchor_index)

    def along(self, step_flow: StepFlow | None) -> "AnchoredGeometry":
        """Copy in the initial state, to process the video in one direction.

        Args:
            step_flow: provides the flow between frames; its caller also measures the depth of frames with known cameras.
        """
        return self._again(step_flow=step_flow)

    def with_prior(self, prior: DepthOfFrame) -> "AnchoredGeometry":
        """Copy that registers frames without a camera against the depth of a prior where none is measured."""
        if self.anchor_depth is not None or self.kind in WITHOUT_DEPTH:
            return self._again(prior=prior)
        depth = prior(self._anchor_rgb, self._anchor_index)
        return self._again(prior=prior, anchor_depth=AnchorDepth((depth / np.median(depth)).astype(np.float32), measured=False))

    def _again(self, **changes: Any) -> "AnchoredGeometry":
        """Copy in the initial state, with changed arguments."""
        same = {"anchor_depth": self.anchor_depth, "motion": self.motion, "focal": self._rotation_focal, "known": self._known}
        same |= {"units": self.units, "anchor_index": self._anchor_index, "prior": self._prior}
        return AnchoredGeometry(self._anchor_rgb, **(same | changes))

    def with_turning_camera(self, known: KnownVideo) -> "AnchoredGeometry":
        """Copy with the cameras and focal lengths of a zooming camera without translation; other frames stay unsolved."""
        assert self.motion is not None and known.world_from_camera is not None
        turn = float(np.nanmax(rotation_angle(known.world_from_camera[:, :3, :3])))
        motion = replace(self.motion, kind="zoom", parallax="rotation" if turn > MIN_TURN else "none")
        return self._again(known=known, motion=motion, anchor_depth=None, focal=None, units=Units(cameras=1.0))

    @property
    def measures_depth(self) -> bool:
        """Whether depth is triangulated or known."""
        return self.anchor_depth is not None and self.anchor_depth.measured

    @property
    def cameras(self) -> np.ndarray | None:
        """`anchor_from_camera` [T, 4, 4] in units of the geometry, NaN where unknown; `None` if poses are estimated one by one."""
        if self._known.world_from_camera is None or self.units.cameras is None:
            return None
        world = self._known.world_from_camera
        cameras = invert_rigid(world[self._anchor_index]) @ world
        cameras[:, :3, 3] /= self.units.cameras
        return cameras

    def points_of(self, index: int) -> np.ndarray:
        """[n, 3] static points visible in a frame: network pixels (u, v) and z-depth in units of the geometry."""
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
        return "video" if self._rotation_focal is not None and self._rotation_focal.decided else "prior"

    @property
    def anchor_view(self) -> TwoView:
        """Two-view geometry of the anchor with itself."""
        zero, depth = np.zeros((*self._grey.shape, 2), np.float32), self._depth_of_anchor
        return TwoView(zero, zero, depth, depth, np.eye(4), self.focal_px)

    def skip(self) -> TwoView:
        """Two-view geometry of an unusable frame (black, or after a cut): unsolved, with the flow of the previous frame."""
        self.solved = False
        return self._view(self._unknown_depth)

    @timed("geometry")
    def next(self, rgb: np.ndarray, index: int) -> TwoView:
        """Two-view geometry of the anchor and the next frame [height, width, 3] uint8 and its index."""
        grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
        reference, last = self._reference, self._grey
        if self._step_flow is None or abs(index - self._last_index) > 1:  # after a skipped frame
            forward, backward = bidirectional_flow(last, grey, enlarge=MOTION_ENLARGE)
        else:
            forward, backward = self._step_flow(self._last_index, index)
        self._last_index = index
        self._motion.extend(forward, backward)
        reference.chain.extend(forward, backward)
        reference.age += 1
        self._grey = grey
        camera = self._known_camera(index)
        if self._step_flow is not None and camera is not None and self._known.depth is None:
            self.solved, self._anchor_from_last = True, camera
            return self._view(self._unknown_depth)
        reference.chain.correct(*bidirectional_flow(reference.grey, grey, reference.chain.forward, reference.chain.backward))
        if self.kind in WITHOUT_DEPTH:
            self._rotate(grey, index)
            return self._view(self._unknown_depth)
        return self._view(self._registered(rgb, camera, index))

    @property
    def _unknown_depth(self) -> np.ndarray:
        return np.zeros(self._grey.shape, np.float32)

    @property
    def _depth_of_anchor(self) -> np.ndarray:
        return self._unknown_depth if self.anchor_depth is None else self.anchor_depth.depth

    def _rotate(self, grey: np.ndarray, index: int) -> None:
        """Estimate the rotation of the current camera against the reference; a fixed camera stays, a zooming one is unsolved."""
        if self.kind != "rotation":
            self.solved = self.kind == "fixed" and self._is_still()
            return
        reference = self._reference
        visible = reference.visible()
        rotation, agreeing = (
            camera_rotation(pixel_grid(*reference.size)[visible], reference.pixels[visible], self.focal_px, reference.size)
            if visible.mean() > MIN_ROTATION_SHARE
            else (np.eye(3), 0.0)
        )
        self.solved = agreeing > MIN_POSE_INLIERS
        if self.solved:
            self._anchor_from_last = reference.anchor_from_reference @ rigid(rotation.T, np.zeros(3))
        fading = visible.mean() < MIN_SEEN_SHARE or agreeing < FADING_SHARE
        if self.solved and fading and reference.age >= MIN_STAY:
            self._replace_reference(grey, reference.depth, index)

    def _static(self, index: int) -> np.ndarray | None:
        """[height, width] bool, static pixels of a frame; `None` if the user provides none."""
        return None if self._known.static is None else self._known.static(index)

    def _is_still(self) -> bool:
        """Whether a sufficient share of the matched image has not moved since the anchor."""
        matched = self._reference.visible()
        still = length(self._reference.chain.forward) < STILL_PX
        return bool((still & matched).sum() >= MIN_STILL_SHARE * max(matched.sum(), 1))

    def _registered(self, rgb: np.ndarray, camera: np.ndarray | None, index: int) -> np.ndarray:
        """Estimate the current pose if it is unknown; return the depth [height, width] of the frame where known or warped."""
        reference, focal_px = self._reference, self.focal_px
        measured = reference.depth > 0
        seen = measured & reference.visible()
        found = reference.registered(seen, focal_px) if camera is None else camera
        self.solved = found is not None
        if found is not None:
            self._anchor_from_last = found
        depth = self._with_known(reference.carried(self._anchor_from_last, focal_px), index)
        if self.solved and seen.sum() < MIN_SEEN_SHARE * measured.sum() and reference.age >= MIN_STAY:
            self._change_reference(rgb, depth, index)
        return depth

    def _known_camera(self, index: int) -> np.ndarray | None:
        """Known `anchor_from_frame` [4, 4] in units of the geometry, or `None`."""
        camera = self._known.anchor_from_camera(self._anchor_index, index)
        if camera is None or self.units.cameras is None:
            return None
        return rigid(camera[:3, :3], camera[:3, 3] / self.units.cameras)

    def _with_known(self, depth: np.ndarray, index: int) -> np.ndarray:
        """Depth [height, width] of a frame in units of the geometry, replaced by the known depth where available."""
        known = self._known.depth_of(index)
        if known is None or self.units.depth is None:
            return depth
        return np.where(known > 0, known / np.float32(self.units.depth), depth).astype(np.float32)

    def _change_reference(self, rgb: np.ndarray, depth: np.ndarray, index: int) -> None:
        """Make the current frame the reference: its known depth [height, width], and the prior in the same scale elsewhere."""
        known = depth > 0
        if self._prior is None or known.mean() < MIN_CARRIED_SHARE:
            return
        prior = self._prior(rgb, index)
        prior = prior * np.median(depth[known] / prior[known])
        self._replace_reference(self._grey, np.where(known, depth, prior).astype(np.float32), index)

    def _replace_reference(self, grey: np.ndarray, depth: np.ndarray, index: int) -> None:
        self._reference = Reference(grey, depth, self._anchor_from_last, FlowChain(*grey.shape), self._static(index))

    def _view(self, frame_depth: np.ndarray) -> TwoView:
        flow = self._motion.forward, self._motion.backward
        return TwoView(*flow, self._depth_of_anchor, frame_depth, self._anchor_from_last, self.focal_px)


def _with_solver(
    user: KnownVideo, motion: CameraMotion | None, solve: SolveCameras | None
) -> tuple[KnownVideo, CameraMotion | None]:
    """Known geometry, completed by the solver if the camera may translate; camera motion unless cameras or depth are known."""
    complete = user.world_from_camera is not None and user.focal_px is not None
    solved = None
    if solve is not None and motion is not None and not complete and (motion.may_translate or motion.kind == "dolly_zoom"):
        solved = solve(MIN_ROTATION_PARALLAX_DEG if motion.kind == "rotation" else 0.0)
        if solved is not None and solved.focals_px is None and not motion.may_translate:
            solved = None
    if user.world_from_camera is not None:
        same = ("focal_px", "focal_source", "focals_px")
        return replace(user, **({} if solved is None else {name: getattr(solved, name) for name in same})), None
    if user.depth is not None:
        return solved or user, None
    if solved is not None and motion is not None and motion.kind in ("rotation", "dolly_zoom"):
        motion = replace(motion, kind="general", parallax="weak")
    return solved or user, motion
