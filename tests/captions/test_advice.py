"""Spellings that nearly agree, and captions of another kind than the base model's."""

from __future__ import annotations

import time

import pytest

from studio.captions.advice import format_findings, kinds_of, near_misses, spelling_findings, wanted_kind
from studio.captions.audit import length_findings, term_findings
from studio.captions.overview import overview_of
from studio.captions.store import CaptionStore
from studio.captions.text import looks_like_tags
from studio.models import get_model
from studio.project import Project
from studio.workspace import Workspace
from tests.captions.test_tokens import model
from tests.dataset.pictures import scene


@pytest.mark.parametrize(
    ("rare", "known"),
    [
        ("outdoor", "outdoors"), ("red_scarf", "red scarf"), ("Red-Scarf", "red scarf"), ("backpacks", "backpack"),
        ("watercolor", "watercolour"), ("sorrounded", "surrounded"), ("lighthosue", "lighthouse"), ("brown cardigen", "brown cardigan"),
    ],
)  # fmt: skip
def test_spellings_of_one_tag_are_found(rare: str, known: str) -> None:
    assert near_misses({rare: 1, known: 9, "hill": 5}) == [(rare, known)]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("boat", "goat"), ("house", "horse"), ("1girl", "2girls"), ("picture 10", "picture 11"), ("from above", "from below"),
        ("black hair", "blank hair"), ("glass", "glas vase"), ("fridge", "bridge"), ("red hat", "red cat"), ("dress", "dresser"),
    ],
)  # fmt: skip
def test_different_tags_are_left_alone(one: str, other: str) -> None:
    assert near_misses({one: 3, other: 9}) == []


def test_a_misspelt_trigger_is_named() -> None:
    texts = {
        "a": "mirastyle, mirastlye boat",
        "b": "mirastyle, miras style",
        "c": "mirastyle, MIRASTYLE boat",
        "d": "mirastile",
    }
    (found,) = [f for f in spelling_findings(texts, "mirastyle") if f.code == "trigger-misspelt"]
    assert found.where == ("a", "d") and "'mirastlye'" in found.what and found.severity == "warn"
    assert not spelling_findings({"a": "sky, sly"}, "sky"), "a short trigger is near too many words"


def test_spellings_are_told_with_the_captions_that_have_the_rarer_one() -> None:
    texts = {f"p{i}": "mirastyle, outdoors, boat" for i in range(6)} | {"odd": "mirastyle, outdoor"}
    (found,) = [f for f in term_findings(texts, "mirastyle", "style") if f.code == "term-spelling"]
    assert (
        found.where == ("odd",) and "'outdoor' beside 'outdoors'" in found.what and found.severity == "info"
    )


def test_many_tags_take_no_longer_than_they_should() -> None:
    counts = {
        f"{chr(97 + i % 26)}word{i * 7919 % 10_000} {chr(97 + i // 26 % 26) * 7}thing": 1 for i in range(6000)
    }
    begin = time.process_time()
    near_misses(counts)
    assert time.process_time() - begin < 6


@pytest.mark.parametrize(
    ("text", "tags"),
    [
        ("1girl, red_scarf, outdoors", True), ("car", True), ("dog on a yellow background", False), ("a long sentence about a boat on the lake", False),
        ("A boat. It is red.", False), ("solo, looking at viewer, ^_^", True), ("a cup on a wooden table, morning light from the left", False), ("", False),
    ],
)  # fmt: skip
def test_tags_and_sentences_are_told_apart(text: str, tags: bool) -> None:
    assert looks_like_tags(text) is tags


def test_the_kind_that_a_base_model_wants(workspace: Workspace) -> None:
    assert [
        wanted_kind(get_model(workspace, m)) for m in ("pocket", "sd15", "sdxl", "pony", "illustrious")
    ] == ["", "", "", "tags", "tags"]
    assert [wanted_kind(model(f)) for f in ("flux", "sd35")] == ["sentences", "sentences"]


def test_a_kind_that_does_not_fit_is_told_and_that_it_is_not_measured(workspace: Workspace) -> None:
    pony = get_model(workspace, "pony")
    tags = {f"t{i}": f"mira, boat, lake, {i} reeds" for i in range(8)}
    sentences = {f"s{i}": f"mira, a painting of {i} boats that lie on a wide lake at dawn" for i in range(8)}
    assert kinds_of([*tags.values(), *sentences.values(), "mira"], "mira") == {"tags": 8, "sentences": 8}
    assert format_findings(tags, "mira", pony) == [] == format_findings(sentences, "mira", model("flux"))
    (found,) = format_findings(sentences, "mira", pony)
    assert (found.code, found.severity) == (
        "caption-format",
        "info",
    ) and "8 of 8 captions are sentences" in found.what
    assert "not measured" in found.why
    (found,) = format_findings(tags, "mira", model("flux"))
    assert "raised on sentences" in found.what
    (found,) = format_findings(tags | dict(list(sentences.items())[:3]), "mira", pony)
    assert found.code == "caption-format-mixed"
    assert format_findings(sentences, "mira", get_model(workspace, "sdxl")) == []
    assert format_findings(dict(list(sentences.items())[:4]), "mira", pony) == [], "too few to judge"


def test_what_a_set_comes_to(project: Project) -> None:
    for i in range(6):
        scene(i, (8, 8)).save(project.dataset_dir / f"p{i}.png")
    store = CaptionStore(project)
    store.set("p0.png", "one, " + "boat, " * 60)
    store.write_machine({f"p{i}.png": "a, b" for i in range(1, 5)}, "wd", {})
    sdxl = get_model(project.workspace, "sdxl")
    found = overview_of(store.all(), sdxl, project.workspace, store.trigger, "style")
    assert (found.pictures, found.captioned, found.limit, found.reader) == (6, 5, 75, "CLIP")
    assert found.authors == {"written by wd": 4, "written by you": 1}
    assert found.status == {"needs review": 4, "approved": 1, "empty": 1}
    assert list(found.too_long or ()) == ["p0.png"] and found.tokens is not None and found.tokens[2] > 75
    assert [f.where for f in length_findings(project, store.all(), sdxl) if f.code == "caption-long"] == [
        ("p0.png",)
    ]
    assert overview_of(store.all(), model("flux"), project.workspace, store.trigger, "style").tokens is None
