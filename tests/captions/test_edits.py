from __future__ import annotations

import time

import pytest

from studio.captions import edits
from studio.captions.edits import EDITS, Edit, apply, preview
from studio.captions.store import CaptionStore
from studio.errors import InputError
from studio.project import Project
from tests.dataset.pictures import scene


def result(edit: Edit, text: str, trigger: str = "mira") -> str | None:
    """What the edit makes of a caption; None when it changes nothing."""
    changes = preview({"a.png": text}, edit, trigger)
    return changes[0].after if changes else None


@pytest.mark.parametrize(
    ("edit", "before", "after"),
    [
        (Edit(kind="replace", find="cat", text="dog"), "mira, a Cat, cats", "mira, a dog, dogs"),
        (Edit(kind="replace", find="cat", text="dog", match_case=True), "mira, Cat, cat", "mira, Cat, dog"),
        (Edit(kind="replace", find="cat", text="dog", whole_word=True), "mira, cat, cats", "mira, dog, cats"),
        (Edit(kind="replace", find="cat"), "mira, cat, hill", "mira, hill"),
        (Edit(kind="replace", find="red "), "mira, a red boat", "mira, a boat"),
        (Edit(kind="replace", find="a.b", text=r"\1"), "mira, a.b, axb", r"mira, \1, axb"),
        (Edit(kind="replace", find=r"(\w+) hat", text=r"hat (\1)", regex=True), "mira, red hat", "mira, hat (red)"),
        (Edit(kind="replace", find=r"^", text="photo of ", regex=True), "mira, a boat", "mira, photo of a boat"),
        (Edit(kind="replace", find="mira", text="other"), "mira, a boat", None),
        (Edit(kind="replace", find="mira", text="other"), "mira, in mira style", "mira, in other style"),
        (Edit(kind="prepend", text="watercolour"), "mira, a boat", "mira, watercolour, a boat"),
        (Edit(kind="prepend", text="watercolour"), "mira", "mira, watercolour"),
        (Edit(kind="append", text=", at night,"), "mira, a boat,", "mira, a boat, at night,"),
        (Edit(kind="remove_tag", find="solo, 1girl"), "mira, 1girl, Solo, boat", "mira, boat"),
        (Edit(kind="remove_tag", find="mira"), "mira, boat", None),
        (Edit(kind="remove_tag", find="boat"), "mira, boat", "mira"),
        (Edit(kind="rename_tag", find="ship, vessel", text="boat"), "mira, ship, boat, vessel", "mira, boat"),
        (Edit(kind="dedupe"), "mira, a, b, A, b", "mira, a, b"),
        (Edit(kind="dedupe"), "mira, a, b", None),
        (Edit(kind="sort"), "mira, b, C, a", "mira, a, b, C"),
        (Edit(kind="underscores"), "mira, long_hair, ^_^, >_<", "mira, long hair, ^_^, >_<"),
        (Edit(kind="spaces"), "mira, long hair,  ^_^, red  hat", "mira, long_hair, ^_^, red_hat"),
        (Edit(kind="rename_tag", find="ship", text="boat"), "Mira ; ship\na hill, ship", "mira ; boat\na hill, boat"),
        (Edit(kind="remove_tag", find="ship"), "mira, ship\nhill, ship\nship\n\nend", "mira, hill\n\nend"),
        (Edit(kind="dedupe"), "mira\na, b\nB, c", "mira\na, b\nc"),
        (Edit(kind="sort"), "mira, b, a\nd, c", "mira, a, b\nc, d"),
        (Edit(kind="append", text="end"), "mira\nfirst\nsecond", "mira\nfirst\nsecond, end"),
        (Edit(kind="replace", find="\\n", text=" ", regex=True), "mira, a\nb", "mira, a b"),
    ],
)  # fmt: skip
def test_edits(edit: Edit, before: str, after: str | None) -> None:
    assert result(edit, before) == after


@pytest.mark.parametrize("edit", [Edit(kind=k, find="a", text="mira") for k in EDITS])
@pytest.mark.parametrize("text", ["mira, a", "a", "mira", "a, mira", "x, a, y"])
def test_the_trigger_leads_after_every_edit(edit: Edit, text: str) -> None:
    after = result(edit, text)
    assert after is None or after.startswith("mira")
    assert edit.words


def test_a_pattern_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edits, "PATIENCE_S", 0.2)
    begin = time.monotonic()
    with pytest.raises(InputError, match="too long"):
        preview(
            {"a.png": "mira, " + "a" * 60 + "!"},
            Edit(kind="replace", find="(a|aa)+$", text="x", regex=True),
            "mira",
        )
    assert time.monotonic() - begin < 5


def test_a_bulk_edit_makes_words_a_persons_and_approves_nothing(project: Project) -> None:
    for name in ("tagged", "tidied"):
        scene(1, (8, 8)).save(project.dataset_dir / f"{name}.png")
    store = CaptionStore(project)
    store.write_machine({"tagged.png": "cat, dog", "tidied.png": "b_c, a"}, "wd", {})
    apply(store, preview(store.all(), Edit(kind="sort"), store.trigger))
    apply(store, preview(store.all(), Edit(kind="underscores"), store.trigger))
    assert store.get("tidied.png").text == "mirastyle, a, b c" and store.get("tidied.png").by_machine
    apply(store, preview(store.all(), Edit(kind="rename_tag", find="cat", text="kitten"), store.trigger))
    tagged = store.get("tagged.png")
    assert (tagged.author, tagged.engine, tagged.status) == ("person", "wd", "needs review")
    store.approve(["tagged.png"])
    apply(store, preview(store.all(), Edit(kind="append", text="x"), store.trigger))
    assert store.get("tagged.png").status == "approved"


def test_empty_captions_stay_empty() -> None:
    assert preview({"a.png": "", "b.png": "mira"}, Edit(kind="append", text="x"), "mira")[0].name == "b.png"


@pytest.mark.parametrize(
    "edit",
    [
        Edit(kind="replace", text="x"), Edit(kind="replace", find="(", regex=True), Edit(kind="replace", find="a", text=r"\9", regex=True),
        Edit(kind="replace", find="a", text=r"\g<name>", regex=True), Edit(kind="prepend", text=" , "), Edit(kind="append"), Edit(kind="remove_tag", find=","),
        Edit(kind="rename_tag", find="a"), Edit(kind="rename_tag", text="a"),
        Edit(kind="replace", find="(" * 400 + "a" + ")" * 400, regex=True), Edit(kind="replace", find="x*", text="y" * 5000, regex=True),
        Edit(kind="append", text="long " * 900),
    ],
)  # fmt: skip
def test_edits_without_sense_are_refused_before_anything_happens(edit: Edit) -> None:
    with pytest.raises(InputError) as e:
        preview({"a.png": "mira, a" + ", word" * 3000}, edit, "mira")
    assert e.value.why and e.value.fix


@pytest.mark.parametrize(
    "text", ["a ,\n, ,, ,\n,", ",\n,  \nmira ,\n,", "the walk ,\n, mira", "mira\n, a,\n"]
)
def test_loose_commas_and_lines_leave_the_preview_what_is_written(project: Project, text: str) -> None:
    scene(1, (8, 8)).save(project.dataset_dir / "a.png")
    (project.dataset_dir / "a.txt").write_text(text.replace("mira", project.intent.trigger), encoding="utf-8")
    store = CaptionStore(project)
    for kind in ("prepend", "append"):
        changes = preview(store.all(), Edit(kind=kind, text="b"), store.trigger)
        apply(store, changes)
        assert store.get("a.png").text == changes[0].after


@pytest.mark.filterwarnings("error")
def test_a_pattern_that_a_later_python_may_read_otherwise_is_no_warning() -> None:
    edit = Edit(kind="replace", find="[[a]", text="b", regex=True)
    assert preview({"a.png": "mira, a"}, edit, "mira")[0].after == "mira, b"


def test_what_the_preview_shows_is_what_is_written(project: Project) -> None:
    for i in range(4):
        scene(i, (8, 8)).save(project.dataset_dir / f"p{i}.png")
        (project.dataset_dir / f"p{i}.txt").write_text("mirastyle, a red_boat" if i else "nothing here")
    store = CaptionStore(project)
    edit = Edit(kind="replace", find="red_boat", text="blue ship")
    changes = preview(store.all(), edit, store.trigger)
    assert [c.name for c in changes] == ["p1.png", "p2.png", "p3.png"]
    store.set("p2.png", "somebody was faster")
    result = apply(store, changes, what=edit.words)
    assert result.changed == ("p1.png", "p3.png") and [f.where for f in result.skipped] == [("p2.png",)]
    captions = {n: c.text for n, c in store.all().items()}
    assert captions == {
        "p0.png": "nothing here", "p1.png": "mirastyle, a blue ship", "p2.png": "mirastyle, somebody was faster", "p3.png": "mirastyle, a blue ship",
    }  # fmt: skip
    assert store.can_undo == "'red_boat' replaced by 'blue ship'"
    store.undo()
    assert store.get("p1.png").text == "mirastyle, a red_boat"


def test_a_single_change_is_checked_too(project: Project) -> None:
    scene(1, (8, 8)).save(project.dataset_dir / "p.png")
    (project.dataset_dir / "p.txt").write_text("mirastyle, cat")
    store = CaptionStore(project)
    changes = preview(store.all(), Edit(kind="replace", find="cat", text="dog"), store.trigger)
    store.set("p.png", "faster")
    result = apply(store, changes)
    assert result.changed == () and result.skipped[0].code == "caption-changed"
    assert apply(store, []).changed == ()


def test_pictures_gone_since_the_preview_are_named(project: Project) -> None:
    for name in ("a", "b"):
        scene(1, (8, 8)).save(project.dataset_dir / f"{name}.png")
        (project.dataset_dir / f"{name}.txt").write_text("mirastyle, cat")
    store = CaptionStore(project)
    changes = preview(store.all(), Edit(kind="replace", find="cat", text="dog"), store.trigger)
    (project.dataset_dir / "a.png").unlink()
    result = apply(store, changes)
    assert result.changed == ("b.png",)
    assert [(f.code, f.where) for f in result.skipped] == [("picture-gone", ("a.png",))]
