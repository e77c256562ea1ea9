"""Writing in pictures: words, signatures, watermarks. An optional check, because it needs rapidocr and takes its time.

Results are kept by content in `<cache>/lettering.jsonl`, so that a picture is read once, and a check that was stopped
goes on. Until a picture was read, nothing is said about it, and `unread` counts it.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from studio import files
from studio.dataset.formats import open_picture
from studio.dataset.pixels import as_shown, cpu_threads
from studio.dataset.wording import about, quoted
from studio.errors import EnvironmentalError
from studio.findings import Finding

if TYPE_CHECKING:
    from studio.dataset.scan import Picture, Scan
    from studio.project import Project

READ_SIDE = 1280
"""Longest side in px of the copy that is read: smaller loses signatures, larger only costs time."""
SURE = 0.7
"""Certainty, 0 to 1, from which a reading counts."""
REPEATED = 3
"""Pictures with the same words from which these are taken for a watermark."""
_MARKS = re.compile(
    r"©|\(c\)|www\.|https?:|\.(com|net|org|de|io)\b|stock|getty|alamy|dreamstime|123rf|adobe|watermark|patreon|pixiv|"
    r"deviantart|artstation|(^|\s)@\w{3}",
    re.IGNORECASE,
)

Line = tuple[str, float]
"""The words of one line, and the share of the picture's area that they take."""


@dataclass(frozen=True)
class Lettering:
    """What was read so far, by content hash; a picture in which nothing was found has an empty list."""

    lines: dict[str, tuple[Line, ...]]

    def of(self, picture: Picture) -> tuple[Line, ...] | None:
        """The lines in a picture; None when it was not read yet."""
        return self.lines.get(picture.sha256)


_read: dict[Path, tuple[tuple[int, int], Lettering]] = {}


def _path(cache: Path) -> Path:
    return cache / "lettering.jsonl"


def token(cache: Path) -> tuple[int, int]:
    """Changes whenever the results change."""
    try:
        st = _path(cache).stat()
    except FileNotFoundError:
        return 0, 0
    return st.st_size, st.st_mtime_ns


def lettering(cache: Path) -> Lettering:
    """What was read so far in a project with this cache folder."""
    now = token(cache)
    have = _read.get(cache)
    if have is None or have[0] != now:
        found: dict[str, tuple[Line, ...]] = {}
        for record in files.read_jsonl(_path(cache))[0]:
            lines = record.get("lines")
            if isinstance(lines, list):
                found[str(record.get("sha256"))] = tuple(
                    (str(x[0]), float(x[1])) for x in lines if len(x) == 2
                )
        while len(_read) >= 16:
            _read.pop(next(iter(_read)))
        have = _read[cache] = (now, Lettering(found))
    return have[1]


def available() -> bool:
    """Whether the reader is installed."""
    return find_spec("rapidocr") is not None and find_spec("onnxruntime") is not None


def unread(scan: Scan) -> list[str]:
    """Names of readable pictures that were not checked for writing."""
    known = lettering(scan.cache).lines
    return [p.name for p in scan.readable if p.sha256 not in known]


def read_writing(
    project: Project,
    scan: Scan,
    progress: Callable[[int, int, str], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> int:
    """Read every picture that was not read yet; how many were. Stopped at any moment, it goes on where it was.

    Raises EnvironmentalError when rapidocr is not installed.
    """
    names = unread(scan)
    if not names:
        return 0
    reader = _reader()
    done = 0
    for at, name in enumerate(names):
        if should_stop is not None and should_stop():
            break
        picture = scan.get(name)
        if picture is not None:
            files.append_jsonl(
                _path(scan.cache), {"sha256": picture.sha256, "lines": _lines(reader, scan.folder / name)}
            )
            done += 1
        if progress is not None:
            progress(at + 1, len(names), "Looking for writing")
    return done


def _reader() -> Any:
    if not available():
        raise EnvironmentalError(
            "Writing in pictures cannot be looked for.",
            "The reader, rapidocr, is not installed.",
            'Run `pip install "lora-studio[text]"`, or `pip install rapidocr onnxruntime`, then check again.',
        )
    from rapidocr import RapidOCR

    logging.getLogger("RapidOCR").setLevel(logging.ERROR)
    reader = RapidOCR(
        params={"EngineConfig.onnxruntime.intra_op_num_threads": cpu_threads(), "Global.log_level": "error"}
    )
    return lambda pixels: reader(pixels, use_cls=False)


def _lines(reader: Any, path: Path) -> list[Line]:
    try:
        image = open_picture(path.read_bytes())
        if image.format in ("JPEG", "MPO"):
            image.draft("RGB", (READ_SIDE, READ_SIDE))
        image = as_shown(image)
    except Exception:  # noqa: BLE001  a picture that broke since the scan: the audit names it
        return []
    image.thumbnail((READ_SIDE, READ_SIDE), Image.Resampling.BICUBIC)
    found = reader(np.ascontiguousarray(np.asarray(image)[:, :, ::-1]))  # it takes blue first, as OpenCV does
    if found is None or found.txts is None or found.boxes is None:
        return []
    area = image.width * image.height
    lines = []
    for text, score, box in zip(found.txts, found.scores, found.boxes, strict=True):
        if score >= SURE and sum(c.isalnum() for c in text) >= 2:
            corners = np.asarray(box, dtype=float)
            size = float(np.prod(corners.max(axis=0) - corners.min(axis=0)))
            lines.append((text.strip(), round(size / area, 5)))
    return lines


def lettering_faults(scan: Scan) -> list[Finding]:
    """Pictures with watermarks and with other writing, of those that were read."""
    known = lettering(scan.cache)
    if not known.lines:
        return []
    read = {p.name: known.of(p) or () for p in scan.readable}
    often = Counter(w for lines in read.values() for w in {_key(t) for t, _ in lines})
    marked: list[str] = []
    written: list[str] = []
    marks: Counter[str] = Counter()
    words: Counter[str] = Counter()
    for name, lines in read.items():
        signs = [t for t, _ in lines if _MARKS.search(t) or often[_key(t)] >= REPEATED]
        if signs:
            marked.append(name)
            marks.update(signs)
        elif lines:
            written.append(name)
            words.update(t for t, _ in lines)
    return [
        *about("warn", "watermark", marked, f"{{0}} seems to have a watermark ({_some(marks)}).",
               f"{{0}} pictures seem to have a watermark ({_some(marks)}).",
               "A mark that returns is learned before anything else, and comes out as scribble.",
               "Use versions without it, cut it off, or set them aside.", "set-aside"),
        *about("info", "writing", written, f"{{0}} holds writing ({_some(words)}).", f"{{0}} pictures hold writing ({_some(words)}).",
               "Writing is learned like everything else, mostly as scribble.",
               "Where it belongs to what you teach, name it in the caption; otherwise set the picture aside.", "set-aside"),
    ]  # fmt: skip


def _key(text: str) -> str:
    return re.sub(r"\W+", "", text).casefold()


def _some(words: Counter[str]) -> str:
    return quoted([t if len(t) <= 30 else t[:29] + "…" for t, _ in words.most_common(3)])
