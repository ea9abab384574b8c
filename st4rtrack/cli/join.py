"""`st4rtrack join`: scenes with cameras of one model, in one world."""

from pathlib import Path
from typing import Annotated

import tyro


def join(
    scenes: tyro.conf.Positional[tuple[Path, ...]],
    /,
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])],
    overwrite: bool = False,
) -> None:
    """Join scenes of several videos into one world, that of the first. Their cameras come from one model (run --cameras).

    Args:
        scenes: Scene folders.
        output: Folder to write: one scene folder per scene, and joined.ply with the points of all.
        overwrite: Replace scenes of these names in the output folder.
    """
    from st4rtrack.cli.progress import log_to_stderr
    from st4rtrack.cli.reporter import say, wrote
    from st4rtrack.io.join import join_scenes

    log_to_stderr()
    for path in join_scenes(scenes, output, overwrite=overwrite):
        wrote(path)
    say(f"view them in one world: st4rtrack view {output}")
