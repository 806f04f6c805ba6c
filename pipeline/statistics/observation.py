"""What a message of `machine.changes` says, as far as the statistics care. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from pydantic import ValidationError

from pipeline.processor.pools import POOL_NOT_FOUND
from schemas import envelope
from schemas.changes import MachineChange
from schemas.description import Description
from schemas.health import FAULTS, Health, states_of
from schemas.ids import is_machine_id
from schemas.wire import explain

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class Observation:
    """What a change says about a machine."""

    machine_id: str
    version: int
    at: int
    """When the broker took it."""
    health: Health | None
    """The worst state; None: the machine was deleted."""
    is_faulty: bool
    """Whether any of its states is one that nobody wished for."""
    pool: str


def milliseconds(moment: datetime) -> int:
    """Since 1970."""
    return (moment - _EPOCH) // _MILLISECOND


def observed(key: str, value: bytes, headers: dict[str, str], at: int) -> Observation:
    """What the message says. Raises ValueError with the reason why it is no change."""
    if not value:
        version = headers.get(envelope.ROW_VERSION, "")
        if not (version.isascii() and version.isdigit() and is_machine_id(key)):
            raise ValueError("body: a deletion without a machine or a version")
        return Observation(key, int(version), at, None, is_faulty=False, pool="")
    try:
        change = MachineChange.model_validate_json(value)
    except ValidationError as error:
        raise ValueError(explain(error)) from error
    return standing(change.id, change.version, change.description, at)


def standing(machine_id: str, version: int, description: Description, at: int) -> Observation:
    """How a machine stands at this moment."""
    states = states_of(description)
    pools = description.dimension("pool")
    return Observation(
        machine_id=machine_id,
        version=version,
        at=at,
        health=states[0],
        is_faulty=not FAULTS.isdisjoint(states),
        pool=(pools and pools[0]) or POOL_NOT_FOUND,
    )
