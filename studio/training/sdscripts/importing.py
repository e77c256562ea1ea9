"""Settings from the configs of other programs: a TOML of sd-scripts, or a JSON that the kohya_ss window saved.

What has a setting here becomes that setting, what the script knows beside becomes a further option, and everything else is named
with the reason why it stays behind. Nothing is lost in silence; what says the same as the script's default is only counted.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from studio import files
from studio.errors import InputError
from studio.findings import Finding
from studio.settings import knobs, problems
from studio.training.sdscripts import extra, options
from studio.training.sdscripts.importing_values import (
    CONVERT,
    UNSAID,
    UNSAID_OF_DATASET,
    NotTaken,
    gui_to_options,
    typed,
)

MOST_BYTES: Final = 1_000_000


@dataclass(frozen=True)
class Taken:
    """A value that was taken over. name: as the file says it, "" for what it leaves to the scripts' default; setting: the setting it became, `extra_options` for one of
    these; value: what that is now."""

    name: str
    setting: str
    value: Any


@dataclass(frozen=True)
class Left:
    """A value that stays behind, and why."""

    name: str
    value: Any
    why: str


@dataclass
class Imported:
    """What a file says in the studio's words.

    kind:   what the file is, in words.      values: settings by name, further options among them.
    same:   how many lines say what would be so anyway.
    """

    kind: str
    values: dict[str, Any] = field(default_factory=dict)
    taken: list[Taken] = field(default_factory=list)
    left: list[Left] = field(default_factory=list)
    same: int = 0
    findings: list[Finding] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Plain data for `--json`."""
        return {
            "kind": self.kind,
            "settings": self.values,
            "taken": [vars(t) for t in self.taken],
            "left": [{"name": x.name, "value": x.value, "why": x.why} for x in self.left],
            "same": self.same,
            "findings": [f.model_dump(mode="json") for f in self.findings],
        }


def read_file(path: Path, family: str) -> Imported:
    """A file as settings for a base model of a family. Raises InputError when it is none of the known kinds."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise InputError(
                f"{path.name} is too large to be a config.",
                f"It has {files.human_size(path.stat().st_size)}; configs have a few thousand characters.",
                "Choose the .toml or .json file.",
            )
        text = path.read_bytes()
    except OSError as e:
        raise InputError(
            f"{path.name} cannot be read.",
            str(e.strerror or e),
            "Check that the file exists and that you may read it.",
        ) from e
    return read_text(text, path.name, family)


def read_text(data: bytes, name: str, family: str) -> Imported:
    """The same for what is in a file. name: the file's, for messages."""
    kind, raw = _parsed(data, name)
    told = Imported(kind)
    flat = (
        gui_to_options(raw, told.left.append, Left) if kind.startswith("kohya_ss") else _flattened(raw, told)
    )
    _family(raw, flat, family, told)
    _translate(flat, family, told)
    if told.taken:
        _unsaid(told)
    return told


def _unsaid(told: Imported) -> None:
    """What the file leaves to the scripts' defaults, which are not the studio's: it would train otherwise than the file."""
    for setting, value in (
        UNSAID_OF_DATASET if "dataset" in told.kind else UNSAID | UNSAID_OF_DATASET
    ).items():
        if setting not in told.values:
            told.values[setting] = value
            told.taken.append(Taken("", setting, value))


def _parsed(data: bytes, name: str) -> tuple[str, dict[str, Any]]:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        raise InputError(
            f"{name} is no text file.", "A config is plain text.", "Choose the .toml or .json file."
        ) from e
    if name.lower().endswith(".json") and not text.lstrip().startswith("{") and text.strip():
        raise InputError(
            f"{name} holds no settings of kohya_ss.",
            "They are one JSON object, which begins with a brace; this file begins otherwise.",
            "Choose the .json file that kohya_ss saved, or a .toml of sd-scripts.",
        )
    try:
        raw = json.loads(text) if text.lstrip().startswith("{") else tomllib.loads(text)
    except json.JSONDecodeError as e:
        raise InputError(
            f"{name} is no valid JSON.", f"Line {e.lineno}: {e.msg}.", "Save it anew in kohya_ss."
        ) from e
    except tomllib.TOMLDecodeError as e:
        raise InputError(
            f"{name} is no valid TOML.",
            f"The reader says: {e}.",
            "Mend that line. Text stands in quotation marks, and each line is name = value.",
        ) from e
    except RecursionError as e:
        raise InputError(f"{name} is no config.", "It is nested too deeply.", "Choose another file.") from e
    if not raw:
        raise InputError(f"{name} is empty.", "It holds no setting.", "Choose another file.")
    if text.lstrip().startswith("{"):
        return "kohya_ss settings (JSON)", raw
    dataset = "datasets" in raw or "general" in raw
    return ("sd-scripts dataset config (TOML)" if dataset else "sd-scripts config (TOML)"), raw


def _flattened(raw: Mapping[str, Any], told: Imported) -> dict[str, Any]:
    """Sections are only for the eye in a config file. In a dataset config the inner value wins; further datasets stay behind."""
    if "datasets" not in raw and "general" not in raw:
        flat: dict[str, Any] = {}
        for name, value in raw.items():
            flat |= value if isinstance(value, dict) else {name: value}
        return flat
    flat = dict(raw.get("general", {})) if isinstance(raw.get("general"), dict) else {}
    datasets = [d for d in raw.get("datasets", []) if isinstance(d, dict)]
    for n, dataset in enumerate(datasets):
        subsets = [s for s in dataset.get("subsets", []) if isinstance(s, dict)]
        inside = {k: v for k, v in dataset.items() if k != "subsets"}
        if n:
            told.left += [
                Left(f"datasets[{n}].{k}", v, "A project has one dataset; the first one's values count.")
                for k, v in inside.items()
            ]
            continue
        flat |= inside
        for key in dict.fromkeys(k for s in subsets for k in s):
            values = [s[key] for s in subsets if key in s]
            alike = all(v == values[0] for v in values) and len(values) == len(subsets)
            if alike and key not in ("image_dir", "is_reg", "metadata_file", "class_tokens"):
                flat[key] = values[0]
                continue
            why = (
                "Repeats of single pictures are set on the dataset page."
                if key == "num_repeats"
                else "The project's own pictures are trained on."
                if key in ("image_dir", "metadata_file", "class_tokens")
                else "Pictures are marked for regularisation on the dataset page."
                if key == "is_reg"
                else "It differs between subsets; here one value holds for all pictures."
            )
            told.left.append(Left(f"subsets.{key}", ", ".join(map(str, values)), why))
    renamed = {"batch_size": "train_batch_size", "num_repeats": "dataset_repeats"}
    return {renamed.get(k, k): v for k, v in flat.items()}


def _family(raw: Mapping[str, Any], flat: dict[str, Any], family: str, told: Imported) -> None:
    """Say when the file is for another family of base models; its network module tells, the window's own marks, the name of
    its base model, or options that only another script has."""
    module = str(flat.get("network_module", ""))
    for_family = {"networks.lora_flux": "flux", "networks.lora_sd3": "sd35"}.get(module, "")
    if raw.get("flux1_checkbox"):
        for_family = "flux"
    elif raw.get("sd3_checkbox"):
        for_family = "sd35"
    elif raw.get("sdxl"):
        for_family = "sdxl"
    if not for_family and not told.kind.startswith("kohya_ss"):
        model = re.split(r"[\\/]", str(flat.get("pretrained_model_name_or_path", "")).lower())
        names = [f for f, mark in _MODEL_NAMES.items() if any(re.search(mark, part) for part in model[-2:])]
        for_family = names[0] if len(names) == 1 else "" if names else _by_options(flat, family)
    if for_family and for_family != family:
        script = options.SCRIPTS[for_family]
        why = (
            f"It was written for {script}, this project is trained with {options.SCRIPTS[family]}; only lines that both "
            "know are taken over."
        )
        told.left.insert(0, Left("the file itself", script, why))
        told.findings.append(
            Finding(
                severity="warn",
                code="import-other-family",
                what=f"This file is for {for_family} models, and the project's base model is of the family {family}.",
                why="Learning rates and resolutions of one family do not suit another.",
                fix="Choose a base model of that family first, or look at these values closely.",
            )
        )


_MODEL_NAMES: Final = {
    "sd15": r"sd[-_ ]?v?1[-._]?5|v1-5|stable-diffusion-v1",
    "sdxl": r"sd[-_]?xl|xl[-_ ]?base|stable-diffusion-xl|noobai|illustrious",
    "sd35": r"sd[-_]?3|stable-diffusion-3",
    "flux": r"flux",
}
"""Family -> what the file name of a base model looks like, lower case."""


def _by_options(flat: Mapping[str, Any], family: str) -> str:
    """The family whose script has all the options that this family's lacks; "" when none is lacking, or no script has all."""
    known = {f: options.options_of(s) for f, s in options.SCRIPTS.items()}
    lacking = {n for n in flat if n not in known[family] and any(n in k for k in known.values())}
    return next((f for f, k in known.items() if lacking and lacking <= set(k)), "")


def _translate(flat: dict[str, Any], family: str, told: Imported) -> None:
    script = options.SCRIPTS[family]
    known = options.options_of(script)
    further: dict[str, Any] = {}
    for name, value in flat.items():
        option = known.get(name)
        if option is None:
            told.left.append(Left(name, value, _unknown(name, script, known)))
            continue
        value = typed(value, option)
        convert = CONVERT.get(name)
        if value is None or (convert is None and value == option.default):
            told.same += 1
        elif name != "resolution" and not option.takes(value):  # a size may also be a number or a list of two
            told.left.append(Left(name, value, f"The script takes {option.words} here."))
        elif convert is not None:
            _convert(convert, name, value, flat, family, told, further)
        elif name in extra.BY_STUDIO:
            told.left.append(Left(name, _safe(name, value), extra.BY_STUDIO[name]))
        else:
            further[name] = value
    _keep_further(further, family, told)
    _drop_impossible(told)


def _unknown(name: str, script: str, known: Mapping[str, Any]) -> str:
    elsewhere = [s for s in options.SCRIPTS.values() if name in options.options_of(s)]
    if elsewhere:
        return f"{script} does not have it; it belongs to {', '.join(dict.fromkeys(elsewhere))}."
    near = options.nearest(name, known)
    return f"{script} does not know it, and would pass over it." + (f" Did it mean {near}?" if near else "")


def _convert(
    convert: Callable[..., dict[str, Any]],
    name: str,
    value: Any,
    flat: Mapping[str, Any],
    family: str,
    told: Imported,
    further: dict[str, Any],
) -> None:
    try:
        found = convert(value, flat, family)
    except NotTaken as e:
        told.left.append(Left(name, value, str(e)))
        return
    except (TypeError, ValueError, OverflowError):
        told.left.append(Left(name, value, "It has another form than the script takes."))
        return
    further |= found.pop("further", {})
    for setting, became in found.items():
        told.values[setting] = became
        told.taken.append(Taken(name, setting, became))
    if not found:
        told.same += 1


def _keep_further(further: dict[str, Any], family: str, told: Imported) -> None:
    lines = []
    if "network_args" in further:  # one by one: a single unknown one does not hold the others back
        wrong_ones = {
            str(a): extra.read([f"network_args = {_toml([a])}"], family)[1] for a in further["network_args"]
        }
        told.left += [Left("network_args", a, f"{w[0].what} {w[0].why}") for a, w in wrong_ones.items() if w]
        further["network_args"] = [a for a, w in wrong_ones.items() if not w]
    for name, value in further.items():
        if value == []:
            continue
        line = f"{name} = {_toml(value)}"
        _, wrong = extra.read([line], family)
        if wrong:
            told.left.append(Left(name, value, " ".join((wrong[0].what, wrong[0].why))))
            continue
        lines.append(line)
        told.taken.append(Taken(name, "extra_options", line))
    if lines:
        told.values["extra_options"] = tuple(lines)


def _drop_impossible(told: Imported) -> None:
    """Values that no setting takes stay behind, with the setting's own words."""
    for problem in problems(told.values):
        setting = problem.where[0]
        value = told.values.pop(setting, None)
        gone = [t for t in told.taken if t.setting == setting]
        told.taken = [t for t in told.taken if t.setting != setting]
        told.left += [
            Left(t.name, value, f"{knobs()[setting].title} cannot be that. {problem.fix}") for t in gone
        ]


def _safe(name: str, value: Any) -> Any:
    """A value that may be shown: no secret ever."""
    return "(not shown)" if any(w in name for w in ("token", "key")) and "keep" not in name else value


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, list):
        return "[" + ", ".join(_toml(v) for v in value) + "]"
    return str(value)
