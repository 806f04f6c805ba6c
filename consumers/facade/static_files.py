"""The page's files, read once at the start: a name that is not among them does not exist, whatever dots it holds."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from http import HTTPStatus
from pathlib import Path
from typing import Final

from aiohttp import web

CONTENT_TYPES: Final = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
    ".json": "application/json",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".woff2": "font/woff2",
    ".webmanifest": "application/manifest+json",
    ".txt": "text/plain",
}
"""What may be served; other files in the folder are not."""

PAGE_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; connect-src 'self'; "
    "manifest-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


@dataclass(frozen=True, slots=True)
class StaticFile:
    """One file, plain and compressed."""

    body: bytes
    compressed: bytes
    etag: str
    content_type: str

    def answer(self, request: web.Request) -> web.Response:
        """The file, or 304 when the browser has it. It asks each time, so a new release shows at once."""
        headers = {"ETag": self.etag, "Cache-Control": "no-cache", "Vary": "Accept-Encoding"}
        if self.content_type == CONTENT_TYPES[".html"]:
            headers["Content-Security-Policy"] = PAGE_POLICY
        if self.etag in request.headers.get("If-None-Match", ""):
            return web.Response(status=HTTPStatus.NOT_MODIFIED, headers=headers)
        body = self.body
        if len(self.compressed) < len(body) and "gzip" in request.headers.get("Accept-Encoding", ""):
            headers["Content-Encoding"] = "gzip"
            body = self.compressed
        charset = None if self.content_type.startswith(("image/png", "image/x", "font/")) else "utf-8"
        return web.Response(body=body, headers=headers, content_type=self.content_type, charset=charset)


@cache
def read_files(folder: Path) -> Mapping[str, StaticFile]:
    """All files below the folder, by their path in it."""
    return {
        path.relative_to(folder).as_posix(): _read(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix in CONTENT_TYPES
    }


def _read(path: Path) -> StaticFile:
    body = path.read_bytes()
    etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    return StaticFile(body, gzip.compress(body, mtime=0), etag, CONTENT_TYPES[path.suffix])
