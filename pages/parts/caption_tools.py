"""What is done to captions as a whole: undo, redo, approve, the trigger word; each said once, with its way back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import streamlit as st

from pages.parts.findings import show_findings
from pages.parts.flash import act, say
from pages.parts.form import synced
from studio.captions.reading import Caption
from studio.captions.store import CaptionStore, EditResult
from studio.captions.tally import tally
from studio.dataset.gate import FIXES, fix_finding
from studio.findings import Finding, blocking
from studio.guidance import count_words
from studio.interview import change_trigger, check_trigger
from studio.project import Project


def done(result: EditResult, words: str, project: Project) -> None:
    """Say what was written, with the way back."""
    if result.changed:
        say(words, undo=lambda: undo(project), findings=list(result.skipped))
    elif result.skipped:
        say("Nothing was changed.", findings=list(result.skipped))


def undo(project: Project) -> None:
    """Take back the last change of captions, also one of another visit."""
    result = CaptionStore(project).undo()
    say(
        f"Undone: {result.what}.",
        undo=lambda: redo(project),
        undo_label="Do it again",
        findings=list(result.skipped),
    )


def redo(project: Project) -> None:
    """Do again what was undone."""
    result = CaptionStore(project).redo()
    say(f"Done again: {result.what}.", undo=lambda: undo(project), findings=list(result.skipped))


def mend(project: Project, finding: Finding) -> None:
    """Do a finding's one-click remedy."""
    changed = fix_finding(project, finding.action, finding.where)
    say(f"{FIXES[finding.action]}: {count_words(len(changed), 'caption')}.", undo=lambda: undo(project))


def approve_many(project: Project, captions: Mapping[str, Caption], names: Sequence[str]) -> None:
    """Approve those of these captions that needed review when the button was drawn."""
    result = CaptionStore(project).approve(n for n in names if captions[n].status == "needs review")
    done(result, f"{count_words(len(result.changed), 'caption')} approved.", project)


def toolbar(
    project: Project,
    store: CaptionStore,
    captions: Mapping[str, Caption],
    names: Sequence[str],
    marked: Sequence[str],
) -> None:
    """The row of buttons above the captions; with marked rows, approving is about those."""
    about = marked or names
    if len(about) == len(captions):  # of all of them it is known
        with tally(captions, project.intent.trigger) as told:
            waiting = told.status["needs review"]
    else:
        waiting = sum(captions[n].status == "needs review" for n in about)
    with st.container(horizontal=True, vertical_alignment="center", key="caption_tools"):
        st.button("Undo", key="undo", icon=":material/undo:", disabled=not store.can_undo, on_click=act, args=(undo, project),
                  help=f"Takes back: {store.can_undo}" if store.can_undo else "Nothing to take back")  # fmt: skip
        st.button("Redo", key="redo", icon=":material/redo:", disabled=not store.can_redo, on_click=act, args=(redo, project),
                  help=f"Does again: {store.can_redo}" if store.can_redo else "Nothing to do again")  # fmt: skip
        if waiting:
            st.button(f"Approve the {waiting} {'marked' if marked else 'shown'}", key="approve_all", icon=":material/done_all:",
                      on_click=act, args=(approve_many, project, captions, about), help="You have read them, and the words are right.")  # fmt: skip
        _trigger(project, len(captions))


def _trigger(project: Project, count: int) -> None:
    trigger = project.intent.trigger
    with st.popover(f"Trigger word: {trigger}", icon=":material/key:", key="trigger_box"):
        st.markdown("It leads every caption, and calls your LoRA up in a prompt.")
        synced("new_trigger", trigger)
        word = (st.text_input("Trigger word", key="new_trigger", live=True, max_chars=40) or "").strip()
        if word != trigger:
            found = check_trigger(word, project.workspace, project.intent.base_model)
            show_findings(found, key="retrigger")
            st.button(f"Change it in {count_words(count, 'caption')}", key="retrigger_go", type="primary",
                      disabled=bool(blocking(found)), on_click=act, args=(_retrigger, project))  # fmt: skip


def _retrigger(project: Project) -> None:
    word = str(st.session_state["new_trigger"]).strip()
    result = change_trigger(project, word)
    done(
        result,
        f"The trigger word is now `{word}`, in {count_words(len(result.changed), 'caption')}.",
        project,
    )
