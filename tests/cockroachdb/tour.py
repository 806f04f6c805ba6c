"""Calls everything that the SQL store can do, and writes down every word that goes to the database."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from itertools import product
from typing import Any, Final

import pytest

from pipeline.errors import MachineNotFound
from pipeline.processor.operators import toggle_mode
from pipeline.store.migrations import migrate, our_migrations, status
from pipeline.store.protocol import Checkpoint, Query, SortKey
from pipeline.store.schema import live_schema
from pipeline.store.sql import SqlStore
from schemas.description import Description, PowerCycleState
from schemas.health import Health
from schemas.ids import new_ulid
from schemas.power import ControllerReport, PowerAction, PowerCommand, PowerStatus, PowerStep
from schemas.silence import Silence
from tests.contract.stores import NOW, POOLS, filled, setting, unchanged
from tests.integration.cockroach_proxy.faults import CommitsLost, Fault, Peace
from tests.integration.cockroach_proxy.proxy import CockroachProxy

_LONG_AGO: Final = NOW - timedelta(days=100)
_toggled: Final = partial(toggle_mode, user='jo\'s \\ "id"', now=NOW)


@dataclass(frozen=True, slots=True)
class Tour:
    """What was said, and which methods were called for it."""

    statements: tuple[str, ...]
    """Each once, parameters filled in, those of the client library too."""
    methods: frozenset[str]


class _Noting:
    """A store that notes which of its methods are called."""

    def __init__(self, store: SqlStore) -> None:
        self._store = store
        self.called: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        self.called.add(name)
        return getattr(self._store, name)


async def tour(url: str) -> Tour:
    """Through an empty PostgreSQL database."""
    peace = Peace()
    called: set[str] = set()
    with CockroachProxy.in_front_of(url, peace) as proxy:
        status(proxy.dsn)
        migrate(proxy.dsn)
        status(proxy.dsn)
        live_schema(proxy.dsn)
        for remembered_rows in (0, 100):  # rows are read anew, or only looked at
            store = _Noting(SqlStore(proxy.dsn, pools=POOLS, remembered_rows=remembered_rows))
            proxy.plan = CommitsLost(
                Fault.RESET_AFTER, then=peace
            )  # the ledger has to tell what became of it
            await store.update("skia-lost", _toggled, now=NOW, create=True)
            await _machines(store)
            await _questions(store)
            await _power(store)
            await _services(store)
            store.hurry()
            await store.close()
            called |= store.called
    said = [each.text for each in peace.seen if not each.is_connect]
    migrations = [statement for each in our_migrations() for statement in (each.sql, *each.statements)]
    return Tour(tuple(dict.fromkeys([*said, *migrations])), frozenset(called))


async def _machines(store: Any) -> None:
    await store.update_many(
        {"skia-1": [lambda _: filled("skia-1")], "skia-2": [setting(battery=1)]}, now=_LONG_AGO
    )
    await store.update_many({"skia-1": [setting(battery=2)], "skia-2": [unchanged]}, now=NOW)
    await store.update_many(
        {"skia-1": [_toggled], "skia-2": [setting(battery=3)], "skia-3": [_toggled]}, now=NOW
    )
    await store.update("skia-1", _toggled, now=NOW, who="jo's", why="50 % \\ {}")
    with pytest.raises(MachineNotFound):
        await store.update("skia-9", _toggled, now=NOW)
    assert await store.delete("skia-3", now=NOW, who="jo")
    assert not await store.delete("skia-3", now=NOW, who="jo")
    await store.update_many({"skia-3": [lambda _: Description()]}, now=NOW)


async def _questions(store: Any) -> None:
    await store.get("skia-1")
    filters: Mapping[str, Any] = {"dimensions": {"os": 'And"roid', "x": "'%s"}, "text": "some wörds 50%"}
    for sort, descending, some in product(SortKey, (False, True), (False, True)):
        query = Query(sort=sort, descending=descending, **(filters if some else {}))
        await store.list(query)
        page = await store.list(query, limit=1)
        if page.next_cursor is not None:
            await store.list(query, limit=1, cursor=page.next_cursor)
    for health in Health:
        await store.list(Query(health=[health], attached_device="adb"))
    await store.list_powercycle()
    await store.free_machines("Skia")
    await store.silent_machines(since=NOW)
    newest = (await store.history("skia-1"))[0]
    await store.history("skia-1", before=newest.id)
    await store.forget_history(before=NOW)
    await store.check()


async def _power(store: Any) -> None:
    await store.update_many({"skia-power": [setting(power_cycle_state="available")]}, now=NOW)
    wish = PowerCommand(
        id=new_ulid(),
        machine_id="skia-power",
        action=PowerAction.CYCLE,
        who='jo\'s \\ "id"',
        requested_at=NOW,
        expires_at=NOW,
    )
    await store.order_power(wish, now=NOW, idempotency_key="k'" + wish.id)
    done = PowerStep(
        command_id=wish.id, machine_id="skia-power", status=PowerStatus.DONE, at=NOW, agent="a", text="x'"
    )
    late = done.model_copy(update={"status": PowerStatus.ACCEPTED})
    report = ControllerReport(
        machine_id="skia-power",
        state=PowerCycleState.AVAILABLE,
        agent="a",
        controller="fake/x",
        port="1",
        at=NOW,
    )
    await store.apply_power([done, report], now=NOW, announce=True)
    await store.apply_power([late], now=NOW)
    again = wish.model_copy(update={"id": new_ulid()})
    await store.order_power(again, now=NOW)
    await store.cancel_power("skia-power", now=NOW, who="jo")
    await store.order_power(wish.model_copy(update={"id": new_ulid()}), now=NOW)
    await store.expire_power(now=NOW, grace=timedelta(0), stalled=timedelta(0))
    await store.power_command(wish.id)
    await store.power_commands(machine_id="skia-power", pending=False, since=NOW, before=again.id)
    await store.power_commands()
    await store.power_outlets()
    await store.power_outlets(["skia-power"])
    await store.forget_power(before=NOW)
    silence = Silence(owner="jo", reason="it's \\", starts_at=NOW, ends_at=NOW + timedelta(days=1))
    await store.add_silence(silence)
    await store.silences()
    await store.silences(now=NOW)
    await store.end_silence(silence.id, now=NOW)


async def _services(store: Any) -> None:
    await store.remove(await store.take(limit=10))
    await store.record("writer", {"0": NOW, 'b"\\': NOW}, now=NOW)
    await store.progress()
    assert await store.acquire("relay", "me", seconds=1.5)
    await store.release("relay", "me")
    await store.save_checkpoint("fleet", Checkpoint(1, b"\x00\xff'\\"), owner="me")
    await store.checkpoint("fleet")
