"""From typed words to a command and its values, with every problem of the line answered at once.

argparse splits flags from words; conversion, required values, misspelt names and the joint answer are done here,
because argparse stops at the first problem.
"""

from __future__ import annotations

import argparse
import re
from argparse import Namespace
from collections.abc import Sequence
from typing import NoReturn

from studio.cli.spec import Command, Option
from studio.cli.values import Bad, did_you_mean
from studio.errors import InputError
from studio.findings import Finding

PROGRAM = "lora-studio"


class _Stop(Exception):
    """argparse met something that it cannot go past."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise _Stop(message)


def problem(what: str, why: str = "", fix: str = "", where: str = "") -> Finding:
    """A problem of the input as a finding."""
    return Finding(
        severity="block", code="input", what=what, why=why, fix=fix, where=(where,) if where else ()
    )


def refuse(found: Sequence[Finding], command: str) -> NoReturn:
    """Raise one InputError for all problems of a line."""
    seen = list(dict.fromkeys(found))
    if len(seen) == 1:
        raise InputError(seen[0].what, seen[0].why, seen[0].fix)
    raise InputError(
        f"'{command}' cannot run as typed: {len(seen)} problems.",
        "Nothing was changed.",
        f"Mend each one as written below it. `{PROGRAM} {command} --help` lists what it takes.",
        seen,
    )


def route(argv: Sequence[str], commands: Sequence[Command]) -> tuple[Command, list[str]]:
    """The command that is meant and the rest of the line; options before the command's name are moved behind it.

    A family named alone (`captions`) means its first member (`captions list`). Raises InputError.
    """
    early: list[str] = []
    rest = list(argv)
    while rest and rest[0].startswith("-") and rest[0] != "--":
        flag = rest.pop(0)
        early.append(flag)
        if flag in ("--home", "--project", "-p") and rest:
            early.append(rest.pop(0))
    if not rest or rest[0] == "--":
        raise InputError(
            "No command was given.",
            f"There is only {' '.join(early)}." if early else "",
            f"Type `{PROGRAM} --help` for the list of commands.",
        )
    name = rest.pop(0)
    by_name = {n: c for c in commands for n in (c.name, *c.aliases)}
    if name in by_name:
        return by_name[name], [*rest, *early]
    family = [c for c in commands if c.name.startswith(f"{name} ")]
    if family:
        members = {c.name.split(" ", 1)[1]: c for c in family}
        if not rest or rest[0].startswith("-"):
            return family[0], [*rest, *early]
        member = rest.pop(0)
        if member in members:
            return members[member], [*rest, *early]
        raise InputError(
            f"'{name} {member}' is not a command.",
            f"{name} takes one of: {', '.join(members)}.",
            f"{did_you_mean(member, members)} `{PROGRAM} {name} --help` explains each.".strip(),
        )
    tops = list(dict.fromkeys(n.split(" ")[0] for n in by_name))
    raise InputError(
        f"'{name}' is not a command.",
        f"The commands are: {', '.join(tops)}.",
        f"{did_you_mean(name, tops)} `{PROGRAM} --help` explains each.".strip(),
    )


def build(command: Command) -> argparse.ArgumentParser:
    """The argparse parser of a command's flags; values stay text."""
    parser = _Parser(prog=f"{PROGRAM} {command.name}", add_help=False, allow_abbrev=False)
    for o in command.all_options:
        if o.negatable:
            parser.add_argument(
                o.name, dest=o.dest, action=argparse.BooleanOptionalAction, default=None, help=o.help
            )
        elif not o.metavar:
            names = [n for n in (o.short, o.name) if n]
            parser.add_argument(*names, dest=o.dest, action="store_true", help=o.help)
        else:
            names = [n for n in (o.short, o.name) if n]
            parser.add_argument(
                *names,
                dest=o.dest,
                metavar=o.metavar,
                action="append",
                default=None,
                help=o.help,
            )
    return parser


def parse(command: Command, argv: Sequence[str]) -> Namespace:
    """The values of a command line. Raises InputError carrying every problem at once."""
    line = list(argv)
    cut = line.index("--") if "--" in line else len(line)
    line, forced = line[:cut], line[cut + 1 :]
    found: list[Finding] = []
    try:
        ns, extras = build(command).parse_known_args(line)
    except _Stop as stop:
        refuse([_from_argparse(str(stop), command), *_unknown_flags(line, command)], command.name)
    words: list[str] = []
    after_unknown = eaten = False
    for extra in extras:
        if extra.startswith("-") and len(extra) > 1 and not re.fullmatch(r"-[\d.]+", extra):
            after_unknown = "=" not in extra
            continue
        if after_unknown:
            eaten = True  # most likely the value of the misspelt flag
        else:
            words.append(extra)
        after_unknown = False
    found += _unknown_flags(line, command)
    _take_options(ns, command, found)
    _take_words(ns, command, words + forced, found, incomplete=eaten)
    found += command.check(ns)
    if found:
        refuse(found, command.name)
    return ns


def _unknown_flags(line: Sequence[str], command: Command) -> list[Finding]:
    known = [f for o in command.all_options for f in o.flags]
    takes = {f for o in command.all_options for f in o.flags if o.metavar}
    found = []
    skip = False
    for token in line:
        if skip:
            skip = False
            continue
        name = token.split("=", 1)[0]
        if name in takes:
            skip = "=" not in token
            continue
        if not token.startswith("-") or token == "-" or name in known or re.match(r"-[\d.]", token):
            continue
        if any(len(k) == 2 and token.startswith(k) for k in takes):
            continue  # a short flag with its value glued to it: -pslug
        near = did_you_mean(name, known)
        fix = f"{near} `{PROGRAM} {command.name} --help` lists its options.".strip()
        found.append(problem(f"'{command.name}' has no option {name}.", "It would be ignored.", fix, name))
    return found


def _from_argparse(message: str, command: Command) -> Finding:
    named = re.match(r"argument ([^:]+): (.*)", message)
    if not named:
        return problem(
            "The line cannot be understood.", f"{message}.", f"See `{PROGRAM} {command.name} --help`."
        )
    flag = named.group(1).split("/")[-1].split(", ")[-1]
    option = next((o for o in command.all_options if flag in o.flags), None)
    if option is None or not option.metavar:
        return problem(
            f"{flag} takes no value.", "It is a switch: written or left out.", f"Write just {flag}.", flag
        )
    return problem(
        f"{flag} has no value.",
        f"It wants {option.metavar}: {option.help[0].lower()}{option.help[1:]}",
        f"Write it after the flag; a value that begins with a hyphen as {flag}=VALUE.",
        flag,
    )


def _take_options(ns: Namespace, command: Command, found: list[Finding]) -> None:
    for o in command.all_options:
        given = getattr(ns, o.dest)
        if not o.metavar:
            continue
        if given is None:
            if o.required:
                found.append(problem(f"{o.name} is missing.", o.help, f"Add {o.name} {o.metavar}.", o.name))
            setattr(ns, o.dest, o.default if o.default is not None or not o.many else [])
            continue
        if not o.many and len(given) > 1 and len(set(given)) > 1:
            found.append(
                problem(
                    f"{o.name} is given {len(given)} times.",
                    f"It takes one value, and these differ: {', '.join(given)}.",
                    "Keep one of them.",
                    o.name,
                )
            )
            continue
        values = [v for v in (_converted(o, text, found) for text in given) if v is not None]
        if o.many:
            setattr(ns, o.dest, values)
        elif values:
            setattr(ns, o.dest, values[0])


def _converted(o: Option, text: str, found: list[Finding]) -> object:
    try:
        return o.convert(text)
    except Bad as e:
        found.append(problem(f"{o.name} cannot be '{text}'.", e.why, e.fix, o.name))
        return None


def _take_words(
    ns: Namespace, command: Command, words: list[str], found: list[Finding], incomplete: bool
) -> None:
    """Give the bare words their places. `incomplete`: an unknown flag may have eaten one, so none is missed."""
    left = list(words)
    for w in command.words:
        given, left = (left, []) if w.many else (left[:1], left[1:])
        values = []
        for text in given:
            try:
                values.append(w.convert(text))
            except Bad as e:
                found.append(problem(f"{w.name} cannot be '{text}'.", e.why, e.fix, w.name))
        if not given and w.required and not incomplete:
            found.append(problem(f"{w.name} is missing.", w.help, f"Type {usage_line(command)}.", w.name))
        setattr(ns, w.dest, values if w.many else (values[0] if values else None))
    if left:
        some = "', '".join(left)
        many = len(left) > 1
        found.append(
            problem(
                f"'{some}' {'are' if many else 'is'} not expected here.",
                f"'{command.name}' takes {_taken(command)}.",
                "Put text with spaces in quotes, or leave it out.",
            )
        )


def _taken(command: Command) -> str:
    return " ".join(w.usage for w in command.words) or "no words, only options"


def usage_line(command: Command) -> str:
    """`lora-studio import FOLDER ... [options]`."""
    return " ".join([PROGRAM, command.name, *(w.usage for w in command.words), "[options]"])
