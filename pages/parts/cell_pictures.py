"""Pictures of grids by address: a route of the app that serves the drawn cells of a project, small and large, and the training
pictures that they are compared with.

A cell's address names its hash and when it was written, so what lies behind it never changes and the browser keeps it. As with
`pages.parts.thumbs`, the routes lie below `/app/static`.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from PIL import Image, ImageOps

from pages.parts.previews import preview_at
from pages.parts.thumbs import base_path
from studio.dataset.scan import known_looks
from studio.errors import StudioError
from studio.evaluation.store import CellStore
from studio.evaluation.thumbs import LARGE, cell_thumb
from studio.project import Project
from studio.workspace import Workspace

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute

PLACE = "/app/static/cells"
_HASH = re.compile(r"[0-9a-f]{16}\Z")
_KEPT = "private, max-age=31536000, immutable"
_AS_IT_IS = 8_000_000
"""Bytes up to which a picture that is not too large is sent as it was drawn."""


def cells_place(project: Project) -> str:
    """What stands in front of a cell's hash in its address; behind it `/small?v=` or `/large?v=` and the version."""
    return f"{base_path()}{PLACE}/{quote(project.slug)}"


def cell_url(project: Project, picture: Path, size: str = "large") -> str:
    """The address of one drawn cell. size: small or large."""
    return f"{cells_place(project)}/{picture.stem}/{size}?v={picture.stat().st_mtime_ns // 1_000_000}"


def training_urls(project: Project, names: Sequence[str]) -> list[str]:
    """The addresses of training pictures by name; "" for one that is not there any more."""
    known = known_looks(project)
    return [
        preview_at(project, n, known[n][1].sha256) if n in known and not known[n][1].error else ""
        for n in names
    ]


def cell_routes() -> list[BaseRoute]:
    """The routes to be given to `st.App`."""
    from starlette.routing import Route

    return [Route(f"{base_path()}{PLACE}/{{slug}}/{{name}}/{{size}}", _serve, methods=["GET"])]


def _serve(request: Request) -> Response:
    """Answer with one picture. Starlette runs this in a thread, since it is no coroutine."""
    from starlette.responses import Response

    told = request.path_params
    found = read_cell(Workspace.default(), told["slug"], told["name"], told["size"])
    if found is None:
        return Response("No such picture.", 404, {"Cache-Control": "no-store"}, "text/plain")
    raw, kind = found
    kept = {
        "Cache-Control": _KEPT if request.query_params.get("v") else "no-store",
        "X-Content-Type-Options": "nosniff",
        "Cross-Origin-Resource-Policy": "same-origin",
    }
    return Response(raw, 200, kept, kind)


def read_cell(workspace: Workspace, slug: str, name: str, size: str) -> tuple[bytes, str] | None:
    """The bytes of one cell and what kind they are; None for anything else.

    slug, name and size come from outside: the slug must be that of a project, the name 16 hexadecimal digits, the size one of
    two words. So no address leads anywhere but to a cell.
    """
    if not _HASH.match(name) or size not in ("small", "large"):
        return None
    try:
        workspace.project_dir(slug)  # refuses whatever is no project's name
        project = Project(workspace, slug)
        path = CellStore(project).path(name)
        if path.is_symlink() or not path.is_file():
            return None
        if size == "small":
            small = cell_thumb(project, path)
            return small.read_bytes(), "image/webp" if small.suffix == ".webp" else "image/png"
        return _large(path)
    except (OSError, StudioError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None


def _large(path: Path) -> tuple[bytes, str]:
    with Image.open(path) as picture:
        if max(picture.size) <= LARGE and path.stat().st_size <= _AS_IT_IS:
            return path.read_bytes(), "image/png"
        shown = ImageOps.exif_transpose(picture).convert("RGB")
    shown.thumbnail((LARGE, LARGE), Image.Resampling.LANCZOS, reducing_gap=3.0)
    out = io.BytesIO()
    shown.save(out, "WEBP", quality=92, method=2)
    return out.getvalue(), "image/webp"
