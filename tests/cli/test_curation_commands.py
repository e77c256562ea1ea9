"""Duplicates, variety, buckets, repeats and regularisation on the command line, with real pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from studio.cli.main import main
from studio.dataset.origins import picture_repeats, regularisation_pictures
from studio.project import Intent, Project, create_project
from studio.workspace import Workspace
from tests.dataset.pictures import scene, write


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = create_project(
        Workspace(tmp_path / "home"), Intent(kind="style", name="Mira", trigger="mirastyle")
    )
    for i in range(6):
        write(made.dataset_dir / f"p{i}.png", scene(i, (320, 200 if i % 2 else 320)), f"mirastyle, thing{i}")
    for i in (0, 1):
        write(
            made.dataset_dir / f"large{i}.png",
            scene(i, (320, 200 if i % 2 else 320)).resize((640, 400 if i % 2 else 640)),
        )
    return made


@pytest.fixture
def run(project: Project, capsys: pytest.CaptureFixture[str]) -> Any:
    def answer(*words: str, code: int = 0) -> dict[str, Any]:
        capsys.readouterr()
        assert main([*words, "--json", "-p", project.slug, "--home", str(project.workspace.root)]) == code
        return dict(json.loads(capsys.readouterr().out))

    return answer


def test_duplicates_are_shown_kept_and_called_different(project: Project, run: Any) -> None:
    found = run("duplicates")["groups"]
    assert [(g["kind"], g["suggested"]) for g in found] == [("near", "large0.png"), ("near", "large1.png")]
    assert run("duplicates", "--keep-best")["applied"] is False  # nobody agreed
    assert run("duplicates", "--apart", "p1.png", "--yes")["apart"] == ["large1.png", "p1.png"]
    assert run("duplicates", "--keep", "p0.png", "--yes")["set_aside"] == ["large0.png"]
    assert run("duplicates")["groups"] == []
    again = run("duplicates", "--ask-again", "--keep-best", "--yes")
    assert (again["asked_again"], again["set_aside"]) == (1, ["p1.png"])
    run("restore", "p1.png")
    assert len(run("duplicates")["groups"]) == 1


def test_variety_recommends_and_applies(project: Project, run: Any) -> None:
    found = run("variety")
    assert found["basis"] == "layout" and {c["name"] for c in found["choices"]} == {
        p.name for p in project.dataset_dir.glob("*.png")
    }
    assert all(c["why"] for c in found["choices"]) and len(found["clusters"]) == 2
    assert found["balance"]["cannot_know"] and found["suggested_repeats"] == 12
    six = run("variety", "--keep", "6", "--apply", "--yes")
    assert len(six["set_aside"]) == 2 and len(list(project.dataset_dir.glob("*.png"))) == 6
    assert {n.removeprefix("large").removeprefix("p") for n in six["set_aside"]} == {"0.png", "1.png"}


def test_buckets_are_counted_as_training_counts_them(project: Project, run: Any) -> None:
    found = run("buckets", "--resolution", "256", "--step", "64", "--batch-size", "3")
    assert [(b["width"], b["height"], len(b["names"])) for b in found["buckets"]] == [
        (256, 256, 4),
        (320, 192, 4),
    ]
    repeats = found["buckets"][0]["shown"] // 4
    assert found["steps_per_epoch"] == sum(-(-4 * repeats // 3) for _ in range(2))
    crop = found["crops"]["p1.png"]
    assert crop["bucket"] == [320, 192] and 0.9 < crop["kept"] < 1


def test_regularisation_and_repeats_are_marked_by_pattern(project: Project, run: Any) -> None:
    assert run("regularisation", "LARGE*")["changed"] == ["large0.png", "large1.png"]
    assert regularisation_pictures(project) == {"large0.png", "large1.png"}
    assert run("repeats", "p0.png", "p1.png", "--times", "3")["changed"] == ["p0.png", "p1.png"]
    assert picture_repeats(project) == {"p0.png": 3, "p1.png": 3}
    told = run("repeats")
    assert [(s["regularisation"], len(s["names"])) for s in told["subsets"]] == [
        (False, 4),
        (False, 2),
        (True, 2),
    ]
    assert told["subsets"][2]["shown"] == told["subsets"][0]["shown"] + told["subsets"][1]["shown"]
    assert [f["code"] for f in told["findings"]] == ["regularisation-no-caption"]
    assert run("regularisation", "--off", "large0.png")["changed"] == ["large0.png"]


def test_the_deep_look_runs_as_a_job(project: Project, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in project.dataset_dir.glob("*.png"):
        if path.name != "p2.png":
            path.unlink()
    Image.open(project.dataset_dir / "p2.png").resize((200, 200)).save(project.dataset_dir / "q.png")
    found = run("deep-look")
    assert (found["state"], found["looked_at"]) == ("finished", 2)
    assert run("deep-look")["started"] is False
