"""What a command is: its words, its options and what it does, as data.

The parser, `--help`, the answers to misspelt input and `docs/cli.md` are all made from these.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from studio.findings import Finding

if TYPE_CHECKING:
    from studio.cli.context import Context

EXIT_CODES: dict[int, str] = {
    0: "done",
    1: "it failed: a run or grid ended in an error, or the studio itself did (details in logs/cli.log)",
    2: "the input cannot be used as typed",
    3: "the project, run, grid, preset, model or file named does not exist",
    4: "a gate does not pass, so training is refused",
    5: "another process holds the thing right now",
    6: "the computer lacks something: room on disk, a package, a permission",
    130: "you pressed Ctrl-C; a run that was being followed goes on",
}


@dataclass(frozen=True)
class Word:
    """A bare word of a command, such as the folder in `import FOLDER`.

    name:     how it reads in the usage line, and (lower case) its name among the parsed values.
    many:     takes all the words that are left; only for the last one.
    convert:  text -> value; raises `values.Bad`.
    dest_name: its name among the parsed values when an option has the same.
    """

    name: str
    help: str
    required: bool = False
    many: bool = False
    convert: Callable[[str], Any] = str
    dest_name: str = ""

    @property
    def dest(self) -> str:
        return self.dest_name or self.name.lower().replace("-", "_").replace("=", "_")

    @property
    def usage(self) -> str:
        text = f"{self.name} ..." if self.many else self.name
        return text if self.required else f"[{text}]"


@dataclass(frozen=True)
class Option:
    """A flag of a command.

    name:      such as `--weights`; `short` such as `-p`.
    metavar:   what follows it, in capitals; empty for a switch.
    convert:   text -> value; raises `values.Bad`.
    many:      may be given several times; the value is a list.
    negatable: a switch that also has a `--no-` form; its value is None when neither is given.
    group:     heading in the help.
    """

    name: str
    help: str
    short: str = ""
    metavar: str = ""
    convert: Callable[[str], Any] = str
    default: Any = None
    required: bool = False
    many: bool = False
    negatable: bool = False
    group: str = "Options"

    @property
    def dest(self) -> str:
        return self.name.lstrip("-").replace("-", "_")

    @property
    def flags(self) -> list[str]:
        """Every spelling of it."""
        negated = [f"--no-{self.name.lstrip('-')}"] if self.negatable else []
        return [f for f in (self.short, self.name) if f] + negated

    @property
    def usage(self) -> str:
        """Its spellings with the value: `-p, --project SLUG`."""
        spelt = ", ".join(self.flags)
        return f"{spelt} {self.metavar}" if self.metavar else spelt


@dataclass(frozen=True)
class Reply:
    """What a command came to: plain data for `--json`, and the exit code."""

    data: dict[str, Any] = field(default_factory=dict)
    code: int = 0


def nothing_to_check(_: Namespace) -> list[Finding]:
    """The default check."""
    return []


@dataclass(frozen=True)
class Command:
    """One command.

    name:     one word, or two for a family: `captions replace`.
    summary:  one sentence, shown in lists.
    details:  more, shown in its own help.
    examples: lines that work as typed after `lora-studio`.
    run:      does the work through the studio's functions; prints through `ctx.out`.
    check:    problems of the parsed input that can be told before anything is touched; a value that was missing or
              could not be converted is None there.
    project:  whether it takes `-p/--project`.
    """

    name: str
    group: str
    summary: str
    run: Callable[[Context, Namespace], Reply]
    words: tuple[Word, ...] = ()
    options: tuple[Option, ...] = ()
    details: str = ""
    examples: tuple[str, ...] = ()
    check: Callable[[Namespace], list[Finding]] = nothing_to_check
    project: bool = True
    aliases: tuple[str, ...] = ()

    @property
    def all_options(self) -> tuple[Option, ...]:
        """Its own options, then the common ones."""
        return self.options + ((PROJECT,) if self.project else ()) + COMMON


PROJECT = Option(
    "--project",
    "The project, by its short name; the one used last when left out.",
    short="-p",
    metavar="SLUG",
    group="Common options",
)
COMMON = (
    Option(
        "--home",
        "The workspace folder; otherwise STUDIO_HOME, or lora-studio in your home folder.",
        metavar="FOLDER",
        group="Common options",
    ),
    Option("--json", "Print one JSON document on standard output and nothing else.", group="Common options"),
    Option("--help", "Show this help.", short="-h", group="Common options"),
)
YES = Option("--yes", "Apply it without asking.", short="-y")
