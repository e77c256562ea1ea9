"""Pictures large, by address: a route of the app that serves a picture as it is seen, in a size that a page needs.

Browsers show neither HEIC nor TIFF, and a photograph of 20 MB is no help on a card. So what is sent is a JPEG of at most
`SIDE` pixels a side, upright, on white. The address holds the hash of the file's content, so what lies behind it never
changes and the browser keeps it. As with `pages.parts.thumbs`, the route lies below `/app/static`.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import stat
import threading
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote_to_bytes

from pages.parts.thumbs import base_path
from studio.dataset.folder import PICTURE_SUFFIXES
from studio.dataset.formats import MAX_FILE_BYTES
from studio.dataset.pixels import cpu_threads, shown_small
from studio.errors import StudioError
from studio.project import Project
from studio.workspace import Workspace

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute

    from studio.dataset.scan import Picture

PLACE = "/app/static/previews"
SIDE, QUALITY = 1600, 88
"""Pixels of the longer side at most, and JPEG quality."""
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_at_once = threading.BoundedSemaphore(cpu_threads())  # a decoded picture may take hundreds of megabytes


def preview_url(project: Project, picture: Picture) -> str:
    """The address of a picture, to be given to `st.image`; "" for one that cannot be read."""
    return "" if picture.error else preview_at(project, picture.name, picture.sha256)


def preview_at(project: Project, name: str, sha256: str) -> str:
    """The same for a picture of which only its name and the hash of its content are at hand."""
    of = quote(os.fsencode(name), safe="")
    return f"{base_path()}{PLACE}/{quote(project.slug)}/{sha256}.jpg?of={of}"


def preview_routes() -> list[BaseRoute]:
    """The routes to be given to `st.App`."""
    from starlette.routing import Route

    return [Route(f"{base_path()}{PLACE}/{{slug}}/{{sha}}.jpg", _serve, methods=["GET"])]


def _serve(request: Request) -> Response:
    """Answer with one picture. Starlette runs this in a thread, since it is no coroutine."""
    from starlette.responses import Response

    query: bytes = request.scope.get("query_string", b"")
    name = os.fsdecode(unquote_to_bytes(query.removeprefix(b"of=").replace(b"+", b" ")))
    raw = read_preview(Workspace.default(), request.path_params["slug"], request.path_params["sha"], name)
    if raw is None:
        return Response("No such picture.", 404, {"Cache-Control": "no-store"}, "text/plain")
    kept = {
        "Cache-Control": "private, max-age=31536000, immutable",
        "X-Content-Type-Options": "nosniff",
        "Cross-Origin-Resource-Policy": "same-origin",
    }
    return Response(raw, 200, kept, "image/jpeg")


def read_preview(workspace: Workspace, slug: str, sha256: str, name: str) -> bytes | None:
    """The JPEG of one picture of a project's dataset; None for anything else.

    slug, sha256 and name come from outside: the slug must be that of a project, the name one plain file (no link, no
    folder) of its dataset with a picture's ending, and its content what the hash says. So no address leads anywhere
    else, and what a browser keeps under an address is always the same.
    """
    if not _SHA256.match(sha256) or not _is_plain(name):
        return None
    try:
        workspace.project_dir(slug)  # refuses whatever is no project's name
        path = Project(workspace, slug).dataset_dir / name
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
                         | getattr(os, "O_NONBLOCK", 0))  # fmt: skip
    except (OSError, StudioError, ValueError):
        return None
    about = os.fstat(handle)
    if not stat.S_ISREG(about.st_mode) or about.st_size > MAX_FILE_BYTES:
        os.close(handle)
        return None
    with _at_once:
        with os.fdopen(handle, "rb") as f:
            raw = f.read()
        if hashlib.sha256(raw).hexdigest() != sha256:
            return None
        try:
            image = shown_small(raw, SIDE)
            out = io.BytesIO()
            image.convert("RGB").save(out, "JPEG", quality=QUALITY)
        except Exception:  # noqa: BLE001  Pillow's decoders raise whatever a damaged file leads them to
            return None
    return out.getvalue()


def _is_plain(name: str) -> bool:
    plain = name not in ("", ".", "..") and not name.startswith(".") and not set(name) & set("/\\\0:")
    return plain and os.path.splitext(name)[1].lower() in PICTURE_SUFFIXES
