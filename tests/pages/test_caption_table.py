"""What the captions table does with words that the browser tells late, and what its browser's half does with keys."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from playwright.sync_api import Page, sync_playwright

from pages.parts import caption_table
from studio.captions.store import CaptionStore
from studio.project import Project
from studio.workspace import Workspace
from tests.e2e.conftest import FLAGS, find_chromium
from tests.pages import worlds
from tests.pages.app import open_page, sound, texts


@pytest.fixture
def project(workspace: Workspace, tmp_path: Path) -> Project:
    return worlds.project(workspace, worlds.pictures(tmp_path / "in"))


def _change(seq: int, name: str, words: str, seen: str) -> dict[str, Any]:
    return {"seq": seq, "name": name, "field": "caption", "value": words, "seen": seen, "first": seen}


def test_words_typed_before_the_server_was_started_anew_are_stored(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A browser that was there before tells its changes with the first drawing, and then nobody is called back.
    (project.dataset_dir / "03_cat.txt").write_text("bluprnt, by another program", encoding="utf-8")
    told = {"box": "old tab", "marked": [], "changes": [
        _change(8, "02_bus.png", "the last words", "bus"), _change(7, "01_car.png", "typed in vain", "car"),
        _change(9, "03_cat.png", "mine", "cat"),
    ]}  # fmt: skip
    monkeypatch.setattr(caption_table, "AgGrid", lambda *_a, **_k: SimpleNamespace(raw_data=told))
    at = open_page("captions", project.slug)
    store = CaptionStore(project)
    assert store.get("01_car.png").text == "bluprnt, typed in vain"
    assert store.get("02_bus.png").text == "bluprnt, the last words"
    assert store.get("03_cat.png").text == "bluprnt, by another program", "nothing is written over silently"
    assert "was changed meanwhile" in texts(at)
    store.set("01_car.png", "later words")
    sound(at.run())
    assert store.get("01_car.png").text == "bluprnt, later words", "what was stored once is not stored again"
    assert len(store.history()) == 3


# ---------------------------------------------------------------- in the browser, without the app


@pytest.fixture(scope="module")
def browser_page() -> Iterator[Page]:
    with sync_playwright() as playwright:
        path = find_chromium(playwright)
        if not path:
            pytest.skip("No Chromium was found: install `chromium`, or name one in STUDIO_CHROMIUM.")
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser.new_page()
        browser.close()


@pytest.fixture
def grid(browser_page: Page) -> Page:
    """An empty page with the script of the table, a clock that the test turns, and a stand-in for the grid that counts."""
    page = browser_page
    page.goto("about:blank")
    page.clock.install()
    page.set_content('<div class="ag-root-wrapper" tabindex="0"></div>')
    page.evaluate("(script) => { (0, eval)(script); }", caption_table._script())
    page.evaluate(
        """() => {
          window.sent = [];
          window.data = { name: "a.png", caption: "old", approved: false, box: "", ack: 0 };
          window.api = {
            isDestroyed: () => false, getSelectedRows: () => [], refreshCells: () => 0, stopEditing: () => 0,
            getEditingCells: () => [], startEditingCell: (at) => window.sent.push(at),
            forEachNode: (f) => f({ data: window.data }),
            dispatchEvent: (e) => window.sent.push(
              captionGrid.collect({ streamlitRerunEventTriggerName: e.type, eventData: { api: window.api } })),
          };
          window.type = (words) => captionGrid.collect({ streamlitRerunEventTriggerName: "cellEditRequest",
            eventData: { api, data, node: {}, colDef: { field: "caption" }, oldValue: "old", newValue: words } });
        }"""
    )
    return page


def test_what_nobody_confirmed_is_told_again_and_said(grid: Page) -> None:
    box = grid.evaluate("type('new words').box")
    grid.clock.run_for(4_000)
    assert grid.evaluate("sent.length") == 0 and not grid.locator(".unsaved").count()
    grid.clock.run_for(60_000)
    assert [c["value"] for c in grid.evaluate("sent[0].changes")] == ["new words"]
    assert 3 <= grid.evaluate("sent.length") <= 4, "less and less often"
    assert "Not saved yet" in grid.locator(".unsaved").inner_text()
    grid.evaluate("(box) => { data.box = box; data.ack = 1; captionGrid.forget(api); sent.length = 0; }", box)
    grid.clock.run_for(200_000)
    assert grid.evaluate("sent.length") == 0 and not grid.locator(".unsaved").count()


@pytest.mark.parametrize(
    ("key", "leaves"),
    [
        ({"key": "Enter"}, True), ({"key": "Tab"}, True), ({"key": "Escape"}, True),
        ({"key": "Enter", "isComposing": True}, False), ({"key": "Escape", "isComposing": True}, False),
        ({"key": "Enter", "keyCode": 229}, False),  # Safari, at the end of a composition
        ({"key": "Enter", "shiftKey": True}, False), ({"key": "ArrowDown"}, False),
    ],
)  # fmt: skip
def test_keys_of_an_input_method_do_not_reach_the_grid(grid: Page, key: dict[str, Any], leaves: bool) -> None:
    reached = grid.evaluate(
        """(key) => {
          const editor = new captionGrid.Editor();
          editor.init({ data, api, value: "old", eventKey: null, column: { getActualWidth: () => 300 }, eGridCell: null });
          const wrapper = document.querySelector(".ag-root-wrapper");
          wrapper.appendChild(editor.getGui());
          let reached = false;
          wrapper.addEventListener("keydown", () => { reached = true; });
          editor.getGui().dispatchEvent(new KeyboardEvent("keydown", { ...key, bubbles: true }));
          editor.destroy();
          return reached;
        }""",
        key,
    )
    assert reached is leaves


def test_a_key_of_an_input_method_opens_the_cell(grid: Page) -> None:
    for code, editable in ((229, True), (229, False), (65, True)):
        grid.evaluate(
            """([keyCode, editable]) => captionGrid.composed(
              { event: { keyCode }, colDef: { editable }, api, rowIndex: 4, column: "caption" })""",
            [code, editable],
        )
    assert grid.evaluate("sent") == [{"rowIndex": 4, "colKey": "caption"}]


def test_words_in_an_open_cell_are_asked_about_before_the_tab_goes(grid: Page) -> None:
    asks = """() => { const e = new Event("beforeunload", { cancelable: true }); window.dispatchEvent(e); return e.defaultPrevented; }"""
    assert not grid.evaluate(asks)
    grid.evaluate(
        """() => {
          window.editor = new captionGrid.Editor();
          editor.init({ data, api, value: "old", eventKey: null, column: { getActualWidth: () => 300 }, eGridCell: null });
        }"""
    )
    assert not grid.evaluate(asks), "nothing was typed"
    grid.evaluate("() => { editor.getGui().value = 'half a sentence'; }")
    assert grid.evaluate(asks)
    grid.evaluate("editor.destroy()")
    assert not grid.evaluate(asks)


ROWS = """() => {
  window.order = ["a.png", "b.png", "c.png"];
  window.at = null;
  const node = (i) => (i >= 0 && i < order.length ? { rowIndex: i, data: { ...data, name: order[i] } } : undefined);
  Object.assign(api, {
    forEachNodeAfterFilterAndSort: (f) => order.forEach((_, i) => f(node(i))), getRowNode: (name) => node(order.indexOf(name)), ensureIndexVisible: () => 0,
    getFocusedCell: () => at, clearFocusedCell: () => { at = null; },
    setFocusedCell: (rowIndex, column) => { at = { rowIndex, column }; },
    startEditingCell: (to) => { sent.push(to); window.editor = edit(to.rowIndex, null); },
  });
  window.edit = (i, key) => {
    const editor = new captionGrid.Editor();
    editor.init({ data: node(i).data, api, value: "old", eventKey: key, column: { getActualWidth: () => 300 }, eGridCell: null });
    document.querySelector(".ag-root-wrapper").replaceChildren(editor.getGui());
    return editor;
  };
}"""


def test_letters_stay_with_their_picture_when_the_rows_change_under_them(grid: Page) -> None:
    grid.evaluate(ROWS)
    # A cell that is only chosen: the place goes where its picture goes.
    grid.evaluate(
        "() => { captionGrid.follow(api); at = { rowIndex: 1, column: 'caption' }; captionGrid.follow(api); }"
    )
    grid.evaluate(
        "() => { order = ['new.png', 'new2.png', 'a.png', 'b.png', 'c.png']; captionGrid.follow(api); }"
    )
    assert grid.evaluate("at.rowIndex") == 3
    # Enter went down meanwhile, and nothing about that was told yet: the same rows again leave it there.
    grid.evaluate("() => { at = { rowIndex: 4, column: 'caption' }; captionGrid.follow(api); }")
    assert grid.evaluate("at.rowIndex") == 4
    # A cell in which somebody types and that the grid closes: open again, with what was typed.
    grid.evaluate("() => { editor = edit(3, 'l'); order = ['b.png', 'c.png']; editor.destroy(); }")
    assert grid.evaluate("[sent.at(-1).rowIndex, at.rowIndex, editor.getValue()]") == [0, 0, "l"]
    # Its picture is shown no more: the letters go to no other one.
    grid.evaluate("() => { order = ['c.png']; editor.destroy(); }")
    assert grid.evaluate("[sent.length, at]") == [1, None]


@pytest.mark.parametrize("key", ["Enter", "Tab", "Escape"])
def test_a_cell_that_the_user_left_stays_closed(grid: Page, key: str) -> None:
    grid.evaluate(ROWS)
    grid.evaluate(
        """(key) => { editor = edit(1, "l");
          editor.getGui().dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true })); editor.destroy(); }""",
        key,
    )
    assert grid.evaluate("sent.length") == 0


def test_a_grid_that_closes_a_cell_again_and_again_is_let_be(grid: Page) -> None:
    grid.evaluate(ROWS)
    grid.evaluate(
        "() => { const start = api.startEditingCell; api.startEditingCell = (to) => { start(to); editor.destroy(); }; edit(1, 'l').destroy(); }"
    )
    assert grid.evaluate("sent.length") <= 3
