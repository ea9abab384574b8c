"""Options common to commands that make scenes."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ResultOptions:
    """Files and exit code."""

    export: str = ""
    """Formats to write as well, separated by commas: ply,glb,colmap."""
    overwrite: bool = False
    """Replace an existing scene."""
    require_reliable: bool = False
    """Exit with code 3 if the quality report calls a scene unreliable."""
