"""Counts that are kept and followed say what counting everything anew says, and look only at what changed."""

from __future__ import annotations

import random
from collections.abc import Iterable

import pytest

from studio.captions import tally as counting
from studio.captions.audit import caption_findings, term_findings
from studio.captions.filters import counter, overview
from studio.captions.reading import Caption
from studio.captions.snapshots import Captions, Course, changed
from studio.captions.spelling import Spellings
from studio.captions.store import CaptionStore
from studio.captions.tally import tally
from studio.captions.tokens import Reader
from studio.dataset.folder import look
from studio.project import Project
from tests.dataset.pictures import scene

WORDS = ("boat", "Boat", "boats", "red scarf", "red_scarf", "outdoors", "outdoor", "lighthouse", "lighthosue", "a long walk. It rains",
         "mirastlye", "dog", "white ground", "sky", "line\nbreak")  # fmt: skip


def _letters(text: str) -> int:
    return len(text)


def _pictures(project: Project, count: int) -> list[str]:
    for n in range(count):
        scene(n, (8, 8)).save(project.dataset_dir / f"{n:02}.png")
    return [f"{n:02}.png" for n in range(count)]


def _all_counts(captions: dict[str, object], trigger: str, without: set[str]) -> list[object]:
    told = overview(captions, trigger, 30, _letters)  # type: ignore[arg-type]
    return [
        told,
        caption_findings(captions, trigger, [], without),  # type: ignore[arg-type]
        term_findings(captions, trigger, "style", without),  # type: ignore[arg-type]
    ]


def test_what_is_followed_is_what_counting_anew_says(project: Project) -> None:
    chance = random.Random(5)
    names = _pictures(project, 24)
    store, trigger = CaptionStore(project), project.intent.trigger
    for turn in range(40):
        name = chance.choice(names)
        words = ", ".join(chance.choices(WORDS, k=chance.randint(0, 5)))
        match turn % 8:
            case 0:
                there = [n for n in names if (project.dataset_dir / n).exists()]
                store.set_many(dict.fromkeys(chance.sample(there, 6), words))
            case 1:
                (project.dataset_dir / f"{name[:-4]}.txt").write_text(words, encoding="utf-8")
            case 2:
                store.undo()
            case 3:
                store.approve([name])
            case 4:
                (project.dataset_dir / name).unlink(missing_ok=True)
            case 5:
                scene(turn, (8, 8)).save(project.dataset_dir / name)
            case _:
                if (project.dataset_dir / name).exists():
                    store.set(name, words)
        kept = store.of(look(store.folder))
        assert isinstance(kept, Captions) and list(kept) == sorted(kept)
        for without in (set(), {names[3], names[7]}):
            assert _all_counts(kept, trigger, without) == _all_counts(dict(kept), trigger, without), turn  # type: ignore[arg-type]
        with tally(kept, trigger) as followed, tally(dict(kept), trigger) as anew:
            assert followed.tags() == anew.tags() and followed.terms == anew.terms
            assert followed.kinds == +anew.kinds or +followed.kinds == +anew.kinds


def test_after_an_edit_only_that_caption_is_looked_at(project: Project) -> None:
    asked: list[str] = []

    def count(text: str) -> int:
        asked.append(text)
        return len(text)

    names = _pictures(project, 9)
    store = CaptionStore(project)
    store.set_many({n: f"a fine boat number {n}" for n in names})
    before = store.of(look(store.folder))
    overview(before, store.trigger, 8, count)
    asked.clear()
    store.set("04.png", "another boat, in the rain")
    after = store.of(look(store.folder))
    assert [n for n in names if after[n] is not before[n]] == ["04.png"]
    assert changed(before, after) == {"04.png"}
    assert overview(after, store.trigger, 8, count).long == 9
    assert asked == [after["04.png"].text]
    assert store.of(look(store.folder)) is after, "the same object while nothing changes"


def test_an_approval_has_no_words_looked_at_and_no_tags_compared_again(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = _pictures(project, 9)
    store = CaptionStore(project)
    store.set_many({n: f"lighthouse, lighthosue, boat {n}" for n in names}, status="needs review")
    with tally(store.of(look(store.folder)), store.trigger) as told:
        pairs, where = told.near_misses(), told.near_missed()
        assert told.status["approved"] == 0 and where == names
    monkeypatch.setattr(counting, "_words_of", lambda *_: pytest.fail("words were looked at"))
    store.approve(["04.png"])
    with tally(store.of(look(store.folder)), store.trigger) as told:
        assert told.status["approved"] == 1 and told.status["needs review"] == 8
        assert told.near_misses() is pairs and told.near_missed() is where


def test_the_first_count_of_all_lengths_asks_the_tokenizer_once() -> None:
    asked: list[list[str]] = []

    class Table(Reader):
        def counts(self, texts: Iterable[str]) -> list[int] | None:
            asked.append(list(texts))
            return [len(t.split()) for t in asked[-1]]

        def count(self, text: str) -> int | None:
            found = self.counts([text])
            return None if found is None else found[0]

    count = counter(Table("CLIP", 3))
    captions = {f"{n}.png": Caption(f"mira, {n} of many words", exists=True) for n in range(50)}
    captions |= {"short.png": Caption("cat", exists=True)}
    with tally(captions, "mira") as told:
        assert told.long_named(count, 3) == [n for n in captions if n != "short.png"]
    assert len(asked) == 1 and len(asked[0]) == 50, "what cannot be too long is not counted at all"
    assert count("mira, 7 of many words") == 5 and len(asked) == 1


def test_two_projects_with_one_trigger_word_are_counted_apart(project: Project) -> None:
    one, other = (Captions({}, Course(), 0) for _ in range(2))
    with tally(one, "mira") as a, tally(other, "mira") as b:
        assert a is not b
    with tally(one, "mira") as again:
        assert again is a


def test_a_course_tells_what_changed_and_admits_what_it_forgot() -> None:
    course = Course()
    for n in range(100):
        course.step([f"p{n}"])
    assert course.between(100, 97) == {"p97", "p98", "p99"} == course.between(97, 100)
    assert course.between(98, 99) == {"p98"} and course.between(100, 100) == frozenset()
    assert course.between(3, 100) is None


def test_spellings_that_come_and_go() -> None:
    chance = random.Random(2)
    stems = ("outdoor", "lighthouse", "red scarf", "watercolour", "backpack")
    pool = set(stems)
    for stem in stems:
        for _ in range(12):
            at = chance.randrange(1, len(stem))
            pool |= {
                stem[:at] + stem[at + 1 :],
                stem[:at] + "x" + stem[at:],
                stem.replace(" ", "_") + "s",
                stem.title(),
            }
    kept = Spellings()
    for _ in range(60):
        wanted = set(chance.sample(sorted(pool), 30))
        kept.change(kept.tags - wanted, wanted - kept.tags)
        assert kept.pairs() == Spellings(wanted).pairs()
    kept.become(())
    assert kept.pairs() == () and not kept._around and not kept._groups
