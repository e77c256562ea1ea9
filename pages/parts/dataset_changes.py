"""What the buttons of the dataset page do: mend, set aside, put back; each said with its way back."""

from __future__ import annotations

import streamlit as st

from pages.parts.flash import say
from studio.captions.store import CaptionStore
from studio.dataset.duplicates import DuplicateGroup, resolve
from studio.dataset.gate import FIXES, fix_finding
from studio.dataset.scan import remove_pictures, restore_pictures
from studio.findings import Finding
from studio.guidance import count_words
from studio.project import Project

SETS_ASIDE = ("set-aside", "keep-best")


def mend(project: Project, finding: Finding) -> None:
    """Do a finding's one-click remedy, and offer the way back."""
    changed = fix_finding(project, finding.action, finding.where)
    if not changed:
        say("Nothing was left to change.")
    elif finding.action in SETS_ASIDE:
        aside(project, changed)
    elif finding.action == "rename":
        say(f"{count_words(len(changed), 'picture')} renamed.")
    else:
        store = CaptionStore(project)
        undo = None if finding.action == "to-utf8" else lambda: unwrite(project)
        say(
            f"{FIXES[finding.action]}: {count_words(len(changed), 'caption')}.",
            undo=undo if store.can_undo else None,
        )


def unwrite(project: Project) -> None:
    """Take back the last change of captions."""
    done = CaptionStore(project).undo()
    say(f"Undone: {done.what}.", findings=list(done.skipped))


def aside(project: Project, names: list[str]) -> None:
    """Say that pictures were set aside, with the way back."""
    say(f"{count_words(len(names), 'picture')} set aside.", undo=lambda: bring_back(project, names))


def bring_back(project: Project, names: list[str]) -> None:
    """Put pictures that were set aside into the dataset again."""
    back = restore_pictures(project, names)
    say(f"{count_words(len(back), 'picture')} put back.")


def set_aside(project: Project, names: list[str]) -> None:
    """Take pictures out of the dataset."""
    gone = remove_pictures(project, names, "by hand")
    for name in gone:
        st.session_state.pop(f"pick_{name}", None)
    aside(project, gone)


def keep(project: Project, group: DuplicateGroup, name: str) -> None:
    """Keep one of a group of duplicates."""
    aside(project, resolve(project, group, name))
