"""Choosing settings: what follows, what is whose, and that nothing half-valid is stored."""

from __future__ import annotations

from pathlib import Path

import pytest

from studio import choices, gates, presets
from studio.dataset.intake import import_pictures
from studio.errors import InputError, NotFoundError
from studio.machine import Gpu, Machine
from studio.project import Intent, Project, create_project
from studio.settings import TrainingSettings, knobs
from studio.settings.optimizers import ABOUT
from studio.training.sdscripts import install
from studio.training.sdscripts.importing import Imported
from studio.workspace import Workspace
from tests.pages import worlds


@pytest.fixture
def project(workspace: Workspace, tmp_path: Path) -> Project:
    return worlds.project(workspace, worlds.pictures(tmp_path / "in"))


def test_easy_asks_at_most_seven_questions() -> None:
    asked = [k.name for k in choices.easy_knobs()]
    assert len(asked) + 2 <= 7, "preset and base model are asked as well"
    assert {"epochs", "rank", "optimizer"} <= set(asked)


@pytest.mark.parametrize("line", [
    "huggingface_token = hf_" + "a1B2" * 8,
    "--wandb-api-key=0123456789",
    "training_comment = for r8_" + "Zz9" * 10,
    "hf_" + "a1B2" * 8,
])  # fmt: skip
def test_a_secret_is_neither_stored_nor_written_into_the_history(project: Project, line: str) -> None:
    before = project.settings
    with pytest.raises(InputError) as told:
        choices.change(project, {"extra_options": ["loss_type = huber", line]})
    assert "secret" in told.value.what and told.value.why and told.value.fix
    assert line.rpartition("=")[2].strip() not in str(told.value), "nor repeated on the screen"
    choices.choose_base_model(project, "sdxl")
    with pytest.raises(InputError, match="secret"):
        choices.take_over(project, Imported("a file", {"extra_options": (line,)}))
    assert project.settings.extra_options == before.extra_options
    written = "".join(p.read_text("utf-8", "replace") for p in project.folder.rglob("*.*l*") if p.is_file())
    assert line.rpartition("=")[2].strip() not in written
    choices.change(project, {"extra_options": ["max_token_length = 150"]})
    assert project.settings.extra_options == ("max_token_length = 150",)


@pytest.mark.parametrize(
    ("optimizer", "share"), [("lion", 0.2), ("prodigy", None), ("adamw8bit", 1), ("adafactor", 1)]
)
def test_an_optimizer_takes_its_rate_along_and_back(
    project: Project, optimizer: str, share: float | None
) -> None:
    before = project.settings
    choices.change(project, {"optimizer": optimizer})
    wanted = 1.0 if share is None else before.learning_rate * share
    assert project.settings.learning_rate == pytest.approx(wanted)
    choices.change(project, {"optimizer": "adamw"})
    assert project.settings.learning_rate == pytest.approx(before.learning_rate)


def test_a_rate_that_is_named_does_not_follow(project: Project) -> None:
    choices.change(project, {"optimizer": "lion", "learning_rate": 5e-4})
    assert project.settings.learning_rate == 5e-4


def test_prodigy_gives_up_the_rate_of_the_text_encoder(project: Project) -> None:
    choices.change(project, {"text_encoder_lr": 1e-4})
    followed = choices.change(project, {"optimizer": "prodigy"})
    assert project.settings.text_encoder_lr == 0
    assert {f.name for f in followed} == {"learning_rate", "text_encoder_lr"}


def test_alpha_keeps_its_share_of_the_rank_unless_told_otherwise(project: Project) -> None:
    choices.change(project, {"rank": 32})
    assert project.settings.alpha == 32
    choices.change(project, {"rank": 16}, follow_rank=False)
    assert project.settings.alpha == 32


def test_all_problems_at_once_and_nothing_stored(project: Project) -> None:
    before = project.settings
    with pytest.raises(InputError) as caught:
        choices.change(project, {"rank": 0, "resolution": 63, "no_such": 1})
    assert len(caught.value.findings) == 3
    assert project.settings == before


def test_everything_is_listed_with_who_decided_it(project: Project) -> None:
    choices.change(project, {"epochs": 9})
    listed = {c.knob.name: c for c in choices.listed(project)}
    unread = ("Cloud", "sd-scripts")
    assert list(listed) == [n for n, k in knobs().items() if k.group not in unread]
    assert listed["epochs"].origin == "yours"
    assert listed["epochs"].usual == 5
    assert listed["resolution"].origin == "preset"
    assert listed["seed"].origin == "default"
    choices.reset(project, ["epochs"])
    assert {c.origin for c in choices.listed(project)} == {"preset", "default"}


def test_repeats_follow_from_the_number_of_pictures(project: Project) -> None:
    preset = presets.get_preset(project.workspace, "pocket-quick")
    assert project.settings.repeats == max(1, round(preset.pictures_per_epoch / len(worlds.SUBJECTS)))


def test_another_family_brings_its_like_preset(project: Project) -> None:
    applied = choices.choose_base_model(project, "sdxl")
    assert applied is not None
    assert applied.id == "sdxl-quick"
    assert project.settings.resolution == 1024
    assert choices.choose_base_model(project, "sdxl") is None
    assert project.history()[-1]["preset"] == "sdxl-quick"


def test_a_base_model_that_is_gone_can_be_replaced(project: Project) -> None:
    project.save_intent(project.intent.model_copy(update={"base_model": "lost"}))
    assert choices.choose_base_model(project, "pocket") is not None
    assert project.intent.base_model == "pocket"
    with pytest.raises(NotFoundError):
        choices.choose_base_model(project, "nowhere")


def test_a_preset_that_is_gone_falls_back_to_the_standard_one(project: Project) -> None:
    project.save_settings(project.settings, "my-lost-one")
    assert choices.current_preset(project) is None
    assert (
        choices.reference(project).epochs
        == presets.get_preset(project.workspace, "pocket-standard").settings["epochs"]
    )


def test_native_files_hold_pictures_and_settings_and_write_nothing(project: Project) -> None:
    before = sorted(p for p in project.folder.rglob("*") if "cache" not in p.parts)
    found = gates.native_files(project)
    assert '"rank": 8' in found["plan.json"]
    assert "bluprnt, car" in found["plan.json"]
    assert sorted(p for p in project.folder.rglob("*") if "cache" not in p.parts) == before


def test_no_native_files_without_pictures(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    assert gates.native_files(worlds.project(workspace, tmp_path / "none", preset=False)) == {}


def _machine(vram_gib: float | None) -> Machine:
    gpus = () if vram_gib is None else (Gpu("Card", int(vram_gib * 2**30), "580"),)
    return Machine("Linux", "cpu", 8, 32 * 2**30, gpus, "3.12", {})


def test_abilities_grow_with_the_card(workspace: Workspace) -> None:
    def states(vram: float | None) -> list[str]:
        return [a.state for a in choices.abilities(workspace, _machine(vram))]

    assert states(None) == ["well", "slow", "slow"]
    assert states(48) == ["well", "well", "well"]
    assert states(2)[2] == "not"
    order = ["not", "tight", "well"]
    for family in (1, 2):
        ranks = [order.index(states(v)[family]) for v in (2, 4, 6, 8, 12, 16, 24)]
        assert ranks == sorted(ranks)


def test_settings_of_the_project_are_never_the_shared_default(project: Project) -> None:
    choices.change(project, {"epochs": 3})
    assert TrainingSettings().epochs == 15


def test_a_preset_keeps_the_engine_that_was_chosen(workspace: Workspace, tmp_path: Path) -> None:
    from tests.training.sdscripts.sdscripts_small import stand_in

    made = worlds.project(workspace, worlds.pictures(tmp_path / "in"))
    assert choices.backends_for(made) == ["diffusers"]
    engine = stand_in(tmp_path / "sd")
    install.adopt(workspace, Path(engine["source"]), Path(engine["python"]))
    choices.choose_base_model(made, "sdxl")
    assert choices.backends_for(made) == ["diffusers", "kohya"]
    assert len(choices.easy_asks(made)) + 2 <= 7, "the preset and the base model are asked as well"
    choices.change(made, {"backend": "kohya"})
    choices.choose_preset(made, "sdxl-quick")
    assert made.settings.backend == "kohya"
    choices.choose_base_model(made, "flux-dev")
    assert (made.preset, made.settings.backend) == ("flux-quick", "kohya")
    choices.choose_base_model(made, "flux")
    assert (made.preset, made.settings.backend) == ("flux-beginner", "replicate")
    choices.choose_base_model(made, "pocket")
    assert made.settings.backend == "diffusers"


@pytest.mark.parametrize(("optimizer", "rate", "decay"), [
    ("prodigy", 1.0, 0.01), ("lion", 2e-5, 0.05), ("adafactor", 1e-4, 0.01), ("adamw8bit", 1e-4, 0.01),
])  # fmt: skip
def test_each_optimizer_brings_its_rate_and_says_why(
    workspace: Workspace, tmp_path: Path, optimizer: str, rate: float, decay: float
) -> None:
    made = worlds.project(workspace, worlds.pictures(tmp_path / "in"))
    choices.choose_base_model(made, "sdxl")
    before = made.settings.learning_rate
    followed = choices.change(made, {"optimizer": optimizer})
    assert (made.settings.learning_rate, made.settings.weight_decay) == (rate, pytest.approx(decay))
    assert all(f.why for f in followed)
    choices.change(made, {"optimizer": "adamw"})
    assert (made.settings.learning_rate, made.settings.weight_decay) == (before, pytest.approx(0.01))
    assert optimizer in ABOUT


def test_repeats_follow_the_pictures_until_somebody_sets_them(workspace: Workspace, tmp_path: Path) -> None:
    made = create_project(workspace, Intent(kind="style", name="Early", trigger="bluprnt"))
    choices.first_settings(made)
    assert made.settings.repeats == 1, "nothing is known yet"
    import_pictures(made, [worlds.pictures(tmp_path / "in")])
    choices.follow_pictures(made)
    assert made.settings.repeats == round(107 / 8)
    choices.change(made, {"rank": 4})
    (made.dataset_dir / "01_car.png").unlink()
    choices.follow_pictures(made)
    assert (made.settings.repeats, made.settings.rank) == (round(107 / 7), 4)
    choices.change(made, {"repeats": made.settings.repeats})
    (made.dataset_dir / "02_bus.png").unlink()
    choices.follow_pictures(made)
    assert made.settings.repeats == round(107 / 7), "the user said so"
    choices.reset(made, ["repeats"])
    (made.dataset_dir / "03_cat.png").unlink()
    choices.follow_pictures(made)
    assert made.settings.repeats == round(107 / 5)
    made.save_intent(
        made.intent.model_copy(update={"base_model": "sd15"})
    )  # the built-in one takes no configs
    choices.take_over(made, Imported("a file", {"repeats": 3}))
    choices.follow_pictures(made)
    assert made.settings.repeats == 3
