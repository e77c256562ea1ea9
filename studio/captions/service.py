"""Whether a captioning service may be asked at the address that the user gave, and which address that is.

A server on this computer (localhost, 127.0.0.1, ::1) may be asked over http: Ollama, LM Studio and vLLM live there. A
server elsewhere must be public and https. One in the user's own network is only asked when the settings say so
explicitly, because an address that was merely pasted must not lead the studio to a router or a printer. Link-local
addresses, where cloud machines keep their credentials (169.254.169.254), are never asked.
"""

from __future__ import annotations

import ipaddress
import socket
import time
from collections.abc import Collection
from functools import lru_cache

from studio.addresses import Address, is_public, origin, refuse_unsafe
from studio.errors import EnvironmentalError, InputError

_REMEMBERED_S = 60.0
LOOPBACK_NAMES = frozenset({"localhost", "localhost.localdomain", "ip6-localhost"})


def base_of(address: str) -> str:
    """The address of the interface as typed, tidied: no slash at the end, `/v1` added when there is no path, and
    without the last step when somebody pasted the whole `.../chat/completions`."""
    text = address.strip().rstrip("/")
    for tail in ("/chat/completions", "/models", "/completions", "/responses"):
        text = text.removesuffix(tail)
    scheme, mark, rest = text.partition("://")
    return f"{text}/v1" if mark and scheme and "/" not in rest and rest else text


def checked(address: str, *, own_network: bool = False) -> tuple[str, Collection[str]]:
    """The base address, and the origins that may be reached although they are not public.

    Raises InputError when the address must not be asked, EnvironmentalError when its name cannot be looked up.
    """
    base = base_of(address)
    if "://" not in base:
        raise InputError(
            f"'{address}' is not the address of a service." if base else "There is no address of a service.",
            "It begins with http:// or https://.",
            "For Ollama on this computer: http://localhost:11434/v1",
        )
    here = origin(base)
    scheme = here.partition("://")[0]
    if scheme not in ("http", "https"):
        raise InputError(
            f"The address begins with {scheme}://.",
            "Captioning services are asked over https, or http on this computer.",
            "Write http:// or https:// in front.",
        )
    host, port = refuse_unsafe(base, (here,))  # refuses user names, and names no server
    if "?" in base or "#" in base:
        raise InputError(
            "The address has a question mark or a # sign.",
            "Only the beginning of the interface is wanted; a key does not belong into an address.",
            "Leave out everything from the ? on. A key is read from OPENAI_API_KEY.",
        )
    literal = _literal(host)
    if is_here(host):
        return base, (here,)
    found = (literal,) if literal is not None else _looked_up(host, port)
    if all(is_public(a) for a in found):
        refuse_unsafe(base)  # https
        return base, ()
    bad = next(a for a in found if not is_public(a))
    if not bad.is_private or bad.is_link_local or bad.is_unspecified or bad.is_multicast or _metadata(bad):
        raise InputError(
            f"{host} is no address of a service.",
            "Such addresses are for the network itself; on rented computers secrets lie behind them.",
            "Use the address at which the service listens.",
        )
    if _same_computer(bad):
        return base, (here,)
    if not own_network:
        raise InputError(
            f"{host} is in a private network.",
            "The studio asks nothing there unless you say that it is yours.",
            "Switch on 'This server is in my own network' (--own-network), or use a public https address.",
        )
    return base, (here,)


def is_here(host: str) -> bool:
    """Whether a host, as written, is this computer."""
    literal = _literal(host)
    return host.lower() in LOOPBACK_NAMES or (literal is not None and _same_computer(literal))


def _literal(host: str) -> Address | None:
    try:
        return _plain(ipaddress.ip_address(host))
    except ValueError:
        return None


def _plain(address: Address) -> Address:
    """IPv4 wrapped into IPv6 is judged as the IPv4 address that is reached."""
    return getattr(address, "ipv4_mapped", None) or address


def _same_computer(address: Address) -> bool:
    return address.is_loopback


def _metadata(address: Address) -> bool:
    # Alibaba, Oracle and AWS (IPv6) keep theirs outside of 169.254.0.0/16.
    return str(address) in ("100.100.100.200", "192.0.0.192", "fd00:ec2::254")


def _looked_up(host: str, port: int) -> tuple[Address, ...]:
    """Every address of a name. Raises EnvironmentalError when there is none."""
    found = _lookup(host, port, int(time.monotonic() // _REMEMBERED_S))
    if not found:
        raise EnvironmentalError(
            f"There is no server called {host}, or the network is away.",
            "The name could not be looked up.",
            "Check the spelling and the network.",
        )
    return found


@lru_cache(maxsize=64)
def _lookup(host: str, port: int, _moment: int) -> tuple[Address, ...]:
    """Asked once a minute at most, since a page asks at every click; whoever connects looks the name up again."""
    try:
        told = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return ()
    return tuple(dict.fromkeys(_plain(ipaddress.ip_address(str(t[4][0]).partition("%")[0])) for t in told))
