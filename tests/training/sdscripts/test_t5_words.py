"""T5's word table: a part of SD3.5 and FLUX that is downloaded with them, so that no run has to fetch it."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from studio.basemodels.download import url
from studio.basemodels.holdings import place_of
from studio.models import get_model
from studio.training.sdscripts import families, parts, tokenizers
from studio.workspace import Workspace

PIECES = ["<pad>", "</s>", "<unk>", "▁", "▁a", "▁red", "▁boat", "s"]


def varint(n: int) -> bytes:
    return bytes([n & 127 | 128]) + varint(n >> 7) if n > 127 else bytes([n])


def field(number: int, value: bytes | float | int) -> bytes:
    """One field of a protocol buffer."""
    if isinstance(value, bytes):
        return varint(number << 3 | 2) + varint(len(value)) + value
    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack("<f", value)
    return varint(number << 3) + varint(value)


def spiece(folder: Path) -> Path:
    """A folder with a small `spiece.model` of T5's kind."""
    kinds = {0: 3, 1: 3, 2: 2}
    raw = b"".join(
        field(1, field(1, p.encode()) + field(2, -float(i)) + field(3, kinds.get(i, 1)))
        for i, p in enumerate(PIECES)
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "spiece.model").write_bytes(raw)
    return folder


def test_the_table_becomes_what_sd_scripts_looks_for(tmp_path: Path) -> None:
    tokenizers.write(tmp_path / "out", spiece(tmp_path / "words"))
    made = tmp_path / "out" / "google_t5-v1_1-xxl"
    read = Tokenizer.from_file(str(made / "tokenizer.json"))
    assert read.encode("a red  boats").tokens == ["▁a", "▁red", "▁boat", "s", "</s>"]
    assert read.get_vocab_size() == len(PIECES) + tokenizers.T5_SPARE
    # The last of the spare words comes first, as in T5's own table.
    assert read.token_to_id("<extra_id_99>") == len(PIECES)
    assert read.encode("a <extra_id_0>").ids[1:] == [len(PIECES) + 99, 1]
    told = json.loads((made / "tokenizer_config.json").read_text())
    assert (told["pad_token"], told["eos_token"], told["extra_ids"]) == ("<pad>", "</s>", 100)
    assert all((tmp_path / "out" / f).is_dir() for f in tokenizers.FOLDERS)


def test_a_ready_table_is_taken_as_it_is(tmp_path: Path) -> None:
    table = tokenizers.t5_table(spiece(tmp_path / "words") / "spiece.model")
    table["model"]["vocab"][3][1] = -0.5
    (tmp_path / "ready").mkdir()
    (tmp_path / "ready" / "tokenizer.json").write_text(json.dumps(table))
    tokenizers.write(tmp_path / "out", tmp_path / "ready")
    assert json.loads((tmp_path / "out" / tokenizers.T5_FOLDER / "tokenizer.json").read_text()) == table


def test_a_broken_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "spiece.model").write_bytes(b"<html>sign in</html>")
    with pytest.raises(ValueError, match=r"."):
        tokenizers.write(tmp_path / "out", tmp_path)


@pytest.mark.parametrize("model", ["flux-dev", "sd35-large-local"])
def test_it_is_downloaded_with_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str) -> None:
    monkeypatch.delenv("STUDIO_T5_TOKENIZER", raising=False)
    ws = Workspace(tmp_path)
    entry = get_model(ws, model)
    words = next(f for f in entry.files if f.part == families.T5_TOKENIZER)
    assert url(words).endswith("/google/t5-v1_1-xxl/resolve/main/spiece.model") and not words.gated
    assert place_of(ws, words) == ws.models_dir / "t5-tokenizer" / "spiece.model"
    assert [f.code for f in parts.findings(entry, ws)] == ["t5-words-fetched"]
    assert f"models download {model}" in parts.findings(entry, ws)[0].fix
    spiece(ws.models_dir / "t5-tokenizer")
    assert parts.findings(entry, ws) == []
    assert parts.parts_of(entry, ws)[families.T5_TOKENIZER] == ws.models_dir / "t5-tokenizer"
    assert families.T5_TOKENIZER not in parts.parts_of(get_model(ws, "sdxl"), ws)
