"""Which ComfyUI servers the user named, and which of their files stand for which base model.

<workspace>/comfyui.yaml
    servers:
      - address: http://127.0.0.1:8188
        lora_folder: /mnt/comfy/models/loras    where its LoRA folder can be reached from here; may be left out
    models:
      sd15: {checkpoint: v1-5-pruned-emaonly.safetensors}
"""

from __future__ import annotations

import ipaddress
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from studio import addresses, files
from studio.errors import InputError, NotFoundError
from studio.workspace import Workspace

DEFAULT_PORT = 8188
"""The port that ComfyUI listens on unless told otherwise."""

_FILE = "comfyui.yaml"
_METADATA = frozenset({"169.254.169.254", "fd00:ec2::254", "metadata.google.internal"})
_LOCAL_ENDINGS = (".local", ".lan", ".home", ".internal", ".home.arpa")


class Server(BaseModel):
    """One server.

    address:     such as http://127.0.0.1:8188, without a slash at the end.
    lora_folder: its LoRA folder as this computer sees it, for servers that do not tell or lie elsewhere; None: ask it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    address: str
    lora_folder: Path | None = None

    @property
    def is_here(self) -> bool:
        """Whether it runs on this computer."""
        return _is_loopback(addresses.host(self.address))

    @property
    def name(self) -> str:
        """Host and port, for sentences."""
        return self.address.partition("://")[2]


class ComfySettings(BaseModel):
    """What is stored. models: base model id -> what each part of it is called on the servers (see `graphs.PARTS`)."""

    model_config = ConfigDict(extra="forbid")

    servers: list[Server] = Field(default_factory=list)
    models: dict[str, dict[str, str]] = Field(default_factory=dict)


def load(ws: Workspace) -> ComfySettings:
    """The stored settings; empty when there are none. Raises InputError when the file was damaged by hand."""
    path = ws.root / _FILE
    try:
        return ComfySettings.model_validate(files.read_yaml(path) or {})
    except ValidationError as e:
        place = ".".join(str(p) for p in e.errors()[0]["loc"])
        raise InputError(
            f"{_FILE} cannot be used.",
            f"{place}: {e.errors()[0]['msg']} ({path})",
            "Mend that line, or remove the file and name the servers again.",
        ) from e


def save(ws: Workspace, settings: ComfySettings) -> None:
    """Store them."""
    files.write_yaml(ws.root / _FILE, settings.model_dump(mode="json", exclude_none=True))


def add_server(ws: Workspace, typed: str, lora_folder: Path | None = None) -> Server:
    """Remember a server; one that is known already gets the new folder.

    Raises InputError for an address or a folder that cannot be used.
    """
    if lora_folder is not None:
        lora_folder = lora_folder.expanduser().resolve()
        if not lora_folder.is_dir():
            raise InputError(
                f"There is no folder at {lora_folder}.",
                "LoRA files for the server would be put there.",
                "Give the server's folder models/loras as this computer sees it.",
            )
    server = Server(address=tidy(typed), lora_folder=lora_folder)
    settings = load(ws)
    others = [s for s in settings.servers if s.address != server.address]
    before = next((s for s in settings.servers if s.address == server.address), None)
    if before is not None and lora_folder is None:
        server = before
    place = settings.servers.index(before) if before is not None else len(others)
    settings.servers = [*others[:place], server, *others[place:]]
    save(ws, settings)
    return server


def forget_server(ws: Workspace, typed: str) -> None:
    """Take a server off the list. Raises NotFoundError naming those that are on it."""
    settings, address = load(ws), tidy(typed)
    left = [s for s in settings.servers if s.address != address]
    if len(left) == len(settings.servers):
        raise NotFoundError(
            f"{address} is not one of your ComfyUI servers.",
            "Only servers on the list can be taken off.",
            f"Yours are: {', '.join(s.address for s in settings.servers) or 'none'}.",
        )
    settings.servers = left
    save(ws, settings)


def name_parts(ws: Workspace, model_id: str, parts: dict[str, str]) -> None:
    """Remember what a base model's files are called on the servers."""
    settings = load(ws)
    if settings.models.get(model_id) != parts:
        settings.models[model_id] = dict(parts)
        save(ws, settings)


def tidy(typed: str) -> str:
    """An address as typed -> scheme, host and port. A bare host gets http:// and the port 8188.

    ComfyUI has no sign-in and no encryption of its own, so plain http is taken for this computer and the network around
    it only; a server elsewhere needs https. Raises InputError with what is wrong.
    """
    text = typed.strip().rstrip("/")
    if not text:
        raise InputError(
            "No address was given.",
            "The studio has to know where ComfyUI listens.",
            f"Type it as ComfyUI shows it when it starts, such as http://127.0.0.1:{DEFAULT_PORT}.",
        )
    bare = "://" not in text
    url = f"http://{text}" if bare else text
    import httpx

    addresses.refuse_unsafe(url, allow=_any_origin(url))
    parsed = httpx.URL(url)
    if parsed.scheme not in ("http", "https"):
        raise InputError(
            f"The address begins with {parsed.scheme}://.",
            "ComfyUI is reached over http or https.",
            f"Write it as http://{parsed.host}:{DEFAULT_PORT}.",
        )
    if parsed.path not in ("", "/") or parsed.query or parsed.fragment:
        raise InputError(
            "The address goes on after the port.",
            "ComfyUI's own address ends there; the studio adds the rest.",
            f"Use {addresses.origin(url)}.",
        )
    if parsed.scheme == "http" and not _is_near(parsed.host):
        raise InputError(
            f"{parsed.host} is not on this computer or in its network.",
            "Prompts and pictures would cross the internet in the open, and anybody could answer in its place.",
            "Use its https:// address, or a tunnel such as `ssh -L 8188:localhost:8188 USER@HOST`, then 127.0.0.1:8188.",
        )
    if parsed.host in _METADATA:
        raise InputError(
            f"{parsed.host} is where cloud computers ask about themselves.",
            "ComfyUI never listens there.",
            f"Type the address that ComfyUI shows when it starts, such as http://127.0.0.1:{DEFAULT_PORT}.",
        )
    if bare and parsed.port is None:
        url = f"{url}:{DEFAULT_PORT}"
    return addresses.origin(url)


def _any_origin(url: str) -> set[str]:
    # The user named this server: the rule against private addresses is for URLs that come from elsewhere.
    return {addresses.origin(url)}


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _is_near(host: str) -> bool:
    """This computer or its own network: private numbers, names without a dot, and the endings that routers give."""
    if _is_loopback(host):
        return True
    try:
        number = ipaddress.ip_address(host)
    except ValueError:
        return "." not in host or host.endswith(_LOCAL_ENDINGS)
    return (number.is_private or number.is_link_local) and not (number.is_unspecified or number.is_multicast)
