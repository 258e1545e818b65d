"""The page at /tree and the files that it is made of: read once, never changed. They ask for the key themselves."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, Final

from starlette.responses import Response

from stemma.server.http.endpoint import RequestContext
from stemma.server.http.errors import ApiError

FOLDER: Final = Path(__file__).with_name("static")
KINDS: Final = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
HEADERS: Final = {
    "content-security-policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'"
    ),
    "x-content-type-options": "nosniff",
    "cache-control": "no-cache",
}


@cache
def page_files() -> dict[str, Path]:
    """The files by name."""
    return {path.name: path for path in FOLDER.iterdir() if path.suffix in KINDS}


async def tree_page(context: RequestContext[Any, None]) -> Response:
    """GET /tree: the page."""
    return _file("tree.html")


async def tree_page_part(context: RequestContext[Any, None]) -> Response:
    """GET /tree/{name}: what the page loads."""
    name = context.request.path_params["name"]
    if name not in page_files():
        raise ApiError(404, f"the page at /tree has no file {name}", code="not_found")
    return _file(name)


@cache
def _content(name: str) -> bytes:
    return page_files()[name].read_bytes()


def _file(name: str) -> Response:
    return Response(_content(name), headers=HEADERS, media_type=KINDS[Path(name).suffix])
