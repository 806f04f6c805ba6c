"""`labkeeper power` and `labkeeper silences` against the façade itself; the test plays the agents."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import timedelta

import pytest

from producers.labkeeper import power_orders
from schemas.power import ControllerReport, PowerAction, PowerRecord, PowerStatus, PowerStep
from schemas.wire import to_milliseconds
from tests.unit.consumers.facade.lab import NOW, Lab, running
from tests.unit.producers.labkeeper.command_line import Result, labkeeper_beside

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("quiet_server")]

DEADLINE_S = 120


@pytest.fixture
async def lab() -> AsyncIterator[Lab]:
    async with running() as lab:
        yield lab


async def powered(lab: Lab, *names: str, **fields: object) -> None:
    """Machines whose controller answers."""
    for name in names:
        await lab.machine(name, power_cycle_state="available", **fields)
    await lab.store.apply_power(
        [
            ControllerReport.model_validate(
                {
                    "machine_id": name,
                    "state": "available",
                    "agent": "rack4",
                    "controller": "mpower/strip-a",
                    "port": str(number + 1),
                    "at": NOW,
                }
            )
            for number, name in enumerate(names)
        ],
        now=NOW,
    )


async def power(lab: Lab, *arguments: str, answer: str = "") -> Result:
    return await labkeeper_beside("power", *arguments, answer=answer, LABKEEPER_URL=lab.url)


async def pending(lab: Lab) -> list[PowerRecord]:
    return list(await lab.store.power_commands(pending=True))


class Agent:
    """Carries out every command as soon as it is there; some end badly."""

    def __init__(self, lab: Lab, **ends: PowerStatus) -> None:
        self._lab = lab
        self._ends = ends
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> None:
        self._task = asyncio.create_task(self._work())

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task

    async def _work(self) -> None:
        while True:
            for record in await pending(self._lab):
                end = self._ends.get(record.command.machine_id, PowerStatus.DONE)
                for status in (PowerStatus.ACCEPTED, PowerStatus.OFF, end):
                    step = PowerStep(
                        command_id=record.command.id,
                        machine_id=record.command.machine_id,
                        status=status,
                        at=to_milliseconds(NOW),
                        agent="rack4",
                        text="the switch is on fire" if status is PowerStatus.FAILED else "",
                    )
                    await self._lab.store.apply_power([step], now=NOW, announce=True)
            await asyncio.sleep(0.02)


async def test_a_cycle_is_queued_and_that_is_said(lab: Lab) -> None:
    await powered(lab, "a")
    result = await power(lab, "cycle", "a", "--reason", "hangs", "--delay", "7")
    assert (result.code, result.out) == (0, "a: queued\n")
    [record] = await pending(lab)
    assert (record.command.action, record.command.why, record.command.delay_s) == (
        PowerAction.CYCLE,
        "hangs",
        7,
    )


@pytest.mark.parametrize(("options", "minutes"), [((), 10), (("--expires", "2h"), 120)], ids=["10m", "2h"])
async def test_a_command_expires_when_it_is_said_to(lab: Lab, options: tuple[str, ...], minutes: int) -> None:
    await powered(lab, "a")
    assert (await power(lab, "off", "a", *options)).code == 0
    [record] = await pending(lab)
    assert record.command.expires_at - record.command.requested_at == timedelta(minutes=minutes)


@pytest.mark.parametrize("span", ["0s", "25h"])
async def test_an_expiry_that_the_api_would_not_take_is_refused_before_it_is_asked(
    lab: Lab, span: str
) -> None:
    await powered(lab, "a")
    result = await power(lab, "cycle", "a", "--expires", span)
    assert (result.code, await pending(lab)) == (2, [])
    assert f"'{span}': must be from 1s to 1d" in result.err


async def test_whoever_orders_hears_that_the_agent_is_away(lab: Lab) -> None:
    await powered(lab, "a", "b", "c")
    lab.clock.advance(timedelta(minutes=12))
    one = await power(lab, "cycle", "a", "--wait", "--timeout", "0.3")
    assert one.out == "a: queued\n"
    assert (
        "agent rack4 was last heard of 12 min ago: the command waits for it until 12:22:00Z, and then expires\n"
        in one.err
    )
    two = await power(lab, "cycle", "b", "c", "--yes")
    assert "12 min ago: 2 commands wait for it until 12:22:00Z, and then expire\n" in two.err


async def test_an_agent_that_was_heard_of_lately_is_not_worth_a_word(lab: Lab) -> None:
    await powered(lab, "a")
    lab.clock.advance(timedelta(minutes=9))
    assert (await power(lab, "cycle", "a")).err == ""


async def test_looks_tell_of_an_agent_that_is_away(lab: Lab) -> None:
    await powered(lab, "a")  # long before today
    for look in (["list"], ["get", "a"]):
        assert "available, agent silent for " in (await power(lab, *look)).out


async def test_waiting_tells_every_step_and_ends_with_the_last(lab: Lab) -> None:
    await powered(lab, "a")
    async with Agent(lab), asyncio.timeout(DEADLINE_S):
        result = await power(lab, "cycle", "a", "--wait")
    assert (result.code, result.lines) == (0, ["a: queued", "a: accepted", "a: off", "a: done"])


async def test_a_step_that_takes_long_says_why(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    await powered(lab, "a")
    is_told, loop, tell = asyncio.Event(), asyncio.get_running_loop(), power_orders._tell

    def heard(order: power_orders.Order, record: PowerRecord, text: str) -> None:
        tell(order, record, text)
        if text == "still accepted: no answer within 10 s":
            loop.call_soon_threadsafe(is_told.set)

    monkeypatch.setattr(power_orders, "_tell", heard)
    told = asyncio.create_task(power(lab, "cycle", "a", "--wait"))
    async with asyncio.timeout(DEADLINE_S):
        while not (waiting := await pending(lab)):
            await asyncio.sleep(0.01)

        async def reaches(status: PowerStatus, text: str = "") -> None:
            step = PowerStep(
                command_id=waiting[0].command.id,
                machine_id="a",
                status=status,
                at=to_milliseconds(NOW),
                agent="rack4",
                text=text,
            )
            await lab.store.apply_power([step], now=NOW, announce=True)

        await reaches(PowerStatus.ACCEPTED)
        await reaches(PowerStatus.ACCEPTED, "no answer within 10 s")
        await is_told.wait()
        await reaches(PowerStatus.DONE)
        result = await told
    assert result.lines == ["a: queued", "a: accepted", "a: still accepted: no answer within 10 s", "a: done"]


async def test_one_that_fails_does_not_hide_behind_the_others(lab: Lab) -> None:
    await powered(lab, "a", "b")
    async with Agent(lab, b=PowerStatus.FAILED), asyncio.timeout(DEADLINE_S):
        result = await power(lab, "cycle", "a", "b", "--yes", "--wait")
    assert result.code == 1
    assert "a: done" in result.lines
    assert "b: failed (the switch is on fire)" in result.lines
    assert "1 of 2 commands came to no good end" in result.err


async def test_a_wait_that_takes_too_long_has_an_exit_code_of_its_own(lab: Lab) -> None:
    await powered(lab, "a")
    result = await power(lab, "off", "a", "--wait", "--timeout", "0.3")
    assert result.code == 6
    assert "will go on" in result.err
    assert len(await pending(lab)) == 1


async def test_a_refusal_says_why_and_force_overrules_it(lab: Lab) -> None:
    await powered(lab, "a", running_swarming_task=True)
    refused = await power(lab, "cycle", "a")
    assert refused.code == 5
    assert 'runs a task; to end it that way, use "force" (on the command line, --force)' in refused.err
    assert (await power(lab, "cycle", "a", "--force")).code == 0


async def test_a_machine_that_is_refused_does_not_hold_up_the_others(lab: Lab) -> None:
    await powered(lab, "a")
    await lab.machine("b")
    result = await power(lab, "cycle", "b", "a", "--yes")
    assert (result.code, result.out) == (5, "a: queued\n")
    assert "no power controller has b" in result.err


async def test_more_than_one_machine_takes_a_confirmation(lab: Lab) -> None:
    await powered(lab, "a", "b")
    silent = await power(lab, "cycle", "a", "b")
    assert silent.code == 1
    assert "nothing was switched" in silent.err
    assert (await power(lab, "cycle", "a", "b", answer="n\n")).code == 1
    assert await pending(lab) == []
    agreed = await power(lab, "cycle", "a", "b", answer="y\n")
    assert agreed.code == 0
    assert "Cycle the power of 2 machines (a, b)?" in agreed.err
    assert len(await pending(lab)) == 2


async def test_machines_are_chosen_by_what_they_are(lab: Lab) -> None:
    await powered(lab, "a", "b", down_since=NOW)
    await powered(lab, "c")
    assert (await power(lab, "cycle", "--down", "--yes")).lines == ["a: queued", "b: queued"]
    assert (await power(lab, "cycle", "--where", "os=CP/M")).code == 3
    assert (await power(lab, "cycle")).code == 2


async def test_a_second_wish_gets_to_know_the_first(lab: Lab) -> None:
    await powered(lab, "a")
    await power(lab, "off", "a")
    again = await power(lab, "off", "a")
    assert (again.code, again.out) == (0, "a: queued\n")
    other = await power(lab, "cycle", "a")
    assert other.code == 5
    assert "a: off of local is pending already (queued)" in other.lines
    assert "the power cycle of a was not taken, because another command (off) is pending" in other.err


async def test_what_waits_can_be_cancelled(lab: Lab) -> None:
    await powered(lab, "a")
    await power(lab, "cycle", "a")
    assert (await power(lab, "cancel", "a")).lines == ["a: cancelled"]
    assert (await power(lab, "cancel", "a")).lines == ["a: nothing was pending"]


async def test_a_machines_power_is_told(lab: Lab) -> None:
    await powered(lab, "a")
    await lab.machine("b")
    await power(lab, "cycle", "a", "--reason", "hangs")
    told = (await power(lab, "get", "a")).out
    assert "port 1 of mpower/strip-a, by agent rack4" in told
    assert "cycle queued" in told
    assert "no agent has a port for it" in (await power(lab, "get", "b")).out
    assert (await power(lab, "get", "nobody")).code == 3
    assert (await power(lab, "get", "a", "-o", "json")).json[0]["record"]["command"]["why"] == "hangs"


async def test_outlets_are_listed_as_people_count(lab: Lab) -> None:
    await powered(lab, "hall-0-10", "hall-0-2", "Hall-0-1")
    assert (await power(lab, "list", "-o", "name")).lines == ["Hall-0-1", "hall-0-2", "hall-0-10"]


async def test_outlets_are_listed(lab: Lab) -> None:
    await powered(lab, "rack4-1", "rack4-2", "rack5-1")
    table = (await power(lab, "list", "rack4-*")).lines
    assert table[0].split() == [
        "MACHINE",
        "CONTROLLER",
        "PORT",
        "AGENT",
        "STATE",
        "TOLD",
        "WHAT",
        "IS",
        "WRONG",
    ]
    assert [line.split()[:4] for line in table[1:]] == [
        ["rack4-1", "mpower/strip-a", "1", "rack4"],
        ["rack4-2", "mpower/strip-a", "2", "rack4"],
    ]
    assert (await power(lab, "list", "-o", "name")).lines == ["rack4-1", "rack4-2", "rack5-1"]
    assert "No machine meets" in (await power(lab, "list", "--in-error")).err


async def test_the_history_says_what_became_of_commands(lab: Lab) -> None:
    await powered(lab, "a", "b")
    async with Agent(lab, b=PowerStatus.FAILED), asyncio.timeout(DEADLINE_S):
        await power(lab, "cycle", "a", "b", "--yes", "--wait", "--reason", "why not")
    lines = (await power(lab, "history")).lines
    assert len(lines) == 3
    [failed] = [line.split() for line in lines if line.endswith("why not  the switch is on fire")]
    assert failed[1:4] == ["b", "cycle", "failed"]
    [only] = (await power(lab, "history", "a", "-o", "json")).json
    assert only["status"] == "done"
    assert "No power command is pending" in (await power(lab, "history", "--pending")).err


async def test_silences_come_and_go(lab: Lab) -> None:
    async def silences(*arguments: str) -> Result:
        return await labkeeper_beside("silences", *arguments, LABKEEPER_URL=lab.url)

    added = await silences("add", "--machine", "rack4-*", "--for", "2h", "--reason", "new switch")
    assert added.code == 0
    [name] = (await silences("list", "-o", "name")).lines
    assert added.out.startswith(f"{name}: silent until ")
    assert "rack4-*" in (await silences("list")).out
    assert (await silences("end", name)).lines == [f"{name}: ended"]
    assert (await silences("end", name)).code == 3
    assert "no silence" in (await silences("list")).err
    assert (await silences("list", "--all", "-o", "name")).lines == [name]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["add", "--for", "2h", "--reason", "x"], "Say which machines"),
        (["add", "--machine", "*", "--for", "soon", "--reason", "x"], "expected a span"),
        (["add", "--machine", "*", "--for", "366d", "--reason", "x"], "must be from 1s to 365d"),
        (["add", "--machine", "*", "--for", "2h"], "Missing option '--reason'"),
        (["end", "../x"], "is no silence"),
    ],
)
async def test_a_mistake_is_told_before_anything_is_asked(arguments: list[str], complaint: str) -> None:
    result = await labkeeper_beside("silences", *arguments, LABKEEPER_URL="http://127.0.0.1:1")
    assert result.code == 2
    assert complaint in result.err
