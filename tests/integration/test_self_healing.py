"""Self-healing at work on a store: from a silent machine to the command in the outbox, and back to a machine that is well."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from consumers.watchdog.healer import Healer
from consumers.watchdog.policy_source import PolicySource
from pipeline.clock import ManualClock
from pipeline.store.healing import PowerLedger, read_view, saved_rules
from pipeline.store.power_protocol import Ordered
from schemas.changes import ChangeKind
from schemas.description import Description, PowerCycleState
from schemas.ids import new_ulid
from schemas.power import ControllerReport, PowerCommand, PowerRecord, PowerStatus, PowerStep
from schemas.topics import POWER_COMMANDS
from schemas.wire import ZERO_TIME
from tests.contract.stores import MEMORY, NOW, POSTGRESQL, WholeStore, add, open_store, setting

POLICY = """{
  // a comment
  pools: {
    "*": { after: "10m", attempts: 2, window: "6h", pause: "10m", factor: 2, pool_percent: 100, rack_machines: 1 },
    SkiaInternal: { dry_run: true },
  },
}"""


REHEARSING = "skia-i-1"
"""A machine of the pool SkiaInternal."""


@dataclass
class Lab:
    """A store, a watchdog's healer, and an agent that does as it is told."""

    store: WholeStore
    file: Path
    clock: ManualClock = field(default_factory=lambda: ManualClock(NOW))

    def __post_init__(self) -> None:
        self.file.write_text(POLICY)
        self.healer = self.another_healer()

    def another_healer(self, owner: str = "here:1") -> Healer:
        return Healer(self.store, PolicySource(self.file), owner)

    async def machine(self, machine_id: str, *, rack: str = "", **fields: object) -> None:
        dimensions = {"rack": [rack]} if rack else {}
        await add(self.store, machine_id, dimensions=dimensions, last_updated=NOW, **fields)
        await self.agent_reports(machine_id)

    async def agent_reports(
        self, machine_id: str, state: PowerCycleState = PowerCycleState.AVAILABLE
    ) -> None:
        report = ControllerReport(
            machine_id=machine_id,
            state=state,
            agent="rack4",
            controller="edgeswitch/rack4",
            port="7",
            at=self.clock.now(),
        )
        await self.store.apply_power([report], now=self.clock.now())

    async def goes_down(self, machine_id: str) -> None:
        await self.store.update(machine_id, setting(down_since=self.clock.now()), now=self.clock.now())

    async def reports(self, machine_id: str) -> None:
        self.clock.advance(timedelta(seconds=5))
        change = setting(down_since=ZERO_TIME, recovering="", last_updated=self.clock.now())
        await self.store.update(machine_id, change, now=self.clock.now())

    async def minutes(self, number: float) -> None:
        self.clock.advance(timedelta(minutes=number))
        for each in await self.store.power_outlets():
            await self.agent_reports(each.machine_id)
        await self.healer.round(self.clock.now())

    async def agent_does(self, machine_id: str, *statuses: PowerStatus) -> None:
        (record,) = await self.store.power_commands(machine_id=machine_id, pending=True)
        for status in statuses:
            self.clock.advance(timedelta(seconds=5))
            step = PowerStep(
                command_id=record.command.id,
                machine_id=machine_id,
                status=status,
                at=self.clock.now(),
                agent="rack4",
            )
            await self.store.apply_power([step], now=self.clock.now())

    async def commands(self) -> list[PowerCommand]:
        """Those that wait to be published."""
        rows = await self.store.take(limit=1000)
        return [
            PowerCommand.model_validate_json(row.message.value)
            for row in rows
            if row.message.topic == POWER_COMMANDS
        ]

    async def records(self, machine_id: str) -> list[PowerRecord]:
        return list(await self.store.power_commands(machine_id=machine_id))

    async def healing(self, machine_id: str) -> str:
        return (await self.get(machine_id)).healing

    async def get(self, machine_id: str) -> Description:
        return await self.store.get(machine_id)


@pytest.fixture(params=[MEMORY, pytest.param(POSTGRESQL, marks=pytest.mark.integration)])
async def lab(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Lab]:
    async with open_store(request) as store:
        yield Lab(store, tmp_path / "healing.json5")


_CYCLED = (PowerStatus.ACCEPTED, PowerStatus.OFF, PowerStatus.ON, PowerStatus.DONE)


async def test_a_machine_that_fell_silent_is_cycled_and_said_to_be_healed(lab: Lab) -> None:
    await lab.machine("m")
    await lab.goes_down("m")
    await lab.minutes(1)
    assert (await lab.healing("m")).startswith(
        "waiting: in trouble since 2026-03-01T12:30:15Z, long enough from"
    )
    assert await lab.commands() == []

    await lab.minutes(9.5)
    (command,) = await lab.commands()
    assert (command.machine_id, command.action, command.who) == ("m", "cycle", "labkeeper")
    assert command.why == "self-healing: silent since 2026-03-01T12:30:15Z, try 1 of 2"
    assert await lab.healing("m") == "cycling: a power cycle was ordered at 2026-03-01T12:40:45Z"
    assert (await lab.get("m")).power_cycle

    await lab.agent_does("m", *_CYCLED)
    await lab.minutes(1)
    assert "is done, and has not helped yet" in await lab.healing("m")
    await lab.reports("m")
    await lab.minutes(1)

    assert await lab.healing("m") == "healed: well again after the power cycle of 2026-03-01T12:40:45Z"
    told = [each for each in await lab.store.history("m") if each.kind is ChangeKind.HEALING]
    assert [each.after.partition(":")[0] for each in reversed(told)] == [
        "waiting",
        "cycling",
        "cycling",
        "healed",
    ]
    assert {each.who for each in told} == {"labkeeper"}


async def test_after_as_many_tries_as_it_may_it_gives_up_and_says_so_until_the_machine_is_well(
    lab: Lab,
) -> None:
    await lab.machine("m")
    await lab.goes_down("m")
    for pause in (11, 11):
        await lab.minutes(pause)
        await lab.agent_does("m", *_CYCLED)
    await lab.minutes(19)
    assert (await lab.healing("m")).startswith("cycling")
    await lab.minutes(2)

    assert len(await lab.records("m")) == 2
    machine = await lab.get("m")
    assert machine.healing.startswith("gave up: 2 of 2 power cycles within 6h are used up")
    assert machine.annotation.message == f"Self-healing {machine.healing}"
    assert machine.annotation.user == "labkeeper"
    await lab.minutes(8 * 60)
    assert (await lab.get("m")).healing == machine.healing, "the window has passed, and nobody has looked"
    assert len(await lab.records("m")) == 2
    await lab.reports("m")
    await lab.minutes(1)
    assert await lab.healing("m") == ""


async def test_two_watchdogs_order_one_cycle(lab: Lab) -> None:
    await lab.machine("m")
    await lab.goes_down("m")
    lab.clock.advance(timedelta(minutes=11))
    await lab.agent_reports("m")
    now = lab.clock.now()

    await asyncio.gather(lab.healer.round(now), lab.another_healer("there:2").round(now))

    assert len(await lab.records("m")) == 1
    assert len(await lab.commands()) == 1


async def test_a_try_that_another_watchdog_has_ordered_in_other_words_keeps_no_machine_from_its_turn(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its policy may be another, and both may have looked before either has ordered."""
    for machine_id in ("m", "n"):
        await lab.machine(machine_id, rack=machine_id)
        await lab.goes_down(machine_id)
    order = lab.store.order_power

    async def overtaken(command: PowerCommand, **options: Any) -> Ordered:
        if command.machine_id == "m":
            rival = command.model_copy(update={"id": new_ulid(), "why": "self-healing: try 1 of 3"})
            assert (await order(rival, **options)).is_new
        return await order(command, **options)

    monkeypatch.setattr(lab.store, "order_power", overtaken)
    await lab.minutes(11)

    ordered = {each.machine_id: each.why for each in await lab.commands()}
    assert ordered.keys() == {"m", "n"}
    assert ordered["m"] == "self-healing: try 1 of 3"


async def test_a_new_watchdog_goes_on_where_the_one_before_ended(lab: Lab) -> None:
    await lab.machine("m")
    await lab.goes_down("m")
    await lab.minutes(11)
    await lab.agent_does("m", *_CYCLED)
    lab.healer = lab.another_healer("there:2")
    await lab.minutes(5)
    assert len(await lab.records("m")) == 1

    await lab.minutes(6)

    assert len(await lab.records("m")) == 2


async def test_a_task_of_a_machine_long_silent_does_not_protect_it_for_ever(lab: Lab) -> None:
    await lab.machine("m", running_swarming_task=True)
    await lab.goes_down("m")
    await lab.minutes(60)
    assert (await lab.healing("m")).startswith("held: a task ran when it fell silent, which counts until")

    await lab.minutes(61)

    assert len(await lab.commands()) == 1


async def test_of_a_rack_one_at_a_time_the_longest_lost_first(lab: Lab) -> None:
    for name in ("a", "b", *(f"well-{number}" for number in range(9))):
        await lab.machine(name, rack="r4")
    await lab.goes_down("b")
    lab.clock.advance(timedelta(minutes=1))
    await lab.goes_down("a")

    await lab.minutes(12)

    assert [command.machine_id for command in await lab.commands()] == ["b"]
    assert await lab.healing("a") == "held: of rack r4 at most 1 may be cycled at once"
    await lab.agent_does("b", *_CYCLED)
    await lab.reports("b")
    await lab.minutes(1)
    assert [command.machine_id for command in await lab.commands()] == ["a", "b"]


async def test_machines_lost_with_their_switch_are_left_alone(lab: Lab) -> None:
    names = [f"m{number}" for number in range(8)]
    for name in names:
        await lab.machine(name)
        if name != "m7":
            await lab.goes_down(name)

    await lab.minutes(30)

    assert await lab.commands() == []
    assert "rather a network or a switch than machines" in await lab.healing("m0")


async def test_a_dry_run_only_says_what_it_would_do(lab: Lab) -> None:
    await lab.machine(REHEARSING)
    await lab.goes_down(REHEARSING)
    await lab.minutes(11)

    assert await lab.healing(REHEARSING) == "held: dry run: it would be cycled now"
    assert await lab.commands() == []


async def test_a_changed_policy_counts_and_a_bad_one_does_not(lab: Lab) -> None:
    await lab.machine(REHEARSING)
    await lab.goes_down(REHEARSING)
    await lab.minutes(11)
    lab.file.write_text("{pools: {SkiaInternal: {afte: '10m'}}}")
    await lab.minutes(1)
    assert await lab.commands() == []

    lab.file.write_text("{pools: {SkiaInternal: {}}}")
    await lab.minutes(1)

    assert len(await lab.commands()) == 1
    rules = await saved_rules(lab.store)
    assert list(rules.policies.pools) == ["SkiaInternal"]
    assert rules.totals.machines == 1


async def test_without_a_policy_what_was_said_is_taken_back(lab: Lab) -> None:
    await lab.machine(REHEARSING)
    await lab.goes_down(REHEARSING)
    await lab.minutes(11)
    lab.healer = Healer(lab.store, PolicySource(None), "here:2")

    await lab.minutes(1)

    assert await lab.healing(REHEARSING) == ""
    assert (await saved_rules(lab.store)).policies.is_off


async def test_the_ledger_reads_what_became_of_old_orders(lab: Lab) -> None:
    await lab.machine("m")
    await lab.goes_down("m")
    await lab.minutes(11)
    ledger, rules = PowerLedger(), await saved_rules(lab.store)
    first = await read_view(lab.store, ledger, rules, now=lab.clock.now())
    await lab.agent_does("m", *_CYCLED)

    second = await read_view(lab.store, ledger, rules, now=lab.clock.now())

    assert [each.records[0].status for each in (*first.machines, *second.machines)] == ["queued", "done"]
