"""The config page: what is chosen is on the disk at once, and nothing starts unseen."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from studio import choices, gates
from studio.dataset.intake import import_pictures
from studio.project import Intent, Project, create_project
from studio.training.sdscripts import install
from studio.workspace import Workspace
from tests.pages import worlds
from tests.pages.app import labels, open_page, sound, tables, texts
from tests.training.sdscripts.sdscripts_small import stand_in


@pytest.fixture
def project(workspace: Workspace, tmp_path: Path) -> Project:
    return worlds.project(workspace, worlds.pictures(tmp_path / "in"))


def _key(project: Project, name: str) -> str:
    return f"set_{project.slug}_{name}"


def test_first_visit_starts_from_the_standard_preset(workspace: Workspace, tmp_path: Path) -> None:
    fresh = worlds.project(workspace, worlds.pictures(tmp_path / "in"), preset=False)
    at = open_page("config", fresh.slug)
    assert fresh.preset == "pocket-standard"
    assert "What it takes" in texts(at)
    assert "Standard" in texts(at)


def test_a_look_before_the_pictures_does_not_fix_the_repeats(workspace: Workspace, tmp_path: Path) -> None:
    early = create_project(workspace, Intent(kind="style", name="Early", trigger="bluprnt"))
    open_page("config", early.slug)
    import_pictures(early, [worlds.pictures(tmp_path / "in")])
    at = open_page("config", early.slug)
    assert early.settings.repeats == round(107 / 8)
    assert f"{gates.forecast(early).steps.total_steps} in " in texts(at)


def test_easy_asks_for_no_more_than_seven_things(project: Project) -> None:
    at = open_page("config", project.slug)
    asked = [w for w in (*at.number_input, *at.selectbox) if str(w.key).startswith(("set_", "base_"))]
    assert len(asked) + 1 <= 7, "the preset is asked as well"
    assert "Save as preset" in labels(at)


def test_a_number_is_stored_as_it_is_typed_and_the_estimate_moves(project: Project) -> None:
    at = open_page("config", project.slug)
    before = gates.forecast(project).steps.total_steps
    assert f"{before} in 5 epochs" in texts(at)
    sound(at.number_input(key=_key(project, "epochs")).set_value(10).run())
    assert project.settings.epochs == 10
    assert f"{2 * before} in 10 epochs" in texts(at)
    assert ":green-badge[changed]" in texts(at)


def test_a_preset_fills_everything(project: Project) -> None:
    at = open_page("config", project.slug)
    sound(at.button(key="use_pocket-thorough").click().run())
    assert project.preset == "pocket-thorough"
    assert project.settings.epochs == 25
    assert at.number_input(key=_key(project, "epochs")).value == 25


def test_an_optimizer_takes_its_rate_along(project: Project) -> None:
    before = project.settings.learning_rate
    at = open_page("config", project.slug)
    sound(at.selectbox(key=_key(project, "optimizer")).select("lion").run())
    assert project.settings.learning_rate == pytest.approx(before / 5)


def test_what_another_window_stored_is_shown(project: Project) -> None:
    at = open_page("config", project.slug)
    choices.change(project, {"rank": 16})
    at.run()
    assert at.number_input(key=_key(project, "rank")).value == 16


def test_advanced_shows_every_setting_and_finds_one(project: Project, workspace: Workspace) -> None:
    workspace.remember(mode="advanced")
    at = open_page("config", project.slug)
    for choice in choices.listed(project):
        assert at.get_by_key(_key(project, choice.knob.name)) is not None
    sound(at.text_input(key="config_query").set_value("gradient clipping").run())
    shown = [w for w in at.number_input if str(w.key).startswith("set_")]
    assert [w.key for w in shown] == [_key(project, "max_grad_norm")]
    sound(at.text_input(key="config_query").set_value("zebra").run())
    assert "No setting fits." in texts(at)


def test_advanced_marks_a_change_and_takes_it_back(project: Project, workspace: Workspace) -> None:
    workspace.remember(mode="advanced")
    choices.change(project, {"warmup": 0.2})
    at = open_page("config", project.slug)
    assert "Only changed (1)" in [t.label for t in at.toggle]
    sound(at.button(key="reset_warmup").click().run())
    assert project.settings.warmup == pytest.approx(0.1)
    assert at.button(key="reset_all").disabled


def test_what_cannot_be_is_said_and_not_stored(project: Project, workspace: Workspace) -> None:
    workspace.remember(mode="advanced")
    at = open_page("config", project.slug)
    sound(at.number_input(key=_key(project, "resolution")).set_value(65).run())
    assert "These training settings cannot be used." in texts(at)
    assert project.settings.resolution == 64


def test_a_rate_of_zero_is_refused_under_its_field_with_the_true_range(
    project: Project, workspace: Workspace
) -> None:
    """0 is also what the browser makes of letters typed into the field."""
    workspace.remember(mode="advanced")
    at = open_page("config", project.slug)
    sound(at.number_input(key=_key(project, "learning_rate")).set_value(0.0).run())
    under = next(c.value for c in at.caption if "Learning rate (learning_rate) cannot be 0.0." in c.value)
    assert "Use a number above 0, at most 10" in under
    assert "beside it" not in texts(at)


def test_review_lists_every_choice_and_marks_the_defaults(project: Project) -> None:
    choices.change(project, {"epochs": 9})
    at = open_page("config", project.slug)
    sound(at.button(key="to_review").click().run())
    every = choices.listed(project)
    assert f"1 of {len(every)} settings are yours" in texts(at)
    listed = tables(at)
    for choice in every:
        assert choice.knob.title in listed
    assert "yours" in listed
    assert "instead of 5 epochs" in listed
    assert "default" in listed


def test_confirming_runs_gate_two_and_goes_on(project: Project) -> None:
    at = open_page("config", project.slug)
    at.button(key="to_review").click().run()
    sound(at.button(key="confirm").click().run())
    assert gates.state(project, "config").state == "passed"
    assert at.title[0].value == "Run"


def test_a_blocked_gate_keeps_one_here_and_says_why(project: Project) -> None:
    choices.change(project, {"learning_rate": 0.5})
    at = open_page("config", project.slug)
    at.button(key="to_review").click().run()
    sound(at.button(key="confirm").click().run())
    assert at.title[0].value == "Config"
    assert "A learning rate of 0.5 breaks the LoRA" in texts(at)


def test_generated_files_can_be_read(project: Project) -> None:
    at = open_page("config", project.slug)
    sound(at.segmented_control(key="config_view").set_value("files").run())
    assert any('"rank": 8' in c.value for c in at.code)


def test_without_pictures_the_page_says_what_is_missing(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    empty = worlds.project(workspace, tmp_path / "none")
    at = open_page("config", empty.slug)
    assert "Add pictures first" in texts(at)
    sound(at.segmented_control(key="config_view").set_value("files").run())
    assert "No files yet" in texts(at)


def test_a_base_model_that_is_gone_is_said(project: Project) -> None:
    project.save_intent(project.intent.model_copy(update={"base_model": "lost"}))
    at = open_page("config", project.slug)
    assert "no base model called 'lost'" in texts(at)


def test_settings_damaged_by_hand_are_said(project: Project) -> None:
    (project.folder / "settings.yaml").write_text("settings: {rank: many}", encoding="utf-8")
    at = open_page("config", project.slug)
    assert "These training settings cannot be used." in texts(at)


def test_the_review_begins_at_its_top_and_keeps_defaults_folded(project: Project) -> None:
    at = open_page("config", project.slug)
    sound(at.button(key="to_review").click().run())
    assert any("scrollTo" in str(h.proto.body) for h in at.get("html")), "it would open where the button was"
    assert "more, left at their defaults" in " ".join(e.label for e in at.expander)
    at.run()
    assert not any("scrollTo" in str(h.proto.body) for h in at.get("html")), "only once"


def test_a_unit_that_the_title_says_is_not_said_twice(project: Project) -> None:
    project.workspace.remember(mode="advanced")
    told = [n.label for n in open_page("config", project.slug).number_input]
    assert "Epochs" in told and "Batch size (pictures)" in told


def test_presets_that_only_differ_in_length_use_the_measured_pace(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    worlds.pass_gates(project, monkeypatch)
    longer = project.settings.model_copy(update={"epochs": project.settings.epochs * 2})
    once, twice = gates.forecast(project), gates.forecast(project, longer)
    assert twice.basis == "measured" and once.seconds and twice.seconds
    assert once.seconds < twice.seconds < 2 * once.seconds
    wider = project.settings.model_copy(update={"rank": project.settings.rank * 2})
    assert gates.forecast(project, wider).basis == "estimated"


# --- trained by sd-scripts


@pytest.fixture
def scripts(project: Project, tmp_path: Path) -> Project:
    """A project on SDXL, with a stand-in for sd-scripts set up."""
    engine = stand_in(tmp_path / "sd")
    install.adopt(project.workspace, Path(engine["source"]), Path(engine["python"]))
    choices.choose_base_model(project, "sdxl")
    choices.change(project, {"backend": "kohya"})
    return project


def test_easy_asks_for_the_engine_only_where_there_is_a_choice(scripts: Project) -> None:
    at = open_page("config", scripts.slug)
    asked = [w for w in (*at.number_input, *at.selectbox) if str(w.key).startswith(("set_", "base_"))]
    assert len(asked) + 1 <= 7, "the preset is asked as well"
    assert at.selectbox(key=_key(scripts, "backend")).value == "kohya"
    assert "replicate" not in " ".join(at.selectbox(key=_key(scripts, "backend")).options).lower()


def test_what_needs_no_words_has_no_empty_box(project: Project) -> None:
    at = open_page("config", project.slug)
    sound(at.segmented_control(key="config_view").set_value("files").run())
    assert at.code, "the files are there"
    assert "Each value explained" not in [e.label for e in at.expander]


def test_the_config_is_shown_with_each_value_explained(scripts: Project) -> None:
    at = open_page("config", scripts.slug)
    sound(at.segmented_control(key="config_view").set_value("files").run())
    told = texts(at)
    assert "network_alpha = 16.0" in told and "caption_extension" in told
    assert "Each value explained" in [e.label for e in at.expander]
    explained = [str(cell) for t in at.table for cell in t.value.to_numpy().ravel()]
    assert "Alpha; always written, since the script's own is 1" in explained
    assert "`network_alpha` = 16.0" in explained and "`caption_extension` = .txt" in explained
    assert "sdxl_train_network.py --config_file" in told


def test_what_the_script_would_pass_over_is_said_beside_the_setting(
    scripts: Project, workspace: Workspace
) -> None:
    workspace.remember(mode="advanced")
    choices.change(
        scripts, {"extra_options": ("foo = 1", "scale_weight_norms = 1.0"), "targets": "attention"}
    )
    told = texts(open_page("config", scripts.slug))
    assert "has no option 'foo'. Remove it." in told
    assert "Only attention layers cannot be taught with sd-scripts." in told


def test_a_config_from_elsewhere_is_shown_taken_over_and_undone(scripts: Project) -> None:
    before = scripts.settings
    at = open_page("config", scripts.slug)
    sound(at.segmented_control(key="config_view").set_value("files").run())
    data = json.dumps({"LoRA_type": "Standard", "sdxl": True, "network_dim": 12, "optimizer": "Prodigy", "learning_rate": 1,
                       "output_name": "x", "scale_weight_norms": 2}).encode()  # fmt: skip
    at.file_uploader[0].upload("mine.json", data)
    sound(at.run())
    assert "line stays behind" in " ".join(e.label for e in at.expander)
    assert "never overwritten" in tables(at) or "nothing is overwritten" in tables(at)
    assert scripts.settings == before, "nothing changed yet"
    sound(at.button(key="import_apply").click().run())
    assert (scripts.settings.rank, scripts.settings.optimizer, scripts.settings.learning_rate) == (
        12,
        "prodigy",
        1.0,
    )
    assert scripts.settings.extra_options == ("scale_weight_norms = 2.0",)
    sound(at.button(key="flash_undo").click().run())
    assert scripts.settings == before
    at.file_uploader[0].upload("bad.toml", b"= 3")
    sound(at.run())
    assert "no valid TOML" in texts(at)


@pytest.fixture
def rented(workspace: Workspace, tmp_path: Path) -> Project:
    """A project whose base model is trained on Replicate."""
    made = worlds.project(workspace, worlds.pictures(tmp_path / "in"), preset=False)
    choices.choose_base_model(made, "flux")
    return made


def test_a_rented_base_model_takes_no_config_of_another_program(rented: Project) -> None:
    before = rented.settings
    at = open_page("config", rented.slug)
    assert "Your pictures are uploaded to Replicate." in texts(at), "said where the base model is chosen"
    sound(at.segmented_control(key="config_view").set_value("files").run())
    at.file_uploader[0].upload("mine.json", json.dumps({"LoRA_type": "Standard", "network_dim": 12}).encode())
    sound(at.run())
    assert "This base model is rented" in texts(at)
    assert "import_apply" not in [b.key for b in at.button]
    assert rented.settings == before and before.backend == "replicate"


def test_further_options_are_refused_with_the_nearest_name(scripts: Project) -> None:
    choices.change(scripts, {"extra_options": ("scale_weight_norm = 1", "full_bf16 = maybe", "seed = 3")})
    said = gates.run_gate(scripts, "config")
    told = {f.where[-1]: f for f in said.findings if f.code.startswith("option")}
    assert "scale_weight_norms" in told["scale_weight_norm"].why + told["scale_weight_norm"].fix
    assert "true or false" in told["full_bf16"].fix
    assert "Seed" in told["seed"].fix
    assert not said.passed


def test_a_secret_among_further_options_is_refused_on_the_page_and_not_kept(scripts: Project) -> None:
    scripts.workspace.remember(mode="advanced")
    at = open_page("config", scripts.slug)
    sound(
        at.text_area(key=_key(scripts, "extra_options"))
        .set_value("huggingface_token = hf_" + "a1B2" * 8)
        .run()
    )
    assert [e.proto.title for e in at.error] == ["This was not stored: it looks like a secret."]
    assert scripts.settings.extra_options == ()


def test_an_emptied_number_takes_its_old_value_back(project: Project) -> None:
    """As after letters: the browser then has nothing to tell. It became the smallest number, 1 epoch, and was stored."""
    before = project.settings
    at = open_page("config", project.slug)
    sound(at.number_input(key=_key(project, "epochs")).set_value(None).run())
    assert at.number_input(key=_key(project, "epochs")).value == before.epochs
    assert project.settings == before


def test_a_rate_that_lost_its_comma_is_told_beside_the_field(project: Project, workspace: Workspace) -> None:
    """A browser may make 1 of 0,0001; gate 2 blocks it, and the field says so before."""
    workspace.remember(mode="advanced")
    at = open_page("config", project.slug)
    sound(at.number_input(key=_key(project, "learning_rate")).set_value(1.0).run())
    assert "A learning rate of 1 breaks the LoRA within a few steps." in texts(at)
    sound(at.number_input(key=_key(project, "epochs")).set_value(9999).run())
    assert "Epochs is 9999, outside of the usual" in texts(at)
    sound(at.number_input(key=_key(project, "resolution")).set_value(100).run())
    assert "Use a whole number from 32 to 4096 in steps of 8 px." in texts(at)
