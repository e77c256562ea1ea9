"""How much of a caption a base model reads, counted with its own tokenizers.

CLIP has 77 positions, of which a start and an end mark take two. SD1.5, SDXL and their descendants read captions with
CLIP alone; its word table comes with the studio. SD3.5 reads with CLIP and T5, FLUX with T5 (CLIP only gives it the
gist). T5's word table (`tokenizer.json` or `spiece.model`) is not shipped: it is taken from the base model's folder, from `models/t5-tokenizer` in
the workspace or from the folder named by STUDIO_T5_TOKENIZER. Without it nothing is measured, and the studio says so.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from studio.captions.spiece import tokenizer_from
from studio.workspace import shipped

if TYPE_CHECKING:
    from studio.captions.reading import Caption
    from studio.models import BaseModelEntry
    from studio.workspace import Workspace

CLIP_TOKENS = 75
"""Tokens of a caption that CLIP reads: 77 positions without the start and the end mark."""
T5_TOKENS = {"sd3": 255, "flux": 511, "flux-schnell": 255}
"""Tokens that T5 reads without its end mark. Trainers and samplers cut at 256 for SD3.5 and FLUX.1 schnell, at 512 for
FLUX.1 dev (sd-scripts, train_util and flux_train_utils; diffusers, max_sequence_length)."""
_REMEMBERED = 200_000  # texts, or words, whose counts are kept, for each tokenizer
_BLANKS = re.compile(r"[ \t\n\r]+")


@dataclass
class _Table:
    """One tokenizer with the counts that it was asked for: of whole texts, or of what stands between blanks where it never
    looks across one, as CLIP's does. Ten thousand captions hold few different words."""

    tokenizer: Any
    apart: bool = False
    known: dict[str, int] = field(default_factory=dict)

    def counts(self, texts: list[str]) -> list[int]:
        pieces = [_BLANKS.split(t) for t in texts] if self.apart else [[t] for t in texts]
        fresh = {p for every in pieces for p in every if p not in self.known}
        if fresh:
            if len(self.known) + len(fresh) > _REMEMBERED:
                self.known.clear()
                fresh = {p for every in pieces for p in every}
            asked = list(fresh)
            found = self.tokenizer.encode_batch_fast(asked, add_special_tokens=False)
            self.known.update((t, len(e.ids)) for t, e in zip(asked, found, strict=True))
        return [sum([self.known[p] for p in every]) for every in pieces]


@dataclass(frozen=True)
class Reader:
    """One text encoder of a base model.

    name:  CLIP or T5.   limit: tokens that it reads, its own marks not counted.
    place: the folder of its tokenizer; None when it is not on this computer.
    """

    name: str
    limit: int
    place: Path | None = None

    @property
    def measured(self) -> bool:
        """Whether its tokens can be counted here."""
        return self.table() is not None

    def count(self, text: str) -> int | None:
        """Tokens of a text, its own marks not counted; None when its tokenizer is not here."""
        table = self.table()
        return None if table is None else table.counts([text])[0]

    def counts(self, texts: Iterable[str]) -> list[int] | None:
        """`count` for many texts in one go; None when its tokenizer is not here."""
        table = self.table()
        return None if table is None else table.counts(list(texts))

    def table(self) -> _Table | None:
        """The tokenizer with the counts that are known already; None when it is not here."""
        if self.place is None:
            return None
        try:
            changed = max((self.place / n).stat().st_mtime_ns for n in _TABLES if (self.place / n).is_file())
        except (OSError, ValueError):
            return None
        return _table_of(self.place, changed)


_TABLES = ("tokenizer.json", "spiece.model", "vocab.json", "merges.txt")


def readers(entry: BaseModelEntry, workspace: Workspace | None = None) -> tuple[Reader, ...]:
    """The text encoders that read captions for a base model; the first one decides what is too long."""
    family = str(entry.family).lower()
    place = entry.location(workspace) if workspace is not None else entry.path
    if family.startswith(("sd3", "flux")):
        kind = "sd3" if family.startswith("sd3") else "flux"
        if kind == "flux" and "schnell" in f"{entry.id} {entry.title}".lower():
            kind = "flux-schnell"
        clip = Reader(
            "CLIP", CLIP_TOKENS, _with_tables(place, "tokenizer") or shipped("data", "geometry", "tokenizer")
        )
        t5 = Reader("T5", T5_TOKENS[kind], _t5_place(place, workspace))
        return (t5, clip)
    if entry.embedded:
        own: Path | None = shipped("data", entry.id, "tokenizer")
    else:
        own = _with_tables(place, "tokenizer")
    if own is None and family in ("sd15", "sdxl"):  # one word table for all of CLIP's sizes
        own = shipped("data", "geometry", "tokenizer")
    return (Reader("CLIP", _limit(own), own),)


def token_count(text: str, entry: BaseModelEntry, workspace: Workspace | None = None) -> int | None:
    """Tokens of a caption for a base model, without the marks at start and end.

    None when the tokenizer that decides is not on this computer: then nothing was measured.
    """
    return readers(entry, workspace)[0].count(text)


def token_counter(entry: BaseModelEntry, workspace: Workspace | None = None) -> Callable[[str], int | None]:
    """`token_count` for many captions: the tokenizer is looked for once, and a text is counted once."""
    table = readers(entry, workspace)[0].table()
    return (lambda _: None) if table is None else (lambda text: table.counts([text])[0])


def token_limit(entry: BaseModelEntry, workspace: Workspace | None = None) -> int | None:
    """Tokens that the base model reads at most, without the marks: 75 for CLIP. None when it is not known."""
    return readers(entry, workspace)[0].limit


def too_long(
    captions: Mapping[str, Caption] | Mapping[str, str],
    entry: BaseModelEntry,
    workspace: Workspace | None = None,
) -> dict[str, int] | None:
    """Tokens of each caption whose end the base model does not read, by picture; None when it cannot be measured."""
    reader = readers(entry, workspace)[0]
    if not reader.measured:
        return None
    texts = {n: c if isinstance(c, str) else c.text for n, c in captions.items()}
    # No text has more tokens than bytes, so the tokenizer is asked only where it could matter.
    risky = [
        n
        for n, t in texts.items()
        if len(t) * 4 > reader.limit and len(t.encode("utf-8", "replace")) > reader.limit
    ]
    counted = reader.counts(texts[n] for n in risky) or []
    return {n: c for n, c in zip(risky, counted, strict=True) if c > reader.limit}


# ---------------------------------------------------------------- finding and opening word tables


def _with_tables(place: Path | None, *folders: str) -> Path | None:
    """The first of the folders inside a base model that holds a tokenizer."""
    if place is None or not place.is_dir():
        return None
    for name in folders:
        folder = place / name
        if (folder / "tokenizer.json").is_file() or (folder / "vocab.json").is_file():
            return folder
    return None


def _t5_place(place: Path | None, workspace: Workspace | None) -> Path | None:
    told = os.environ.get("STUDIO_T5_TOKENIZER", "").strip()
    asked = [Path(told).expanduser()] if told else []
    if place is not None and place.is_dir():
        asked += [place / "tokenizer_3", place / "tokenizer_2"]
    if workspace is not None:
        asked.append(workspace.models_dir / "t5-tokenizer")
    return next((f for f in asked if _is_unigram(f)), None)


def _is_unigram(folder: Path) -> bool:
    """Whether a folder holds a tokenizer of T5's kind; SDXL's and SD3.5's second folder holds one of CLIP's."""
    path = folder / "tokenizer.json"
    try:
        return _model_type(path, path.stat().st_mtime_ns) == "Unigram"
    except OSError:
        return (folder / "spiece.model").is_file()


@lru_cache(maxsize=16)
def _model_type(path: Path, _changed: int) -> str:
    try:
        return str(json.loads(path.read_text(encoding="utf-8")).get("model", {}).get("type", ""))
    except (OSError, ValueError, AttributeError):
        return ""


def _limit(folder: Path | None) -> int:
    """What the tokenizer itself says that its model reads, without the two marks; 75 when it does not say."""
    try:
        longest = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8")) if folder else {}
        longest = longest.get("model_max_length")
    except (OSError, ValueError, AttributeError):
        longest = None
    return longest - 2 if isinstance(longest, int) and 4 < longest < 100_000 else CLIP_TOKENS


@lru_cache(maxsize=8)
def _table_of(folder: Path, _changed: int) -> _Table | None:
    """The tokenizer of a folder, or None when it cannot be read."""
    from tokenizers import Tokenizer

    try:
        if (folder / "tokenizer.json").is_file():
            made = Tokenizer.from_file(str(folder / "tokenizer.json"))
        elif (folder / "spiece.model").is_file():
            made = tokenizer_from(folder / "spiece.model")
        else:
            made = _from_two_tables(folder)
        made.no_truncation()
        made.no_padding()
        return _Table(made, _reads_words_apart(made))
    except Exception:  # noqa: BLE001  the tokenizers library raises plain Exception
        return None


def _reads_words_apart(tokenizer: Any) -> bool:
    """Whether blanks part what the tokenizer reads: CLIP's rules throw them away and make nothing of them."""
    rules = json.loads(tokenizer.to_str())
    steps = rules["normalizer"] or {}, rules["pre_tokenizer"] or {}
    before, parts = steps[0].get("normalizers", ()), steps[1].get("pretokenizers", ())
    first = parts[0] if parts else {}
    return (
        rules["model"]["type"] == "BPE"
        and {n["type"] for n in before} <= {"NFC", "Replace", "Lowercase"}
        and all(
            n["pattern"] == {"Regex": r"\s+"} and n["content"] == " "
            for n in before
            if n["type"] == "Replace"
        )
        and [p["type"] for p in parts] == ["Split", "ByteLevel"]
        and (first["behavior"], first["invert"]) == ("Removed", True)
        and first["pattern"].get("Regex", "").endswith(r"[^\s\p{L}\p{N}]+")
        and not parts[1]["add_prefix_space"]
    )


def _from_two_tables(folder: Path) -> Any:
    """Older model folders carry `vocab.json` and `merges.txt` only; the rules around them are CLIP's."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

    made = Tokenizer(
        models.BPE.from_file(
            str(folder / "vocab.json"),
            str(folder / "merges.txt"),
            unk_token="<|endoftext|>",
            end_of_word_suffix="</w>",
        )
    )
    made.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    words = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(words), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    return made
