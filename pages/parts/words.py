"""Words that come from a user or a file, made safe to be shown inside Markdown."""

from __future__ import annotations

import re


def plain(text: str, most: int = 400) -> str:
    """Text without any Markdown meaning, cut in the middle at `most` letters so that the end of a file name stays."""
    if len(text) > most:
        tail = min(7, most // 2)
        text = f"{text[: most - tail - 1]}…{text[-tail:]}"
    return re.sub(r"([\\`*_\[\]$~:|<>#])", r"\\\1", text)
