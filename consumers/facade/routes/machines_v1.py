"""Machines, under /api/v1."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from aiohttp import web

from consumers.facade.answers import answer, answer_machine, answer_model, etag, listed
from consumers.facade.auth import CALLER, Access
from consumers.facade.bodies import machine_id_of, query_of, read_ours
from consumers.facade.errors import invalid
from consumers.facade.keys import ACTIONS, SETTINGS, STORE, STREAMS
from consumers.facade.routing import Route
from consumers.facade.sse import StreamKind
from pipeline.store.protocol import Health, Query, SortKey
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


async def delete_machine(request: web.Request) -> web.Response:
    """Delete a machine."""
    await request.app[ACTIONS].delete(request[CALLER], machine_id_of(request))
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
    machine = await request.app[ACTIONS].set_maintenance(request[CALLER], machine_id, reason=body.reason)
    return answer_machine(machine)


async def end_maintenance(request: web.Request) -> web.Response:
    """End maintenance."""
    return answer_machine(
        await request.app[ACTIONS].clear_maintenance(request[CALLER], machine_id_of(request))
    )


async def clear_quarantine(request: web.Request) -> web.Response:
    """End a forced quarantine."""
    return answer_machine(
        await request.app[ACTIONS].clear_quarantine(request[CALLER], machine_id_of(request))
    )


async def set_attached_device(request: web.Request) -> web.Response:
    """Tell the monitor what to interrogate."""
    machine_id = machine_id_of(request)
    body = await read_ours(request, AttachedDeviceBody, request.app[SETTINGS].max_body_bytes)
    return answer_machine(
        await request.app[ACTIONS].set_attached_device(request[CALLER], machine_id, body.attached_device)
    )


async def remove_device(request: web.Request) -> web.Response:
    """Forget the attached device."""
    return answer_machine(await request.app[ACTIONS].remove_device(request[CALLER], machine_id_of(request)))


async def set_note(request: web.Request) -> web.Response:
    """Leave a note."""
    machine_id = machine_id_of(request)
    body = await read_ours(request, NoteBody, request.app[SETTINGS].max_body_bytes)
    return answer_machine(await request.app[ACTIONS].set_note(request[CALLER], machine_id, body.message))


async def clear_note(request: web.Request) -> web.Response:
    """Take the note away."""
    return answer_machine(await request.app[ACTIONS].set_note(request[CALLER], machine_id_of(request), ""))


async def supply_dimensions(request: web.Request) -> web.Response:
    """Say where a ChromeOS device is, and what it cannot tell of itself."""
    machine_id = machine_id_of(request)
    body = await read_ours(request, SuppliedDimensionsBody, request.app[SETTINGS].max_body_bytes)
    machine = await request.app[ACTIONS].supply_chromeos(
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


_MISSING: Final = (HTTPStatus.NOT_FOUND, HTTPStatus.SERVICE_UNAVAILABLE)
_MISSING_OR_BAD: Final = (
    HTTPStatus.NOT_FOUND,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    HTTPStatus.SERVICE_UNAVAILABLE,
)
_AWAY: Final = (HTTPStatus.SERVICE_UNAVAILABLE,)
_STREAM: Final = "text/event-stream"

ROUTES: Final = (
    Route(
        method="GET",
        path=BASE,
        handler=list_machines,
        access=Access.FLEET,
        summary="List machines, filtered and sorted, by pages",
        tag="machines",
        query=ListParameters,
        answer=MachineList,
        errors=_AWAY,
    ),
    Route(
        method="GET",
        path=BASE + "/watch",
        handler=watch_fleet,
        access=Access.FLEET,
        summary="Stream all machines and then every change: events machine, deleted, reset and synced",
        tag="streams",
        content_type=_STREAM,
        errors=_AWAY,
        stream=True,
    ),
    Route(
        method="GET",
        path=ONE + "/watch",
        handler=watch_machine,
        access=Access.MACHINE,
        summary="Stream one machine, which need not exist yet, and then its changes",
        tag="streams",
        content_type=_STREAM,
        errors=_AWAY,
        stream=True,
    ),
    Route(
        method="GET",
        path=ONE,
        handler=get_machine,
        access=Access.MACHINE,
        summary="Get a machine; its version is the ETag",
        tag="machines",
        answer=Description,
        errors=_MISSING,
    ),
    Route(
        method="DELETE",
        path=ONE,
        handler=delete_machine,
        access=Access.OPERATE,
        summary="Delete a machine; its next event makes it anew",
        tag="machines",
        status=HTTPStatus.NO_CONTENT,
        errors=_MISSING,
    ),
    Route(
        method="GET",
        path=ONE + "/history",
        handler=get_history,
        access=Access.MACHINE,
        summary="List what happened to a machine, newest first",
        tag="machines",
        query=HistoryParameters,
        answer=HistoryPage,
        errors=_AWAY,
    ),
    Route(
        method="PUT",
        path=ONE + "/maintenance",
        handler=begin_maintenance,
        access=Access.OPERATE,
        summary="Take a machine into maintenance; one that is in maintenance stays as it is",
        tag="operators",
        body=MaintenanceBody,
        answer=Description,
        errors=_MISSING_OR_BAD,
    ),
    Route(
        method="DELETE",
        path=ONE + "/maintenance",
        handler=end_maintenance,
        access=Access.OPERATE,
        summary="End maintenance",
        tag="operators",
        answer=Description,
        errors=_MISSING,
    ),
    Route(
        method="DELETE",
        path=ONE + "/quarantine",
        handler=clear_quarantine,
        access=Access.OPERATE,
        summary="End a forced quarantine",
        tag="operators",
        answer=Description,
        errors=_MISSING,
    ),
    Route(
        method="PUT",
        path=ONE + "/attached-device",
        handler=set_attached_device,
        access=Access.OPERATE,
        summary="Tell the machine's monitor what to interrogate",
        tag="operators",
        body=AttachedDeviceBody,
        answer=Description,
        errors=_MISSING_OR_BAD,
    ),
    Route(
        method="DELETE",
        path=ONE + "/device",
        handler=remove_device,
        access=Access.OPERATE,
        summary="Forget all that is known of the attached device",
        tag="operators",
        answer=Description,
        errors=_MISSING,
    ),
    Route(
        method="PUT",
        path=ONE + "/note",
        handler=set_note,
        access=Access.OPERATE,
        summary="Leave a note",
        tag="operators",
        body=NoteBody,
        answer=Description,
        errors=_MISSING_OR_BAD,
    ),
    Route(
        method="DELETE",
        path=ONE + "/note",
        handler=clear_note,
        access=Access.OPERATE,
        summary="Take the note away",
        tag="operators",
        answer=Description,
        errors=_MISSING,
    ),
    Route(
        method="PUT",
        path=ONE + "/supplied-dimensions",
        handler=supply_dimensions,
        access=Access.OPERATE,
        summary="Say where a ChromeOS device is, and what it cannot tell of itself",
        tag="operators",
        body=SuppliedDimensionsBody,
        answer=Description,
        errors=_MISSING_OR_BAD,
    ),
    Route(
        method="GET",
        path="/api/v1/whoami",
        handler=who_am_i,
        access=Access.KNOWN,
        summary="Tell whom the server takes you for",
        tag="session",
        answer=WhoAmI,
    ),
)
