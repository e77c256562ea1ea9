"""The one-click fixes of findings. Each says beforehand how many pictures it touches, and each can be taken back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from studio.captions.store import CaptionStore
from studio.dataset import derived
from studio.dataset.duplicates import find_duplicates, mark, resolve
from studio.dataset.folder import captions_lock, dataset_lock, look, stem_of
from studio.dataset.formats import same_stem
from studio.dataset.remade import WAYS
from studio.dataset.renaming import rename_pictures
from studio.dataset.scan import scan
from studio.dataset.set_aside import free_name, remove_pictures
from studio.errors import InputError
from studio.findings import Finding

if TYPE_CHECKING:
    from studio.dataset.derived import Progress
    from studio.dataset.scan import Scan
    from studio.project import Project

FIXES: dict[str, str] = {
    "set-aside": "Set aside",
    "convert": "Convert",
    "flatten": "Flatten onto white",
    "trim": "Trim the bars",
    "add-trigger": "Put the trigger word first",
    "caption-trigger": "Use the trigger word as caption",
    "keep-best": "Keep the best of each",
    "rename": "Rename",
    "join-lines": "Join lines",
    "to-utf8": "Save as UTF-8",
    "approve": "Approve",
}
"""Every one-click remedy (`Finding.action`) with the label of its button."""
MAKES = frozenset(WAYS)
"""Fixes that make a new file of a picture and keep the imported copy; those of many pictures are a job."""


def touches(seen: Scan, finding: Finding) -> int:
    """How many pictures the finding's fix would change now."""
    return seen.facts.once(
        ("touches", finding.code, finding.action), lambda: _touches(seen, finding), finding.where, mark(seen)
    )


def _touches(seen: Scan, finding: Finding) -> int:
    names = set(finding.where)
    if finding.action == "keep-best":
        return sum(len(g.names) - 1 for g in find_duplicates(seen) if names.issuperset(g.names))
    if finding.action == "rename":
        stems = {stem_of(n) for n in names}
        return len(names) - len(stems)
    return sum(p.name in names for p in seen)


def fix_finding(
    project: Project, action: str, names: Iterable[str] = (), progress: Progress | None = None
) -> list[str]:
    """Do a one-click remedy, on `names` (a finding's `where`); the names that the changed pictures have now.

    Nothing is lost: pictures are set aside, imported copies are kept, captions can be undone. Names that are no longer
    there are passed over. Raises InputError for an unknown action.
    """
    if action not in FIXES:
        raise InputError(
            f"There is no fix called '{action}'.",
            "The studio does not know how to do that by itself.",
            f"Use one of: {', '.join(FIXES)}.",
        )
    there = look(project.dataset_dir).pictures
    chosen = [n for n in names if n in there]
    store = CaptionStore(project)
    if action == "set-aside":
        return remove_pictures(project, chosen, "found by the audit")
    if action in MAKES:
        return derived.make(project, chosen, action, progress=progress).changed
    if action == "keep-best":
        return _keep_best(project, set(chosen))
    if action == "rename":
        return _rename(project, chosen)
    if action == "add-trigger":
        return list(store.add_trigger(chosen).changed)
    if action == "caption-trigger":
        captions = store.all()
        bare = {n: store.trigger for n in chosen if not captions[n].text}
        return (
            list(
                store.set_many(
                    bare, what=f"trigger word as caption of {len(bare)}", expected=dict.fromkeys(bare, "")
                ).changed
            )
            if bare
            else []
        )
    if action == "join-lines":
        return list(
            store.rewrite(chosen, f"lines joined in {len(chosen)}", lambda t: " ".join(t.split())).changed
        )
    if action == "to-utf8":
        return list(store.to_utf8(chosen).changed)
    return list(store.approve(chosen).changed)


def _keep_best(project: Project, names: set[str]) -> list[str]:
    """Resolve the groups of duplicates that lie within `names`."""
    gone: list[str] = []
    for group in find_duplicates(scan(project)):
        if names.issuperset(group.names):
            gone += resolve(project, group)
    return gone


def _rename(project: Project, names: list[str]) -> list[str]:
    """Give pictures that share a stem one each; a renamed one takes a copy of the caption along."""
    renamed: dict[str, str] = {}
    with dataset_lock(project), captions_lock(project):
        listing = look(project.dataset_dir)
        taken = {same_stem(stem_of(n)) for n in listing.pictures} | {same_stem(s) for s in listing.captions}
        seen: set[str] = set()
        for name in listing.pictures:
            stem = stem_of(name)
            if stem in seen and name in names:
                target = free_name(name, taken)
                taken.add(same_stem(stem_of(target)))
                renamed[name] = target
            seen.add(stem)
        rename_pictures(project, renamed)
    if renamed:
        project.decided("pictures renamed", pictures=list(renamed.values()))
    return list(renamed.values())
