"""Opening a page of the app in a test, as a link would."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from streamlit.testing.v1 import AppTest

SHELL = Path(__file__).resolve().parents[2] / "pages" / "shell.py"


def open_page(name: str, project: str = "", **address: str) -> AppTest:
    """The page `name` with a project and further address parameters; it must have drawn without a fault."""
    at = AppTest.from_file(str(SHELL), default_timeout=90)
    at.switch_page(f"{name}.py")
    for key, value in {"project": project, **address}.items():
        if value:
            at.query_params[key] = value
    return sound(at.run())


def sound(at: AppTest) -> AppTest:
    """The page, after making sure that nothing unexpected went wrong on it."""
    assert not at.exception, at.exception
    faults = [e for e in at.error if "fault of the studio" in e.value]
    assert not faults, faults
    return at


def texts(at: AppTest) -> str:
    """All text of the page in one string."""
    parts: list[Any] = [*at.markdown, *at.caption, *at.code, *at.title, *at.header, *at.subheader]
    parts += [*at.info, *at.warning, *at.error, *at.success]
    titles = [getattr(x.proto, "title", "") for x in (*at.info, *at.warning, *at.error)]
    return "\n".join([*(str(x.value) for x in parts), *map(str, titles)])


def labels(at: AppTest) -> list[str]:
    """Labels of all buttons."""
    return [b.label for b in at.button]


def tables(at: AppTest) -> str:
    """All static tables as text."""
    return "\n".join(t.value.to_string() for t in at.table)
