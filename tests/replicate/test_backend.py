"""A run on Replicate like any other: gates, job, live view, result; and what happens when it is cut off."""

from __future__ import annotations

import os
import signal
import time
import zipfile
from pathlib import Path
from typing import Any

import psutil
import pytest
from PIL import Image

from studio import choices, files, gates, launch
from studio.errors import GateError, StudioError
from studio.gates.native import native_files
from studio.jobs.lifeline import JobStopped, Worker
from studio.models import get_model
from studio.project import Project
from studio.reattach import left_alone, reattach
from studio.replicate import follow, submit
from studio.replicate.submit import Uncertain
from studio.settings import TrainingSettings
from studio.training import packing
from studio.training.base import PlannedPicture, TrainingPlan, find_checkpoints
from studio.training.prepare import freeze
from studio.training.registry import get_backend, is_rented
from studio.training.runs import list_runs
from studio.training.workers import replicate_train
from studio.workspace import Workspace
from tests.fakes.replicate_server import OWNER, SD35, TOKEN, ReplicateServer, lora_bytes
from tests.pages import worlds

DESTINATION = f"{OWNER}/boats"


@pytest.fixture
def project(
    workspace: Workspace, tmp_path: Path, server: ReplicateServer, monkeypatch: pytest.MonkeyPatch
) -> Project:
    """Eight pictures with captions, set up for Stable Diffusion 3.5 Large."""
    monkeypatch.setattr(submit, "SEARCH_PAUSES", (0.0, 0.0))
    monkeypatch.setattr(follow, "FIRST_POLL_S", 0.01)
    made = worlds.project(workspace, worlds.pictures(tmp_path / "pictures"), preset=False)
    choices.choose_base_model(made, "sd35-large")
    choices.change(made, {"cloud_destination": DESTINATION, "cloud_create": True})
    return made


@pytest.fixture
def plan(project: Project) -> TrainingPlan:
    entry = get_model(project.workspace, "sd35-large")
    return freeze(project, entry, project.runs_dir / "run-x", output_name="blueprint")


def work(plan: TrainingPlan) -> dict[str, Any]:
    """The job's work, in this process."""
    with Worker(plan.run_folder) as worker:
        return replicate_train.CloudRun(plan, worker).run()


def test_choosing_the_base_model_is_enough(project: Project) -> None:
    s = project.settings
    assert (s.backend, s.max_steps, s.optimizer, s.cloud_resolutions) == (
        "replicate",
        1500,
        "prodigy",
        "768,1024",
    )
    assert gates.forecast(project).steps.total_steps == 1500
    assert project.preset == "sd35-beginner"
    assert is_rented("replicate") and not is_rented("diffusers")
    told = native_files(project)
    assert "steps: 1500" in told["config.yaml"]
    assert TOKEN not in str(told)


def test_gate_two_says_what_does_not_fit(project: Project) -> None:
    check = get_backend("replicate").check
    entry, machine = get_model(project.workspace, "sd35-large"), None
    assert not [f for f in check(project.settings, machine, entry) if f.severity == "block"]  # type: ignore[arg-type]
    wrong = project.settings.model_copy(
        update={
            "cloud_destination": "",
            "learning_rate": 0.0004,
            "rank": 300,
            "optimizer": "lion",
            "cloud_resolutions": "700",
        }
    )
    told = [f for f in check(wrong, machine, entry) if f.severity == "block"]  # type: ignore[arg-type]
    assert {w for f in told for w in f.where} >= {
        "cloud_destination",
        "rank",
        "optimizer",
        "cloud_resolutions",
    }
    other = check(project.settings, machine, get_model(project.workspace, "sdxl"))  # type: ignore[arg-type]
    assert "not trained on Replicate" in other[0].what
    quiet = check(project.settings.model_copy(update={"flip": True}), machine, entry)  # type: ignore[arg-type]
    assert any("flip" in f.where for f in quiet)


def test_gate_three_asks_for_token_and_destination(
    project: Project, server: ReplicateServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = get_backend("replicate").environment  # type: ignore[attr-defined]
    entry = get_model(project.workspace, "sd35-large")

    def codes(**changes: Any) -> set[str]:
        return {f.code for f in ask(project.workspace, project.settings.model_copy(update=changes), entry)[0]}

    assert codes() == {"destination-new"}
    assert codes(cloud_create=False) == {"destination-absent"}
    assert codes(cloud_destination="someone/else") == {"destination-new", "destination-owner"}
    server.models[DESTINATION] = {"versions": {}, "visibility": "public"}
    assert codes() == {"destination-public"}
    monkeypatch.setenv("REPLICATE_API_TOKEN", "r8_wrongwrongwrong")
    assert codes() == {"replicate-token"}
    monkeypatch.setenv("REPLICATE_BASE_URL", "http://127.0.0.1:9")
    assert codes() == {"replicate-silent"}


def test_a_run_from_the_gates_to_the_lora(project: Project, server: ReplicateServer) -> None:
    """As a real job: nothing is paid for before all gates pass, then one training, its LoRA, its cost."""
    with pytest.raises(GateError):
        launch.start_training(project)
    for gate in gates.GATES:
        verdict = gates.run_gate(project, gate)
        assert verdict.passed, [f.what for f in verdict.findings]
    assert not server.trainings and not server.files and DESTINATION not in server.models
    assert "it will cost about $" in verdict.findings[-1].what
    run = launch.start_training(project)
    assert run.job.wait(120) == "finished", run.job.error or run.job.log_tail()
    [training] = server.trainings.values()
    assert (training["input"]["steps"], training["version"], training["_destination"]) == (
        1500,
        SD35,
        DESTINATION,
    )
    [sent] = server.files.values()
    with zipfile.ZipFile(__import__("io").BytesIO(sent["content"])) as z:
        assert sorted(z.namelist())[:2] == ["00001.png", "00001.txt"]
        assert len(z.namelist()) == 2 * len(worlds.SUBJECTS)
        assert z.read("00001.txt").startswith(b"bluprnt")
    [checkpoint] = run.checkpoints()
    assert (checkpoint.final, checkpoint.step) == (True, 1500)
    assert checkpoint.path.read_bytes().endswith(bytes(16))
    result = run.job.result
    assert result["training"] == training["id"]
    assert result["cost_dollars"] == pytest.approx(180 * 0.001525, abs=0.01)
    steps = [e for e in run.events()[0] if e["type"] == "step"]
    assert steps[-1]["loss"] == pytest.approx(0.3)
    written = b"".join(p.read_bytes() for p in project.workspace.root.rglob("*") if p.is_file())
    assert TOKEN.encode() not in written
    assert all(TOKEN not in " ".join(r.job.raw["command"]) for r in list_runs(project))


def test_killed_and_resumed_it_is_the_same_training(project: Project, server: ReplicateServer) -> None:
    """The whole job is killed while the training is paid for; resuming takes it up by its id."""
    for gate in gates.GATES[:3]:
        gates.run_gate(project, gate)
    gates.run_gate(project, "dry_run")
    server.life = ["starting", *["processing"] * 400, "succeeded"]
    run = launch.start_training(project)
    ticket = run.folder / "replicate.json"
    _until(lambda: server.trainings and (files.read_json(ticket) or {}).get("id"))
    for process in psutil.process_iter(["cmdline"]):
        if str(run.folder) in " ".join(process.info["cmdline"] or []):
            os.kill(process.pid, signal.SIGKILL)
    _until(lambda: not run.job.is_alive)
    assert run.job.state == "interrupted"
    [training] = server.trainings.values()
    assert training["status"] in ("starting", "processing")  # it goes on
    server.life = ["succeeded"]
    # What the app does when it starts: it costs money, so somebody has to look after it.
    assert [r.id for r in left_alone(project.workspace)] == [run.id]
    assert reattach(project.workspace) == {run.id: ""}
    again = launch.get_run(project, run.id)
    assert again.job.wait(120) == "finished", again.job.error
    assert left_alone(project.workspace) == []
    assert server.count("POST", "/trainings") == 1
    assert len(server.files) == 1
    assert again.checkpoints()


def _until(true: Any) -> None:
    end = time.monotonic() + 90
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_stop_cancels_but_an_ended_process_does_not(plan: TrainingPlan, server: ReplicateServer) -> None:
    server.life = ["starting", *["processing"] * 1000]
    with Worker(plan.run_folder) as worker:
        run = replicate_train.CloudRun(plan, worker)
        tell, run._tell = run._tell, lambda now: (tell(now), worker._stopping("supervisor gone"))  # type: ignore[method-assign,assignment,func-returns-value]
        with pytest.raises(JobStopped):
            run.run()
    [training] = server.trainings.values()
    assert training["status"] == "starting"
    (plan.run_folder / "stop").write_text("")
    (plan.run_folder / "result.json").unlink(missing_ok=True)
    with Worker(plan.run_folder) as worker:
        worker._stopping("asked")
        with pytest.raises(JobStopped):
            replicate_train.CloudRun(plan, worker).run()
    assert training["status"] == "canceled"
    assert server.count("POST", "/trainings") == 1
    (plan.run_folder / "stop").unlink()
    with pytest.raises(StudioError, match="cancelled"):
        work(plan)
    assert server.count("POST", "/trainings") == 1  # a cancelled run is not started anew by resuming
    assert get_backend("replicate").is_over(plan.run_folder)  # type: ignore[attr-defined]


def test_a_lost_answer_and_a_lost_upload(plan: TrainingPlan, server: ReplicateServer) -> None:
    server.fail("upload", "drop")
    server.fail("train", "drop")
    with pytest.raises(Uncertain):
        work(plan)
    assert server.count("POST", "/trainings") == 1
    server._new("lucataco/sd3.5-large-fine-tuner", SD35, DESTINATION, {
        "steps": 1500, "wandb_run": files.read_json(plan.run_folder / "replicate.json")["mark"]})  # fmt: skip
    told = work(plan)
    assert told["training"] in server.trainings
    assert server.count("POST", "/trainings") == 1
    assert len(server.files) == 1  # the dataset is not sent again


def test_the_limit_ends_it(plan: TrainingPlan, server: ReplicateServer) -> None:
    server.life = ["starting", *["processing"] * 1000]
    settings = plan.settings.model_copy(update={"cloud_spending_limit": 0.3})
    limited = plan.model_copy(update={"settings": settings})
    with pytest.raises(StudioError, match="spending limit"):
        work(limited)
    [training] = server.trainings.values()
    assert training["status"] == "canceled"


def test_failed_trainings_say_why(plan: TrainingPlan, server: ReplicateServer) -> None:
    server.life, server.error = ["starting", "failed"], "No images found in the zip"
    with pytest.raises(StudioError) as told:
        work(plan)
    assert "No images found" in told.value.why
    assert not find_checkpoints(plan.run_folder)


def test_the_rehearsal_reports_everything(
    plan: TrainingPlan, server: ReplicateServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        replicate_train.catalogue(),
        "__dict__",
        {**replicate_train.catalogue().__dict__, "upload_limit_bytes": 100},
    )
    small = plan.model_copy(
        update={"settings": plan.settings.model_copy(update={"cloud_create": False}), "limit_steps": 4}
    )
    with Worker(plan.run_folder) as worker, pytest.raises(StudioError) as told:
        replicate_train.CloudRun(small, worker).rehearse()
    assert {f.code for f in told.value.findings} >= {"dataset-too-large", "destination-absent"}
    assert not server.files and not server.trainings


def test_a_dataset_url_is_used_instead(plan: TrainingPlan, server: ReplicateServer) -> None:
    settings = plan.settings.model_copy(update={"cloud_dataset_url": server.dataset_url})
    work(plan.model_copy(update={"settings": settings}))
    [training] = server.trainings.values()
    assert training["input"]["input_images"] == server.dataset_url
    assert not server.files


def test_flux_takes_its_newest_version_and_captions_nothing(
    project: Project, server: ReplicateServer
) -> None:
    choices.choose_base_model(project, "flux")
    choices.change(project, {"cloud_destination": DESTINATION, "cloud_create": True})
    entry = get_model(project.workspace, "flux")
    work(freeze(project, entry, project.runs_dir / "run-y", output_name="flux"))
    [training] = server.trainings.values()
    assert training["model"] == "ostris/flux-dev-lora-trainer"
    assert training["version"] in server.models["ostris/flux-dev-lora-trainer"]["versions"]
    assert training["input"]["autocaption"] is False  # its own default is true
    assert training["input"]["steps"] == 1000


def test_packing(tmp_path: Path) -> None:
    """Small plain pictures go byte by byte; large ones are scaled; place and time of photographs stay here."""
    plain, large, photo = tmp_path / "a.png", tmp_path / "b.png", tmp_path / "c.jpg"
    Image.new("RGB", (64, 48), "red").save(plain)
    Image.new("RGBA", (3000, 100)).save(large)
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Camera"
    Image.new("RGB", (80, 40)).save(photo, exif=exif)
    told = [
        PlannedPicture(path=p, caption=f"x, {p.stem}", sha256=files.sha256_file(p))
        for p in (plain, large, photo)
    ]
    told.append(PlannedPicture(path=plain, caption="person", regularisation=True))
    first = packing.pack(tuple(told), tmp_path / "1.zip", largest=1024)
    assert (first.pictures, first.captions, first.scaled) == (3, 3, 2)
    packing.pack(tuple(told), tmp_path / "2.zip", largest=1024)
    assert (tmp_path / "1.zip").read_bytes() == (tmp_path / "2.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "1.zip") as z:
        assert z.read("00001.png") == plain.read_bytes()
        with z.open("00002.png") as f, Image.open(f) as scaled:
            assert scaled.size[0] == 2048
        with z.open("00003.jpg") as f, Image.open(f) as upright:
            assert upright.size == (40, 80)
            assert not upright.getexif()
    plain.write_bytes(b"changed")
    with pytest.raises(StudioError, match="not the picture"):
        packing.pack(tuple(told), tmp_path / "3.zip", largest=1024)
    assert not (tmp_path / "3.zip").exists()


def test_metadata_leaves_tensors_alone(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(lora_bytes())
    replicate_train.put_with_metadata(
        tmp_path / "a.safetensors", tmp_path / "b.safetensors", {"ss_steps": "5"}
    )
    from safetensors import safe_open

    with safe_open(tmp_path / "b.safetensors", "numpy") as f:
        assert f.metadata() == {"ss_steps": "5"}
        assert len(list(f.keys())) == 1


def test_a_rented_run_leaves_this_computer_free(project: Project, plan: TrainingPlan) -> None:
    from studio.jobs.job import Job

    files.write_json(plan.run_folder / "run.json", {"settings": project.settings.model_dump(mode="json")})
    assert launch._is_rented(Job(plan.run_folder))
    files.write_json(plan.run_folder / "run.json", {"settings": TrainingSettings().model_dump(mode="json")})
    assert not launch._is_rented(Job(plan.run_folder))
