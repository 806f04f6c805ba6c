"""Machines, under /api/v1."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any, Final

from aiohttp import web

from consumers.facade.actions import Actions
from consumers.facade.answers import answer, answer_machine, answer_model, etag, listed
from consumers.facade.auth import CALLER, Access
from consumers.facade.bodies import machine_id_of, query_of, read_ours
from consumers.facade.errors import invalid
from consumers.facade.keys import ACTIONS, SETTINGS, STORE, STREAMS
from consumers.facade.preconditions import expected_versions
from consumers.facade.routing import Handler, Route
from consumers.facade.sse import StreamKind
from consumers.facade.tokens import Caller
from pipeline.store.protocol import Query, SortKey
from schemas.api import (
    AttachedDeviceBody,
    HistoryPage,
    HistoryParameters,
    ListParameters,
    MachineList,
    MaintenanceBody,
    NoteBody,
    SuppliedDimensionsBody,
    WhoAmI,
)
from schemas.description import Description
from schemas.health import Health
from schemas.wire import Body

BASE: Final = "/api/v1/machines"
ONE: Final = BASE + "/{id:[^/]*}"
"""Matches the empty id as well, so that it is refused by name."""


async def list_machines(request: web.Request) -> web.Response:
    """A page of machines."""
    parameters = query_of(request, ListParameters)
    query = Query(
        dimensions=_dimensions(parameters.dimension),
        health=[Health(state) for state in dict.fromkeys(parameters.health)],
        attached_device=parameters.attached_device,
        text=parameters.q,
        sort=SortKey(parameters.sort),
        descending=parameters.order == "desc",
    )
    try:
        page = await request.app[STORE].list(query, limit=parameters.limit, cursor=parameters.cursor)
    except ValueError:
        raise invalid("cursor", "not one of ours; take next_cursor of the page before") from None
    cursor = b"null" if page.next_cursor is None else b'"%b"' % page.next_cursor.encode()
    return answer(b'{"machines":[%b],"next_cursor":%b}' % (listed(page.machines), cursor))


def _dimensions(filters: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for each in filters:
        key, _, value = each.partition(":")
        if found.setdefault(key, value) != value:
            raise invalid("dimension", f"two values for {key}")
    return found


async def get_machine(request: web.Request) -> web.Response:
    """One machine."""
    machine = await request.app[STORE].get(machine_id_of(request))
    if any(known.value == str(machine.row_version) for known in request.if_none_match or ()):
        return web.Response(status=HTTPStatus.NOT_MODIFIED, headers={"ETag": etag(machine)})
    return answer_machine(machine)


def _actions(request: web.Request) -> Actions:
    """What can be done, on the versions of `If-Match` if it is given."""
    versions = expected_versions(request)
    actions = request.app[ACTIONS]
    return actions if versions is None else actions.on_versions(versions)


async def delete_machine(request: web.Request) -> web.Response:
    """Delete a machine."""
    await _actions(request).delete(request[CALLER], machine_id_of(request))
    return web.Response(status=HTTPStatus.NO_CONTENT)


async def get_history(request: web.Request) -> web.Response:
    """A part of a machine's history. It outlives the machine."""
    machine_id = machine_id_of(request)
    parameters = query_of(request, HistoryParameters)
    entries = list(
        await request.app[STORE].history(machine_id, limit=parameters.limit, before=parameters.before)
    )
    more = len(entries) == parameters.limit
    return answer_model(HistoryPage(entries=entries, next_before=entries[-1].id if more else None))


async def begin_maintenance(request: web.Request) -> web.Response:
    """Take a machine into maintenance."""
    machine_id = machine_id_of(request)
    body = await read_ours(request, MaintenanceBody, request.app[SETTINGS].max_body_bytes)
    machine = await _actions(request).set_maintenance(request[CALLER], machine_id, reason=body.reason)
    return answer_machine(machine)


def acting(action: Callable[[Actions, Caller, str], Awaitable[Description]]) -> Handler:
    """A handler for an action that takes nothing but the machine."""

    async def handle(request: web.Request) -> web.Response:
        return answer_machine(await action(_actions(request), request[CALLER], machine_id_of(request)))

    return handle


async def set_attached_device(request: web.Request) -> web.Response:
    """Tell the monitor what to interrogate."""
    machine_id = machine_id_of(request)
    body = await read_ours(request, AttachedDeviceBody, request.app[SETTINGS].max_body_bytes)
    return answer_machine(
        await _actions(request).set_attached_device(request[CALLER], machine_id, body.attached_device)
    )


async def set_note(request: web.Request) -> web.Response:
    """Leave a note."""
    machine_id = machine_id_of(request)
    body = await read_ours(request, NoteBody, request.app[SETTINGS].max_body_bytes)
    return answer_machine(await _actions(request).set_note(request[CALLER], machine_id, body.message))


async def supply_dimensions(request: web.Request) -> web.Response:
    """Say where a ChromeOS device is, and what it cannot tell of itself."""
    machine_id = machine_id_of(request)
    body = await read_ours(request, SuppliedDimensionsBody, request.app[SETTINGS].max_body_bytes)
    machine = await _actions(request).supply_chromeos(
        request[CALLER], machine_id, ssh_user_ip=body.ssh_user_ip, dimensions={**body.dimensions}
    )
    return answer_machine(machine)


async def who_am_i(request: web.Request) -> web.Response:
    """Whom we take the caller for."""
    caller = request[CALLER]
    return answer_model(WhoAmI(user=caller.user, role=caller.role.value))


async def watch_fleet(request: web.Request) -> web.StreamResponse:
    """All machines and their changes."""
    return await request.app[STREAMS].watch_fleet(request, last_event_id_of(request))


async def watch_machine(request: web.Request) -> web.StreamResponse:
    """One machine and its changes."""
    return await request.app[STREAMS].watch_machine(
        request, machine_id_of(request), StreamKind.MACHINE, last_event_id_of(request)
    )


def last_event_id_of(request: web.Request) -> str:
    """Where a stream is to resume; empty: at the beginning."""
    return request.headers.get("Last-Event-ID") or request.query.get("last_event_id", "")


_AWAY: Final = (HTTPStatus.SERVICE_UNAVAILABLE,)
_MISSING: Final = (HTTPStatus.NOT_FOUND, *_AWAY)
_CHANGE: Final = (HTTPStatus.PRECONDITION_FAILED, *_MISSING)
_BAD_BODY: Final = (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNSUPPORTED_MEDIA_TYPE)


def _read(path: str, handler: Handler, access: Access, summary: str, answered: object, **more: Any) -> Route:
    """A route that changes nothing."""
    options = {"tag": "machines", "errors": _AWAY, **more}
    return Route(
        method="GET", path=path, handler=handler, access=access, summary=summary, answer=answered, **options
    )


def _stream(path: str, handler: Handler, access: Access, summary: str) -> Route:
    """A route that goes on for ever."""
    return _read(
        path, handler, access, summary, None, tag="streams", content_type="text/event-stream", stream=True
    )


def _change(method: str, path: str, handler: Handler, summary: str, body: type[Body] | None = None) -> Route:
    """A route for operators, which answers the machine as it is then."""
    return Route(
        method=method,
        path=ONE + path,
        handler=handler,
        access=Access.OPERATE,
        summary=summary,
        tag="operators",
        body=body,
        answer=Description,
        errors=_CHANGE if body is None else (*_CHANGE, *_BAD_BODY),
    )


ROUTES: Final = (
    _read(
        BASE,
        list_machines,
        Access.FLEET,
        "List machines, filtered and sorted, by pages",
        MachineList,
        query=ListParameters,
    ),
    _stream(
        BASE + "/watch",
        watch_fleet,
        Access.FLEET,
        "Stream all machines and then every change: events machine, deleted, reset and synced",
    ),
    _stream(
        ONE + "/watch",
        watch_machine,
        Access.MACHINE,
        "Stream one machine, which need not exist yet, and then its changes",
    ),
    _read(
        ONE,
        get_machine,
        Access.MACHINE,
        "Get a machine; its version is the ETag",
        Description,
        errors=_MISSING,
    ),
    Route(
        method="DELETE",
        path=ONE,
        handler=delete_machine,
        access=Access.OPERATE,
        summary="Delete a machine; its next event makes it anew",
        tag="operators",
        status=HTTPStatus.NO_CONTENT,
        errors=_CHANGE,
    ),
    _read(
        ONE + "/history",
        get_history,
        Access.MACHINE,
        "List what happened to a machine, newest first",
        HistoryPage,
        query=HistoryParameters,
    ),
    _change(
        "PUT",
        "/maintenance",
        begin_maintenance,
        "Take a machine into maintenance; one that is in maintenance stays as it is",
        MaintenanceBody,
    ),
    _change("DELETE", "/maintenance", acting(Actions.clear_maintenance), "End maintenance"),
    _change("DELETE", "/quarantine", acting(Actions.clear_quarantine), "End a forced quarantine"),
    _change(
        "PUT",
        "/attached-device",
        set_attached_device,
        "Tell the machine's monitor what to interrogate",
        AttachedDeviceBody,
    ),
    _change(
        "DELETE", "/device", acting(Actions.remove_device), "Forget all that is known of the attached device"
    ),
    _change("PUT", "/note", set_note, "Leave a note", NoteBody),
    _change("DELETE", "/note", acting(Actions.clear_note), "Take the note away"),
    _change(
        "PUT",
        "/supplied-dimensions",
        supply_dimensions,
        "Say where a ChromeOS device is, and what it cannot tell of itself",
        SuppliedDimensionsBody,
    ),
    _read(
        "/api/v1/whoami",
        who_am_i,
        Access.KNOWN,
        "Tell whom the server takes you for",
        WhoAmI,
        tag="session",
        errors=(),
    ),
)
