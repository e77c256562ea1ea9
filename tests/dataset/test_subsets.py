"""Repeats and regularisation: the arithmetic of sd-scripts, what the user marks, and what follows from it."""

from __future__ import annotations

import random
import zipfile
from pathlib import Path

import pytest

from studio import guidance
from studio.captions.store import CaptionStore
from studio.dataset.gate import dataset_findings, dataset_fingerprint
from studio.dataset.intake import import_pictures
from studio.dataset.origins import picture_repeats, regularisation_pictures, says_regularisation
from studio.dataset.scan import scan
from studio.dataset.subsets import (
    Subset,
    mark_regularisation,
    marked_at_import,
    project_subsets,
    set_repeats,
    shown_per_bucket,
    subset_findings,
    subsets_of,
    teaching_count,
    times_shown,
)
from studio.errors import InputError, NotFoundError
from studio.estimate import plan_steps
from studio.project import Project
from studio.settings import TrainingSettings
from studio.training.prepare import freeze
from tests.dataset.pictures import folder_of, scene, write


def like_sd_scripts(subsets: list[Subset]) -> dict[str, int]:
    """The loop as sd-scripts runs it, one picture and one repeat at a time."""
    shown = {n: s.repeats for s in subsets if not s.regularisation for n in s.names}
    wanted, have, first = sum(shown.values()), 0, True
    extra = [[n, s.repeats] for s in subsets if s.regularisation for n in s.names]
    taken: dict[str, int] = {}
    while extra and have < wanted:
        for name, repeats in extra:
            if first:
                taken[str(name)] = int(repeats)
                have += int(repeats)
            else:
                taken[str(name)] += 1
                have += 1
            if have >= wanted:
                break
        first = False
    return shown | taken


def test_regularisation_is_shown_as_often_as_what_is_taught_by_the_arithmetic_of_sd_scripts() -> None:
    chance = random.Random(1)
    for _ in range(500):
        names = [f"{i:03}" for i in range(chance.randint(1, 40))]
        extra = {n for n in names if chance.random() < 0.4}
        own = {n: chance.randint(1, 7) for n in names if chance.random() < 0.5}
        subsets = subsets_of(names, own, extra, chance.randint(1, 5))
        assert times_shown(subsets) == like_sd_scripts(subsets)


def test_the_setting_multiplies_only_what_is_taught() -> None:
    subsets = subsets_of(["a", "b", "c", "r"], {"b": 3, "r": 2}, {"r"}, 5)
    assert subsets == [Subset(5, False, ("a", "c")), Subset(15, False, ("b",)), Subset(2, True, ("r",))]
    assert times_shown(subsets) == {"a": 5, "c": 5, "b": 15, "r": 25}
    assert times_shown(subsets_of(["r"], {}, {"r"}, 1)) == {}


@pytest.fixture
def marked(project: Project, tmp_path: Path) -> Project:
    """Two pictures from `10_mira`, one from `1_other`, three from `reg/1_woman`."""
    folder = tmp_path / "set"
    for i, place in enumerate(["10_mira", "10_mira", "1_other", *["reg/1_woman"] * 3]):
        write(folder / place / f"p{i}.png", scene(i), f"mirastyle, thing{i}")
    import_pictures(project, [folder])
    return project


def test_kohya_folders_bring_repeats_and_regularisation_along(marked: Project) -> None:
    assert regularisation_pictures(marked) == {"p3.png", "p4.png", "p5.png"}
    assert picture_repeats(marked) == {
        "p0.png": 10, "p1.png": 10, "p2.png": 1, "p3.png": 1, "p4.png": 1, "p5.png": 1,
    }  # fmt: skip
    assert says_regularisation("reg_images/1_dog/a.png") and says_regularisation("Class Images/a.png")
    assert not says_regularisation("a/regal/reg.png")
    settings = TrainingSettings(repeats=2, resolution=64, bucket_step=8)
    assert [s.repeats for s in project_subsets(marked, settings)] == [2, 20, 1]
    assert teaching_count(marked) == 21
    shown = shown_per_bucket(marked, scan(marked), settings)
    assert shown == [84]
    assert plan_steps(shown, settings.model_copy(update={"batch_size": 10})).steps_per_epoch == 9


def test_marks_change_the_fingerprint_and_come_back(marked: Project) -> None:
    before = dataset_fingerprint(marked)
    assert mark_regularisation(marked, ["p2.png", "p3.png"]) == ["p2.png"]
    assert dataset_fingerprint(marked) != before
    assert mark_regularisation(marked, ["p2.png"], on=False) == ["p2.png"]
    assert dataset_fingerprint(marked) == before
    assert set_repeats(marked, ["p2.png"], 4) == ["p2.png"]
    assert dataset_fingerprint(marked) != before


def test_a_project_without_marks_keeps_its_fingerprint(project: Project, tmp_path: Path) -> None:
    import_pictures(project, [folder_of(tmp_path / "s", 3)])
    before = dataset_fingerprint(project)
    mark_regularisation(project, ["p00.png"])
    mark_regularisation(project, ["p00.png"], on=False)
    assert dataset_fingerprint(project) == before


def test_wrong_marks_change_nothing(marked: Project) -> None:
    before = (marked.folder / "pictures.json").read_bytes()
    with pytest.raises(NotFoundError, match="nope"):
        mark_regularisation(marked, ["p2.png", "nope.png"])
    for number in (0, -1, 1001):
        with pytest.raises(InputError, match="cannot be repeated"):
            set_repeats(marked, ["p2.png"], number)
    assert (marked.folder / "pictures.json").read_bytes() == before


def test_gate_1_does_not_ask_for_the_trigger_word_of_regularisation_pictures(marked: Project) -> None:
    (marked.dataset_dir / "p3.txt").write_text("a woman in a garden")
    (marked.dataset_dir / "p4.txt").unlink()
    codes = {f.code for f in dataset_findings(marked)[0]}
    assert not codes & {"trigger-missing", "caption-missing"}
    assert guidance.missing_captions(marked, CaptionStore(marked).all()) == 0, (
        "nor does the page wait for them"
    )
    mark_regularisation(marked, ["p3.png", "p4.png"], on=False)
    assert guidance.missing_captions(marked, CaptionStore(marked).all()) == 1
    assert {"trigger-missing", "caption-missing"} <= {f.code for f in dataset_findings(marked)[0]}


def test_what_is_odd_is_told(marked: Project) -> None:
    captions = CaptionStore(marked).all()
    settings = TrainingSettings()
    assert subset_findings(marked, settings, captions) == []
    (marked.dataset_dir / "p3.txt").write_text("mirastyle")
    set_repeats(marked, ["p3.png"], 30)
    found = subset_findings(marked, settings, CaptionStore(marked).all())
    assert {f.code: f.where for f in found} == {"regularisation-no-caption": ("p3.png",)}
    mark_regularisation(marked, ["p0.png", "p1.png"])
    found = subset_findings(marked, settings, CaptionStore(marked).all())
    assert next(f for f in found if f.code == "regularisation-unused").what.startswith("4 of 5")
    mark_regularisation(marked, ["p2.png"])
    assert [f.code for f in subset_findings(marked, settings, captions)] == ["only-regularisation"]
    assert shown_per_bucket(marked, scan(marked), settings) == []


def test_a_plan_holds_them_without_the_trigger_word(marked: Project, tmp_path: Path) -> None:
    from studio.models import get_model

    entry = get_model(marked.workspace, "pocket")
    plan = freeze(marked, entry, tmp_path / "run", output_name="x")
    told = {p.path.name: (p.caption, p.repeats, p.regularisation) for p in plan.pictures}
    assert told["p0.png"] == ("mirastyle, thing0", 10, False)
    assert told["p3.png"] == ("thing3", 1, True)
    mark = plan.fingerprint()
    plain = plan.model_copy(
        update={"pictures": tuple(p.model_copy(update={"regularisation": False}) for p in plan.pictures)}
    )
    assert plain.fingerprint() != mark
    mark_regularisation(marked, list(told))
    with pytest.raises(InputError, match="no pictures to train"):
        freeze(marked, entry, tmp_path / "other", output_name="x")


def test_a_chosen_folder_that_is_called_reg_is_marked_and_said(project: Project, tmp_path: Path) -> None:
    """The chosen folder's own name counts, and that of the one above kohya's `N_name`; a mark of the user stays."""
    kohya = tmp_path / "set" / "reg" / "2_woman"
    write(kohya / "a.png", scene(1))
    write(tmp_path / "reg_images" / "b.png", scene(2))
    write(tmp_path / "prior" / "deep" / "c.png", scene(3))
    write(tmp_path / "regal" / "d.png", scene(4))
    packed = tmp_path / "reg.zip"
    with zipfile.ZipFile(packed, "w") as z:
        z.write(write(tmp_path / "e.png", scene(5)), "1_woman/e.png")
    sources = [kohya, tmp_path / "reg_images", tmp_path / "prior", tmp_path / "regal", packed]
    report = import_pictures(project, sources)
    assert sorted(report.regularisation) == ["a.png", "b.png", "c.png", "e.png"]
    assert "4 marked for regularisation" in report.words and report.as_dict()["regularisation"]
    assert regularisation_pictures(project) == {"a.png", "b.png", "c.png", "e.png"}
    assert picture_repeats(project) == {"a.png": 2, "e.png": 1}
    (told,) = marked_at_import(report.regularisation)
    assert told.where == tuple(report.regularisation) and "for training instead" in told.fix
    mark_regularisation(project, ["b.png"], on=False)
    again = import_pictures(project, sources)
    assert again.regularisation == [] and marked_at_import([]) == []
    assert regularisation_pictures(project) == {"a.png", "c.png", "e.png"}, "what the user said stays"
    single = import_pictures(
        project, [write(kohya / "f.png", scene(6)), write(tmp_path / "regs" / "g.png", scene(7))]
    )
    assert sorted(single.regularisation) == ["f.png", "g.png"]
