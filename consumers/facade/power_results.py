"""Takes agents' results over HTTP, checks each, and hands them to the broker."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

import orjson
from pydantic import ValidationError

from consumers.facade.audit import audited
from consumers.facade.errors import Refusal, forbidden, invalid, refusal_of
from consumers.facade.tokens import Caller, Role
from pipeline.broker.protocol import Broker, Outgoing
from schemas import envelope
from schemas.api import MOST_RESULTS, FieldError
from schemas.power import PowerResult, PowerStatus, PowerStep, read_result
from schemas.topics import POWER_RESULTS

_LARGE: Final = 1 << 16
"""Lists from here on are checked on a thread."""


class PowerResults:
    """Where results come in."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def take(self, body: bytes, caller: Caller) -> int:
        """Return how many there were, once the broker has them safe. All or none are taken.

        Raises `Refusal` naming the field, and `BrokerUnavailable`.
        """
        results = read_results(body) if len(body) < _LARGE else await asyncio.to_thread(read_results, body)
        for each in results:
            if caller.role is Role.AGENT and each.agent != caller.user:
                raise forbidden(f"the token of agent {caller.user} is good for that agent only")
        with audited("power-results", caller, results=len(results)):
            await self._broker.publish([_message(each) for each in results])
        return len(results)


def _message(result: PowerResult) -> Outgoing:
    return Outgoing(
        POWER_RESULTS,
        result.machine_id,
        result.model_dump_json().encode(),
        envelope.metadata(envelope.POWER_RESULT_TYPE, "/facade"),
    )


def read_results(body: bytes) -> Sequence[PowerResult]:
    """The results in a JSON list. Raises `Refusal` naming the field, such as `3.status`."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise invalid("body", f"not JSON: {error.msg} at line {error.lineno} column {error.colno}") from None
    if not isinstance(document, list):
        raise invalid("body", "expected a list of results")
    if len(document) > MOST_RESULTS:
        raise invalid("body", f"more than {MOST_RESULTS} results: send them in several requests")
    return [_read(number, each) for number, each in enumerate(document)]


def _read(number: int, document: object) -> PowerResult:
    try:
        result = read_result(orjson.dumps(document))
    except ValidationError as error:
        raise _located(number, refusal_of(error)) from None
    if isinstance(result, PowerStep):
        _check(number, result)
    return result


def _located(number: int, refusal: Refusal) -> Refusal:
    errors = [FieldError(field=f"{number}.{each.field}", message=each.message) for each in refusal.errors]
    text = "; ".join(f"{each.field}: {each.message}" for each in errors)
    return Refusal(refusal.status, text, errors=errors)


def _check(number: int, step: PowerStep) -> None:
    if step.status is PowerStatus.QUEUED:
        raise invalid(f"{number}.status", "a command is queued by whoever orders it, not by an agent")
    command = step.command
    if command is not None and (command.id, command.machine_id) != (step.command_id, step.machine_id):
        raise invalid(f"{number}.command", "is another command, or another machine's")
