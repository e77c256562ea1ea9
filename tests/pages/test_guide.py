"""The guide page: every guide can be reached by its address, and found by words."""

from __future__ import annotations

import zipfile
from pathlib import Path

from studio import guides
from tests.pages.app import labels, open_page, sound, tables, texts


def test_the_shelf_shows_every_guide() -> None:
    at = open_page("guide")
    for guide in guides.list_guides():
        assert f"**{guide.title}**" in labels(at)


def test_a_link_opens_a_guide_with_its_sources() -> None:
    at = open_page("guide", topic="strength")
    assert at.header[0].value == "Weight and strength"
    assert "ZipLoRA" in texts(at)
    sound(at.button(key="side_memory").click().run())
    assert at.header[0].value == "Memory"
    assert at.query_params["topic"] in ("memory", ["memory"])


def test_an_unknown_guide_names_those_that_exist() -> None:
    at = open_page("guide", topic="nothing")
    assert "There is no guide called 'nothing'." in texts(at)


def test_search_finds_guides_and_words_and_leads_there() -> None:
    at = open_page("guide")
    sound(at.text_input(key="guide_query").set_value("blurry").run())
    assert "found" in texts(at)
    sound(at.button(key="found_0").click().run())
    assert at.header
    assert at.text_input(key="guide_query").value == ""


def test_search_without_a_find_says_so() -> None:
    at = open_page("guide")
    sound(at.text_input(key="guide_query").set_value("zebra crossing").run())
    assert "Nothing found for 'zebra crossing'" in texts(at)


def test_glossary_has_settings_and_words() -> None:
    at = open_page("guide")
    sound(at.segmented_control(key="guide_view").set_value("words").run())
    assert "**Min-SNR gamma**" in texts(at)
    assert "**Trigger word**" in texts(at)


def test_a_log_can_be_dropped_and_is_explained() -> None:
    recorded = zipfile.ZipFile(Path(__file__).parents[1] / "training" / "sdscripts" / "recorded.zip")
    at = open_page("guide")
    sound(at.segmented_control(key="guide_view").set_value("log").run())
    at.file_uploader[0].upload("train.log", recorded.read("ds_missing_dir.stderr.raw"))
    sound(at.run())
    assert "no picture was found" in texts(at)
    at.file_uploader[0].upload("good.log", recorded.read("run1_full.combined.raw"))
    sound(at.run())
    assert "It finished: step 8 of 8" in texts(at)
    assert "mylora.safetensors" in tables(at)
    at.file_uploader[0].upload("odd.log", b"\x00\xff" * 300)
    sound(at.run())
    assert "It finished" not in texts(at)
