"""Where the plain loop begins that has never been here: with the machines that the database knows.

A broker keeps changes for some days only. A machine that has not changed since, such as one in maintenance, would be missing.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Final, Protocol

from pipeline.clock import Clock
from pipeline.mandate import Mandate, MandateStore
from pipeline.service import persist
from pipeline.statistics.ledger import Ledger
from pipeline.statistics.observation import milliseconds, standing
from pipeline.statistics.tally import Rules
from pipeline.store.protocol import Page, Query

_PAGE: Final = 1000


class FleetStore(MandateStore, Protocol):
    """Knows the machines, too."""

    async def list(
        self, query: Query = Query(), *, limit: int | None = None, cursor: str | None = None
    ) -> Page:
        """See `Store`."""
        ...


async def first_ledger(
    store: FleetStore, mandate: Mandate, rules: Rules, clock: Clock, stop: asyncio.Event
) -> Ledger:
    """All machines, in their states of this moment. Raises `Overtaken` and `Abandoned`.

    Versions tell which changes in the topic are older than that.
    """
    ledger = Ledger.beginning(rules, at=milliseconds(clock.now()))
    before = ledger.floor - 1  # how things stand, not something that happened in the first window
    cursor = None
    while True:
        read = partial(store.list, Query(), limit=_PAGE, cursor=cursor)
        page = await persist(read, "store_unavailable", stop)
        for machine in page.machines:
            ledger.apply(standing(machine.dimension("id")[0], machine.row_version, machine, before))
        cursor = page.next_cursor
        if cursor is None:
            return ledger
        await persist(mandate.renew, "store_unavailable", stop)
