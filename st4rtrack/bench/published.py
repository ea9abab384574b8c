"""Published scores on WorldTrack, transcribed as data with their sources. Nothing here was re-run."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from importlib.resources import files
from pathlib import PurePosixPath
from typing import Any

MEAN = "mean"
"""Key of the mean over the four tracking sets, if the source prints one."""


@dataclass(frozen=True)
class PublishedRow:
    """Published scores of one method from one source.

    Attributes:
        method: name used by its authors.
        part, subset, alignment: what was scored, named as in score files.
        source: table in the publication.
        reliability: how the values were read; a key of `Published.reliability`.
        notes: caveats for comparison; keys of `Published.notes`.
        figures: by set, then metric, in the units of score files and with the printed digits.
    """

    method: str
    part: str
    subset: str
    alignment: str
    source: str
    reliability: str
    notes: tuple[str, ...]
    figures: Mapping[str, Mapping[str, Decimal]]

    @property
    def cited(self) -> str:
        """Citation: the source and its reliability."""
        return f"{self.source} [{self.reliability}]"


@dataclass(frozen=True)
class Published:
    """All transcribed scores.

    Attributes:
        sets, sequences: folder of a WorldTrack set -> its short name in papers, and its number of sequences, if known.
        reliability, notes: marks and keys -> their meaning.
        rows: published rows, in the order of the sources.
    """

    sets: Mapping[str, str]
    sequences: Mapping[str, int]
    reliability: Mapping[str, str]
    notes: Mapping[str, str]
    rows: tuple[PublishedRow, ...]

    def select(self, part: str, subset: str, alignment: str) -> list[PublishedRow]:
        """Rows of one part, subset and alignment."""
        return [row for row in self.rows if (row.part, row.subset, row.alignment) == (part, subset, alignment)]


@cache
def read_published() -> Published:
    """Read the transcribed scores that ship with the package."""
    data = json.loads(files("st4rtrack.bench").joinpath("published.json").read_text("utf-8"), parse_float=Decimal)
    rows = tuple(_row(table, **row) for table in data["tables"] for row in table["rows"])
    return Published(data["sets"], data["sequences"], data["reliability"], data["notes"], rows)


def published_set(name: str) -> str | None:
    """Name of the WorldTrack set of a folder of sequences, by its last path component; None for any other folder."""
    last = PurePosixPath(name).name
    return last if last in read_published().sets else None


def _row(table: dict[str, Any], method: str, values: list[list[Decimal | None]], notes: Sequence[str] = ()) -> PublishedRow:
    figures = {
        name: {figure: value for figure, value in zip(table["figures"], of_set, strict=True) if value is not None}
        for name, of_set in zip(table["sets"], values, strict=True)
    }
    where = [table[key] for key in ("part", "subset", "alignment", "source", "reliability")]
    return PublishedRow(method, *where, notes=(*table["notes"], *notes), figures=figures)
