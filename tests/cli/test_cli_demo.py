"""The demo: the whole path, in the right order, to be stopped and gone on with."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from studio.cli import demo, watch

Cli = Callable[..., Any]


def note_of(home: Path, slug: str = "sample-blueprint") -> dict[str, Any]:
    return dict(json.loads((home / "projects" / slug / "demo.json").read_text()))


def test_the_demo_refuses_mends_trains_and_registers(cli: Cli, home: Path, engines: None) -> None:
    answer = cli("demo")
    assert answer.code == 0, answer.out + answer.err
    said = [
        "A folder with planted mistakes", "Gate 1 refuses it", "NO-GO", "12_penguin_broken.png",
        "04_airplane.png has no caption", "lacks the trigger word", "The mistakes are mended",
        "Caption written for 04_airplane.png: bluprnt, airplane", "Set aside: 12_penguin_broken.png",
        "Put the trigger word first: 05_sailboat.png", "Gate 1, dataset: GO", "Gate 2, config: GO",
        "Gate 3, environment: GO", "Gate 4, dry run: GO", "epoch 1: loss", "Finished:", "sheet.png", "Use 0.",
        "Recommended weight", "Took",
    ]  # fmt: skip
    place = 0
    for words in said:
        found = answer.out.find(words, place)
        assert found >= 0, f"{words!r} missing, or in the wrong place"
        place = found
    assert answer.out.count("Next:") == 1
    note = note_of(home)
    assert note["finished"] and all(s["done"] for s in note["stages"])
    assert note["seconds"] == pytest.approx(sum(s["seconds"] for s in note["stages"]), abs=0.1)
    assert Path(next(s for s in note["stages"] if s["name"] == "register")["file"]).is_file()
    assert (home / "projects" / "sample-blueprint" / "dataset" / "14_penguin.png").is_file()
    assert (home / "studio.md").is_file()

    again = cli("demo", "--json")
    assert again.code == 0 and again.json["project"] == "sample-blueprint-2"
    assert again.json["recommended_weight"] > 0 and Path(again.json["sheet"]).is_file()
    assert again.json["loss"]["last"] < again.json["loss"]["first"]


def test_a_stopped_demo_goes_on_where_it_was(
    cli: Cli, home: Path, engines: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:

        def pressed(*_: object) -> str:
            raise KeyboardInterrupt

        patch.setattr(demo.Demo, "settings", pressed)
        assert cli("demo").code == 130
    before = note_of(home)
    assert [s["name"] for s in before["stages"] if s["done"]] == [
        "computer",
        "flawed",
        "refusal",
        "fixes",
        "sample",
    ]
    with monkeypatch.context() as patch:

        def pressed_at_run(job: Any) -> str:
            if job.spec.kind == "training":
                raise KeyboardInterrupt
            return ""

        patch.setattr(watch, "progress_words", pressed_at_run)
        left = cli("demo")
    assert left.code == 130 and "goes on by itself" in left.out and "`lora-studio demo` goes on" in left.out
    assert left.out.count("Done before.") == 5
    done = cli("demo")
    assert done.code == 0 and "Going on with the demo" in done.out
    assert len(list((home / "projects" / "sample-blueprint" / "runs").iterdir())) == 1
    assert note_of(home)["finished"]
    assert [p.name for p in (home / "projects").iterdir()] == ["sample-blueprint"]
