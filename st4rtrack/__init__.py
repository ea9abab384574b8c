"""St4RTrack: a monocular video in, world-frame dense 3D tracks, dynamic geometry and cameras out.

Public names are loaded on first use, so that importing the package (and `st4rtrack --help`) stays quick.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from st4rtrack.formats import export as export
    from st4rtrack.io.scene import load_scene as load_scene
    from st4rtrack.io.scene import save_scene as save_scene
    from st4rtrack.model.checkpoint import load_model as load_model
    from st4rtrack.model.network import St4RTrack as St4RTrack
    from st4rtrack.options import KnownGeometry as KnownGeometry
    from st4rtrack.pipeline.reconstruct import reconstruct as reconstruct
    from st4rtrack.scene import Scene as Scene
    from st4rtrack.scene import Tracks as Tracks
    from st4rtrack.types import Cameras as Cameras
    from st4rtrack.types import Pointmap as Pointmap
    from st4rtrack.types import TwoPointmaps as TwoPointmaps
    from st4rtrack.types import UserError as UserError

_HOME = {
    "load_model": "st4rtrack.model.checkpoint",
    "St4RTrack": "st4rtrack.model.network",
    "KnownGeometry": "st4rtrack.options",
    "reconstruct": "st4rtrack.pipeline.reconstruct",
    "save_scene": "st4rtrack.io.scene",
    "load_scene": "st4rtrack.io.scene",
    "export": "st4rtrack.formats",
    "Cameras": "st4rtrack.types",
    "Pointmap": "st4rtrack.types",
    "Scene": "st4rtrack.scene",
    "Tracks": "st4rtrack.scene",
    "TwoPointmaps": "st4rtrack.types",
    "UserError": "st4rtrack.types",
}

_RENAMED = {"Known": "KnownGeometry"}

__all__ = ["__version__", *sorted(_HOME)]  # noqa: PLE0604 (names are strings)


def __getattr__(name: str) -> Any:
    if name in _RENAMED:
        raise AttributeError(f"st4rtrack.{name} was renamed; use st4rtrack.{_RENAMED[name]}")
    if name not in _HOME:
        raise AttributeError(f"module 'st4rtrack' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
