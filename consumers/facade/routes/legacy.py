"""The old machine server's routes: same paths, methods, bodies and texts, so its Go programs work unchanged.

Deliberate differences: an unknown machine is 404, an empty list `[]`, closed sets are checked, reading takes a role, a
missing role is 401 or 403 instead of a redirect, and a note, device or dimension can be set on known machines only.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from functools import wraps
from http import HTTPStatus
from typing import Any, Final, TypeVar

from aiohttp import web
from pydantic import ValidationError

from consumers.facade.actions import Actions
from consumers.facade.answers import answer, answer_model, json_of, listed
from consumers.facade.auth import CALLER, Access
from consumers.facade.bodies import read_body, valid_machine_id
from consumers.facade.errors import Refusal, plain, refusal_of
from consumers.facade.keys import ACTIONS, AUTH, SETTINGS, STORE, STREAMS
from consumers.facade.routes.events import take_event
from consumers.facade.routes.machines_v1 import last_event_id_of
from consumers.facade.routing import ANY, Handler, Route
from consumers.facade.sse import StreamKind
from consumers.facade.tokens import Caller, Role
from pipeline import logs
from pipeline.errors import Retryable
from pipeline.processor.ssh_target import is_ssh_target
from pipeline.store.protocol import Query
from schemas.api import (
    LoginStatus,
    SetAttachedDeviceRequest,
    SetNoteRequest,
    SupplyChromeOSRequest,
)
from schemas.description import Description
from schemas.event import Event
from schemas.wire import WireModel

READ_FAILED: Final = "Failed to read from datastore"
UPDATE_FAILED: Final = "Failed to update machine."
_DELETE_FAILED: Final = "Failed to delete machine."
_DIMENSIONS_FAILED: Final = "Failed to process dimensions."
_PAGE: Final = 1000
_LOCAL_EMAIL: Final = "barney@example.org"
"""Of whoever uses a server that lets everybody in; old pages and scripts know it."""

_number = re.compile(r"[0-9]{1,18}")

log = logs.get_logger()

LegacyModel = TypeVar("LegacyModel", bound=WireModel)


def failing_with(text: str) -> Callable[[Handler], Handler]:
    """Tell failures as the old server did: 500 with this text, 400 for what we call unprocessable."""

    def decorate(handler: Handler) -> Handler:
        @wraps(handler)
        async def handle(request: web.Request) -> web.StreamResponse:
            try:
                return await handler(request)
            except (Retryable, TimeoutError) as error:
                log.warning("request_failed", reason=str(error) or "time limit exceeded")
                return plain(text, HTTPStatus.INTERNAL_SERVER_ERROR)
            except (ValidationError, Refusal) as error:
                raise as_bad_request(error) from None

        return handle

    return decorate


def as_bad_request(error: ValidationError | Refusal) -> Refusal:
    """The same fault as the old server would call it."""
    refusal = refusal_of(error)
    if refusal.status is not HTTPStatus.UNPROCESSABLE_ENTITY:
        return refusal
    return Refusal(HTTPStatus.BAD_REQUEST, refusal.detail, errors=refusal.errors)


def named_machine(request: web.Request) -> str:
    """The machine that the path names."""
    text = request.match_info["id"].strip()
    if not text:
        raise Refusal(HTTPStatus.BAD_REQUEST, "Machine ID must be supplied.")
    return valid_machine_id(text)


async def read_old(request: web.Request, model: type[LegacyModel]) -> LegacyModel:
    """A body of an old client."""
    return model.model_validate_json(await read_body(request, request.app[SETTINGS].max_body_bytes))


# --- operators ---------------------------------------------------------------------------------------------------------
def acting(
    action: Callable[[Actions, Caller, str], Awaitable[object]], failure: str = UPDATE_FAILED
) -> Handler:
    """A handler for an action that takes nothing but the machine."""

    @failing_with(failure)
    async def handle(request: web.Request) -> web.Response:
        await action(request.app[ACTIONS], request[CALLER], named_machine(request))
        return web.Response()

    return handle


@failing_with(UPDATE_FAILED)
async def set_attached_device(request: web.Request) -> web.Response:
    """Tell the monitor what to interrogate."""
    machine_id = named_machine(request)
    body = await read_old(request, SetAttachedDeviceRequest)
    await request.app[ACTIONS].set_attached_device(request[CALLER], machine_id, body.attached_device)
    return web.Response()


@failing_with(UPDATE_FAILED)
async def set_note(request: web.Request) -> web.Response:
    """Leave a note, or with an empty text take it away."""
    machine_id = named_machine(request)
    body = await read_old(request, SetNoteRequest)
    await request.app[ACTIONS].set_note(request[CALLER], machine_id, body.message)
    return web.Response()


@failing_with(_DIMENSIONS_FAILED)
async def supply_chromeos(request: web.Request) -> web.Response:
    """Say where a ChromeOS device is, and what it cannot tell of itself."""
    machine_id = named_machine(request)
    body = await read_old(request, SupplyChromeOSRequest)
    if not body.ssh_user_ip or not body.supplied_dimensions:
        raise Refusal(HTTPStatus.BAD_REQUEST, "Missing fields.")
    if not is_ssh_target(body.ssh_user_ip):
        raise Refusal(HTTPStatus.BAD_REQUEST, "Invalid SSHUserIP format.")
    await request.app[ACTIONS].supply_chromeos(
        request[CALLER], machine_id, ssh_user_ip=body.ssh_user_ip, dimensions=body.supplied_dimensions
    )
    return web.Response()


# --- machines ----------------------------------------------------------------------------------------------------------
@failing_with("Failed to queue the event.")
async def machine_event(request: web.Request) -> web.Response:
    """Take an event; 200 means that the broker has it safe."""
    try:
        await take_event(request)
    except Retryable as error:
        raise refusal_of(error) from error
    return web.Response()


@failing_with(READ_FAILED)
async def machine_description(request: web.Request) -> web.Response:
    """One machine."""
    return answer_model(await request.app[STORE].get(named_machine(request)))


@failing_with(READ_FAILED)
async def machines(request: web.Request) -> web.StreamResponse:
    """All machines, by id; page by page, however many there are."""
    store = request.app[STORE]
    page = await store.list(Query(), limit=_PAGE)
    if page.next_cursor is None:
        return answer(b"[%b]" % listed(page.machines))
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    response.enable_compression()
    await response.prepare(request)
    await response.write(b"[" + listed(page.machines))
    while page.next_cursor is not None:
        page = await store.list(Query(), limit=_PAGE, cursor=page.next_cursor)
        await response.write(b"".join([b"," + json_of(machine) for machine in page.machines]))
    await response.write_eof(b"]\n")
    return response


async def description_updated(request: web.Request) -> web.StreamResponse:
    """The stream of one machine's Descriptions."""
    stream = request.query.get("stream", "").strip()
    if not stream:
        raise Refusal(HTTPStatus.BAD_REQUEST, "Machine ID must be supplied: ?stream=<id>")
    last_event_id = last_event_id_of(request)
    if last_event_id and not _number.fullmatch(last_event_id):
        raise Refusal(HTTPStatus.BAD_REQUEST, "Last-Event-ID must be a number.")
    try:
        machine_id = valid_machine_id(stream, "stream")
    except Refusal as error:
        raise as_bad_request(error) from None
    return await request.app[STREAMS].watch_machine(request, machine_id, StreamKind.LEGACY, last_event_id)


# --- who ---------------------------------------------------------------------------------------------------------------
_OLD_ROLES: Final = {
    Role.VIEWER: ["viewer"],
    Role.OPERATOR: ["viewer", "editor"],
    Role.ADMIN: ["viewer", "editor", "admin"],
    Role.MACHINE: ["machine"],
    Role.AGENT: ["viewer", "agent"],
}


async def login_status(request: web.Request) -> web.Response:
    """Whom we take the caller for, in the old words; nobody when that is not clear."""
    auth = request.app[AUTH]
    try:
        caller = auth.caller_of(request)
    except Refusal:
        caller = None
    if caller is None:
        return answer_model(LoginStatus(email="", roles=[]))
    email = _LOCAL_EMAIL if auth.is_open else caller.user
    return answer_model(LoginStatus(email=email, roles=_OLD_ROLES[caller.role]))


def old_post(
    path: str,
    handler: Handler,
    summary: str,
    access: Access,
    body: type[WireModel] | None = None,
    **more: Any,
) -> Route:
    """An old route that changes something."""
    usual = (HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND, HTTPStatus.INTERNAL_SERVER_ERROR)
    options = {"tag": TAG, **more, "errors": (*usual, *more.get("errors", ()))}
    return Route(
        method="POST", path=path, handler=handler, access=access, summary=summary, body=body, **options
    )


def old_get(
    path: str, handler: Handler, summary: str, access: Access, answered: object, **more: Any
) -> Route:
    """An old route that answers JSON."""
    options = {"tag": TAG, "errors": (HTTPStatus.INTERNAL_SERVER_ERROR,), **more}
    return Route(
        method="GET", path=path, handler=handler, access=access, summary=summary, answer=answered, **options
    )


TAG: Final = "old machine server"
MACHINE: Final = "/_/machine/"
NAMED: Final = "/{id:.+}"

ROUTES: Final = (
    old_post(
        MACHINE + "toggle_mode" + NAMED,
        acting(Actions.toggle_mode),
        "Begin or end maintenance",
        Access.OPERATE,
    ),
    old_post(
        MACHINE + "set_attached_device" + NAMED,
        set_attached_device,
        "Tell the machine's monitor what to interrogate",
        Access.OPERATE,
        SetAttachedDeviceRequest,
    ),
    old_post(
        MACHINE + "remove_device" + NAMED,
        acting(Actions.remove_device),
        "Forget the attached device",
        Access.OPERATE,
    ),
    old_post(
        MACHINE + "delete_machine" + NAMED,
        acting(Actions.delete, _DELETE_FAILED),
        "Delete a machine",
        Access.OPERATE,
    ),
    old_post(MACHINE + "set_note" + NAMED, set_note, "Leave a note", Access.OPERATE, SetNoteRequest),
    old_post(
        MACHINE + "supply_chromeos" + NAMED,
        supply_chromeos,
        "Say where a ChromeOS device is, and what it cannot tell of itself",
        Access.OPERATE,
        SupplyChromeOSRequest,
    ),
    old_post(
        MACHINE + "clear_quarantined" + NAMED,
        acting(Actions.clear_quarantine),
        "End a forced quarantine",
        Access.OPERATE,
    ),
    old_post("/json/v1/machine/event/", machine_event, "Report a machine's state", Access.REPORT, Event),
    Route(
        method="POST",
        path="/json/v1/machine/event",
        handler=machine_event,
        access=Access.REPORT,
        summary="Report a machine's state",
        tag=TAG,
        alias=True,
    ),
    Route(
        method=ANY,
        path="/json/v1/machine/sse/description/updated",
        handler=description_updated,
        access=Access.MACHINE,
        summary="Stream one machine's Descriptions",
        tag=TAG,
        content_type="text/event-stream",
        errors=(HTTPStatus.BAD_REQUEST, HTTPStatus.SERVICE_UNAVAILABLE),
        stream=True,
        machine_parameter="stream",
    ),
    old_get("/_/machines", machines, "List all machines", Access.FLEET, list[Description]),
    old_get(
        "/json/v1/machine/description" + NAMED,
        machine_description,
        "Get a machine",
        Access.MACHINE,
        Description,
    ),
    old_get("/loginstatus/", login_status, "Tell whom the server takes you for", Access.PUBLIC, LoginStatus),
    Route(
        method="GET",
        path="/loginstatus",
        handler=login_status,
        access=Access.PUBLIC,
        summary="Tell whom the server takes you for",
        tag=TAG,
        alias=True,
    ),
)
