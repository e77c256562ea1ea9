"""`sd35l-trainer list`, `status`, `cancel`, `download` and `init-config`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from studio import files, secrets
from studio.cli.output import Out
from studio.cli.sd35l.group import Reply, cli, json_option
from studio.cli.sd35l.waiting import STYLES, cost_words, fetch_to, left, wait_for
from studio.errors import InputError
from studio.files import human_time
from studio.replicate.api import Api
from studio.replicate.config import template
from studio.replicate.follow import ended_badly, look
from studio.replicate.trainers import catalogue
from studio.replicate.training import ALIVE, ENDED
from studio.workspace import Workspace


def api() -> Api:
    """Replicate, with the user's token."""
    return Api(secrets.find_secret(Workspace.default(), secrets.REPLICATE))


@cli.command("list")
@click.option("--limit", metavar="INT", default="20", help="How many, the newest first; 20 when left out.")
@click.option(
    "--status",
    metavar="TEXT",
    help="Only those with this status: starting, processing, succeeded, failed, canceled, aborted.",
)
@json_option
@click.pass_obj
def list_(out: Out, limit: str, status: str | None, as_json: bool) -> Reply:
    """Show the account's trainings (also: list-jobs)."""
    count = _count(limit)
    wanted = (status or "").strip().lower()
    wanted = {"cancelled": "canceled", "running": "processing", "finished": "succeeded"}.get(wanted, wanted)
    if wanted and wanted not in ENDED | ALIVE:
        raise InputError(
            f"There is no status '{status}'.", "", f"Use one of: {', '.join(sorted(ENDED | ALIVE))}."
        )
    found = []
    with api() as replicate:
        for training in replicate.trainings(limit=count if not wanted else 2000):
            if not wanted or training.status == wanted:
                found.append(training)
            if len(found) >= count:
                break
    rows: list[list[Any]] = []
    for t in found:
        created = t.when("created_at")
        when = created.astimezone().strftime("%Y-%m-%d %H:%M") if created else ""
        rows.append([t.id, t.words, when, t.destination or t.model, t.input.get("trigger_word", "")])
    out.table(["Training", "Status", "Started", "Destination or trainer", "Trigger word"], rows)
    if not rows:
        out.say("No trainings" + (f" with the status {wanted}." if wanted else " yet."))
    return Reply({"trainings": [t.as_dict() for t in found]})


def _count(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 1000:
        raise InputError(f"--limit cannot be '{text}'.", "", "Use a whole number from 1 to 1000.")
    return int(text)


@cli.command()
@click.argument("training_id", metavar="TRAINING_ID")
@click.option("--follow", "-f", is_flag=True, help="Stay until it has ended. Ctrl-C leaves it going.")
@click.option("--logs", is_flag=True, help="Also show its log.")
@json_option
@click.pass_obj
def status(out: Out, training_id: str, follow: bool, logs: bool, as_json: bool) -> Reply:
    """Show where a training is and what it has cost."""
    with api() as replicate:
        if follow:
            last = wait_for(out, replicate, training_id)
            if last is None:
                return left(out, training_id)
        else:
            last = look(replicate, training_id)
    training, bar = last.training, last.bar
    out.heading(f"Training {training.id}")
    out.say(f"{training.words[:1].upper()}{training.words[1:]}", STYLES.get(training.status, "cyan"))
    out.facts(
        [
            ("Step", f"{bar.step} of {bar.total}" if bar else ""),
            ("Loss", f"{bar.loss:.4f}" if bar and bar.loss is not None else ""),
            ("Time left", human_time(last.eta_seconds) if last.eta_seconds and not training.ended else ""),
            ("Running", human_time(last.seconds) if last.seconds else ""),
            ("Cost so far", f"{cost_words(last)} (prices of {catalogue().prices_read})" if last.cost else ""),
            ("Trainer", training.model),
            ("Destination", training.destination),
            ("Trigger word", training.input.get("trigger_word")),
            ("Page", f"https://replicate.com/p/{training.id}"),
        ]
    )
    if logs:
        out.say()
        out.say(training.logs[-20_000:] or "It has said nothing yet.")
    bad = ended_badly(training) if training.ended else None
    if bad is not None:
        out.error(bad)
    elif training.ended:
        out.next(f"sd35l-trainer download {training.id}")
    data = {**last.as_dict(), "problem": bad.as_dict() if bad else None}
    return Reply({**data, "logs": training.logs} if logs else data)


@cli.command()
@click.argument("training_id", metavar="TRAINING_ID")
@click.option("--yes", "-y", is_flag=True, help="Cancel without asking.")
@json_option
@click.pass_obj
def cancel(out: Out, training_id: str, yes: bool, as_json: bool) -> Reply:
    """End a training. Nothing comes out of a cancelled one."""
    with api() as replicate:
        now = replicate.training(training_id)
        if now.ended:
            out.say(f"Training {training_id} has ended already: {now.words}.")
            return Reply({**now.as_dict(), "cancelled": False})
        if not yes and out.confirm(f"Cancel {training_id}? Nothing will come out of it.") is False:
            out.say("It goes on.")
            return Reply({**now.as_dict(), "cancelled": False})
        replicate.cancel(training_id)
        after = replicate.training(training_id)
    out.say(f"Training {training_id}: {after.words}.", STYLES.get(after.status, ""))
    return Reply({**after.as_dict(), "cancelled": after.status == "canceled"})


@cli.command()
@click.argument("training_id", metavar="TRAINING_ID")
@click.option("--output-dir", metavar="FOLDER", default=".", help="Where the LoRA goes; here when left out.")
@json_option
@click.pass_obj
def download(out: Out, training_id: str, output_dir: str, as_json: bool) -> Reply:
    """Download the LoRA of a finished training. Nothing is unpacked, nothing is overwritten."""
    folder = Path(output_dir).expanduser()
    if folder.exists() and not folder.is_dir():
        raise InputError(
            f"{folder} is a file.", "The LoRA goes into a folder.", "Name a folder with --output-dir."
        )
    with api() as replicate:
        training = replicate.training(training_id)
        bad = ended_badly(training) if training.ended else None
        if bad is not None:
            raise bad
        path = fetch_to(out, replicate, training, folder)
    return Reply({**training.as_dict(), "file": str(path), "bytes": path.stat().st_size})


@cli.command("init-config")
@click.option(
    "--preset", metavar="NAME", default="", help="beginner, experienced, fast, or advanced for every setting."
)
@click.option("--trainer", metavar="NAME", default="sd35-large", help="sd35-large (default) or flux-dev.")
@click.option("--output", metavar="FILE", help="Write it there; otherwise it is printed.")
@click.option("--force", is_flag=True, help="Replace a file that is there.")
@json_option
@click.pass_obj
def init_config(out: Out, preset: str, trainer: str, output: str | None, force: bool, as_json: bool) -> Reply:
    """Write a configuration to fill in, each value explained."""
    advanced = preset == "advanced"
    text = template("" if advanced else preset, advanced=advanced, trainer_id=catalogue().trainer(trainer).id)
    if not output:
        if not out.json:
            click.echo(text, nl=False)
        return Reply({"text": text})
    path = Path(output).expanduser()
    write_new(path, text, force=force)
    out.good(f"Wrote {path}.")
    out.next(f"fill it in, then: sd35l-trainer train --config {path} --dry-run")
    return Reply({"file": str(path)})


def write_new(path: Path, text: str, *, force: bool) -> None:
    """Write a text file that is not there yet. Raises InputError when it is and `force` is not."""
    if path.is_dir():
        raise InputError(f"{path} is a folder.", "", f"Name a file, such as {path / 'config.yaml'}.")
    if path.exists() and not force:
        raise InputError(
            f"{path} is there already.", "It would be replaced.", "Choose another name, or add --force."
        )
    files.write_text(path, text)
