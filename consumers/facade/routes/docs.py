"""What the API is: as a document for programs, and as a page for people."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

import orjson
from aiohttp import web

from consumers.facade.answers import answer
from consumers.facade.auth import Access
from consumers.facade.openapi import openapi
from consumers.facade.routes.pages import serve_file
from consumers.facade.routing import Handler, Route
from consumers.facade.static_files import read_files

PAGES: Final = Path(__file__).parent.parent / "pages"


def routes(described: Sequence[Route]) -> Sequence[Route]:
    """Make the document of these routes, and serve it."""
    document = _document(tuple(described))

    async def serve_document(_request: web.Request) -> web.Response:
        return answer(document, headers={"Cache-Control": "no-cache"})

    files = read_files(PAGES)
    return (
        _docs("/openapi.json", serve_document, "The API as OpenAPI 3.1", "application/json"),
        _docs("/docs", serve_file(files, "docs.html"), "The API as a page", "text/html"),
        _docs("/docs/{path:.+}", serve_file(files), "Its files", "text/html"),
    )


@cache
def _document(described: tuple[Route, ...]) -> bytes:
    return orjson.dumps(openapi(described, _version()))


def _docs(path: str, handler: Handler, summary: str, content_type: str) -> Route:
    return Route(
        method="GET",
        path=path,
        handler=handler,
        access=Access.PUBLIC,
        summary=summary,
        tag="documentation",
        content_type=content_type,
    )


def _version() -> str:
    try:
        return version("labkeeper")
    except PackageNotFoundError:  # a checkout that was never installed
        return "0"
