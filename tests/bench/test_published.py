"""Transcribed figures: chosen cells as they are printed, and what must hold of all of them."""

from decimal import Decimal

import pytest

from st4rtrack.bench.published import MEAN, PublishedRow, published_set, read_published
from st4rtrack.bench.score import FIGURES
from st4rtrack.bench.tables import PARTS

ROWS = read_published().rows


def only(method: str, source: str, part: str, subset: str, alignment: str) -> PublishedRow:
    found = [
        row
        for row in ROWS
        if (row.method, row.part, row.subset, row.alignment) == (method, part, subset, alignment) and source in row.source
    ]
    assert len(found) == 1
    return found[0]


@pytest.mark.parametrize(
    ("method", "source", "part", "subset", "alignment", "of", "apd", "epe"),
    [
        ("St4RTrack", "St4RTrack paper", "tracking", "all", "median", "adt_mini", "76.01", "0.2680"),
        ("SpaTracker + RANSAC-Procrustes", "St4RTrack paper", "tracking", "all", "median", "ds_mini", "55.01", "0.9185"),
        ("MonST3R", "St4RTrack paper", "tracking", "dynamic", "median", "po_mini", "39.36", "0.6452"),
        ("SpaTracker", "St4RTrack paper", "tracking", "all", "sim3", "pstudio_mini", "80.76", "0.1650"),
        ("SpaTracker + MonST3R", "St4RTrack paper", "tracking", "dynamic", "sim3", "adt_mini", "87.32", "0.0485"),
        ("St4RTrack", "St4RTrack paper", "reconstruction", "", "median", "tum", "83.42", "0.1854"),
        ("MASt3R + GA", "St4RTrack paper", "reconstruction", "", "median", "po_mini", "60.44", "0.4030"),
        ("DUSt3R", "St4RTrack paper", "reconstruction", "", "sim3", "tum", "67.48", "0.3092"),
        ("St4RTrack + TTA (per-sequence)", "Table 6", "tracking", "all", "median", "ds_mini", "76.07", "0.2472"),
        ("St4RTrack seq + reweight", "README", "tracking", "dynamic", "median", "ds_mini", "76.82", "0.1978"),
        ("St4RTrack pair + reweight", "README", "tracking", "all", "median", "adt_mini", "68.97", None),
        ("Flow4R", "Flow4R", "reconstruction", "", "median", "po_mini", "81.00", "0.182"),
        ("SpaTrackerV2", "OpenD4RT", "tracking", "all", "median", "adt_mini", "92.22", "0.0915"),
        ("SpaTrackerV2", "UniQuery4R", "tracking", "all", "median", "adt_mini", "69.39", "0.2764"),
        ("Track4World", "Track4World", "tracking", "all", "median", "ds_mini", "69.91", "0.3088"),
        ("ARROW", "ARROW", "tracking", "all", "median", "adt_mini", "93.55", None),
        ("ARROW", "ARROW", "tracking", "all", "median", "ds_mini", "88.00", None),
        ("OmniX", "ARROW", "tracking", "all", "median", "pstudio_mini", "77.23", None),
        ("Point4D", "ARROW", "tracking", "all", "median", "po_mini", "69.84", None),
        ("4RC", "Wizwand", "tracking", "all", "sim3", "ds_mini", "88.65", None),
    ],
)
def test_chosen_cells(
    method: str, source: str, part: str, subset: str, alignment: str, of: str, apd: str, epe: str | None
) -> None:
    figures = only(method, source, part, subset, alignment).figures[of]
    assert {name: str(value) for name, value in figures.items()} == {"apd": apd} | ({"epe": epe} if epe else {})


def test_how_many_rows_there_are() -> None:
    assert len(ROWS) == 79
    assert {part.title: len(read_published().select(part.part, part.subset, part.alignment)) for part in PARTS[:6]} == {
        "Tracking, all points, global median alignment": 41,
        "Tracking, all points, SIM(3) alignment": 6,
        "Tracking, dynamic points, global median alignment": 11,
        "Tracking, dynamic points, SIM(3) alignment": 5,
        "Reconstruction, global median alignment": 9,
        "Reconstruction, SIM(3) alignment": 7,
    }


def test_every_row_says_where_it_is_from_and_is_named_once() -> None:
    published = read_published()
    for row in ROWS:
        assert row.source and row.reliability in published.reliability
        assert all(published.notes[note] for note in row.notes) and len(set(row.notes)) == len(row.notes)
        assert row.figures.keys() <= {*published.sets, MEAN}
    names = [(row.method, row.part, row.subset, row.alignment, row.source) for row in ROWS]
    assert len(set(names)) == len(names)
    assert {note for row in ROWS for note in row.notes} == set(published.notes)


def test_figures_are_in_the_units_of_score_files() -> None:
    assert FIGURES["apd"]["unit"] == "%" and FIGURES["epe"]["unit"] == "m"
    for row in ROWS:
        for figures in row.figures.values():
            assert figures.keys() <= {"apd", "epe"}
            assert 30 < figures["apd"] < 100 and 0 < figures.get("epe", Decimal(1)) < 2


def test_printed_means_are_those_of_the_printed_cells() -> None:
    """A digit read wrong in any of these rows would show."""
    checked = 0
    for row in ROWS:
        if MEAN not in row.figures:
            continue
        sets = [figures for name, figures in row.figures.items() if name != MEAN]
        for figure, tolerance in (("apd", Decimal("0.0051")), ("epe", Decimal("0.000051"))):
            mean = sum((figures[figure] for figures in sets), Decimal(0)) / 4
            assert abs(mean - row.figures[MEAN][figure]) <= tolerance, row.method
            checked += 1
    assert checked == 16


def test_every_panoptic_point_is_dynamic() -> None:
    """The fixed cameras' set scores alike on all and on dynamic points, in every source that has both under one alignment."""
    both = [
        (row, only(row.method, row.source, "tracking", "all", row.alignment))
        for row in ROWS
        if row.subset == "dynamic" and "pstudio_mini" in row.figures
    ]
    assert len(both) == 12
    for dynamic, every in both:
        assert dynamic.figures["pstudio_mini"] == every.figures["pstudio_mini"]


def test_traps_are_attached_to_the_rows_they_concern() -> None:
    assert all("all-points" in row.notes for row in ROWS if "UniQuery4R paper" in row.source)
    assert "spread" in only("V-DPM", "OpenD4RT", "tracking", "all", "median").notes
    assert "picture" not in only("OpenD4RT-48", "OpenD4RT", "tracking", "all", "median").notes
    assert "po-epe" in only("St4RTrack", "Table 2", "reconstruction", "", "median").notes
    assert all("dynamic-alignment" in row.notes for row in ROWS if row.subset == "dynamic")


def test_spread_note_of_spatrackerv2_states_the_difference_of_the_printed_means() -> None:
    means = []
    for source in ("ARROW", "UniQuery4R"):
        row = only("SpaTrackerV2", source, "tracking", "all", "median")
        assert "spread" in row.notes
        means.append(sum(row.figures[name]["apd"] for name in read_published().sets if name != "tum") / 4)
    assert [f"{mean:.1f}" for mean in means] == ["75.6", "56.8"]
    assert f"{means[0] - means[1]:.0f} points apart" in read_published().notes["spread"]


def test_sets_are_known_by_their_folder() -> None:
    assert published_set("worldtrack_release/adt_mini") == published_set("adt_mini") == "adt_mini"
    assert published_set("sequences") is None
