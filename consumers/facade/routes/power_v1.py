"""Power, under /api/v1: commands for people, and for agents what they need where they cannot reach the broker."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Final

from aiohttp import web

from consumers.facade.answers import answer_model
from consumers.facade.auth import CALLER, Access
from consumers.facade.bodies import machine_id_of, query_of, read_body, read_ours, require_json
from consumers.facade.errors import Refusal, forbidden, invalid
from consumers.facade.keys import CLOCK, LEASES, POWER, POWER_RESULTS, POWER_WATCH, POWERED_STORE, SETTINGS
from consumers.facade.preconditions import expected_versions, idempotency_key_of
from consumers.facade.routes.machines_v1 import ONE
from consumers.facade.routing import Handler, Route
from consumers.facade.tokens import Role
from schemas.api import (
    LeaseBody,
    LeaseState,
    PowerBody,
    PowerCommandPage,
    PowerNow,
    PowerOutletList,
    PowerParameters,
    ResultsTaken,
)
from schemas.ids import is_caller_name
from schemas.power import PowerRecord, PowerResult, agent_lease

BASE: Final = "/api/v1/power"


# --- people ------------------------------------------------------------------------------------------------------------
async def order(request: web.Request) -> web.Response:
    """Queue a command, or answer the one that there is."""
    machine_id = machine_id_of(request)
    key = idempotency_key_of(request)
    wish = await read_ours(request, PowerBody, request.app[SETTINGS].max_body_bytes)
    ordered = await request.app[POWER].order(
        request[CALLER], machine_id, wish, idempotency_key=key, versions=expected_versions(request)
    )
    if not ordered.is_new:
        return answer_model(ordered.record)
    headers = {"Location": f"{BASE}/commands/{ordered.record.command.id}"}
    return answer_model(ordered.record, status=HTTPStatus.ACCEPTED, headers=headers)


async def get_power(request: web.Request) -> web.Response:
    """Where the power comes from, and the latest command. A machine may have an outlet before it reports."""
    machine_id = machine_id_of(request)
    store = request.app[POWERED_STORE]
    records = await store.power_commands(machine_id=machine_id, limit=1)
    outlets = await store.power_outlets([machine_id])
    if not records and not outlets:
        await store.get(machine_id)  # raises when nobody knows it at all
    outlet = outlets[0] if outlets else None
    silence = None if outlet is None else outlet.agent_silence(request.app[CLOCK].now())
    return answer_model(
        PowerNow(
            record=records[0] if records else None,
            outlet=outlet,
            agent_silent_s=None if silence is None else silence.total_seconds(),
        )
    )


async def cancel(request: web.Request) -> web.Response:
    """Withdraw the command that waits."""
    record = await request.app[POWER].cancel(
        request[CALLER], machine_id_of(request), versions=expected_versions(request)
    )
    return web.Response(status=HTTPStatus.NO_CONTENT) if record is None else answer_model(record)


async def list_commands(request: web.Request) -> web.Response:
    """A page of commands."""
    parameters = query_of(request, PowerParameters)
    commands = list(
        await request.app[POWERED_STORE].power_commands(
            machine_id=parameters.machine,
            pending=None if parameters.state is None else parameters.state == "pending",
            limit=parameters.limit,
            before=parameters.before,
        )
    )
    more = len(commands) == parameters.limit
    return answer_model(
        PowerCommandPage(commands=commands, next_before=commands[-1].command.id if more else None)
    )


async def get_command(request: web.Request) -> web.Response:
    """One command."""
    record = await request.app[POWERED_STORE].power_command(request.match_info["command"])
    if record is None:
        raise Refusal(HTTPStatus.NOT_FOUND, "there is no such power command; old ones are forgotten")
    return answer_model(record)


async def list_outlets(request: web.Request) -> web.Response:
    """All outlets."""
    return answer_model(PowerOutletList(outlets=list(await request.app[POWERED_STORE].power_outlets())))


# --- agents ------------------------------------------------------------------------------------------------------------
async def watch(request: web.Request) -> web.StreamResponse:
    """Commands as they come."""
    return await request.app[POWER_WATCH].watch(request)


async def take_results(request: web.Request) -> web.Response:
    """Results of an agent."""
    require_json(request)
    body = await read_body(request, request.app[SETTINGS].max_results_bytes)
    taken = await request.app[POWER_RESULTS].take(body, request[CALLER])
    return answer_model(ResultsTaken(taken=taken), status=HTTPStatus.ACCEPTED)


async def take_lease(request: web.Request) -> web.Response:
    """Become, or remain, the one process that is this agent."""
    name = _agent_of(request)
    body = await read_ours(request, LeaseBody, request.app[SETTINGS].max_body_bytes)
    held = await request.app[LEASES].acquire(agent_lease(name), body.owner, seconds=body.seconds)
    return answer_model(LeaseState(held=held))


async def give_up_lease(request: web.Request) -> web.Response:
    """Let another process be this agent."""
    name = _agent_of(request)
    body = await read_ours(request, LeaseBody, request.app[SETTINGS].max_body_bytes)
    await request.app[LEASES].release(agent_lease(name), body.owner)
    return answer_model(LeaseState(held=False))


def _agent_of(request: web.Request) -> str:
    name = request.match_info["name"]
    if not is_caller_name(name):
        raise invalid("name", "an agent has a name like a token's: letters, digits and . _ @ + -, up to 128")
    caller = request[CALLER]
    if caller.role is Role.AGENT and caller.user != name:
        raise forbidden(f"the token of agent {caller.user} is good for that agent only")
    return name


_AWAY: Final = (HTTPStatus.SERVICE_UNAVAILABLE,)
_BAD_BODY: Final = (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
_CHANGE: Final = (
    HTTPStatus.NOT_FOUND,
    HTTPStatus.CONFLICT,
    HTTPStatus.PRECONDITION_FAILED,
    *_AWAY,
)


def _order(method: str) -> Route:
    return Route(
        method=method,
        path=ONE + "/power",
        handler=order,
        access=Access.OPERATE,
        summary="Cycle a machine's power, or switch it on or off; while one command is pending, no other is made",
        tag="power",
        body=PowerBody,
        answer=PowerRecord,
        status=HTTPStatus.ACCEPTED,
        also=HTTPStatus.OK,
        idempotent=True,
        errors=(*_CHANGE, *_BAD_BODY),
    )


def _get(path: str, handler: Handler, summary: str, answered: object, **more: Any) -> Route:
    options = {"access": Access.FLEET, "errors": _AWAY, **more}
    return Route(
        method="GET", path=path, handler=handler, summary=summary, tag="power", answer=answered, **options
    )


def _for_agents(method: str, path: str, handler: Handler, summary: str, body: Any, **more: Any) -> Route:
    return Route(
        method=method,
        path=BASE + path,
        handler=handler,
        access=Access.POWER,
        summary=summary,
        tag="power agents",
        body=body,
        errors=(*_AWAY, *_BAD_BODY),
        **more,
    )


ROUTES: Final = (
    _order("PUT"),
    _order("POST"),
    _get(
        ONE + "/power",
        get_power,
        "Tell where a machine's power comes from, and what became of the latest command",
        PowerNow,
        access=Access.MACHINE,
        errors=(HTTPStatus.NOT_FOUND, *_AWAY),
    ),
    Route(
        method="DELETE",
        path=ONE + "/power",
        handler=cancel,
        access=Access.OPERATE,
        summary="Withdraw the command that waits; once an agent has begun it is too late",
        tag="power",
        answer=PowerRecord,
        also=HTTPStatus.NO_CONTENT,
        errors=_CHANGE,
    ),
    _get(
        BASE + "/commands",
        list_commands,
        "List power commands and what became of them, newest first",
        PowerCommandPage,
        query=PowerParameters,
    ),
    _get(
        BASE + "/commands/{command}",
        get_command,
        "Get a power command",
        PowerRecord,
        errors=(HTTPStatus.NOT_FOUND, *_AWAY),
    ),
    _get(BASE + "/outlets", list_outlets, "List where the power of each machine comes from", PowerOutletList),
    _get(
        BASE + "/watch",
        watch,
        "Stream power commands from now on, events `command`: then ask for what is pending, and miss none",
        None,
        access=Access.POWER,
        content_type="text/event-stream",
        stream=True,
        resumes=False,
    ),
    _for_agents(
        "POST",
        "/results",
        take_results,
        "Tell what became of commands, and which controllers answer",
        list[PowerResult],
        answer=ResultsTaken,
        status=HTTPStatus.ACCEPTED,
    ),
    _for_agents(
        "PUT",
        "/leases/{name}",
        take_lease,
        "Become, or remain, the one process that is this agent",
        LeaseBody,
        answer=LeaseState,
    ),
    _for_agents(
        "DELETE",
        "/leases/{name}",
        give_up_lease,
        "Let another process be this agent",
        LeaseBody,
        answer=LeaseState,
    ),
)
