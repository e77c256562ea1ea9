"""The configuration of one training: flags > config file > environment > preset > defaults.

The file has the layout that `sd35l-trainer init-config` writes; secrets never belong into it.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from studio.errors import InputError, NotFoundError
from studio.findings import Finding
from studio.replicate.costs import sizes
from studio.replicate.trainers import Parameter, Trainer, catalogue

TOP = ("dataset_url", "destination", "trigger_word")
EXTRA = ("preset", "trainer", "version", "spending_limit")
SECTIONS: dict[str, dict[str, str]] = {
    "training": {n: n for n in ("steps", "batch_size", "optimizer", "learning_rate", "resolution", "lora_rank")},
    "wandb": {
        n: f"wandb_{n}" for n in ("project", "run", "entity", "save_interval", "sample_interval", "sample_prompts")
    },
    "advanced": {
        n: n
        for n in (
            "caption_dropout_rate", "cache_latents_to_disk", "layers_to_optimize_regex", "autocaption",
            "autocaption_prefix", "autocaption_suffix", "hf_repo_id",
        )
    },
}  # fmt: skip
"""Where each input stands in the file: section -> name there -> name of the input."""
ENVIRONMENT = {"destination": "SD35L_DEFAULT_DESTINATION"}
_SECRET_WORDS = ("token", "api_key", "apikey", "secret", "password")
MAX_FILE = 1_000_000


@dataclass
class Config:
    """What shall be trained.

    values: inputs of the trainer by name. source: name -> "flag", "file", "environment", "preset" or "default".
    version: of the trainer; empty: its pinned or newest one. spending_limit: dollars, 0 for none.
    """

    trainer: Trainer
    dataset_url: str = ""
    destination: str = ""
    trigger_word: str = ""
    version: str = ""
    preset: str = ""
    spending_limit: float = 0.0
    values: dict[str, Any] = field(default_factory=dict)
    source: dict[str, str] = field(default_factory=dict)

    @property
    def inputs(self) -> dict[str, Any]:
        """The inputs as the API wants them; empty texts are left to the trainer."""
        told = {k: v for k, v in self.values.items() if v not in ("", None)}
        return {"input_images": self.dataset_url, "trigger_word": self.trigger_word, **told}

    def as_dict(self) -> dict[str, Any]:
        """For `--json` and for showing; holds no secret."""
        return {
            "trainer": self.trainer.id,
            "model": self.trainer.model,
            "version": self.version,
            "dataset_url": self.dataset_url.partition("?")[0],
            "destination": self.destination,
            "trigger_word": self.trigger_word,
            "preset": self.preset,
            "spending_limit": self.spending_limit,
            "values": dict(self.values),
            "source": dict(self.source),
        }


def convert(name: str, value: Any) -> Any:
    """A value as the parameter's kind wants it. Raises ValueError with the reason in words."""
    p = catalogue().parameters[name]
    text = str(value).strip()
    if p.kind == "bool":
        if isinstance(value, bool):
            return value
        if text.lower() in ("true", "yes", "on", "1"):
            return True
        if text.lower() in ("false", "no", "off", "0"):
            return False
        raise ValueError("use true or false")
    if isinstance(value, bool):
        raise ValueError(f"use {_kind_words(p)}")
    if p.kind == "int":
        try:
            number = int(text)
        except ValueError:
            raise ValueError(f"use {_kind_words(p)}") from None
        return _within(p, number)
    if p.kind == "float":
        try:
            return _within(p, float(text))
        except ValueError as e:
            raise ValueError(str(e) if "from" in str(e) else f"use {_kind_words(p)}") from None
    if p.kind == "sizes":
        return _sizes(p, ",".join(str(v) for v in value) if isinstance(value, (list, tuple)) else text)
    if p.kind == "choice" and text not in p.choices:
        near = difflib.get_close_matches(text.lower(), p.choices, n=1, cutoff=0.5)
        raise ValueError(f"use {p.range_words}" + (f"; did you mean {near[0]}?" if near else ""))
    return text


def _kind_words(p: Parameter) -> str:
    kind = {"int": "a whole number", "float": "a number"}.get(p.kind, "a value")
    return f"{kind} from {p.limits[0]:g} to {p.limits[1]:g}" if p.limits else kind


def _within(p: Parameter, number: float) -> float:
    if p.limits and not p.limits[0] <= number <= p.limits[1]:  # also refuses nan
        raise ValueError(f"use {_kind_words(p)}")
    return number


def _sizes(p: Parameter, text: str) -> str:
    try:
        found = sizes(text)
    except ValueError:
        raise ValueError("use sizes in pixels with commas between, such as 768,1024") from None
    low, high = p.limits or (64, 4096)
    if any(not low <= s <= high for s in found):
        raise ValueError(f"each size is {low:g} to {high:g} pixels")
    if any(s % 64 for s in found):
        raise ValueError("each size is a multiple of 64, such as 512, 768 or 1024")
    return ",".join(str(s) for s in dict.fromkeys(found))


# --- reading


def read_config(path: Path) -> tuple[dict[str, Any], list[Finding]]:
    """A config file's content, flat (name of the input -> value), and everything that is wrong with its form.

    YAML and JSON alike. Raises NotFoundError or InputError when it cannot be read at all.
    """
    if not path.is_file():
        raise NotFoundError(
            f"There is no config file {path}.",
            "The path may be misspelt.",
            "Make one: sd35l-trainer init-config --output config.yaml",
        )
    try:
        if path.stat().st_size > MAX_FILE:
            raise ValueError("it is larger than a megabyte")
        text = path.read_text(encoding="utf-8-sig")
        raw = json.loads(text) if path.suffix.lower() == ".json" else yaml.safe_load(text)
    except (ValueError, yaml.YAMLError, RecursionError) as e:
        raise InputError(
            f"{path.name} cannot be read.",
            f"{' '.join(str(e).split())[:300]}.",
            "Mend that line, or make a fresh file: sd35l-trainer init-config --output config.yaml",
        ) from e
    if not isinstance(raw, dict):
        raise InputError(
            f"{path.name} is not a configuration.",
            "It has to be a list of names with values, such as `destination: user/model`.",
            "Make a fresh one: sd35l-trainer init-config --output config.yaml",
        )
    return _flat(raw)


def _flat(raw: Mapping[Any, Any]) -> tuple[dict[str, Any], list[Finding]]:
    values: dict[str, Any] = {}
    found: list[Finding] = []
    homes = {name: section for section, names in SECTIONS.items() for name in names}
    for key, value in raw.items():
        name = str(key)
        if name in SECTIONS:
            if value is not None and not isinstance(value, dict):
                found.append(_form(name, f"'{name}' has to hold names with values.", "Indent them below it."))
                continue
            for inner, told in (value or {}).items():
                inputs = SECTIONS[name]
                if str(inner) in inputs:
                    if told is not None:
                        values[inputs[str(inner)]] = told
                else:
                    found.append(_unknown(f"{name}.{inner}", [f"{name}.{n}" for n in inputs]))
        elif name in TOP or name in EXTRA:
            if value is not None:
                values[name] = value
        elif name in homes:
            found.append(
                _form(name, f"'{name}' stands in the wrong place.", f"Move it below '{homes[name]}:'.")
            )
        else:
            found.append(_unknown(name, [*TOP, *EXTRA, *SECTIONS]))
    return values, found


def _unknown(name: str, known: list[str]) -> Finding:
    if any(w in name.lower() for w in _SECRET_WORDS):
        return _form(
            name,
            f"'{name}' does not belong into a config file.",
            "Take it out; put it into the environment (REPLICATE_API_TOKEN, WANDB_API_KEY, HF_TOKEN).",
        )
    near = difflib.get_close_matches(name, known, n=1)
    fix = (
        f"Did you mean '{near[0]}'?" if near else "Take it out. `sd35l-trainer init-config` shows all names."
    )
    return _form(name, f"There is no setting called '{name}'.", fix)


def _form(name: str, what: str, fix: str) -> Finding:
    return Finding(severity="block", code="config-form", what=what, fix=fix, where=(name,))


# --- putting together


def resolve(
    flags: Mapping[str, Any], file: Mapping[str, Any], environ: Mapping[str, str]
) -> tuple[Config, list[Finding]]:
    """One configuration out of all sources, and every value that cannot be used.

    flags, file: name of the input -> value as told; None counts as not told. environ: the process's environment.
    Raises NotFoundError for an unknown trainer or preset.
    """
    known = catalogue()
    env = {name: environ[v].strip() for name, v in ENVIRONMENT.items() if environ.get(v, "").strip()}
    layers: list[tuple[str, Mapping[str, Any]]] = [
        ("flag", {k: v for k, v in flags.items() if v is not None}),
        ("file", file),
        ("environment", env),
    ]

    def told(name: str) -> tuple[Any, str]:
        return next(((layer[name], label) for label, layer in layers if name in layer), (None, ""))

    trainer = known.trainer(str(told("trainer")[0] or "sd35-large"))
    preset = str(told("preset")[0] or "")
    if preset and preset not in known.presets:
        raise NotFoundError(
            f"There is no preset called '{preset}'.", "", f"Use one of: {', '.join(known.presets)}."
        )
    layers.append(("preset", known.presets[preset].values if preset else {}))
    layers.append(("default", _defaults(trainer, told)))
    config, found = Config(trainer, preset=preset), []
    for name in TOP:
        value, label = told(name)
        if value is not None:
            setattr(config, name, str(value).strip())
            config.source[name] = label
    config.version = str(told("version")[0] or trainer.version).strip().rpartition(":")[2]
    try:
        config.spending_limit = float(told("spending_limit")[0] or 0)
        if not 0 <= config.spending_limit < 100_000:
            raise ValueError
    except (TypeError, ValueError):
        found.append(
            _form(
                "spending_limit", "The spending limit is not an amount in dollars.", "Use such as 5 or 2.50."
            )
        )
    for name, parameter in known.parameters.items():
        value, label = told(name)
        if value is None:
            continue
        if name not in trainer.names:
            if label in ("flag", "file"):
                found.append(_form(name, f"{trainer.title}'s trainer has no '{name}'.", "Take it out."))
            continue
        try:
            config.values[name] = convert(name, value)
            config.source[name] = label
        except ValueError as e:
            found.append(
                Finding(severity="block", code="value", what=f"{parameter.title} ({name}) cannot be {value!r}.",
                        why=parameter.help, fix=f"{str(e)[:1].upper()}{str(e)[1:]}.", where=(name,))
            )  # fmt: skip
    return config, found


def _defaults(trainer: Trainer, told: Any) -> dict[str, Any]:
    """The trainer's defaults; the learning rate follows the optimizer when only that was chosen."""
    values = dict(trainer.defaults)
    optimizer = told("optimizer")[0]
    if optimizer is not None:
        values["learning_rate"] = 1.0 if str(optimizer).strip() == "prodigy" else 0.0004
    return values


# --- writing


def template(preset: str = "", *, advanced: bool = False, trainer_id: str = "sd35-large") -> str:
    """A config file to fill in, each value explained. preset: fills the training values; advanced: every setting."""
    known = catalogue()
    trainer = known.trainer(trainer_id)
    if preset and preset not in known.presets:
        raise NotFoundError(
            f"There is no preset called '{preset}'.",
            "",
            f"Use one of: {', '.join([*known.presets, 'advanced'])}.",
        )
    values = {**trainer.defaults, **(known.presets[preset].values if preset else {})}
    about = known.presets[preset].summary if preset else "Every setting, with the values we start from."
    lines = [
        "# SD3.5L LoRA training configuration",
        f"# {f'Preset {preset}: ' if preset else ''}{about}",
        "# Tokens do not belong in here: set REPLICATE_API_TOKEN (and WANDB_API_KEY) in the environment.",
        'dataset_url: "https://example.com/my-dataset.zip"   # a ZIP with pictures and .txt captions, reachable by everyone',
        'destination: "username/my-lora-model"               # where the result goes on Replicate',
        'trigger_word: "MYTOK"                               # a word that means nothing yet',
    ]
    if trainer_id != "sd35-large":
        lines.append(f"trainer: {trainer_id}")
    if advanced:
        lines += [
            f'version: "{trainer.version}"   # of the trainer; empty: the newest' if trainer.version else
            'version: ""   # of the trainer; empty: the newest',
            "spending_limit: 0   # dollars; the training is cancelled when it is reached; 0: no limit",
        ]  # fmt: skip
    shown = {"training"} if not advanced else set(SECTIONS)
    if not advanced:
        shown |= {"wandb", "advanced"}
    for section, names in SECTIONS.items():
        inside = [
            (n, i) for n, i in names.items() if i in trainer.names and (advanced or i in trainer.defaults)
        ]
        if section in shown and inside:
            lines += ["", f"{section}:"]
            for name, inner in inside:
                p = known.parameters[inner]
                text = f"  {name}: {json.dumps(values.get(inner, ''))}"
                lines.append(f"{text:<38} # {p.help}{f' {p.range_words}.' if p.range_words else ''}")
    return "\n".join(lines) + "\n"
