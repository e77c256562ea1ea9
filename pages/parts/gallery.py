"""Pictures on a page: a paged gallery of thumbnails, one picture large, and the crop drawn on a picture."""

from __future__ import annotations

import base64
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


def data_uri(path: Path) -> str:
    """A small picture as text, for tables; empty when it is not there."""
    try:
        return "data:image/webp;base64," + base64.b64encode(path.read_bytes()).decode("ascii")
    except OSError:
        return ""


def crop_svg(picture: Picture, settings: TrainingSettings) -> str:
    """The picture with what the trainer sees in full colour and what it cuts off dimmed, as SVG."""
    placed = place(picture.width, picture.height, settings)
    left, top, right, bottom = placed.crop_in(picture.width, picture.height)
    w, h = picture.width, picture.height
    line = max(w, h) / 90
    inner = f"M{left:.1f} {top:.1f}H{right:.1f}V{bottom:.1f}H{left:.1f}Z"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="0 0 {w} {h}" '
        f'width="{w}" height="{h}" role="img" aria-label="{html.escape(picture.name)}">'
        f'<image href="{data_uri(picture.thumb)}" width="{w}" height="{h}" preserveAspectRatio="none"/>'
        f'<path d="M0 0H{w}V{h}H0Z{inner}" fill="#101716" fill-opacity=".62" fill-rule="evenodd"/>'
        f'<path d="{inner}" fill="none" stroke="#2dd4bf" stroke-width="{line:.1f}"/></svg>'
    )
