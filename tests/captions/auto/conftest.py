"""A project with seven plain pictures and a stand-in tagger."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from studio.captions import auto, samples
from studio.captions.auto import AutoSettings
from studio.captions.batch import start_samples
from studio.captions.tagger import TaggerSettings
from studio.dataset.intake import import_pictures
from studio.dataset.scan import scan
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


def reviewed(project: Project) -> samples.Samples:
    """Make five samples with the chosen engine, and approve each."""
    job = start_samples(project)
    assert job.wait(60) == "finished", (job.error, job.log_tail())
    made = samples.load(project)
    assert made is not None
    for sample in made.items:
        made = samples.review(project, sample.name, "skipped" if sample.trouble else "approved")
    return made
