"""A machine that takes up a task keeps its power, unless somebody has begun or has said that a task does not matter."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from pipeline.errors import StoreUnavailable
from pipeline.store.memory import MemoryStore
from pipeline.store.power_protocol import Ordered
from schemas.description import Description, PowerCycleState
from schemas.ids import new_ulid
from schemas.power import PowerAction, PowerCommand, PowerRecord, PowerStatus, PowerStep
from schemas.topics import POWER_COMMANDS
from tests.unit.consumers.description_writer.test_service import NOW, Lab, event


class AskedStore(MemoryStore):
    """Counts what it is asked about power commands, and is away for the first withdrawals."""

    asked = 0
    away = 0

    async def power_commands(self, **options: Any) -> Sequence[PowerRecord]:
        self.asked += 1
        return await super().power_commands(**options)

    async def cancel_power(self, machine_id: str, **options: Any) -> Ordered | None:
        if self.away:
            self.away -= 1
            raise StoreUnavailable("away")
        return await super().cancel_power(machine_id, **options)


@pytest.fixture
def store() -> AskedStore:
    return AskedStore()


@pytest.fixture
def lab(store: AskedStore) -> Lab:
    return Lab(store)


def available(before: Description) -> Description:
    return before.model_copy(update={"power_cycle_state": PowerCycleState.AVAILABLE})


async def ordered(lab: Lab, *, action: PowerAction = PowerAction.CYCLE, force: bool = False) -> PowerCommand:
    await lab.write(event("m"))
    await lab.store.update("m", available, now=NOW)
    command = PowerCommand(
        id=new_ulid(),
        machine_id="m",
        action=action,
        who="ann",
        force=force,
        requested_at=NOW,
        expires_at=NOW + timedelta(minutes=10),
    )
    await lab.store.order_power(command, now=NOW)
    return command


async def record_of(lab: Lab, command: PowerCommand) -> PowerRecord:
    record = await lab.store.power_command(command.id)
    assert record is not None
    return record


@pytest.mark.parametrize("away", [0, 2])
@pytest.mark.parametrize("action", [PowerAction.CYCLE, PowerAction.OFF])
async def test_a_command_that_nobody_has_begun_gives_way_to_a_task(
    lab: Lab, store: AskedStore, action: PowerAction, away: int
) -> None:
    command = await ordered(lab, action=action)
    store.away = away

    await lab.write(event("m", running_swarming_task=True))

    record = await record_of(lab, command)
    assert record.status is PowerStatus.CANCELLED
    assert record.text == (
        'withdrawn by labkeeper: the machine runs a task; to end it that way, use "force" (on the command line, --force)'
    )
    assert (await lab.store.get("m")).power_status == PowerStatus.CANCELLED.value
    told = [row.message for row in await lab.store.take(limit=10) if row.message.topic == POWER_COMMANDS]
    assert PowerCommand.model_validate_json(told[-1].value) == command.model_copy(update={"cancelled": True})


@pytest.mark.parametrize("wish", [{"force": True}, {"action": PowerAction.ON}])
async def test_a_command_that_was_to_be_carried_out_although_a_task_runs_stays(
    lab: Lab, wish: dict[str, Any]
) -> None:
    command = await ordered(lab, **wish)

    await lab.write(event("m", running_swarming_task=True))

    assert (await record_of(lab, command)).status is PowerStatus.QUEUED


async def test_a_command_that_has_been_begun_goes_on(lab: Lab) -> None:
    command = await ordered(lab)
    begun = PowerStep(
        command_id=command.id, machine_id="m", status=PowerStatus.ACCEPTED, at=NOW, agent="rack4"
    )
    await lab.store.apply_power([begun], now=NOW)

    await lab.write(event("m", running_swarming_task=True))

    assert (await record_of(lab, command)).status is PowerStatus.ACCEPTED


async def test_nothing_is_asked_about_machines_that_run_a_task_or_wait_for_power_but_not_both(
    lab: Lab, store: AskedStore
) -> None:
    """Every report of every machine passes here."""
    await lab.write(event("busy", running_swarming_task=True))
    command = await ordered(lab)
    await lab.write(event("m"), event("m"))
    await lab.store.apply_power(
        [
            PowerStep(command_id=command.id, machine_id="m", status=PowerStatus.DONE, at=NOW, agent="rack4"),
        ],
        now=NOW,
    )
    await lab.write(event("m", running_swarming_task=True))

    assert store.asked == 0
