"""The options that the scripts of sd-scripts take, and the check of a config against them.

The scripts pass over unknown keys of a config file without a word, and take values of a wrong type as they are, to fail
late. So nothing is handed to them that this list does not know. The list is made from the scripts themselves:
scripts/sdscripts/options.py.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from studio import files
from studio.errors import NotFoundError
from studio.findings import Finding
from studio.workspace import shipped

SCRIPTS = {
    "sd15": "train_network",
    "sdxl": "sdxl_train_network",
    "sd35": "sd3_train_network",
    "flux": "flux_train_network",
}
"""Family of base models -> the script that trains it."""


@dataclass(frozen=True)
class Option:
    """One option of a script. kind: bool, int, float, int_or_float, str or Path; many: takes several values."""

    name: str
    kind: str
    many: bool
    default: Any
    choices: tuple[str, ...] | None

    @property
    def words(self) -> str:
        """What a value of it looks like."""
        one = {
            "bool": "true or false",
            "int": "a whole number",
            "float": "a number",
            "int_or_float": "a number",
        }.get(self.kind, "text")
        if self.choices:
            one = f"one of: {', '.join(self.choices)}"
        return f"a list, each {one}" if self.many else one

    def takes(self, value: object) -> bool:
        """Whether a value of a config file is of the right type and among the choices."""
        if self.many:
            return isinstance(value, list) and all(self._takes_one(v) for v in value)
        return self._takes_one(value)

    def _takes_one(self, value: object) -> bool:
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        fits = {
            "bool": isinstance(value, bool),
            "int": isinstance(value, int) and not isinstance(value, bool),
            "float": number,
            "int_or_float": number,
        }.get(self.kind, isinstance(value, str))
        return fits and (self.choices is None or str(value) in self.choices)


@lru_cache(maxsize=1)
def _listed() -> dict[str, Any]:
    return dict(files.read_json(shipped("data", "sdscripts", "options.json")) or {})


def commit() -> str:
    """The commit of sd-scripts that the list was made from."""
    return str(_listed()["commit"])


@lru_cache(maxsize=8)
def options_of(script: str) -> dict[str, Option]:
    """All options of a script by name. Raises NotFoundError for a script that is not listed."""
    listed = _listed()
    if script not in listed["scripts"]:
        raise NotFoundError(
            f"There is no list of options for {script}.",
            "The studio does not drive that script.",
            f"Use one of: {', '.join(listed['scripts'])}.",
        )
    raw = {**listed["shared"], **listed["scripts"][script]}
    return {
        name: Option(
            name, o["type"], bool(o["many"]), o["default"], tuple(o["choices"]) if o["choices"] else None
        )
        for name, o in raw.items()
    }


def nearest(name: str, known: Iterable[str]) -> str:
    """The name that one probably meant; "" when none is near."""
    close = difflib.get_close_matches(name, list(known), 1)
    return close[0] if close else ""


def check(script: str, config: Mapping[str, object]) -> list[Finding]:
    """Keys of a config that the script does not know, and values that it does not take; [] when all fit."""
    known, found = options_of(script), []
    for key, value in config.items():
        option = known.get(key)
        if option is None:
            close = nearest(key, known)
            elsewhere = [s for s in _listed()["scripts"] if key in options_of(s)]
            if elsewhere:
                hint = f"It belongs to {', '.join(elsewhere)}."
            elif close:
                hint = f"Did you mean '{close}'?"
            else:
                hint = "No script of sd-scripts has it."
            found.append(
                Finding(
                    severity="block",
                    code="option-unknown",
                    what=f"{script} has no option '{key}'.",
                    why=f"It would be passed over without a word. {hint}",
                    fix=f"Write '{close}' instead, or remove it." if close else "Remove it.",
                    where=(key,),
                )
            )
        elif not option.takes(value):
            found.append(
                Finding(
                    severity="block",
                    code="option-value",
                    what=f"'{key}' cannot be {value!r}.",
                    why="The script does not check it, and would fail late or train otherwise than meant.",
                    fix=f"It takes {option.words}.",
                    where=(key,),
                )
            )
    return found


_DATASET_TYPES: dict[str, tuple[type, ...]] = {
    "int": (int,),
    "float": (float,),
    "float or int": (float, int),
    "bool": (bool,),
    "str": (str,),
    "dict": (dict,),
    "[float,float]": (list,),
    "int or [int,int]": (int, list),
}


@lru_cache(maxsize=1)
def dataset_keys() -> dict[str, dict[str, str]]:
    """Keys of a dataset config and their types in words, by section: general, datasets, subsets."""
    raw = dict(files.read_json(shipped("data", "sdscripts", "dataset.json")) or {})
    return {section: dict(raw[section]) for section in ("general", "datasets", "subsets")}


def check_dataset(config: Mapping[str, Any]) -> list[Finding]:
    """Keys and values of a dataset config that sd-scripts would refuse; [] when all fit. It makes a difference between 1 and
    1.0."""
    found = _check_section("general", config.get("general", {}))
    if not config.get("datasets"):
        found.append(_dataset_finding("datasets", "The dataset config names no dataset.", "Add pictures."))
    for dataset in config.get("datasets", []):
        found += _check_section("datasets", {k: v for k, v in dataset.items() if k != "subsets"})
        if "resolution" not in {**config.get("general", {}), **dataset}:
            found.append(
                _dataset_finding(
                    "resolution", "The dataset config names no resolution.", "Set the resolution."
                )
            )
        for subset in dataset.get("subsets", []):
            found += _check_section("subsets", subset)
            if "image_dir" not in subset:
                found.append(_dataset_finding("image_dir", "A subset names no folder.", "Name its folder."))
    return found


def _check_section(section: str, values: Mapping[str, Any]) -> list[Finding]:
    known, found = dataset_keys()[section], []
    for key, value in values.items():
        if key not in known:
            near = nearest(key, known)
            fix = f"Write '{near}' instead, or remove it." if near else "Remove it."
            found.append(
                _dataset_finding(key, f"The dataset config has no key '{key}' under {section}.", fix)
            )
            continue
        types = _DATASET_TYPES[known[key]]
        if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
            found.append(
                _dataset_finding(
                    key, f"'{key}' of the dataset config cannot be {value!r}.", f"It takes {known[key]}."
                )
            )
    return found


def _dataset_finding(key: str, what: str, fix: str) -> Finding:
    return Finding(
        severity="block",
        code="dataset-config",
        what=what,
        why="sd-scripts refuses such a dataset config before it reads a picture.",
        fix=fix,
        where=(key,),
    )
