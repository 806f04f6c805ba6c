"""The statistics as a Faust app, on Kafka.

A change replaces one machine's record in a table; Faust writes each replacement to the table's changelog topic, and a new
worker reads its table from there. An event is acknowledged when the changelog has its record. So after a crash anywhere the
records are those of some point at or behind the committed position, and the versions tell what is read again.

Which windows are told is not in the table: it is in the records themselves. A record that is written after a window was
told says so (its floor), and only then drops what that window needs. So the highest floor of all records is where to go on,
and every record still has all that the windows from there on need.

One worker tells at a time (see `mandate`), and only while it has all partitions: otherwise part of the fleet would be missing.
Faust's own exactly-once mode is not used: it logs that a transaction failed to begin or was fenced, and goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

from faust.types import TP

from consumers.fleet_stats.faust_log import route_faust_log
from consumers.fleet_stats.faust_progress import Progress
from consumers.fleet_stats.faust_table import RecordTable, changelog_of, make_app
from consumers.fleet_stats.publication import tell
from consumers.fleet_stats.settings import FAUST_GROUP, LEASE, FleetStatsSettings
from pipeline import logs, metrics
from pipeline.broker.catalogue import Catalogue
from pipeline.broker.deadletter import DeadLetters
from pipeline.broker.kafka_client import Link
from pipeline.broker.kafka_inspector import Inspector
from pipeline.broker.protocol import Broker, Lag, Received
from pipeline.clock import Clock
from pipeline.errors import BrokerUnavailable, Misconfigured
from pipeline.mandate import Mandate, MandateStore, Overtaken
from pipeline.service import Abandoned, persist, wait_for
from pipeline.settings import Connections
from pipeline.statistics.ledger import Ledger
from pipeline.statistics.observation import milliseconds, observed
from pipeline.statistics.record import applied
from schemas.topics import MACHINE_CHANGES

_IN_HAND: Final = 5_000
"""Events that may be processed but not acknowledged."""
_START_S: Final = 120.0
_STOP_S: Final = 6.0
"""Nothing is lost when Faust takes longer: what counts is acknowledged by then, or read again."""
_WRITE_S: Final = 5.0
"""When the changelog takes longer to have a record, the log says so."""
_LOOK_S: Final = 0.2
"""How often what was processed is acknowledged."""
_AT_ONCE: Final = 10
_STILL_S: Final = 8.0
"""A partition of which nothing is committed for so long, though there is something, is read again."""
_LOST_S: Final = 180.0
"""When that does not help for so long either, or the changelog takes no record, only another Faust app can."""
_ASK_S: Final = 10.0
"""How often it is asked what is unread, also when no window can be due."""

log = logs.get_logger()


class FaustRunner:
    """Tells the windows, or stands by."""

    def __init__(
        self,
        store: MandateStore,
        broker: Broker,
        connections: Connections,
        clock: Clock,
        settings: FleetStatsSettings,
    ) -> None:
        self._store = store
        self._broker = broker
        self._connections = connections
        self._clock = clock
        self._settings = settings

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set. Ends, so that it is started anew, when another has taken over or Faust has crashed."""
        route_faust_log()
        mandate = Mandate(self._store, LEASE, lease_s=self._settings.lease.total_seconds())
        if not await mandate.wait(stop):
            return
        try:
            await persist(mandate.take_over, "store_unavailable", stop)
            with tempfile.TemporaryDirectory(prefix="labkeeper-faust-", ignore_cleanup_errors=True) as folder:
                worker = await persist(partial(self._worker, folder, stop), "broker_unavailable", stop)
                async with worker.running():
                    await worker.work(mandate)
        except Abandoned as error:
            log.warning("stopped_in_trouble", reason=str(error), note="what was in hand is read again")
        except Overtaken as error:
            raise BrokerUnavailable(
                "another process tells the windows now: start again to stand by"
            ) from error
        finally:
            metrics.STATS_TOLD_UNTIL.set(0)
            await mandate.release()

    async def _worker(self, folder: str, stop: asyncio.Event) -> Worker:
        kafka = self._connections.kafka
        link = Link(kafka)
        topic = Catalogue(prefix=self._connections.topic_prefix).full_name(MACHINE_CHANGES)
        app_id = f"{topic}.{FAUST_GROUP}"
        replicas = await self._replicas(link, topic, changelog_of(app_id))
        app = make_app(
            app_id, kafka.servers, link.options(), replication=min(map(len, replicas)), folder=folder
        )
        return Worker(app, link, topic, len(replicas), self._broker, self._clock, self._settings, stop)

    async def _replicas(self, link: Link, topic: str, changelog: str) -> Sequence[Sequence[int]]:
        """Of each partition of the topic. Raises `Misconfigured` when the changelog does not have as many."""
        inspector = Inspector(link)
        try:
            await inspector.partitions(topic)
            found = await inspector.describe_fully([topic, changelog])
        finally:
            await inspector.close()
        partitions = len(found[topic])
        if len(found.get(changelog, found[topic])) != partitions:
            raise Misconfigured(
                f"{topic} has {partitions} partitions and {changelog} {len(found[changelog])}, and Faust needs as many: "
                f"stop all fleet-stats, delete the topic {changelog}, and start again. The table is made anew from the machines' next "
                "changes"
            )
        return found[topic]


class Worker:
    """One life of the Faust app in this process."""

    def __init__(
        self,
        app: Any,
        link: Link,
        topic: str,
        partitions: int,
        broker: Broker,
        clock: Clock,
        settings: FleetStatsSettings,
        stop: asyncio.Event,
    ) -> None:
        self._app = app
        self._link = link
        self._topic = topic
        self._partitions = frozenset(range(partitions))
        self._broker = broker
        self._clock = clock
        self._settings = settings
        self._rules = settings.rules
        self._stop = stop
        self._dead_letters = DeadLetters(broker, clock, settings.reject_limit)
        self._table = RecordTable(app, partitions=partitions, window_ms=self._rules.window_ms)
        app.tables.add(self._table)
        app.agent(app.topic(topic, allow_empty=True), name="changes")(self._read)
        self._processed: list[Any] = []
        self._room = asyncio.Event()
        self._whole = asyncio.Event()
        """Set once the whole table has been here, and so the floor is known."""
        self._floor = Ledger.beginning(self._rules, at=milliseconds(clock.now())).floor
        self._progress = Progress()
        self._failure: BaseException | None = None

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """The app, started and stopped within bounds, also when it has started in part only."""
        try:
            try:
                async with asyncio.timeout(_START_S):
                    await self._app.start()
            except TimeoutError as error:
                raise BrokerUnavailable(f"kafka: Faust has not started within {_START_S:.0f} s") from error
            yield
        finally:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_STOP_S):
                    await self._app.stop()

    async def work(self, mandate: Mandate) -> None:
        """Acknowledge what is processed, and tell what is due, until asked to stop.

        Raises `Overtaken`, and `BrokerUnavailable` when Faust has died or does not get on.
        """
        looks = max(1, round(self._settings.look_every.total_seconds() / _LOOK_S))
        number = 0
        while not await wait_for(self._stop, _LOOK_S):
            await self._acknowledge()
            number += 1
            if number % looks == 0:
                await persist(mandate.renew, "store_unavailable", self._stop)
                if self._has_all():
                    self._begin()
                    if self._settings.may_be_due(self._floor, self._clock.now()):
                        await self._tell(mandate)
                if self._progress.age() > _ASK_S:
                    await persist(self._caught_up_to, "broker_unavailable", self._stop)
                self._check_progress()
        await self._acknowledge()

    # --- reading -------------------------------------------------------------------------------------------------------

    async def _read(self, stream: Any) -> None:
        """The agent. Acknowledges nothing itself, and never goes on after an error: that would be one event lost."""
        try:
            async for event in stream.noack().events():
                await self._whole.wait()
                await self._process(event)
        except Exception as error:
            self._failure = error
            raise

    async def _process(self, event: Any) -> None:
        message = event.message
        at = round(message.timestamp * 1000)
        try:
            news = observed(_text(message.key), message.value or b"", _headers(message), at)
        except ValueError as error:
            await self._park(message, str(error))
            self._dead_letters.count(read=1, rejected=1)
        else:
            self._dead_letters.count(read=1, rejected=0)
            record = applied(
                self._table.record(news.machine_id), news, window_ms=self._rules.window_ms, floor=self._floor
            )
            outcome = "repeated" if record is None else "late" if at < self._floor else "counted"
            if record is not None:
                self._table.set_record(news.machine_id, record)
            metrics.STATS_CHANGES.labels(outcome).inc()
        self._processed.append(event)
        while len(self._processed) >= _IN_HAND:
            self._room.clear()
            await self._room.wait()

    async def _park(self, message: Any, reason: str) -> None:
        at = datetime.fromtimestamp(message.timestamp, UTC)
        received = Received(
            MACHINE_CHANGES,
            message.partition,
            message.offset,
            _text(message.key),
            message.value or b"",
            _headers(message),
            at,
        )
        put = partial(self._dead_letters.put, [(received, reason)])
        await persist(put, "broker_unavailable", self._stop)
        log.warning("dead_letter", offset=message.offset, partition=message.partition, reason=reason)

    async def _acknowledge(self) -> None:
        """Wait until the changelog has what was processed, then acknowledge that. Raises what Faust or the agent failed with."""
        events, self._processed = self._processed, []
        unwritten = set(self._table.take_unwritten())
        waited = 0.0
        while unwritten:
            self._check_alive()
            written, unwritten = await asyncio.wait(unwritten, timeout=_WRITE_S)
            for promise in written:
                if (error := promise.exception()) is not None:
                    raise BrokerUnavailable(
                        f"kafka: the changelog did not take a record: {error!r}"
                    ) from error
            if unwritten and self._stop.is_set():
                raise Abandoned(f"kafka: the changelog has not yet taken {len(unwritten)} records")
            if unwritten:
                log.warning("changelog_slow", records=len(unwritten))
                waited += _WRITE_S
            if waited > _LOST_S and await self._kafka_answers():
                raise BrokerUnavailable(
                    f"kafka: the changelog has not taken {len(unwritten)} records for {waited:.0f} s, though Kafka answers: "
                    "start again"
                )
        self._check_alive()
        for event in events:
            event.ack()
        self._room.set()

    async def _kafka_answers(self) -> bool:
        try:
            await self._broker.check()
        except BrokerUnavailable:
            return False
        return True

    def _check_alive(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self._app.crash_reason is not None:
            reason = self._app.crash_reason
            raise BrokerUnavailable(f"kafka: Faust has given up: {reason!r}") from reason

    # --- telling -------------------------------------------------------------------------------------------------------

    def _has_all(self) -> bool:
        """Whether all of the topic is ours, and the table is complete."""
        app = self._app
        if app.rebalancing or app.in_recovery or not app.tables.actives_ready:
            return False
        ours = {each.partition for each in app.consumer.assignment() if each.topic == self._topic}
        return ours >= self._partitions

    def _begin(self) -> None:
        """Go on where the last teller stopped; what it told, the records say."""
        if not self._whole.is_set():
            floors = [record.floor for record in self._table.records().values()]
            self._floor = (
                -(-max(floors, default=self._floor) // self._rules.window_ms) * self._rules.window_ms
            )
            self._whole.set()
            metrics.STATS_TOLD_UNTIL.set(self._floor / 1000)
            log.info("telling", machines=len(floors), since_ms=self._floor)

    async def _tell(self, mandate: Mandate) -> None:
        caught_up_to = await persist(self._caught_up_to, "broker_unavailable", self._stop)
        await persist(mandate.confirm, "store_unavailable", self._stop)
        until = milliseconds(caught_up_to - self._settings.grace)
        if self._floor + self._rules.window_ms > until or not self._has_all():
            return
        ledger = Ledger(self._rules, self._floor, dict(self._table.records()))
        windows = []
        for end, window in ledger.due(until):
            windows.append(window)
            if len(windows) == _AT_ONCE or end + self._rules.window_ms > until:
                await tell(self._broker, windows, self._stop)
                self._floor = end
                windows = []
        if self._has_all():
            self._table.forget_gone(ledger.records)
        metrics.STATS_MACHINES.set(len(ledger.records))

    async def _caught_up_to(self) -> datetime:
        """Everything published before this moment is in the table: it was processed here, or committed by a worker before."""
        lags = await self._broker.lag(MACHINE_CHANGES, group=FAUST_GROUP)
        for lag in lags:
            metrics.CONSUMER_LAG.labels(FAUST_GROUP, MACHINE_CHANGES, str(lag.partition)).set(lag.unread)
        self._progress.look(lags)
        if self._has_all():  # or Faust is about to seek by itself
            await self._read_again(self._progress.to_read_again(_STILL_S))
        return min(lag.oldest_unread_at or lag.measured_at for lag in lags)

    async def _read_again(self, lags: Sequence[Lag]) -> None:
        """From what Kafka has for the committed position: Faust's own idea of it may be ahead, after a commit that failed.

        What is read twice the versions tell. What a later change of the same machine has overtaken stays uncounted.
        """
        if not lags:
            return
        consumer = self._app.consumer
        committed = consumer._committed_offset  # noqa: SLF001  # Faust has no other way to tell
        consumer._gap.clear()  # noqa: SLF001  # holes that Faust thought to see; it finds the true ones again
        places = [TP(self._topic, lag.partition) for lag in lags]
        for place in places:
            committed.pop(place, None)
        async with self._link.asking("looking from where to read again"):
            await consumer.perform_seek()
            for place in places:
                if committed[place] is None:
                    await consumer.seek(place, 0)
        for lag in lags:
            log.warning("read_again", partition=lag.partition, unread=lag.unread)

    def _check_progress(self) -> None:
        """Raises `BrokerUnavailable` when a partition stands still for so long that nothing here will change that."""
        worst = self._progress.worst()
        if worst is None or worst[1] <= _LOST_S:
            return
        lag, still_s = worst
        log.error("stands_still", partition=lag.partition, unread=lag.unread, for_s=round(still_s))
        raise BrokerUnavailable(
            f"kafka: Faust has read nothing of partition {lag.partition} of {self._topic} for {still_s:.0f} s, though "
            f"{lag.unread} changes are unread: start again"
        )


def _text(raw: bytes | None) -> str:
    return (raw or b"").decode("utf-8", "replace")


def _headers(message: Any) -> dict[str, str]:
    headers = message.headers or ()
    items = headers.items() if isinstance(headers, Mapping) else headers
    return {name: _text(value) for name, value in items}
