"""Captions: a table to edit in place, one picture at a time, tags with counts, and bulk edits that show what they change."""

import difflib
import re
from typing import Any

import pandas as pd
import streamlit as st

from pages.parts.context import advanced, require_project
from pages.parts.findings import show_findings
from pages.parts.flash import act, say
from pages.parts.form import synced
from pages.parts.gallery import data_uri, fit, paged, short, size_words, thumbs
from pages.parts.nav import link
from pages.parts.next import go_on, what_next
from pages.parts.page import page
from pages.parts.words import plain
from studio import guidance
from studio.captions.edits import EDITS, Change, Edit, apply, preview
from studio.captions.stats import tag_counts, token_count, token_limit
from studio.captions.store import Caption, CaptionStore, EditResult
from studio.captions.text import tags as tags_of
from studio.captions.text import without_trigger
from studio.dataset.gate import FIXES, fix_finding
from studio.dataset.scan import Scan, scan
from studio.findings import Finding, blocking
from studio.guidance import about_captions, count_words
from studio.interview import change_trigger, check_trigger
from studio.models import BaseModelEntry, get_model
from studio.project import Project

ROWS = 25
TAGS_SHOWN = 40
AUTHORS = {"person": "written by you", "import": "came with the picture", "": ""}
STATUS = {
    "empty": ":orange-badge[:material/edit: empty]",
    "needs review": ":blue-badge[:material/visibility: needs review]",
    "approved": ":green-badge[:material/check: approved]",
}
SHOW = {"all": "All", "empty": "Empty", "needs review": "Needs review", "approved": "Approved"}
STYLES = {
    "tags": "Write tags, separated by commas: what is seen, the most important first.",
    "sentences": "Write short plain words or a sentence: what is seen.",
}


# --- doing


def done(result: EditResult, words: str, project: Project) -> None:
    """Say what was written, with the way back."""
    if result.changed:
        say(words, undo=lambda: undo(project), findings=list(result.skipped))
    elif result.skipped:
        say("Nothing was changed.", findings=list(result.skipped))
    fresh_table()


def fresh_table() -> None:
    """Draw the table anew from the disk."""
    st.session_state["table_round"] = st.session_state.get("table_round", 0) + 1


def undo(project: Project) -> None:
    """Take back the last change of captions, also one of another visit."""
    result = CaptionStore(project).undo()
    say(
        f"Undone: {result.what}.",
        undo=lambda: redo(project),
        undo_label="Do it again",
        findings=list(result.skipped),
    )
    fresh_table()


def redo(project: Project) -> None:
    """Do again what was undone."""
    result = CaptionStore(project).redo()
    say(f"Done again: {result.what}.", undo=lambda: undo(project), findings=list(result.skipped))
    fresh_table()


def edited(project: Project, key: str, names: list[str], before: dict[str, str]) -> None:
    """Store the cells that were just changed in the table; each one once."""
    rows: dict[int, dict[str, Any]] = st.session_state[key].get("edited_rows", {})
    told: dict[tuple[int, str], Any] = st.session_state.setdefault(f"{key}_told", {})
    store = CaptionStore(project)
    for row, cells in rows.items():
        name = names[row]
        for column, value in cells.items():
            if told.get((row, column), _NOTHING) == value:
                continue
            told[row, column] = value
            if column == "Caption":
                expected = before.get(name, "") if (row, "seen") not in told else told[row, "seen"]
                result = store.set(name, value or "", expected=expected)
                now = store.get(name).text
                told[row, "seen"] = now
                if result.skipped:
                    say("Nothing was changed.", findings=list(result.skipped))
            elif column == "Approved" and value:
                store.approve([name])


_NOTHING = object()


def mend(project: Project, finding: Finding) -> None:
    """Do a finding's one-click remedy."""
    changed = fix_finding(project, finding.action, finding.where)
    fresh_table()
    say(f"{FIXES[finding.action]}: {count_words(len(changed), 'caption')}.", undo=lambda: undo(project))


# --- filters


def pick_tags(captions: dict[str, Caption], trigger: str) -> list[str]:
    """The tags with their counts; clicked ones filter."""
    counts = tag_counts(captions, trigger).most_common()
    if not counts:
        return []
    query = st.text_input(
        "Find a tag",
        key="tag_query",
        type="search",
        label_visibility="collapsed",
        placeholder="Find a tag",
        live=True,
    )
    shown = [(t, n) for t, n in counts if not query or query.lower() in t.lower()]
    chosen = [t for t in st.session_state.get("tags") or [] if t in dict(counts)]
    some = dict(shown[:TAGS_SHOWN]) | {t: dict(counts)[t] for t in chosen}
    picked = st.pills("Tags", list(some), key="tags", selection_mode="multi", label_visibility="collapsed", wrap=True,
                      format_func=lambda t: f"{plain(t, 30)} · {some[t]}")  # fmt: skip
    if len(shown) > TAGS_SHOWN:
        st.caption(f"and {len(shown) - TAGS_SHOWN} rarer ones")
    return list(picked or [])


def filtered(captions: dict[str, Caption], trigger: str, picked: list[str]) -> list[str]:
    """The names that the filters let through."""
    count = {s: sum(s in ("all", c.status) for c in captions.values()) for s in SHOW}
    with st.container(horizontal=True, vertical_alignment="bottom"):
        query = st.text_input(
            "Find", key="caption_query", type="search", placeholder="Name or words", live=True
        )
        status = st.segmented_control("Show", list(SHOW), key="caption_show", default="all", required=True,
                                      format_func=lambda s: f"{SHOW[s]} {count[s]}")  # fmt: skip
    wanted = {t.casefold() for t in picked}
    names = []
    for name, caption in captions.items():
        if status not in ("all", caption.status):
            continue
        if query and query.lower() not in f"{name} {caption.text}".lower():
            continue
        if wanted and not wanted <= {t.casefold() for t in tags_of(without_trigger(caption.text, trigger))}:
            continue
        names.append(name)
    return names


# --- the table


def table_frame(
    project: Project, seen: Scan, captions: dict[str, Caption], texts: dict[str, str]
) -> tuple[str, pd.DataFrame]:
    """The table's key and content. Both stay while somebody types: a table whose content changes below an open cell loses
    what is typed into it. Only when the disk says something else than what stands in the cells, it is made anew."""
    key = table_key(project, tuple(texts))
    made: pd.DataFrame | None = st.session_state.get(f"{key}_frame")
    if made is not None:
        changed = st.session_state.get(key, {}).get("edited_rows", {})
        cells = [changed.get(i, {}).get("Caption", told) or "" for i, told in enumerate(made["Caption"])]
        if cells == list(texts.values()):
            return key, made
        fresh_table()
        key = table_key(project, tuple(texts))
    small = thumbs(seen)
    made = pd.DataFrame(
        {
            "Picture": [data_uri(p) if (p := small(n)) else "" for n in texts],
            "Caption": list(texts.values()),
            "Approved": [captions[n].status == "approved" for n in texts],
            "File": list(texts),
        }
    )
    st.session_state[f"{key}_frame"] = made
    return key, made


def table_key(project: Project, rows: tuple[str, ...]) -> str:
    """What tells this table from one with other rows, or from the same one before it was drawn anew."""
    return f"captions_{project.slug}_{hash(rows)}_{st.session_state.get('table_round', 0)}"


def table(project: Project, seen: Scan, captions: dict[str, Caption], names: list[str]) -> None:
    """All captions, edited in place, a page at a time."""
    if not names:
        st.caption("No caption fits.")
        return
    shown, switch = paged(names, key="captions_page", per_page=ROWS)
    rows = list(shown)
    texts = {n: without_trigger(captions[n].text, project.intent.trigger) for n in rows}
    key, frame = table_frame(project, seen, captions, texts)
    st.data_editor(
        frame,
        key=key,
        on_change=act,
        args=(edited, project, key, rows, {n: captions[n].text for n in rows}),
        row_height=72,
        height=min(620, 42 + 72 * len(rows)),
        hide_index=True,
        disabled=["File", "Picture"],
        column_config={
            "Picture": st.column_config.ImageColumn(width=76),
            "Caption": st.column_config.TextColumn(
                width=400,
                help="Type, or press Enter to change. Saved at once; the trigger word goes in front by itself.",
            ),
            "Approved": st.column_config.CheckboxColumn(width=90, help="Tick when the words are right."),
            "File": st.column_config.TextColumn(width=130),
        },
        alt="Captions, one row a picture",
    )
    switch()


# --- one at a time


def save_card(project: Project, name: str, key: str, seen_text: str) -> None:
    """Store what was typed on the card."""
    result = CaptionStore(project).set(name, st.session_state[key], expected=seen_text)
    if result.skipped:
        say("Nothing was changed.", findings=list(result.skipped))
    fresh_table()


def approve_next(project: Project, name: str, key: str, count: int) -> None:
    """Approve (storing what was typed) and go on."""
    store = CaptionStore(project)
    typed, caption = str(st.session_state.get(key, "")), store.get(name)
    if not typed.strip():
        say("Write some words first, or skip this picture.")
        return
    if typed.strip() != caption.text:
        store.set(name, typed)
    store.approve([name])
    fresh_table()
    move(1, count)


def move(by: int, count: int) -> None:
    """Go to another picture."""
    st.session_state["card_at"] = (int(st.session_state.get("card_at", 0)) + by) % max(1, count)


def card(
    project: Project, seen: Scan, captions: dict[str, Caption], names: list[str], entry: BaseModelEntry
) -> None:
    """One picture, large, with its caption."""
    if not names:
        st.caption("No caption fits.")
        return
    at = int(st.session_state.get("card_at", 0)) % len(names)
    name = names[at]
    caption, picture = captions[name], seen.get(name)
    left, right = st.columns([5, 4], gap="large")
    with left:
        if picture is None or picture.error:
            st.markdown(":red[:material/broken_image:] cannot be read")
        else:
            st.image(str(seen.folder / name), width=fit(picture, 440, 520), alt=caption.text or name)
        st.caption(f"{short(name, 50)} · {size_words(picture) if picture else ''}")
    with right:
        st.caption(f"{at + 1} of {len(names)}")
        key = f"card_{project.slug}_{name}"
        synced(key, caption.text)
        st.text_area("Caption", key=key, height=160, on_change=act, args=(save_card, project, name, key, caption.text),
                     help=f"{STYLES[entry.caption_style]} The trigger word is put in front by itself.")  # fmt: skip
        tokens(str(st.session_state[key]), entry, project)
        by = AUTHORS.get(caption.author, f"written by {caption.author}")
        st.markdown(STATUS[caption.status] + (f" :small[:gray[{by}]]" if by else ""))
        if caption.outside:
            st.caption(":material/info: Another program changed this caption.")
        with st.container(horizontal=True, vertical_alignment="center"):
            st.button(
                "Previous",
                key="card_prev",
                icon=":material/arrow_back:",
                on_click=move,
                args=(-1, len(names)),
            )
            st.button(
                "Skip", key="card_next", icon=":material/arrow_forward:", on_click=move, args=(1, len(names))
            )
            st.button("Approve and go on", key="card_ok", icon=":material/check:", on_click=act,
                      args=(approve_next, project, name, key, len(names)), shortcut="Ctrl+Enter")  # fmt: skip


def tokens(text: str, entry: BaseModelEntry, project: Project) -> None:
    """How much of what the base model reads is used."""
    count, limit = token_count(text, entry, project.workspace), token_limit(entry, project.workspace)
    if count is None:
        st.caption(f"Length not measured: {entry.title} is not on this computer.")
    elif limit is None:
        st.caption(f"{count_words(count, 'token')}")
    elif count > limit:
        st.markdown(f":orange[:material/warning: {count} of {limit} tokens: the end is not read]")
    else:
        st.caption(f"{count} of {limit} tokens")


# --- many at once


def diff(before: str, after: str) -> tuple[str, str]:
    """Both texts with what differs coloured."""
    a, b = re.findall(r"\s+|[^\s,]+|,", before), re.findall(r"\s+|[^\s,]+|,", after)
    left, right = [], []
    for kind, i, j, k, m in difflib.SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
        gone, came = plain("".join(a[i:j])), plain("".join(b[k:m]))
        left.append(gone if kind == "equal" or not gone.strip() else f":red-background[~~{gone.strip()}~~]")
        right.append(came if kind == "equal" or not came.strip() else f":green-background[{came.strip()}]")
    return "".join(left), "".join(right)


def bulk(project: Project, captions: dict[str, Caption], names: list[str], trigger: str) -> None:
    """One edit over many captions; what it changes is shown before it is done."""
    kind = st.selectbox("What to do", list(EDITS), key="bulk_kind", format_func=lambda k: EDITS[k])
    find = text = ""
    regex = case = whole = False
    with st.container(horizontal=True, vertical_alignment="bottom"):
        if kind in ("replace", "remove_tag", "rename_tag"):
            label = "Search for" if kind == "replace" else "Tags, separated by commas"
            find = st.text_input(label, key="bulk_find", live=True) or ""
        if kind in ("replace", "rename_tag", "prepend", "append"):
            label = {"replace": "Replace by", "rename_tag": "New name"}.get(kind, "Words to add")
            text = st.text_input(label, key="bulk_text", live=True) or ""
    if kind == "replace":
        with st.container(horizontal=True):
            whole = st.checkbox("Whole words only", key="bulk_whole")
            case = st.checkbox("Upper and lower case differ", key="bulk_case")
            regex = st.checkbox(
                "Regular expression", key="bulk_regex", help="For those who know them: (a|b), \\1 and so on."
            )
    some = 0 < len(names) < len(captions)
    scope = "all"
    if some:
        scope = st.segmented_control("In", ["all", "shown"], key="bulk_scope", default="shown", required=True,
                                     format_func=lambda s: f"All {len(captions)} captions" if s == "all" else f"The {len(names)} shown below")  # fmt: skip
    if (kind in ("replace", "remove_tag", "rename_tag") and not find) or (
        kind in ("prepend", "append") and not text
    ):
        st.caption("Type the words to see what changes.")
        return
    if kind == "rename_tag" and not text:
        st.caption("Type the new name to see what changes.")
        return
    edit = Edit(kind=kind, find=find, text=text, regex=regex, match_case=case, whole_word=whole)
    chosen = captions if scope == "all" else {n: captions[n] for n in names}
    changes = preview(chosen, edit, trigger)
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
              args=(change_many, project, changes, edit))  # fmt: skip


def change_many(project: Project, changes: list[Change], edit: Edit) -> None:
    """Do the bulk edit that was shown."""
    result = apply(CaptionStore(project), changes, what=edit.words)
    st.session_state["bulk_find"] = st.session_state["bulk_text"] = ""
    done(result, f"{count_words(len(result.changed), 'caption')} changed: {edit.words}.", project)


def approve_all(project: Project, names: list[str]) -> None:
    """Approve what is shown."""
    result = CaptionStore(project).approve(names)
    done(result, f"{count_words(len(result.changed), 'caption')} approved.", project)


def retrigger(project: Project) -> None:
    """Another trigger word, in the project and in every caption."""
    word = str(st.session_state["new_trigger"]).strip()
    result = change_trigger(project, word)
    done(
        result,
        f"The trigger word is now `{word}`, in {count_words(len(result.changed), 'caption')}.",
        project,
    )


# --- the page


def toolbar(
    project: Project, store: CaptionStore, captions: dict[str, Caption], names: list[str], trigger: str
) -> None:
    """Undo, redo, approve, the trigger word."""
    waiting = [n for n in names if captions[n].status == "needs review"]
    with st.container(horizontal=True, vertical_alignment="center", key="caption_tools"):
        st.button("Undo", key="undo", icon=":material/undo:", disabled=not store.can_undo, on_click=act, args=(undo, project),
                  help=f"Takes back: {store.can_undo}" if store.can_undo else "Nothing to take back")  # fmt: skip
        st.button("Redo", key="redo", icon=":material/redo:", disabled=not store.can_redo, on_click=act, args=(redo, project),
                  help=f"Does again: {store.can_redo}" if store.can_redo else "Nothing to do again")  # fmt: skip
        if waiting:
            st.button(f"Approve the {len(waiting)} shown", key="approve_all", icon=":material/done_all:", on_click=act,
                      args=(approve_all, project, waiting), help="You have read them, and the words are right.")  # fmt: skip
        with st.popover(f"Trigger word: {trigger}", icon=":material/key:", key="trigger_box"):
            st.markdown("It leads every caption, and calls your LoRA up in a prompt.")
            synced("new_trigger", trigger)
            word = (st.text_input("Trigger word", key="new_trigger", live=True, max_chars=40) or "").strip()
            if word != trigger:
                found = check_trigger(word, project.workspace, project.intent.base_model)
                show_findings(found, key="retrigger")
                st.button(f"Change it in {count_words(len(captions), 'caption')}", key="retrigger_go", type="primary",
                          disabled=bool(blocking(found)), on_click=act, args=(retrigger, project))  # fmt: skip


def draw(project: Project) -> None:
    """The whole page of a dataset that has pictures."""
    store, seen = CaptionStore(project), scan(project)
    captions, trigger = store.all(), store.trigger
    entry = get_model(project.workspace, project.intent.base_model)
    found = [f for f in guidance.findings(project) if about_captions(f)]
    bad = blocking(found)
    empty = sum(not c.text for c in captions.values())
    review = sum(c.status == "needs review" for c in captions.values())
    with st.grid(4, min_column_width=130):
        st.metric("Written", f"{len(captions) - empty} of {len(captions)}", border=True)
        st.metric("Approved", str(len(captions) - empty - review), border=True)
        st.metric("Needs review", str(review), border=True)
        st.metric("To mend", str(len(bad)), border=True)
    st.caption(f":material/lightbulb: {STYLES[entry.caption_style]} Name what may change; leave out what you teach. "
               f"`{trigger}` is put in front by itself.")  # fmt: skip
    if found:
        show_findings(
            found, key="caption_noticed", labels=FIXES, on_action=lambda f: mend(project, f), compact=True
        )
    chosen = st.session_state.get("tags") or []
    told = (
        f"Tags: only {', '.join(plain(t, 20) for t in chosen)}"
        if chosen
        else "Tags and how often they occur: click to filter"
    )
    with st.expander(told, icon=":material/sell:", key="tag_box"):
        picked = pick_tags(captions, trigger)
    many = st.expander("Edit many at once", icon=":material/edit_note:", key="bulk", on_change="rerun")
    names = filtered(captions, trigger, picked)
    if many.open:
        with many:
            bulk(project, captions, names, trigger)
    toolbar(project, store, captions, names, trigger)
    views = st.tabs(["Table", "One at a time"], key="caption_view", on_change="rerun")
    if views[0].open:
        with views[0]:
            table(project, seen, captions, names)
    if views[1].open:
        with views[1]:
            card(project, seen, captions, names, entry)
    st.space("small")
    blocked = (
        f"{count_words(empty, 'caption')} missing."
        if empty
        else f"{count_words(len(bad), 'finding')} above must be mended first."
        if bad
        else ""
    )
    go_on("config", "Go on to the settings", blocked=blocked)
    what_next("You choose a preset, or every setting by yourself, and see what the training takes.",
              "Captions can still be changed later; gate 1 is then checked again.")  # fmt: skip
    if advanced():
        link("guide", "How to write captions", icon=":material/menu_book:", topic="captioning")


project = require_project()
with page("Captions", "The words that go with each picture. What they leave out becomes part of the trigger word.", project=project, step="captions"):  # fmt: skip
    if not guidance.picture_count(project):
        st.info(
            "Captions belong to pictures. Add those first.",
            title="No pictures yet",
            icon=":material/photo_library:",
        )
        link("dataset", "Add pictures", icon=":material/arrow_forward:")
    elif guidance.unseen(project) > 60:
        st.info(
            "The studio has not looked at the new pictures yet.",
            title="One step back",
            icon=":material/photo_library:",
        )
        link("dataset", "Look at them on the dataset page", icon=":material/arrow_forward:")
    else:
        draw(project)
