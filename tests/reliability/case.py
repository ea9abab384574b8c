"""One input of the corpus: how it is made, how it is read, and what may come of it."""

import io
import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from st4rtrack.types import UserError

End = Literal["result", "sentence", "either"]
Make = Callable[[Path, np.random.Generator], Path]
"""Writes an input into an empty folder by a random generator, and says where it is."""

LONGEST_SENTENCE = 500


@dataclass(frozen=True)
class Case:
    """An input.

    Attributes:
        kind: "video", "images", "checkpoint", "scene", "arrays", "cameras".
        name: unique; it seeds the generator.
        make: writes it.
        read: reads all of it, as the commands do.
        end: what must come of it; "either" where it depends on where the damage is, or on the decoder.
        warns: a warning or note must come with the result.
        named: what a sentence may name instead of the file.
        heavy: takes long to make, or much memory to read.
    """

    kind: str
    name: str
    make: Make
    read: Callable[[Path], Any]
    end: End = "either"
    warns: bool = False
    named: tuple[str, ...] = ()
    heavy: bool = False

    def __str__(self) -> str:
        return f"{self.kind}-{self.name}"

    @property
    def seed(self) -> int:
        return int.from_bytes(self.name.encode()[-8:].rjust(8, b"\0"), "little") ^ len(self.name)


@dataclass(frozen=True)
class Outcome:
    """What came of an input.

    Attributes:
        end: "result", "sentence", or "failure": anything that the promise excludes.
        said: the sentence, or what went wrong.
        noted: a warning or note came with it.
    """

    kind: str
    name: str
    end: Literal["result", "sentence", "failure"]
    said: str = ""
    noted: bool = False


def try_case(case: Case, folder: Path, witness: Path) -> Outcome:
    """Makes an input in an empty folder and reads it.

    Args:
        case: the input.
        folder: empty.
        witness: the file that code hidden in an input would make.
    """
    path = case.make(folder, np.random.default_rng(case.seed))
    logger, heard = logging.getLogger("st4rtrack"), io.StringIO()
    handler, level = logging.StreamHandler(heard), logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            case.read(path)
        end, said = "result", ""
    except UserError as error:
        end, said = "sentence", str(error)
    except Exception as error:  # what the promise excludes
        end, said = "failure", f"{type(error).__name__}: {error}"
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
    fault = said if end == "failure" else _broken_promise(case, end, said, bool(heard.getvalue()), witness, path)
    return Outcome(case.kind, case.name, "failure" if fault else end, fault or said, bool(heard.getvalue()))


def _broken_promise(case: Case, end: str, said: str, noted: bool, witness: Path, path: Path) -> str:
    """What is wrong with an end that looks regular; empty if nothing is."""
    if witness.exists():
        return "code in the file was executed"
    if case.end not in ("either", end):
        return f"a {case.end} was due, but there was a {end}: {said}"
    if end == "result":
        return "what was rescued was not mentioned" if case.warns and not noted else ""
    if len(said) > LONGEST_SENTENCE or "\n" in said.replace(path.name, ""):
        return f"not one sentence: {said}"
    names = {path.name, path.stem, *case.named}
    return "" if any(str(UserError(name)) in said for name in names) else f"the sentence does not name {path.name}: {said}"
