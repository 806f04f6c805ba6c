"""The old power routes, on the same rows as the new ones: the machine server's, and those of the power system before it.

Deliberate differences: a cycle that can only fail is refused (409, with the reason), a wish that an agent has begun cannot be
withdrawn, and `powercycle/list` leaves out what another agent has begun or what has expired, for nobody may cycle it twice.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from aiohttp import web

from consumers.facade.answers import answer, answer_model
from consumers.facade.audit import LONGEST_LOGGED
from consumers.facade.auth import CALLER, Access
from consumers.facade.down_bots import find_down_bots
from consumers.facade.keys import ACTIONS, CLOCK, POWER, POWERED_STORE, SILENCES
from consumers.facade.routes.legacy import (
    MACHINE,
    NAMED,
    READ_FAILED,
    UPDATE_FAILED,
    failing_with,
    named_machine,
    old_get,
    old_post,
    read_old,
)
from pipeline import logs
from pipeline.errors import MachineNotFound
from schemas.api import DownBots, PoweredBotsRequest, UpdatePowerCycleStateRequest
from schemas.description import PowerCycleState
from schemas.ids import is_machine_id

log = logs.get_logger()


@failing_with(UPDATE_FAILED)
async def toggle_powercycle(request: web.Request) -> web.Response:
    """Ask for a power cycle, or withdraw the wish."""
    await request.app[POWER].toggle(request[CALLER], named_machine(request))
    return web.Response()


@failing_with(UPDATE_FAILED)
async def powercycle_complete(request: web.Request) -> web.Response:
    """Take note that the power has been cycled."""
    await request.app[POWER].complete(request[CALLER], named_machine(request))
    return web.Response()


@failing_with(UPDATE_FAILED)
async def powercycle_state_update(request: web.Request) -> web.Response:
    """Take note of which machines some power controller can cycle. Malformed ones are skipped; unknown ones count once they appear."""
    body = await read_old(request, UpdatePowerCycleStateRequest)
    states: dict[str, PowerCycleState] = {}
    for each in body.machines or ():
        if not is_machine_id(each.machine_id):
            log.info("malformed_machine_id_skipped", machine=each.machine_id[:LONGEST_LOGGED])
            continue
        states[each.machine_id] = each.powercycle_state
        try:
            await request.app[ACTIONS].set_power_cycle_state(
                request[CALLER], each.machine_id, each.powercycle_state
            )
        except MachineNotFound:
            log.info("unknown_machine_skipped", machine=each.machine_id)
    await request.app[POWER].note_older_agents(request[CALLER], states)
    return web.Response()


@failing_with(READ_FAILED)
async def powercycle_list(request: web.Request) -> web.Response:
    """Ids of the machines whose power cycle is wanted."""
    ids = await request.app[POWER].wanted_cycles()
    return answer(b"[%b]" % b",".join([b'"%b"' % machine_id.encode() for machine_id in ids]))


@failing_with(READ_FAILED)
async def down_bots(request: web.Request) -> web.Response:
    """Machines that should be cycled."""
    app = request.app
    return answer_model(
        DownBots(bots=list(await find_down_bots(app[POWERED_STORE], app[SILENCES], app[CLOCK].now())))
    )


@failing_with(UPDATE_FAILED)
async def powercycled_bots(request: web.Request) -> web.Response:
    """Take note of what somebody has cycled without asking."""
    body = await read_old(request, PoweredBotsRequest)
    await request.app[POWER].note_cycled(request[CALLER], body.powercycled_bots)
    return web.Response(status=HTTPStatus.ACCEPTED)


_OLDER: Final = "older power system"

ROUTES: Final = (
    old_post(
        MACHINE + "toggle_powercycle" + NAMED,
        toggle_powercycle,
        "Ask for a power cycle, or withdraw the wish",
        Access.OPERATE,
        errors=(HTTPStatus.CONFLICT,),
    ),
    old_post(
        "/json/v1/powercycle/complete" + NAMED,
        powercycle_complete,
        "Tell that the power has been cycled",
        Access.POWER,
    ),
    old_post(
        "/json/v1/powercycle/state/update",
        powercycle_state_update,
        "Tell which machines some power controller can cycle",
        Access.POWER,
        UpdatePowerCycleStateRequest,
    ),
    old_get(
        "/json/v1/powercycle/list",
        powercycle_list,
        "List the machines whose power cycle is wanted",
        Access.FLEET,
        list[str],
    ),
    old_get(
        "/down_bots",
        down_bots,
        "List the machines whose power should be cycled",
        Access.POWER,
        DownBots,
        tag=_OLDER,
    ),
    old_post(
        "/powercycled_bots",
        powercycled_bots,
        "Tell whose power somebody has cycled",
        Access.POWER,
        PoweredBotsRequest,
        tag=_OLDER,
        status=HTTPStatus.ACCEPTED,
    ),
)
