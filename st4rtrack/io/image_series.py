"""Order, timestamps and series membership of images, from their file names."""

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from st4rtrack.types import UserError

_NUMBER = re.compile(r"\d+")
_DECIMAL = re.compile(r"\d+(?:\.\d+)?")
_SECONDS = re.compile(r"(?<![A-Za-z\d.])\d+\.\d+(?![\d.])")
_EPOCH_S = (9.4e8, 4.2e9)  # the years 2000 to 2100
_TICKS_PER_S = (1, 10**3, 10**6, 10**9)
_INTERVALS_S = (1.5e-3, 3600.0)  # plausible median frame intervals: shorter ones come from version numbers
_MAX_SERIES = 16
_SHORTEST_SERIES = 3


def in_order(paths: Sequence[Path]) -> list[Path]:
    """Sort images by the timestamps in their names if there are any, else naturally (img2 before img10)."""
    natural = sorted(paths, key=lambda p: [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", str(p))])
    ticks = _ticks(natural)
    return natural if ticks is None else [path for _, path in sorted(zip(ticks, natural, strict=True))]


def times_in_names(paths: Sequence[Path]) -> np.ndarray | None:
    """Timestamps from image names, in seconds since the first image; `None` if the names hold none.

    Supported are decimal seconds, and s, ms, us or ns since 1970.
    """
    ticks = _ticks(paths)
    return None if ticks is None else np.array([(tick - ticks[0]) / 1e9 for tick in ticks])


def _ticks(paths: Sequence[Path]) -> list[int] | None:
    """Timestamps in the names, in nanoseconds; `None` if they are not plausible for a video."""
    if len(paths) < 2 or len({path.parent for path in paths}) > 1:
        return None
    stems = [path.stem for path in paths]
    found = [_SECONDS.findall(stem) for stem in stems]
    decimals = {len(each[0].split(".")[1]) for each in found if each}
    if all(_DECIMAL.fullmatch(stem) for stem in stems) and decimals:
        ticks = [round(float(stem) * 1e9) for stem in stems]
    elif all(len(each) == 1 for each in found) and len(decimals) == 1 and min(decimals) > 1:
        ticks = [round(float(each[0]) * 1e9) for each in found]
    else:
        epochs = [_epoch_ticks(stem) for stem in stems]
        ticks = [tick for tick in epochs if tick is not None]
        if len(ticks) < len(epochs):
            return None
    steps = np.diff(np.array(sorted(ticks))) / 1e9
    return ticks if (steps > 0).all() and _INTERVALS_S[0] < np.median(steps) < _INTERVALS_S[1] else None


def require_one_series(paths: Sequence[Path], source: str) -> None:
    """Refuse images of two videos, of a video and its masks, or of one video in two formats.

    Raises:
        UserError: there are two series; the message names both.
    """
    stems: dict[Path, Path] = {}
    for path in paths:
        if (twin := stems.setdefault(path.with_suffix(""), path)) is not path:
            raise UserError(
                f"{source} has {twin.name} and {path.name}, the same image twice? "
                f"Select one with a glob such as '{twin.parent}/*{twin.suffix}'"
            )
    series = _series(paths)
    if len(series) > 1 and _ticks(paths) is None:
        first, second = sorted(series, key=len, reverse=True)[:2]
        raise UserError(
            f"{source} holds more than one image series: {_described(first)} and {_described(second)}; {_choice(first, second)}"
        )


def _series(paths: Sequence[Path]) -> list[list[Path]]:
    """Group images by their names without numbers; one group if the names follow no pattern."""
    if len({path.parent for path in paths}) > 1:
        return [list(paths)]
    series = defaultdict(list)
    for path in paths:
        series[_DECIMAL.sub("#", path.stem)].append(path)
    if len(series) == 1:
        return _by_first_numbers(paths)
    by_system = max(map(len, series.values())) >= _SHORTEST_SERIES and len(series) <= _MAX_SERIES
    return list(series.values()) if by_system else [list(paths)]


def _by_first_numbers(paths: Sequence[Path]) -> list[list[Path]]:
    """Group images by all numbers but the last if the last one restarts (cam0_000, cam1_000); clock times are not split."""
    numbers = [_NUMBER.findall(path.stem) for path in paths]
    groups: dict[tuple[str, ...], dict[str, Path]] = defaultdict(dict)
    for path, found in zip(paths, numbers, strict=True):
        groups[tuple(found[:-1])]["".join(found[-1:])] = path
    shared = set.intersection(*(set(members) for members in groups.values()))
    clock = all(len(digits) == 2 for found in numbers for digits in found) or "." in paths[0].stem
    repeats = len(shared) >= max(2, 0.75 * min(map(len, groups.values())))
    if 1 < len(groups) <= _MAX_SERIES and repeats and not clock:
        return [list(members.values()) for members in groups.values()]
    return [list(paths)]


def _described(paths: list[Path]) -> str:
    return f"{paths[0].name} to {paths[-1].name} ({len(paths)} images)" if len(paths) > 1 else paths[0].name


def _choice(wanted: list[Path], other: list[Path]) -> str:
    """Suggest a glob that selects the wanted images only."""
    name = wanted[0].name
    same = next((i for i, (a, b) in enumerate(zip(name, other[0].name)) if a != b), 0)
    for pattern in (
        f"{_NUMBER.split(name)[0]}*",
        f"{name[: same + 1]}*",
        _NUMBER.sub(lambda number: "[0-9]" * len(number[0]), name),
    ):
        if all(path.match(pattern) for path in wanted) and not any(path.match(pattern) for path in other):
            return f"select one with a glob such as '{wanted[0].parent / pattern}'"
    return "move one of them to another folder"


def _epoch_ticks(stem: str) -> int | None:
    """Nanoseconds since 1970 from one number in s, ms, us or ns, or seconds and their fraction; `None` if absent."""
    numbers = _NUMBER.findall(stem)
    if len(numbers) == 2 and len(numbers[1]) in (3, 6, 9) and _EPOCH_S[0] < int(numbers[0]) < _EPOCH_S[1]:
        return int(numbers[0]) * 10**9 + int(numbers[1].ljust(9, "0"))
    for per_s in _TICKS_PER_S if len(numbers) == 1 else ():
        if _EPOCH_S[0] < int(numbers[0]) / per_s < _EPOCH_S[1]:
            return int(numbers[0]) * (10**9 // per_s)
    return None
