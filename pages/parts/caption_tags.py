"""What is shown of the captions: the tags with their counts, and the filters above the table."""

from __future__ import annotations

from typing import Any

import streamlit as st

from pages.parts.words import plain
from studio.captions.filters import BY, ORDER, SHOW, Filter, Order, Overview

SHOWN = 60
LONGEST_RANGE = 100_000


def tag_list(overview: Overview) -> tuple[frozenset[str], frozenset[str]]:
    """The tags with their counts; those clicked to be in every caption shown, and those to be in none."""
    if not overview.tags:
        st.caption("No tags yet: they come from the captions.")
        return frozenset(), frozenset()
    query = st.text_input(
        "Find a tag",
        key="tag_query",
        type="search",
        label_visibility="collapsed",
        placeholder="Find",
        live=True,
        persist_state="session",
    )
    wanted, unwanted = st.tabs(["With", "Without"], key="tag_side")
    with wanted:
        some = _pills(overview, query or "", "tags", "Only captions with all of these")
    with unwanted:
        none = _pills(overview, query or "", "tags_without", "Only captions with none of these")
    return some, none


def _pills(overview: Overview, query: str, key: str, label: str) -> frozenset[str]:
    counts = overview.counts
    shown = [t for t in counts if query.casefold() in t.casefold()] if query else list(counts)
    chosen = [t for t in st.session_state.get(key) or [] if t in counts]
    offered = list(dict.fromkeys([*chosen, *shown[:SHOWN]]))
    picked = st.pills(label, offered, key=key, selection_mode="multi", label_visibility="collapsed", wrap=True,
                      format_func=lambda t: f"{plain(t, 26)} ·\u00a0{counts[t]}")  # fmt: skip
    if len(shown) > SHOWN:
        st.caption(f"and {len(shown) - SHOWN} rarer ones")
    return frozenset(picked or [])


def filters(overview: Overview, limit: int | None, some: frozenset[str], none: frozenset[str]) -> Filter:
    """The row above the table, and what it lets through."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        query = st.text_input(
            "Find", key="caption_query", type="search", placeholder="Name or words", live=True, width=150
        )
        show = st.segmented_control("Show", list(SHOW), key="caption_show", default="all", required=True, wrap=True,
                                    format_func=lambda s: f"{SHOW[s]} {overview.show[s]}")  # fmt: skip
        more = _more(overview, limit)
    return Filter(query=query or "", tags=some, without=none, show=show, limit=limit, **more)


def order() -> Order:
    """The order that was chosen; by name at first."""
    chosen: Order = st.session_state.get("caption_order") or "name"
    return chosen


def _more(overview: Overview, limit: int | None) -> dict[str, Any]:
    active = sum(
        (
            st.session_state.get("caption_by", "anyone") != "anyone",
            bool(st.session_state.get("caption_outside")),
            bool(st.session_state.get("caption_long")),
            st.session_state.get("caption_measure", "none") != "none",
        )
    )
    told: dict[str, Any] = {}
    label = f"More filters ({active})" if active else "More filters"
    with st.popover(label, icon=":material/tune:", key="caption_more", help="Author, length, order"):
        st.selectbox("Order", list(ORDER), key="caption_order", format_func=lambda o: ORDER[o])
        told["by"] = st.selectbox("Written by", list(BY), key="caption_by", format_func=lambda b: BY[b])
        told["outside"] = st.checkbox(
            f"Only those that another program changed ({overview.outside})", key="caption_outside"
        )
        if limit is not None:
            told["long"] = st.checkbox(
                f"Only those above {limit} tokens ({overview.long})", key="caption_long"
            )
        names = {"none": "Any length", "tokens": "Tokens", "letters": "Letters"}
        measure = st.selectbox("Length", list(names), key="caption_measure", format_func=lambda m: names[m])
        if measure != "none":
            with st.container(horizontal=True):
                least = st.number_input("At least", 0, LONGEST_RANGE, 0, key="caption_least")
                most = st.number_input("At most", 0, LONGEST_RANGE, 75, key="caption_most")
            if least > most:
                st.caption(":orange[The first number is the smaller one: this would show nothing.]")
            told[measure] = (min(least, most), max(least, most))
    return told


def clear_filters() -> None:
    """Show everything again."""
    for key in ("tags", "tags_without"):
        st.session_state[key] = []
    st.session_state.update(
        caption_query="", caption_show="all", caption_by="anyone", caption_outside=False, caption_long=False,
        caption_measure="none",
    )  # fmt: skip
