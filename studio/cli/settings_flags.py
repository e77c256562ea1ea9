"""One flag for each training setting, made from `studio.settings`; nothing here repeats a default or a range."""

from __future__ import annotations

import re
from argparse import Namespace
from typing import Any

from studio.cli.spec import Option
from studio.findings import Finding
from studio.settings import Knob, knobs, problems

_METAVARS = {"int": "N", "float": "NUMBER", "text": "TEXT", "lines": "TEXT"}


def flag_of(name: str) -> str:
    """`learning_rate` -> `--learning-rate`."""
    return "--" + name.replace("_", "-")


def default_words(k: Knob) -> str:
    """A setting's default as a person writes it."""
    if k.kind == "bool":
        return "on" if k.default else "off"
    if k.kind == "float":
        return f"{k.default:g}"
    if k.kind == "lines":
        return " | ".join(k.default) or "none"
    return str(k.default)


def help_of(k: Knob) -> str:
    """What a setting does, its choices or range, and its default, in one text."""
    parts = [k.help]
    if k.choices:
        parts.append("; ".join(f"{value}: {words}" for value, words in k.choices.items()) + ".")
    elif k.range_words:
        parts.append(f"{k.range_words[0].upper()}{k.range_words[1:]}.")
    parts.append(f"Built-in default: {default_words(k)}.")
    return " ".join(parts)


def _metavar(k: Knob) -> str:
    if k.kind == "choice":
        return "{" + ",".join(k.choices) + "}"
    return _METAVARS.get(k.kind, "VALUE")


def setting_options() -> tuple[Option, ...]:
    """The flags of all settings, grouped like the form."""
    return tuple(
        Option(
            flag_of(k.name),
            help_of(k),
            metavar="" if k.kind == "bool" else _metavar(k),
            negatable=k.kind == "bool",
            many=k.kind == "lines",
            group=f"Settings: {k.group}",
        )
        for k in knobs().values()
    )


def from_flags(ns: Namespace) -> dict[str, Any]:
    """The settings that were given as flags."""
    found: dict[str, Any] = {}
    for k in knobs().values():
        value = getattr(ns, flag_of(k.name).lstrip("-").replace("-", "_"), None)
        if value is None or value == []:
            continue
        found[k.name] = tuple(value) if k.kind == "lines" else value
    return found


def from_pairs(pairs: list[str]) -> tuple[dict[str, Any], list[Finding]]:
    """`rank=16 flip=on` as settings, and what is wrong with the pairs themselves.

    Names may be spelt with hyphens. Several sample prompts are separated by `|`.
    """
    found: dict[str, Any] = {}
    wrong: list[Finding] = []
    known = knobs()
    for pair in pairs:
        name, sep, value = pair.partition("=")
        name = name.strip().replace("-", "_")
        if not sep or not name:
            wrong.append(
                Finding(
                    severity="block",
                    code="input",
                    what=f"'{pair}' is not a setting with its value.",
                    why="Settings are written name=value, without spaces around the sign.",
                    fix=f"Write {pair}=VALUE." if name in known else "Write for example rank=16.",
                )
            )
            continue
        if name in found and found[name] != value:
            wrong.append(
                Finding(
                    severity="block",
                    code="input",
                    what=f"'{name}' is given twice, as {found[name]} and {value}.",
                    why="Only one of them can hold.",
                    fix="Keep one.",
                )
            )
            continue
        if name in known and known[name].kind == "lines":
            found[name] = tuple(p.strip() for p in re.split(r"[|\n]", value) if p.strip())
        else:
            found[name] = value.strip()
    return found, wrong


def check(ns: Namespace) -> list[Finding]:
    """Everything wrong with the settings of a line, flags and pairs together."""
    pairs, wrong = from_pairs(list(getattr(ns, "name_value", None) or []))
    flags = from_flags(ns)
    for name in pairs.keys() & flags.keys():
        if str(pairs[name]) != str(flags[name]):
            wrong.append(
                Finding(
                    severity="block",
                    code="input",
                    what=f"'{name}' is given as {name}={pairs[name]} and as {flag_of(name)}.",
                    why="They differ, and only one of them can hold.",
                    fix="Keep one.",
                )
            )
    return wrong + problems({**pairs, **flags})


def given(ns: Namespace) -> dict[str, Any]:
    """The settings of a checked line."""
    return {**from_pairs(list(getattr(ns, "name_value", None) or []))[0], **from_flags(ns)}
