"""Counting words: tags and how often they occur, terms that are fused with the trigger, tokens."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from studio.captions import text as words

if TYPE_CHECKING:
    from studio.captions.store import Caption
    from studio.models import BaseModelEntry
    from studio.workspace import Workspace

# Words that say nothing about what a picture shows.
_LITTLE = frozenset(
    [
        "a",
        "an",
        "the",
        "and",
        "or",
        "of",
        "in",
        "on",
        "at",
        "to",
        "with",
        "without",
        "by",
        "for",
        "from",
        "as",
        "is",
        "are",
        "be",
        "it",
        "its",
        "this",
        "that",
        "these",
        "those",
        "there",
        "his",
        "her",
        "their",
        "one",
        "two",
        "some",
        "very",
        "near",
        "over",
        "under",
        "into",
        "onto",
        "up",
        "down",
        "out",
        "off",
        "against",
        "while",
        "who",
        "which",
        "has",
        "have",
    ]
)


def _texts(captions: Mapping[str, Caption] | Mapping[str, str] | Iterable[str]) -> list[str]:
    values = captions.values() if isinstance(captions, Mapping) else captions
    return [v if isinstance(v, str) else v.text for v in values]


def tag_counts(
    captions: Mapping[str, Caption] | Mapping[str, str] | Iterable[str], trigger: str = ""
) -> Counter[str]:
    """How many captions hold each comma-separated tag, the trigger word left out; upper and lower case count as one,
    written as first met. Most frequent first through `.most_common()`."""
    counts: Counter[str] = Counter()
    spelling: dict[str, str] = {}
    for text in _texts(captions):
        for key in {
            spelling.setdefault(t.casefold(), t).casefold()
            for t in words.tags(words.without_trigger(text, trigger))
        }:
            counts[spelling[key]] += 1
    return counts


def terms(text: str, trigger: str = "") -> set[str]:
    """What a caption speaks of, in lower case: its short tags as they are, and the words of longer phrases."""
    found = set()
    for tag in words.tags(words.without_trigger(text, trigger)):
        tag = tag.casefold().strip(" .;:!?")
        parts = re.findall(r"[^\W_]+(?:['-][^\W_]+)*", tag)
        if 0 < len(parts) <= 3:
            found.add(tag)
        found |= {p for p in parts if p not in _LITTLE and len(p) > 1}
    return found - {trigger.casefold()}


def term_shares(
    captions: Mapping[str, Caption] | Mapping[str, str] | Iterable[str],
    trigger: str = "",
    at_least: float = 0.6,
) -> dict[str, float]:
    """Share (0 to 1) of non-empty captions that speak of each term, most frequent first; rarer terms than `at_least`
    are left out, and so is a term that is a part of an equally frequent longer one."""
    texts = [t for t in _texts(captions) if t]
    counts = Counter(term for t in texts for term in terms(t, trigger))
    frequent = [(t, n) for t, n in counts.items() if n >= at_least * len(texts)]
    kept: dict[str, float] = {}
    for term, n in sorted(frequent, key=lambda c: (-c[1], -len(c[0]), c[0])):
        if not any(counts[k] == n and re.search(rf"\b{re.escape(term)}\b", k) for k in kept):
            kept[term] = n / len(texts)
    return kept


# ---------------------------------------------------------------- tokens


@lru_cache(maxsize=4)
def _tokenizer(folder: Path, _changed: int) -> Any:
    """A CLIP tokenizer from its folder, or None when there is none that can be read."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

    try:
        if (folder / "tokenizer.json").is_file():
            made = Tokenizer.from_file(str(folder / "tokenizer.json"))
        else:  # older model folders carry the two tables only; the rules around them are CLIP's
            made = Tokenizer(
                models.BPE.from_file(
                    str(folder / "vocab.json"),
                    str(folder / "merges.txt"),
                    unk_token="<|endoftext|>",
                    end_of_word_suffix="</w>",
                )
            )
            made.normalizer = normalizers.Sequence(
                [normalizers.NFC(), normalizers.Replace(_Regex(r"\s+"), " "), normalizers.Lowercase()]
            )
            made.pre_tokenizer = pre_tokenizers.Sequence(
                [
                    pre_tokenizers.Split(
                        _Regex(r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"),
                        behavior="removed",
                        invert=True,
                    ),
                    pre_tokenizers.ByteLevel(add_prefix_space=False),
                ]
            )
            made.decoder = decoders.ByteLevel()
        made.no_truncation()
        made.no_padding()
        return made
    except Exception:  # noqa: BLE001  the tokenizers library raises plain Exception
        return None


def _Regex(pattern: str) -> Any:
    from tokenizers import Regex

    return Regex(pattern)


def _folder(entry: BaseModelEntry, workspace: Workspace | None) -> Path | None:
    from studio.workspace import shipped

    place = (
        shipped("data", entry.id)
        if entry.embedded
        else (entry.location(workspace) if workspace is not None else entry.path)
    )
    if place is None or not (place / "tokenizer").is_dir():
        return None
    return place / "tokenizer"


def token_count(text: str, entry: BaseModelEntry, workspace: Workspace | None = None) -> int | None:
    """Tokens of a caption for a base model, without the marks at start and end.

    None when that model's own tokenizer is not on this computer: then nothing was measured.
    """
    folder = _folder(entry, workspace)
    return None if folder is None else _counted(folder, folder.stat().st_mtime_ns, text)


def token_counter(entry: BaseModelEntry, workspace: Workspace | None = None) -> Callable[[str], int | None]:
    """`token_count` for many captions: the tokenizer is looked for once, and a text is counted once."""
    folder = _folder(entry, workspace)
    if folder is None:
        return lambda _: None
    changed = folder.stat().st_mtime_ns
    return lambda text: _counted(folder, changed, text)


@lru_cache(maxsize=65_536)
def _counted(folder: Path, changed: int, text: str) -> int | None:
    tokenizer = _tokenizer(folder, changed)
    return None if tokenizer is None else len(tokenizer.encode(text, add_special_tokens=False).ids)


def token_limit(entry: BaseModelEntry, workspace: Workspace | None = None) -> int | None:
    """Tokens that the base model reads at most, without the two marks: 75 for CLIP. None when it is not known."""
    import json

    folder = _folder(entry, workspace)
    if folder is not None:
        try:
            longest = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8")).get(
                "model_max_length"
            )
            if isinstance(longest, int) and 4 < longest < 100_000:
                return longest - 2
        except (OSError, ValueError):
            pass
    return 75 if entry.family in ("sd15", "sdxl") else None
