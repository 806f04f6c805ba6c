"""Errors become answers here: RFC 9457 documents on the new routes, plain text on the old machine server's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Final

from aiohttp import web
from pydantic import ValidationError

from consumers.facade.answers import answer, as_go
from pipeline import logs
from pipeline.errors import (
    KeyReused,
    LabkeeperError,
    MachineNotFound,
    PowerRefused,
    Rejected,
    Retryable,
    VersionMismatch,
)
from schemas.api import PROBLEM_TYPE, FieldError, Problem
from schemas.wire import faults

_OLD_ROUTES: Final = ("/json/", "/_/", "/loginstatus", "/dist/", "/down_bots", "/powercycled_bots")
_MAX_ERRORS: Final = 20
"""Told of one request: a hostile body can have very many."""
_RETRY_AFTER_S: Final = "1"
_STATUS: Final[Mapping[type[LabkeeperError], HTTPStatus]] = {
    MachineNotFound: HTTPStatus.NOT_FOUND,
    VersionMismatch: HTTPStatus.PRECONDITION_FAILED,
    PowerRefused: HTTPStatus.CONFLICT,
}

log = logs.get_logger()


class Refusal(LabkeeperError):
    """A request that is not served, and why."""

    def __init__(
        self,
        status: HTTPStatus,
        detail: str,
        *,
        errors: Sequence[FieldError] = (),
        headers: Mapping[str, str] | None = None,
        reason: str | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.reason = reason
        self.errors = tuple(errors)
        self.headers = dict(headers or {})


def invalid(field: str, message: str) -> Refusal:
    """One field of the request cannot be what it is."""
    return _unprocessable([FieldError(field=field, message=message)])


def unauthorized(detail: str) -> Refusal:
    """Nobody we know."""
    return Refusal(HTTPStatus.UNAUTHORIZED, detail, headers={"WWW-Authenticate": "Bearer"})


def forbidden(detail: str) -> Refusal:
    """Somebody we know, who may not do this."""
    return Refusal(HTTPStatus.FORBIDDEN, detail)


def unavailable(detail: str) -> Refusal:
    """Not now."""
    return Refusal(HTTPStatus.SERVICE_UNAVAILABLE, detail, headers={"Retry-After": _RETRY_AFTER_S})


def _unprocessable(errors: Sequence[FieldError]) -> Refusal:
    text = "; ".join(f"{error.field}: {error.message}" for error in errors)
    return Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, text, errors=errors)


def refusal_of(error: LabkeeperError | ValidationError | TimeoutError) -> Refusal:
    """What an error of ours means to the caller."""
    match error:
        case Refusal():
            return error
        case ValidationError():
            found = faults(error)[:_MAX_ERRORS]
            return _unprocessable(
                [FieldError(field=field[:200], message=text[:500]) for field, text in found]
            )
        case MachineNotFound() | Rejected():
            status = _STATUS.get(type(error), HTTPStatus.UNPROCESSABLE_ENTITY)
            reason = error.reason if isinstance(error, PowerRefused | KeyReused) else None
            return Refusal(status, str(error), reason=reason)
        case Retryable() | TimeoutError():
            log.warning("request_failed", reason=str(error) or "time limit exceeded")
            return unavailable("the database or the broker is out of reach; try again in a moment")
        case _:
            log.error("request_failed", reason=str(error))
            return Refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "the request failed; the server's log says why")


def told(request: web.Request, refusal: Refusal) -> web.Response:
    """The refusal in the language of the route."""
    if request.path.startswith(_OLD_ROUTES):
        return plain(refusal.detail, refusal.status, headers=refusal.headers)
    problem = Problem(
        type="about:blank",
        title=refusal.status.phrase,
        status=refusal.status,
        detail=refusal.detail,
        instance=request.rel_url.raw_path[:500],
        reason=refusal.reason,
        errors=list(refusal.errors) or None,
    )
    document = as_go(problem.model_dump_json(exclude_none=True).encode())
    return answer(document, status=refusal.status, content_type=PROBLEM_TYPE, headers=refusal.headers)


def plain(text: str, status: HTTPStatus, *, headers: Mapping[str, str] | None = None) -> web.Response:
    """Plain text and a newline, as Go's `http.Error` writes it."""
    return web.Response(text=text + "\n", status=status, headers=headers)


def told_by_router(request: web.Request, error: web.HTTPException) -> web.Response:
    """What aiohttp itself refuses (no such path, no such method), in the language of the route."""
    headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
    status = HTTPStatus(error.status)
    detail = {404: "there is nothing at this path", 405: "this path does not take this method"}
    return told(request, Refusal(status, detail.get(error.status, status.phrase), headers=headers))
