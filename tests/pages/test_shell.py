"""The frame around the pages: every address opens, errors stay calm, the server stays light."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from urllib.parse import parse_qs

import pytest
from streamlit.testing.v1 import AppTest

from pages.parts.nav import PAGES
from studio.project import Intent, Project, create_project
from studio.workspace import Workspace
from tests.pages import worlds
from tests.pages.app import SHELL, open_page, sound, texts

ROOT = SHELL.parents[1]


@pytest.fixture
def project(workspace: Workspace, tmp_path: Path) -> Project:
    return worlds.project(workspace, worlds.pictures(tmp_path / "in"))


def _links(at: AppTest) -> dict[str, str]:
    """Page links of the sidebar: label -> address parameters."""
    return {x.label: x.proto.query_string for x in at.sidebar.get("page_link")}


def test_every_page_has_its_file() -> None:
    assert [p.name for p in PAGES.values() if not p.file.is_file()] == []


@pytest.mark.parametrize("name", list(PAGES))
def test_every_page_opens_without_and_with_a_project(
    name: str, workspace: Workspace, project: Project
) -> None:
    assert open_page(name, project.slug).title
    assert open_page(name, "no-such-project").title or PAGES[name].needs_project


def test_a_page_without_a_project_leads_to_one(workspace: Workspace) -> None:
    at = open_page("run")
    assert "No project yet" in texts(at)
    assert "Start a new project" in [x.label for x in at.main.get("page_link")]


def test_a_project_that_is_gone_is_named(workspace: Workspace, project: Project) -> None:
    at = open_page("captions", "gone")
    assert at.title[0].value == "No such project"
    assert "There is no project called 'gone'" in texts(at)


def test_the_address_wins_over_the_last_project(workspace: Workspace, project: Project) -> None:
    other = create_project(workspace, Intent(kind="object", name="Other", trigger="othxq"))
    assert workspace.preferences()["last_project"] == other.slug
    at = open_page("dataset", project.slug)
    assert at.sidebar.selectbox(key="project_choice").value == project.slug
    at = open_page("dataset")
    assert at.query_params["project"] == project.slug, "the project opened last, and the address says so"


def test_links_carry_the_project(project: Project) -> None:
    at = open_page("captions", project.slug)
    steps = {label: query for label, query in _links(at).items() if re.search(r"\d \w+$", label)}
    assert len(steps) == 5
    assert all(parse_qs(q)["project"] == [project.slug] for q in steps.values())


def test_choosing_another_project_changes_the_address(workspace: Workspace, project: Project) -> None:
    other = create_project(workspace, Intent(kind="object", name="Other", trigger="othxq"))
    at = open_page("dataset", project.slug)
    sound(at.sidebar.selectbox(key="project_choice").select(other.slug).run())
    assert at.query_params["project"] == other.slug


def test_easy_and_advanced_is_remembered(workspace: Workspace) -> None:
    at = open_page("home")
    assert at.sidebar.get("segmented_control")[0].value == "easy"
    sound(at.sidebar.get("segmented_control")[0].set_value("advanced").run())
    assert workspace.preferences()["mode"] == "advanced"
    assert open_page("guide").sidebar.get("segmented_control")[0].value == "advanced"


def test_a_damaged_project_is_told_calmly_on_every_step(project: Project) -> None:
    (project.folder / "project.yaml").write_text("kind: [", encoding="utf-8")
    for name in ("home", "dataset", "captions", "config", "run", "evaluation"):
        at = open_page(name, project.slug)
        told = texts(at)
        assert "project.yaml" in told and "Traceback" not in told, name


def test_a_fault_of_the_studio_shows_no_traceback(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_project: Project) -> int:
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr("studio.guidance.picture_count", broken)
    at = AppTest.from_file(str(SHELL), default_timeout=60)
    at.switch_page("captions.py")
    at.query_params["project"] = project.slug
    at.run()
    assert not at.exception
    assert any("fault of the studio" in e.value for e in at.error)
    assert "secret detail" not in texts(at)


def test_the_step_bar_says_each_state_in_words(project: Project) -> None:
    at = open_page("dataset", project.slug)
    bar = [x.label for x in at.main.get("page_link") if re.search(r"\d \w+", x.label)]
    assert len(bar) == 5
    assert all(
        any(w in label for w in ("done", "to check", "working", "needs you", "not yet")) for label in bar
    )


def test_the_server_never_loads_torch(tmp_path: Path) -> None:
    code = (
        "import sys, json, warnings; warnings.simplefilter('ignore')\n"
        "from streamlit.testing.v1 import AppTest\n"
        "from studio import shelf; from studio.workspace import Workspace\n"
        "slug = shelf.sample_project(Workspace.default()).slug\n"
        "for name in sys.argv[2:]:\n"
        "    at = AppTest.from_file(sys.argv[1], default_timeout=90); at.switch_page(name + '.py')\n"
        "    at.query_params['project'] = slug; at.run(); assert not at.exception, at.exception\n"
        "heavy = {'torch', 'diffusers', 'transformers', 'peft', 'accelerate', 'onnxruntime'}\n"
        "print(json.dumps(sorted(heavy & set(sys.modules))))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code, str(SHELL), *PAGES],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=240,
    )
    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout.splitlines()[-1]) == []


def test_nothing_is_fetched_from_elsewhere() -> None:
    """Fonts and icons are local files with their licence, and the app answers this computer only."""
    config = tomllib.loads((ROOT / ".streamlit" / "config.toml").read_text(encoding="utf-8"))
    assert config["server"]["address"] == "127.0.0.1"
    assert config["browser"]["gatherUsageStats"] is False
    for face in config["theme"]["fontFaces"]:
        assert (ROOT / "pages" / "static" / Path(face["url"]).name).is_file()
    assert "SIL Open Font License" in (ROOT / "pages" / "static" / "figtree-LICENSE.txt").read_text(
        encoding="utf-8"
    )
    for path in [
        *(ROOT / "pages").rglob("*.py"),
        *(ROOT / "pages" / "static").glob("*.svg"),
        ROOT / ".streamlit" / "config.toml",
    ]:
        found = set(re.findall(r"https?://[\w.-]+", path.read_text(encoding="utf-8"))) - {
            "http://www.w3.org",
            "http://localhost",
        }
        assert not found, f"{path.name} points outside: {found}"
        assert not re.search(r"page_icon=[\"']:material", path.read_text(encoding="utf-8"))


def _luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def _contrast(a: str, b: str) -> float:
    light, dark = sorted((_luminance(a), _luminance(b)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize(("mode", "on_accent"), [("light", "#ffffff"), ("dark", "#04211d")])
def test_colours_can_be_read(mode: str, on_accent: str) -> None:
    """WCAG AA: 4.5 to 1 for text on each ground, for the accent as text and for the text on the accent."""
    theme = tomllib.loads((ROOT / ".streamlit" / "config.toml").read_text(encoding="utf-8"))["theme"][mode]
    side = {**theme, **theme["sidebar"]}
    for colours in (theme, side):
        for ground in (colours["backgroundColor"], colours["secondaryBackgroundColor"]):
            assert _contrast(colours["textColor"], ground) >= 7
            assert _contrast(colours["grayTextColor"], ground) >= 4.5
            assert _contrast(colours["primaryColor"], ground) >= 4.5
    css = (ROOT / "pages" / "static" / "app.css").read_text(encoding="utf-8")
    assert on_accent in css
    assert _contrast(on_accent, theme["primaryColor"]) >= 4.5
