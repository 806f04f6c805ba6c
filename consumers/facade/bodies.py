"""Reading what was sent: never more than allowed, and every fault named."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import NoReturn, TypeVar

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from consumers.facade.errors import Refusal, invalid
from schemas.ids import check_machine_id
from schemas.wire import Body

OurBody = TypeVar("OurBody", bound=Body)


async def read_body(request: web.Request, limit: int) -> bytes:
    """The body, piece by piece until it is too large."""
    if (request.content_length or 0) > limit:
        raise _too_large(limit)
    pieces: list[bytes] = []
    size = 0
    try:
        async for piece in request.content.iter_any():
            size += len(piece)
            if size > limit:
                raise _too_large(limit)
            pieces.append(piece)
    except (web.RequestPayloadError, HttpProcessingError) as error:
        raise Refusal(HTTPStatus.BAD_REQUEST, "the body is not encoded as its headers say") from error
    except ConnectionError as error:
        raise Refusal(HTTPStatus.BAD_REQUEST, "the body ended before it was complete") from error
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _too_large(limit: int) -> Refusal:
    return Refusal(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        f"body: larger than {limit} bytes",
        headers={"Connection": "close"},
    )


def require_json(request: web.Request) -> None:
    """Refuse a body that does not claim to be JSON: forms and plain text are what a foreign page could send."""
    kind = request.content_type
    if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        raise Refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "expected Content-Type: application/json")
    if (request.charset or "utf-8").lower().replace("_", "-") not in {"utf-8", "utf8"}:
        raise Refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "JSON is UTF-8")


async def read_ours(request: web.Request, model: type[OurBody], limit: int) -> OurBody:
    """A body of the new routes."""
    require_json(request)
    document = _parse(await read_body(request, limit))
    return model.model_validate(document)


def _parse(body: bytes) -> object:
    try:
        return json.loads(body, parse_constant=_no_such_number)
    except UnicodeDecodeError:
        raise invalid("body", "JSON is UTF-8") from None
    except json.JSONDecodeError as error:
        raise invalid("body", f"not JSON: {error.msg} at line {error.lineno} column {error.colno}") from None
    except RecursionError:
        raise invalid("body", "nested too deeply") from None
    except ValueError as error:  # such as a number of five thousand digits
        raise invalid("body", str(error)) from None


def _no_such_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def query_of(request: web.Request, model: type[OurBody]) -> OurBody:
    """The query string; a parameter that is a list may be repeated."""
    lists = {
        name
        for name, schema in model.model_json_schema()["properties"].items()
        if schema.get("type") == "array"
    }
    given: dict[str, object] = {}
    for name in set(request.query):
        values = request.query.getall(name)
        if name not in lists and len(values) > 1:
            raise invalid(name, "given more than once")
        given[name] = values if name in lists else values[0]
    return model.model_validate(given)


def machine_id_of(request: web.Request) -> str:
    """The machine that the path names."""
    return valid_machine_id(request.match_info["id"])


def valid_machine_id(text: str, field: str = "id") -> str:
    """The text, if a machine can be called so."""
    try:
        return check_machine_id(text)
    except ValueError as error:
        raise invalid(field, str(error)) from None
