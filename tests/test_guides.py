"""Guides: complete, honest about their sources, findable."""

from __future__ import annotations

import re

import pytest
import yaml

from studio import guides
from studio.errors import NotFoundError
from studio.models import list_models
from studio.presets import Preset
from studio.settings import knobs
from studio.workspace import Workspace

WANTED = {
    "concepts",
    "dataset-size",
    "content-and-style",
    "captioning",
    "caption-formats",
    "curation",
    "parameters",
    "optimizers",
    "presets",
    "backends",
    "pytorch-and-cuda",
    "memory",
    "preflight",
    "evaluation",
    "strength",
    "failure-modes",
}


def test_every_promised_guide_is_there() -> None:
    assert {g.id for g in guides.list_guides()} == WANTED


@pytest.mark.parametrize("guide", guides.list_guides(), ids=lambda g: g.id)
def test_guide_is_short_sourced_and_linked(guide: guides.Guide) -> None:
    assert guide.group in guides.GROUPS
    assert 25 <= len(guide.body.splitlines()) <= 90
    assert guide.minutes <= 8
    assert set(guide.settings) <= set(knobs())
    assert set(guide.see) <= WANTED - {guide.id}
    cited = {int(n) for found in re.findall(r"\[(\d+(?:, \d+)*)\]", guide.body) for n in found.split(", ")}
    assert cited <= set(range(1, len(guide.sources) + 1)), "a citation without a source"
    # A source of folklore must be visible as such where it is used.
    if any(s.kind == "folklore" for s in guide.sources):
        assert "folklore" in guide.body


def test_every_citation_of_folklore_is_marked_in_its_paragraph() -> None:
    for g in guides.list_guides():
        weak = {i for i, s in enumerate(g.sources, 1) if s.kind == "folklore"}
        for paragraph in re.split(r"\n\n", g.body):
            used = {int(n) for f in re.findall(r"\[(\d+(?:, \d+)*)\]", paragraph) for n in f.split(", ")}
            if used and used <= weak:
                assert "folklore" in paragraph, f"{g.id}: {paragraph[:80]}"


def test_the_preset_shown_in_the_guide_is_a_preset() -> None:
    body = guides.get_guide("presets").body
    shown = re.search(r"```yaml\n(.*?)```", body, flags=re.S)
    assert shown is not None
    assert Preset.model_validate(yaml.safe_load(shown[1])).settings["epochs"] == 20


def test_families_named_in_caption_formats_cover_the_manifest(tmp_path) -> None:  # type: ignore[no-untyped-def]
    text = guides.get_guide("caption-formats").body.lower().replace(".", "")
    for entry in list_models(Workspace(tmp_path)):
        assert entry.family in text, entry.family


def test_glossary_holds_every_setting_and_no_term_twice() -> None:
    terms = guides.glossary()
    assert {t.setting for t in terms if t.setting} == set(knobs())
    names = [t.term.lower() for t in terms]
    assert len(names) == len(set(names))
    assert names == sorted(names)


def test_search_finds_by_title_heading_text_and_setting() -> None:
    assert guides.search("optimizers")[0].id == "optimizers"
    assert any(h.id == "memory" for h in guides.search("out of memory"))
    assert guides.search("rank")[0].title == "Rank"
    assert any(h.id == "Min-SNR gamma" for h in guides.search("min-snr"))
    assert any(h.id == "failure-modes" and h.heading == "It broke" for h in guides.search("black pictures"))


def test_search_needs_every_word_and_survives_odd_input() -> None:
    assert guides.search("") == []
    assert guides.search("   ?!") == []
    assert guides.search("prodigy zebra") == []
    assert guides.search("(((") == []
    assert len(guides.search("the", limit=3)) == 3


def test_excerpts_are_plain_words() -> None:
    for h in guides.search("learning rate"):
        assert not re.search(r"[*`|]|\[\d", h.excerpt), h.excerpt
        assert len(h.excerpt) < 400


def test_unknown_guide_names_those_that_exist() -> None:
    with pytest.raises(NotFoundError) as caught:
        guides.get_guide("nothing")
    assert "captioning" in caught.value.fix


def test_guide_without_head_is_named(tmp_path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "bad.md"
    path.write_text("# hello")
    with pytest.raises(ValueError, match=r"bad\.md"):
        guides.read_guide(path)


def test_guides_for_a_setting() -> None:
    assert "optimizers" in [g.id for g in guides.guides_for("learning_rate")]
    assert guides.guides_for("no_such_setting") == []


def test_a_group_of_settings_leads_to_the_guide_that_explains_most_of_it() -> None:
    about = {
        group: guides.guide_about(n for n, k in knobs().items() if k.group == group)
        for group in ("Length", "Network", "Optimizer", "Memory", "Loss", "Captions")
    }
    assert {g: a.id for g, a in about.items() if a} == {
        "Length": "dataset-size", "Network": "parameters", "Optimizer": "optimizers", "Memory": "memory",
        "Loss": "parameters", "Captions": "captioning",
    }  # fmt: skip
    assert guides.guide_about(["no_such_setting"]) is None
