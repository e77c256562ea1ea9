"""The app in a real browser: a server of its own on a free port, one user who looks at every page's faults.

Needs a Chromium: `STUDIO_CHROMIUM`, one on the PATH, or the one that `playwright install chromium` brings. Without one the
tests are skipped and say so; with `STUDIO_REQUIRE_BROWSER=1` they fail instead. `STUDIO_E2E_SHOTS=folder` keeps a picture
of every screen on the way.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Error, Playwright, expect, sync_playwright

from tests.e2e.server import Server
from tests.e2e.user import PATIENCE, User
from tests.e2e.workers import stop_everything

CANDIDATES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-dev-shm-usage"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder is an `e2e` test."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker("e2e")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Let fixtures see whether the test failed."""
    report: Any = yield
    setattr(item, f"report_{report.when}", report)
    return report


def find_chromium(playwright: Playwright) -> str:
    """Path of a Chromium; "" when this computer has none."""
    told = os.environ.get("STUDIO_CHROMIUM", "")
    own = playwright.chromium.executable_path
    found = (told, *(shutil.which(name) or "" for name in CANDIDATES), own)
    return next((path for path in found if path and Path(path).is_file()), "")


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """A headless Chromium for the tests of this folder; closed after them, because its event loop would be in the way of others. Skips where there is none, fails when `STUDIO_REQUIRE_BROWSER=1`."""
    expect.set_options(timeout=PATIENCE * 1000)
    with sync_playwright() as playwright:
        path = find_chromium(playwright)
        if not path:
            told = "No Chromium was found: install `chromium`, or name one in STUDIO_CHROMIUM."
            if os.environ.get("STUDIO_REQUIRE_BROWSER") == "1":
                pytest.fail(told, pytrace=False)
            pytest.skip(told)
        opened = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture
def server(browser: Browser, _own_home: Path, tmp_path: Path) -> Iterator[Server]:
    """The app, served from a workspace of its own. Whatever it started ends with the test."""
    with Server(_own_home, tmp_path / "server.log") as running:
        yield running
        stop_everything(_own_home)
    running.check_log()


@pytest.fixture
def new_user(
    browser: Browser, server: Server, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Callable[[], User]]:
    """Makes users, each with a browser profile of their own. At the end, none of them may have met a fault."""
    users: list[User] = []

    def make() -> User:
        context = browser.new_context(
            viewport={"width": 1360, "height": 900}, locale="en-GB", color_scheme="light"
        )
        context.tracing.start(snapshots=True)
        users.append(
            User(context, server, shots=os.environ.get("STUDIO_E2E_SHOTS", ""), name=request.node.name)
        )
        return users[-1]

    yield make
    failed = getattr(getattr(request.node, "report_call", None), "failed", True)
    faults: list[str] = []
    for n, user in enumerate(users):
        faults += user.faults
        kept = tmp_path / f"user{n}"
        try:
            if failed or user.faults:
                for p, page in enumerate(user.context.pages):
                    page.screenshot(path=kept / f"page{p}.png", full_page=True)
                user.context.tracing.stop(path=kept / "trace.zip")
                print(f"\nScreenshots and trace: {kept}")
            user.context.close()
        except Error as e:
            print(f"\nThe browser could not be asked: {e}")
    assert not faults, "Faults on the pages:\n" + "\n".join(faults)


@pytest.fixture
def user(new_user: Callable[[], User]) -> User:
    """One user in front of the app."""
    return new_user()
