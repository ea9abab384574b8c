"""JSON form of the quality report, as `quality` in `scene.json`, `batch.json` and the events of `--json`."""

import dataclasses
import math
from typing import Any, get_args

from st4rtrack.io.scene.header import plain
from st4rtrack.types import FocalSource, Parallax, QualityReport, QualityWarning

_NUMBERS = ("frames_solved", "reprojection_px", "flow_agreement_px", "max_camera_step", "moving_share", "measured_share")
_OPTIONAL = ("reprojection_px", "flow_agreement_px", "max_camera_step", "measured_share")


def quality_to_json(report: QualityReport) -> dict[str, Any]:
    """Convert a report to plain data: all fields, `reliable`, and warnings (code, frames, sentence, serious)."""
    data = dataclasses.asdict(report)
    warnings = data.pop("warnings")
    return plain({**data, "reliable": report.reliable, "warnings": warnings})


def quality_from_json(data: Any) -> QualityReport:
    """Parse the output of `quality_to_json`.

    Raises:
        ValueError: a field is missing or has an invalid value; the message names it.
    """
    try:
        data = {"measured_share": None, **data}  # reports of earlier versions lack it
        for name in _NUMBERS:
            if not (data[name] is None and name in _OPTIONAL) and not _is_number(data[name]):
                raise ValueError(f"{name} is not a number")
        if data["focal_source"] not in get_args(FocalSource) or data["parallax"] not in get_args(Parallax):
            raise ValueError("focal_source or parallax is not a known word")
        fields = {name: data[name] for name in (*_NUMBERS, "focal_source", "parallax")}
        warnings = tuple(_warning_from_json(warning) for warning in data["warnings"])
        return QualityReport(**fields, focal_at_limit=bool(data["focal_at_limit"]), warnings=warnings)
    except (KeyError, TypeError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error


def _warning_from_json(data: Any) -> QualityWarning:
    if not all(type(frame) is int for frame in data["frames"]):
        raise ValueError("the frames of a warning are not whole numbers")
    return QualityWarning(str(data["code"]), tuple(data["frames"]), str(data["sentence"]), bool(data["serious"]))


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)
