"""What would be sent to the hub: files, card, cautions. Putting it together asks nobody and sends nothing."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studio import files, models
from studio.errors import InputError, NotFoundError, StudioError
from studio.findings import Finding
from studio.library.entry import LibraryEntry
from studio.library.evaluations import evaluation, pictures
from studio.library.hub.card import Shown, card_text
from studio.library.hub.licences import Licence, chosen, of_base
from studio.lora import privacy
from studio.lora.file import metadata_of, rewrite, rewritten_size
from studio.models import BaseModelEntry
from studio.workspace import Workspace

MOST_PICTURES = 6
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9])?")
# What only this computer knows of a LoRA does not belong on the hub, whatever else stays in the file.
ALWAYS_OUT = ("folders", "paths")


@dataclass(frozen=True)
class Outgoing:
    """One file that would be sent. path: in the repository; size in bytes; what: what it is."""

    path: str
    size: int
    what: str


@dataclass(frozen=True)
class Publication:
    """Everything that would be sent, for a last look.

    licence, card: as they would stand there. left_out: what the file's metadata will not tell. cautions: what to think about first.
    fingerprint: changes when anything of it changes; sending asks for the one that was looked at.
    """

    slug: str
    repo: str
    private: bool
    licence: Licence
    left_out: tuple[str, ...]
    card: str
    files: tuple[Outgoing, ...]
    cautions: tuple[Finding, ...]
    fingerprint: str

    @property
    def size_bytes(self) -> int:
        return sum(f.size for f in self.files)

    def as_dict(self) -> dict[str, Any]:
        """As plain data, for `--json`."""
        return {
            "lora": self.slug,
            "repo": self.repo,
            "private": self.private,
            "licence": self.licence.fields(),
            "left_out": list(self.left_out),
            "files": [{"path": f.path, "bytes": f.size, "what": f.what} for f in self.files],
            "bytes": self.size_bytes,
            "card": self.card,
            "cautions": [c.model_dump(mode="json") for c in self.cautions],
            "fingerprint": self.fingerprint,
        }


def checked_repo(repo: str) -> str:
    """A repository's name ("account/name") by the hub's rules. Raises InputError."""
    told = repo.strip().removeprefix("https://huggingface.co/").strip("/")
    parts = told.split("/")
    bad = (
        len(parts) != 2
        or not all(_NAME.fullmatch(p) for p in parts)
        or any("--" in p or ".." in p for p in parts)
        or parts[-1].endswith((".git", ".ipynb"))
        or len(told) > 96
    )
    if bad:
        raise InputError(
            f"'{repo.strip()[:120]}' is no name for a repository on the hub."
            if told
            else "The repository has no name.",
            "The hub takes ACCOUNT/NAME: letters, digits, '-', '_' and '.', at most 96 together, no '--' or '..'.",
            "Write your account or organisation, a slash, and a name, such as ann/ink-wash.",
        )
    return told


def publication(
    workspace: Workspace,
    entry: LibraryEntry,
    repo: str,
    *,
    private: bool = True,
    licence: str = "",
    leave_out: Iterable[str] | None = None,
    most_pictures: int = 4,
) -> Publication:
    """What `start_publish` would send. Nothing is sent, and no server is asked.

    licence: the hub's name of one; "" takes over the base model's. leave_out: besides folder names and paths, which always stay
    here; as last chosen when None. most_pictures: 0 to 6, the preview first.
    Raises InputError for a name that the hub would refuse or a licence that nobody knows, NotFoundError when the file is gone.
    """
    repo, file = checked_repo(repo), entry.file(workspace)
    if not file.is_file():
        raise NotFoundError(
            f"The file of {entry.title} is gone.", f"Nothing lies at {file}.", "Register it again."
        )
    model = _model(workspace, entry)
    known = chosen(licence) if licence else of_base(model.licence, model.source) if model else None
    if known is None:
        raise InputError(
            f"Nobody knows the licence of {entry.base_title or 'its base model'}.",
            "A LoRA inherits what its base model's licence asks for, and the card has to name one.",
            "Choose the licence yourself (--licence), after a look at the base model's page.",
        )
    groups = privacy.remembered(workspace) if leave_out is None else leave_out
    out = privacy.checked({*groups, *ALWAYS_OUT})
    shown, found = [], [Outgoing(file.name, rewritten_size(file, _told(file, out)), "the LoRA")]
    digests = [entry.sha256]
    for n, (prompt, picture) in enumerate(_pictures(workspace, entry, most_pictures)):
        path = f"images/{n + 1:02}.png"
        content = _plain_picture(picture)
        shown.append(Shown(path, prompt))
        found.append(Outgoing(path, len(content), f"drawn with: {prompt}" if prompt else "the preview"))
        digests.append(files.fingerprint(content.hex()))
    known_entry = entry.model_copy(update={"left_out": tuple(sorted({*entry.left_out, *out}))})
    card = card_text(known_entry, model, known, repo, file.name, shown)
    found.insert(0, Outgoing("README.md", len(card.encode()), "the model card"))
    return Publication(
        entry.slug,
        repo,
        private,
        known,
        out,
        card,
        tuple(found),
        tuple(_cautions(entry, model, private)),
        files.fingerprint([repo, private, out, card, digests, most_pictures]),
    )


def stage(
    workspace: Workspace, entry: LibraryEntry, what: Publication, folder: Path, most_pictures: int
) -> list[tuple[str, Path]]:
    """Write what will be sent into `folder`; (path in the repository, file)."""
    file = entry.file(workspace)
    out = [("README.md", folder / "README.md"), (file.name, folder / file.name)]
    files.write_text(folder / "README.md", what.card)
    rewrite(file, folder / file.name, _told(file, what.left_out))
    for n, (_prompt, picture) in enumerate(_pictures(workspace, entry, most_pictures)):
        path = f"images/{n + 1:02}.png"
        files.write_bytes(folder / path, _plain_picture(picture))
        out.append((path, folder / path))
    return out


def published(workspace: Workspace, entry: LibraryEntry) -> list[dict[str, Any]]:
    """Where this LoRA was published from here, newest last: repo, url, commit, at, private."""
    try:
        told = files.read_json(entry.folder(workspace) / "published.json")
    except InputError:
        return []
    return [dict(x) for x in told if isinstance(x, dict)] if isinstance(told, list) else []


def _told(file: Path, out: Iterable[str]) -> dict[str, str]:
    return privacy.without(metadata_of(file), out)


def _model(workspace: Workspace, entry: LibraryEntry) -> BaseModelEntry | None:
    try:
        return models.get_model(workspace, entry.base_model) if entry.base_model else None
    except NotFoundError:
        return None


def _pictures(workspace: Workspace, entry: LibraryEntry, most: int) -> list[tuple[str, Path]]:
    """(prompt, picture): those of its evaluation at the recommended weight, else the preview alone."""
    most = max(0, min(MOST_PICTURES, most))
    try:
        found = evaluation(workspace, entry)
        drawn = list(pictures(found, most).items()) if found is not None else []
    except (StudioError, OSError):
        drawn = []
    preview = entry.preview(workspace)
    if not drawn and preview is not None and most:
        drawn = [(entry.trigger, preview)]
    return drawn[:most]


def _plain_picture(path: Path) -> bytes:
    """The picture as a PNG without the text that may lie in it."""
    from PIL import Image

    with Image.open(path) as opened:
        shown = opened.convert("RGB")
    buffer = io.BytesIO()
    shown.save(buffer, "PNG", optimize=False)
    return buffer.getvalue()


def _cautions(entry: LibraryEntry, model: BaseModelEntry | None, private: bool) -> list[Finding]:
    found = []

    def add(code: str, what: str, why: str, fix: str) -> None:
        found.append(Finding(severity="warn", code=code, what=what, why=why, fix=fix))

    if not private:
        add("hub-public", "Everybody will be able to see and download it.",
            "A public repository is copied and indexed at once; taking it down later does not take back the copies.",
            "Publish it privately first, look at it there, then open it.")  # fmt: skip
    if entry.kind == "character" and not private:
        add("hub-person", "It draws a character.", "Where that is a real person, the hub's rules and many laws ask for their consent.",
            "Publish it only with that consent.")  # fmt: skip
    if entry.brought_from:
        add("hub-foreign", "You brought this LoRA in from elsewhere.", "Its maker's licence decides whether you may publish it.",
            "Ask its maker, or look at the page where you got it.")  # fmt: skip
    if entry.only_here:
        add("hub-only-here", "Only LoRA Studio can draw with it.", "It belongs to the built-in model, which other programs do not have.",
            "Publish it only to try how it works.")  # fmt: skip
    if model is not None and "non-commercial" in model.licence.lower():
        add("hub-non-commercial", "Its base model may not be used commercially.", "What is made from it inherits that.",
            "Nothing, as long as the card says so; it does.")  # fmt: skip
    return found
