"""The façade's view of the machines."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from typing import Any

import pytest

from consumers.facade.fleet import Fleet, Snapshot, read_change
from consumers.facade.settings import FacadeSettings
from pipeline.broker.memory import MemoryBroker
from pipeline.broker.protocol import Received, Subscription
from pipeline.errors import BrokerUnavailable, StoreUnavailable
from pipeline.store.memory import MemoryStore
from pipeline.store.protocol import Page, Updated
from schemas.changes import ChangeKind, MachineChange, change_json
from schemas.description import Description
from schemas.topics import MACHINE_CHANGES
from tests.unit.consumers.facade.broken import AwayStore
from tests.unit.consumers.facade.lab import NOW, changing, until

MACHINE = Description.new("m", now=NOW).model_copy(update={"row_version": 7, "recovering": "<>&"})


def received(value: bytes, **headers: str) -> Received:
    return Received(MACHINE_CHANGES, 0, 1, "m", value, headers, datetime(2026, 1, 1, tzinfo=UTC))


def snapshot(version: int, json: bytes = b"{}", machine_id: str = "m") -> Snapshot:
    return Snapshot(machine_id, version, json)


def test_a_change_is_read_as_the_writer_spells_it() -> None:
    value = change_json("m", [ChangeKind.MODE, ChangeKind.NOTE], 'a"b\\,"description":{', MACHINE)
    assert read_change(received(value)) == Snapshot.of("m", MACHINE)


def test_a_change_is_read_however_it_is_spelled() -> None:
    change = MachineChange(id="m", version=7, kinds=[ChangeKind.MODE], who="x", description=MACHINE)
    spelled = change.model_dump_json(indent=2).encode()
    assert read_change(received(spelled)) == Snapshot.of("m", MACHINE)


def test_an_empty_change_is_a_deletion() -> None:
    assert read_change(received(b"", labkeeper_version="8")) == snapshot(8, b"")


@pytest.mark.parametrize("version", ["", "x", "-1", "²", "1.5"])
def test_a_deletion_without_a_version_is_none(version: str) -> None:
    assert read_change(received(b"", labkeeper_version=version)) is None


def test_the_higher_version_wins_whatever_the_order() -> None:
    fleet = Fleet(FacadeSettings())
    fleet.take([snapshot(2, b"two"), snapshot(1, b"one"), snapshot(2, b"again")])
    assert fleet.get("m") == snapshot(2, b"two")
    assert fleet.position == 1


def test_a_change_from_before_a_deletion_does_not_bring_the_machine_back() -> None:
    fleet = Fleet(FacadeSettings())
    fleet.take([snapshot(1), snapshot(3, b""), snapshot(2)])
    assert fleet.get("m") is None
    fleet.take([snapshot(4)])
    assert fleet.get("m") == snapshot(4)
    fleet.take([snapshot(3, b"")])
    assert fleet.get("m") == snapshot(4)


def test_a_deletion_of_a_machine_not_known_yet_counts_as_well() -> None:
    fleet = Fleet(FacadeSettings())
    heard: list[Any] = []
    fleet.listen(heard.extend)
    fleet.take([snapshot(3, b""), snapshot(2)])
    assert fleet.get("m") is None
    assert heard == []


def test_the_log_is_bounded_by_number_and_by_bytes() -> None:
    fleet = Fleet(FacadeSettings(change_log_length=5, change_log_bytes=30))
    fleet.take([snapshot(version, b"x") for version in range(1, 11)])
    assert fleet.since(4, 1000) is None
    assert [change.position for change in fleet.since(5, 1000) or ()] == [6, 7, 8, 9, 10]
    fleet.take([snapshot(version, b"x" * 10) for version in range(11, 15)])
    assert [change.machine.version for change in fleet.since(11, 1000) or ()] == [12, 13, 14]
    assert fleet.since(14, 1000) == []
    assert fleet.since(15, 1000) is None


def test_changes_are_read_from_the_log_in_pieces() -> None:
    fleet = Fleet(FacadeSettings())
    fleet.take([snapshot(version, b"x" * 10) for version in range(1, 11)])
    piece = fleet.since(2, 25) or ()
    assert [change.position for change in piece] == [3, 4, 5]


@contextlib.asynccontextmanager
async def following(fleet: Fleet, store: MemoryStore, broker: MemoryBroker) -> AsyncIterator[None]:
    stop = asyncio.Event()
    task = asyncio.create_task(fleet.run(store, broker, stop))
    try:
        yield
    finally:
        stop.set()
        await asyncio.wait_for(task, 10)


async def test_what_changes_while_the_store_is_read_is_not_lost() -> None:
    broker = MemoryBroker()

    class ChangesMeanwhile(MemoryStore):
        async def list(self, *arguments: Any, **options: Any) -> Page:
            page = await super().list(*arguments, **options)
            for machine_id in ("m", "new"):  # behind the back of the page that is on its way
                await self.update(machine_id, changing(battery=9), now=NOW, create=True)
            await self.delete("gone", now=NOW, who="x")
            await broker.publish([row.message for row in await self.take(limit=100)])
            return page

    store, fleet = ChangesMeanwhile(), Fleet(FacadeSettings())
    for machine_id in ("m", "gone"):
        await store.update(machine_id, changing(battery=1), now=NOW, create=True)
    async with following(fleet, store, broker):
        await until(
            lambda: fleet.loaded.is_set() and fleet.get("new") is not None and fleet.get("gone") is None
        )
        await until(lambda: b'"Battery":9' in (fleet.get("m") or snapshot(0)).json)


async def test_a_store_that_is_away_at_first_is_waited_for(capsys: pytest.CaptureFixture[str]) -> None:
    class AwayAtFirst(MemoryStore):
        tries = 0

        async def list(self, *arguments: Any, **options: Any) -> Page:
            self.tries += 1
            if self.tries <= 2:
                raise StoreUnavailable("starting")
            return await super().list(*arguments, **options)

    fleet = Fleet(FacadeSettings())
    async with following(fleet, AwayAtFirst(), MemoryBroker()):
        await until(fleet.loaded.is_set)
    assert capsys.readouterr().out.count("store_unavailable") == 2


async def test_a_broker_that_is_away_at_first_is_waited_for(capsys: pytest.CaptureFixture[str]) -> None:
    class AwayAtFirst(MemoryBroker):
        tries = 0

        def subscribe(self, *arguments: Any, **options: Any) -> AbstractAsyncContextManager[Subscription]:
            self.tries += 1
            if self.tries <= 2:
                raise BrokerUnavailable("starting")
            return super().subscribe(*arguments, **options)

    fleet = Fleet(FacadeSettings())
    async with following(fleet, MemoryStore(), AwayAtFirst()):
        await until(fleet.loaded.is_set)
    assert capsys.readouterr().out.count("broker_unavailable") == 2


async def test_a_stop_ends_the_wait_for_a_store_that_stays_away() -> None:
    fleet = Fleet(FacadeSettings())
    async with following(fleet, AwayStore(), MemoryBroker()):
        pass
    assert not fleet.loaded.is_set()


async def test_all_pages_are_loaded() -> None:
    store, fleet = MemoryStore(), Fleet(FacadeSettings())
    await store.update_many({f"m-{number}": [changing()] for number in range(2500)}, now=NOW)
    async with following(fleet, store, MemoryBroker()):
        await until(fleet.loaded.is_set)
    assert len(fleet) == 2500


def test_what_the_facade_wrote_itself_is_the_same_as_what_it_reads() -> None:
    updated = Updated("m", MACHINE, [ChangeKind.MODE])
    written = read_change(received(change_json("m", updated.kinds, "x", updated.after)))
    assert written == Snapshot.of("m", updated.after)
    assert written is not None
    assert b"\\u003c\\u003e\\u0026" in written.json
