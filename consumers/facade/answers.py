"""JSON answers as Go writes them: compact, `<`, `>` and `&` escaped, a newline at the end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from aiohttp import web
from pydantic import BaseModel

from schemas.description import Description

COMPRESS_FROM: Final = 2048
"""Shorter answers fit a packet or two as they are."""
_ENGINE_ROOM: Final = 1 << 16
"""Longer ones are compressed on a thread."""


def as_go(json: bytes) -> bytes:
    """Escape what Go escapes. In JSON these characters occur in texts only."""
    return json.replace(b"&", b"\\u0026").replace(b"<", b"\\u003c").replace(b">", b"\\u003e")


def json_of(model: BaseModel) -> bytes:
    """The model, in bytes."""
    return as_go(model.model_dump_json().encode())


def listed(machines: Iterable[Description]) -> bytes:
    """The machines, comma-separated."""
    return b",".join(map(json_of, machines))


def answer(
    json: bytes,
    *,
    status: int = 200,
    content_type: str = "application/json",
    headers: Mapping[str, str] | None = None,
) -> web.Response:
    """An answer with this document."""
    response = web.Response(
        body=json + b"\n",
        status=status,
        content_type=content_type,
        headers=headers,
        zlib_executor_size=_ENGINE_ROOM,
    )
    if len(json) >= COMPRESS_FROM:
        response.enable_compression()
        response.headers["Vary"] = "Accept-Encoding"
    return response


def answer_model(
    model: BaseModel, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    """An answer with this model."""
    return answer(json_of(model), status=status, headers=headers)


def answer_machine(machine: Description) -> web.Response:
    """A machine, with its version as ETag."""
    return answer_model(machine, headers={"ETag": etag(machine)})


def etag(machine: Description) -> str:
    """Names this state of the machine."""
    return f'"{machine.row_version}"'
