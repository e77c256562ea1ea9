from __future__ import annotations

from studio.captions.stats import tag_counts, term_shares, terms


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
