"""One edit over many captions; every change is shown before it is made, and only what was chosen is touched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import streamlit as st

from pages.parts.caption_tools import done
from pages.parts.caption_words import diff
from pages.parts.flash import act
from pages.parts.gallery import paged, short
from studio.captions.edits import EDITS, Change, Edit, EditKind, apply, preview
from studio.captions.reading import Caption
from studio.captions.store import CaptionStore
from studio.guidance import count_words
from studio.project import Project

_FINDS: tuple[EditKind, ...] = ("replace", "remove_tag", "rename_tag")
_ADDS: tuple[EditKind, ...] = ("prepend", "append")


def bulk(
    project: Project, captions: Mapping[str, Caption], names: Sequence[str], marked: Sequence[str]
) -> None:
    """The whole box: what to do, in which captions, what changes, and the button that does it."""
    edit = _edit()
    chosen = _scope(captions, names, marked)
    if edit is None:
        return
    changes = preview({n: captions[n] for n in chosen}, edit, project.intent.trigger)
    if not changes:
        st.markdown(":gray[Nothing would change.]")
        return
    st.markdown(f"**Changes {count_words(len(changes), 'caption')}**")
    shown, switch = paged(changes, key="bulk_page", per_page=5)
    for change in shown:
        before, after = diff(change.before, change.after)
        with st.container(border=True, gap="xxsmall", key=f"change_{change.name}"):
            st.caption(short(change.name, 40))
            st.markdown(f"{before}  \n{after}")
    switch()
    st.button(f"Change {count_words(len(changes), 'caption')}", key="bulk_go", icon=":material/done_all:", on_click=act,
              args=(_change, project, changes, edit))  # fmt: skip


def _edit() -> Edit | None:
    """The edit as it is filled in; None, with a word about what is missing, while it is not whole."""
    kind: EditKind = st.selectbox("What to do", list(EDITS), key="bulk_kind", format_func=lambda k: EDITS[k])
    find = text = ""
    regex = case = whole = False
    with st.container(horizontal=True, vertical_alignment="bottom"):
        if kind in _FINDS:
            label = "Search for" if kind == "replace" else "Tags, separated by commas"
            find = st.text_input(label, key="bulk_find", live=True) or ""
        if kind in ("replace", "rename_tag", *_ADDS):
            label = {"replace": "Replace by", "rename_tag": "New name"}.get(kind, "Words to add")
            text = st.text_input(label, key="bulk_text", live=True) or ""
    if kind == "replace":
        with st.container(horizontal=True):
            whole = st.checkbox("Whole words only", key="bulk_whole")
            case = st.checkbox("Upper and lower case differ", key="bulk_case")
            regex = st.checkbox(
                "Regular expression", key="bulk_regex", help="For those who know them: (a|b), \\1 and so on."
            )
    if (kind in _FINDS and not find.strip()) or (kind in _ADDS and not text.strip(" ,")):
        st.caption("Type the words to see what changes.")
        return None
    if kind == "rename_tag" and not text.strip(" ,"):
        st.caption("Type the new name to see what changes.")
        return None
    return Edit(kind=kind, find=find[:1000], text=text[:5000], regex=regex, match_case=case, whole_word=whole)


def _scope(captions: Mapping[str, Caption], names: Sequence[str], marked: Sequence[str]) -> Sequence[str]:
    """The captions that the edit is about: marked ones when there are any, else those that the filters show."""
    scopes: dict[str, tuple[str, Sequence[str]]] = {}
    if marked:
        scopes["marked"] = (f"The {len(marked)} marked", marked)
    if 0 < len(names) < len(captions):
        scopes["shown"] = (f"The {len(names)} shown", names)
    scopes["all"] = (f"All {len(captions)} captions", list(captions))
    if len(scopes) == 1:
        return scopes["all"][1]
    if st.session_state.get("bulk_scope") not in scopes:
        st.session_state["bulk_scope"] = next(iter(scopes))
    chosen = st.segmented_control(
        "In", list(scopes), key="bulk_scope", required=True, format_func=lambda s: scopes[s][0]
    )
    return scopes[chosen][1]


def _change(project: Project, changes: list[Change], edit: Edit) -> None:
    result = apply(CaptionStore(project), changes, what=edit.words)
    st.session_state["bulk_find"] = st.session_state["bulk_text"] = ""
    done(result, f"{count_words(len(result.changed), 'caption')} changed: {edit.words}.", project)
