"""The reference pages `docs/cli.md` and `docs/settings.md`, made from the commands and the settings.

`python -m studio.cli.docs` writes them; `--check` only compares, and exits with 1 when one is out of date.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from studio import files
from studio.cli.commands import COMMANDS
from studio.cli.helptext import option_groups
from studio.cli.parser import PROGRAM, usage_line
from studio.cli.settings_flags import default_words, flag_of
from studio.cli.spec import EXIT_CODES, Command
from studio.settings import GROUPS, knobs

FOLDER = Path(__file__).resolve().parents[2] / "docs"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return lines + ["| " + " | ".join(_cell(c) for c in row) + " |" for row in rows]


def _command(c: Command) -> list[str]:
    lines = ["", f"### {c.name}", "", c.summary, "", "```", usage_line(c), "```"]
    for paragraph in c.details.split("\n\n") if c.details else []:
        lines += ["", " ".join(paragraph.split())]
    rows = [(f"`{w.name}`", w.help) for w in c.words]
    for group, options in option_groups(c).items():
        if group == "Common options" or group.startswith("Settings"):
            continue
        rows += [(f"`{o.usage}`", o.help + (" Required." if o.required else "")) for o in options]
    if rows:
        lines += ["", *_table(("", ""), rows)]
    if any(o.group.startswith("Settings") for o in c.options):
        lines += ["", "Each training setting is a flag too: see [settings](settings.md)."]
    if c.examples:
        lines += ["", "```", *[f"{PROGRAM} {e}" for e in c.examples], "```"]
    return lines


def cli_page() -> str:
    """`docs/cli.md`."""
    lines = [
        "# Command line",
        "",
        "Made from the code by `python -m studio.cli.docs`; change the code, not this page.",
        "",
        f"`{PROGRAM}` (or `python -m studio`) does everything that the app does, on the same files.",
        "",
        "## On every command",
        "",
        *_table(
            ("", ""), [(f"`{o.usage}`", o.help) for o in COMMANDS[-1].all_options if "Common" in o.group]
        ),
        "",
        "Commands that work on a project also take `-p, --project SLUG`; without it they mean the project used last.",
        "",
        "With `--json`, standard output holds one JSON document and nothing else: `command`, `ok`, `exit_code` and the",
        "command's own fields. An error has `error`, `what`, `why`, `fix` and `findings` instead. On a terminal there are",
        "colours and a live line; `NO_COLOR` turns colours off, and a pipe gets plain lines.",
        "",
        "## Exit codes",
        "",
        *_table(("code", "meaning"), [(str(c), w) for c, w in EXIT_CODES.items()]),
    ]
    for group in dict.fromkeys(c.group for c in COMMANDS):
        lines += ["", f"## {group}"]
        for c in COMMANDS:
            if c.group == group:
                lines += _command(c)
    return "\n".join(lines) + "\n"


def settings_page() -> str:
    """`docs/settings.md`."""
    lines = [
        "# Training settings",
        "",
        "Made from `studio/settings/` by `python -m studio.cli.docs`; change the code, not this page.",
        "",
        "Set them with `lora-studio config set rank=16`, with flags such as `--rank 16`, or on the config page. Values",
        "outside of the usual range are allowed and named by the config gate; values outside of the limits are refused.",
    ]
    for group in GROUPS:
        rows = []
        for k in knobs().values():
            if k.group != group:
                continue
            choices = " ".join(f"`{v}`: {w}." for v, w in k.choices.items())
            flag = flag_of(k.name)
            rows.append(
                (
                    f"`{k.name}`",
                    k.title,
                    f"{k.help} {choices}".strip(),
                    k.range_words or {"bool": "on or off"}.get(k.kind, "see left" if choices else ""),
                    default_words(k),
                    f"`{flag}`" + (f", `--no-{flag[2:]}`" if k.kind == "bool" else ""),
                )
            )
        if rows:
            lines += ["", f"## {group}", ""]
            lines += _table(("name", "title", "what it does", "range", "default", "flag"), rows)
    return "\n".join(lines) + "\n"


PAGES = {"cli.md": cli_page, "settings.md": settings_page}


def stale() -> list[str]:
    """Names of the pages that are not what the code says."""
    return [
        name
        for name, make in PAGES.items()
        if not (FOLDER / name).is_file() or (FOLDER / name).read_text(encoding="utf-8") != make()
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Write the pages, or with `--check` only compare them."""
    line = list(sys.argv[1:] if argv is None else argv)
    old = stale()
    if line == ["--check"]:
        for name in old:
            print(f"docs/{name} is out of date. Run: python -m studio.cli.docs")
        return 1 if old else 0
    if line:
        print("Usage: python -m studio.cli.docs [--check]")
        return 2
    for name in old:
        files.write_text(FOLDER / name, PAGES[name]())
        print(f"Wrote docs/{name}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
