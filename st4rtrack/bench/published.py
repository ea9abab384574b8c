"""What others have published on WorldTrack: transcribed figures as data, with their sources. Nothing here was re-run."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from importlib.resources import files
from pathlib import PurePosixPath
from typing import Any

MEAN = "mean"
"""Key of a mean over the four tracking sets, where the source prints one."""


@dataclass(frozen=True)
class PublishedRow:
    """Figures of one method from one source.

    Attributes:
        method: as its authors call it.
        part, subset, alignment: what was scored, named as in score files.
        source: the table it was read from.
        reliability: how it was read; a key of `Published.reliability`.
        notes: what to know before comparing; keys of `Published.notes`.
        figures: by set, then figure, in the units of score files and with the digits that were printed.
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
        """The source and how far to trust it."""
        return f"{self.source} [{self.reliability}]"


@dataclass(frozen=True)
class Published:
    """Everything that was transcribed.

    Attributes:
        sets: folder of a WorldTrack set -> its short name in papers.
        sequences: folder -> how many sequences the published set has, where known.
        reliability: mark -> what it means.
        notes: key -> a sentence.
        rows: in the order of the sources.
    """

    sets: Mapping[str, str]
    sequences: Mapping[str, int]
    reliability: Mapping[str, str]
    notes: Mapping[str, str]
    rows: tuple[PublishedRow, ...]

    def select(self, part: str, subset: str, alignment: str) -> list[PublishedRow]:
        """Rows that score the same thing."""
        return [row for row in self.rows if (row.part, row.subset, row.alignment) == (part, subset, alignment)]


@cache
def read_published() -> Published:
    """The transcribed figures that come with the package."""
    data = json.loads(files("st4rtrack.bench").joinpath("published.json").read_text("utf-8"), parse_float=Decimal)
    rows = tuple(_row(table, row) for table in data["tables"] for row in table["rows"])
    return Published(data["sets"], data["sequences"], data["reliability"], data["notes"], rows)


def published_set(name: str) -> str | None:
    """The WorldTrack set that a folder of sequences is, by its last name; None for any other."""
    last = PurePosixPath(name).name
    return last if last in read_published().sets else None


def _row(table: dict[str, Any], row: dict[str, Any]) -> PublishedRow:
    figures = {
        name: {figure: value for figure, value in zip(table["figures"], values, strict=True) if value is not None}
        for name, values in zip(table["sets"], row["values"], strict=True)
    }
    return PublishedRow(
        row["method"],
        table["part"],
        table["subset"],
        table["alignment"],
        table["source"],
        table["reliability"],
        (*table["notes"], *row.get("notes", ())),
        figures,
    )
