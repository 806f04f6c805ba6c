from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pipeline.errors import BrokerUnavailable, Rejected
from pipeline.retry import Backoff
from producers.machine_monitor.belief import Belief
from producers.machine_monitor.delivery import Delivery
from producers.machine_monitor.interrogation import Interrogator, TaskState
from producers.machine_monitor.loop import InterrogationLoop
from producers.machine_monitor.quarantine import QuarantineFile
from producers.machine_monitor.sinks.protocol import Sink
from producers.machine_monitor.spool import Spool, SpoolLimits
from schemas.description import AttachedDevice, Description
from schemas.event import Host
from tests.unit.producers.machine_monitor.fakes import FakeProbe, FakeSink

MACHINE = "machine-1"
PHONE = Description(attached_device="adb")
NO_WAIT = Backoff(first_s=0)


class Bench:
    """A monitor's loop and its delivery, with a fake phone and a fake other side."""

    def __init__(self, folder: Path) -> None:
        self.phone = FakeProbe()
        self.sink = FakeSink()
        self.belief = Belief()
        self.quarantine_file = folder / f"{MACHINE}.force_quarantine"
        self.spool_folder = folder / "spool"
        self.restart()

    def restart(self) -> None:
        """What a crash and a new start do."""
        host = Host(name=MACHINE, version="v1", start_time=datetime(2026, 3, 1, tzinfo=UTC))
        self.spool = Spool(self.spool_folder, SpoolLimits())
        quarantine = QuarantineFile(self.quarantine_file.parent, MACHINE)
        self.delivery = Delivery(
            self.spool, lambda: nullcontext(self.sink), quarantine, MACHINE, backoff=NO_WAIT
        )
        self.loop = InterrogationLoop(
            MACHINE,
            Interrogator(host, {AttachedDevice.ADB: self.phone}, TaskState()),
            self.belief,
            self.spool,
            quarantine,
            period=timedelta(hours=1),
            on_event=self.delivery.notify,
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """While the context lasts, both run."""
        tasks = [asyncio.create_task(part) for part in (self.loop.run(), self.delivery.run())]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


async def test_nothing_is_interrogated_before_it_is_known_what_is_attached(bench: Bench) -> None:
    async with bench.running():
        for _ in range(20):
            await asyncio.sleep(0)
        assert bench.phone.asked == []
        bench.belief.replace(PHONE)
        (event,) = await bench.sink.got(1)
    assert event.device_kind == "android"


async def test_events_count_up_from_0(bench: Bench) -> None:
    bench.belief.replace(PHONE)
    async with bench.running():
        for count in range(1, 4):
            await bench.sink.got(count)
            bench.loop.trigger()
    assert [event.sequence for event in bench.sink.events[:3]] == [0, 1, 2]


async def test_messages_carry_cloudevents_headers(bench: Bench) -> None:
    bench.belief.replace(PHONE)
    await bench.loop.step()
    await bench.delivery.empty()
    (headers,) = bench.sink.headers
    assert headers["ce_type"] == "dev.labkeeper.machine.event"
    assert headers["ce_source"] == "/machines/machine-1"


async def test_while_the_other_side_is_away_events_wait_in_order(bench: Bench) -> None:
    bench.belief.replace(PHONE)
    bench.sink.trouble = BrokerUnavailable("away")
    async with bench.running():
        for _ in range(3):
            async with asyncio.timeout(60):
                await bench.sink.refused.wait()
            bench.sink.refused.clear()
            await bench.loop.step()
        bench.sink.trouble = None
        events = await bench.sink.got(4)
    assert [event.sequence for event in events] == [0, 1, 2, 3]


async def test_what_waits_survives_a_crash(bench: Bench) -> None:
    bench.belief.replace(PHONE)
    await bench.loop.step()
    bench.restart()
    await bench.loop.step()
    await bench.delivery.empty()
    assert [event.sequence for event in bench.sink.events] == [0, 0]


async def test_a_refused_event_is_put_aside_and_the_next_is_sent(bench: Bench) -> None:
    bench.belief.replace(PHONE)
    await bench.loop.step()
    bench.sink.trouble = Rejected("answered 400: no")
    await bench.delivery.empty()
    bench.sink.trouble = None
    await bench.loop.step()
    await bench.delivery.empty()
    assert [event.sequence for event in bench.sink.events] == [1]
    (reason,) = (bench.spool_folder / "parked").glob("*.reason")
    assert reason.read_text() == "answered 400: no"


async def test_a_connection_that_cannot_be_opened_is_tried_again(bench: Bench) -> None:
    bench.belief.replace(PHONE)
    failures = iter((BrokerUnavailable("not up yet"), BrokerUnavailable("still not")))

    @asynccontextmanager
    async def connect() -> AsyncIterator[Sink]:
        if (failure := next(failures, None)) is not None:
            raise failure
        yield bench.sink

    bench.delivery._connect = connect
    async with bench.running():
        assert len(await bench.sink.got(1)) == 1


async def test_a_quarantine_file_stays_until_its_report_is_accepted(bench: Bench) -> None:
    bench.belief.replace(PHONE)
    bench.quarantine_file.touch()
    bench.sink.trouble = BrokerUnavailable("away")
    await bench.loop.step()
    with pytest.raises(BrokerUnavailable):
        await bench.delivery.empty()
    assert bench.quarantine_file.exists()
    bench.sink.trouble = None
    await bench.delivery.empty()
    assert not bench.quarantine_file.exists()


async def test_a_quarantine_file_is_reported_once(bench: Bench) -> None:
    bench.belief.replace(PHONE)
    bench.quarantine_file.touch()
    for _ in range(2):
        await bench.loop.step()
    bench.restart()
    await bench.loop.step()
    await bench.delivery.empty()
    await bench.loop.step()
    await bench.delivery.empty()
    assert [event.forced_quarantine for event in bench.sink.events] == [True, False, False, False]


async def test_a_second_quarantine_file_is_reported_too(bench: Bench) -> None:
    bench.belief.replace(PHONE)
    for _ in range(2):
        bench.quarantine_file.touch()
        await bench.loop.step()
        await bench.delivery.empty()
    assert [event.forced_quarantine for event in bench.sink.events] == [True, True]


async def test_when_the_report_is_refused_the_next_event_makes_it_again(bench: Bench) -> None:
    bench.belief.replace(PHONE)
    bench.quarantine_file.touch()
    await bench.loop.step()
    bench.sink.trouble = Rejected("answered 400: no")
    await bench.delivery.empty()
    bench.sink.trouble = None
    await bench.loop.step()
    await bench.delivery.empty()
    assert [event.forced_quarantine for event in bench.sink.events] == [True]
    assert not bench.quarantine_file.exists()
