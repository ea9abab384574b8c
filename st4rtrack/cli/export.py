"""`st4rtrack export`: a scene in the formats of other tools."""

from pathlib import Path
from typing import Annotated

import tyro


def export(
    scene: tyro.conf.Positional[Path],
    format: tyro.conf.Positional[str],
    /,
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None,
    overwrite: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
) -> None:
    """Write a scene in another tool's format.

    Args:
        scene: Scene folder, as `st4rtrack run` writes it.
        format: ply.
        output: File to write. Default: beside the scene, with the format's usual ending.
        overwrite: Replace a file that is there.
    """
    from st4rtrack.io.export import export as write_export

    print(f"wrote {write_export(scene, output, format=format, overwrite=overwrite)}")
