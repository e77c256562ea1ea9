"""Where each picture came from, how often it is repeated and what it is for: `<project>/pictures.json`.

Repeats come from kohya's `N_name` folders, regularisation from a folder called so; both can be set by the user. A
picture without an entry is a training picture with one repeat.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from studio import files
from studio.dataset.folder import look
from studio.dataset.unchanged import Unchanged

if TYPE_CHECKING:
    from studio.project import Project


@dataclass(frozen=True)
class Origin:
    """source: what the file was called.  added: when it came in.  repeats: 0 when nothing was said.

    regularisation: shows what the base model already makes of the class, instead of what is taught (`is_reg`).
    """

    source: str
    added: str
    repeats: int = 0
    regularisation: bool = False


_REGULARISATION = {
    "reg", "regs", "reg_data", "reg_images", "reg_dir", "regularisation", "regularization", "regularisation_images",
    "regularization_images", "class_images", "prior", "prior_images",
}  # fmt: skip


def says_regularisation(label: str) -> bool:
    """Whether a file lies in a folder called `reg`, `regularisation`, `class_images` or alike, as kohya's guides do."""
    parents = PurePosixPath(label.replace("\\", "/")).parts[:-1]
    # inside an archive the label begins with the archive's name: "set.zip: reg/1_reg/a.png"
    last = (p.rsplit(": ", 1)[-1].strip().lower() for p in parents)
    return any(p.replace(" ", "_").replace("-", "_") in _REGULARISATION for p in last)


def _read(path: Path) -> dict[str, Origin]:
    return {
        n: Origin(
            str(o.get("source", "")), str(o.get("added", "")), int(o.get("repeats", 0)), o.get("regularisation") is True
        )
        for n, o in (files.read_json(path) or {}).items()
    }  # fmt: skip


ORIGINS = "pictures.json"
_known: Unchanged[dict[str, Origin]] = Unchanged(_read, {})


def for_regularisation(folder: Path) -> frozenset[str]:
    """Names of all pictures that were ever marked for regularisation in the project of this folder."""
    return frozenset(n for n, o in _known.of(folder / ORIGINS).items() if o.regularisation)


def all_origins(project: Project) -> dict[str, Origin]:
    """What is known, by picture name. The file is read again only when it changed."""
    return dict(_origins(project))


def _origins(project: Project) -> dict[str, Origin]:
    """`all_origins`, the same object while the file does not change; not to be changed."""
    return _known.of(project.folder / ORIGINS)


def add(project: Project, new: Mapping[str, Origin]) -> list[str]:
    """Remember origins; a picture that is known keeps its first one, but takes new repeats. Names of the pictures that
    are new and for regularisation. Needs the dataset lock."""
    if not new:
        return []
    marked = []
    known = all_origins(project)
    for name, origin in new.items():
        old = known.get(name)
        if old is None:
            said = origin.regularisation or says_regularisation(origin.source)
            known[name] = replace(origin, regularisation=said)
            marked += [name] if said else []
        else:
            known[name] = replace(old, repeats=origin.repeats or old.repeats)
    _save(project, known)
    return marked


def change(
    project: Project, names: Iterable[str], *, repeats: int | None = None, regularisation: bool | None = None
) -> list[str]:
    """Set what was given for pictures, also for those without an entry; the names that changed. Needs the dataset lock."""
    known = all_origins(project)
    changed = []
    for name in names:
        old = known.get(name, Origin("", ""))
        new = replace(
            old,
            repeats=old.repeats if repeats is None else repeats,
            regularisation=old.regularisation if regularisation is None else regularisation,
        )
        if new != old:
            known[name] = new
            changed.append(name)
    if changed:
        _save(project, known)
    return changed


def renamed(project: Project, names: Mapping[str, str]) -> None:
    """Pictures are called otherwise now (old name -> new name): what is known goes along. Told twice it does nothing.
    Needs the dataset lock."""
    known = all_origins(project)
    moved = {new: known.pop(old) for old, new in names.items() if old != new and old in known}
    if moved:
        _save(project, known | moved)


def _save(project: Project, known: Mapping[str, Origin]) -> None:
    plain = {
        n: {
            "source": o.source,
            "added": o.added,
            **({"repeats": o.repeats} if o.repeats else {}),
            **({"regularisation": True} if o.regularisation else {}),
        }
        for n, o in sorted(known.items())
    }
    files.write_json(project.folder / ORIGINS, plain)


def picture_repeats(project: Project) -> dict[str, int]:
    """Repeats of the pictures in the dataset that came from an `N_name` folder; others are not in it."""
    return dict(roles(project).repeats)


def regularisation_pictures(project: Project) -> set[str]:
    """Names of the pictures in the dataset that are there for regularisation."""
    return set(roles(project).regularisation)


@dataclass(frozen=True)
class Roles:
    """Of the pictures in the dataset: those with repeats of their own, and those for regularisation.

    teaching: how often all training pictures are shown before the setting `repeats`.
    """

    repeats: Mapping[str, int]
    regularisation: frozenset[str]
    teaching: int


def roles(project: Project) -> Roles:
    """What `pictures.json` says of the pictures that are there: the same object while neither changes, so that pages,
    which ask several times at each rerun, go through all pictures once."""
    known, there = _origins(project), look(project.dataset_dir).pictures
    have = _roles.get(project.folder)
    if have is None or have[0] is not known or have[1] is not there:
        repeats = {n: o.repeats for n, o in known.items() if o.repeats > 0 and n in there}
        extra = frozenset(n for n, o in known.items() if o.regularisation and n in there)
        teaching = sum(repeats.get(n, 1) for n in there if n not in extra)
        if len(_roles) > 16:
            _roles.clear()
        have = _roles[project.folder] = (known, there, Roles(repeats, extra, teaching))
    return have[2]


_roles: dict[Path, tuple[object, object, Roles]] = {}
