"""Power commands page by page, for whoever wants all of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Final

from pipeline.store.power_protocol import PowerStore
from schemas.power import PowerRecord

_PAGE: Final = 500


async def every_command(
    store: PowerStore, *, since: datetime | None = None, pending: bool | None = None
) -> AsyncIterator[PowerRecord]:
    """Commands that meet the conditions of `PowerStore.power_commands`, newest first. Raises `StoreUnavailable`."""
    before: str | None = None
    while True:
        page = await store.power_commands(since=since, pending=pending, limit=_PAGE, before=before)
        for record in page:
            yield record
        if len(page) < _PAGE:
            return
        before = page[-1].command.id
