"""Text from the command line -> values, with an answer in words when it cannot be."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterable
from pathlib import Path


class Bad(ValueError):
    """A value that cannot be used: why, and what would be right."""

    def __init__(self, why: str, fix: str) -> None:
        super().__init__(why)
        self.why = why
        self.fix = fix


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """ "Did you mean 'x'?" for a near miss, else an empty text."""
    near = difflib.get_close_matches(word.lower(), list(known), n=1, cutoff=0.6)
    return f"Did you mean '{near[0]}'?" if near else ""


def whole(low: int, high: int, example: int) -> Callable[[str], int]:
    """A whole number from `low` to `high`."""

    def convert(text: str) -> int:
        fix = f"Use a whole number from {low} to {high}, such as {example}."
        if not re.fullmatch(r"[+-]?[0-9]{1,12}", text.strip()):
            raise Bad("It is not a whole number.", fix)
        value = int(text)
        if not low <= value <= high:
            raise Bad("It is too small." if value < low else "It is too large.", fix)
        return value

    return convert


def number(low: float, high: float, example: float) -> Callable[[str], float]:
    """A number from `low` to `high`."""

    def convert(text: str) -> float:
        fix = f"Use a number from {low:g} to {high:g}, such as {example:g}."
        try:
            value = float(text)
        except ValueError:
            hint = " Write the decimal with a point." if re.fullmatch(r"\d+,\d+", text.strip()) else ""
            raise Bad("It is not a number." + hint, fix) from None
        if not math.isfinite(value):
            raise Bad("It is not a finite number.", fix)
        if not low <= value <= high:
            raise Bad("It is too small." if value < low else "It is too large.", fix)
        return value

    return convert


def listed(single: Callable[[str], object], example: str, most: int = 64) -> Callable[[str], list[object]]:
    """Several values separated by commas, no two the same, at most `most`."""

    def convert(text: str) -> list[object]:
        fix = f"Separate them with commas, such as {example}."
        parts = [p.strip() for p in text.split(",")]
        if not all(parts):
            raise Bad("One of them is empty.", fix)
        if len(parts) > most:
            raise Bad(f"These are {len(parts)}; at most {most} make sense.", fix)
        found: list[object] = []
        for part in parts:
            try:
                value = single(part)
            except Bad as e:
                raise Bad(f"'{part}': {e.why}", e.fix) from None
            if value in found:
                raise Bad(f"'{part}' is there twice.", fix)
            found.append(value)
        return found

    return convert


def one_of(choices: Iterable[str]) -> Callable[[str], str]:
    """One word of a fixed list."""
    known = list(choices)

    def convert(text: str) -> str:
        word = text.strip().lower()
        if word not in known:
            near = did_you_mean(word, known)
            raise Bad("It is not one of the choices.", f"{near} Use one of: {', '.join(known)}.".strip())
        return word

    return convert


def text(most: int = 2000) -> Callable[[str], str]:
    """Some text that is not blank, at most `most` characters, on one line or more."""

    def convert(raw: str) -> str:
        if not raw.strip():
            raise Bad("It is empty.", "Write some text after it, in quotes if it has spaces.")
        if len(raw) > most:
            raise Bad(f"It has {len(raw)} characters.", f"Use at most {most}.")
        if "\x00" in raw:
            raise Bad("It has a character that no text file can hold.", "Type it again without it.")
        return raw.strip()

    return convert


def folder(raw: str) -> Path:
    """A folder, there or to be made; not a file. Raises Bad."""
    if not raw.strip():
        raise Bad("It is empty.", "Give the path of a folder.")
    path = Path(raw).expanduser()
    if path.is_file():
        raise Bad("It is a file.", "Give the path of a folder.")
    return path


def existing(raw: str) -> Path:
    """A file or folder that is there."""
    if not raw.strip():
        raise Bad("It is empty.", "Give the path of a file or folder.")
    try:
        path = Path(raw).expanduser()
        there = path.exists()
        if "\x00" in raw:
            raise ValueError(raw)
    except (OSError, ValueError, RuntimeError):
        raise Bad("It is not a path that this computer knows.", "Check its spelling.") from None
    if not there:
        near = ""
        if path.parent.is_dir():
            near = did_you_mean(path.name, [p.name for p in path.parent.iterdir()])
        raise Bad(
            f"Nothing is there{'' if path.is_absolute() else f' (looked in {Path.cwd()})'}.",
            f"{near} Check the spelling, or put a path with spaces in quotes.".strip(),
        )
    return path


def lora_file(raw: str) -> Path:
    """A .safetensors file that is there. Raises Bad."""
    path = existing(raw)
    if path.suffix.lower() != ".safetensors" or not path.is_file():
        raise Bad("It is not a .safetensors file.", "Give the path of a LoRA file.")
    return path
