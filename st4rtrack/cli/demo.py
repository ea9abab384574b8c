"""`st4rtrack demo`: reconstruct the clip that the package contains."""

from pathlib import Path
from typing import Annotated

import tyro

from st4rtrack.cli.results import ResultOptions


def demo(
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"], metavar="DIR")] = Path("demo_st4rtrack"),
    overwrite: bool = False,
) -> None:
    """Reconstruct a short clip that the package contains, with the embedded model: a first run after the installation.

    Args:
        output: Scene folder; an interrupted run is resumed.
        overwrite: Replace an existing scene.
    """
    from importlib.resources import as_file, files

    from st4rtrack.cli.process import command_line
    from st4rtrack.cli.reporter import say
    from st4rtrack.cli.run import run

    with as_file(files("st4rtrack").joinpath("data", "demo.mp4")) as clip:
        run(str(clip), output, results=ResultOptions(export="ply", overwrite=overwrite))
    say(f"with your own video: {command_line('run', 'VIDEO')}")
