"""What is at a dataset's address: reachable, a ZIP, not too large, and, when it can be read in parts, what is inside."""

from __future__ import annotations

import io
import time
import zipfile
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import PurePosixPath

from studio import remote
from studio.answers import Passing
from studio.errors import StudioError
from studio.files import human_size
from studio.findings import Finding
from studio.replicate.trainers import Trainer, catalogue

PICTURES = frozenset({".png", ".jpg", ".jpeg", ".webp"})
_TAIL = 256_000
"""Bytes read at the end of a ZIP: its list of some thousand files."""
PROBE_S = 2.5


@dataclass(frozen=True)
class Contents:
    """What a ZIP's own list says: pictures, those with a caption of the same name, other files."""

    pictures: int
    captioned: int
    others: int


class _Remote(io.RawIOBase):
    """The end of a remote file as a seekable one; reading before it raises ValueError."""

    def __init__(self, tail: bytes, size: int) -> None:
        self._tail, self._size, self._at = tail, size, 0

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = 0) -> int:
        to = {0: 0, 1: self._at, 2: self._size}[whence] + offset
        if to < 0:
            raise OSError("before the beginning")  # as files do; zipfile counts on it
        self._at = to
        return to

    def read(self, size: int = -1) -> bytes:
        begin = self._at - (self._size - len(self._tail))
        if begin < 0:
            raise ValueError("before the part that was read")
        piece = self._tail[begin:] if size is None or size < 0 else self._tail[begin : begin + size]
        self._at += len(piece)
        return piece


def contents(listing: zipfile.ZipFile) -> Contents:
    """Count pictures and captions by a ZIP's list of names."""
    names = [PurePosixPath(i.filename) for i in listing.infolist() if not i.is_dir()]
    names = [n for n in names if "__MACOSX" not in n.parts and not n.name.startswith(".")]
    texts = {str(n.with_suffix("")).lower() for n in names if n.suffix.lower() == ".txt"}
    pictures = [n for n in names if n.suffix.lower() in PICTURES]
    captioned = sum(str(n.with_suffix("")).lower() in texts for n in pictures)
    return Contents(len(pictures), captioned, len(names) - len(pictures) - len(texts))


def check_dataset_url(
    url: str, trainer: Trainer, *, online: bool = True, allow: Collection[str] = (), autocaption: bool = False
) -> tuple[list[Finding], Contents | None]:
    """Everything that can be said about a dataset's address, within a few seconds; contents when cheaply readable.

    online: whether to ask the server too. Nothing is downloaded but the ends of the file.
    """
    if not url:
        return [
            _block("dataset-url-missing", "There is no dataset URL.", "The trainer fetches the pictures from it.",
                   "Give the https:// address of a ZIP with pictures and captions.")
        ], None  # fmt: skip
    try:
        from studio.addresses import refuse_unsafe

        refuse_unsafe(url, allow)
        if not online:
            return [], None
        with remote.client(allow, timeout_s=PROBE_S) as http:
            began = time.monotonic()
            told = remote.probe(url, allow=allow, http=http, timeout_s=PROBE_S)
            found = _about(told)
            inside = None
            if told.is_zip and told.resumable and told.size and time.monotonic() - began < PROBE_S:
                inside = _inside(url, told.size, http, allow)
        return found + _about_contents(inside, trainer, autocaption), inside
    except Passing as e:
        return [
            Finding(severity="warn", code="dataset-url-silent", what=f"The dataset URL could not be tried: {e.what}",
                    why=e.why, fix="Open it in a browser window without signing in. Replicate has to reach it too.",
                    where=("dataset_url",))
        ], None  # fmt: skip
    except StudioError as e:
        return [_block("dataset-url", f"The dataset URL cannot be used. {e.what}", e.why, e.fix)], None


def _block(code: str, what: str, why: str, fix: str) -> Finding:
    return Finding(severity="block", code=code, what=what, why=why, fix=fix, where=("dataset_url",))


def _about(told: remote.Probe) -> list[Finding]:
    found = []
    if not told.is_zip:
        page = "html" in told.content_type or told.head.lstrip()[:1] == b"<"
        found.append(
            _block(
                "dataset-not-zip",
                "What lies at the dataset URL is not a ZIP.",
                "It is a web page: the address leads to a page about the file, not to the file."
                if page
                else f"It does not begin like one (the server calls it {told.content_type or 'nothing'}).",
                "Use the direct download address." if page else "Pack pictures and captions into a ZIP.",
            )
        )
    limit = catalogue().warn_dataset_bytes
    if told.size is not None and told.size > limit:
        found.append(
            Finding(severity="warn", code="dataset-large",
                    what=f"The dataset is {human_size(told.size)}, more than {human_size(limit)}.",
                    why="Every minute of fetching it is paid for, and large pictures are scaled down anyway.",
                    fix="Scale the pictures to about 1500 pixels, or leave out those that look alike.",
                    where=("dataset_url",))
        )  # fmt: skip
    return found


def _inside(url: str, size: int, http: object, allow: Collection[str]) -> Contents | None:
    start = max(0, size - _TAIL)
    try:
        tail = remote.read_range(url, start, size - start, http=http, allow=allow)  # type: ignore[arg-type]
        with zipfile.ZipFile(_Remote(tail, size)) as listing:
            return contents(listing)
    except (StudioError, zipfile.BadZipFile, ValueError, NotImplementedError, OSError):
        return None  # not cheaply readable: nothing is claimed about it


def _about_contents(inside: Contents | None, trainer: Trainer, autocaption: bool) -> list[Finding]:
    if inside is None:
        return []
    if not inside.pictures:
        return [
            _block("dataset-empty", "The ZIP holds no pictures.", "The trainer reads .png, .jpg and .webp.",
                   "Put the pictures into it.")
        ]  # fmt: skip
    found = []
    lacking = inside.pictures - inside.captioned
    if lacking and not (trainer.captions_itself and autocaption):
        found.append(
            Finding(severity="warn", code="dataset-uncaptioned",
                    what=f"{lacking} of {inside.pictures} pictures have no caption beside them.",
                    why="This trainer writes no captions; what is not said in a caption goes into the trigger word."
                    if not trainer.captions_itself else "Automatic captions are off.",
                    fix="Put a .txt with the same name beside each picture.", where=("dataset_url",))
        )  # fmt: skip
    if inside.pictures < 10:
        found.append(
            Finding(severity="warn", code="dataset-small", what=f"The ZIP holds only {inside.pictures} pictures.",
                    why="With fewer than 10 the LoRA mostly repeats them.", fix="Add more, if you can.",
                    where=("dataset_url",))
        )  # fmt: skip
    return found
