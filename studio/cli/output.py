"""What a command says: tables and a live line on a terminal, plain lines when piped, one document for `--json`."""

from __future__ import annotations

import json
import os
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TextIO

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from studio.errors import StudioError
from studio.findings import Finding, by_harm

MARKS = {"block": "blocks", "warn": "look", "info": "note"}
STYLES = {"block": "bold red", "warn": "yellow", "info": "cyan"}
BAR = 24  # columns of the bar before the moving line
PLAIN_EVERY = 15.0  # seconds between progress lines when nobody watches a terminal


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """rich would end the process; the caller decides instead."""
        raise BrokenPipeError


class LiveLine:
    """One line that moves: rewritten in place on a terminal, printed now and then when piped, silent for `--json`."""

    def __init__(self, out: Out, live: Live | None) -> None:
        self._out = out
        self._live = live
        self._last = time.monotonic()
        self._said = ""

    def update(self, text: str, fraction: float | None = None) -> None:
        """Show `text`, on a terminal behind a bar when `fraction` (0 to 1) is known. A pipe gets a new line at most every
        15 seconds."""
        if self._live is not None:
            line = Text(overflow="ellipsis", no_wrap=True)
            if fraction is not None:
                full = round(BAR * min(1.0, max(0.0, fraction)))
                line.append("━" * full, style="cyan").append("━" * (BAR - full) + "  ", style="bright_black")
            self._live.update(line.append(text, style="dim"))
            return
        due = time.monotonic() - self._last > PLAIN_EVERY
        if not self._out.json and due and text != self._said:
            self._last, self._said = time.monotonic(), text
            self._out.say(text)

    def above(self, text: str, style: str = "") -> None:
        """A line that stays, above the moving one."""
        self._out.say(text, style)


class Out:
    """Where a command's words go.

    json: keep silent; the command's reply is printed as one document at the end.
    """

    def __init__(
        self, json: bool = False, stdout: TextIO | None = None, stderr: TextIO | None = None
    ) -> None:
        self.json = json
        self.advises = True  # whether `next` is said; the demo goes on by itself
        self.hint: Callable[[str], str] = str
        """Completes the commands that a text advises, so that they work as shown; set once the line is understood."""
        self.stdout = stdout or sys.stdout
        self.stderr = stderr or sys.stderr
        self.is_terminal = not json and self.stdout.isatty() and os.environ.get("TERM") != "dumb"
        plain = bool(os.environ.get("NO_COLOR")) or not self.is_terminal
        self.console = _Console(
            file=self.stdout,
            no_color=plain,
            color_system=None if plain else "auto",
            force_terminal=self.is_terminal,
            highlight=False,
            markup=False,
            emoji=False,
        )

    @property
    def width(self) -> int:
        """Columns to wrap at; 0 means do not wrap (piped)."""
        return min(self.console.width, 110) if self.is_terminal else 0

    # --- words
    def say(self, text: str = "", style: str = "") -> None:
        """A line, never cut or broken, so that paths can be copied."""
        if not self.json:
            self.console.print(self.hint(text), style=style or None, soft_wrap=True)

    def heading(self, text: str) -> None:
        """A title with air above it."""
        self.say()
        self.say(text, "bold")

    def dim(self, text: str) -> None:
        """Something less important."""
        self.say(text, "dim")

    def good(self, text: str) -> None:
        """Something that went well."""
        self.say(text, "green")

    def next(self, text: str) -> None:
        """What to do now."""
        if self.advises:
            self.say()
            self.say(f"Next: {text}")

    def paragraph(self, text: str, indent: str = "", style: str = "") -> None:
        """Wrapped text with a hanging indent on a terminal; one line when piped."""
        if self.json or not text:
            return
        wide = self.width
        lines = textwrap.wrap(text, wide - len(indent), break_on_hyphens=False) if wide else [text]
        for line in lines:
            self.say(indent + line, style)

    def facts(self, pairs: Sequence[tuple[str, object]]) -> None:
        """Names and values in two columns; empty values are left out."""
        if self.json:
            return
        kept = [(k, str(v)) for k, v in pairs if v not in (None, "")]
        wide = max((len(k) for k, _ in kept), default=0)
        for key, value in kept:
            line = Text(f"{key:<{wide}}  ", style="dim")
            line.append(value, style="not dim")
            self.console.print(line, soft_wrap=True)

    def table(
        self, columns: Sequence[str], rows: Sequence[Sequence[object]], right: Sequence[int] = ()
    ) -> None:
        """A table; `right` holds the numbers of the columns that are set to the right."""
        if self.json or not rows:
            return
        cells = [["" if c is None else str(c) for c in row] for row in rows]
        if self.is_terminal:
            drawn = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
            for i, name in enumerate(columns):
                drawn.add_column(name, justify="right" if i in right else "left", overflow="fold")
            for row in cells:
                drawn.add_row(*[Text(c) for c in row])
            self.console.print(drawn)
            return
        widths = [max(len(str(r[i])) for r in [list(columns), *cells]) for i in range(len(columns))]
        for row in [list(columns), *cells]:
            line = "  ".join(
                c.rjust(widths[i]) if i in right else c.ljust(widths[i]) for i, c in enumerate(row)
            )
            self.say(line.rstrip())

    def findings(self, found: Sequence[Finding], limit: int = 12) -> None:
        """Findings, the most harmful first: what, why, fix, and the first names concerned."""
        for f in by_harm(found):
            self.say()
            head = f"{MARKS[f.severity]}: {f.what}"
            self.paragraph(head, "  ", STYLES[f.severity])
            self.paragraph(f.why, "    ")
            self.paragraph(f"Fix: {f.fix}" if f.fix else "", "    ")
            if f.where:
                more = len(f.where) - limit
                names = ", ".join(f.where[:limit]) + (f" and {more} more" if more > 0 else "")
                self.paragraph(names, "    ", "dim")

    def error(self, e: StudioError) -> None:
        """An error's sentences on standard error; with `--json` the document says it instead."""
        if self.json:
            return
        console = _Console(
            file=self.stderr,
            no_color=bool(os.environ.get("NO_COLOR")) or not self.stderr.isatty(),
            highlight=False,
            markup=False,
            emoji=False,
        )
        console.print(e.what, style="bold red", soft_wrap=True)
        for label, words in (("Why", e.why), ("Fix", e.fix)):
            if words:
                console.print(f"{label}: {self.hint(words)}", soft_wrap=True)
        for f in e.findings:
            console.print(f"- {f.what}", soft_wrap=True)
            for label, words in (("Why", f.why), ("Fix", f.fix)):
                if words:
                    console.print(f"  {label}: {self.hint(words)}", soft_wrap=True)

    # --- things that move
    @contextmanager
    def live(self) -> Iterator[LiveLine]:
        """A moving line for as long as the block lasts."""
        if not self.is_terminal:
            yield LiveLine(self, None)
            return
        with Live(Text(""), console=self.console, refresh_per_second=4, transient=True) as live:
            yield LiveLine(self, live)

    def confirm(self, question: str) -> bool | None:
        """Ask yes or no on a terminal; None when nobody can answer."""
        if not self.is_terminal or not sys.stdin.isatty():
            return None
        self.say()
        try:
            answer = input(f"{question} [y/N] ")
        except EOFError:
            return None
        return answer.strip().lower() in ("y", "yes")

    def document(self, data: dict[str, Any]) -> None:
        """The one JSON document of a `--json` command."""
        self.stdout.write(json.dumps(data, indent=2, ensure_ascii=False, default=str) + "\n")
        self.stdout.flush()
