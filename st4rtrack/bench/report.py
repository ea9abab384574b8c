"""Stage 3: report of score files: Markdown, CSV, LaTeX and plots, beside published scores."""

import logging
from collections.abc import Sequence
from pathlib import Path

from st4rtrack.bench.plots import MARK, has_matplotlib, plot_group
from st4rtrack.bench.published import read_published
from st4rtrack.bench.report_text import NO_PLOTS, Section, latex_report, markdown_report
from st4rtrack.bench.scores import group_by_protocol, read_scores
from st4rtrack.bench.table_formats import CSV_FIELDS, csv_text
from st4rtrack.bench.tables import group_tables
from st4rtrack.io.files import write_whole
from st4rtrack.io.installation import install_extra
from st4rtrack.types import UserError

logger = logging.getLogger(__name__)

TEXTS = ("report.md", "tables.csv", "tables.tex")
_PLOTS = ("error_*.png", "error_*.pdf", "apd_sequences_*.png", "apd_sequences_*.pdf")


def write_report(files: Sequence[str | Path], output: str | Path) -> list[Path]:
    """Write the report of one or more score files.

    Args:
        files: outputs of `bench score`, of any methods and protocols; each protocol gets its own section.
        output: folder; files of an earlier report are replaced or removed, others are left alone.
    Returns:
        Paths of the written files.
    Raises:
        UserError: a score file is missing, invalid or repeated, or a file that is not of a report would be overwritten.
    """
    paths, output = _without_repeats([Path(file) for file in files]), Path(output)
    groups = group_by_protocol([read_scores(path) for path in paths])
    _require_free(output)
    output.mkdir(parents=True, exist_ok=True)
    _remove_plots(output)
    if not has_matplotlib():
        logger.warning("%s; install it with: %s", NO_PLOTS, install_extra("bench"))
    sections = [Section(group, group_tables(group), plot_group(group, output) if has_matplotlib() else []) for group in groups]
    contents = (
        markdown_report(sections, f"<!-- {MARK} -->", with_plots=has_matplotlib()),
        csv_text(groups, read_published().rows),
        latex_report(sections, f"% {MARK}"),
    )
    written = [output / name for name in TEXTS]
    for path, content in zip(written, contents):
        write_whole(path, content.encode("utf-8", "replace"))  # paths of score files may contain any bytes
    drawn = [png for section in sections for _, png in section.plots]
    return written + [path for png in drawn for path in (png, png.with_suffix(".pdf"))]


def _without_repeats(paths: list[Path]) -> list[Path]:
    if not paths:
        raise UserError("name at least one score file")
    places = [path.resolve() for path in paths]
    for path, place in zip(paths, places):
        if places.count(place) > 1:
            raise UserError(f"{path} is named twice; name each score file once")
    return paths


def _require_free(output: Path) -> None:
    if output.exists() and not output.is_dir():
        raise UserError(f"{output} is a file; choose a folder with -o")
    for path in (output / name for name in TEXTS):
        if path.exists() and not _is_ours(path):
            raise UserError(f"{path} exists and is not part of a report; choose another folder with -o")


def _is_ours(path: Path) -> bool:
    if not path.is_file():
        return False
    content = path.read_bytes()
    return MARK.encode() in content or content.startswith(",".join(CSV_FIELDS).encode())


def _remove_plots(output: Path) -> None:
    """Remove the plots of an earlier report, which may show other methods and protocols."""
    for pattern in _PLOTS:
        for path in output.glob(pattern):
            if _is_ours(path):
                path.unlink()
