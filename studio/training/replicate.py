"""The Replicate backend: the same settings, gates, job and history, trained on rented computers.

A cloud run's gates ask what can be known before money is spent. Config: the values fit the trainer. Environment: the
token is there and taken, the destination can receive the result. Dry run: everything but the paid request is really
done - the dataset is packed and measured, the trainer's own description is fetched and the values are held against it,
the cost is forecast. Nothing is sent that could be charged.
"""

from __future__ import annotations

import json
import math
import os
import sys
from pathlib import Path
from typing import Any

from studio import files, secrets
from studio.answers import Passing
from studio.errors import StudioError
from studio.findings import Finding
from studio.machine import Machine
from studio.models import BaseModelEntry
from studio.replicate.api import Api
from studio.replicate.checks import check_destination, check_values, forecast_of
from studio.replicate.config import Config, resolve
from studio.replicate.submit import Ticket
from studio.replicate.trainers import catalogue
from studio.settings import TrainingSettings
from studio.training.base import Checkpoint, TrainingPlan, find_checkpoints
from studio.workspace import Workspace

# Settings that the rented trainers have no counterpart for; changing them changes nothing there.
UNUSED = (
    "alpha", "targets", "network_dropout", "gradient_accumulation", "text_encoder_lr", "weight_decay", "scheduler",
    "max_grad_norm", "shuffle_captions", "min_snr_gamma", "noise_offset", "flip", "seed", "ema", "save_every_epochs",
)  # fmt: skip
_IGNORED_AT = {"alpha", "seed", "save_every_epochs"}
"""Of these, the ones that presets of other backends often set; told quietly."""


TICKET = "replicate.json"
"""What a run's folder knows of its paid training; see studio.replicate.submit."""


class ReplicateBackend:
    """Trains Stable Diffusion 3.5 Large and FLUX on Replicate."""

    id = "replicate"
    title = "Replicate (rented, paid by the second)"
    families: tuple[str, ...] = tuple(t.family for t in catalogue().trainers)
    rented = True
    secrets = (secrets.REPLICATE,)

    def check(
        self, settings: TrainingSettings, machine: Machine, entry: BaseModelEntry, trigger: str = ""
    ) -> list[Finding]:
        """What speaks against these settings, without asking the network."""
        if catalogue().for_family(entry.family) is None:
            return [_block("replicate-family", f"{entry.title} is not trained on Replicate.",
                           "The studio knows trainers for Stable Diffusion 3.5 Large and FLUX there.",
                           "Choose one of these base models, or the built-in backend.", "backend")]  # fmt: skip
        config, found = config_of(
            settings, entry.family, trigger=trigger or "mxqword", steps=settings.max_steps or 1000
        )
        named = {"destination": "cloud_destination", "resolution": "cloud_resolutions", "lora_rank": "rank"}
        for f in found + check_values(config):
            where = tuple(named.get(w, w) for w in f.where)
            fix = f.fix.replace("Name one as owner/model: --destination yourname/my-lora, or set SD35L_DEFAULT_DESTINATION.",
                                "Name one as yourname/my-lora under Destination on Replicate.")  # fmt: skip
            if f.code != "value-unusual" or "steps" in f.where:
                found_ = f.model_copy(update={"where": where, "fix": fix})
                found = [g for g in found if g is not f] + [found_]
        told = [
            n
            for n in UNUSED
            if n not in _IGNORED_AT and getattr(settings, n) != TrainingSettings.model_fields[n].default
        ]
        if told:
            found.append(
                Finding(severity="info", code="replicate-unused",
                        what=f"The trainer on Replicate has no setting for: {', '.join(told)}.",
                        why="These stay without effect there.", fix="Nothing to do.", where=tuple(told))
            )  # fmt: skip
        return found

    def environment(
        self, workspace: Workspace, settings: TrainingSettings, entry: BaseModelEntry
    ) -> tuple[list[Finding], dict[str, Any]]:
        """Gate 3 for rented computers: the token is there and taken; the destination is there or may be made."""
        token = secrets.find_secret(workspace, secrets.REPLICATE)
        facts: dict[str, Any] = {"token": secrets.secret_state(workspace, secrets.REPLICATE)[1] or "not set"}
        try:
            with Api(token, timeout_s=10.0, tries=2) as api:
                account = str(api.account().get("username", ""))
                facts["account"] = account
                return _destination_findings(api, settings, account), facts
        except Passing as e:
            return [_block("replicate-silent", f"Replicate cannot be reached. {e.what}", e.why,
                           "Check the network, then run this gate again.")], facts  # fmt: skip
        except StudioError as e:
            return [_block("replicate-token", e.what, e.why, e.fix)], facts

    def job_env(self) -> dict[str, str]:
        """Where the API is, when that is set to another place."""
        told = os.environ.get("REPLICATE_BASE_URL", "")
        return {"REPLICATE_BASE_URL": told} if told else {}

    def native_files(self, plan: TrainingPlan) -> dict[str, str]:
        """The run as a configuration for `sd35l-trainer`, and the request as it will be sent."""
        config, _ = config_of(
            plan.settings,
            plan.family,
            trigger=plan.trigger,
            steps=steps_of(plan),
            url="https://dataset.example/packed.zip",
        )
        request = {
            "model": config.trainer.model,
            "version": config.version or "the newest",
            "destination": config.destination,
            "input": {
                **config.inputs,
                "input_images": plan.settings.cloud_dataset_url or "(packed and sent by the studio)",
            },
        }
        return {
            "config.yaml": as_yaml(config),
            "request.json": json.dumps(request, indent=2, ensure_ascii=False) + "\n",
        }

    def is_over(self, folder: Path) -> bool:
        """Whether the training of a run has ended at Replicate without a result, so that resuming means nothing."""
        told = files.read_json(folder / TICKET) or {}
        return bool(told.get("settled")) and told.get("status") != "succeeded"

    def is_paid_for(self, folder: Path) -> bool:
        """Whether a run's training was started at Replicate and has an end or a result that is still to be fetched."""
        return bool(Ticket(folder / TICKET).id) and not self.is_over(folder)

    def command(self, plan: TrainingPlan) -> list[str]:
        """The job that packs, starts, follows and fetches; it waits, and computes nothing itself."""
        return [sys.executable, "-m", "studio.training.workers.replicate_train", str(plan.run_folder)]

    def parse(self, line: str) -> dict[str, Any] | None:
        """The worker tells events itself."""
        return None

    def checkpoints(self, folder: Path) -> list[Checkpoint]:
        """The LoRA that came back, once it has."""
        return find_checkpoints(folder)


def steps_of(plan: TrainingPlan, total: int = 0) -> int:
    """Steps to order. total: what the studio's forecast said, 0 when it is not at hand."""
    s = plan.settings
    if not total:
        shown = sum(p.repeats * s.repeats for p in plan.pictures if not p.regularisation)
        total = math.ceil(shown / s.batch_size) * s.epochs
    return min(total, s.max_steps) if s.max_steps else total


def config_of(
    settings: TrainingSettings, family: str, *, trigger: str, steps: int, url: str = ""
) -> tuple[Config, list[Finding]]:
    """The studio's settings as a configuration of the trainer for a family."""
    trainer = catalogue().for_family(family)
    assert trainer is not None
    told: dict[str, Any] = {
        "trainer": trainer.id,
        "dataset_url": url or settings.cloud_dataset_url or "https://dataset.example/packed.zip",
        "destination": settings.cloud_destination,
        "trigger_word": trigger,
        "steps": steps,
        "batch_size": settings.batch_size,
        "optimizer": "adamw8bit" if settings.optimizer == "adamw" else settings.optimizer,
        "learning_rate": settings.learning_rate,
        "resolution": settings.cloud_resolutions or str(settings.resolution),
        "lora_rank": settings.rank,
        "caption_dropout_rate": settings.caption_dropout,
        "spending_limit": settings.cloud_spending_limit,
    }
    if settings.cloud_version:
        told["version"] = settings.cloud_version
    return resolve(told, {}, {})


def cost_words(settings: TrainingSettings, family: str, steps: int) -> str:
    """What a run on Replicate will cost, as a range with the price's date; "" for other backends."""
    if settings.backend != ReplicateBackend.id or catalogue().for_family(family) is None or not steps:
        return ""
    config, _ = config_of(settings, family, trigger="mxqword", steps=steps)
    told = forecast_of(config)
    return told.words if told else ""


def as_yaml(config: Config) -> str:
    """A configuration as `sd35l-trainer train --config` takes it."""
    lines = [f"# For: sd35l-trainer train --config config.yaml   ({config.trainer.title})"]
    lines += [
        f"{n}: {json.dumps(getattr(config, n))}" for n in ("dataset_url", "destination", "trigger_word")
    ]
    lines += [f"trainer: {config.trainer.id}", "", "training:"]
    for name in ("steps", "batch_size", "optimizer", "learning_rate", "resolution", "lora_rank"):
        if name in config.values:
            lines.append(f"  {name}: {json.dumps(config.values[name])}")
    lines += ["", "advanced:"]
    for name in ("caption_dropout_rate", "cache_latents_to_disk"):
        if name in config.values:
            lines.append(f"  {name}: {json.dumps(config.values[name])}")
    return "\n".join(lines) + "\n"


def _destination_findings(api: Api, settings: TrainingSettings, account: str) -> list[Finding]:
    name = settings.cloud_destination
    if check_destination(name):
        return []  # gate 2 says so
    model = api.model(name)
    if model is None and not settings.cloud_create:
        return [_block("destination-absent", f"The destination {name} does not exist on Replicate.",
                       "A training needs a model to put its result into.",
                       "Turn on Make the destination: it is then made, private. Or name one that exists.",
                       "cloud_create", "cloud_destination")]  # fmt: skip
    found = []
    if model is None:
        found.append(Finding(severity="info", code="destination-new", what=f"{name} will be made on Replicate, private.",
                             why="It does not exist yet, and you allowed it."))  # fmt: skip
        if account and name.partition("/")[0] != account:
            found.append(Finding(severity="warn", code="destination-owner",
                                 what=f"{name.partition('/')[0]} is not the account of the token ({account}).",
                                 why="Only its owner, or an organisation you belong to, can receive the result.",
                                 fix=f"Perhaps {account}/{name.partition('/')[2]}.", where=("cloud_destination",)))  # fmt: skip
    elif model.get("visibility") == "public":
        found.append(Finding(severity="warn", code="destination-public", what=f"The destination {name} is public.",
                             why="Everyone can see and use what comes out.", fix="Use a private model, unless you mean it.",
                             where=("cloud_destination",)))  # fmt: skip
    return found


def _block(code: str, what: str, why: str, fix: str, *where: str) -> Finding:
    return Finding(severity="block", code=code, what=what, why=why, fix=fix, where=where)
