"""Safe parsing of untrusted JSON, comparison of JSON trees, and redaction of credentials and home paths."""

import json
import os
import re
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


_CREDENTIALS = re.compile(
    r"(://)[^\s/@'\"]+@|(:/)[^\s/@:'\"]+:[^\s/@'\"]+@"
)  # in a URL, or in a URL that was parsed as a path (one slash)
_TOKENS = re.compile(r"\b(?:hf_|ghp_|github_pat_|sk-|AKIA)[A-Za-z0-9_-]{12,}")
_PARAMETERS = re.compile(r"(?i)([?&](?:token|key|sig|signature|password|secret|access_token|x-amz-[a-z-]+)=)[^&\s'\"]+")


def redacted(text: str) -> str:
    """Redact credentials in URLs (`//user:password@`, `?token=`) and access tokens of model and code hubs."""
    text = _CREDENTIALS.sub(lambda found: f"{found[1] or found[2]}***@", text)
    text = _PARAMETERS.sub(r"\1***", text)
    return _TOKENS.sub("***", text)


def without_home(text: str) -> str:
    """Replace the path of the user's home folder, which often contains a person's name, by `~`."""
    home = os.path.expanduser("~")  # noqa: PTH111 (pathlib raises for a user without a home folder)
    return text if len(home) < 2 else re.sub(rf"{re.escape(home)}(?=[/\\]|\b)", "~", text)


def short(error: Exception) -> str:
    """The message of an exception on one line of bounded length."""
    return " ".join(str(error).split())[:160] or type(error).__name__
