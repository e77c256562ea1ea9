"""Pictures on a page: a paged gallery of thumbnails, one picture large, and the crop drawn on a picture."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import streamlit as st

from pages.parts.words import plain
from studio.dataset.buckets import place
from studio.dataset.scan import Picture, Scan
from studio.settings import TrainingSettings

T = TypeVar("T")
PER_PAGE = 24


def thumbs(scan: Scan) -> Callable[[str], Path | None]:
    """A function from a picture's name to its thumbnail, None when it has none."""
    known = {p.name: p.thumb for p in scan if p.error is None}
    return known.get


def paged(
    items: Sequence[T], *, key: str, per_page: int = PER_PAGE
) -> tuple[Sequence[T], Callable[[], None]]:
    """The items of the page that is open, and a function that draws the page switch (to be called below them)."""
    pages = max(1, -(-len(items) // per_page))
    if int(st.session_state.get(key) or 1) > pages:
        st.session_state[key] = pages
    at = int(st.session_state.get(key) or 1)

    def switch() -> None:
        if pages > 1:
            st.pagination(pages, key=key, width="stretch")  # it shows as many numbers as its width holds

    return items[(at - 1) * per_page : at * per_page], switch


def short(name: str, most: int = 18) -> str:
    """A file name that fits below a thumbnail, its end kept."""
    return plain(name, most)


def size_words(picture: Picture) -> str:
    """`1024 × 768`, or that it cannot be read."""
    return "cannot be read" if picture.error else f"{picture.width} × {picture.height}"


def fit(picture: Picture, width: int, height: int) -> int:
    """The width in px at which a picture fills a box as far as it can."""
    return max(1, round(min(width, height * picture.width / max(1, picture.height))))


def crop_html(picture: Picture, settings: TrainingSettings, url: str) -> str:
    """The picture with what the trainer sees in full colour and what it cuts off dimmed, as HTML.

    url: where its thumbnail lies.
    """
    placed = place(picture.width, picture.height, settings)
    left, top, right, bottom = placed.crop_in(picture.width, picture.height)
    w, h = picture.width, picture.height
    words = html.escape(f"{picture.name}, what is trained of it", quote=True)
    inside = f"left:{left / w:.2%};top:{top / h:.2%};width:{(right - left) / w:.2%};height:{(bottom - top) / h:.2%}"
    return (
        '<div style="position:relative;overflow:hidden;line-height:0;border-radius:.25rem">'
        f'<img src="{html.escape(url, quote=True)}" alt="{words}" loading="lazy" '
        f'style="width:100%;aspect-ratio:{w}/{h};object-fit:fill">'
        f'<div style="position:absolute;{inside};box-shadow:0 0 0 999px rgba(16,23,22,.62);'
        'outline:2px solid #2dd4bf;outline-offset:-2px"></div></div>'
    )
