"""For mkdocs: links out of the documentation become plain names, since those files are part of the code and not of the site."""

import re
from typing import Any


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Called by mkdocs with the text of each page."""
    return re.sub(r"(?<!!)\[([^\]]+)\]\(\.\./([^)]+)\)", _named, markdown)


def _named(link: re.Match[str]) -> str:
    text, path = link.groups()
    return f"`{path}`" if text.strip("`") in path else f"{text} (`{path}`)"
