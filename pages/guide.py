"""Guides and the glossary, with one search over both. The address names the guide, so that a "?" can point at it."""

import streamlit as st

from pages.parts.explain_log import explain_log
from pages.parts.nav import PAGES
from pages.parts.page import caught, page
from studio import guides
from studio.errors import NotFoundError

READING_WIDTH = 760
KIND_COLOURS = {"folklore": "orange", "report": "gray", "documentation": "gray"}


def open_guide(topic: str) -> None:
    """Show a guide (or the shelf, for ""): the address says which."""
    if topic:
        st.query_params["topic"] = topic
    else:
        st.query_params.pop("topic", None)
    st.session_state["guide_query"] = ""


def to_guide(label: str, topic: str, *, key: str, icon: str | None = None) -> None:
    """A quiet button that opens a guide. (A page link to the page one is on would look chosen already.)"""
    st.button(label, key=key, type="tertiary", icon=icon, on_click=open_guide, args=(topic,))


def results(query: str) -> None:
    """What the search found, guides and words mixed, the best first."""
    hits = guides.search(query)
    if not hits:
        st.info(
            "Try a single word, such as *rank*, *captions* or *blurry*.", title=f"Nothing found for '{query}'"
        )
        return
    st.caption(f"{len(hits)} found")
    for n, hit in enumerate(hits):
        with st.container(border=True, gap="xsmall", key=f"hit_{n}"):
            if hit.kind == "guide":
                to_guide(
                    f"**{hit.title}**" + (f" · {hit.heading}" if hit.heading else ""),
                    hit.id,
                    key=f"found_{n}",
                    icon=":material/menu_book:",
                )
                st.caption(hit.excerpt)
            else:
                st.markdown(f":gray[:material/spellcheck:] **{hit.title}**")
                st.markdown(hit.excerpt)


def shelf() -> None:
    """All guides as cards, by group."""
    for group in guides.GROUPS:
        st.subheader(group, anchor=False)
        with st.grid(3, min_column_width=260):
            for guide in guides.list_guides(group):
                with st.container(border=True, height="stretch", gap="xsmall"):
                    to_guide(f"**{guide.title}**", guide.id, key=f"card_{guide.id}")
                    st.markdown(guide.summary)
                    st.space("stretch")
                    st.caption(f"{guide.minutes} min")
        st.space("small")


def contents(current: str) -> None:
    """The list beside an open guide."""
    for group in guides.GROUPS:
        st.caption(group)
        with st.container(gap="xxsmall"):
            for guide in guides.list_guides(group):
                if guide.id == current:
                    st.markdown(f":primary[**{guide.title}**]")
                else:
                    to_guide(guide.title, guide.id, key=f"side_{guide.id}")


def reader(topic: str) -> None:
    """One guide, its sources and what to read next."""
    side, middle = st.columns([1, 3.2], gap="large")
    with side:
        to_guide("All guides", "", key="all_guides", icon=":material/arrow_back:")
        contents(topic)
    with middle, st.container(width=READING_WIDTH), caught():
        try:
            guide = guides.get_guide(topic)
        except NotFoundError as e:
            st.warning(e.fix, title=e.what)
            return
        st.header(guide.title, anchor=False)
        st.markdown(f":gray[{guide.summary}]")
        st.markdown(guide.body)
        sources(guide)
        if guide.see:
            st.space("small")
            st.markdown("**Read next**")
            with st.container(horizontal=True):
                for other in guide.see:
                    to_guide(
                        guides.get_guide(other).title,
                        other,
                        key=f"next_{other}",
                        icon=":material/arrow_forward:",
                    )


def sources(guide: guides.Guide) -> None:
    """Where the statements come from, and how far each can be trusted."""
    with st.expander(f"Sources ({len(guide.sources)})", icon=":material/format_quote:"):
        st.caption(
            "Numbers in the text point here. What is marked as folklore was repeated by many and tested by nobody we found."
        )
        for n, source in enumerate(guide.sources, 1):
            colour = KIND_COLOURS.get(source.kind, "green")
            st.markdown(f"**{n}** {source.what} :{colour}-badge[{guides.SOURCE_WORDS[source.kind]}]")


def words() -> None:
    """The glossary: settings with their ranges, and everything else."""
    letter = ""
    with st.container(width=READING_WIDTH):
        for term in guides.glossary():
            if term.term[0].upper() != letter:
                letter = term.term[0].upper()
                st.subheader(letter, anchor=False)
            tail = f" :small[:gray[{term.range_words}]]" if term.range_words else ""
            mark = " :small[:gray[setting]]" if term.setting else ""
            st.markdown(f"**{term.term}**{mark}  \n{term.means}{tail}")


topic = st.query_params.get("topic", "")
if st.session_state.get("_guide_topic") != topic:
    st.session_state["_guide_topic"] = topic
    if topic:
        st.session_state["guide_query"] = ""

with page(
    PAGES["guide"].title,
    "How it all works, in plain words. What is tested and what is only often repeated is kept apart.",
):
    with st.container(horizontal=True, vertical_alignment="bottom"):
        query = st.text_input(
            "Search guides and words",
            type="search",
            key="guide_query",
            live=True,
            placeholder="Such as: captions, blurry, rank",
            persist_state="page",
        )
        view = st.segmented_control(
            "Show",
            ["guides", "words", "log"],
            default="guides",
            required=True,
            key="guide_view",
            bind="query-params",
            format_func=lambda v: {"guides": "Guides", "words": "Glossary", "log": "Explain a log"}[v],
            label_visibility="collapsed",
        )
    st.space("small")
    if query and query.strip():
        results(query.strip())
    elif view == "words":
        words()
    elif view == "log":
        with st.container(width=READING_WIDTH):
            st.subheader("What happened in a training?", anchor=False)
            explain_log()
    elif topic:
        reader(topic)
    else:
        shelf()
