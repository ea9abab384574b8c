"""What a scene's own words call its video and its model."""

from pathlib import Path
from typing import Any


def video_name(info: dict[str, Any]) -> str:
    """The video's name of `Scene.info`, or the last part of its path; "Scene" where neither is known."""
    source = info.get("source")
    if not isinstance(source, dict):
        return Path(str(source)).name if source else "Scene"
    return str(source.get("name") or Path(str(source.get("path") or source.get("video") or "Scene")).name)


def model_name(info: dict[str, Any]) -> str:
    """The model's name of `Scene.info`; empty where it is not known."""
    model = info.get("model")
    return str(model.get("name") or "") if isinstance(model, dict) else str(model or "")
