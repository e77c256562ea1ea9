"""Captions by an engine: which engine, with which settings, and whether it can be asked at all.

The choice is a file of the project, `captions/auto.yaml`, so that the app and the command line speak of the same thing.
`ready` checks everything that can be told without running the engine, and gives the fingerprint under which the five
samples were approved and the answers are recorded: it changes with the engine, its settings and the question asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlparse

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from studio import files, secrets
from studio.captions import describe, service, taggers
from studio.captions.describe import Format, WordSettings
from studio.captions.recaption import Also, Mode
from studio.captions.tagger import TaggerSettings
from studio.errors import InputError
from studio.findings import Finding
from studio.models import get_model

if TYPE_CHECKING:
    from studio.project import Project

EngineKind = Literal["tagger", "endpoint", "local", "replicate"]
ENGINES: dict[EngineKind, tuple[str, str]] = {
    "tagger": ("Tags", "A tagger on this computer. Fast; knows drawn pictures best."),
    "endpoint": ("Description service", "Ollama, LM Studio, vLLM or a hosted model: anything that speaks OpenAI's interface."),
    "local": ("Local model", "A vision-language model in a folder, run here by transformers. Wants a graphics card."),
    "replicate": ("Replicate", "A model on replicate.com, paid by the second."),
}  # fmt: skip
"""The engines: a title and one sentence each."""


class EndpointSettings(BaseModel):
    """A service that speaks OpenAI's chat interface with pictures.

    address:     where the interface begins, such as http://localhost:11434/v1.
    model:       the model's name there.
    own_network: the server is in the user's own network; otherwise private addresses other than this computer are refused.
    key:         whether OPENAI_API_KEY is sent: `auto` sends it to https addresses only.
    side:        pictures are made smaller than this before they are sent, 256 to 2048 pixels.
    timeout_s:   seconds to wait for one answer, 5 to 900. at_once: questions at the same time, 1 to 8.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    address: str = Field(default="http://localhost:11434/v1", max_length=500)
    model: str = Field(default="", max_length=90)
    own_network: bool = False
    key: Literal["auto", "always", "never"] = "auto"
    side: int = Field(default=1024, ge=256, le=2048)
    timeout_s: float = Field(default=180.0, ge=5.0, le=900.0)
    at_once: int = Field(default=1, ge=1, le=8)


class LocalSettings(BaseModel):
    """A vision-language model in a folder, in the layout of transformers, with safetensors weights.

    folder: its absolute path. side: as in EndpointSettings.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    folder: str = ""
    side: int = Field(default=1024, ge=64, le=2048)


class ReplicateSettings(BaseModel):
    """A vision-language model on Replicate.

    model:   `owner/name`, or `owner/name:version`.
    picture / question: names of the model's inputs for the picture and for the text.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = Field(default="", max_length=200)
    picture: str = Field(default="image", pattern=r"^\w{1,60}$")
    question: str = Field(default="prompt", pattern=r"^\w{1,60}$")
    side: int = Field(default=1024, ge=256, le=2048)


class AutoSettings(BaseModel):
    """All choices about captions by an engine.

    mode: what happens to captions that are there; also: what `replace` may replace beside an engine's unread words
    (both: studio.captions.recaption).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    engine: EngineKind = "tagger"
    mode: Mode = "replace"
    also: tuple[Also, ...] = ()
    tagger: TaggerSettings = TaggerSettings()
    endpoint: EndpointSettings = EndpointSettings()
    local: LocalSettings = LocalSettings()
    replicate: ReplicateSettings = ReplicateSettings()
    words: WordSettings = WordSettings()


@dataclass(frozen=True)
class Ready:
    """An engine that can be asked.

    author:      the name under which it writes captions. settings: what is remembered with each caption.
    question:    what a description engine is asked, without examples; empty for a tagger.
    fingerprint: of all that decides over the words.
    secrets:     names of the secrets that the job needs.
    """

    auto: AutoSettings
    author: str
    settings: dict[str, Any]
    format: Format
    question: str
    fingerprint: str
    secrets: tuple[str, ...] = ()


def settings_path(project: Project) -> Path:
    """Where the choices of a project lie."""
    return project.folder / "captions" / "auto.yaml"


def load(project: Project) -> AutoSettings:
    """The project's choices; before any, the defaults. Raises InputError when the file was damaged by hand."""
    path = settings_path(project)
    raw = files.read_yaml(path)
    if raw is None:
        return AutoSettings()
    return parsed(raw, path.name)


def save(project: Project, auto: AutoSettings) -> None:
    """Store the project's choices."""
    files.write_yaml(settings_path(project), auto.model_dump(mode="json"))


def parsed(raw: object, source: str = "") -> AutoSettings:
    """Settings from plain data. Raises InputError with every problem at once."""
    try:
        return AutoSettings.model_validate(raw)
    except ValidationError as e:
        found = [
            Finding(
                severity="block", code="setting-wrong", where=(".".join(map(str, p["loc"])),),
                what=f"{'.'.join(map(str, p['loc'])) or 'It'}: {p['msg'].lower()}.",
                why="The engine cannot be asked with this.", fix="Choose a value within the range.",
            )
            for p in e.errors()
        ]  # fmt: skip
        raise InputError(
            f"{source or 'These settings'} cannot be used: {found[0].what}",
            found[0].why,
            found[0].fix,
            found if len(found) > 1 else None,
        ) from e


def format_of(project: Project, words: WordSettings) -> Format:
    """How captions are written: as chosen, else as the base model was raised."""
    if words.format != "auto":
        return words.format
    return get_model(project.workspace, project.intent.base_model).caption_style


def ready(project: Project, auto: AutoSettings | None = None) -> Ready:
    """The chosen engine, checked as far as possible without running it. Raises InputError, EnvironmentalError."""
    auto = auto or load(project)
    if auto.engine == "tagger":
        return _tagger(project, auto)
    format = format_of(project, auto.words)
    question = describe.prompt(project.intent.kind, format, auto.words)
    needed: tuple[str, ...] = ()
    if auto.engine == "endpoint":
        author, own, needed = _endpoint(project, auto.endpoint)
    elif auto.engine == "local":
        author, own = _local(auto.local)
    else:
        author, own, needed = _replicate(project, auto.replicate)
    settings = {"engine": auto.engine, **own, "question": files.fingerprint(question)}
    return Ready(
        auto, author, settings, format, question, files.fingerprint([settings, question, format]), needed
    )


def _tagger(project: Project, auto: AutoSettings) -> Ready:
    own = auto.tagger
    found = taggers.check_folder(taggers.folder_of(project.workspace, own.model))
    # The usual way is left out, so that captions of before there was another count as made with the same settings.
    left_out = {"batch", *(["resize"] if own.resize == "bicubic" else [])}
    settings = {"engine": "tagger", "mark": found.mark, **own.model_dump(mode="json", exclude=left_out)}
    return Ready(auto, found.title, settings, "tags", "", files.fingerprint(settings))


def _endpoint(project: Project, own: EndpointSettings) -> tuple[str, dict[str, Any], tuple[str, ...]]:
    base, reach = service.checked(own.address, own_network=own.own_network)
    if not own.model.strip():
        raise InputError(
            "No model is named.",
            "The service has several; each answers differently.",
            "Choose one of its models, such as qwen2.5vl (`lora-studio autocaption models` lists those that it has).",
        )
    wanted = sends_key(own, base)
    if wanted and not reach and secrets.find_secret(project.workspace, secrets.OPENAI) is None:
        raise InputError(
            "There is no key for the service.",
            f"{base} is on the internet; such services want one, and {secrets.OPENAI} is not set.",
            f"Set {secrets.OPENAI} in the environment or in .streamlit/secrets.toml; or choose 'never send a key'.",
        )
    needed = (secrets.OPENAI,) if wanted else ()
    settings = own.model_dump(mode="json", include={"model", "side"}) | {"address": base}
    return own.model.strip(), settings, needed


def sends_key(own: EndpointSettings, base: str) -> bool:
    """Whether the key goes along: in `auto` only over https, so that a typed address on this computer never learns it."""
    return own.key == "always" or (own.key == "auto" and base.startswith("https://"))


def _local(own: LocalSettings) -> tuple[str, dict[str, Any]]:
    folder = Path(own.folder).expanduser()
    problems = []
    if not own.folder.strip() or not folder.is_absolute() or not folder.is_dir():
        raise InputError(
            f"There is no folder '{own.folder}'." if own.folder.strip() else "No folder is named.",
            "A local model is a folder in the layout of transformers.",
            "Give the full path of the folder that holds config.json and the .safetensors files.",
        )
    if not (folder / "config.json").is_file():
        problems.append(("config.json is missing.", "It says which model this is."))
    if not list(folder.glob("*.safetensors")):
        pickled = list(folder.glob("*.bin")) + list(folder.glob("*.pt"))
        why = (
            "Other weights (.bin, .pt) can run programs when they are opened."
            if pickled
            else "They are the model."
        )
        problems.append(("There are no .safetensors weights.", why))
    if not list(folder.glob("*processor*.json")):
        problems.append(
            ("preprocessor_config.json is missing.", "It says how pictures are prepared for the model.")
        )
    if not (list(folder.glob("tokenizer*")) or list(folder.glob("*.model"))):
        problems.append(("The tokenizer is missing.", "Without it the model has no words."))
    if problems:
        found = [
            Finding(
                severity="block", code="local-model-file", what=what, why=why, fix="Download the whole model."
            )
            for what, why in problems
        ]
        raise InputError(
            f"{folder.name}: {problems[0][0]}", problems[0][1], "Download the whole model.", found
        )
    sizes = sorted((p.name, p.stat().st_size) for p in folder.iterdir() if p.is_file() and p.name[0] != ".")
    return folder.name[:90], {"folder": str(folder), "side": own.side, "mark": files.fingerprint(sizes)}


def _replicate(project: Project, own: ReplicateSettings) -> tuple[str, dict[str, Any], tuple[str, ...]]:
    name, _, version = own.model.strip().partition(":")
    owner, slash, title = name.partition("/")
    good = slash and all(p and all(c.isalnum() or c in "._-" for c in p) for p in (owner, title))
    if not good or (":" in own.model and not version.isalnum()):
        raise InputError(
            f"'{own.model}' is no model on Replicate." if own.model.strip() else "No model is named.",
            "Models there are called owner/name, or owner/name:version.",
            "Copy the name from the model's page on replicate.com.",
        )
    if secrets.find_secret(project.workspace, secrets.REPLICATE) is None:
        raise InputError(
            "There is no token for Replicate.",
            f"{secrets.REPLICATE} is not set.",
            f"Set {secrets.REPLICATE} in the environment or in .streamlit/secrets.toml.",
        )
    return title[:90], own.model_dump(mode="json"), (secrets.REPLICATE,)


def sent_to(auto: AutoSettings) -> str:
    """Where pictures go when this engine is asked: the name of a server elsewhere; empty when they stay on this computer."""
    if auto.engine == "replicate":
        return "replicate.com"
    if auto.engine != "endpoint":
        return ""
    host = urlparse(service.base_of(auto.endpoint.address)).hostname or ""
    return "" if service.is_here(host) else host
