"""What every broker promises. Each test's docstring is the promise."""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, timedelta
from itertools import pairwise

import pytest

from pipeline.broker.catalogue import MAX_MESSAGE_BYTES
from pipeline.broker.protocol import Batch, Broker, From, Outgoing, Received, Subscription, TopicState
from pipeline.errors import BrokerUnavailable, LeaseLost, Rejected
from schemas.topics import MACHINE_CHANGES, MACHINE_EVENTS, TOPICS
from tests.contract.brokers import CASES, LONG_AGO, MARKS, BrokerCase, known_gap

PARTITIONS = next(topic.partitions for topic in TOPICS if topic.name == MACHINE_EVENTS)
PATIENCE_S = 60.0
"""Far more than anything here takes."""
ROUNDS = 10
"""Of what a busy computer may be too slow for. One that goes well is enough."""
PATIENCE_WITH_GAPS_S = 1.0
"""Where it is known that nothing will come. Enough to notice, on most days, that a gap has closed."""


@pytest.fixture(params=[pytest.param(name, marks=MARKS.get(name, ())) for name in CASES])
async def case(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[BrokerCase]:
    gap = known_gap(request, request.param)
    if gap is not None:
        request.applymarker(gap)
        monkeypatch.setattr(sys.modules[__name__], "PATIENCE_S", PATIENCE_WITH_GAPS_S)
    async with CASES[request.param](request) as broker_case:
        yield broker_case


def event(key: str, value: str = "") -> Outgoing:
    return Outgoing(MACHINE_EVENTS, key, value.encode())


def events(count: int, *, keys: int = 50, first: int = 0) -> list[Outgoing]:
    """Messages numbered by their values, on keys that touch every partition."""
    return [event(f"machine-{number % keys}", str(number)) for number in range(first, first + count)]


def values(messages: Sequence[Received]) -> list[int]:
    return sorted(int(message.value) for message in messages)


async def take(
    subscription: Subscription, count: int, *, acknowledge: bool = True
) -> tuple[list[Received], list[Batch]]:
    """Read until `count` messages are there."""
    messages: list[Received] = []
    batches = []
    async with asyncio.timeout(PATIENCE_S):
        async for batch in subscription:
            assert batch.messages
            messages += batch.messages
            batches.append(batch)
            if acknowledge:
                await subscription.acknowledge(batch)
            if len(messages) >= count:
                break
    return messages, batches


async def read(
    broker: Broker, count: int, *, group: str | None = "readers", start: From = From.EARLIEST
) -> list[Received]:
    async with broker.subscribe(MACHINE_EVENTS, group=group, start=start) as subscription:
        messages, _ = await take(subscription, count)
    return messages


async def unread(broker: Broker, group: str = "readers") -> int:
    return sum(lag.unread for lag in await broker.lag(MACHINE_EVENTS, group=group))


async def test_a_message_arrives_as_it_was_sent(case: BrokerCase) -> None:
    """Key, value and headers arrive as they were sent, with the broker's time in UTC."""
    headers = {"ce_id": "1", "content-type": "application/json", "empty": "", "umlaut": "ä\n"}
    sent = [
        Outgoing(MACHINE_EVENTS, "rack4-07", b'{"a": 1}', headers),
        Outgoing(MACHINE_EVENTS, "rack4-07", b"", {}),
        Outgoing(MACHINE_EVENTS, "rack4-07", bytes(range(256)) * 4000, {"x": "y" * 1000}),
    ]
    await case.broker.publish(sent)
    received = await read(case.other, 3)
    assert [Outgoing(m.topic, m.key, m.value, dict(m.headers)) for m in received] == sent
    assert {message.published_at.tzinfo for message in received} == {UTC}


async def test_topics_can_be_created_twice(case: BrokerCase) -> None:
    """The second time there is nothing to do, and no message is lost by it."""
    await case.broker.create_topics()
    await case.broker.publish([event("rack4-07", "1")])
    reports = {report.name: report for report in await case.other.create_topics()}
    assert len(reports) == len(TOPICS)
    assert {report.state for report in reports.values()} == {TopicState.UNCHANGED}
    assert not any(report.warnings for report in reports.values())
    assert values(await read(case.broker, 1)) == [1]


async def test_another_number_of_partitions_is_not_forced_upon_a_topic(case: BrokerCase) -> None:
    """Whoever asks for it is warned, and the topic stays as it is."""
    before = {report.name: report.partitions for report in await case.broker.create_topics()}
    after = await case.broker.create_topics(partitions={MACHINE_EVENTS: PARTITIONS + 1})
    assert {report.name: report.partitions for report in after} == before
    (warned,) = [report for report in after if report.warnings]
    assert warned.name.endswith(MACHINE_EVENTS)
    with pytest.raises(Rejected, match=r"no topic 'machine\.evnts'"):
        await case.broker.create_topics(partitions={"machine.evnts": 3})


async def test_a_number_of_partitions_that_nobody_asks_for_again_is_left_in_peace(case: BrokerCase) -> None:
    """An upgrade need not know what was chosen when the topic was made."""
    await case.broker.create_topics(partitions={MACHINE_EVENTS: PARTITIONS + 1})
    assert not any(report.warnings for report in await case.broker.create_topics())


async def test_messages_of_one_key_arrive_in_order(case: BrokerCase) -> None:
    """All messages of one key lie in one partition, in the order of publishing; its times never run backwards."""
    for first in range(0, 900, 300):
        await case.broker.publish(events(300, keys=7, first=first))
    by_key = defaultdict(list)
    by_partition = defaultdict(list)
    for message in await read(case.other, 900):
        by_key[message.key].append(message)
        by_partition[message.partition].append(message)
    for messages in by_key.values():
        assert len({message.partition for message in messages}) == 1
        numbers = [int(message.value) for message in messages]
        assert numbers == sorted(numbers)
    for messages in by_partition.values():
        assert all(a.offset < b.offset and a.published_at <= b.published_at for a, b in pairwise(messages))


async def test_concurrent_publishes_keep_each_callers_order(case: BrokerCase) -> None:
    """Callers that publish at the same time do not mix up one another's keys."""

    async def publish(key: str) -> None:
        for number in range(30):
            await case.broker.publish([event(key, str(number))])

    await asyncio.gather(*(publish(f"machine-{number}") for number in range(20)))
    by_key = defaultdict(list)
    for message in await read(case.broker, 600):
        by_key[message.key].append(int(message.value))
    assert all(numbers == list(range(30)) for numbers in by_key.values())
    assert len(by_key) == 20


async def test_nothing_is_lost_while_many_publish_and_one_reads(case: BrokerCase) -> None:
    """With 8 publishers at work and a reader running throughout, every message arrives once, and without gaps."""

    async def publish(number: int) -> None:
        broker = (case.broker, case.other)[number % 2]
        for first in range(0, 500, 25):
            await broker.publish(events(25, first=number * 500 + first))

    async with case.other.subscribe(MACHINE_EVENTS, group="readers", max_records=37) as subscription:
        publishers = asyncio.gather(*(publish(number) for number in range(8)))
        messages, _ = await take(subscription, 4000)
        await publishers
    assert values(messages) == list(range(4000))
    assert await unread(case.broker) == 0


async def test_members_of_a_group_share_its_messages(case: BrokerCase) -> None:
    """Every message goes to one member; every member gets its share of the partitions."""
    async with (
        case.broker.subscribe(MACHINE_EVENTS, group="readers") as one,
        case.other.subscribe(MACHINE_EVENTS, group="readers") as two,
        case.other.subscribe(MACHINE_EVENTS, group="readers") as three,
    ):
        read_by: list[list[Received]] = [[], [], []]

        async def follow(member: int, subscription: Subscription) -> None:
            async for batch in subscription:
                read_by[member] += batch.messages
                await subscription.acknowledge(batch)

        readers = [
            asyncio.create_task(follow(member, subscription))
            for member, subscription in enumerate((one, two, three))
        ]
        shared = False
        first = 0
        deadline = time.monotonic() + PATIENCE_S
        while not shared and time.monotonic() < deadline:  # until the partitions have found their owners
            before = [len(messages) for messages in read_by]
            await case.broker.publish(events(200, first=first))
            first += 200
            await _until_read(case.broker)
            latest = [messages[count:] for messages, count in zip(read_by, before, strict=True)]
            owned = sorted(len({message.partition for message in messages}) for messages in latest)
            shared = owned == [2, 3, 3]
        for reader in readers:
            reader.cancel()
        await asyncio.wait(readers)
    assert shared
    assert values([message for messages in read_by for message in messages]) == list(range(first))


async def _until_read(broker: Broker, group: str = "readers") -> None:
    async with asyncio.timeout(PATIENCE_S):
        while await unread(broker, group):
            await asyncio.sleep(0.005)


async def test_groups_know_nothing_of_one_another(case: BrokerCase) -> None:
    """Every group reads every message."""
    await case.broker.publish(events(100))
    assert values(await read(case.broker, 100, group="one")) == list(range(100))
    assert values(await read(case.other, 100, group="two")) == list(range(100))


async def test_what_was_not_acknowledged_is_read_again(case: BrokerCase) -> None:
    """A member that goes without acknowledging leaves its messages to the next one."""
    await case.broker.publish(events(100))
    async with case.broker.subscribe(MACHINE_EVENTS, group="readers", max_records=30) as subscription:
        lost, _ = await take(subscription, 60, acknowledge=False)
    again = await read(case.other, 100)
    assert values(again) == list(range(100))
    assert {message.value for message in lost} <= {message.value for message in again}


async def test_what_was_acknowledged_is_not_read_again(case: BrokerCase) -> None:
    """A group goes on where its last acknowledgement ended, in the middle of what was published together too."""
    await case.broker.publish(events(100))
    async with case.broker.subscribe(MACHINE_EVENTS, group="readers", max_records=30) as subscription:
        before, batches = await take(subscription, 60, acknowledge=False)
        await subscription.acknowledge(batches[0])
    after = await read(case.other, 100 - len(batches[0].messages))
    assert len(batches[0].messages) <= 30
    assert values([*batches[0].messages, *after]) == list(range(100))
    assert len(before) > len(batches[0].messages)


async def test_part_of_a_batch_can_be_acknowledged(case: BrokerCase) -> None:
    """A batch may be cut into smaller ones, which are acknowledged in order."""
    await case.broker.publish([event("one-machine", str(number)) for number in range(10)])
    async with case.broker.subscribe(MACHINE_EVENTS, group="readers") as subscription:
        messages, _ = await take(subscription, 10, acknowledge=False)
        await subscription.acknowledge(Batch(messages[:3]))
        await subscription.acknowledge(Batch(messages[3:6]))
    assert values(await read(case.other, 4)) == [6, 7, 8, 9]


async def test_a_batch_holds_at_most_what_was_asked_for(case: BrokerCase) -> None:
    """`max_records` is never exceeded, however many were published together."""
    await case.broker.publish(events(500))
    async with case.broker.subscribe(MACHINE_EVENTS, group=None, max_records=64) as subscription:
        messages, batches = await take(subscription, 500)
    assert max(len(batch.messages) for batch in batches) == 64
    assert values(messages) == list(range(500))


async def test_a_waiting_reader_gathers_for_a_moment(case: BrokerCase) -> None:
    """Messages that arrive within `max_wait` come in one batch, and a full batch does not wait."""
    async with case.broker.subscribe(
        MACHINE_EVENTS, group=None, max_records=10, max_wait=timedelta(seconds=PATIENCE_S / 2)
    ) as subscription:
        batches = aiter(subscription)
        next_one = asyncio.ensure_future(anext(batches))
        for number in range(10):
            await case.other.publish([event("one-machine", str(number))])
        async with asyncio.timeout(PATIENCE_S / 3):
            batch = await next_one
    assert values(batch.messages) == list(range(10))


async def test_a_new_group_may_begin_with_what_comes_next(case: BrokerCase) -> None:
    """From LATEST: nothing that was published before, everything that is published after the subscription stands."""
    await case.broker.publish(events(10))
    async with case.other.subscribe(MACHINE_EVENTS, group="readers", start=From.LATEST) as subscription:
        await case.broker.publish(events(10, first=10))
        messages, _ = await take(subscription, 10)
    assert values(messages) == list(range(10, 20))


async def test_a_new_group_may_begin_at_a_time(case: BrokerCase) -> None:
    """From a time: the first message published at or after it, and all that follow."""
    for first in (0, 10, 20):
        await case.broker.publish(events(10, first=first))
        case.clock.advance(timedelta(milliseconds=1))
    published = {int(message.value): message for message in await case.broker.fetch(MACHINE_EVENTS)}
    middle = min(published[number].published_at for number in range(10, 20))
    async with case.other.subscribe(MACHINE_EVENTS, group="readers", start=middle) as subscription:
        messages, _ = await take(subscription, 20)
    assert values(messages) == list(range(10, 30))
    async with case.other.subscribe(MACHINE_EVENTS, group=None, start=LONG_AGO) as subscription:
        assert values((await take(subscription, 30))[0]) == list(range(30))


async def test_a_group_that_has_been_here_goes_on_where_it_was(case: BrokerCase) -> None:
    """`start` counts once: a LATEST group gets what was published while it was away, even if it never read anything."""
    await case.broker.publish(events(10))
    async with case.broker.subscribe(MACHINE_EVENTS, group="readers", start=From.LATEST):
        pass
    await case.broker.publish(events(10, first=10))
    assert values(await read(case.other, 10, start=From.LATEST)) == list(range(10, 20))


async def test_a_private_subscription_sees_everything_and_leaves_no_trace(case: BrokerCase) -> None:
    """Without a group: every message, beside any other reader; acknowledging changes nothing."""
    await case.broker.publish(events(100))
    async with (
        case.broker.subscribe(MACHINE_EVENTS, group=None) as one,
        case.other.subscribe(MACHINE_EVENTS, group=None) as two,
    ):
        assert values((await take(one, 100))[0]) == list(range(100))
        assert values((await take(two, 100, acknowledge=False))[0]) == list(range(100))
    assert values(await read(case.broker, 100, group=None)) == list(range(100))


async def test_a_member_that_leaves_makes_room_at_once(case: BrokerCase) -> None:
    """Whoever leaves gives its partitions up; nobody waits for a lease to run out."""
    async with case.broker.subscribe(MACHINE_EVENTS, group="readers") as staying:
        async with case.other.subscribe(MACHINE_EVENTS, group="readers"):
            pass
        await case.broker.publish(events(100))
        messages, _ = await take(staying, 100)
    assert values(messages) == list(range(100))


async def test_a_newcomer_takes_nothing_out_of_a_readers_hands(case: BrokerCase) -> None:
    """A partition changes owner between two batches: what was handed out can be acknowledged and is not read twice."""
    await case.broker.publish(events(200))
    read_by: Counter[bytes] = Counter()
    async with case.broker.subscribe(MACHINE_EVENTS, group="readers", max_records=50) as old:
        batches = aiter(old)
        first = await anext(batches)
        async with case.other.subscribe(MACHINE_EVENTS, group="readers") as new:

            async def follow(subscription: Subscription) -> None:
                async for batch in subscription:
                    read_by.update(message.value for message in batch.messages)
                    await subscription.acknowledge(batch)

            newcomer = asyncio.create_task(follow(new))
            await old.acknowledge(first)
            read_by.update(message.value for message in first.messages)
            veteran = asyncio.create_task(follow(old))
            await _until_read(case.broker)
            for task in (newcomer, veteran):
                task.cancel()
            await asyncio.wait([newcomer, veteran])
    assert read_by == Counter({str(number).encode(): 1 for number in range(200)})


async def test_a_member_that_was_away_too_long_cannot_acknowledge(case: BrokerCase) -> None:
    """When a silent member's partitions have passed on, its acknowledgement is refused; the group's position is safe."""
    await case.broker.publish(events(100))
    async with case.broker.subscribe(MACHINE_EVENTS, group="readers") as stalled:
        late, batches = await take(stalled, 100, acknowledge=False)
        case.stall(stalled)
        async with case.other.subscribe(MACHINE_EVENTS, group="readers", max_records=10) as heir:
            again, _ = await take(heir, 100)
            assert await unread(case.broker) == 0
            await case.broker.publish(events(100, first=100))
            with pytest.raises(LeaseLost):
                await stalled.acknowledge(batches[0])
            assert await unread(case.broker) == 100
    assert values(late) == values(again) == list(range(100))


async def test_a_group_with_members_cannot_be_moved(case: BrokerCase) -> None:
    """Seeking is refused while anybody reads, with the number of those who do."""
    async with case.broker.subscribe(MACHINE_EVENTS, group="readers"):
        with pytest.raises(Rejected, match="1 live member"):
            await case.other.seek(MACHINE_EVENTS, group="readers", to=From.EARLIEST)


async def test_a_group_can_be_moved_to_begin_elsewhere(case: BrokerCase) -> None:
    """Seeking replays from the beginning, from a time, or skips to what comes next; for a group yet unknown as well."""
    for first in (0, 50):
        await case.broker.publish(events(50, first=first))
        case.clock.advance(timedelta(milliseconds=1))
    assert len(await read(case.broker, 100)) == 100
    await case.other.seek(MACHINE_EVENTS, group="readers", to=From.EARLIEST)
    assert values(await read(case.broker, 100)) == list(range(100))

    published = await case.broker.fetch(MACHINE_EVENTS)
    middle = min(message.published_at for message in published if int(message.value) >= 50)
    await case.other.seek(MACHINE_EVENTS, group="readers", to=middle)
    assert values(await read(case.broker, 50)) == list(range(50, 100))

    await case.other.seek(MACHINE_EVENTS, group="new", to=From.LATEST)
    assert await unread(case.broker, "new") == 0


async def test_lag_says_how_much_is_unread_and_how_old_it_is(case: BrokerCase) -> None:
    """One entry a partition; a group that nobody knows is behind by everything there is."""
    empty = await case.broker.lag(MACHINE_EVENTS, group="readers")
    assert [lag.partition for lag in empty] == list(range(PARTITIONS))
    assert {(lag.unread, lag.oldest_unread_at) for lag in empty} == {(0, None)}
    await case.broker.publish([event("one-machine", "0")])
    case.clock.advance(timedelta(milliseconds=1))
    await case.broker.publish([event("one-machine", "1")])
    first, second = await case.broker.fetch(MACHINE_EVENTS)

    lags = await case.other.lag(MACHINE_EVENTS, group="readers")
    behind = next(lag for lag in lags if lag.unread)
    assert (behind.partition, behind.unread) == (first.partition, 2)
    assert behind.oldest_unread_at == first.published_at
    assert behind.measured_at >= second.published_at

    async with case.broker.subscribe(MACHINE_EVENTS, group="readers", max_records=1) as subscription:
        _, batches = await take(subscription, 2, acknowledge=False)
        await subscription.acknowledge(batches[0])
    lags = await case.other.lag(MACHINE_EVENTS, group="readers")
    behind = next(lag for lag in lags if lag.unread)
    assert (behind.unread, behind.oldest_unread_at) == (1, second.published_at)


async def test_messages_can_be_looked_at_without_a_group(case: BrokerCase) -> None:
    """`fetch` walks through all that is kept, page by page, in order within each partition."""
    await case.broker.publish(events(100))
    after: dict[int, int] = {}
    seen: list[Received] = []
    while page := await case.other.fetch(MACHINE_EVENTS, after=after, limit=30):
        assert len(page) <= 30
        for message in page:
            assert message.offset > after.get(message.partition, -1)
            after[message.partition] = message.offset
        seen += page
    assert values(seen) == list(range(100))
    assert await unread(case.broker) == 100


async def test_what_is_older_than_its_topic_keeps_it_goes(case: BrokerCase) -> None:
    """After the retention time messages are gone, and a reader that had not come so far goes on with what is left."""
    async with case.broker.subscribe(MACHINE_EVENTS, group="readers", max_records=10) as subscription:
        await case.broker.publish(events(100))
        before, batches = await take(subscription, 10, acknowledge=False)
        await subscription.acknowledge(batches[0])
    case.clock.advance(timedelta(days=2, hours=1))
    await case.trim()
    await case.broker.publish(events(20, first=100))
    assert await unread(case.broker) == 20
    assert values(await case.broker.fetch(MACHINE_EVENTS)) == list(range(100, 120))
    assert values(await read(case.other, 20)) == list(range(100, 120))
    assert values(await read(case.other, 20, group="new")) == list(range(100, 120))
    assert len(before) >= 10


async def test_what_is_younger_stays(case: BrokerCase) -> None:
    """Nothing goes before its time."""
    await case.broker.publish(events(100))
    case.clock.advance(timedelta(days=1, hours=23))
    await case.trim()
    assert values(await read(case.other, 100)) == list(range(100))


async def test_topics_are_apart(case: BrokerCase) -> None:
    """A group's position in one topic says nothing about another."""
    await case.broker.publish([event("m", "1"), Outgoing(MACHINE_CHANGES, "m", b"2")])
    assert [message.value for message in await read(case.broker, 1)] == [b"1"]
    async with case.broker.subscribe(MACHINE_CHANGES, group="readers") as subscription:
        messages, _ = await take(subscription, 1)
    assert [(message.topic, message.value) for message in messages] == [(MACHINE_CHANGES, b"2")]


async def test_a_waiting_reader_wakes_within_20_ms(case: BrokerCase) -> None:
    """From the return of `publish` to the reader's hands, in the middle of many tries."""
    async with case.other.subscribe(MACHINE_EVENTS, group="readers") as subscription:
        batches = aiter(subscription)

        async def wake(number: int) -> float:
            waiting = asyncio.ensure_future(anext(batches))
            await case.broker.publish([event(f"machine-{number}", str(number))])
            published = time.perf_counter()
            batch = await asyncio.wait_for(waiting, PATIENCE_S)
            seconds = time.perf_counter() - published
            await subscription.acknowledge(batch)
            return seconds

        for _ in range(ROUNDS):
            if statistics.median([await wake(number) for number in range(41)]) < 0.020:
                return
    pytest.fail("most tries took longer")


async def test_a_reader_may_give_up_waiting_and_ask_again(case: BrokerCase) -> None:
    """A wait for the next batch can be cancelled at any moment; nothing is lost and the iterator lives on."""
    async with case.broker.subscribe(MACHINE_EVENTS, group="readers") as subscription:
        batches = aiter(subscription)
        messages: list[Received] = []
        first = 0
        async with asyncio.timeout(PATIENCE_S):
            while len(messages) < 200:
                if first < 200:
                    await case.other.publish(events(10, first=first))
                    first += 10
                try:
                    batch = await asyncio.wait_for(anext(batches), 0.001)
                except TimeoutError:
                    continue
                messages += batch.messages
                await subscription.acknowledge(batch)
    assert values(messages) == list(range(200))


async def test_a_reader_that_does_not_read_stops_nobody(case: BrokerCase) -> None:
    """One slow reader holds up neither the publishers nor the other groups, and misses nothing."""
    async with case.broker.subscribe(MACHINE_EVENTS, group="slow", max_records=10) as slow:
        await case.broker.publish(events(500))
        first, _ = await take(slow, 10)
        await case.broker.publish(events(500, first=500))
        assert len(await read(case.other, 1000, group="fast")) == 1000
        rest, _ = await take(slow, 1000 - len(first))
    assert values([*first, *rest]) == list(range(1000))


async def test_an_unknown_topic_is_refused(case: BrokerCase) -> None:
    """A name that is not in `schemas.topics` is a mistake, whatever is asked of it."""
    with pytest.raises(Rejected, match=r"there is no topic 'machine\.evnets'"):
        await case.broker.publish([event("m"), Outgoing("machine.evnets", "m", b"")])
    with pytest.raises(Rejected):
        async with case.broker.subscribe("machine.evnets", group=None):
            pass
    with pytest.raises(Rejected):
        await case.broker.lag("machine.evnets", group="readers")
    assert not await case.broker.fetch(MACHINE_EVENTS)


async def test_a_message_that_is_too_large_is_refused(case: BrokerCase) -> None:
    """Up to nearly 16 MiB pass; more can never be taken, and nothing that came with it is published."""
    with pytest.raises(Rejected, match="too large"):
        await case.broker.publish([event("m"), Outgoing(MACHINE_EVENTS, "m", bytes(MAX_MESSAGE_BYTES + 1))])
    assert not await case.broker.fetch(MACHINE_EVENTS)
    await case.broker.publish([Outgoing(MACHINE_EVENTS, "m", bytes(MAX_MESSAGE_BYTES - 100))])
    assert [len(message.value) for message in await read(case.other, 1)] == [MAX_MESSAGE_BYTES - 100]


async def test_text_that_cannot_be_written_is_refused(case: BrokerCase) -> None:
    """Half a surrogate pair is no text; the messages of others are not held up by it."""
    for message in (event("\ud800"), Outgoing(MACHINE_EVENTS, "m", b"", {"h": "\ud800"})):
        with pytest.raises(Rejected, match="not valid text"):
            await case.broker.publish([message])
    await case.broker.publish([event("m", "1")])
    assert values(await read(case.other, 1)) == [1]


async def test_publishing_nothing_does_nothing(case: BrokerCase) -> None:
    """An empty list is no error."""
    await case.broker.publish([])
    assert not await case.broker.fetch(MACHINE_EVENTS)


async def test_a_broker_that_is_there_passes_its_check(case: BrokerCase) -> None:
    """`check` returns."""
    await case.broker.check()


async def test_closing_ends_readers_and_refuses_publishers(case: BrokerCase) -> None:
    """After `close` iterators end and `publish` raises; what had been taken is safe."""
    async with case.broker.subscribe(MACHINE_CHANGES, group="readers") as subscription:

        async def follow() -> None:
            async for _ in subscription:
                pass

        reader = asyncio.create_task(follow())
        publishing = asyncio.gather(*(case.broker.publish(events(10, first=n)) for n in range(0, 50, 10)))
        await publishing
        await case.broker.close()
        await asyncio.wait_for(reader, PATIENCE_S)
    with pytest.raises(BrokerUnavailable):
        await case.broker.publish([event("m")])


async def test_a_cancelled_publisher_takes_nobodys_messages_along(case: BrokerCase) -> None:
    """Callers that go away while they wait leave the others' messages alone."""
    tasks = [asyncio.create_task(case.broker.publish(events(10, first=n))) for n in range(0, 200, 10)]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    kept = {number for n in range(10, 200, 20) for number in range(n, n + 10)}
    assert kept <= set(values(await case.other.fetch(MACHINE_EVENTS, limit=1000)))
