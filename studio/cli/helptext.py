"""`--help`, made from the commands and the settings."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Sequence

from studio import __version__
from studio.cli.output import Out
from studio.cli.parser import PROGRAM, route, usage_line
from studio.cli.spec import EXIT_CODES, Command, Option

_HELP = ("-h", "--help")


def wanted(line: Sequence[str]) -> bool:
    """Whether the line asks for help; a line without any command does."""
    return any(t in _HELP for t in line) or line[:1] == ["help"] or not [t for t in line if t != "--json"]


def show(line: Sequence[str], commands: Sequence[Command], out: Out) -> int:
    """Print the help that the line asks for; 0. Raises InputError for a command that does not exist."""
    words = [t for t in line if t not in _HELP and t != "--json"]
    if words[:1] == ["help"]:
        words = words[1:]
    text = help_for(words, commands)
    if out.json:
        out.document({"command": "help", "ok": True, "exit_code": 0, "help": text})
    else:
        out.say(text)
    return 0


def help_for(words: Sequence[str], commands: Sequence[Command]) -> str:
    """The help of the whole program, of a family, or of one command."""
    if not words or words[0].startswith("-"):
        return _overview(commands)
    family = [c for c in commands if c.name.startswith(f"{words[0]} ")]
    if family and (len(words) == 1 or words[1].startswith("-")):
        return _family(words[0], family)
    command, _ = route(words, commands)
    return of_command(command)


def _width() -> int:
    return max(60, min(100, shutil.get_terminal_size((100, 24)).columns))


def _wrapped(text: str, indent: str = "") -> str:
    return textwrap.fill(
        text,
        _width(),
        initial_indent=indent,
        subsequent_indent=indent,
        break_on_hyphens=False,
        break_long_words=False,
    )


def _two_columns(pairs: Sequence[tuple[str, str]], left: int) -> list[str]:
    lines = []
    for name, words in pairs:
        body = textwrap.wrap(words, _width() - left - 4, break_on_hyphens=False) or [""]
        if len(name) > left:
            lines += [f"  {name}"] + [" " * (left + 4) + b for b in body]
        else:
            lines += [f"  {name:<{left}}  {body[0]}"] + [" " * (left + 4) + b for b in body[1:]]
    return lines


def _overview(commands: Sequence[Command]) -> str:
    lines = [
        f"{PROGRAM} {__version__}: from a folder of pictures to a registered LoRA.",
        "",
        f"Usage: {PROGRAM} COMMAND [options]        (or: python -m studio COMMAND [options])",
    ]
    for group in dict.fromkeys(c.group for c in commands):
        lines += ["", group]
        lines += _two_columns([(c.name, c.summary) for c in commands if c.group == group], 21)
    lines += [
        "",
        "On every command",
        *_two_columns([(o.usage, o.help) for o in commands[0].all_options[-3:]], 21),
    ]
    lines += ["", "Exit codes", *_two_columns([(str(c), w) for c, w in EXIT_CODES.items()], 4)]
    lines += ["", f"`{PROGRAM} COMMAND --help` explains a command and its options."]
    return "\n".join(lines)


def _family(name: str, family: Sequence[Command]) -> str:
    lines = [f"Usage: {PROGRAM} {name} COMMAND [options]", ""]
    lines += _two_columns([(c.name, c.summary) for c in family], 21)
    lines += ["", f"`{PROGRAM} {name}` alone means `{PROGRAM} {family[0].name}`."]
    return "\n".join(lines)


def option_groups(command: Command) -> dict[str, list[Option]]:
    """A command's options by heading, in order."""
    groups: dict[str, list[Option]] = {}
    for o in command.all_options:
        groups.setdefault(o.group, []).append(o)
    return groups


def of_command(command: Command) -> str:
    """The help of one command."""
    lines = [f"Usage: {usage_line(command)}", "", _wrapped(command.summary)]
    if command.details:
        for paragraph in command.details.split("\n\n"):
            lines += ["", _wrapped(" ".join(paragraph.split()))]
    if command.words:
        lines += ["", "Words", *_two_columns([(w.name, w.help) for w in command.words], 21)]
    for group, options in option_groups(command).items():
        lines += ["", group, *_two_columns([(o.usage, o.help) for o in options], 21)]
    if command.examples:
        lines += ["", "Examples", *[f"  {PROGRAM} {e}" for e in command.examples]]
    lines += ["", "Exit codes", *_two_columns([(str(c), w) for c, w in EXIT_CODES.items()], 4)]
    return "\n".join(lines)
