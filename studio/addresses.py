"""Which addresses on the network may be reached for a user's URL: public ones only."""

from __future__ import annotations

import ipaddress
import socket
import urllib.request
from collections.abc import Collection
from contextlib import suppress
from typing import TYPE_CHECKING

from studio.errors import EnvironmentalError, InputError

if TYPE_CHECKING:
    import httpx

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def _parsed(url: str) -> httpx.URL:
    import httpx

    if any(c.isspace() or not c.isprintable() or c == "\\" for c in url):
        raise InputError(
            "The address has a space or a sign that does not belong into one.",
            "Such addresses are read differently by different programs.",
            "Copy it again, from its beginning to its end.",
        )
    try:
        return httpx.URL(url)
    except (httpx.InvalidURL, ValueError) as e:
        raise InputError("This is not an address.", f"{e}.", "Correct that part, or copy it again.") from e


def origin(url: str) -> str:
    """Scheme, host and port of a URL, such as "http://127.0.0.1:8123"; the standard port is left out."""
    parsed = _parsed(url)
    host = f"[{parsed.host}]" if ":" in parsed.host else parsed.host
    return f"{parsed.scheme}://{host}" + (f":{parsed.port}" if parsed.port else "")


def host(url: str) -> str:
    """The host of a URL, IPv6 without its brackets."""
    return _parsed(url).host


def refuse_unsafe(url: str, allow: Collection[str] = ()) -> tuple[str, int]:
    """What can be told without the network; (host, port). Raises InputError unless https and without user name.

    Addresses written as numbers are checked as well; names are not looked up here.
    """
    parsed = _parsed(url)
    if parsed.userinfo:
        raise InputError(
            "The address carries a user name or a password.",
            "It would be written into records and logs, and it can hide where the address leads.",
            "Use an address without the part before the @ sign.",
        )
    if not parsed.host:
        raise InputError(
            "The address names no server.",
            "Nothing stands between :// and the next slash.",
            "Write it whole, with the server's name after ://.",
        )
    if parsed.port is not None and not 0 < parsed.port < 65536:
        raise InputError(
            f"{parsed.port} is not a port.", "Ports are 1 to 65535.", "Take it out, or correct it."
        )
    port = parsed.port or {"http": 80, "https": 443}.get(parsed.scheme, 0)
    if origin(url) in allow:
        return parsed.host, port
    if parsed.scheme != "https":
        raise InputError(
            f"The address begins with {parsed.scheme}://, not https://."
            if parsed.scheme
            else "The address has no https:// before it.",
            "Only https is fetched: it proves who answers, and nobody on the way can change the content.",
            "Use the https:// address of the file.",
        )
    try:
        literal = ipaddress.ip_address(parsed.host)
    except ValueError:
        return parsed.host, port
    if not is_public(literal):
        raise _private(parsed.host, str(literal))
    return parsed.host, port


def is_public(address: Address) -> bool:
    """Whether an address belongs to the public internet, also when IPv4 is wrapped into IPv6."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.scope_id:
            return False
        inner = [a for a in (address.ipv4_mapped, address.sixtofour, *(address.teredo or ())) if a]
        if address in _NAT64:
            inner.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
        if int(address) >> 32 == 0:  # ::a.b.c.d, long out of use
            inner.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
        if inner:
            return all(is_public(a) for a in inner)
    return address.is_global and not address.is_multicast and not address.is_reserved


def public_addresses(host: str, port: int) -> list[Address]:
    """The addresses of a host, all of them public. Raises InputError when one is not (a name that answers with a
    public and a private address is a trick), EnvironmentalError when the name cannot be found."""
    try:
        told = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as e:
        raise EnvironmentalError(
            f"There is no server called {host}, or the network is away.",
            f"The name could not be looked up: {getattr(e, 'strerror', None) or e}.",
            "Check the spelling and the network.",
        ) from e
    found = list(dict.fromkeys(ipaddress.ip_address(str(t[4][0])) for t in told))
    for address in found:
        if not is_public(address):
            raise _private(host, str(address))
    return found


def _private(host: str, address: str) -> InputError:
    shown = host if host == address else f"{host} ({address})"
    return InputError(
        f"{shown} is not on the public internet.",
        "Such an address leads into this computer or its network, where a dataset URL has no business.",
        "Put the file where it can be reached by everyone, or import it from a folder.",
    )


def guarded_transport(allow: Collection[str] = ()) -> httpx.BaseTransport:
    """A transport that looks the host up, refuses private addresses, and connects to the very address it checked.

    The name stays in the Host header and in TLS, so the certificate is checked against it. Behind a proxy of the
    environment (HTTPS_PROXY) it is the proxy that connects; a name that can be looked up here is checked all the same.
    """
    import httpx

    class Guarded(httpx.BaseTransport):
        def __init__(self) -> None:
            self._direct = httpx.HTTPTransport()
            self._proxy_url = urllib.request.getproxies().get("https", "")
            self._proxy = httpx.HTTPTransport(proxy=self._proxy_url) if self._proxy_url else None

        def handle_request(self, request: httpx.Request) -> httpx.Response:
            url = str(request.url)
            host, port = refuse_unsafe(url, allow)
            if origin(url) in allow:
                return self._direct.handle_request(request)
            if self._proxy is not None and not urllib.request.proxy_bypass(host):
                with suppress(EnvironmentalError):
                    public_addresses(host, port)
                return self._proxy.handle_request(request)
            failed: httpx.TransportError | None = None
            for address in public_addresses(host, port)[:4]:
                try:
                    return self._direct.handle_request(_pinned(request, host, address))
                except (httpx.ConnectError, httpx.ConnectTimeout) as e:
                    failed = e
            assert failed is not None
            raise failed

        def close(self) -> None:
            self._direct.close()
            if self._proxy is not None:
                self._proxy.close()

    return Guarded()


def _pinned(request: httpx.Request, host: str, address: Address) -> httpx.Request:
    import httpx

    return httpx.Request(
        request.method,
        request.url.copy_with(host=str(address)),
        headers=request.headers,
        stream=request.stream,
        extensions={**request.extensions, "sni_hostname": host},
    )
