"""One picture at a time, large, its caption beside it: approve, adjust or skip, also by the keyboard alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

import streamlit as st

from pages.parts.caption_table import add_clash
from pages.parts.caption_words import STYLES, diff, show_tokens, status_line
from pages.parts.flash import act, say
from pages.parts.form import synced
from pages.parts.gallery import fit, short, size_words
from pages.parts.previews import preview_url
from pages.parts.words import plain
from studio.captions.reading import Caption
from studio.captions.store import CaptionStore
from studio.captions.typed import write_typed
from studio.dataset.scan import Scan
from studio.models import BaseModelEntry
from studio.project import Project

_AT, _NAME = "card_at", "card_name"
VERSIONS = 12


def card(
    project: Project,
    seen: Scan,
    captions: Mapping[str, Caption],
    names: Sequence[str],
    entry: BaseModelEntry,
    count: Callable[[str], int | None],
    limit: int | None,
) -> None:
    """Draw one of the pictures that the filters show."""
    at = _place(names)
    name = names[at]
    caption, picture = captions[name], seen.get(name)
    key = f"card_{project.slug}_{name}"
    synced(key, caption.text)
    _buttons(project, name, key, caption, names, at)
    left, right = st.columns([5, 4], gap="medium")
    with left:
        if picture is None or picture.error:
            st.markdown(":red[:material/broken_image:] cannot be read")
        else:
            st.image(preview_url(project, picture), width=fit(picture, 560, 560), alt=caption.text or name)
        st.caption(" · ".join((short(name, 50), *([size_words(picture)] if picture else []))))
    with right:
        # Named after its picture: while the page changes to the next one, nobody types into the wrong field unawares.
        st.text_area(f"Caption of {short(name, 40)}", key=key, height=190, on_change=act, args=(_save, project, name, key, caption.text),
                     help=f"{STYLES[entry.caption_style]} The trigger word is put in front by itself.")  # fmt: skip
        show_tokens(count(str(st.session_state[key])), limit, entry)
        st.markdown(status_line(caption))
        if caption.status != "approved":
            st.caption("Words that you type here count as approved.")
        if caption.outside:
            st.caption(
                ":material/info: Another program changed this caption. It stays as it is until you change or approve it."
            )
        _history(project, name, caption)


def _buttons(project: Project, name: str, key: str, caption: Caption, names: Sequence[str], at: int) -> None:
    before, after = names[(at - 1) % len(names)], names[(at + 1) % len(names)]
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(f"{at + 1} of {len(names)}", width="content")
        st.button("Previous", key="card_prev", icon=":material/arrow_back:", on_click=_go, args=(before, at - 1),
                  shortcut="F8")  # fmt: skip
        st.button("Skip", key="card_next", icon=":material/arrow_forward:", on_click=_go, args=(after, at + 1),
                  shortcut="F9", help="Leaves this caption as it is")  # fmt: skip
        st.button("Approve and go on", key="card_ok", icon=":material/check:", on_click=act,
                  args=(_approve, project, name, key, caption.text, after, at + 1), shortcut="Ctrl+Enter")  # fmt: skip
        if caption.status == "approved":
            st.button("Not right yet", key="card_not", type="tertiary", on_click=act, args=(_doubt, project, name),
                      help="Puts it back among those that need review")  # fmt: skip


def _place(names: Sequence[str]) -> int:
    """Where the card stands among the names: at its picture, or at its old place when that is not shown any more."""
    name = st.session_state.get(_NAME)
    at = names.index(name) if name in names else min(int(st.session_state.get(_AT, 0)), len(names) - 1)
    st.session_state[_AT], st.session_state[_NAME] = at, names[at]
    return at


def _go(name: str, at: int) -> None:
    st.session_state[_NAME], st.session_state[_AT] = name, max(0, at)


def _save(project: Project, name: str, key: str, seen: str) -> bool:
    """Store what was typed on the card; False when somebody else changed the caption meanwhile."""
    clash = write_typed(CaptionStore(project), name, str(st.session_state[key]), seen)
    if clash:
        add_clash(clash)
    return clash is None


def _approve(project: Project, name: str, key: str, seen: str, after: str, at: int) -> None:
    """Approve, storing what was typed, and go on to the picture that stood next."""
    if not str(st.session_state.get(key, "")).strip():
        say("Write some words first, or skip this picture.")
        return
    if _save(project, name, key, seen):
        CaptionStore(project).approve([name])
        _go(after, at)


def _doubt(project: Project, name: str) -> None:
    CaptionStore(project).unapprove([name])


def _history(project: Project, name: str, caption: Caption) -> None:
    """Earlier versions of this caption, newest first, each with what differs from now."""
    box = st.expander("Earlier versions", icon=":material/history:", key="card_history", on_change="rerun")
    if not box.open:
        return
    with box:
        earlier = [v for v in reversed(CaptionStore(project).versions(name)) if not v.current][:VERSIONS]
        if not earlier:
            st.caption("It has never said anything else.")
        for version in earlier:
            with st.container(border=True, gap="xxsmall", key=f"version_{version.number}"):
                since = (
                    datetime.fromisoformat(version.at).astimezone().strftime("%-d %b %Y, %H:%M")
                    if version.at
                    else ""
                )
                st.caption(" · ".join(t for t in (plain(version.by), since) if t))
                st.markdown(diff(caption.text, version.text)[1] or ":gray[no words]")
                if version.text:
                    st.button("Take this one", key=f"version_take_{version.number}", type="tertiary", on_click=act,
                              args=(_restore, project, name, version.number, caption.text))  # fmt: skip


def _restore(project: Project, name: str, number: int, seen: str) -> None:
    CaptionStore(project).restore(name, number, expected=seen)
