"""The route that serves pictures large: any format as a JPEG that a browser shows, and nothing but pictures."""

from __future__ import annotations

import io
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from PIL import Image
from starlette.applications import Starlette
from starlette.testclient import TestClient

from pages.parts.previews import PLACE, SIDE, preview_routes, preview_url, read_preview
from studio.dataset.scan import Scan, scan
from studio.project import Project
from studio.workspace import Workspace
from tests.dataset.pictures import scene, write
from tests.pages import worlds

ODD = "Straße #2?.tiff"


@pytest.fixture
def project(workspace: Workspace, tmp_path: Path) -> Project:
    made = worlds.project(workspace, worlds.pictures(tmp_path / "in"), preset=False)
    exif = Image.Exif()
    exif[0x0112] = 6
    write(made.dataset_dir / "turned.jpg", scene(3, (2000, 500)), exif=exif)
    write(made.dataset_dir / ODD, scene(4, (300, 200)))
    glass = scene(5, (300, 200)).convert("RGBA")
    glass.putalpha(0)
    write(made.dataset_dir / "glass.png", glass)
    return made


@pytest.fixture
def seen(project: Project) -> Scan:
    return scan(project)


def shown(raw: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(raw))
    assert image.format == "JPEG"
    return image


def test_every_picture_is_sent_as_it_is_seen(
    project: Project, seen: Scan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STUDIO_HOME", str(project.workspace.root))
    client = TestClient(Starlette(routes=preview_routes()))
    sizes = {}
    for picture in seen:
        url = preview_url(project, picture)
        assert url.startswith(f"{PLACE}/{project.slug}/{picture.sha256}.jpg?of=")
        answer = client.get(url)
        assert answer.status_code == 200 and "immutable" in answer.headers["cache-control"], url
        sizes[picture.name] = shown(answer.content).size
    assert sizes["turned.jpg"] == (400, SIDE) and sizes[ODD] == (300, 200)
    glass = seen.get("glass.png")
    assert glass is not None
    assert shown(client.get(preview_url(project, glass)).content).getpixel((9, 9)) == (255, 255, 255)
    name = parse_qs(urlsplit(preview_url(project, seen.pictures[0])).query)["of"][0]
    assert client.get(f"{PLACE}/{project.slug}/{'0' * 64}.jpg?of={name}").status_code == 404
    assert client.get(f"{PLACE}/{project.slug}/{glass.sha256}.jpg").status_code == 404


@pytest.mark.parametrize(
    "name",
    [
        "../project.yaml",
        "..",
        "",
        "p00.txt",
        "/etc/passwd",
        "a/b.png",
        "p00.png\x00",
        ".hidden.png",
        "C:x.png",
    ],
)
def test_no_other_name_leads_anywhere(project: Project, seen: Scan, name: str) -> None:
    known = seen.pictures[0]
    assert read_preview(project.workspace, project.slug, known.sha256, known.name)
    assert read_preview(project.workspace, project.slug, known.sha256, name) is None
    assert read_preview(project.workspace, "../" + project.slug, known.sha256, known.name) is None
    assert read_preview(project.workspace, project.slug, known.sha256[:-1], known.name) is None


def test_links_folders_damage_and_other_contents_are_not_sent(
    project: Project, seen: Scan, tmp_path: Path
) -> None:
    known = seen.pictures[0]
    link, folder = project.dataset_dir / "link.png", project.dataset_dir / "folder.png"
    link.symlink_to(project.dataset_dir / known.name)
    folder.mkdir()
    for name in (link.name, folder.name):
        assert read_preview(project.workspace, project.slug, known.sha256, name) is None
    (project.dataset_dir / known.name).write_bytes(b"other")
    assert read_preview(project.workspace, project.slug, known.sha256, known.name) is None
