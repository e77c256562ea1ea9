"""Everything that is wrong with a training before it costs anything, all at once, each with the fix.

Without the network well under a second; with it a few seconds, as the questions are asked at the same time.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from studio.answers import Passing
from studio.captions.trigger import clip_pieces, reading_problems
from studio.errors import StudioError
from studio.findings import Finding, blocking
from studio.project import trigger_problems
from studio.replicate.api import Api
from studio.replicate.config import Config
from studio.replicate.costs import Forecast, forecast
from studio.replicate.dataset_url import Contents, check_dataset_url
from studio.replicate.trainers import catalogue

ONLINE_S = 2.5
"""Seconds that one question to Replicate may take."""
_DESTINATION = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?/[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?")
_VERSION = re.compile(r"[0-9a-f]{64}")
_SECRET_SCHEMA = {"wandb_api_key", "hf_token"}


@dataclass
class Report:
    """What validation found.

    account: name of the token's owner; destination_exists: None when it was not asked; version: resolved;
    unknown_inputs: names that this version of the trainer does not take.
    """

    findings: list[Finding] = field(default_factory=list)
    account: str = ""
    destination_exists: bool | None = None
    version: str = ""
    contents: Contents | None = None
    forecast: Forecast | None = None

    @property
    def passed(self) -> bool:
        return not any(f.severity == "block" for f in self.findings)

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "passed": self.passed,
            "findings": [f.model_dump(mode="json") for f in self.findings],
            "account": self.account,
            "destination_exists": self.destination_exists,
            "version": self.version,
            "dataset": self.contents.__dict__ if self.contents else None,
            "forecast": self.forecast.__dict__ if self.forecast else None,
        }


def _finding(severity: Any, code: str, what: str, why: str, fix: str, *where: str) -> Finding:
    return Finding(severity=severity, code=code, what=what, why=why, fix=fix, where=where)


def check_values(config: Config) -> list[Finding]:
    """What can be told without the network: destination, trigger word, advice on ranges, learning rate, secrets."""
    return [
        *check_destination(config.destination),
        *check_trigger(config.trigger_word),
        *_version(config.version),
        *_usual(config),
        *_rate(config),
        *_public(config),
    ]


def check_destination(destination: str) -> list[Finding]:
    """The form owner/model."""
    if not destination:
        return [_finding("block", "destination-missing", "There is no destination.",
                         "Replicate puts the result into a model of yours.",
                         "Name one as owner/model: --destination yourname/my-lora, or set SD35L_DEFAULT_DESTINATION.",
                         "destination")]  # fmt: skip
    if _DESTINATION.fullmatch(destination):
        return []
    near = re.sub(r"[^a-z0-9/._-]+", "-", destination.lower().removeprefix("https://replicate.com/")).strip(
        "-/"
    )
    fix = f"Perhaps {near}." if _DESTINATION.fullmatch(near) else "Write it as yourname/my-lora."
    return [_finding("block", "destination-form", f"'{destination}' is not a destination.",
                     "It is owner/model in small letters, digits, hyphens, dots and underscores.", fix,
                     "destination")]  # fmt: skip


def check_trigger(word: str) -> list[Finding]:
    """As for every LoRA of the studio: there, not a common word, not split oddly."""
    told = trigger_problems(word)
    if not blocking(told) and word.upper() != "TOK":
        told += reading_problems(word, clip_pieces(word), "The base model")
    found = [f.model_copy(update={"where": ("trigger_word",)}) for f in told]
    if not found and word.upper() == "TOK":
        found.append(
            _finding("warn", "trigger-everyones", "TOK is everyone's trigger word.",
                     "It is the trainer's default; two LoRAs with it cannot be used together.",
                     "Choose one of your own, such as mxqstyle.", "trigger_word")
        )  # fmt: skip
    return found


def _version(version: str) -> list[Finding]:
    if not version or _VERSION.fullmatch(version):
        return []
    return [_finding("block", "version-form", f"'{version[:80]}' is not a version of a trainer.",
                     "A version is 64 digits from 0 to 9 and a to f; anything else would ask for a version that does not exist.",
                     "Copy it from the trainer's page on Replicate, or leave it out.", "version")]  # fmt: skip


def _usual(config: Config) -> list[Finding]:
    found = []
    for name, value in config.values.items():
        p = catalogue().parameters[name]
        if p.usual and isinstance(value, (int, float)) and not p.usual[0] <= value <= p.usual[1]:
            found.append(
                _finding("warn", "value-unusual", f"{p.title} is {value:g}, outside of the usual {p.usual[0]:g} to {p.usual[1]:g}.",
                         p.help, "Keep it only if you mean it.", name)
            )  # fmt: skip
    return found


def _rate(config: Config) -> list[Finding]:
    rate, optimizer = config.values.get("learning_rate"), config.values.get("optimizer")
    if not isinstance(rate, (int, float)):
        return []
    if optimizer == "prodigy" and not 0.3 <= rate <= 3:
        return [_finding("block" if rate < 0.05 else "warn", "rate-prodigy", f"Prodigy with the learning rate {rate:g}.",
                         "Prodigy multiplies this with the pace it finds by itself; with a small value it learns next to nothing, "
                         "and the training is paid for all the same.", "Use 1.", "learning_rate", "optimizer")]  # fmt: skip
    if optimizer == "adamw8bit" and rate > 0.005:
        return [_finding("block", "rate-adamw", f"AdamW with the learning rate {rate:g}.",
                         "That is far too large and breaks the pictures within a few steps.",
                         "Use about 0.0004, or choose prodigy.", "learning_rate", "optimizer")]  # fmt: skip
    if optimizer == "adamw8bit" and not 0.00002 <= rate <= 0.002:
        return [_finding("warn", "rate-unusual", f"AdamW usually learns with about 0.0004; here it is {rate:g}.",
                         "Lower hardly learns, higher breaks pictures.", "Use 0.0004 unless you know better.",
                         "learning_rate")]  # fmt: skip
    return []


def _public(config: Config) -> list[Finding]:
    if not config.values.get("hf_repo_id"):
        return []
    return [_finding("warn", "hf-public", f"The LoRA will also go to {config.values['hf_repo_id']} on Hugging Face.",
                     "A repository that does not exist is made by the trainer, and it is public.",
                     "Make a private one first, or leave hf_repo_id out.", "hf_repo_id")]  # fmt: skip


def check_online(
    config: Config,
    token: str | None,
    *,
    allow: Collection[str] = (),
    create_destination: bool = False,
    ask_dataset: bool = True,
) -> Report:
    """Ask Replicate and the dataset's server: token, destination, trainer's version and its inputs, dataset.

    ask_dataset: whether to look at the dataset's address. All at the same time; each question has ONLINE_S. A server
    that does not answer is a warning, not a refusal.
    """
    report = Report(version=config.version)
    report.forecast = forecast_of(config)

    def about_dataset() -> tuple[list[Finding], Contents | None]:
        if not ask_dataset:
            return [], None
        captioned = bool(config.values.get("autocaption"))
        return check_dataset_url(config.dataset_url, config.trainer, allow=allow, autocaption=captioned)

    with ThreadPoolExecutor(4) as pool:
        dataset = pool.submit(about_dataset)
        try:
            with Api(token, timeout_s=ONLINE_S, tries=1) as api:
                account = pool.submit(_ask, api.account)
                model = pool.submit(_ask, lambda: _model(api, config.destination))
                version = pool.submit(_ask, lambda: _resolve_version(api, config))
                _account(report, account.result())
                _destination(report, config, model.result(), create_destination)
                _schema(report, config, version.result())
        except StudioError as e:
            report.findings.append(_finding("block", "token", e.what, e.why, e.fix, "REPLICATE_API_TOKEN"))
        found, report.contents = dataset.result()
        report.findings += found
    return report


def forecast_of(config: Config) -> Forecast | None:
    """The cost forecast of a configuration; None while its numbers cannot be used."""
    v = config.values
    if not isinstance(v.get("steps"), int) or not isinstance(v.get("batch_size"), int):
        return None
    return forecast(config.trainer, v["steps"], v["batch_size"], str(v.get("resolution", "768")))


def _ask(question: Callable[[], Any]) -> Any:
    try:
        return question()
    except StudioError as e:
        return e


def _model(api: Api, destination: str) -> Any:
    return api.model(destination) if _DESTINATION.fullmatch(destination) else False


def _resolve_version(api: Api, config: Config) -> tuple[str, dict[str, Any]]:
    """The version's id and its schema."""
    if config.version and not _VERSION.fullmatch(config.version):
        return "", {}
    if config.version:
        return config.version, api.version(config.trainer.model, config.version)
    model = api.model(config.trainer.model) or {}
    newest = model.get("latest_version")
    if not isinstance(newest, dict) or not _VERSION.fullmatch(str(newest.get("id", ""))):
        raise StudioError(
            f"{config.trainer.model} has no version on Replicate.",
            "It may have been taken down.",
            "Choose another trainer.",
        )
    return str(newest["id"]), newest


def _account(report: Report, told: Any) -> None:
    if isinstance(told, Passing):
        report.findings.append(
            _finding("warn", "replicate-silent", f"Replicate could not be asked: {told.what}", told.why,
                     "Nothing was sent. Check the network; starting asks again.")
        )  # fmt: skip
    elif isinstance(told, StudioError):
        report.findings.append(
            _finding("block", "token", told.what, told.why, told.fix, "REPLICATE_API_TOKEN")
        )
    else:
        report.account = str(told.get("username", ""))


def _destination(report: Report, config: Config, told: Any, create: bool) -> None:
    if isinstance(told, StudioError) or told is False:
        return  # said already with the account, or by its form
    report.destination_exists = told is not None
    owner = config.destination.partition("/")[0]
    if told is None:
        report.findings.append(
            _finding("info" if create else "block", "destination-absent",
                     f"The destination {config.destination} does not exist yet.",
                     "A training needs a model to put its result into.",
                     "It will be made, private." if create else
                     "Allow it to be made, private: --create-destination (or the setting in the app).", "destination")
        )  # fmt: skip
        if report.account and owner != report.account:
            report.findings.append(
                _finding("warn", "destination-owner", f"{owner} is not the account of the token ({report.account}).",
                         "Only its owner, or an organisation you belong to, can receive the result.",
                         f"Perhaps {report.account}/{config.destination.partition('/')[2]}.", "destination")
            )  # fmt: skip
    elif told.get("visibility") == "public":
        report.findings.append(
            _finding("warn", "destination-public", f"The destination {config.destination} is public.",
                     "Everyone can see and use what comes out.", "Use a private model, unless you mean it.", "destination")
        )  # fmt: skip


def _schema(report: Report, config: Config, told: Any) -> None:
    if isinstance(told, Passing):
        return
    if isinstance(told, StudioError):
        report.findings.append(
            _finding("block", "version-absent", f"The trainer {config.trainer.model}:{config.version[:12]} was not found.",
                     told.why, "Leave the version out, or copy it from the trainer's page.", "version")
        )  # fmt: skip
        return
    report.version, version = told
    known = training_inputs(version)
    if not known:
        return
    unknown = [n for n in config.inputs if n not in known]
    if unknown:
        report.findings.append(
            _finding("block", "input-unknown", f"This version of the trainer does not take: {', '.join(unknown)}.",
                     "What it does not know it ignores silently, or refuses.", "Leave it out, or use the pinned version.",
                     *unknown)
        )  # fmt: skip
    for name, value in config.inputs.items():
        rule = known.get(name)
        if isinstance(rule, dict) and isinstance(value, (int, float)) and not isinstance(value, bool):
            low, high = rule.get("minimum"), rule.get("maximum")
            if (low is not None and value < low) or (high is not None and value > high):
                report.findings.append(
                    _finding("block", "input-range", f"{name} is {value:g}; this version takes {low} to {high}.",
                             "", "Change it.", name)
                )  # fmt: skip


def training_inputs(version: dict[str, Any]) -> dict[str, Any]:
    """Inputs of a trainer by its own schema; {} when it does not tell."""
    found: Any = version.get("openapi_schema")
    for key in ("components", "schemas", "TrainingInput", "properties"):
        found = found.get(key) if isinstance(found, dict) else None
    return dict(found) if isinstance(found, dict) else {}
