"""All pages of the app, once: their names, titles, icons, and links that carry the project along."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import streamlit as st

_FOLDER = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class PageInfo:
    """A page: `name` is its file and its address, `about` the tooltip of its link."""

    name: str
    title: str
    icon: str
    about: str
    needs_project: bool = False

    @property
    def file(self) -> Path:
        return _FOLDER / f"{self.name}.py"


PAGES: dict[str, PageInfo] = {
    p.name: p
    for p in (
        PageInfo("home", "Home", ":material/home:", "All projects and what is running now."),
        PageInfo("new_project", "New project", ":material/add:", "A short interview that sets up a project."),
        PageInfo(
            "dataset",
            "Dataset",
            ":material/photo_library:",
            "Add pictures and mend what is wrong with them.",
            True,
        ),
        PageInfo(
            "captions",
            "Captions",
            ":material/notes:",
            "Write and check the words that go with each picture.",
            True,
        ),
        PageInfo(
            "config", "Config", ":material/tune:", "Choose how to train: a preset, or every setting.", True
        ),
        PageInfo(
            "run", "Run", ":material/play_circle:", "Pass the four gates, train, and watch it learn.", True
        ),
        PageInfo(
            "evaluation",
            "Evaluation",
            ":material/grid_view:",
            "Compare weights and checkpoints, and find the best one.",
            True,
        ),
        PageInfo("library", "Library", ":material/collections_bookmark:", "Your registered LoRAs."),
        PageInfo("guide", "Guide", ":material/menu_book:", "How it all works, in plain words."),
        PageInfo("setup", "Set-up", ":material/memory:", "What this computer can do, and the base models."),
    )
}


def params(project: str | None = None, **more: Any) -> dict[str, str]:
    """The address parameters of a link: the project (the current one when not told) and whatever else is given."""
    slug = project if project is not None else st.session_state.get("project_slug")
    out = {"project": slug} if slug else {}
    return {**out, **{k: str(v) for k, v in more.items() if v not in (None, "")}}


def link(
    name: str,
    label: str | None = None,
    *,
    icon: str | None = None,
    project: str | None = None,
    width: Any = "content",
    help: str | None = None,
    disabled: bool = False,
    **more: Any,
) -> None:
    """A link to a page that keeps the project: a real link, so it can also be opened in a new tab."""
    info = PAGES[name]
    st.page_link(
        info.file,
        label=label or info.title,
        icon=info.icon if icon is None else icon,
        width=width,
        help=help,
        disabled=disabled,
        query_params=params(project, **more),
    )


def go(name: str, *, project: str | None = None, **more: Any) -> None:
    """Go to a page now. Does not return."""
    st.switch_page(PAGES[name].file, query_params=params(project, **more))
