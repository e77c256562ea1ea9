"""`sd35l-trainer train`: check everything, start once, wait when asked to."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from studio import secrets
from studio.cli.output import Out
from studio.cli.sd35l import book
from studio.cli.sd35l.group import Reply, cli, json_option
from studio.cli.sd35l.waiting import wait_and_fetch
from studio.errors import InputError, StudioError
from studio.findings import Finding, blocking
from studio.replicate.api import Api, local_origins
from studio.replicate.checks import Report, check_online, check_values, forecast_of
from studio.replicate.config import Config, read_config, resolve
from studio.replicate.costs import money
from studio.replicate.dataset_url import check_dataset_url
from studio.replicate.submit import SECRET_INPUTS, Order, ensure_destination, submit
from studio.replicate.trainers import catalogue
from studio.workspace import Workspace

FLAGS: tuple[tuple[str, str, str], ...] = (
    ("--steps", "steps", "Training steps"),
    ("--batch-size", "batch_size", "Batch size"),
    ("--optimizer", "optimizer", "Optimizer"),
    ("--learning-rate", "learning_rate", "Learning rate"),
    ("--resolution", "resolution", "Resolutions"),
    ("--lora-rank", "lora_rank", "Rank"),
    ("--caption-dropout-rate", "caption_dropout_rate", "Caption dropout"),
    ("--cache-latents-to-disk", "cache_latents_to_disk", "true or false"),
    ("--layers-to-optimize-regex", "layers_to_optimize_regex", ""),
    ("--autocaption", "autocaption", "true or false; FLUX only"),
    ("--wandb-project", "wandb_project", ""),
    ("--wandb-run", "wandb_run", ""),
    ("--wandb-entity", "wandb_entity", ""),
    ("--wandb-save-interval", "wandb_save_interval", ""),
    ("--wandb-sample-interval", "wandb_sample_interval", ""),
    ("--wandb-sample-prompts", "wandb_sample_prompts", ""),
    ("--hf-repo-id", "hf_repo_id", ""),
)


def _value_flags(command: Callable[..., Any]) -> Callable[..., Any]:
    for flag, name, _ in reversed(FLAGS):
        p = catalogue().parameters[name]
        help = f"{p.help} {p.range_words}.".replace(" .", "") if p.range_words else p.help
        command = click.option(flag, name, metavar=p.kind.upper(), help=help)(command)
    return command


@cli.command()
@click.option(
    "--dataset-url", metavar="URL", help="https:// address of a ZIP with pictures and captions. Required."
)
@click.option(
    "--destination",
    metavar="OWNER/MODEL",
    help="Where the result goes. Required; or SD35L_DEFAULT_DESTINATION.",
)
@click.option("--trigger-word", metavar="WORD", help="The word that calls the LoRA up. Required.")
@click.option("--preset", metavar="NAME", help="beginner, experienced or fast.")
@click.option(
    "--config", "config_file", metavar="FILE", help="YAML or JSON; also the name of one in SD35L_CONFIG_DIR."
)
@_value_flags
@click.option("--trainer", metavar="NAME", help="sd35-large (default) or flux-dev.")
@click.option("--version", metavar="HASH", help="Version of the trainer, 64 hex digits; else the pinned one.")
@click.option(
    "--spending-limit", metavar="DOLLARS", help="With --wait: cancel the training when it has cost this much."
)
@click.option(
    "--create-destination", is_flag=True, help="Make the destination, private, when it does not exist."
)
@click.option("--dry-run", is_flag=True, help="Check everything and forecast the cost; start nothing.")
@click.option("--offline", is_flag=True, help="With --dry-run: check without the network.")
@click.option(
    "--wait", is_flag=True, help="Wait until it has ended and download the LoRA. Ctrl-C leaves it going."
)
@click.option("--output-dir", metavar="FOLDER", default=".", help="Where downloaded LoRAs go.")
@click.option("--start-anyway", is_flag=True, help="After a lost answer: you have looked, and nothing runs.")
@click.option("--yes", "-y", is_flag=True, help="Start without asking.")
@json_option
@click.pass_obj  # type: ignore[arg-type]
def train(out: Out, config_file: str | None, create_destination: bool, dry_run: bool, offline: bool, wait: bool,
          output_dir: str, start_anyway: bool, yes: bool, as_json: bool, **flags: Any) -> Reply:  # fmt: skip
    """Start a training: every problem is told first, with what it will cost."""
    began = time.monotonic()
    if offline and not dry_run:
        raise InputError("--offline only goes with --dry-run.", "A training cannot be started without the network.",
                         "Leave --offline out, or add --dry-run.")  # fmt: skip
    config, found = _config(flags, config_file)
    if config.spending_limit and not wait and not dry_run:
        found.append(
            Finding(
                severity="block",
                code="limit-unwatched",
                what="A spending limit needs someone who watches.",
                why="Replicate has none of its own; it is this command that cancels, and without --wait it ends at once.",
                fix="Add --wait, or leave the limit out.",
                where=("spending_limit",),
            )
        )
    found += check_values(config)
    token = secrets.find_secret(Workspace.default(), secrets.REPLICATE)
    if offline:
        report = Report(version=config.version, forecast=forecast_of(config))
        found += check_dataset_url(config.dataset_url, config.trainer, online=False)[0]
    else:
        can_ask = not dry_run and out.is_terminal and not yes
        report = check_online(
            config,
            token,
            create_destination=create_destination or can_ask,
            allow=local_origins(config.dataset_url),
        )
    report.findings = found + report.findings
    seconds = time.monotonic() - began
    _show(out, config, report)
    if dry_run:
        return _dry(out, config, report, seconds)
    if not report.passed:
        raise InputError(
            "The training was not started.", f"{len(blocking(report.findings))} of the findings stop it.",
            "Mend each one as written beside it.", report.findings if out.json else [],
        )  # fmt: skip
    _agree(out, config, report, create_destination, yes)
    with Api(token) as api:
        if ensure_destination(api, config.destination, create=create_destination or report.destination_exists is False,
                              hardware=config.trainer.hardware):  # fmt: skip
            out.say(f"Made {config.destination}, private.")
        training_id = _start(api, config, report, output_dir, again=start_anyway, out=out)
        _started(out, training_id, wait)
        if not wait:
            return Reply({"id": training_id, "status": "starting", "configuration": config.as_dict()})
        return wait_and_fetch(out, api, training_id, Path(output_dir), limit=config.spending_limit)


def _config(flags: dict[str, Any], config_file: str | None) -> tuple[Config, list[Finding]]:
    from_file: dict[str, Any] = {}
    found: list[Finding] = []
    if config_file:
        from_file, found = read_config(book.config_path(config_file))
    config, wrong = resolve(flags, from_file, os.environ)
    return config, found + wrong


def _show(out: Out, config: Config, report: Report) -> None:
    out.heading(f"{config.trainer.title} LoRA on Replicate")
    out.facts(
        [
            ("Dataset", config.dataset_url.partition("?")[0] + (_inside(report))),
            ("Destination", config.destination),
            ("Trigger word", config.trigger_word),
            ("Preset", config.preset),
            ("Trainer", f"{config.trainer.model}:{(report.version or config.version)[:12]}"),
            ("Account", report.account),
            ("Forecast", report.forecast.words if report.forecast else ""),
            ("Spending limit", money(config.spending_limit) if config.spending_limit else ""),
        ]
    )
    out.say()
    known = catalogue().parameters
    shown = [n for n in config.values if not n.startswith("wandb") or config.source[n] != "default"]
    out.table(
        ["Setting", "Value", "From"], [[known[n].title, config.values[n], config.source[n]] for n in shown]
    )
    out.findings(report.findings)


def _inside(report: Report) -> str:
    told = report.contents
    return f" ({told.pictures} pictures, {told.captioned} with captions)" if told else ""


def _dry(out: Out, config: Config, report: Report, seconds: float) -> Reply:
    out.say()
    if report.passed:
        out.good(f"Everything fits. Nothing was started, nothing was spent. Checked in {seconds:.1f} s.")
    else:
        out.say(
            f"Not ready: {len(blocking(report.findings))} of the findings stop it. Nothing was spent.",
            "bold red",
        )
    data = {
        "dry_run": True,
        "configuration": config.as_dict(),
        **report.as_dict(),
        "seconds": round(seconds, 3),
    }
    return Reply(data, 0 if report.passed else InputError.exit_code)


def _agree(out: Out, config: Config, report: Report, create: bool, yes: bool) -> None:
    """On a terminal, ask before money is spent; elsewhere the command line is the word."""
    if yes or not out.is_terminal:
        if report.destination_exists is False and not create:
            raise InputError(
                f"The destination {config.destination} does not exist.",
                "It would be made, private, and nobody is here to be asked.",
                "Add --create-destination.",
            )
        return
    making = f" {config.destination} will be made, private." if report.destination_exists is False else ""
    cost = f" It will cost {report.forecast.words}." if report.forecast else ""
    if not out.confirm(f"Start the training?{making}{cost}"):
        raise StudioError(
            "Nothing was started.", "You did not say yes.", "Add --yes to start without being asked."
        )


def _start(api: Api, config: Config, report: Report, output_dir: str, *, again: bool, out: Out) -> str:
    hidden: dict[str, str] = {}
    inputs = {k: v for k, v in config.inputs.items() if k not in SECRET_INPUTS}
    if config.source.get("wandb_project") in ("flag", "file"):
        key = secrets.find_secret(Workspace.default(), secrets.WANDB)
        if key:
            hidden["wandb_api_key"] = key
        else:
            out.say("No charts at Weights & Biases: WANDB_API_KEY is not set.", "yellow")
    if config.values.get("hf_repo_id"):
        hub = secrets.find_secret(Workspace.default(), secrets.HUGGING_FACE)
        if hub:
            hidden["hf_token"] = hub
    order = Order(config.trainer.model, report.version or config.version, config.destination, inputs, hidden)
    earlier = book.unsettled(config.destination)
    ticket = earlier or book.new_ticket()
    ticket.note(trigger_word=config.trigger_word, output_dir=str(Path(output_dir).absolute()))
    training_id = submit(api, order, ticket, wait=time.sleep, again=again)
    if ticket.read().get("taken_up"):
        out.say("The answer of the start had been lost; the training was found and is taken up.", "yellow")
    return training_id


def _started(out: Out, training_id: str, wait: bool) -> None:
    out.say()
    out.good(f"Training {training_id} is under way.")
    out.dim(f"https://replicate.com/p/{training_id}")
    if not wait:
        out.say()
        out.say(f"  Where it is:  sd35l-trainer status {training_id} --follow")
        out.say(f"  Its LoRA:     sd35l-trainer download {training_id}")
        out.say(f"  End it:       sd35l-trainer cancel {training_id}")
