from __future__ import annotations

import json
from pathlib import Path

from studio.captions.stats import tag_counts, term_shares, terms, token_count, token_limit
from studio.models import BaseModelEntry, get_model
from studio.workspace import Workspace, shipped


def test_tags_are_counted_once_a_caption_whatever_their_case() -> None:
    counts = tag_counts(["mira, Red hat, boat", "mira, red hat, red hat", "boat, mira"], "mira")
    assert counts == {"Red hat": 2, "boat": 2, "mira": 1}
    assert counts.most_common(1)[0][1] == 2


def test_terms_of_tags_and_of_sentences() -> None:
    assert terms("mira, red hat, a painting of two boats on the lake", "mira") == {
        "red hat",
        "red",
        "hat",
        "painting",
        "boats",
        "lake",
    }
    assert terms("mira", "mira") == set()


def test_shares_leave_out_the_rare_and_the_parts_of_longer_terms() -> None:
    texts = [f"mira, white ground, boat {i}" for i in range(8)] + ["mira, hill", "mira, hill"]
    assert term_shares(texts, "mira") == {"white ground": 0.8, "boat": 0.8}
    assert term_shares([], "mira") == {}


def test_shares_of_many_different_words_are_quick() -> None:
    import time

    texts = [f"mira, word{i}, other{i} thing{i}, always" for i in range(5000)]
    begin = time.process_time()
    assert term_shares(texts, "mira") == {"always": 1.0}
    assert time.process_time() - begin < 5


def test_tokens_of_the_pocket_model(workspace: Workspace) -> None:
    pocket = get_model(workspace, "pocket")
    limit = token_limit(pocket, workspace)
    assert limit is not None and 20 <= limit <= 75
    one, two = token_count("car", pocket, workspace), token_count("car, bus", pocket, workspace)
    assert one == 1 and two == 3
    assert token_count("", pocket, workspace) == 0
    assert token_count("car " * 500, pocket, workspace) == 500  # counted beyond the limit, not cut off at it


def test_nothing_is_measured_without_the_tokenizer(workspace: Workspace, tmp_path: Path) -> None:
    away = BaseModelEntry(id="away", title="Away", family="sdxl", format="checkpoint", resolution=1024)
    assert token_count("car", away, workspace) is None
    assert token_limit(away, workspace) == 75


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
