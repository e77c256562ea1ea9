from __future__ import annotations

import pytest

from studio.captions.text import clean, decode, leads, tags, with_trigger, without_trigger


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("a cat", "mira, a cat"),
        ("mira", "mira"),
        ("mira, a cat", "mira, a cat"),
        ("Mira, a cat", "mira, a cat"),
        ("mira a cat on a hill", "mira a cat on a hill"),
        ("mira: a cat", "mira: a cat"),
        ("a cat, mira", "mira, a cat"),
        ("a cat, Mira , hills", "mira, a cat, hills"),
        ("a cat drawn in mira style", "mira, a cat drawn in mira style"),
        ("mirabelle, a plum", "mira, mirabelle, a plum"),
        ("mira-2, a cat", "mira, mira-2, a cat"),
        ("  , mira,, a cat", "mira, a cat"),
        ("first line\nmira, second", "mira, first line\n second"),
        ("", "mira"),
        ("   ", "mira"),
        ("\ufeffa cat\x00\r\n", "mira, \ufeffa cat"),
    ],
)
def test_the_trigger_word_comes_first(before: str, after: str) -> None:
    assert with_trigger(before, "mira") == after
    assert with_trigger(after, "mira") == after
    assert leads(after, "mira")


@pytest.mark.parametrize("trigger", ["mira", "mira style", "c++", "猫画", "a.b"])
@pytest.mark.parametrize("text", ["a cat", "x, y, z", "猫", "mira", "(((weird))) \\1 text", "a.b, c++"])
def test_whatever_the_words_the_result_leads_and_stays(trigger: str, text: str) -> None:
    once = with_trigger(text, trigger)
    assert leads(once, trigger) and once.startswith(trigger)
    assert with_trigger(once, trigger) == once


def test_without_a_trigger_nothing_is_added() -> None:
    assert with_trigger(" a cat ", "") == "a cat"
    assert not leads("a cat", "")


def test_the_rest_after_the_trigger() -> None:
    assert without_trigger("mira, a cat", "mira") == "a cat"
    assert without_trigger("mira a cat", "mira") == "a cat"
    assert without_trigger("mira", "mira") == ""
    assert without_trigger("a cat, mira", "mira") == "a cat, mira"


def test_tags() -> None:
    assert tags(" a,, b ,c\nd,") == ["a", "b", "c", "d"]


def test_bytes_in_any_encoding() -> None:
    assert decode("Straße".encode()) == ("Straße", True)
    assert decode("Straße".encode("utf-8-sig")) == ("Straße", False)
    assert decode("Straße".encode("utf-16")) == ("Straße", False)
    assert decode("Straße".encode("cp1252")) == ("Straße", False)
    assert decode(b"\xff\xfe\x00")[1] is False
    assert decode(bytes(range(256)))[1] is False
    assert clean("a\r\nb\rc \x07") == "a\nb\nc"
