"""Stage 3: report of score files: Markdown, CSV, LaTeX and plots, beside published scores. One section per protocol."""

import contextlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from st4rtrack.bench.plots import MARK, has_matplotlib, plot_group
from st4rtrack.bench.published import published_set, read_published
from st4rtrack.bench.score_files import set_of
from st4rtrack.bench.scores import Group, Key, group_by_protocol, read_scores
from st4rtrack.bench.tables import (
    CSV_FIELDS,
    Table,
    csv_text,
    escape_latex,
    escape_markdown,
    group_tables,
    latex,
    markdown,
    note_letters,
    published_tables,
    sequence_tables,
)
from st4rtrack.io.files import write_whole
from st4rtrack.io.installation import install_extra
from st4rtrack.types import UserError

logger = logging.getLogger(__name__)

TEXTS = ("report.md", "tables.csv", "tables.tex")
_PLOTS = ("error_*.png", "error_*.pdf", "apd_sequences_*.png", "apd_sequences_*.pdf")
_NO_PLOTS = "No plots: matplotlib is not installed"
_TRANSCRIBED = (
    "† transcribed, not re-run. Letters refer to notes at the end, square brackets to the reliability of the transcription. "
    "Bold ranks only rows scored here."
)
_DAGGER = "; † transcribed, not re-run"


@dataclass(frozen=True)
class Section:
    """Section of one protocol: its score files, their tables, and (title, PNG) of its plots."""

    group: Group
    tables: list[Table]
    plots: list[tuple[str, Path]]

    @property
    def has_transcribed(self) -> bool:
        return any(table.has_transcribed for table in self.tables)

    @property
    def sets(self) -> list[str]:
        """WorldTrack sets of the sequences of this section, in the order of its files."""
        return list(dict.fromkeys(set_of(name) for one in self.group.scores for name in one.sequences))


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
    paths, output = [Path(file) for file in files], Path(output)
    if not paths:
        raise UserError("name at least one score file")
    places = [path.resolve() for path in paths]
    for path, place in zip(paths, places):
        if places.count(place) > 1:
            raise UserError(f"{path} is named twice; name each score file once")
    groups = group_by_protocol([read_scores(path) for path in paths])
    _clear(output)
    plots = has_matplotlib()
    if not plots:
        logger.warning("%s; install it with: %s", _NO_PLOTS, install_extra("bench"))
    sections = [Section(group, group_tables(group), plot_group(group, output) if plots else []) for group in groups]
    contents = (_markdown(sections, with_plots=plots), csv_text(groups), _latex(sections))
    written = [output / name for name in TEXTS]
    for path, content in zip(written, contents):
        write_whole(path, content.encode("utf-8", "replace"))  # paths of score files may contain any bytes
    drawn = [png for section in sections for _, png in section.plots]
    return written + [path for png in drawn for path in (png, png.with_suffix(".pdf"))]


def _clear(output: Path) -> None:
    """Make the folder, and remove the plots of an earlier report, which may show other methods and protocols."""
    if output.exists() and not output.is_dir():
        raise UserError(f"{output} is a file; choose a folder with -o")
    for path in (output / name for name in TEXTS):
        if path.exists() and not _is_ours(path):
            raise UserError(f"{path} exists and is not part of a report; choose another folder with -o")
    output.mkdir(parents=True, exist_ok=True)
    for path in [path for pattern in _PLOTS for path in output.glob(pattern)]:
        if _is_ours(path):
            path.unlink()


def _is_ours(path: Path) -> bool:
    content = path.read_bytes() if path.is_file() else b""
    return MARK.encode() in content or content.startswith(",".join(CSV_FIELDS).encode())


def _markdown(sections: Sequence[Section], *, with_plots: bool) -> str:
    parts = [f"<!-- {MARK} -->", "# WorldTrack report", _overview(sections)]
    if len(sections) > 1:
        parts.append("Protocols differ in what they count: compare within a section, never across sections.")
    if not with_plots:
        parts.append(_NO_PLOTS)
    for section in sections:
        parts += _section(section)
    if not any(section.has_transcribed for section in sections):
        short_names = ", ".join(f"{short} is {folder}" for folder, short in read_published().sets.items())
        parts += [f"## {_published_title(sections)}", f"Sets: {short_names}.", _TRANSCRIBED]
        for table in published_tables():
            parts += [f"### {table.title}", markdown(table)]
    parts += ["## Notes on transcribed rows", "\n".join(f"- {escape_markdown(note)}" for note in _notes())]
    return "\n\n".join(parts) + "\n"


def _latex(sections: Sequence[Section]) -> str:
    """Every table except that of single sequences, then the notes."""
    parts = [f"% {MARK}; needs \\usepackage{{booktabs}}"]
    for section in sections:
        for table in section.tables:
            dagger = _DAGGER if table.has_transcribed else ""
            parts.append(latex(table, f"{table.title}. Protocol: {section.group.title}{dagger}."))
    if not any(section.has_transcribed for section in sections):
        parts += [latex(table, f"{table.title}. {_published_title(sections)}{_DAGGER}.") for table in published_tables()]
    notes = [rf"\item[] {escape_latex(note)}" for note in _notes()]
    parts += [r"\paragraph{Notes on transcribed rows}", "\n".join([r"\begin{itemize}", *notes, r"\end{itemize}"])]
    return "\n\n".join(parts) + "\n"


def _section(section: Section) -> list[str]:
    group = section.group
    parts = [f"## Protocol: {escape_markdown(group.title)}", escape_markdown(protocol_paragraph(group.protocol))]
    if warnings := _warnings(section):
        parts.append("\n".join(f"- {warning}" for warning in warnings))
    for table in section.tables:
        parts += [f"### {table.title}", markdown(table), *([_TRANSCRIBED] if table.has_transcribed else [])]
    for single in sequence_tables(group):
        parts += [f"### {single.title}", markdown(single), "Bold is the best method of each sequence."]
    if lines := _non_finite(group):
        head = "Counted points without finite error: misses in APD, left out of EPE."
        parts += ["### Not finite", head, "\n".join(lines)]
    if section.plots:
        parts += ["### Plots", *(f"![{escape_markdown(title)}]({png.name})" for title, png in section.plots)]
    return parts


def _overview(sections: Sequence[Section]) -> str:
    rows = ["| method | protocol | sequences | tracks | score file |", "| :-- | :-- | --: | --: | :-- |"]
    for group in (section.group for section in sections):
        for one in group.scores:
            tracks = one.mean.get(Key("", "", "", "points")) or 0
            texts = (one.label, group.title, f"{len(one.sequences):,}", f"{tracks:,.0f}", one.path.name)
            rows.append(f"| {' | '.join(map(escape_markdown, texts))} |")
    return "\n".join(rows)


def _warnings(section: Section) -> list[str]:
    """Reasons why the rows of a section are not fully comparable."""
    scores, protocol = section.group.scores, section.group.protocol["name"]
    every = list(dict.fromkeys(sequence for one in scores for sequence in one.sequences))
    warnings = []
    for one in scores:
        if missing := [sequence for sequence in every if sequence not in one.sequences]:
            warnings.append(f"**{escape_markdown(one.label)} lacks {_listed(missing)}: its means cover other sequences.**")
    if other := [one.label for one in scores if one.protocol.get("predicted_with") not in (None, protocol)]:
        warnings.append(f"Predicted for another protocol, which may sample pointmaps differently: {_listed(other)}.")
    for name in section.sets if section.has_transcribed else ():
        expected = read_published().sequences.get(published_set(name) or "")
        counts = {sum(set_of(sequence) == name for sequence in one.sequences) for one in scores} - {0}
        if expected and counts != {expected}:
            shown = " or ".join(map(str, sorted(counts)))
            warnings.append(f"{escape_markdown(name)}: {shown} sequences were scored here; the published rows cover {expected}.")
    return warnings


def _non_finite(group: Group) -> list[str]:
    """Non-finite predictions by method, part and sequence; empty if all are finite."""
    lines = []
    for one in group.scores:
        for key, count in one.mean.items():
            if key.figure == "non_finite" and count:
                where = [name for name, figures in one.sequences.items() if figures.get(key)]
                part = ", ".join(filter(None, (key.part, key.subset)))
                points = one.mean.get(key._replace(figure="points")) or 0
                lines.append(f"- {escape_markdown(one.label)}, {part}: {count:,.0f} of {points:,.0f}, in {_listed(where)}")
    return lines


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(map(escape_markdown, names[:5]))
    return f"{shown} and {len(names) - 5} more" if len(names) > 5 else shown


def _published_title(sections: Sequence[Section]) -> str:
    """Heading of the published scores when they are shown separately, with the reason."""
    same_sets = any(published_set(name) for section in sections for name in section.sets)
    why = "another protocol" if same_sets else "other sequences"
    return f"Published numbers on WorldTrack (transcribed; {why}, not comparable with the tables above)"


def _notes() -> list[str]:
    published = read_published()
    notes = [f"({letter}) {published.notes[key]}" for key, letter in note_letters().items()]
    return notes + [f"[{mark}] {meaning}" for mark, meaning in published.reliability.items()]


_SENTENCES: dict[str, Callable[[Any], str]] = {
    "num_frames": lambda n: f"The first {n:d} frames are evaluated; the camera of the first is the world frame.",
    "queries": lambda _: "Tracks visible in frame 0 count in every frame, occluded or not.",
    "apd_thresholds_m": lambda limits: (
        f"APD is the mean share of points within {', '.join(f'{t:g}' for t in limits)} m of the ground truth."
    ),
    "dynamic_path_m": lambda m: f"A point is dynamic if its true path is longer than {m:g} m.",
    "sampling": {
        "floor": "Pointmaps are sampled at the pixel that contains the query.",
        "sub-pixel": "Pointmaps are sampled at the sub-pixel position of the query.",
    }.__getitem__,
    "dynamic_alignment": {
        "own": "Dynamic points are aligned separately.",
        "all": "Dynamic points use the alignment of all points.",
    }.__getitem__,
    "dynamic_epe_mean": {
        "all": "The mean of the dynamic EPE divides by the number of all sequences, also those without dynamic points.",
        "with dynamic points": "The mean of the dynamic EPE is over the sequences that have dynamic points.",
    }.__getitem__,
    "reflection_scale": {
        True: "The scale of SIM(3) ignores that the best orthogonal matrix may be a reflection.",
        False: "The scale of SIM(3) is correct for reflections too.",
    }.__getitem__,
    "missing_truth": {
        "miss": "A point without finite ground truth counts as a miss.",
        "left out": "A point without finite ground truth is left out.",
    }.__getitem__,
    "first_pixel_centre": lambda centre: f"True depth is un-projected with the first pixel's centre at {centre:g}.",
    "depth_range_m": lambda bounds: f"In reconstruction, {_depth(*bounds)} counts.",
}
"""Sentence of each setting of a protocol."""


def protocol_paragraph(protocol: dict[str, Any]) -> str:
    """Describe the protocol in sentences; unknown settings are skipped."""
    if protocol.get("queries") == "file":
        return (
            "All frames and all tracks of the file count, in the camera of each frame. Thresholds are 1 to 16 pixels at the depth "
            "of the point, in images with a shorter side of 256."
        )
    sentences = []
    for key, sentence in _SENTENCES.items():
        with contextlib.suppress(KeyError, TypeError, ValueError):
            sentences.append(sentence(protocol.get(key)))
    return " ".join(sentences)


def _depth(nearest: float, farthest: float | None) -> str:
    if farthest is None:
        return f"depth beyond {nearest} m" if nearest else "all valid depth"
    return f"depth between {nearest} and {farthest} m"
