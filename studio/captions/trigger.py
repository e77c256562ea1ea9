"""How a base model reads a trigger word: its tokenizer takes a made-up word apart, and pieces that are words bring their
own meaning along.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from studio.captions.tokens import Reader, readers
from studio.findings import Finding
from studio.project import COMMON_WORDS
from studio.workspace import shipped

if TYPE_CHECKING:
    from studio.models import BaseModelEntry
    from studio.workspace import Workspace

# Everyday words that show nothing by themselves: as a piece of a trigger they do no harm.
_SHOW_NOTHING = frozenset(
    ["art", "character", "image", "lora", "model", "new", "object", "picture", "style", "test"]
)
_SHORTEST = 3  # letters; shorter pieces occur in most made-up words and mean little
_SHORT = 8  # letters; a shorter word cannot be made much shorter
_MANY = 7  # pieces from which a trigger takes a tenth of the 75 tokens that CLIP reads


def pieces(word: str, entry: BaseModelEntry, workspace: Workspace | None = None) -> tuple[str, ...]:
    """The pieces into which a base model's tokenizer takes a word, such as ("blu", "pr", "nt").

    CLIP's where the model reads with several. Empty when none of its tokenizers is on this computer.
    """
    found = sorted(readers(entry, workspace), key=lambda r: r.name != "CLIP")
    return next((p for p in (_pieces(word, r) for r in found) if p), ())


def clip_pieces(word: str) -> tuple[str, ...]:
    """`pieces` by the tokenizer that comes with the studio: the one of every Stable Diffusion and of FLUX's CLIP."""
    return _pieces(word, Reader("CLIP", 75, shipped("data", "geometry", "tokenizer")))


def _pieces(word: str, reader: Reader) -> tuple[str, ...]:
    table = reader.table()
    if table is None:
        return ()
    tokens = table.tokenizer.encode(word, add_special_tokens=False).tokens
    return tuple(t.removesuffix("</w>").strip("▁") for t in tokens if t.removesuffix("</w>").strip("▁"))


def reading_problems(word: str, read: Sequence[str], reader: str) -> list[Finding]:
    """What speaks against a trigger word in the way that it is read.

    word: the trigger.   read: its `pieces`; empty when nothing could be measured.   reader: who reads, such as "SDXL".
    Warnings only: a LoRA can be taught against a meaning, but it takes longer and leaks.
    """
    if len(read) == 1:
        return [_warning("trigger-known", f"{reader} knows '{word}' as a word of its own.",
                         "Its tokenizer has one token for it, so it has a meaning already, which what you teach has to fight.",
                         f"Change a letter or two, such as '{unlike(word)}'.")]  # fmt: skip
    heard = [p for p in read if len(p) >= _SHORTEST and p.lower() in COMMON_WORDS - _SHOW_NOTHING]
    if heard:
        said = " and ".join(f"'{p}'" for p in dict.fromkeys(heard))
        return [_warning("trigger-heard", f"{reader} hears {said} in '{word}'.",
                         f"It reads the word as {' + '.join(read)}, and a piece that is a word brings its own meaning along.",
                         f"Leave out its vowels or change a letter, such as '{unlike(word)}'.")]  # fmt: skip
    if len(read) >= _MANY and len(word) > _SHORT:
        return [_warning("trigger-pieces", f"{reader} reads '{word}' as {len(read)} pieces.",
                         "Each takes one of the 75 tokens of a caption, and what you teach is spread over all of them.",
                         f"Choose a shorter word, such as '{unlike(word)[:8]}'.")]  # fmt: skip
    return []


def unlike(word: str) -> str:
    """A made-up word close to `word`."""
    bare = "".join(c for i, c in enumerate(word) if i == 0 or c.lower() not in "aeiou")
    return f"{bare}xq" if len(bare) < 5 else bare


def _warning(code: str, what: str, why: str, fix: str) -> Finding:
    return Finding(severity="warn", code=code, what=what, why=why, fix=fix)
