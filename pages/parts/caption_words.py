"""How captions are shown as words: their status, their length against what the model reads, what differs between two."""

from __future__ import annotations

import difflib
import re

import streamlit as st

from pages.parts.words import plain
from studio.captions.reading import Caption
from studio.guidance import count_words
from studio.models import BaseModelEntry

STATUS = {
    "empty": ":orange-badge[:material/edit: uncaptioned]",
    "needs review": ":blue-badge[:material/visibility: needs review]",
    "approved": ":green-badge[:material/check: approved]",
}
STYLES = {
    "tags": "Write tags, separated by commas: what is seen, the most important first.",
    "sentences": "Write short plain words or a sentence: what is seen.",
}


def status_line(caption: Caption) -> str:
    """Status and author of a caption, as Markdown."""
    return STATUS[caption.status] + (f" :small[:gray[{plain(caption.by)}]]" if caption.by else "")


def show_tokens(count: int | None, limit: int | None, entry: BaseModelEntry) -> None:
    """How much of what the base model reads is used by a text."""
    if count is None:
        st.caption(f"Length not measured: {entry.title} is not on this computer.")
    elif limit is None:
        st.caption(count_words(count, "token"))
    elif count > limit:
        st.markdown(f":orange[:material/warning: {count} of {limit} tokens: the end is not read]")
    else:
        st.caption(f"{count} of {limit} tokens")


def diff(before: str, after: str) -> tuple[str, str]:
    """Both texts as Markdown, with what differs coloured and, for those who do not see colours, struck or bold."""
    a, b = _pieces(before), _pieces(after)
    left, right = [], []
    for kind, i, j, k, m in difflib.SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
        gone, came = plain("".join(a[i:j]), 2000), plain("".join(b[k:m]), 2000)
        left.append(gone if kind == "equal" or not gone.strip() else f":red-background[~~{gone.strip()}~~] ")
        right.append(
            came if kind == "equal" or not came.strip() else f":green-background[**{came.strip()}**] "
        )
    return "".join(left), "".join(right)


def _pieces(text: str) -> list[str]:
    return re.findall(r"\s+|[^\s,]+|,", text)
