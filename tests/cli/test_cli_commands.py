"""What the commands do to a project: pictures, captions, settings, models."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from studio import files
from studio.workspace import shipped
from tests.modelfiles import headers

Cli = Callable[..., Any]


@pytest.fixture
def flawed(cli: Cli, home: Path) -> Path:
    """A project with the flawed sample."""
    cli("new", "Ink", "--kind", "style", "--trigger", "bluprnt")
    assert cli("import", shipped("data", "sample_flawed")).code == 0
    return home / "projects" / "ink"


def captions(folder: Path) -> dict[str, str]:
    return {p.name: p.read_text().strip() for p in sorted((folder / "dataset").glob("*.txt"))}


def test_new_proposes_a_trigger_and_becomes_the_current_project(cli: Cli, home: Path) -> None:
    first = cli("new", "Anna Weber", "--kind", "character", "--json")
    assert first.json["intent"]["trigger"] and first.json["project"] == "anna-weber"
    assert cli("new", "--name", "Vase", "--kind", "object").code == 0
    listed = cli("projects", "--json").json["projects"]
    assert {p["project"]: p["current"] for p in listed} == {"vase": True, "anna-weber": False}
    assert cli("open", "anna-weber").code == 0
    assert cli("config", "set", "rank=4").code == 0
    assert (home / "projects" / "anna-weber" / "settings.yaml").is_file()
    assert not (home / "projects" / "vase" / "settings.yaml").exists()
    assert cli("status", "-p", "Anna Weber", "--json").json["project"] == "anna-weber"


def test_a_damaged_project_does_not_hide_the_others(cli: Cli, project: Path) -> None:
    cli("new", "Vase", "--kind", "object")
    (project / "project.yaml").write_text("kind: [")
    answer = cli("projects")
    assert answer.code == 0 and "vase" in answer.out and "cannot be read" in answer.out


def test_import_takes_folders_archives_and_files_once(cli: Cli, project: Path, tmp_path: Path) -> None:
    import zipfile

    sample = shipped("data", "sample")
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as z:
        for name in ("01_car.png", "01_car.txt", "02_bus.png"):
            z.write(sample / name, name)
    (tmp_path / "fake.png").write_text("not a picture")
    answer = cli(
        "import",
        tmp_path / "set.zip",
        sample / "02_bus.png",
        sample / "03_bicycle.png",
        tmp_path / "fake.png",
    )
    assert answer.code == 0
    assert "3 pictures added" in answer.out and "1 already there" in answer.out and "fake.png" in answer.out
    assert sorted(p.name for p in (project / "dataset").glob("*.png")) == [
        "01_car.png",
        "02_bus.png",
        "03_bicycle.png",
    ]


def test_audit_names_the_planted_flaws_and_mends_them(cli: Cli, flawed: Path) -> None:
    answer = cli("audit", "--json")
    assert answer.code == 4
    codes = {f["code"] for f in answer.json["findings"] if f["severity"] == "block"}
    assert len(codes) >= 3
    preview = cli("audit", "--fix", "all")
    assert preview.code == 0 and "--yes" in preview.out and "12_penguin_broken.png" in preview.out
    assert (flawed / "dataset" / "12_penguin_broken.png").is_file()
    fixed = cli("audit", "--fix", "all", "--yes", "--json")
    assert fixed.json["applied"] and len(fixed.json["fixed"]) >= 3
    assert cli("audit").code == 0
    assert captions(flawed)["05_sailboat.txt"] == "bluprnt, sailboat"
    back = cli("restore", "--json").json["set_aside"]
    assert "12_penguin_broken.png" in {s["name"] for s in back}
    assert cli("restore", "12_penguin_broken.png").code == 0
    assert cli("audit").code == 4


def test_set_aside_asks_first(cli: Cli, flawed: Path) -> None:
    assert "--yes" in cli("set-aside", "02_bus.png").out
    assert (flawed / "dataset" / "02_bus.png").is_file()
    assert cli("set-aside", "02_bus.png", "--yes").code == 0
    assert not (flawed / "dataset" / "02_bus.png").exists()


def test_captions_are_previewed_written_and_taken_back(cli: Cli, flawed: Path) -> None:
    before = captions(flawed)
    preview = cli("captions", "replace", "car", "racing car")
    assert preview.code == 0 and "- bluprnt, car" in preview.out and "+ bluprnt, racing car" in preview.out
    assert captions(flawed) == before
    applied = cli("captions", "replace", "car", "racing car", "--yes", "--json")
    assert applied.json["applied"] and [c["picture"] for c in applied.json["changes"]] == [
        "01_car.png",
        "10_car_copy.png",
    ]
    assert captions(flawed)["01_car.txt"] == "bluprnt, racing car"
    assert cli("captions", "undo", "--yes").code == 0
    assert captions(flawed) == before
    assert cli("captions", "redo", "--yes").code == 0
    assert captions(flawed)["01_car.txt"] == "bluprnt, racing car"


def test_bulk_edits_leave_the_trigger_first(cli: Cli, flawed: Path) -> None:
    for line in (
        ["add-trigger"], ["set", "04_airplane", "an airplane"], ["prepend", "drawing"], ["append", "on paper"],
        ["rename-tag", "drawing", "sketch"], ["remove-tag", "on paper"], ["replace", "^sketch, (.*)$", r"\1, sketch", "--regex"],
    ):  # fmt: skip
        assert cli("captions", *line, "--yes").code == 0, line
    found = captions(flawed)
    assert found["01_car.txt"] == "bluprnt, car, sketch"
    assert found["04_airplane.txt"] == "bluprnt, an airplane, sketch"
    assert found["05_sailboat.txt"] == "bluprnt, sailboat, sketch"
    counted = cli("captions", "list", "--tags", "--json").json["tags"]
    assert counted["sketch"] == 12 and "bluprnt" not in counted
    assert cli("captions", "approve", "--yes").code == 0
    assert not cli("captions", "list", "--only", "needs-review", "--json").json["captions"]


def test_bulk_edits_reach_only_what_was_chosen(cli: Cli, flawed: Path) -> None:
    def changed(*line: str) -> list[str]:
        return [c["picture"] for c in cli("captions", *line, "--json").json["changes"]]

    assert (
        cli("captions", "append", "night", "--picture", "01_car", "--picture", "02_bus.png", "--yes").code
        == 0
    )
    assert (
        captions(flawed)["01_car.txt"] == "bluprnt, car, night"
        and "night" not in captions(flawed)["06_train.txt"]
    )
    assert changed("append", "x", "--tag", "night", "--without", "bus") == ["01_car.png"]
    assert changed("append", "x", "--author", "person") == ["01_car.png", "02_bus.png"]
    assert "01_car.png" not in changed("append", "x", "--author", "import")
    assert changed("replace", "night", "day", "--find", "car") == ["01_car.png"]
    assert cli("captions", "merge-tags", "night", "bus", "coach", "--yes").code == 0
    assert (
        captions(flawed)["02_bus.txt"] == "bluprnt, coach"
        and captions(flawed)["01_car.txt"] == "bluprnt, car, coach"
    )
    assert cli("captions", "merge-tags", "coach", "car", "--new", "wagon", "--yes").code == 0
    assert captions(flawed)["01_car.txt"] == "bluprnt, wagon"
    cli("captions", "set", "01_car.png", "b_c, a, ^_^, A", "--yes")
    for line in (["underscores"], ["dedupe"], ["sort"]):
        assert cli("captions", *line, "--yes").code == 0
    assert captions(flawed)["01_car.txt"] == "bluprnt, ^_^, a, b c"
    assert changed("underscores", "--back", "--picture", "01_car.png") == ["01_car.png"]
    assert not cli("captions", "list", "--too-long", "--json").json["captions"]
    cli("captions", "set", "01_car.png", "car " * 40, "--yes")
    assert [c["picture"] for c in cli("captions", "list", "--too-long", "--json").json["captions"]] == [
        "01_car.png"
    ]
    assert "longer" not in cli("captions", "stats").out and "Too long" in cli("captions", "stats").out


def test_the_history_of_captions_is_told_and_had_back(cli: Cli, flawed: Path) -> None:
    assert "No caption was changed" in cli("captions", "history").out
    cli("captions", "set", "01_car.png", "a red car", "--yes")
    cli("captions", "set", "01_car.png", "a blue car", "--yes")
    edits = cli("captions", "history", "--json").json
    assert [e["what"] for e in edits["edits"]] == ["caption of 01_car.png"] * 2 and edits["can_undo"]
    versions = cli("captions", "history", "01_car", "--json").json["versions"]
    assert [(v["version"], v["caption"], v["by"]) for v in versions] == [
        (1, "bluprnt, car", "came with the picture"), (2, "bluprnt, a red car", "written by you"), (3, "bluprnt, a blue car", "written by you"),
    ]  # fmt: skip
    assert "nothing was changed yet" in cli("captions", "restore", "01_car.png", "2").out
    assert cli("captions", "restore", "01_car.png", "2", "--yes").code == 0
    assert captions(flawed)["01_car.txt"] == "bluprnt, a red car"
    assert cli("captions", "undo", "--yes").code == 0 and cli("captions", "redo", "--yes").code == 0
    assert "No caption would change" in cli("captions", "restore", "01_car.png", "2").out
    stats = cli("captions", "stats", "--json").json
    assert stats["pictures"] == 12 and stats["authors"]["written by you"] == 1 and stats["limit"] == 30


def test_a_dataset_is_exported_and_comes_in_again(cli: Cli, flawed: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    answer = cli("export-dataset", out, "--json")
    assert answer.code == 0 and answer.json["parts"][0]["folder"].endswith("_bluprnt")
    assert (out / "dataset.toml").is_file() and answer.json["pictures"] == 11
    assert {f["code"] for f in answer.json["findings"]} == {"picture-unreadable", "caption-missing"}
    assert cli("export-dataset", out).code == 2, "never over anything"
    assert "11 pictures" in cli("export-dataset", tmp_path / "out.zip", "--layout", "flat").out
    assert cli("new", "Again", "--kind", "style", "--trigger", "bluprnt").code == 0
    assert cli("import", tmp_path / "out.zip").code == 0


def test_captions_list_filters(cli: Cli, flawed: Path) -> None:
    def names(*line: str) -> list[str]:
        return [c["picture"] for c in cli("captions", "list", *line, "--json").json["captions"]]

    assert names("--only", "empty") == ["04_airplane.png"]
    assert names("--only", "no-trigger") == ["05_sailboat.png"]
    assert [Path(n).stem for n in names("--find", "HOUSE")] == ["07_house", "11_house_again"]


def test_a_question_is_asked_on_a_terminal(cli: Cli, flawed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter(["n", "yes"])
    monkeypatch.setattr("studio.cli.output.Out.confirm", lambda _self, _question: next(answers) == "yes")
    assert "Nothing was changed." in cli("captions", "prepend", "drawing").out
    cli("captions", "prepend", "drawing")
    assert captions(flawed)["01_car.txt"] == "bluprnt, drawing, car"


def test_settings_by_pair_by_flag_and_back_to_a_preset(cli: Cli, project: Path) -> None:
    assert cli("config", "reset", "--preset", "pocket-quick", "--yes").code == 0
    answer = cli(
        "config",
        "set",
        "learning-rate=2e-3",
        "--no-cache-latents",
        "--sample-prompts",
        "a dog",
        "--sample-prompts",
        "b",
    )
    assert answer.code == 0
    shown = cli("config", "show", "--json").json
    assert shown["preset"] == "pocket-quick"
    assert set(shown["changed"]) == {"learning_rate", "cache_latents", "sample_prompts"}
    assert shown["settings"]["sample_prompts"] == ["a dog", "b"]
    assert cli("config", "set", "sample_prompts=c | d").code == 0
    assert cli("config", "show", "--json").json["settings"]["sample_prompts"] == ["c", "d"]
    assert "outside of the usual" in cli("config", "set", "epochs=500").out
    kept = cli("config", "reset")
    assert kept.code == 0 and "--yes" in kept.out
    assert cli("config", "show", "--json").json["settings"]["epochs"] == 500
    again = cli("config", "reset", "--preset", "pocket-quick", "--yes", "--json")
    assert again.json["applied"] and cli("config", "show", "--json").json["changed"] == {}


def test_settings_follow_and_go_back_one_by_one(cli: Cli, project: Path) -> None:
    cli("config", "reset", "--preset", "pocket-quick", "--yes")
    changed = cli("config", "set", "optimizer=prodigy", "--json").json["changed"]
    assert changed["learning_rate"] == [0.001, 1.0]
    assert cli("config", "reset", "optimizer", "learning-rate", "--yes").code == 0
    assert cli("config", "show", "--json").json["changed"] == {}


def test_the_native_files_are_shown_and_saved(cli: Cli, flawed: Path, tmp_path: Path) -> None:
    answer = cli("config", "native", "--save", tmp_path / "out", "--json")
    assert answer.code == 0 and answer.json["files"]
    for place in answer.json["saved"]:
        assert Path(place).is_file() and tmp_path in Path(place).parents


def test_editing_a_project_takes_captions_and_settings_along(cli: Cli, flawed: Path) -> None:
    preview = cli("edit", "--trigger", "bluline", "--name", "Blue lines")
    assert "--yes" in preview.out and captions(flawed)["01_car.txt"] == "bluprnt, car"
    done = cli("edit", "--trigger", "bluline", "--name", "Blue lines", "--yes", "--json")
    assert done.json["applied"] and done.json["intent"]["name"] == "Blue lines"
    assert captions(flawed)["01_car.txt"] == "bluline, car"
    other = cli("edit", "--base-model", "sd15", "--yes", "--json")
    assert other.json["preset"] == "sd15-standard"
    assert cli("config", "show", "--json").json["settings"]["resolution"] == 512


def test_nothing_is_saved_when_one_setting_is_wrong(cli: Cli, project: Path) -> None:
    assert cli("config", "set", "rank=4", "epochs=0").code == 2
    assert not (project / "settings.yaml").exists()


def test_models_are_added_and_forgotten(cli: Cli, home: Path, tmp_path: Path) -> None:
    model = tmp_path / "my-sd"
    (model / "unet").mkdir(parents=True)
    (model / "model_index.json").write_text("{}")
    (model / "unet" / "config.json").write_text(json.dumps({"cross_attention_dim": 768}))
    added = cli("models", "add", model, "--json")
    assert added.code == 0 and added.json["model"]["family"] == "sd15"
    listed = {m["id"]: m for m in cli("models", "--json").json["models"]}
    assert listed["my-sd"]["here"]
    assert cli("models", "forget", "my-sd").code == 0
    assert model.is_dir()


def test_a_model_file_is_named_and_its_parts_are_found(
    cli: Cli, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(files, "free_bytes", lambda _place: 10**12)  # room is asked for before the account
    flux = headers.write(tmp_path / "flux.safetensors", headers.FLUX)
    t5 = headers.write(tmp_path / "encoders" / "t5.safetensors", headers.T5)
    seen = cli("models", "inspect", flux, "--json").json
    assert (seen["kind"], seen["family"], seen["words"]) == ("base", "flux", "a FLUX.1 dev model")
    assert cli("models", "inspect", t5, "--json").json["part"] == "t5xxl"
    assert "CLIP-L" in cli("models", "add", flux, "--clip-l", t5).err
    added = cli("models", "add", flux, "--t5xxl", t5, "--json").json
    assert [f["where"] for f in added["findings"]] == [["clip_l", "ae"]]
    listed = {m["id"]: m for m in cli("models", "list", "--json").json["models"]}
    assert not listed["flux-2"]["here"] and listed["sdxl"]["download_bytes"] == 6938078334
    assert listed["flux-dev"]["gated"] and listed["flux-dev"]["holding"]["state"] == "absent"
    refused = cli("models", "download", "flux-dev", "--json")
    assert refused.code == 2 and "Hugging Face account" in refused.json["what"]


def test_doctor_says_what_is_missing(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cli("doctor").code == 0
    monkeypatch.setattr("studio.cli.commands.doctor.NEEDED", ("torch", "a-package-that-nobody-has"))
    answer = cli("doctor", "--json")
    assert answer.code == 6
    assert any("a-package-that-nobody-has" in f["what"] for f in answer.json["findings"])


def test_doctor_loads_the_packages_when_asked(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "studio.environment.probe", lambda _modules: {"failed": {"peft": "ImportError: no wheel"}}
    )
    assert cli("doctor").code == 0
    answer = cli("doctor", "--load")
    assert answer.code == 6 and "The package 'peft' does not load" in answer.out


def test_a_project_is_deleted_and_brought_back(cli: Cli, project: Path) -> None:
    assert "--yes" in cli("delete", "ink").out and project.is_dir()
    place = cli("delete", "ink", "--yes", "--json").json["trash"]
    assert not project.exists() and cli("status").code == 3
    assert cli("put-back", "--json").json["deleted"][0]["trash"] == place
    assert cli("put-back", "ink").code == 0
    assert project.is_dir() and cli("status").code == 0


def test_the_app_is_served_from_the_same_workspace(cli: Cli, home: Path) -> None:
    answer = cli("app", "--dry", "--port", "8600", "--no-browser", "--json")
    line = answer.json["command"]
    assert line[-4:] == ["--server.port", "8600", "--server.headless", "true"] and Path(line[4]).is_file()
    assert cli("run", "--dry").code == 0


def test_further_options_are_judged_when_they_are_set(cli: Cli, home: Path) -> None:
    """Several lines in one value are several options; what the script would pass over is said at once, not at the gate."""
    assert cli("new", "Big", "--kind", "style", "--trigger", "inkstyle01", "--base-model", "sdxl").code == 0
    told = cli(
        "config",
        "set",
        "backend=kohya",
        "extra_options=clip_skip = 2\nfoo = 1\nscale_weight_norms = 1.0",
        "--json",
    ).json
    assert told["settings"]["extra_options"] == ["clip_skip = 2", "foo = 1", "scale_weight_norms = 1.0"]
    assert {w for f in told["findings"] for w in f["where"]} >= {"clip_skip", "foo"}
    assert "scale_weight_norms" not in json.dumps(told["findings"])
    assert cli("config", "set", "extra_options=scale_weight_norms = 1.0", "--json").json["findings"] == []
