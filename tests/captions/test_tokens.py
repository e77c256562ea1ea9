"""Tokens, counted as the base models themselves count them."""

from __future__ import annotations

import json
import os
import random
import struct
import time
from pathlib import Path

import pytest

from studio.captions.tokens import (
    CLIP_TOKENS,
    readers,
    token_count,
    token_counter,
    token_limit,
    too_long,
)
from studio.models import BaseModelEntry, get_model
from studio.workspace import Workspace, shipped


def model(family: str, path: Path | None = None, name: str = "") -> BaseModelEntry:
    """A base model of a family that the manifest need not know yet."""
    defaults = {k: f.default for k, f in BaseModelEntry.model_fields.items() if not f.is_required()}
    told = {
        "id": name or family,
        "title": name or family,
        "family": family,
        "format": "diffusers" if path else "checkpoint",
    }
    return BaseModelEntry.model_construct(**{**defaults, **told, "resolution": 512, "path": path})


@pytest.fixture(scope="module")
def t5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small tokenizer of T5's kind: a unigram word table with marks where words begin."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    pieces = [
        ("<pad>", 0.0),
        ("</s>", 0.0),
        ("<unk>", -20.0),
        ("▁a", -2.0),
        ("▁red", -3.0),
        ("▁boat", -3.0),
        ("s", -4.0),
    ]
    made = Tokenizer(models.Unigram(pieces, unk_id=2))
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    folder = tmp_path_factory.mktemp("t5")
    made.save(str(folder / "tokenizer.json"))
    return folder


def test_tokens_of_the_pocket_model(workspace: Workspace) -> None:
    pocket = get_model(workspace, "pocket")
    limit = token_limit(pocket, workspace)
    assert limit is not None and 20 <= limit <= 75
    one, two = token_count("car", pocket, workspace), token_count("car, bus", pocket, workspace)
    assert one == 1 and two == 3
    assert token_count("", pocket, workspace) == 0
    assert token_count("car " * 500, pocket, workspace) == 500  # counted beyond the limit, not cut off at it


@pytest.mark.parametrize("family", ["sd15", "sdxl"])
def test_clip_is_counted_without_the_base_model(workspace: Workspace, family: str) -> None:
    away = model(family)
    assert token_limit(away, workspace) == CLIP_TOKENS == 75
    assert token_count("a photo of a cat", away, workspace) == 5
    assert token_count("1girl, red_scarf, outdoors", away, workspace) == 8


def test_clip_counts_what_transformers_counts(workspace: Workspace) -> None:
    from transformers import CLIPTokenizerFast

    real = CLIPTokenizerFast.from_pretrained(str(shipped("data", "geometry", "tokenizer")))
    away = model("sdxl")
    for text in (
        "a photo of a cat", "mirastyle, 1girl, red_scarf, ^_^, >_<", "Ünïcödé, 猫, кошка, 🐈‍⬛", "it's 42 degrees; (weights:1.2) [x]",
        "line one\nline two,  double  spaces", "a" * 300, "word " * 200, "",
    ):  # fmt: skip
        ids = real(text, add_special_tokens=True, truncation=False)["input_ids"]
        assert token_count(text, away, workspace) == len(ids) - 2, text


def test_t5_is_not_measured_until_its_table_is_here(
    workspace: Workspace, t5: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flux, sd35 = model("flux"), model("sd35")
    monkeypatch.delenv("STUDIO_T5_TOKENIZER", raising=False)
    for entry, limit in ((flux, 511), (sd35, 255), (model("flux", name="FLUX.1-schnell"), 255)):
        first, clip = readers(entry, workspace)
        assert (first.name, first.limit, first.measured, clip.name, clip.measured) == (
            "T5",
            limit,
            False,
            "CLIP",
            True,
        )
        assert token_limit(entry, workspace) == limit
        assert (
            token_count("a boat", entry, workspace) is None
            and too_long({"a": "x" * 9000}, entry, workspace) is None
        )
        assert token_counter(entry, workspace)("a boat") is None
        assert clip.count("a boat") == 2
    (workspace.models_dir / "t5-tokenizer").mkdir(parents=True)
    (workspace.models_dir / "t5-tokenizer" / "tokenizer.json").write_bytes(
        (t5 / "tokenizer.json").read_bytes()
    )
    assert token_count("a red boat", flux, workspace) == 3
    assert too_long({"a": " ".join(["a red boat"] * 100), "b": "boat"}, sd35, workspace) == {"a": 300}
    monkeypatch.setenv("STUDIO_T5_TOKENIZER", str(tmp_path / "nothing"))
    assert token_count("a red boat", flux, workspace) == 3, "a wrong folder is passed over"
    (workspace.models_dir / "t5-tokenizer" / "tokenizer.json").write_text("{")
    assert token_count("a red boat", flux, workspace) is None
    monkeypatch.setenv("STUDIO_T5_TOKENIZER", str(t5))
    assert token_count("a red boat", flux, workspace) == 3


def field(number: int, value: bytes | int | float) -> bytes:
    """One field of a protocol buffer; all lengths here are below 128."""
    if isinstance(value, bytes):
        return bytes([number << 3 | 2, len(value)]) + value
    return (
        bytes([number << 3 | 5]) + struct.pack("<f", value)
        if isinstance(value, float)
        else bytes([number << 3, value])
    )


def test_t5_is_read_as_sentencepiece_stores_it(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STUDIO_T5_TOKENIZER", raising=False)
    pieces = [
        ("<pad>", 0.0, 3),
        ("</s>", 0.0, 3),
        ("<unk>", 0.0, 2),
        ("▁a", -2.0, 1),
        ("▁red", -3.0, 1),
        ("▁boat", -3.0, 1),
        ("s", -4.0, 1),
    ]
    content = b"".join(field(1, field(1, p.encode()) + field(2, s) + field(3, kind)) for p, s, kind in pieces)
    folder = workspace.models_dir / "t5-tokenizer"
    folder.mkdir(parents=True)
    (folder / "spiece.model").write_bytes(content + field(3, field(1, b"nmt_nfkc")))
    flux = model("flux")
    assert [
        token_count(t, flux, workspace) for t in ("a red boat", "  a   red\nboats ", "", "a 猫猫 boat")
    ] == [3, 4, 0, 3]
    for n, damaged in enumerate(
        (b"", b"PK not a table", content[:-3], b"\xff" * 40, field(1, field(1, b"a")), content + b"\x0b")
    ):
        (folder / "spiece.model").write_bytes(damaged)
        os.utime(folder / "spiece.model", (n, n))
        assert token_count("a red boat", flux, workspace) is None, damaged[:20]


def test_t5_is_found_in_the_base_models_folder(workspace: Workspace, t5: Path, tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text("{}")
    for name, source in (
        ("tokenizer", shipped("data", "geometry", "tokenizer")),
        ("tokenizer_2", shipped("data", "geometry", "tokenizer")),
        ("tokenizer_3", t5),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "tokenizer.json").write_bytes((source / "tokenizer.json").read_bytes())
    first, clip = readers(model("sd35", tmp_path), workspace)
    assert first.place == tmp_path / "tokenizer_3" and clip.place == tmp_path / "tokenizer"
    assert (first.count("a red boat"), clip.count("a red boat")) == (3, 3)


def test_too_long_ones_are_found_also_in_scripts_with_many_tokens_a_letter(workspace: Workspace) -> None:
    texts = {
        "short": "a boat",
        "long": "boat, " * 60,
        "cats": "🐈‍⬛" * 20,
        "edge": "boat " * 75,
        "over": "boat " * 76,
    }
    found = too_long(texts, model("sdxl"), workspace)
    assert found is not None
    assert found == {
        n: c for n, t in texts.items() if (c := token_count(t, model("sdxl"), workspace) or 0) > 75
    }
    assert set(found) == {"long", "cats", "over"} and found["over"] == 76


def test_many_captions_are_counted_in_a_moment_and_once(workspace: Workspace) -> None:
    sdxl = model("sdxl")
    texts = [
        f"mirastyle, picture {i}, a boat on a lake at dawn, seen from the hill, mist, {i * 7} reeds"
        for i in range(3000)
    ]
    begin = time.process_time()
    counts = readers(sdxl, workspace)[0].counts(texts)
    first = time.process_time() - begin
    begin = time.process_time()
    assert readers(sdxl, workspace)[0].counts(texts) == counts
    assert time.process_time() - begin < max(0.2, first / 3)
    assert first < 10


def test_words_counted_one_by_one_come_to_what_the_whole_text_comes_to(workspace: Workspace) -> None:
    """Blanks of every kind, marks that join letters, marks of the tokenizer itself: against the tokenizer on the whole."""
    table = readers(get_model(workspace, "pocket"), workspace)[0].table()
    assert table is not None and table.apart
    chance = random.Random(5)
    signs = [
        *"abX09 ,.'\"-_\t\n\r\x0b\x85\u00a0\u2003\u0301\u00e9\u00df\u0130\u03a3\u6f22\U0001f642<|>",
        "<|endoftext|>",
        "'s",
        " \u0301",
        "'S",
    ]
    texts = ["".join(chance.choices(signs, k=chance.randrange(30))) for _ in range(2000)]
    whole = table.tokenizer.encode_batch_fast(texts, add_special_tokens=False)
    assert table.counts(texts) == [len(e.ids) for e in whole]
    assert len(table.known) < 10_000


def test_older_model_folders_with_two_tables(workspace: Workspace, tmp_path: Path) -> None:
    """vocab.json and merges.txt alone count like the tokenizer.json that was made of them."""
    source = json.loads((shipped("data", "pocket") / "tokenizer" / "tokenizer.json").read_text())
    folder = tmp_path / "model" / "tokenizer"
    folder.mkdir(parents=True)
    (tmp_path / "model" / "model_index.json").write_text("{}")
    (folder / "vocab.json").write_text(json.dumps(source["model"]["vocab"]))
    merges = [m if isinstance(m, str) else " ".join(m) for m in source["model"]["merges"]]
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    old = BaseModelEntry(
        id="old", title="Old", family="sd15", format="diffusers", resolution=512, path=tmp_path / "model"
    )
    pocket = get_model(workspace, "pocket")
    for text in ("car, bus", "A Castle, at night!", "it's 42 degrees", "bluprnt, palm tree"):
        assert token_count(text, old, workspace) == token_count(text, pocket, workspace), text
