"""Thumbnails by address: a route of the app that serves the small pictures of the workspace, and nothing else.

A page that names its thumbnails sends some hundred bytes a picture instead of the picture itself, and the browser keeps
what it has seen: the address holds the hash of the picture's content, so what lies behind it never changes. The route
lies below `/app/static`, because that is the only kind of local address that `st.image` passes on as it is.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import quote

import streamlit as st

from studio.dataset.scan import Scan, known_looks, thumb_path
from studio.errors import StudioError
from studio.project import Project
from studio.workspace import Workspace

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute

PLACE = "/app/static/thumbs"
LARGEST = 2_000_000
"""Bytes of the largest file that passes for a thumbnail; real ones have some ten thousand."""
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_WEBP = (b"RIFF", b"WEBP")  # bytes 0-3 and 8-11 of every WebP file


def thumb_url(project: Project, scan: Scan) -> Callable[[str], str]:
    """A function from a picture's name to the address of its thumbnail; "" for one that cannot be read.

    The addresses may be given to `st.image`, an image column, or an `img` in Markdown or HTML.
    """
    known = known_looks(project)  # what the scan has just brought up to date; no list of all pictures is made
    front = f"{base_path()}{PLACE}/{quote(project.slug)}"

    def url(name: str) -> str:
        found = known.get(name)
        return f"{front}/{found[1].sha256}.webp" if found and not found[1].error else ""

    return url


def thumb_routes() -> list[BaseRoute]:
    """The routes to be given to `st.App`."""
    from starlette.routing import Route

    return [Route(f"{base_path()}{PLACE}/{{slug}}/{{name}}.webp", _serve, methods=["GET"])]


def base_path() -> str:
    """What stands in front of every address of the app: "" unless it is served below a path."""
    base = str(st.get_option("server.baseUrlPath") or "").strip("/")
    return f"/{base}" if base else ""


def _serve(request: Request) -> Response:
    """Answer with one thumbnail. Starlette runs this in a thread, since it is no coroutine."""
    from starlette.responses import Response

    raw = read_thumb(Workspace.default(), request.path_params["slug"], request.path_params["name"])
    if raw is None:
        return Response("No such thumbnail.", 404, {"Cache-Control": "no-store"}, "text/plain")
    kept = {
        "Cache-Control": "private, max-age=31536000, immutable",
        "X-Content-Type-Options": "nosniff",
        "Cross-Origin-Resource-Policy": "same-origin",
    }
    return Response(raw, 200, kept, "image/webp")


def read_thumb(workspace: Workspace, slug: str, sha256: str) -> bytes | None:
    """The bytes of one thumbnail; None for anything else.

    slug and sha256 come from outside: the slug must be that of a project, the hash 64 hexadecimal digits, and the file
    a plain one (no link) that starts as a WebP does. So no address leads anywhere but to a thumbnail.
    """
    if not _SHA256.match(sha256):
        return None
    try:
        workspace.project_dir(slug)  # refuses whatever is no project's name
        path = thumb_path(Project(workspace, slug).cache_dir, sha256)
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0))
    except (OSError, StudioError, ValueError):
        return None
    with os.fdopen(handle, "rb") as f:
        if os.fstat(f.fileno()).st_size > LARGEST:
            return None
        raw = f.read()
    return raw if (raw[:4], raw[8:12]) == _WEBP else None
