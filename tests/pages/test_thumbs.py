"""The route that serves thumbnails: it gives those of the workspace, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from pages.parts.thumbs import PLACE, read_thumb, thumb_url
from studio.dataset.scan import scan, thumb_path
from studio.project import Project
from studio.workspace import Workspace
from tests.pages import worlds


@pytest.fixture
def project(workspace: Workspace, tmp_path: Path) -> Project:
    return worlds.project(workspace, worlds.pictures(tmp_path / "in"), preset=False)


def test_the_address_of_a_picture_leads_to_its_thumbnail(workspace: Workspace, project: Project) -> None:
    seen = scan(project)
    url = thumb_url(project, seen)
    for picture in seen:
        start, slug, name = url(picture.name).rsplit("/", 2)
        assert start == PLACE and name == f"{picture.sha256}.webp"
        assert read_thumb(workspace, slug, name.removesuffix(".webp")) == picture.thumb.read_bytes()
    assert url("no such picture.png") == ""


@pytest.mark.parametrize(
    ("slug", "sha"),
    [
        ("blueprint", "../../../preferences"),
        ("blueprint", "..%2f..%2fproject"),
        ("blueprint", "0" * 64),
        ("blueprint", "0" * 63),
        ("blueprint", "0" * 64 + "\n"),
        ("blueprint", "A" * 64),
        ("..", "{sha}"),
        ("../projects/blueprint", "{sha}"),
        ("", "{sha}"),
        ("nobody", "{sha}"),
        ("blueprint\x00", "{sha}"),
    ],
)
def test_no_other_address_leads_anywhere(workspace: Workspace, project: Project, slug: str, sha: str) -> None:
    known = scan(project).pictures[0].sha256
    assert read_thumb(workspace, slug, sha.replace("{sha}", known)) is None


def test_only_a_plain_small_webp_is_a_thumbnail(
    workspace: Workspace, project: Project, tmp_path: Path
) -> None:
    real = scan(project).pictures[0].thumb
    outside = tmp_path / "secret.webp"
    outside.write_bytes(real.read_bytes())
    link, other, large = (thumb_path(project.cache_dir, c * 64) for c in "abc")
    link.symlink_to(outside)
    other.write_text("project: mine")
    large.write_bytes(real.read_bytes() + bytes(2_000_000))
    for path in (link, other, large):
        assert read_thumb(workspace, project.slug, path.stem) is None
