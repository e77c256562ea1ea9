"""Somebody in front of the app: opens pages, presses buttons, and notes every fault that a page ever showed."""

from __future__ import annotations

import re
from pathlib import Path
from re import Pattern

from playwright.sync_api import BrowserContext, ConsoleMessage, Locator, Page, expect
from playwright.sync_api import Error as BrowserError

from tests.e2e.server import Server

PATIENCE = 60.0  # seconds; long, because a busy computer is slow, and waiting ends as soon as what is waited for is there
MARK = "shown to the user: "
# Looks at everything that is put on the page, also at what is gone a moment later.
WATCH = """
(() => {
  const words = ["Traceback (most recent call last)", "Something went wrong while drawing", "Uncaught app exception",
                 "fault of the studio", "Page not found", "NaN", "undefined"];
  const told = new Set();
  const tell = (text) => { if (!told.has(text)) { told.add(text); console.error("%s" + text.slice(0, 600)); } };
  const look = (node) => {
    if (node.nodeType === Node.TEXT_NODE) {
      const parent = node.parentElement;
      if (!parent || parent.closest("script, style")) return;
      const text = node.textContent;
      const bad = words.find((w) => text.includes(w));
      if (bad) tell(text);
      return;
    }
    if (node.nodeType !== Node.ELEMENT_NODE) return;
    if (node.matches('[data-testid="stException"]')) tell("an exception box: " + node.textContent);
    for (const child of node.childNodes) look(child);
  };
  new MutationObserver((changes) => {
    for (const c of changes) {
      if (c.type === "characterData") look(c.target);
      c.addedNodes.forEach(look);
    }
  }).observe(document, { childList: true, subtree: true, characterData: true });
})();
""".replace("%s", MARK)
# On an address such as /run Streamlit first asks below /run for its own files, and is told that they are elsewhere.
PROBE = re.compile(r"/\w+/_stcore/(health|host-config)$")


class User:
    """A browser profile with one page to start with; `tab` opens another."""

    def __init__(self, context: BrowserContext, server: Server, *, shots: str = "", name: str = "") -> None:
        self.context, self.server = context, server
        self.faults: list[str] = []
        # While it is, the browser complains about that; what is shown to the user still counts.
        self.server_may_be_away = False
        self._shots = Path(shots) / re.sub(r"\W+", "_", name) if shots else None
        self._count = 0
        context.set_default_timeout(PATIENCE * 1000)
        context.add_init_script(WATCH)
        context.on("console", self._console)
        context.on("weberror", lambda e: self.faults.append(f"A script failed: {e.error}"))
        self.page = context.new_page()

    def _console(self, message: ConsoleMessage) -> None:
        if message.type != "error" or (self.server_may_be_away and MARK not in message.text):
            return
        asked = message.location.get("url", "")
        if not PROBE.search(asked):
            self.faults.append(f"{message.page.url if message.page else ''}: {message.text} ({asked})")

    def tab(self) -> Page:
        """A second tab of the same browser."""
        return self.context.new_page()

    # --- going somewhere

    def open(self, path: str, *, page: Page | None = None) -> None:
        """Type an address."""
        (page or self.page).goto(f"{self.server.url}{path}", wait_until="commit")

    def at(self, title: str, *, page: Page | None = None, seconds: float = PATIENCE) -> None:
        """Wait for the page with this title, drawn to its end."""
        page = page or self.page
        expect(page.get_by_role("heading", name=title, level=1)).to_be_visible(timeout=seconds * 1000)
        self.settled(page)

    def settled(self, page: Page | None = None) -> None:
        """Wait until the server has nothing more to draw."""
        app = (page or self.page).locator('[data-testid="stApp"][data-test-script-state="notRunning"]')
        expect(app).to_be_attached(timeout=PATIENCE * 1000)

    # --- what is on the page

    def button(self, name: str | Pattern[str]) -> Locator:
        return self.page.get_by_role("button", name=name)

    def press(self, name: str | Pattern[str], *, seconds: float = PATIENCE) -> None:
        """Press a button when it can be pressed."""
        found = self.button(name).first
        expect(found).to_be_enabled(timeout=seconds * 1000)
        found.click()

    def sees(self, text: str | Pattern[str], *, seconds: float = PATIENCE) -> Locator:
        """Wait until a text can be read on the page."""
        found = self.page.get_by_text(text).filter(visible=True).first
        expect(found).to_be_visible(timeout=seconds * 1000)
        return found

    def stop_training(self) -> None:
        """Open the box of the stop button and confirm. By its own name: Streamlit shows a "Stop" of its own above."""
        self.page.locator(".st-key-stop_box").get_by_role("button").first.click()
        self.press("Stop training")

    def shot(self, name: str) -> None:
        """Keep a picture of the screen, where `STUDIO_E2E_SHOTS` asks for it."""
        if self._shots is None:
            return
        self._count += 1
        try:
            # The page scrolls inside itself, so a tall window shows all of it.
            self.page.screenshot(path=self._shots / f"{self._count:02}-{name}.png")
        except BrowserError as e:
            print(f"No picture of {name}: {e}")
