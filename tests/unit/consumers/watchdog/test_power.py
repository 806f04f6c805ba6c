"""The watchdog ends power commands that nobody ends, and forgets old ones."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from consumers.watchdog.service import Watchdog
from consumers.watchdog.settings import WatchdogSettings
from pipeline.clock import ManualClock
from pipeline.metrics import POWER_GIVEN_UP
from pipeline.store.memory import MemoryStore
from schemas.ids import new_ulid
from schemas.power import PowerAction, PowerCommand, PowerStatus, PowerStep
from schemas.topics import MACHINE_CHANGES

START = datetime(2026, 1, 2, 12, 0, 0, tzinfo=UTC)


class Lab:
    """A machine with a pending command, and a watchdog that hears nobody: that must not keep it from this."""

    def __init__(self) -> None:
        self.clock = ManualClock(START)
        self.store = MemoryStore(clock=self.clock)
        self.watchdog = Watchdog(self.store, self.clock, WatchdogSettings())
        self.command = PowerCommand(
            id=new_ulid(),
            machine_id="m",
            action=PowerAction.CYCLE,
            who="jo",
            requested_at=START,
            expires_at=START + timedelta(minutes=10),
        )

    async def status(self) -> PowerStatus | None:
        record = await self.store.power_command(self.command.id)
        return None if record is None else record.status

    async def look_after(self, **passed: int) -> PowerStatus | None:
        self.clock.advance(timedelta(**passed))
        await self.watchdog.look()
        return await self.status()


@pytest.fixture
async def lab() -> Lab:
    lab = Lab()
    await lab.store.update(
        "m",
        lambda before: before.model_copy(update={"power_cycle_state": "available"}),
        now=START,
        create=True,
    )
    await lab.store.order_power(lab.command, now=START)
    return lab


async def test_a_command_that_no_agent_begins_expires_a_minute_after_it_might_have_begun(lab: Lab) -> None:
    assert await lab.look_after(minutes=10, seconds=59) is PowerStatus.QUEUED
    before = POWER_GIVEN_UP.labels("expired")._value.get()

    assert await lab.look_after(seconds=1) is PowerStatus.EXPIRED

    assert not (await lab.store.get("m")).power_cycle
    told = await lab.store.take(limit=10)
    assert told[-1].message.topic == MACHINE_CHANGES
    assert POWER_GIVEN_UP.labels("expired")._value.get() == before + 1


async def test_a_command_of_which_nothing_is_heard_for_half_an_hour_has_failed(lab: Lab) -> None:
    step = PowerStep(
        command_id=lab.command.id, machine_id="m", status=PowerStatus.OFF, at=START, agent="rack4"
    )
    await lab.store.apply_power([step], now=START)

    assert await lab.look_after(minutes=29) is PowerStatus.OFF
    assert await lab.look_after(minutes=1) is PowerStatus.FAILED


async def test_old_commands_are_forgotten_with_the_history(lab: Lab) -> None:
    assert await lab.look_after(days=90) is PowerStatus.EXPIRED
    assert await lab.look_after(hours=1) is None
