"""What users are told: every sentence is one, names what it is about, and says a way out."""

import re

import pytest

from tests.messages import PLACE, Message, messages

MESSAGES = messages()
COMPOSED = ("io/npz.py", "io/scene/folder.py")
"""Files whose sentences are put together of two, so that half a sentence stands in the source."""
NAMES = ("MoGe",)
"""Proper names that a sentence may begin with."""
WAY_OUT = re.compile(
    r"[;:?]|--|-o\b|\b(must|should|use|give|choose|check|only|needs?|install|make|name|knows|there (is|are)"
    r"|has |at least|expected|takes|not|no|are|above 0)\b"
)
"""Words of a sentence that says what would be right, or what to do."""


def test_they_are_found() -> None:
    assert len(MESSAGES) > 300
    text = next(message.text for message in MESSAGES if message.place.startswith("io/lock.py") and "moved" in message.text)
    assert text.startswith(f"{PLACE} was moved or removed while it was written to; move it back")


@pytest.mark.parametrize("rule", ["one sentence", "begins small", "names a thing", "has a way out"])
def test_the_form_of_every_sentence(rule: str) -> None:
    wrong = [f"{message.place}: {message.text}" for message in MESSAGES if not RULES[rule](message)]
    assert not wrong, f"{rule}:\n" + "\n".join(wrong)


def one_sentence(message: Message) -> bool:
    text = message.text.removesuffix("...")
    return not text.endswith((".", "!")) and "\n" not in text and not re.search(r"[a-z)]\. [A-Z]", text)


def begins_small(message: Message) -> bool:
    first = message.text[0]
    return first.islower() or first in (PLACE, "-", "'") or message.text.startswith(NAMES)


def names_a_thing(message: Message) -> bool:
    """By what is put in, by an option; or it is about what the user gave, or did not give, as a whole."""
    return bool(
        re.search(rf"{PLACE}|--\w|_|\b(name|needs|this|the scene|give|a network|nothing|there is no|the network)\b", message.text)
    )


RULES = {
    "one sentence": one_sentence,
    "begins small": begins_small,
    "names a thing": names_a_thing,
    "has a way out": lambda message: bool(WAY_OUT.search(message.text)) or message.place.startswith(COMPOSED),
}
