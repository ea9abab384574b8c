"""Lowest allowed versions of the dependencies, as `make test-floors` installs them."""

import re
from pathlib import Path

from packaging.version import Version

from tests.floors import PINNED_ELSEWHERE, PROJECT, floors

PINNED = dict(
    line.split("==") for line in (Path(__file__).parents[1] / "constraints.txt").read_text().splitlines() if "==" in line
)


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_floors_every_requirement_has_one_at_most_the_pinned_version() -> None:
    pinned = {canonical(name): Version(version) for name, version in PINNED.items()}
    lowest = {canonical(name): Version(version) for name, version in floors().items()}
    assert {canonical(re.split("[>=<\\[]", line)[0]) for line in PROJECT["dependencies"]} - PINNED_ELSEWHERE <= set(lowest)
    for name, version in lowest.items():
        assert version <= pinned[name], name


def test_floors_faulty_releases_are_excluded() -> None:
    lowest = {name: Version(version) for name, version in floors().items()}
    assert lowest["av"] >= Version("18")  # colour matrix of BT.709 (17) and a crash on MPEG program streams (18)
    assert lowest["zarr"] >= Version("3.1")  # all of 3.0.0 to 3.0.7 were withdrawn: zarr.load deletes data
    assert lowest["opencv-python-headless"] >= Version("4.10") and lowest["numpy"] >= Version("2")  # the first built for NumPy 2
