"""T5's word table as SentencePiece stores it (`spiece.model`): read without the sentencepiece package.

The file is a protocol buffer, sentencepiece_model.proto: field 1 holds the pieces (text, score, type), field 3 the rules
by which text is normalised. Only unigram tables, T5's kind, are read.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MOST_BYTES = 50_000_000
"""Bytes of the largest file read; T5's own has 0.8 million."""
_UNKNOWN = 2  # the type of the piece that stands for what is not in the table


def tokenizer_from(path: Path) -> Any:
    """A tokenizer (package tokenizers) from a `spiece.model`. Raises ValueError when the file is none, OSError."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

    if path.stat().st_size > MOST_BYTES:
        raise ValueError("too large for a word table")
    pieces: list[tuple[str, float]] = []
    unknown, charsmap = 0, b""
    for number, value in _fields(path.read_bytes()):
        if number == 1 and isinstance(value, bytes):
            piece = dict(_fields(value))
            text, score = piece.get(1, b""), piece.get(2, 0)
            if not isinstance(text, bytes) or not isinstance(score, int):
                raise ValueError("a piece is not as it should be")
            if piece.get(3, 1) == _UNKNOWN:
                unknown = len(pieces)
            pieces.append((text.decode("utf-8"), float(struct.unpack("<f", struct.pack("<I", score))[0])))
        elif number == 3 and isinstance(value, bytes):
            found = dict(_fields(value)).get(2, b"")
            charsmap = found if isinstance(found, bytes) else b""
    if len(pieces) < 3:
        raise ValueError("no pieces")
    made = Tokenizer(models.Unigram(pieces, unk_id=unknown))
    steps: list[Any] = [normalizers.Precompiled(charsmap)] if charsmap else []
    made.normalizer = normalizers.Sequence(
        [*steps, normalizers.Strip(), normalizers.Replace(Regex(r"\s+"), " ")]
    )
    made.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    return made


def _fields(raw: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a protocol-buffer message: numbers as they stand in the file, everything else as bytes."""
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            if at >= len(raw) or shift > 63:
                raise ValueError("cut short")
            byte = raw[at]
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    while at < len(raw):
        key = varint()
        kind = key & 7
        if kind == 0:
            yield key >> 3, varint()
            continue
        size = {1: 8, 2: None, 5: 4}.get(kind, -1)
        if size == -1:
            raise ValueError("not a protocol buffer")
        length = varint() if size is None else size
        if at + length > len(raw):
            raise ValueError("cut short")
        part = raw[at : at + length]
        at += length
        yield key >> 3, part if kind == 2 else int.from_bytes(part, "little")
