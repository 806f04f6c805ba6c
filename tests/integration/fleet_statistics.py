"""Fleet statistics as processes of their own, and a story for them to tell."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, TypeVar

from pipeline.broker.protocol import Broker, Outgoing, Received
from pipeline.service import persist
from pipeline.settings import Connections
from pipeline.statistics.ledger import Ledger
from pipeline.statistics.observation import milliseconds, observed
from pipeline.statistics.tally import Rules
from pipeline.store.messages import change_message, deletion_message
from pipeline.store.protocol import Updated
from schemas.changes import ChangeKind
from schemas.description import Description
from schemas.fleet_stats import WHOLE_FLEET, FleetStats
from schemas.topics import FLEET_STATS, MACHINE_CHANGES

WINDOW: Final = timedelta(seconds=1)
RULES: Final = Rules(window=WINDOW)
GRACE: Final = timedelta(milliseconds=500)
MACHINES: Final = [f"rack{number % 4}-{number:02}" for number in range(24)]
_DEADLINE_S: Final = 60.0
_BORN: Final = datetime(2026, 1, 1, tzinfo=UTC)

Result = TypeVar("Result")
Windows = dict[tuple[str, datetime], FleetStats]
"""What is told, the later message in place of the earlier."""


def start(lab: Connections, runner: str, log: Path, *options: str) -> subprocess.Popen[bytes]:
    """A `labkeeper fleet-stats`."""
    words = [
        "--runner",
        runner,
        "--window",
        str(WINDOW.total_seconds()),
        "--grace",
        str(GRACE.total_seconds()),
    ]
    environment = {
        **os.environ,
        "LABKEEPER_DATABASE_URL": lab.database_url,
        "LABKEEPER_BROKER": lab.broker.value,
        "LABKEEPER_TOPIC_PREFIX": lab.topic_prefix,
        "LABKEEPER_KAFKA_SERVERS": ",".join(lab.kafka.servers),
        "LABKEEPER_LOG_FORMAT": "json",
    }
    with log.open("ab") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "consumers.fleet_stats", *words, "--take-over-after", "2", *options],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
        )


@contextlib.contextmanager
def running(lab: Connections, runner: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The same, killed in the end."""
    process = start(lab, runner, log)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def stop(process: subprocess.Popen[bytes]) -> int:
    """As a supervisor would; the exit code."""
    process.send_signal(signal.SIGTERM)
    return process.wait(30)


class Story:
    """Machines that fail and come back, in two pools; one is deleted now and then. Some changes are told twice."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        self._versions = dict.fromkeys(MACHINES, 0)
        self._latest: list[Outgoing] = []

    def some(self, count: int) -> list[Outgoing]:
        """The next changes."""
        return [self._next() for _ in range(count)]

    def _next(self) -> Outgoing:
        if self._latest and self._chance.random() < 0.15:
            return self._latest.pop()
        machine_id = self._chance.choice(MACHINES)
        self._versions[machine_id] += 1
        version = self._versions[machine_id]
        if self._chance.random() < 0.03:
            return deletion_message(machine_id, version)
        message = change_message(
            Updated(machine_id, self._state(machine_id, version), [ChangeKind.MODE]), "test"
        )
        self._latest = [message]
        return message

    def _state(self, machine_id: str, version: int) -> Description:
        state: Mapping[str, Any] = self._chance.choice(
            [
                {},
                {"recovering": "too hot"},
                {"maintenance_mode": "ann 2026"},
                {"is_quarantined": True},
                {"running_swarming_task": True},
                {"down_since": _BORN},
            ]
        )
        pool = "Phones" if machine_id.startswith("rack3") else "Lab"
        born = Description.new(machine_id, now=_BORN)
        dimensions = {"id": [machine_id], "pool": [pool]}
        return born.model_copy(update={"dimensions": dimensions, "row_version": version, **state})


async def read_all(broker: Broker, topic: str) -> list[Received]:
    """The whole topic."""
    found: list[Received] = []
    after: dict[int, int] = {}
    while page := await _stubbornly(partial(broker.fetch, topic, after=dict(after), limit=1000)):
        found.extend(page)
        for message in page:
            after[message.partition] = max(after.get(message.partition, -1), message.offset)
    return found


async def every_message(broker: Broker) -> dict[tuple[str, datetime], list[FleetStats]]:
    """What lies in `fleet.stats`: for each window of a pool all that was ever told of it, the latest last."""
    found: dict[tuple[str, datetime], list[FleetStats]] = {}
    for message in await read_all(broker, FLEET_STATS):
        stats = FleetStats.model_validate_json(message.value)
        found.setdefault((stats.pool, stats.window_start), []).append(stats)
    return found


async def told(broker: Broker) -> Windows:
    """The same, as a reader keeps it."""
    return {place: each[-1] for place, each in (await every_message(broker)).items()}


async def told_until(broker: Broker, end: datetime, tell: Callable[[], str], *, times: int = 1) -> Windows:
    """The same, once a window that ends then or later is there (told so many times). None may be missing before it."""
    deadline = time.monotonic() + _DEADLINE_S
    while not _is_there(await every_message(broker), end, times):
        assert time.monotonic() < deadline, tell()
        await asyncio.sleep(0.2)
    windows = await told(broker)
    starts = sorted(start for pool, start in windows if pool == WHOLE_FLEET)
    assert all(later - earlier == WINDOW for earlier, later in pairwise(starts))
    return {place: each for place, each in windows.items() if each.window_end <= end}


def _is_there(messages: Mapping[tuple[str, datetime], list[FleetStats]], end: datetime, times: int) -> bool:
    return any(found[0].window_end >= end and len(found) >= times for found in messages.values())


async def expected(broker: Broker, first: datetime, end: datetime) -> Windows:
    """What an undisturbed reader of the whole topic comes to."""
    ledger = Ledger.beginning(RULES, at=milliseconds(first))
    for message in await read_all(broker, MACHINE_CHANGES):
        at = milliseconds(message.published_at)
        ledger.apply(observed(message.key, message.value, dict(message.headers), at))
    due = ledger.due(milliseconds(end))
    return {(each.pool, each.window_start): each for _, window in due for each in window}


async def publish(broker: Broker, messages: Sequence[Outgoing]) -> None:
    """Whatever the broker has to say."""
    await _stubbornly(partial(broker.publish, messages))


async def _stubbornly(attempt: Callable[[], Awaitable[Result]]) -> Result:
    return await persist(attempt, "again", asyncio.Event())
