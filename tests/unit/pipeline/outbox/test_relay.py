from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

from pipeline import metrics
from pipeline.broker.memory import MemoryBroker
from pipeline.broker.protocol import Outgoing, Received
from pipeline.clock import ManualClock
from pipeline.errors import BrokerUnavailable, Rejected, StoreUnavailable
from pipeline.outbox.relay import LEASE, Relay, RelayPolicy
from pipeline.store.memory import MemoryStore
from pipeline.store.protocol import OutboxRow
from schemas.changes import MachineChange
from schemas.topics import MACHINE_CHANGES, dead_letters_of

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
QUICK = RelayPolicy(
    poll=timedelta(milliseconds=1),
    standby=timedelta(milliseconds=1),
    longest_pause=timedelta(milliseconds=2),
    batch=4,
)


class ShakyBroker(MemoryBroker):
    """Fails when told to, before or after it took the messages."""

    def __init__(self) -> None:
        super().__init__()
        self.faults: list[Exception | None] = []
        self.refuse: Callable[[Outgoing], bool] = lambda _: False
        self.attempts = 0

    async def publish(self, messages: Sequence[Outgoing]) -> None:
        self.attempts += 1
        if any(self.refuse(message) for message in messages):
            raise Rejected("too large")
        fault = self.faults.pop(0) if self.faults else None
        if fault is not None:
            raise fault
        await super().publish(messages)


class ForgetfulStore(MemoryStore):
    """Cannot remove at first."""

    faults = 2

    async def remove(self, rows: Sequence[OutboxRow]) -> None:
        if self.faults:
            self.faults -= 1
            raise StoreUnavailable("down")
        await super().remove(rows)


@asynccontextmanager
async def running(relay: Relay) -> AsyncIterator[None]:
    stop = asyncio.Event()
    task = asyncio.create_task(relay.run(stop))
    try:
        yield
    finally:
        stop.set()
        async with asyncio.timeout(60):
            await task


async def write(store: MemoryStore, machine_id: str, battery: int) -> None:
    await store.update(
        machine_id, lambda before: before.model_copy(update={"battery": battery}), now=NOW, create=True
    )


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.001)


async def published(broker: MemoryBroker, topic: str = MACHINE_CHANGES) -> Sequence[Received]:
    return await broker.fetch(topic, limit=10_000)


def batteries(messages: Sequence[Received], machine_id: str) -> list[int]:
    return [
        MachineChange.model_validate_json(message.value).description.battery
        for message in messages
        if message.key == machine_id
    ]


async def test_what_waits_is_published_in_order_and_removed() -> None:
    store, broker = MemoryStore(), MemoryBroker()
    for battery in range(10):
        await write(store, "skia-a", battery)
        await write(store, "skia-b", battery)

    async with running(Relay(store, broker, policy=QUICK)):
        await until(lambda: not store._outbox)

    messages = await published(broker)
    assert batteries(messages, "skia-a") == batteries(messages, "skia-b") == list(range(10))


async def test_what_is_written_later_follows() -> None:
    store, broker = MemoryStore(), MemoryBroker()
    async with running(Relay(store, broker, policy=QUICK)):
        await write(store, "skia-a", 1)
        await until(lambda: not store._outbox)
        await store.delete("skia-a", now=NOW, who="jo")
        await until(lambda: not store._outbox)

    first, second = await published(broker)
    assert first.value != b""
    assert (second.key, second.value) == ("skia-a", b"")


async def test_a_broker_that_is_down_is_waited_for_and_the_order_kept() -> None:
    store, broker = MemoryStore(), ShakyBroker()
    broker.faults = [BrokerUnavailable("down")] * 7
    for battery in range(10):
        await write(store, "skia-a", battery)

    async with running(Relay(store, broker, policy=QUICK)):
        await until(lambda: not store._outbox)

    assert batteries(await published(broker), "skia-a") == list(range(10))


async def test_what_may_not_have_been_removed_is_published_again() -> None:
    store, broker = ForgetfulStore(), MemoryBroker()
    await write(store, "skia-a", 1)

    async with running(Relay(store, broker, policy=QUICK)):
        await until(lambda: not store._outbox)

    assert batteries(await published(broker), "skia-a") == [1, 1, 1]


async def test_a_crash_between_publishing_and_removing_publishes_again() -> None:
    store, broker = MemoryStore(), MemoryBroker()
    await write(store, "skia-a", 1)
    await broker.publish([row.message for row in await store.take(limit=10)])  # then the process died

    async with running(Relay(store, broker, policy=QUICK)):
        await until(lambda: not store._outbox)

    assert batteries(await published(broker), "skia-a") == [1, 1]


async def test_a_message_that_no_broker_takes_is_parked_and_the_others_go_on() -> None:
    store, broker = MemoryStore(), ShakyBroker()
    broker.refuse = lambda message: message.topic == MACHINE_CHANGES and message.key == "skia-b"
    for machine_id in ("skia-a", "skia-b", "skia-c"):
        await write(store, machine_id, 7)

    async with running(Relay(store, broker, policy=QUICK)):
        await until(lambda: not store._outbox)

    assert {message.key for message in await published(broker)} == {"skia-a", "skia-c"}
    (parked,) = await published(broker, dead_letters_of(MACHINE_CHANGES))
    assert parked.key == "skia-b"
    assert parked.headers["dead_reason"] == "too large"


async def test_a_message_that_cannot_even_be_parked_does_not_block_the_others() -> None:
    store, broker = MemoryStore(), ShakyBroker()
    broker.refuse = lambda message: message.key == "skia-b"
    for machine_id in ("skia-a", "skia-b", "skia-c"):
        await write(store, machine_id, 7)

    async with running(Relay(store, broker, policy=QUICK)):
        await until(lambda: not store._outbox)

    assert {message.key for message in await published(broker)} == {"skia-a", "skia-c"}


async def test_a_second_relay_stands_by_and_takes_over() -> None:
    store, broker = MemoryStore(), ShakyBroker()
    standby = Relay(store, MemoryBroker(), policy=QUICK, owner="standby")
    async with running(standby):
        await until(lambda: store._leases.get(LEASE, ("",))[0] == "standby")
        async with running(Relay(store, broker, policy=QUICK, owner="second")):
            await write(store, "skia-a", 1)
            await until(lambda: not store._outbox)
    assert broker.attempts == 0

    async with running(Relay(store, broker, policy=QUICK, owner="second")):
        await write(store, "skia-a", 2)
        await until(lambda: not store._outbox)
    assert broker.attempts == 1


async def test_a_relay_that_stops_gives_its_lease_up() -> None:
    store = MemoryStore()
    async with running(Relay(store, MemoryBroker(), policy=QUICK, owner="a")):
        await until(lambda: LEASE in store._leases)

    assert await store.acquire(LEASE, "b", seconds=1)


async def test_a_broker_that_hangs_does_not_outlive_the_lease() -> None:
    class HangingBroker(ShakyBroker):
        async def publish(self, messages: Sequence[Outgoing]) -> None:
            self.attempts += 1
            if self.attempts == 1:
                await asyncio.Event().wait()
            await MemoryBroker.publish(self, messages)

    store, broker = MemoryStore(), HangingBroker()
    await write(store, "skia-a", 1)
    policy = RelayPolicy(
        poll=QUICK.poll, lease=timedelta(milliseconds=20), longest_pause=timedelta(milliseconds=1)
    )

    async with running(Relay(store, broker, policy=policy)):
        await until(lambda: not store._outbox)

    assert broker.attempts == 2


async def test_the_age_of_what_waits_is_told() -> None:
    store, broker = MemoryStore(), ShakyBroker()
    clock = ManualClock(NOW + timedelta(seconds=42))
    broker.faults = [BrokerUnavailable("down")] * 1_000_000
    await write(store, "skia-a", 1)

    async with running(Relay(store, broker, policy=QUICK, clock=clock)):
        await until(lambda: metrics.OUTBOX_AGE_SECONDS._value.get() == 42)
        broker.faults.clear()
        await until(lambda: metrics.OUTBOX_AGE_SECONDS._value.get() == 0)

    assert not store._outbox
