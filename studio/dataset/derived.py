"""Pictures of the dataset that were made from an imported copy: converted, flattened or trimmed. Nothing is lost.

The copy as it was imported moves to `<project>/imported/`; `list.jsonl` there says what was made of it and can be put
back. A later change starts from the imported copy again, so that nothing is compressed twice. Whatever moment a
process dies at, the imported copy lies in one of the two folders, and the next call goes on. A picture whose name
changes with its format keeps what is known under its name (`studio.dataset.renaming`), there and back.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from studio import files
from studio.dataset.folder import dataset_lock, look, stem_of
from studio.dataset.formats import TooManyPixels
from studio.dataset.remade import WAYS, remade
from studio.dataset.renaming import carry_along
from studio.dataset.unchanged import Unchanged
from studio.errors import BusyError, EnvironmentalError, InputError, NotFoundError
from studio.findings import Finding

if TYPE_CHECKING:
    from studio.project import Project

Progress = Callable[[int, int, str], None]
_RENAMED_AT_ONCE = 64
"""Pictures that lie there under both names for a moment: what goes along with a name is written once for all of them."""


@dataclass(frozen=True)
class Made:
    """What was made of one imported copy.

    name: its name in the dataset now.   original: the name it was imported under.
    file: the imported copy, in the folder `imported`.   sha256: of the imported copy.   made: of the file made from it.
    ways: what was done, of WAYS.   at: when.
    """

    name: str
    original: str
    file: str
    sha256: str
    made: str
    ways: tuple[str, ...]
    at: str


@dataclass
class Change:
    """What a call did: names in the dataset of the pictures it changed, and findings for those it left alone."""

    changed: list[str] = field(default_factory=list)
    left: list[Finding] = field(default_factory=list)


def imported_dir(project: Project) -> Path:
    """Where the copies lie that something was made from."""
    return project.folder / "imported"


def _read(path: Path) -> dict[str, Made]:
    found: dict[str, Made] = {}
    for line in files.read_jsonl(path)[0]:
        name = str(line.get("name", ""))
        if line.get("undone"):
            found.pop(name, None)
        elif line.get("file"):
            texts = {k: str(line.get(k, "")) for k in ("name", "original", "file", "sha256", "made", "at")}
            found[name] = Made(**texts, ways=tuple(str(w) for w in line.get("ways") or ()))
    return found


_known: Unchanged[dict[str, Made]] = Unchanged(_read, {})


def made_pictures(project: Project) -> dict[str, Made]:
    """What was made from imported copies, by the name in the dataset; read again only when it changed.

    Also of pictures that are set aside.
    """
    return dict(_known.of(imported_dir(project) / "list.jsonl"))


def _note(project: Project, record: dict[str, object]) -> None:
    """Add a line to the list, on the disk before anything else happens."""
    path = imported_dir(project) / "list.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    line = (json.dumps(record, ensure_ascii=False) + "\n").encode("utf-8", "surrogatepass")
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(fd, line)
        os.fsync(fd)
    finally:
        os.close(fd)


def make(
    project: Project,
    names: Iterable[str],
    way: str,
    *,
    progress: Progress | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Change:
    """Make a better file of pictures: `convert`, `flatten` or `trim` (what each does: `studio.dataset.remade`).

    Names that are no longer there are passed over. Asked to stop, what was done stays. Undone by `put_back`.
    Raises InputError for another way, EnvironmentalError when the disk refuses, BusyError.
    """
    if way not in WAYS:
        raise InputError(
            f"Pictures cannot be changed by '{way}'.", "", f"Use one of: {', '.join(WAYS)}."
        )  # fmt: skip
    names = list(dict.fromkeys(names))
    done = Change()
    with dataset_lock(project), _told(project):
        _settle(project)
        there = look(project.dataset_dir).pictures
        known = made_pictures(project)
        renamed: dict[str, str] = {}
        for at, name in enumerate(names):
            if should_stop is not None and should_stop():
                break
            if name in there:
                _make_one(project, name, way, known.get(name), done, renamed)
            if len(renamed) >= _RENAMED_AT_ONCE:
                _rename(project, renamed)
            if progress is not None:
                progress(at + 1, len(names), name)
        _rename(project, renamed)
    if done.changed:
        project.decided(f"pictures changed: {way}", pictures=done.changed)
    return done


@contextmanager
def _told(project: Project) -> Iterator[None]:
    """Turns what the disk refuses into an EnvironmentalError."""
    try:
        yield
    except OSError as e:
        raise EnvironmentalError(
            "A picture could not be changed.",
            f"The computer answered: {e.strerror or e}.",
            f"Free some room on the disk of {project.folder}, or check that you may write there. Nothing was lost.",
        ) from e


def _rename(project: Project, names: dict[str, str]) -> None:
    """Give up old names (`names`: old -> new, emptied), once what is known under them has gone along."""
    carry_along(project, names)
    known = made_pictures(project) if names else {}
    for old in names:
        (project.dataset_dir / old).unlink(missing_ok=True)
        if old in known:  # it was made from the same copy, under another ending
            _note(project, {"name": old, "undone": True})
    names.clear()


def _make_one(
    project: Project, name: str, way: str, known: Made | None, done: Change, renamed: dict[str, str]
) -> None:
    path = project.dataset_dir / name
    now = path.read_bytes()
    sha = hashlib.sha256(now).hexdigest()
    if known is not None and sha not in (known.made, known.sha256):
        known = None  # another program wrote it since; what it wrote is the copy to keep
    kept = imported_dir(project) / known.file if known is not None else None
    source = kept.read_bytes() if kept is not None and kept.is_file() else now
    ways = tuple(w for w in WAYS if w == way or (known is not None and w in known.ways))
    try:
        content, suffix = remade(source, ways)
    except TooManyPixels as e:
        _left(done, name, f"It has {e} pixels, which could exhaust the memory.", "Save it in a smaller size.")
        return
    except Exception:  # noqa: BLE001  Pillow's decoders raise whatever a damaged file leads them to
        _left(done, name, "It cannot be decoded.", "Set it aside and export it again.")
        return
    same_kind = (".jpg", ".jpeg")
    old = os.path.splitext(name)[1].lower()
    target = name if suffix == old or {suffix, old} <= set(same_kind) else stem_of(name) + suffix
    if target != name and (project.dataset_dir / target).exists():
        _left(done, name, f"There is a {target} already.", "Rename one of the two first.")
        return
    made = hashlib.sha256(content).hexdigest()
    if made == sha:
        return
    if known is None or kept is None or not kept.is_file():
        original, source_sha = name, sha
        file = _keep(project, name, now, sha)
    else:
        original, source_sha, file = known.original, known.sha256, known.file
    _note(project, asdict(Made(target, original, file, source_sha, made, ways, files.now())))
    files.write_bytes(project.dataset_dir / target, content)
    if target != name:
        renamed[name] = target
    done.changed.append(target)


def _left(done: Change, name: str, why: str, fix: str) -> None:
    done.left.append(
        Finding(severity="warn", code="not-changed", what=f"{name} was left as it is.", why=why, fix=fix, where=(name,))
    )  # fmt: skip


def _keep(project: Project, name: str, content: bytes, sha: str) -> str:
    """Copy the imported file to where it is kept; the name it has there. A copy that a killed process left is used."""
    folder = imported_dir(project)
    stem, suffix = os.path.splitext(name)
    file, n = name, 2
    while (folder / file).exists():
        if files.sha256_file(folder / file) == sha:
            return file
        file, n = f"{stem}-{n}{suffix}", n + 1
    files.write_bytes(folder / file, content)
    return file


def put_back(project: Project, names: Iterable[str]) -> Change:
    """Put the imported copies of pictures back in their place; `changed` holds the names they have now.

    A picture that another program changed since is left alone. Raises NotFoundError when something else than an
    imported copy is asked for (nothing is changed then), EnvironmentalError, BusyError.
    """
    names = list(dict.fromkeys(names))
    done = Change()
    with dataset_lock(project), _told(project):
        _settle(project)
        known, there = made_pictures(project), look(project.dataset_dir).pictures
        missing = [n for n in names if n not in known or n not in there]
        if missing:
            raise NotFoundError(
                f"'{missing[0]}' has no imported copy to put back.",
                "It is as it was imported, or it is not in the dataset.",
                "Look at the list of changed pictures.",
            )
        back: dict[str, str] = {}
        for name in names:
            record = known[name]
            path, kept = project.dataset_dir / name, imported_dir(project) / record.file
            if not kept.is_file():
                _left(done, name, "Its imported copy is gone.", "Import it again.")
                continue
            if files.sha256_file(path) not in (record.made, record.sha256):
                _left(done, name, "Another program changed it since.", "Set it aside, then import it again.")
                continue
            target = project.dataset_dir / record.original
            if record.original != name and target.exists():
                _left(done, name, f"There is another {record.original} now.", "Rename that one first.")
                continue
            files.copy_atomic(kept, target)
            if record.original != name:
                path.unlink()
                back[name] = record.original
            else:
                _put_away(project, record)
            done.changed.append(record.original)
        carry_along(project, back)
        for name in back:
            _put_away(project, known[name])
    if done.changed:
        project.decided("imported copies put back", pictures=done.changed)
    return done


def _put_away(project: Project, record: Made) -> None:
    """The imported copy is in its place again: nothing is made from it any more."""
    _note(project, {"name": record.name, "undone": True})
    (imported_dir(project) / record.file).unlink()


def settle(project: Project) -> None:
    """Finish what a killed process left between two names, unless pictures are being changed right now."""
    if not _unsettled(project) and not _outdated(project):
        return
    with suppress(BusyError, OSError), dataset_lock(project, 0.05):
        _settle(project)


def _unsettled(project: Project) -> list[Made]:
    known = [m for m in made_pictures(project).values() if m.original != m.name]
    if not known:
        return []
    there = look(project.dataset_dir).pictures
    return [m for m in known if m.original in there]


def _outdated(project: Project) -> list[tuple[Made, Made]]:
    """Pairs made from the same copy under two endings: the earlier, and the later that takes its place."""
    newest: dict[str, Made] = {}
    found = []
    for record in made_pictures(project).values():
        if record.file in newest:
            found.append((newest[record.file], record))
        newest[record.file] = record
    return found


def _settle(project: Project) -> None:
    """The list decides: where both names are there and the old one is the imported copy, or was made from the same
    one earlier, it goes; where only the old one is there, the change was taken back."""
    forth: dict[str, str] = {}
    back: dict[str, str] = {}
    for record in _unsettled(project):
        old, new = project.dataset_dir / record.original, project.dataset_dir / record.name
        if files.sha256_file(old) != record.sha256:
            continue
        if not new.is_file():
            back[record.name] = record.original
        elif (imported_dir(project) / record.file).is_file():
            forth[record.original] = record.name
    carry_along(project, back)
    for name in back:
        _note(project, {"name": name, "undone": True})
    for earlier, later in _outdated(project):
        if earlier.name in back or later.name in back:
            continue
        path = project.dataset_dir / earlier.name
        if not (project.dataset_dir / later.name).is_file():
            _note(project, {"name": later.name, "undone": True})
        elif not path.is_file() or files.sha256_file(path) == earlier.made:
            forth[earlier.name] = later.name
    _rename(project, forth)


def copies_size(project: Project, paths: Mapping[str, Path]) -> int:
    """Bytes of the imported copies that `forget` would delete with these pictures: where each lies, by its name."""
    size = 0
    for name, record in made_pictures(project).items():
        path, kept = paths.get(name), imported_dir(project) / record.file
        if path is not None and kept.is_file() and files.sha256_file(path) == record.made:
            size += kept.stat().st_size
    return size


def forget(project: Project, shas: set[str]) -> int:
    """Delete the imported copies of pictures whose present content is among `shas`; bytes that became free."""
    freed = 0
    for record in made_pictures(project).values():
        if record.made in shas:
            kept = imported_dir(project) / record.file
            with suppress(OSError):
                freed += kept.stat().st_size
                kept.unlink()
            _note(project, {"name": record.name, "undone": True})
    return freed
