"""What a scene's own words call its video and its model."""

from pathlib import Path
from typing import Any


def printable(text: str) -> str:
    """The text with "?" for bytes of a file name that are not UTF-8: OpenCV crashes on them, HTML and the viewer cannot hold them."""
    return text.encode("utf-8", "replace").decode()


def video_name(info: dict[str, Any]) -> str:
    """The video's name of `Scene.info`, or the last part of its path, printable; "Scene" where neither is known."""
    source = info.get("source")
    if not isinstance(source, dict):
        return printable(Path(str(source)).name) if source else "Scene"
    return printable(str(source.get("name") or Path(str(source.get("path") or source.get("video") or "Scene")).name))


def model_name(info: dict[str, Any]) -> str:
    """The model's name of `Scene.info`; printable, empty where it is not known."""
    model = info.get("model")
    return printable(str(model.get("name") or "") if isinstance(model, dict) else str(model or ""))
