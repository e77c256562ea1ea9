"""A project with seven plain pictures and a stand-in tagger."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw

from studio import files
from studio.captions import auto, samples
from studio.captions.auto import AutoSettings
from studio.captions.batch import start_samples
from studio.captions.tagger import TaggerSettings
from studio.dataset.intake import import_pictures
from studio.dataset.scan import scan
from studio.errors import StudioError
from studio.jobs.job import Job, JobSpec, moment
from studio.project import Intent, Project, create_project
from studio.workspace import Workspace
from tests.captions.auto import standin

COLOURS = {
    "a_red": "#e02020", "b_green": "#20c030", "c_blue": "#2030e0", "d_white": "#f8f8f8", "e_black": "#101010",
    "f_grey": "#808080", "g_orange": "#f09020",
}  # fmt: skip


@pytest.fixture(scope="session")
def tagger_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return standin.write(tmp_path_factory.mktemp("taggers") / "stand-in")


def painted(folder: Path, colours: dict[str, str] = COLOURS, size: tuple[int, int] = (96, 96)) -> Path:
    """One picture a colour; a small mark in each, at another place, so that they differ for the hash too."""
    folder.mkdir(parents=True, exist_ok=True)
    for n, (name, colour) in enumerate(colours.items()):
        picture = Image.new("RGB", size, colour)
        x, y = 12 * (n % 6) + 4, 14 * (n // 6) + 6 * (n % 3) + 4
        ImageDraw.Draw(picture).ellipse([x, y, x + 9, y + 9], fill="#999999")
        picture.save(folder / f"{name}.png")
    return folder


@pytest.fixture
def project(workspace: Workspace, tmp_path: Path) -> Project:
    made = create_project(
        workspace, Intent(kind="style", name="Mira", trigger="mirastyle", base_model="pocket")
    )
    import_pictures(made, [painted(tmp_path / "source")])
    scan(made)
    return made


@pytest.fixture
def tagging(project: Project, tagger_folder: Path) -> AutoSettings:
    """The project's engine is the stand-in tagger."""
    settings = AutoSettings(tagger=TaggerSettings(model=str(tagger_folder), order="model"))
    auto.save(project, settings)
    return settings


@pytest.fixture
def inline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Captioning jobs run in this process, with the same worker and the same files, so that a test need not wait for Python
    to start. Those about life and death use real processes."""

    def launch(folder: Path, target: str, payload: dict[str, Any], **spec: Any) -> Job:
        from studio.jobs import call

        files.write_json(folder / "payload.json", payload)
        plain = JobSpec(command=["inline"], **spec).as_dict()
        files.write_json(folder / "job.json", {**plain, "attempt": 1, "created": moment()})
        with suppress(StudioError):
            call.main([target, str(folder)])
        return Job(folder)

    monkeypatch.setattr("studio.captions.batch.launch_call", launch)


def reviewed(project: Project) -> samples.Samples:
    """Make five samples with the chosen engine, and approve each."""
    job = start_samples(project)
    assert job.wait(60) == "finished", (job.error, job.log_tail())
    made = samples.load(project)
    assert made is not None
    for sample in made.items:
        made = samples.review(project, sample.name, "skipped" if sample.trouble else "approved")
    return made
