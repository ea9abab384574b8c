"""A score in a few lines, for the terminal."""

from typing import Any


def summary(scores: dict[str, Any]) -> str:
    """What a score file says in the mean: a line per part that was scored."""
    mean = scores["mean"]
    lines = [f"{scores['method']}, {scores['protocol']['name']} protocol, mean of {len(scores['sequences'])} sequences"]
    points = [(f"tracking, {name}", part) for name, part in mean.get("tracking", {}).items()]
    if "reconstruction" in mean:
        points.append(("reconstruction", mean["reconstruction"]))
    lines += [f"  {label}: {_points(part)}" for label, part in points]
    if "tapvid3d" in mean:
        part = mean["tapvid3d"]
        likely = f", calibration error {_shown(part['calibration_error'], 3)}" if "calibration_error" in part else ""
        shown = ", ".join(f"{key.upper()} {_shown(part[key], 1)} %" for key in ("aj", "apd", "oa"))
        lines.append(f"  TAPVid-3D: {shown}{likely}")
    if "cameras" in mean:
        part = mean["cameras"]
        step = f"{_shown(part['rpe_translation'], 3)} m, {_shown(part['rpe_rotation'], 2)} degrees"
        lines.append(f"  cameras: ATE {_shown(part['ate'], 3)} m, RPE {step}")
    if "depth" in mean:
        part = mean["depth"]
        lines.append(f"  depth: AbsRel {_shown(part['abs_rel'], 3)}, within 1.25 {_shown(part['delta_1_25'], 1)} %")
    return "\n".join(lines)


def _points(part: dict[str, Any]) -> str:
    figures = [
        f"{alignment} APD {_shown(part[alignment]['apd'], 1)} %, EPE {_shown(part[alignment]['epe'], 3)} m"
        for alignment in ("median", "sim3")
    ]
    lost = f", {part['non_finite']:,} not finite" if part["non_finite"] else ""
    return f"{'; '.join(figures)} ({part['points']:,} points{lost})"


def _shown(value: float | None, digits: int) -> str:
    return "unknown" if value is None else f"{value:.{digits}f}"
