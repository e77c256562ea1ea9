"""The captions table under somebody who types fast, sorts, filters, turns pages and has a second window: no caption may be
lost, and none may land on another picture."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping

import pytest
from PIL import Image
from playwright.sync_api import FrameLocator, Locator, Page, expect

from studio.captions.store import CaptionStore
from studio.dataset.scan import scan
from studio.project import Intent, Project, create_project
from studio.workspace import Workspace
from tests.e2e.user import User

TRIGGER = "chlkbrk"
PICTURES = 104  # four more than one page of the table holds


@pytest.fixture
def project(workspace: Workspace) -> Project:
    made = create_project(workspace, Intent(kind="style", name="Fast", trigger=TRIGGER, description="Chalk"))
    made.dataset_dir.mkdir(parents=True, exist_ok=True)
    chance = random.Random(7)
    for n in range(PICTURES):
        small = Image.new("RGB", (6, 6))
        small.putdata([tuple(chance.randrange(256) for _ in range(3)) for _ in range(36)])
        small.resize((48, 48), Image.Resampling.BICUBIC).save(made.dataset_dir / f"{n:03}.png")
        if n >= 20:  # from short to long, against the order of the names
            words = " ".join(["word"] * (PICTURES - n))
            (made.dataset_dir / f"{n:03}.txt").write_text(f"{TRIGGER}, {words}", encoding="utf-8")
    scan(made)
    return made


def _on_disk(project: Project) -> dict[str, str]:
    return {p.stem: p.read_text(encoding="utf-8") for p in sorted(project.dataset_dir.glob("*.txt"))}


def _wait(said: Callable[[], Mapping[str, str]], expected: Mapping[str, str], seconds: float = 40) -> None:
    """Wait until exactly this is on disk."""
    until = time.monotonic() + seconds
    while said() != expected and time.monotonic() < until:
        time.sleep(0.1)
    assert said() == expected


def _grid(page: Page) -> FrameLocator:
    return page.frame_locator('iframe[title*="agGrid"]')


def _cell(page: Page, stem: str, column: str = "caption") -> Locator:
    return _grid(page).locator(f'[row-id="{stem}.png"] [col-id="{column}"]')


def _edit(page: Page, stem: str, words: str) -> None:
    """Click a cell, type over what it says, and save with Enter."""
    _cell(page, stem).click()
    page.keyboard.type(words)
    page.keyboard.press("Enter")


def _order(page: Page, name: str) -> None:
    page.get_by_role("button", name="More filters").click()
    page.get_by_role("combobox", name="Order").click()
    page.get_by_role("option", name=name).click()
    page.keyboard.press("Escape")


@pytest.mark.slow
def test_no_caption_is_lost_or_lands_on_another_picture(project: Project, user: User) -> None:
    page = user.page
    expected = _on_disk(project)
    user.open(f"/captions?project={project.slug}")
    user.at("Captions")
    expect(_cell(page, "000")).to_be_visible()

    # Ten captions one below the other without waiting for anything.
    _cell(page, "000").click()
    for n in range(10):
        page.keyboard.type(f"typed {n}")
        page.keyboard.press("Enter")
        expected[f"{n:03}"] = f"{TRIGGER}, typed {n}"
    _wait(lambda: _on_disk(project), expected)
    expect(_cell(page, "003", "approved").get_by_role("checkbox")).to_be_checked()
    user.shot("typed-fast")

    # In another order the same cell position is another picture.
    _order(page, "Longest first")
    expect(_grid(page).locator(".ag-center-cols-container [row-index='0']")).to_have_attribute(
        "row-id", "020.png"
    )
    _edit(page, "021", "after sorting")
    _edit(page, "020", "again")
    expected |= {"021": f"{TRIGGER}, after sorting", "020": f"{TRIGGER}, again"}
    _wait(lambda: _on_disk(project), expected)
    _order(page, "Name")

    # With a filter; the row that is approved by typing leaves it while the next one is typed.
    page.get_by_role("radio", name="Uncaptioned").click()
    expect(_cell(page, "000")).to_have_count(0)
    _cell(page, "010").click()
    for n in range(10, 13):
        page.keyboard.type(f"filtered {n}")
        page.keyboard.press("Enter")
        expected[f"{n:03}"] = f"{TRIGGER}, filtered {n}"
        expect(_cell(page, f"{n:03}")).to_have_count(
            0
        )  # gone from the filter, and with it the place in the column
        _cell(page, f"{n + 1:03}").click()
    _wait(lambda: _on_disk(project), expected)
    page.get_by_role("radio", name="All").click()

    # Words in an open cell are saved when the user goes to another page, and that page is another set of rows.
    _cell(page, "013").click()
    page.keyboard.type("left open")
    page.get_by_role("button", name="Page 2", exact=True).click()
    expected["013"] = f"{TRIGGER}, left open"
    _edit(page, "103", "on the second page")
    expected["103"] = f"{TRIGGER}, on the second page"
    _wait(lambda: _on_disk(project), expected)
    user.shot("second-page")


@pytest.mark.slow
def test_two_windows_and_another_program_lose_nothing(project: Project, user: User) -> None:
    first, second = user.page, user.tab()
    for page in (first, second):
        user.open(f"/captions?project={project.slug}", page=page)
        user.at("Captions", page=page)
        expect(_cell(page, "000")).to_be_visible()
    expected = _on_disk(project)

    # Side by side, different rows.
    for n in range(3):
        _edit(first, f"{n:03}", f"first {n}")
        _edit(second, f"{n + 5:03}", f"second {n}")
        expected |= {f"{n:03}": f"{TRIGGER}, first {n}", f"{n + 5:03}": f"{TRIGGER}, second {n}"}
    _wait(lambda: _on_disk(project), expected)

    # The same row: neither text is thrown away.
    (project.dataset_dir / "014.txt").write_text("by another program", encoding="utf-8")
    _edit(first, "014", "mine")
    first.keyboard.type(
        "open while"
    )  # in the cell below, which must outlive the message that comes up above the table
    expect(first.get_by_text("was changed meanwhile")).to_be_visible()
    first.keyboard.type(" the page moves")
    first.keyboard.press("Enter")
    expected["015"] = f"{TRIGGER}, open while the page moves"
    expected["014"] = "by another program"
    _wait(lambda: _on_disk(project), expected)
    assert _on_disk(project)["014"] == "by another program"
    user.shot("clash")
    first.get_by_role("button", name="Write mine").click()
    expected["014"] = f"{TRIGGER}, mine"
    _wait(lambda: _on_disk(project), expected)
    expect(first.get_by_text("was changed meanwhile")).to_have_count(0)

    # Ticking answers at once, and marked rows are what a button is about.
    user.open(f"/captions?project={project.slug}", page=first)  # from the top again
    user.at("Captions", page=first)
    first.get_by_role("searchbox", name="Find", exact=True).fill("word")
    expect(_cell(first, "014")).to_have_count(0)
    tick = _cell(first, "020", "approved").get_by_role("checkbox")
    tick.click()
    expect(tick).to_be_checked(timeout=1000)
    for stem in ("021", "022"):
        _grid(first).locator(f'[row-id="{stem}.png"] .ag-selection-checkbox input').check()
    first.get_by_role("button", name="Approve the 2 marked").click()
    expect(first.get_by_text("2 captions approved")).to_be_visible()
    statuses = {n: c.status for n, c in CaptionStore(project).all().items()}
    assert [statuses[f"{n:03}.png"] for n in (20, 21, 22, 23)] == ["approved"] * 3 + ["needs review"]
    assert _on_disk(project) == expected
