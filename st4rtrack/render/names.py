"""Names of a scene's video and model for display."""

from pathlib import Path
from typing import Any


def printable(text: str) -> str:
    """Replace bytes of a file name that are not UTF-8 by "?": OpenCV crashes on them, HTML and the viewer cannot hold them."""
    return text.encode("utf-8", "replace").decode()


def video_name(info: dict[str, Any]) -> str:
    """Printable name of the video from `Scene.info`, or the last part of its path; "Scene" if neither is known."""
    source = info.get("source")
    if not isinstance(source, dict):
        return printable(Path(str(source)).name) if source else "Scene"
    return printable(str(source.get("name") or Path(str(source.get("path") or source.get("video") or "Scene")).name))


def model_name(info: dict[str, Any]) -> str:
    """Printable name of the model from `Scene.info`; empty if unknown."""
    model = info.get("model")
    return printable(str(model.get("name") or "") if isinstance(model, dict) else str(model or ""))
