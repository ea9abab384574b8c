"""`st4rtrack bench report`: score files to tables and plots."""

from pathlib import Path
from typing import Annotated

import tyro


def report(
    scores: tyro.conf.Positional[tuple[Path, ...]],
    /,
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("report"),
) -> None:
    """Tables and plots of score files, with published figures beside them: report.md, tables.csv, tables.tex, PNG and PDF.

    Args:
        scores: Score files of bench score. Those of different protocols are kept apart.
        output: Folder of the report; an earlier report there is replaced.
    """
    from st4rtrack.bench.report import write_report
    from st4rtrack.cli.progress import log_to_stderr
    from st4rtrack.cli.voice import wrote

    log_to_stderr()
    for path in write_report(scores, output):
        wrote(path)
