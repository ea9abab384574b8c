"""Quality report of a scene: whether it can be trusted, and why not."""

from dataclasses import dataclass
from typing import Literal

from st4rtrack.types import FocalSource

Parallax = Literal["none", "rotation", "weak", "good"]
"""Parallax class of the camera motion: fixed camera, rotation only, little translation, enough translation for depth."""


@dataclass(frozen=True)
class QualityWarning:
    """A reason not to trust a scene, or a part of it.

    Attributes:
        code: a stable identifier, for example "cut" or "focal_at_limit" (docs/quality.md lists all of them).
        frames: indices of the affected frames among the processed ones; empty if the whole video is affected.
        sentence: what was observed and how the user can fix it.
        serious: the warning makes the scene unreliable.
    """

    code: str
    frames: tuple[int, ...]
    sentence: str
    serious: bool = True


@dataclass(frozen=True)
class QualityReport:
    """Reliability of a scene; `quality` in `scene.json`.

    Attributes:
        frames_solved: share of the frames with an estimated pose, 0..1.
        reprojection_px: median distance between static tracks and their observations, source pixels; `None` where unknown.
        flow_agreement_px: median distance between optical flow and the motion of the reconstructed points, source pixels.
        max_camera_step: largest camera step over the median of the steps of the neighbouring frames (ratio).
        focal_source: source of the focal length.
        focal_at_limit: the focal estimate lies at a limit of the search range.
        parallax: parallax class of the camera motion.
        moving_share: share of the pixels that show dynamic objects, 0..1.
        measured_share: share of the pixels whose depth was measured or provided by the user, 0..1; `None` where all depth is a network's.
        warnings: reasons not to trust the scene.
    """

    frames_solved: float
    reprojection_px: float | None = None
    flow_agreement_px: float | None = None
    max_camera_step: float | None = None
    focal_source: FocalSource = "prior"
    focal_at_limit: bool = False
    parallax: Parallax = "none"
    moving_share: float = 0.0
    warnings: tuple[QualityWarning, ...] = ()
    measured_share: float | None = None

    @property
    def reliable(self) -> bool:
        """Whether no warning is serious."""
        return not any(warning.serious for warning in self.warnings)

    def summary(self, num_frames: int) -> str:
        """One line: what was checked and the warning codes, the main metrics of a scene of `num_frames` frames, what was not measured."""
        codes = ", ".join(dict.fromkeys(warning.code for warning in self.warnings))
        verdict = f"UNRELIABLE ({codes})" if not self.reliable else "consistent with the video"
        verdict += f", with warnings ({codes})" if codes and self.reliable else ""
        parts = [f"{round(self.frames_solved * num_frames)}/{num_frames} frames solved"]
        if self.reprojection_px is not None:
            parts.append(f"reprojection {self.reprojection_px:.1f} px")
        parts.append(f"parallax {self.parallax}")
        focal = "; focal length: from a prior, not measured" if self.focal_source == "prior" else ""
        return f"quality: {verdict}; {', '.join(parts)}; depth: {self._depth_origin}{focal}"

    @property
    def _depth_origin(self) -> str:
        """How much of the depth was measured: consistency with the video says nothing about the rest."""
        if self.measured_share is None:
            return "predicted by the network, not measured"
        percent = round(100 * self.measured_share)
        if not percent:
            return "estimated by the monocular prior, not measured"
        return "measured" if percent == 100 else f"measured for {percent} % of the pixels, else estimated by the monocular prior"
