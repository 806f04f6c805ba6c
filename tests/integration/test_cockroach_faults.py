"""Every fault at every statement of every kind of transaction: what was asked for is done once, whatever went wrong."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final

import pytest
from psycopg2.extensions import make_dsn

from pipeline.errors import MachineNotFound, StoreUnavailable
from pipeline.processor.operators import set_note
from pipeline.store.migrations import migrate
from pipeline.store.protocol import Updated
from pipeline.store.sql import SqlStore
from pipeline.store.transaction import RetryPolicy
from schemas.changes import ChangeKind
from schemas.description import Description
from tests.integration.cockroach_proxy.faults import (
    CommitsLost,
    Fault,
    Peace,
    Plan,
    Script,
    Statement,
    is_possible,
)
from tests.integration.cockroach_proxy.proxy import CockroachProxy
from tests.servers.kinds import TestServer
from tests.servers.postgres import new_database

pytestmark = pytest.mark.integration

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
PATIENT = RetryPolicy(
    first=timedelta(milliseconds=1), longest=timedelta(milliseconds=20), give_up_after=timedelta(seconds=60)
)
BRISK = replace(PATIENT, statement_timeout=timedelta(milliseconds=200), silence=timedelta(milliseconds=50))
"""For tests in which the server falls silent."""
SILENCES = (Fault.SILENT_BEFORE, Fault.SILENT_AFTER)
OF_STATEMENTS = [fault for fault in Fault if fault is not Fault.STARTING]


@pytest.fixture(scope="module")
def proxy(postgres_server: TestServer) -> Iterator[CockroachProxy]:
    with new_database(postgres_server) as url:
        migrate(url)
        with CockroachProxy.in_front_of(url) as proxy:
            yield proxy


@asynccontextmanager
async def opened(
    proxy: CockroachProxy, fault: Fault | None = None, **options: Any
) -> AsyncIterator[SqlStore]:
    """A store on one connection, in peace, fit for a fault of this kind."""
    proxy.plan = Peace()
    policy = BRISK if fault in SILENCES else PATIENT
    store = SqlStore(proxy.dsn, **{"threads": 1, "policy": policy, **options})
    try:
        yield store
    finally:
        await store.close()


def beat(before: Description) -> Description:
    return before.evolve({"battery": before.battery + 1})


def note(before: Description) -> Description:
    return set_note(before, message=f"{before.note.message}+", user="jo", now=NOW)


# --- what is asked for -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Outcome:
    """All that a call leaves behind, for one machine."""

    row: Description | None
    history: Sequence[tuple[ChangeKind, str, str]]
    announced: Sequence[int]
    """Versions in the outbox."""


async def outcome(store: SqlStore, machine_id: str) -> Outcome:
    try:
        row = await store.get(machine_id)
    except MachineNotFound:
        row = None
    lines = [(line.kind, line.before, line.after) for line in await store.history(machine_id)]
    waiting = [each for each in await store.take(limit=1000) if each.message.key == machine_id]
    await store.remove(waiting)
    return Outcome(row, lines, [each.version for each in waiting])


async def heartbeat(store: SqlStore, machine_id: str) -> Updated:
    (updated,) = await store.update_many({machine_id: [beat]}, now=NOW)
    return updated


async def change(store: SqlStore, machine_id: str) -> Updated:
    (updated,) = await store.update_many({machine_id: [note]}, now=NOW)
    return updated


async def action(store: SqlStore, machine_id: str) -> Updated:
    return await store.update(machine_id, note, now=NOW, who="jo", why="because")


async def creation(store: SqlStore, machine_id: str) -> Updated:
    return await store.update(f"new-{machine_id}", note, now=NOW, who="jo", create=True)


async def deletion(store: SqlStore, machine_id: str) -> bool:
    return await store.delete(machine_id, now=NOW, who="jo")


Call = Callable[[SqlStore, str], Awaitable[Updated | bool]]
CALLS: Final[Mapping[str, Call]] = {
    "heartbeat": heartbeat,
    "change": change,
    "action": action,
    "creation": creation,
    "deletion": deletion,
}


async def in_peace(
    store: SqlStore, proxy: CockroachProxy, call: Call, machine_id: str
) -> Sequence[Statement]:
    """Carry out the call where nothing goes wrong, and note its statements."""
    await prepare(store, machine_id)
    proxy.plan = noted = Peace()
    await call(store, machine_id)
    proxy.plan = Peace()
    return noted.seen


async def prepare(store: SqlStore, machine_id: str) -> None:
    """A machine in its second version, which the store remembers; a connection on which something was read last."""
    for _ in range(2):
        await store.update_many({machine_id: [beat]}, now=NOW)
    await store.get(machine_id)


def subject(call: str, machine_id: str) -> str:
    return f"new-{machine_id}" if call == "creation" else machine_id


async def check_once(
    store: SqlStore, proxy: CockroachProxy, call: str, machine_id: str, plan: Plan, expected: Outcome
) -> None:
    """Carry out the call while the plan goes on; it must leave what it leaves in peace, and say so."""
    await prepare(store, machine_id)
    proxy.plan = plan
    answer = await CALLS[call](store, machine_id)
    proxy.plan = Peace()
    found = await outcome(store, subject(call, machine_id))
    assert comparable(found) == comparable(expected)
    assert answer is True or (isinstance(answer, Updated) and answer.after == found.row)


def comparable(found: Outcome) -> Outcome:
    """Machines differ in their ids only."""
    if found.row is None:
        return found
    row = found.row.evolve({"dimensions": {**(found.row.dimensions or {}), "id": ["-"]}})
    return replace(found, row=row)


# --- transactions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", OF_STATEMENTS)
@pytest.mark.parametrize("call", list(CALLS))
async def test_whatever_befalls_any_statement_the_call_takes_effect_once(
    proxy: CockroachProxy, call: str, fault: Fault
) -> None:
    async with opened(proxy, fault) as store:
        example = f"{call}-{fault.name}"
        statements = await in_peace(store, proxy, CALLS[call], example)
        expected = await outcome(store, subject(call, example))
        assert any(statement.is_begin for statement in statements)
        assert statements[-1].is_commit
        for number, statement in enumerate(statements):
            if is_possible(fault, statement):
                before = proxy.injected[fault]
                await check_once(store, proxy, call, f"{example}-{number}", Script({number: fault}), expected)
                assert proxy.injected[fault] == before + 1, f"at statement {number}: {statement.text[:60]}"


DOUBTS = (
    Fault.AMBIGUOUS_DONE,
    Fault.AMBIGUOUS_UNDONE,
    Fault.DRAINED_DONE,
    Fault.RESET_BEFORE,
    Fault.RESET_AFTER,
    Fault.RESET_LATE,
)


@pytest.mark.parametrize("doubt", DOUBTS)
async def test_a_doubt_is_settled_whatever_befalls_the_settling(proxy: CockroachProxy, doubt: Fault) -> None:
    """A commit ends in doubt, and then something happens to the attempt that finds out, and that may end in doubt too."""
    async with opened(proxy) as store:
        await in_peace(store, proxy, action, f"settled-{doubt.name}")
        expected = await outcome(store, f"settled-{doubt.name}")
        for second in (Fault.RETRY, Fault.AMBIGUOUS_DONE, Fault.RESET_AFTER, Fault.RESET_LATE):
            for number in range(9):  # connect, prepare the session, begin, ask for the signature, ...
                machine_id = f"settled-{doubt.name}-{second.name}-{number}"
                plan = CommitsLost(doubt, then=Script({number: second}))
                await check_once(store, proxy, "action", machine_id, plan, expected)


@pytest.mark.parametrize("call", list(CALLS))
async def test_an_answer_that_breaks_off_at_any_byte_is_no_answer(proxy: CockroachProxy, call: str) -> None:
    async with opened(proxy) as store:
        statements = await in_peace(store, proxy, CALLS[call], f"cut-{call}")
        expected = await outcome(store, subject(call, f"cut-{call}"))
        for share in range(18):  # COMMIT and 5 bytes before it, ReadyForQuery with 6 bytes behind it
            plan = Script({len(statements) - 1: Fault.CUT_MIDWAY}, share=(share + 0.5) / 18)
            await check_once(store, proxy, call, f"cut-{call}-{share}", plan, expected)


# --- single statements, and connections --------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", OF_STATEMENTS)
async def test_whatever_befalls_a_statement_of_its_own_it_is_answered(
    proxy: CockroachProxy, fault: Fault
) -> None:
    machine_id = f"alone-{fault.name}"
    service = f"service-{fault.name}"
    async with opened(proxy, fault) as store:
        await prepare(store, machine_id)
        row = (await action(store, machine_id)).after

        async def unlucky(answer: Callable[[], Awaitable[Any]]) -> Any:
            proxy.plan = Script({0: fault})
            return await answer()

        assert await unlucky(partial(store.get, machine_id)) == row
        assert len(await unlucky(partial(store.history, machine_id))) == 2
        assert await unlucky(partial(store.acquire, service, "me", seconds=60)) is True
        assert await unlucky(partial(store.acquire, service, "you", seconds=60)) is False
        await unlucky(partial(store.release, service, "me"))
        assert await unlucky(partial(store.acquire, service, "you", seconds=60)) is True
        await unlucky(partial(store.record, service, {"0": NOW}, now=NOW))
        assert [each.caught_up_to for each in await store.progress() if each.service == service] == [NOW]
        waiting = [each for each in await store.take(limit=1000) if each.message.key == machine_id]
        await unlucky(partial(store.remove, waiting))
        assert (await outcome(store, machine_id)).announced == []


@pytest.mark.parametrize("fault", [*OF_STATEMENTS, Fault.STARTING])
async def test_whatever_befalls_a_new_connection_the_call_goes_on_with_another(
    proxy: CockroachProxy, fault: Fault
) -> None:
    for number in (0, 1):  # connect, prepare the session
        async with opened(proxy, fault) as store:
            if number == 0 and fault is Fault.SILENT_BEFORE:
                continue  # see below: libpq grants two seconds at least
            machine_id = f"connected-{fault.name}-{number}"
            proxy.plan = Script({number: fault})

            updated = await store.update(machine_id, note, now=NOW, create=True)

            assert (await outcome(store, machine_id)).announced == [updated.after.row_version] == [1]


# --- half-open connections ---------------------------------------------------------------------------------------------


async def test_a_node_that_accepts_and_says_nothing_is_left(proxy: CockroachProxy) -> None:
    retries: Counter[str] = Counter()
    dsn = make_dsn(proxy.dsn, connect_timeout=2)
    store = SqlStore(dsn, policy=BRISK, on_retry=lambda reason, _fault: retries.update([reason]))
    proxy.plan = Script({0: Fault.SILENT_BEFORE})
    async with asyncio.timeout(20):
        await store.check()
        await store.close()
    assert retries == {"connection": 1}


async def test_a_transaction_that_waits_for_a_silent_server_is_given_up_when_the_time_is_up(
    proxy: CockroachProxy,
) -> None:
    policy = replace(BRISK, give_up_after=timedelta(0))
    async with opened(proxy, policy=policy) as store:
        await store.check()
        proxy.plan = Script({0: Fault.SILENT_BEFORE})
        with pytest.raises(StoreUnavailable, match="closed the connection"):
            await store.check()
        assert (await change(store, "spoken")).after == await store.get("spoken")


async def test_closing_waits_for_a_silent_server_no_longer_than_anybody(proxy: CockroachProxy) -> None:
    async with opened(proxy, Fault.SILENT_AFTER) as store:
        await store.check()
        before = proxy.injected[Fault.SILENT_AFTER]
        proxy.plan = Script({0: Fault.SILENT_AFTER})
        asked = asyncio.create_task(store.check())
        async with asyncio.timeout(10):
            while proxy.injected[Fault.SILENT_AFTER] == before:
                await asyncio.sleep(0.005)
            await store.close()
            with pytest.raises(StoreUnavailable):
                await asked
