"""Safe parsing of untrusted JSON, and comparison of JSON trees."""

import json
from typing import Any


def parse_json(text: str | bytes) -> Any:
    """Parse untrusted JSON.

    Raises:
        ValueError: the text is not JSON, is nested too deeply, or has numbers of thousands of digits.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def differences(before: dict[str, Any], now: dict[str, Any], prefix: str = "") -> list[str]:
    """Descriptions of the differences between two trees of plain values, one per leaf."""
    found = []
    for name in sorted(set(before) | set(now)):
        old, new = before.get(name), now.get(name)
        if isinstance(old, dict) and isinstance(new, dict):
            found += differences(old, new, f"{prefix}{name}.")
        elif old != new:
            found.append(f"{prefix}{name} was {json.dumps(old)}, now {json.dumps(new)}")
    return found
