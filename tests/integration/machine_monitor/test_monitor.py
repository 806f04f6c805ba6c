from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import pytest

from pipeline.broker.memory import MemoryBroker
from pipeline.broker.protocol import Outgoing
from pipeline.clock import ManualClock, SystemClock
from pipeline.errors import Misconfigured, Retryable
from pipeline.facade_access import Token
from producers.machine_monitor import delivery, description_watch
from producers.machine_monitor.service import interrogate_once, run_monitor, send_once
from producers.machine_monitor.settings import MonitorSettings, ProbeSettings
from schemas.changes import ChangeKind, change_json
from schemas.description import Description
from schemas.event import Event
from schemas.topics import MACHINE_CHANGES, MACHINE_EVENTS
from tests.integration.machine_monitor.facade_double import FacadeDouble
from tests.integration.machine_monitor.tools import Toolbox

pytestmark = pytest.mark.integration

PHONE = Description(attached_device="adb", dimensions={"android_devices": ["1"]}, row_version=2)
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits long before the next try."""
    for module in (delivery, description_watch):
        original = module.Backoff
        monkeypatch.setattr(module, "Backoff", lambda first_s=1.0, cap_s=1.0, make=original: make(0.02, 0.05))


@pytest.fixture
async def facade() -> AsyncIterator[FacadeDouble]:
    facade = FacadeDouble()
    await facade.come()
    yield facade
    await facade.go()


@pytest.fixture
def tools(toolbox: Toolbox) -> Toolbox:
    """A host with a phone."""
    toolbox.add("lspci", "true")
    toolbox.add("docker", "exit 1")
    toolbox.add(
        "adb",
        'case "$*" in "shell cat /proc/uptime") echo "135.7 523.8";; "shell getprop") echo "[a]: [b]";; esac',
    )
    return toolbox


@pytest.fixture
def settings(tmp_path: Path, facade: FacadeDouble) -> MonitorSettings:
    (tmp_path / "home").mkdir()
    return MonitorSettings(
        machine_id="machine-1",
        state_dir=tmp_path / "state",
        home=tmp_path / "home",
        url=facade.url,
        token=Token("t0ken"),
        period=timedelta(hours=1),
        description_period=timedelta(hours=1),
        port=None,
        probes=ProbeSettings(metadata_host="127.0.0.1:1"),
    )


@asynccontextmanager
async def running(settings: MonitorSettings, tools: Toolbox) -> AsyncIterator[None]:
    """A monitor, for as long as the context lasts."""
    stop = asyncio.Event()
    monitor = asyncio.create_task(
        run_monitor(settings, stop, clock=SystemClock(), environment=tools.environment)
    )
    try:
        yield
    finally:
        stop.set()
        async with asyncio.timeout(60):
            await monitor


async def test_the_first_event_already_knows_what_is_attached(
    facade: FacadeDouble, settings: MonitorSettings, tools: Toolbox
) -> None:
    facade.description = PHONE
    async with running(settings, tools):
        (event,) = await facade.got(1)
    assert event.device_kind == "android"
    assert event.host.name == "machine-1"
    assert facade.tokens == {"Bearer t0ken"}


async def test_an_unknown_machine_reports_the_host(
    facade: FacadeDouble, settings: MonitorSettings, tools: Toolbox
) -> None:
    facade.description = None
    async with running(settings, tools):
        (event,) = await facade.got(1)
    assert event.device_kind == "standalone"


async def test_a_machine_known_from_before_does_not_wait_for_the_facade(
    facade: FacadeDouble, settings: MonitorSettings, tools: Toolbox
) -> None:
    facade.description = PHONE
    async with running(settings, tools):
        await facade.got(1)
    facade.description_status = 500
    async with running(settings, tools):
        events = await facade.got(2)
    assert [event.device_kind for event in events] == ["android", "android"]
    assert events[1].host.start_time > events[0].host.start_time
    assert [event.sequence for event in events] == [0, 0]


async def test_a_machine_never_heard_of_waits_until_the_facade_tells(
    facade: FacadeDouble, settings: MonitorSettings, tools: Toolbox
) -> None:
    facade.description, facade.description_status = PHONE, 503
    async with running(settings, tools):
        await facade.until(lambda: facade.asked >= 3)
        assert facade.events == []
        facade.description_status = 200
        (event,) = await facade.got(1)
    assert event.device_kind == "android"


async def test_events_wait_while_the_facade_is_away_and_arrive_in_order(
    facade: FacadeDouble, settings: MonitorSettings, tools: Toolbox
) -> None:
    async with running(replace(settings, period=timedelta(seconds=0.05)), tools):
        await facade.got(2)
        await facade.go()
        spool = settings.state_dir / "spool"
        async with asyncio.timeout(60):
            while len(list(spool.glob("*.event"))) < 5:
                await asyncio.sleep(0.01)
        before = len(facade.events)
        await facade.come()
        await facade.got(before + 8)
    sequences = [event.sequence for event in facade.events]
    assert sorted(set(sequences), key=lambda number: number or 0) == list(range(len(set(sequences))))
    assert sequences == sorted(sequences, key=lambda number: number or 0)


async def test_a_monitor_that_ends_leaves_its_events_to_the_next(
    facade: FacadeDouble, settings: MonitorSettings, tools: Toolbox
) -> None:
    async with running(settings, tools):
        await facade.got(1)
    facade.event_status = lambda _event: 503
    async with running(settings, tools):
        spool = settings.state_dir / "spool"
        async with asyncio.timeout(60):
            while not list(spool.glob("*.event")):
                await asyncio.sleep(0.01)
    facade.event_status = lambda _event: 200
    async with running(settings, tools):
        events = await facade.got(3)
    starts = [event.host.start_time for event in events]
    assert starts == sorted(set(starts))


@pytest.mark.parametrize("status", [400, 403, 404, 422])
async def test_an_event_that_is_refused_is_put_aside(
    facade: FacadeDouble, settings: MonitorSettings, tools: Toolbox, status: int
) -> None:
    facade.event_status = lambda event: status if event.sequence == 0 else 200
    async with running(replace(settings, period=timedelta(seconds=0.05)), tools):
        events = await facade.got(1)
    assert events[0].sequence == 1
    (reason,) = (settings.state_dir / "spool" / "parked").glob("*.reason")
    assert f"answered {status}" in reason.read_text()


@pytest.mark.parametrize("status", [303, 408, 429, 500, 503])
async def test_an_event_that_is_not_taken_now_is_sent_again(
    facade: FacadeDouble, settings: MonitorSettings, tools: Toolbox, status: int
) -> None:
    tries: list[int | None] = []

    def answer(event: Event) -> int:
        tries.append(event.sequence)
        return status if len(tries) < 3 else 200

    facade.event_status = answer
    async with running(settings, tools):
        await facade.got(1)
    assert tries == [0, 0, 0]


async def test_the_report_of_a_quarantine_is_not_lost(
    facade: FacadeDouble, settings: MonitorSettings, tools: Toolbox
) -> None:
    file = settings.home / "machine-1.force_quarantine"
    file.touch()
    refused = asyncio.Event()

    def away(_event: Event) -> int:
        refused.set()
        return 503

    facade.event_status = away
    async with running(settings, tools):
        async with asyncio.timeout(60):
            await refused.wait()
        assert file.exists()
    facade.event_status = lambda _event: 200
    async with running(settings, tools):
        events = await facade.got(2)
    assert [event.forced_quarantine for event in events] == [True, False]
    assert not file.exists()


async def test_a_message_with_the_description_takes_effect_at_once(
    facade: FacadeDouble, settings: MonitorSettings, tools: Toolbox
) -> None:
    async with running(settings, tools):
        await facade.got(1)
        await facade.listened()
        await facade.until(lambda: facade.asked == 2)
        await facade.say(PHONE.model_dump_json(), number=1)
        events = await facade.got(2)
    assert [event.device_kind for event in events] == ["standalone", "android"]
    assert facade.asked == 2


async def test_a_message_that_only_nudges_leads_to_a_question(
    facade: FacadeDouble, settings: MonitorSettings, tools: Toolbox
) -> None:
    async with running(settings, tools):
        await facade.got(1)
        await facade.listened()
        facade.description = PHONE
        await facade.say("update", number=1)
        events = await facade.got(2)
    assert events[1].device_kind == "android"


async def test_a_lost_stream_is_taken_up_where_it_ended(
    facade: FacadeDouble, settings: MonitorSettings, tools: Toolbox
) -> None:
    async with running(settings, tools):
        await facade.got(1)
        await facade.listened()
        await facade.until(lambda: facade.asked == 2)
        await facade.say("update", number=41)
        await facade.until(lambda: facade.asked == 3)
        await facade.go()
        await facade.come()
        await facade.until(lambda: len(facade.last_event_ids) >= 2)
    assert facade.last_event_ids[:2] == [None, "41"]


async def test_the_swarming_bot_hears_the_descriptions_dimensions(
    facade: FacadeDouble, settings: MonitorSettings, tools: Toolbox, unused_tcp_port: int
) -> None:
    facade.description = PHONE
    root = f"http://127.0.0.1:{unused_tcp_port}"
    async with running(replace(settings, port=unused_tcp_port), tools), aiohttp.ClientSession() as bot:
        await facade.got(1)
        async with bot.post(f"{root}/get_dimensions", json={"pool": ["Skia"]}) as answer:
            assert await answer.json() == {"pool": ["Skia"], "android_devices": ["1"]}


async def test_after_a_task_the_phone_is_rebooted_though_the_bot_has_hung_up(
    facade: FacadeDouble, settings: MonitorSettings, tools: Toolbox, unused_tcp_port: int
) -> None:
    facade.description = PHONE
    root = f"http://127.0.0.1:{unused_tcp_port}"
    async with running(replace(settings, port=unused_tcp_port), tools):
        await facade.got(1)
        async with aiohttp.ClientSession() as bot:
            for path in ("on_before_task", "on_after_task"):
                async with bot.get(f"{root}/{path}") as answer:
                    assert answer.status == 200
        await facade.got(2)
    assert "adb reboot" in tools.calls
    assert not facade.events[1].running_swarming_task


async def test_a_port_that_is_taken_ends_the_monitor_with_the_reason(
    facade: FacadeDouble, settings: MonitorSettings, tools: Toolbox
) -> None:
    taken = int(facade.url.rpartition(":")[2])
    with pytest.raises(Misconfigured, match="--port"):
        await run_monitor(
            replace(settings, port=taken), asyncio.Event(), clock=SystemClock(), environment=tools.environment
        )


async def test_a_clock_that_was_set_back_does_not_make_events_old(
    facade: FacadeDouble, settings: MonitorSettings, tools: Toolbox
) -> None:
    for now in (NOW, NOW - timedelta(days=1)):
        await send_once(settings, clock=ManualClock(now), environment=tools.environment)
    first, second = (event.host.start_time for event in facade.events)
    assert second == first + timedelta(milliseconds=1)


async def test_sending_once_to_nobody_is_an_error_and_the_event_waits(
    facade: FacadeDouble, settings: MonitorSettings, tools: Toolbox
) -> None:
    facade.event_status = lambda _event: 503
    with pytest.raises(Retryable, match="answered 503"):
        await send_once(settings, clock=SystemClock(), environment=tools.environment)
    facade.event_status = lambda _event: 200
    await send_once(settings, clock=SystemClock(), environment=tools.environment)
    assert len(facade.events) == 2


async def test_showing_an_event_sends_nothing_and_leaves_no_trace(
    facade: FacadeDouble, settings: MonitorSettings, tools: Toolbox
) -> None:
    facade.description = PHONE
    event = await interrogate_once(settings, clock=ManualClock(NOW), environment=tools.environment)
    assert (event.device_kind, event.host.start_time, event.sequence) == ("android", NOW, 0)
    assert facade.events == []
    assert not settings.state_dir.exists()


async def test_without_a_facade_an_earlier_belief_counts(
    facade: FacadeDouble, settings: MonitorSettings, tools: Toolbox
) -> None:
    facade.description = PHONE
    await send_once(settings, clock=SystemClock(), environment=tools.environment)
    event = await interrogate_once(
        replace(settings, url=None), clock=SystemClock(), environment=tools.environment
    )
    assert event.device_kind == "android"


async def test_with_a_broker_events_go_to_the_topic_and_the_facade_only_tells(
    facade: FacadeDouble, settings: MonitorSettings, tools: Toolbox
) -> None:
    facade.description = PHONE
    broker = MemoryBroker()
    await send_once(
        settings, clock=SystemClock(), open_broker=lambda: nullcontext(broker), environment=tools.environment
    )
    (message,) = await broker.fetch(MACHINE_EVENTS)
    await broker.close()
    assert message.key == "machine-1"
    assert Event.model_validate_json(message.value).device_kind == "android"
    assert facade.events == []


async def test_what_operators_set_reaches_a_monitor_that_has_only_a_broker(
    settings: MonitorSettings, tools: Toolbox
) -> None:
    alone, broker, stop = replace(settings, url=None), MemoryBroker(), asyncio.Event()
    await tell(broker, PHONE)
    monitor = asyncio.create_task(
        run_monitor(
            alone,
            stop,
            clock=SystemClock(),
            open_broker=lambda: nullcontext(broker),
            environment=tools.environment,
        )
    )
    try:
        assert await kinds(broker, 1) == ["android"]
        await tell(broker, PHONE.model_copy(update={"attached_device": "nodevice", "row_version": 3}))
        assert await kinds(broker, 2) == ["android", "standalone"]
    finally:
        stop.set()
        async with asyncio.timeout(60):
            await monitor
    await broker.close()


async def tell(broker: MemoryBroker, description: Description) -> None:
    value = change_json("machine-1", [ChangeKind.DEVICE], "who@example.org", description)
    await broker.publish([Outgoing(MACHINE_CHANGES, "machine-1", value)])


async def kinds(broker: MemoryBroker, count: int) -> list[str | None]:
    """Of the devices that were reported, as soon as there are so many."""
    async with asyncio.timeout(60):
        while len(messages := await broker.fetch(MACHINE_EVENTS)) < count:
            await asyncio.sleep(0.01)
    return [Event.model_validate_json(message.value).device_kind for message in messages]


async def test_without_facade_and_broker_there_is_nothing_to_do(
    settings: MonitorSettings, tools: Toolbox
) -> None:
    with pytest.raises(Misconfigured, match="say where events shall go"):
        await run_monitor(
            replace(settings, url=None), asyncio.Event(), clock=SystemClock(), environment=tools.environment
        )
