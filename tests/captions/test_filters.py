"""What a page shows of the captions, and in which order."""

from __future__ import annotations

import pytest

from studio.captions.filters import Filter, fitting, ordered, overview
from studio.captions.reading import Caption
from studio.errors import InputError

CAPTIONS = {
    "a.png": Caption("trg, Cat, red", "person", "2026-01-03", "approved"),
    "b.png": Caption("trg, cat, blue, a very long tail of words", "wd-tagger", "2026-01-01", "needs review"),
    "c.png": Caption("trg, dog", "import", "2026-01-02", "needs review", outside=True),
    "d.png": Caption(),
}


def _count(text: str) -> int:
    return len(text.split())


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        (Filter(), "abcd"),
        (Filter(query=" CAT "), "ab"),
        (Filter(query="C.PNG"), "c"),
        (Filter(tags=frozenset({"cat"})), "ab"),
        (Filter(tags=frozenset({"CAT", "blue"})), "b"),
        (Filter(without=frozenset({"cat"})), "cd"),
        (Filter(tags=frozenset({"cat"}), without=frozenset({"blue"})), "a"),
        (Filter(tags=frozenset({"trg"})), ""),  # the trigger word is no tag
        (Filter(show="empty"), "d"),
        (Filter(show="needs review"), "bc"),
        (Filter(show="approved", query="dog"), ""),
        (Filter(outside=True), "c"),
        (Filter(by="person"), "a"),
        (Filter(by="machine"), "b"),
        (Filter(by="import"), "c"),
        (Filter(letters=(0, 8)), "cd"),
        (Filter(tokens=(3, 3)), "a"),
        (Filter(long=True, limit=5), "b"),
        (Filter(long=True), ""),
    ],
)
def test_what_is_let_through(wanted: Filter, names: str) -> None:
    assert fitting(CAPTIONS, wanted, "trg", _count) == [f"{n}.png" for n in names]


def test_tokens_that_cannot_be_counted_let_nothing_through() -> None:
    assert fitting(CAPTIONS, Filter(tokens=(0, 99)), "trg", lambda _: None) == []


@pytest.mark.parametrize(
    "wrong",
    [{"tokens": (5, 2)}, {"letters": (-1, 3)}, {"show": "done"}, {"by": "nobody"}],
)
def test_wrong_filters_are_told(wrong: dict[str, object]) -> None:
    with pytest.raises(InputError):
        Filter(**wrong)  # type: ignore[arg-type]


def test_order() -> None:
    names = list(CAPTIONS)
    assert ordered(CAPTIONS, names, "name") == names
    assert [n[0] for n in ordered(CAPTIONS, names, "longest")] == list("bacd")
    assert [n[0] for n in ordered(CAPTIONS, names, "newest")] == list("acbd")


def test_the_same_captions_are_counted_once() -> None:
    told = overview(CAPTIONS, "trg", 5, _count)
    assert dict(told.show) == {"all": 4, "empty": 1, "needs review": 2, "approved": 1}
    assert dict(told.tags)["Cat"] == 2 and told.outside == 1 and told.long == 1
    assert overview(CAPTIONS, "trg", 5, _count) is told
    assert overview(dict(CAPTIONS), "trg", 5, _count) is not told
