"""Placeholder until the detector is merged."""

from dataclasses import dataclass
import os
from typing import Literal

MotionKind = Literal["fixed", "rotation", "zoom", "forward", "general"]


@dataclass
class CameraMotion:
    kind: MotionKind


def camera_motion(matches) -> CameraMotion:
    return CameraMotion(os.environ.get("ST_KIND", "general"))
