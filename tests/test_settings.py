from __future__ import annotations

from typing import Any

import pytest

from studio.errors import InputError
from studio.settings import GROUPS, TrainingSettings, changed, knobs, parse_settings, problems, unusual


def test_every_field_can_be_explained() -> None:
    for k in knobs().values():
        assert k.group in GROUPS and k.title and k.help.endswith("."), k.name
        if k.kind == "choice":
            assert k.choices and all(k.choices.values()), k.name
        if k.safe and k.minimum is not None:
            assert k.minimum <= k.safe[0] < k.safe[1], k.name


def test_easy_mode_asks_at_most_seven_things() -> None:
    assert 1 <= sum(k.level == "basic" for k in knobs().values()) <= 7


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"rank": 0}, "from 1 to 512"),
        ({"rank": "many"}, "whole number"),
        ({"optimizer": "sgd"}, "adamw"),
        ({"epoch": 3}, "epochs"),
        ({"learning_rate": -1}, "a number above 0, at most 10"),
        ({"resolution": 100}, "Resolution"),
        ({"caption_dropout": 2}, "0 to 1"),
        ({"seed": -1}, "Seed"),
        ({"flip": "maybe"}, "on or off"),
        ({"sample_prompts": 3}, "list of lines"),
        ({"backend": "../x"}, "Backend"),
    ],
)
def test_wrong_values_are_named_with_the_way_out(values: dict[str, Any], word: str) -> None:
    found = problems(values)
    assert len(found) == 1
    assert word in f"{found[0].what} {found[0].fix}"
    assert "pydantic" not in found[0].what.lower()


def test_all_problems_at_once() -> None:
    with pytest.raises(InputError) as told:
        parse_settings({"rank": 0, "epochs": 0, "colour": "red"})
    assert {f.where[0] for f in told.value.findings} == {"rank", "epochs", "colour"}


def test_round_trip_and_difference() -> None:
    s = parse_settings({"rank": 16, "sample_prompts": ["a", "b"]})
    again = parse_settings(s.model_dump(mode="json"))
    assert again == s
    assert changed(s) == {"rank": (8, 16), "sample_prompts": ((), ("a", "b"))}
    assert not unusual(TrainingSettings())
    assert [f.where for f in unusual(parse_settings({"rank": 256}))] == [("rank",)]


def test_the_form_asks_in_the_order_of_the_groups() -> None:
    """The fields live in several files; together they follow GROUPS, each group in one piece."""
    seen = list(dict.fromkeys(k.group for k in knobs().values()))
    assert seen == list(GROUPS)
    at = [GROUPS.index(k.group) for k in knobs().values()]
    assert at == sorted(at)


def test_a_zero_that_is_no_amount_says_what_it_means() -> None:
    """Whoever's help explains its 0 also gives the words for it, which the review shows in place of a bare 0."""
    for k in knobs().values():
        explained = any(f"0 {word}" in k.help for word in ("means", "turns", "keeps", "draws", "uses"))
        assert bool(k.zero) == explained, k.name
