"""Why a step of an installation failed, in plain words, from what git, venv or pip said."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

from studio.errors import EnvironmentalError
from studio.training.sdscripts.running import Failed

if TYPE_CHECKING:
    from studio.training.sdscripts.commands import Order

_AGAIN = "then go on: lora-studio setup sd-scripts install"
_NETWORK = re.compile(
    r"Could not resolve host|Temporary failure in name resolution|Failed to establish a new connection|Max retries|"
    r"Connection (?:refused|reset|timed out)|Network is unreachable|ReadTimeout|ProxyError|Couldn't connect|Failed to connect",
    re.IGNORECASE,
)  # fmt: skip


def _shared(text: str, what: str) -> EnvironmentalError | None:
    if "No space left on device" in text or "Errno 28" in text or "Disk quota exceeded" in text:
        return EnvironmentalError(
            what,
            "The disk of the workspace is full.",
            f"Free some room on it, {_AGAIN}. What was downloaded is kept.",
        )
    if "CERTIFICATE_VERIFY_FAILED" in text or "SSL certificate problem" in text:
        return EnvironmentalError(
            what,
            "The certificate of the server could not be checked: often a proxy that opens secure connections, or a wrong clock.",
            f"Set the clock right, or set SSL_CERT_FILE to your network's certificate, {_AGAIN}.",
        )
    if _NETWORK.search(text):
        return EnvironmentalError(
            what,
            "The server could not be reached.",
            f"Check the network, {_AGAIN}. Without the internet, use --source FOLDER and --wheels FOLDER.",
        )
    return None


def _last(failed: Failed, mark: str) -> str:
    marked = [x for x in failed.lines if mark in x]
    text = (marked or failed.lines or ["no message"])[-1].strip()
    return text[:400]


def of_git(failed: Failed, order: Order) -> EnvironmentalError:
    """git could not bring the source."""
    what = f"sd-scripts could not be fetched from {order.origin}."
    if shared := _shared(failed.text, what):
        return shared
    if re.search(
        r"reference is not a tree|invalid reference|did not match any|unknown revision|bad object|not a commit",
        failed.text,
    ):
        return EnvironmentalError(
            f"Commit {order.commit[:12]} is not in {order.origin}.",
            "The clone is older than that commit, or holds another project.",
            "Run git fetch in that clone, or name a commit that it has with --commit.",
        )
    if re.search(r"not found|does not (appear to be|exist)|Authentication failed|could not read Username", failed.text):  # fmt: skip
        return EnvironmentalError(
            what, f"git said: {_last(failed, 'fatal')}", "Check the address; it has to be open to everyone."
        )
    return EnvironmentalError(
        what,
        f"git said: {_last(failed, 'fatal') if 'fatal' in failed.text else _last(failed, 'error')}",
        f"Mend that, {_AGAIN}.",
    )


def of_venv(failed: Failed, order: Order) -> EnvironmentalError:
    """The environment could not be made."""
    what = "The environment of sd-scripts could not be made."
    if shared := _shared(failed.text, what):
        return shared
    if "ensurepip" in failed.text:
        return EnvironmentalError(
            what,
            "The Python that should make it lacks ensurepip, which Debian and Ubuntu ship apart.",
            f"Run: sudo apt install {order.python.name}-venv, {_AGAIN}.",
        )
    return EnvironmentalError(
        what, f"{order.python} said: {_last(failed, 'Error')}", "Name another Python with --python."
    )


def of_pip(failed: Failed, line: list[str], step: str) -> EnvironmentalError:
    """pip could not install something."""
    what = "PyTorch could not be installed." if step == "torch" else "What sd-scripts needs could not be installed."  # fmt: skip
    if shared := _shared(failed.text, what):
        return shared
    by_hand = f"Or run by hand, in its folder: {shlex.join(line)}"
    missing = re.findall(r"(?:Could not find a version that satisfies the requirement|No matching distribution found for)\s+(\S+)", failed.text)  # fmt: skip
    if missing:
        return EnvironmentalError(
            what,
            f"There is no build of {missing[-1]} for this system and this Python where pip looked.",
            f"Choose another Python with --python or another PyTorch with --torch, {_AGAIN}. {by_hand}",
        )
    built = re.search(r"(?:Failed building wheel for|Failed to build)\s+'?([A-Za-z0-9_.-]+)", failed.text)
    if built:
        return EnvironmentalError(
            what,
            f"{built[1]} has no ready build for this computer, and could not be compiled.",
            f"Choose another Python with --python (3.11 has builds of everything), {_AGAIN}. {by_hand}",
        )
    return EnvironmentalError(what, f"pip said: {_last(failed, 'ERROR')}", f"Mend that, {_AGAIN}. {by_hand}")
