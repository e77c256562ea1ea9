"""Importing: pictures and the captions beside them are copied into the dataset; the originals are only read.

What is no picture is refused by name and the rest comes in. What is in the project already, by content, is not added
again, whatever it is called. Each picture arrives whole: a process killed in the middle leaves whole files, and the
same import started again adds what is missing.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from studio import files
from studio.captions import text as words
from studio.dataset import origins
from studio.dataset.arrivals import Arrivals
from studio.dataset.batch import Batch
from studio.dataset.derived import made_pictures
from studio.dataset.folder import CAPTION_SUFFIX, caption_path, dataset_lock, look, stem_of
from studio.dataset.formats import TooManyPixels, open_picture, refusal, safe_name, same_stem, sniff
from studio.dataset.items import IN_PART, Gathered, Item, items_size, refused
from studio.dataset.scan import known_looks
from studio.dataset.set_aside import free_name, set_aside_list
from studio.dataset.sources import gather, gather_uploads, is_there
from studio.errors import EnvironmentalError, InputError
from studio.findings import Finding

if TYPE_CHECKING:
    from studio.project import Project

Progress = Callable[[int, int, str], None]
"""Called as progress(done, total, message)."""

Begins = Callable[[Sequence[int], "ImportReport"], None]

SPARE_BYTES = 200_000_000
"""Room that must remain on the disk after an import."""


@dataclass
class ImportReport:
    """What an import did.

    added:          names in the dataset of the pictures that came in.
    already_there:  source name -> name of the picture with the same content (in the dataset or set aside).
    renamed:        source name -> name in the dataset, where they differ.
    refused:        one finding for each file that was not taken in, or a caption list of which lines could not be read.
    captions_taken: how many pictures got a caption from beside the source.
    repeats:        names of pictures from kohya's `N_name` folders -> N.
    regularisation: names of pictures that were marked so, because they lay in a folder called `reg` or alike.
    stopped:        the user stopped it; what was added so far stays.
    """

    added: list[str] = field(default_factory=list)
    already_there: dict[str, str] = field(default_factory=dict)
    renamed: dict[str, str] = field(default_factory=dict)
    refused: list[Finding] = field(default_factory=list)
    captions_taken: int = 0
    repeats: dict[str, int] = field(default_factory=dict)
    regularisation: list[str] = field(default_factory=list)
    stopped: bool = False

    def include(self, other: ImportReport) -> None:
        """Add what another import into the same project did."""
        self.added += other.added
        self.already_there |= other.already_there
        self.renamed |= other.renamed
        self.refused += other.refused
        self.captions_taken += other.captions_taken
        self.repeats |= other.repeats
        self.regularisation += other.regularisation
        self.stopped = self.stopped or other.stopped

    @property
    def words(self) -> str:
        """The report in one sentence, such as "20 pictures added, 1 was there already, 2 refused"."""
        parts = [f"{len(self.added)} picture{'s' if len(self.added) != 1 else ''} added"]
        if self.captions_taken:
            parts.append(f"{self.captions_taken} with a caption")
        if self.already_there:
            parts.append(f"{len(self.already_there)} already there")
        if self.renamed:
            parts.append(f"{len(self.renamed)} renamed")
        if self.regularisation:
            parts.append(f"{len(self.regularisation)} marked for regularisation")
        in_part = sum(f.code == IN_PART for f in self.refused)
        if len(self.refused) > in_part:
            parts.append(f"{len(self.refused) - in_part} not taken in")
        if in_part:
            parts.append(f"{in_part} caption list{'s' if in_part > 1 else ''} read in part")
        return ", ".join(parts) + ("; stopped early." if self.stopped else ".")

    def as_dict(self) -> dict[str, Any]:
        """The report as plain data, for `--json` and for a job's result."""
        return {
            "added": self.added, "already_there": self.already_there, "renamed": self.renamed,
            "refused": [f.model_dump(mode="json") for f in self.refused], "captions_taken": self.captions_taken,
            "repeats": self.repeats, "regularisation": self.regularisation, "stopped": self.stopped, "words": self.words,
        }  # fmt: skip


def import_pictures(
    project: Project,
    sources: Iterable[Path],
    *,
    begins: Begins | None = None,
    progress: Progress | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> ImportReport:
    """Copy pictures from files, folders (with everything below) and ZIP archives into the project.

    begins:      told, before the first file is taken in, the sizes of all in bytes and the report that will be filled.
    progress:    told (done, total, message) after each file.
    should_stop: asked before each file; True ends the import with what is there.
    Raises InputError when no source exists, EnvironmentalError when the disk has too little room or refuses,
    BusyError when another import of this project is running.
    """
    sources = [Path(s) for s in sources]
    if sources and not any(is_there(s.expanduser()) for s in sources):
        raise InputError(
            f"There is nothing at '{str(sources[0])[:200]}'.",
            "The file or folder was moved, or its name is spelled differently.",
            "Give the path of a folder, a ZIP or pictures that exist.",
        )
    with gather(sources, leave_out=(project.folder, project.cache_dir)) as gathered:
        return _import(project, gathered, [str(s) for s in sources], progress, should_stop, begins)


def import_uploads(
    project: Project, uploads: Iterable[tuple[str, bytes]], *, progress: Progress | None = None
) -> ImportReport:
    """Take in files that a browser sent, as (name, content): pictures, their captions, ZIP archives.

    Otherwise like `import_pictures`.
    """
    uploads = list(uploads)
    with gather_uploads(uploads) as gathered:
        return _import(project, gathered, [name for name, _ in uploads], progress, None)


def _import(
    project: Project,
    gathered: Gathered,
    sources: list[str],
    progress: Progress | None,
    should_stop: Callable[[], bool] | None,
    begins: Begins | None = None,
) -> ImportReport:
    report = ImportReport(refused=list(gathered.refused))
    items = gathered.items
    _need_room(project.dataset_dir, items)
    if begins is not None:
        begins([i.size for i in items], report)
    with dataset_lock(project):
        project.dataset_dir.mkdir(parents=True, exist_ok=True)
        _sweep(project.dataset_dir)
        target = _Target(project)
        notes: dict[str, origins.Origin] = {}
        try:
            with Arrivals(project) as arrivals, Batch(project.dataset_dir, arrivals.stored) as batch:
                target.arrivals = arrivals
                for done, item in enumerate(items):
                    if should_stop is not None and should_stop():
                        report.stopped = True
                        break
                    name = _take(target, item, report, batch)
                    if name:
                        notes[name] = origins.Origin(
                            item.label, files.now(), item.repeats, item.regularisation
                        )
                    if progress is not None:
                        progress(done + 1, len(items), item.label)
        finally:
            there = look(project.dataset_dir).pictures
            report.regularisation = origins.add(project, {n: o for n, o in notes.items() if n in there})
    project.decided("pictures imported", sources=sources[:50], result=report.words)
    return report


def _sweep(folder: Path) -> None:
    """Remove temporary files that a killed process left an hour ago or earlier."""
    for path in folder.glob(".*.tmp"):
        with suppress(OSError):
            if path.is_file() and path.stat().st_mtime < time.time() - 3600:
                path.unlink()


def _need_room(folder: Path, items: list[Item]) -> None:
    need, have = items_size(items), files.free_bytes(folder)
    if need + SPARE_BYTES > have:
        raise EnvironmentalError(
            "There is too little room on the disk for these pictures.",
            f"They take up to {files.human_size(need)}, and {files.human_size(have)} are free.",
            f"Free some room on the disk of {folder}, or add fewer pictures.",
        )


class _Target:
    """The dataset during an import: which contents and which names it holds."""

    def __init__(self, project: Project) -> None:
        self.arrivals: Arrivals | None = None
        self.folder = project.dataset_dir
        listing = look(self.folder)
        known = known_looks(project)
        self.names: dict[str, str] = {}  # content hash -> name
        self.captioned: set[str] = set()  # pictures that got a caption in this import
        for name, stamp in listing.pictures.items():
            have = known.get(name)
            sha = (
                have[1].sha256
                if have is not None and have[0] == stamp
                else files.sha256_file(self.folder / name)
            )
            self.names[sha] = name
        for made in made_pictures(project).values():  # an imported copy that something was made from
            if made.name in listing.pictures:
                self.names.setdefault(made.sha256, made.name)
        aside = set_aside_list(project)
        self.aside = {files.sha256_file(s.path): s.name for s in aside}
        # Names of pictures set aside stay theirs, so that they can come back under them.
        self.taken = {same_stem(stem_of(n)) for n in (*listing.pictures, *(s.name for s in aside))}
        self.stray = {same_stem(s): s for s in listing.captions if same_stem(s) not in self.taken}

    def free(self, wanted: str, caption: str | None) -> str:
        """A name whose stem no picture has. A caption file that lost its picture keeps its stem to itself, unless it
        says just what this picture's caption says, as after an import that was cut off between the two."""
        key = same_stem(stem_of(wanted))
        if key in self.stray and caption is not None:
            lying = self.folder / (self.stray[key] + CAPTION_SUFFIX)
            if self.stray[key] == stem_of(wanted) and words.decode(lying.read_bytes())[0] == caption:
                del self.stray[key]
        return free_name(wanted, self.taken | set(self.stray))


def _take(target: _Target, item: Item, report: ImportReport, batch: Batch) -> str | None:
    """Take in one item; the name it has in the dataset, or None when nothing came in or was there."""
    problem = refusal(item.label, item.size, b"\xff\xd8\xff") if item.size == 0 else None
    if problem is None:
        try:
            raw = item.read()
        except MemoryError:
            report.refused.append(
                refused(item.label, "too-large", "It does not fit in memory.", "Save it in a smaller size.")
            )
            return None
        except Exception as e:  # noqa: BLE001  a damaged archive raises whatever its bytes lead its reader to
            reason = getattr(e, "strerror", None) or str(e) or "it cannot be read"
            report.refused.append(
                refused(
                    item.label,
                    "unreadable",
                    f"It could not be read: {reason}.",
                    "Copy, download or pack it again.",
                )
            )
            return None
        problem = refusal(item.label, len(raw), raw[:32]) or _too_many_pixels(raw)
    if problem is not None:
        report.refused.append(refused(item.label, *problem))
        return None
    sha = hashlib.sha256(raw).hexdigest()
    caption = item.caption()
    there = target.names.get(sha)
    if there is not None or sha in target.aside:
        report.already_there[item.label] = there or target.aside[sha]
        if (
            there is not None
            and caption
            and there not in target.captioned
            and not caption_path(target.folder, there).exists()
        ):
            _take_caption(target, there, caption, report, batch)
        _note_repeats(there, item, report)
        return there
    wanted = safe_name(item.name, sniff(raw[:32]))
    name = target.free(wanted, caption)
    if caption is not None:  # first, so that a picture is never there without the words that came with it
        _take_caption(target, name, caption, report, batch)
    if target.arrivals is not None:
        target.arrivals.came(name, raw, sha)
    batch.put(name, raw)
    target.names[sha] = name
    target.taken.add(same_stem(stem_of(name)))
    report.added.append(name)
    if name != item.name:
        report.renamed[item.label] = name
    _note_repeats(name, item, report)
    return name


def _too_many_pixels(raw: bytes) -> tuple[str, str, str] | None:
    try:
        open_picture(raw)
    except TooManyPixels as e:
        return (
            "too-many-pixels",
            f"It has {e} pixels, which could exhaust the memory.",
            "Save it in a smaller size.",
        )
    except Exception:  # noqa: BLE001  a damaged picture comes in, and the audit names it
        return None
    return None


def _take_caption(target: _Target, name: str, caption: str, report: ImportReport, batch: Batch) -> None:
    batch.put(stem_of(name) + CAPTION_SUFFIX, caption.encode("utf-8", "replace"))
    target.captioned.add(name)
    report.captions_taken += bool(caption)


def _note_repeats(name: str | None, item: Item, report: ImportReport) -> None:
    if name is not None and item.repeats:
        report.repeats[name] = item.repeats
