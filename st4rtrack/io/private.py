"""What is nobody else's business, taken out of text before it is shown, logged or written."""

import os
import re

_CREDENTIALS = re.compile(
    r"(://)[^\s/@'\"]+@|(:/)[^\s/@:'\"]+:[^\s/@'\"]+@"
)  # of an address, or of one that was taken for a path
_TOKENS = re.compile(r"\b(?:hf_|ghp_|github_pat_|sk-|AKIA)[A-Za-z0-9_-]{12,}")
_PARAMETERS = re.compile(r"(?i)([?&](?:token|key|sig|signature|password|secret|access_token|x-amz-[a-z-]+)=)[^&\s'\"]+")


def without_secrets(text: str) -> str:
    """The same text without credentials in addresses (`//user:password@`, `?token=`) and without tokens of hubs."""
    text = _CREDENTIALS.sub(lambda found: f"{found[1] or found[2]}***@", text)
    text = _PARAMETERS.sub(r"\1***", text)
    return _TOKENS.sub("***", text)


def without_home(text: str) -> str:
    """The same text with `~` where the user's home folder stands, which often holds a person's name."""
    home = os.path.expanduser("~")  # noqa: PTH111 (pathlib raises for a user without a home folder)
    return text if len(home) < 2 else re.sub(rf"{re.escape(home)}(?=[/\\]|\b)", "~", text)
