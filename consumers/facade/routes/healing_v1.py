"""What self-healing would do with a machine, and why: the watchdog's rules and code, asked on the spot."""

from __future__ import annotations

from dataclasses import replace
from http import HTTPStatus
from typing import Final

from aiohttp import web

from consumers.facade.answers import answer_model
from consumers.facade.auth import Access
from consumers.facade.bodies import machine_id_of
from consumers.facade.keys import CLOCK, HEALING_STORE, PROGRESS
from consumers.facade.routes.machines_v1 import ONE
from consumers.facade.routing import Route
from pipeline.errors import MachineNotFound
from pipeline.healing.decision import Explanation, explain
from pipeline.store.healing import PowerLedger, read_view, saved_rules
from pipeline.store.hearing import Deaf, hearing
from schemas.healing import HealingCheck, HealingExplanation


async def get_healing(request: web.Request) -> web.Response:
    """Explain."""
    machine_id = machine_id_of(request)
    store, now = request.app[HEALING_STORE], request.app[CLOCK].now()
    rules = await saved_rules(store)
    heard = hearing(await request.app[PROGRESS].progress(), now=now)
    view = await read_view(store, PowerLedger(), rules, now=now, also=[machine_id])
    view = replace(view, deaf=heard.why if isinstance(heard, Deaf) else "")
    if all(machine.id != machine_id for machine in view.machines):
        raise MachineNotFound(machine_id)
    return answer_model(_told(machine_id, explain(view, rules.policies, now, machine_id)))


def _told(machine_id: str, explanation: Explanation) -> HealingExplanation:
    decision = explanation.decision
    return HealingExplanation(
        machine_id=machine_id,
        state=decision.state,
        reason=decision.reason,
        would_cycle=decision.order is not None,
        checks=[
            HealingCheck(name=check.name, passed=check.passed, text=check.text)
            for check in explanation.checks
        ],
    )


ROUTES: Final = (
    Route(
        method="GET",
        path=ONE + "/healing",
        handler=get_healing,
        access=Access.MACHINE,
        summary="Explain what self-healing would do with a machine now, and why",
        tag="power",
        answer=HealingExplanation,
        errors=(HTTPStatus.NOT_FOUND,),
    ),
)
