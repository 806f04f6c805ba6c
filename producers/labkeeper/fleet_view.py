"""What a reader of the façade's stream knows of the fleet, and what each message of the stream says that is new. Pure.

After a reset the stream tells everything again. What the reader knew before is kept until then, so that a reconnect
shows the changes that were missed, and nothing twice.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pipeline.command import CommandFailed
from pipeline.processor.transition import Difference, differences
from pipeline.sse import ServerSentEvent
from producers.labkeeper.machine_view import id_of, read_machine
from schemas.description import Description


class NewsKind(StrEnum):
    """What a piece of news is about."""

    PRESENT = "present"
    """The machine was there when we came."""
    APPEARED = "appeared"
    CHANGED = "changed"
    HEARTBEAT = "heartbeat"
    """The machine was heard from, nothing else changed."""
    DELETED = "deleted"


@dataclass(frozen=True, slots=True)
class News:
    """Something new about a machine."""

    kind: NewsKind
    machine_id: str
    machine: Description
    """As it is now; as it was last known when it is deleted."""
    document: dict[str, Any]
    """The same as the façade sent it."""
    before: Description | None = None
    """As it was known before."""
    differences: tuple[Difference, ...] = ()


@dataclass(frozen=True, slots=True)
class _Known:
    machine: Description
    document: dict[str, Any]


class FleetView:
    """Follows the stream. With `only`, other machines are not looked at."""

    def __init__(self, only: Collection[str] = ()) -> None:
        self._only = frozenset(only)
        self._known: dict[str, _Known] = {}
        self._confirmed: set[str] | None = None
        """While everything is being told again: which machines were."""
        self.synced = False
        """Whether everything has been told at least once."""

    def __len__(self) -> int:
        return len(self._known)

    def apply(self, event: ServerSentEvent) -> Iterator[News]:
        """What the event says that is new. Unknown kinds of events say nothing."""
        match event.kind:
            case "reset":
                self._confirmed = set()
            case "machine":
                yield from self._machine(_parsed(event.data))
            case "deleted":
                yield from self._deleted(str(_parsed(event.data).get("id")))
            case "synced":
                yield from self._told_everything()
            case _:
                pass

    def _machine(self, document: dict[str, Any]) -> Iterator[News]:
        machine_id = id_of(document)
        if self._only and machine_id not in self._only:
            return
        before = self._known.get(machine_id)
        if self._confirmed is not None:
            self._confirmed.add(machine_id)
        if before is not None and before.document.get("RowVersion") == document.get("RowVersion"):
            return
        machine = read_machine(document)
        if (
            before is not None
            and self._confirmed is None
            and machine.row_version < before.machine.row_version
        ):
            return
        self._known[machine_id] = _Known(machine, document)
        yield self._compared(before, machine_id, machine, document)

    def _compared(
        self, before: _Known | None, machine_id: str, machine: Description, document: dict[str, Any]
    ) -> News:
        if before is None:
            kind = NewsKind.APPEARED if self.synced else NewsKind.PRESENT
            return News(kind, machine_id, machine, document)
        found = differences(before.machine, machine)
        kind = NewsKind.CHANGED if found else NewsKind.HEARTBEAT
        return News(kind, machine_id, machine, document, before.machine, found)

    def _deleted(self, machine_id: str) -> Iterator[News]:
        gone = self._known.pop(machine_id, None)
        if gone is not None:
            yield News(NewsKind.DELETED, machine_id, gone.machine, gone.document)

    def _told_everything(self) -> Iterator[News]:
        self.synced = True
        if self._confirmed is not None:
            missing = sorted(self._known.keys() - self._confirmed)
            self._confirmed = None
            for machine_id in missing:
                yield from self._deleted(machine_id)


def _parsed(data: str) -> dict[str, Any]:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise CommandFailed("the façade's stream holds something that is not JSON: check --url") from error
    if not isinstance(document, dict):
        raise CommandFailed("the façade's stream holds something that is no machine: check --url")
    return document
