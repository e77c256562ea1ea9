"""What the buttons of the dataset page do: mend, set aside, put back; each said with its way back."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from pages.parts.flash import say
from studio.captions.store import CaptionStore
from studio.dataset.derived import Change, put_back
from studio.dataset.fixes import FIXES, MAKES, fix_finding
from studio.dataset.scan import remove_pictures, restore_pictures, scan
from studio.dataset.set_aside import discard
from studio.dataset.tasks import start_fix, start_scan, start_writing_check
from studio.dataset.unmeasured import COMPARE
from studio.files import human_size
from studio.findings import Finding
from studio.guidance import count_words
from studio.project import Project

SETS_ASIDE = ("set-aside", "keep-best")
PICKED = "picked"
"""Session state: names of the pictures that are ticked in the gallery, on whichever page of it."""
FIX_AT_ONCE = 12  # pictures that are changed while the page waits; more are a job


def mend(project: Project, finding: Finding) -> None:
    """Do a finding's one-click remedy, and offer the way back."""
    if finding.action in MAKES and len(finding.where) > FIX_AT_ONCE:
        start_fix(project, finding.action, finding.where)
        return
    changed = fix_finding(project, finding.action, finding.where)
    if finding.action in MAKES:
        scan(project)
        say_changed(project, changed, [])
    elif not changed:
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


def say_changed(project: Project, changed: Sequence[str], left: Sequence[Finding]) -> None:
    """Say that better files were made of pictures, with the way back."""
    if not changed:
        say(
            "Nothing could be changed: those pictures cannot be read, or their new name is taken.",
            findings=list(left),
        )
        return
    say(
        f"{count_words(len(changed), 'picture')} changed; the imported copies are kept.",
        undo=lambda: bring_copies_back(project, list(changed)),
        findings=list(left),
    )


def bring_copies_back(project: Project, names: list[str]) -> None:
    """Put imported copies in the place of what was made from them."""
    done: Change = put_back(project, names)
    scan(project)
    say(f"{count_words(len(done.changed), 'picture')} as imported again.", findings=done.left)


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
    st.session_state[PICKED] = st.session_state.get(PICKED, frozenset()) - set(gone)
    aside(project, gone)


def delete_for_good(project: Project) -> None:
    """Delete everything that is set aside."""
    gone, freed = discard(project)
    say(f"{count_words(len(gone), 'picture')} deleted; {human_size(freed)} are free again.")


def check(project: Project, finding: Finding) -> None:
    """Start the check that a note of something unmeasured offers."""
    if finding.action == COMPARE:
        start_scan(project)
    else:
        start_writing_check(project)
