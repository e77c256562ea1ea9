"""`sd35l-trainer setup`: one question after the other, each explained, checked while it is typed."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from studio import secrets
from studio.addresses import refuse_unsafe
from studio.cli.output import Out
from studio.cli.sd35l import book
from studio.cli.sd35l.group import Reply, cli, json_option
from studio.cli.sd35l.manage import write_new
from studio.errors import InputError, StudioError
from studio.findings import Finding
from studio.replicate.checks import check_destination, check_trigger
from studio.replicate.config import Config, convert, resolve
from studio.replicate.costs import forecast
from studio.replicate.trainers import catalogue
from studio.workspace import Workspace

Check = Callable[[str], str]
"""A typed text to what is wrong with it; "" when nothing is."""


def ask(out: Out, question: str, help: str, check: Check, default: str = "") -> str:
    """One answer. On a terminal it is judged while it is typed; from a pipe line by line. Raises InputError at the end
    of the input."""
    out.say()
    out.paragraph(help, "  ", "dim")
    if sys.stdin.isatty() and out.is_terminal:
        return _typed(question, check, default)
    while True:
        out.say(f"{question}{f' [{default}]' if default else ''}:")
        line = sys.stdin.readline()
        if not line:
            raise InputError(
                "The questions ended too early.", "There was no further answer.", "Answer each one."
            )
        answer = line.strip() or default
        wrong = check(answer)
        if not wrong:
            return answer
        out.say(wrong, "yellow")


def _typed(question: str, check: Check, default: str) -> str:
    from prompt_toolkit import prompt

    answer: str = prompt(
        f"{question}: ", default=default, validator=validator(check), validate_while_typing=True
    )
    return answer.strip()


def validator(check: Check) -> Any:
    """The same check as prompt_toolkit asks for it at every key."""
    from prompt_toolkit.document import Document
    from prompt_toolkit.validation import ValidationError, Validator

    class Live(Validator):
        def validate(self, document: Document) -> None:
            wrong = check(document.text.strip())
            if wrong:
                raise ValidationError(cursor_position=len(document.text), message=wrong)

    return Live()


def _first(found: list[Finding]) -> str:
    return next((f"{f.what} {f.fix}" for f in found if f.severity == "block"), "")


def url_check(text: str) -> str:
    """What is wrong with a dataset's address, without asking the network."""
    try:
        refuse_unsafe(text)
    except StudioError as e:
        return f"{e.what} {e.fix}"
    return ""


def value_check(name: str) -> Check:
    """The check of one of the trainer's values."""

    def check(text: str) -> str:
        try:
            convert(name, text)
        except ValueError as e:
            said = str(e)
            return f"{said[:1].upper()}{said[1:]}."
        return ""

    return check


@cli.command()
@click.option(
    "--output",
    metavar="FILE",
    help="Where the configuration goes; config.yaml in SD35L_CONFIG_DIR when left out.",
)
@click.option("--force", is_flag=True, help="Replace a file that is there.")
@json_option
@click.pass_obj
def setup(out: Out, output: str | None, force: bool, as_json: bool) -> Reply:
    """Answer a few questions and get a configuration. Starts nothing, costs nothing."""
    if as_json:
        raise InputError("setup asks questions, so it has no --json.", "", "Use init-config --json instead.")
    path = Path(output).expanduser() if output else book.config_dir() / "config.yaml"
    if path.exists() and not force:
        raise InputError(
            f"{path} is there already.",
            "It would be replaced.",
            "Choose another with --output, or add --force.",
        )
    out.heading("A LoRA for Stable Diffusion 3.5 Large")
    is_set, where = secrets.secret_state(Workspace.default(), secrets.REPLICATE)
    out.say(f"Replicate token: set ({where})." if is_set else
            "Replicate token: not set. Make one at replicate.com/account/api-tokens and set REPLICATE_API_TOKEN; it is not "
            "asked for here.", "green" if is_set else "yellow")  # fmt: skip
    config = _questions(out)
    f = forecast(
        config.trainer, config.values["steps"], config.values["batch_size"], config.values["resolution"]
    )
    write_new(path, _text(config), force=force)
    out.say()
    out.good(f"Wrote {path}.")
    out.say(f"It will cost {f.words}.")
    out.next(f"sd35l-trainer train --config {path} --dry-run")
    return Reply({"file": str(path)})


def _questions(out: Out) -> Config:
    known = catalogue()
    told: dict[str, Any] = {}
    told["dataset_url"] = ask(
        out, "Dataset URL",
        "The https:// address of a ZIP with your pictures, each with a .txt caption of the same name. Replicate fetches it.",
        url_check,
    )  # fmt: skip
    told["destination"] = ask(
        out, "Destination",
        "The model on Replicate that takes the result: yourname/my-lora. It is made, private, when it does not exist.",
        lambda t: _first(check_destination(t)), os.environ.get("SD35L_DEFAULT_DESTINATION", ""),
    )  # fmt: skip
    told["trigger_word"] = ask(
        out, "Trigger word", "A word that means nothing yet; with it in a prompt the LoRA shows. Not a common word.",
        lambda t: _first(check_trigger(t)),
    )  # fmt: skip
    presets = "; ".join(f"{n}: {p.summary}" for n, p in known.presets.items())
    told["preset"] = ask(
        out,
        "Preset",
        presets,
        lambda t: "" if t in known.presets else f"Use one of: {', '.join(known.presets)}.",
        "beginner",
    )
    start = {**known.trainer("sd35-large").defaults, **known.presets[told["preset"]].values}
    optimizer = start["optimizer"]
    for name in ("steps", "batch_size", "optimizer", "learning_rate", "resolution", "lora_rank"):
        p = known.parameters[name]
        if name == "learning_rate" and optimizer != start["optimizer"]:
            start[name] = 1.0 if optimizer == "prodigy" else 0.0004
        words = f"{p.help} {p.range_words}.".replace(" .", "")
        told[name] = ask(out, p.title, words, value_check(name), f"{start[name]}")
        optimizer = told[name] if name == "optimizer" else optimizer
    config, found = resolve(told, {}, {})
    if found:
        raise InputError("The answers do not fit together.", "", "", found)
    return config


def _text(config: Config) -> str:
    lines = ["# SD3.5L LoRA training configuration, made by sd35l-trainer setup"]
    lines += [
        f"{n}: {json.dumps(getattr(config, n), ensure_ascii=False)}"
        for n in ("dataset_url", "destination", "trigger_word")
    ]
    lines += ["", "training:"]
    for name in ("steps", "batch_size", "optimizer", "learning_rate", "resolution", "lora_rank"):
        lines.append(f"  {name}: {json.dumps(config.values[name])}")
    return "\n".join(lines) + "\n"
