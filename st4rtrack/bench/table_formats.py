"""Tables as Markdown and LaTeX, and all scores as CSV."""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby

from st4rtrack.bench.published import MEAN, PublishedRow
from st4rtrack.bench.score import FIGURES
from st4rtrack.bench.scores import Figures, Group, Key
from st4rtrack.bench.tables import IN_FRAMES, Column, Line, Table

CSV_FIELDS = (
    "protocol",
    "method",
    "level",
    "name",
    "part",
    "subset",
    "alignment",
    "figure",
    "unit",
    "better",
    "value",
    "points",
    "source",
)
TRANSCRIBED = "transcribed"
"""Protocol column of transcribed scores in the CSV: each follows its own source."""

_ARROWS = {"higher": "↑", "lower": "↓"}
_MARKDOWN = {ord(c): f"\\{c}" for c in "\\`*|[]<>"} | dict.fromkeys(map(ord, "\r\n"), " ")
_LATEX = {ord(c): f"\\{c}" for c in "&%$#_{}"} | {
    ord("\\"): r"\textbackslash{}",
    ord("~"): r"\textasciitilde{}",
    ord("^"): r"\textasciicircum{}",
    ord("<"): r"\textless{}",
    ord(">"): r"\textgreater{}",
    ord("["): r"{[}",
    ord("]"): r"{]}",
    ord("–"): "--",
    ord("†"): r"\dag{}",
    ord("↑"): r"$\uparrow$",
    ord("↓"): r"$\downarrow$",
    ord("\r"): " ",
    ord("\n"): " ",
}


def escape_markdown(text: str) -> str:
    """Escape text for Markdown, including tables."""
    return text.translate(_MARKDOWN)


def escape_latex(text: str) -> str:
    """Escape text for LaTeX."""
    return text.translate(_LATEX)


def markdown(table: Table, letters: Mapping[str, str]) -> str:
    """Format a table as a pipe table; `letters` names the notes on transcribed lines."""
    header = [escape_markdown(text) for text in (*table.labels, *(_header(column) for column in table.columns))]
    rule = [":--"] * len(table.labels) + ["--:"] * len(table.columns)
    rows = []
    for line, cells in zip(table.lines, table.cells()):
        texts = [escape_markdown(text) for text in _labels(line, letters)]
        rows.append(texts + [f"**{text}**" if best else text for text, best in cells])
    if table.has_transcribed:
        header, rule = [*header, "source"], [*rule, ":--"]
        rows = [[*row, escape_markdown(_source(line))] for row, line in zip(rows, table.lines)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (header, rule, *rows))


def latex(table: Table, letters: Mapping[str, str], caption: str) -> str:
    """Format a table as a LaTeX `table` environment (package booktabs); the caption is escaped here."""
    labels, columns = len(table.labels), len(table.columns)
    sources = table.has_transcribed
    top = [" "] * labels
    for heading, under in groupby(table.columns, lambda column: column.heading):
        top.append(rf"\multicolumn{{{len(list(under))}}}{{c}}{{{escape_latex(heading)}}}")
    names = [*table.labels, *(_header(column, with_heading=False) for column in table.columns)]
    head = [[escape_latex(name) for name in names] + ["source"] * sources]
    if any(column.heading for column in table.columns):
        head.insert(0, top + [" "] * sources)
    body = []
    for transcribed, lines in groupby(zip(table.lines, table.cells()), lambda pair: pair[0].rank is None):
        body += [r"\midrule"] if transcribed and body else []
        for line, cells in lines:
            texts = [escape_latex(text) for text in _labels(line, letters)]
            texts += [rf"\textbf{{{escape_latex(text)}}}" if best else escape_latex(text) for text, best in cells]
            body.append(_latex_row(texts + [escape_latex(_source(line))] * sources))
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering\scriptsize\setlength{\tabcolsep}{3pt}",
            rf"\caption{{{escape_latex(caption)}}}",
            rf"\begin{{tabular}}{{{'l' * labels}{'r' * columns}{'l' * sources}}}",
            r"\toprule",
            *map(_latex_row, head),
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
        ]
    )


def csv_text(groups: Iterable[Group], published: Iterable[PublishedRow]) -> str:
    """Format every score as one CSV line, not rounded; empty if it could not be computed."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(CSV_FIELDS)
    for group in groups:
        for one in group.scores:
            for level, rows in (("mean", {"mean": one.mean}), ("set", one.sets), ("sequence", one.sequences)):
                for name, figures in rows.items():
                    of = (group.title, one.label, level, name)
                    writer.writerows((*of, *record, one.path.name) for record in _records(figures))
    for row in published:
        part = (row.part, row.subset, row.alignment)
        for name, values in row.figures.items():
            of = (TRANSCRIBED, row.method, "mean" if name == MEAN else "set", name, *part)
            for figure, value in values.items():
                writer.writerow((*of, figure, *_unit(figure), value, None, row.cited))
    return out.getvalue()


def _records(figures: Figures) -> Iterator[tuple[object, ...]]:
    for key, value in figures.items():
        if key.figure not in ("points", "frames"):
            part = Key(key.part, key.subset, "", "frames" if key.part in IN_FRAMES else "points")
            yield (*key, *_unit(key.figure), value, figures.get(part))


def _unit(figure: str) -> tuple[str, str]:
    return str(FIGURES[figure]["unit"]), FIGURES[figure]["better"] or ""


def _header(column: Column, *, with_heading: bool = True) -> str:
    unit = f"({column.unit})" if column.unit else ""
    words = (column.heading if with_heading else "", column.name, unit, _ARROWS.get(column.better or "", ""))
    return " ".join(filter(None, words))


def _labels(line: Line, letters: Mapping[str, str]) -> tuple[str, ...]:
    if line.rank is not None:
        return line.labels
    notes = ", ".join(sorted(letters[note] for note in line.notes))
    return (*line.labels[:-1], f"{line.labels[-1]} †{notes and f' ({notes})'}")


def _source(line: Line) -> str:
    return "scored here" if line.rank is not None else line.source


def _latex_row(texts: list[str]) -> str:
    return " & ".join(texts) + r" \\"
