"""Power as old clients know it: the machine server's routes, and those of the power system before."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from pipeline import metrics
from schemas.description import Description
from schemas.power import PowerStatus, PowerStep
from schemas.silence import Silence
from schemas.wire import ZERO_TIME
from tests.unit.consumers.facade.broken import AwayStore
from tests.unit.consumers.facade.lab import NOW, Lab, running, watching
from tests.unit.consumers.facade.test_legacy import post
from tests.unit.consumers.facade.test_power import ID, POWER, ask, ordered, outlet, step

TOGGLE = f"/_/machine/toggle_powercycle/{ID}"
COMPLETE = f"/json/v1/powercycle/complete/{ID}"
LOST: dict[str, Any] = {
    "recovering": 'Device ["redfin"] has gone missing',
    "recovery_start": NOW - timedelta(minutes=9),
}
SILENT: dict[str, Any] = {"down_since": NOW - timedelta(minutes=5)}


async def listed(lab: Lab) -> Any:
    async with lab.http.get("/json/v1/powercycle/list") as response:
        assert response.status == 200
        return json.loads(await response.read())


async def down_bots(lab: Lab) -> list[Any]:
    async with lab.http.get("/down_bots") as response:
        assert (response.status, response.content_type) == (200, "application/json")
        bots: list[Any] = json.loads(await response.read())["list"]
        return bots


# --- toggle, list, complete --------------------------------------------------------------------------------------------
async def test_toggling_makes_a_command_and_toggling_again_withdraws_it(lab: Lab) -> None:
    await lab.machine(power_cycle_state="available")
    await post(lab, TOGGLE)
    (record,) = await lab.store.power_commands(machine_id=ID)
    assert (record.command.action, record.command.who, record.status) == ("cycle", "local", "queued")
    assert record.command.expires_at == NOW + timedelta(minutes=10)
    await post(lab, TOGGLE)
    (record,) = await lab.store.power_commands(machine_id=ID)
    assert record.status is PowerStatus.CANCELLED
    machine = await lab.store.get(ID)
    assert (machine.power_cycle, machine.annotation.message) == (False, 'Cancelled powercycle for "rack4-07"')
    assert await listed(lab) == []


async def test_toggling_withdraws_whatever_is_pending_also_another_action(lab: Lab) -> None:
    await lab.machine(power_cycle_state="available")
    await ordered(lab, "off")
    await post(lab, TOGGLE)
    (record,) = await lab.store.power_commands(machine_id=ID)
    assert record.status is PowerStatus.CANCELLED


async def test_toggling_takes_a_flag_down_that_an_older_release_has_left(lab: Lab) -> None:
    await lab.machine(power_cycle=True)
    await post(lab, TOGGLE)
    assert not (await lab.store.get(ID)).power_cycle


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({}, "no power controller has rack4-07"),
        ({"power_cycle_state": "in_error"}, "does not answer"),
        ({"power_cycle_state": "available", "running_swarming_task": True}, "runs a task"),
        ({"power_cycle_state": "available", "maintenance_mode": "eve x"}, "is in maintenance"),
    ],
)
async def test_a_wish_that_cannot_be_is_refused_in_plain_words(
    lab: Lab, fields: dict[str, Any], says: str
) -> None:
    await lab.machine(**fields)
    assert says in await post(lab, TOGGLE, status=409)
    assert not (await lab.store.get(ID)).power_cycle


async def test_a_cycle_that_has_begun_cannot_be_toggled_away(lab: Lab) -> None:
    await lab.machine(power_cycle_state="available")
    await post(lab, TOGGLE)
    (record,) = await lab.store.power_commands(machine_id=ID)
    await step(lab, record.model_dump(), PowerStatus.ACCEPTED)
    await post(lab, TOGGLE, status=409)


async def test_an_old_agent_does_not_get_what_another_has_begun_or_what_has_expired(lab: Lab) -> None:
    for machine_id in ("begun", "expired", "waiting"):
        await lab.machine(machine_id, power_cycle_state="available")
        sooner = {"expires_in_s": 5} if machine_id == "expired" else {}
        await ask(lab, "PUT", f"/api/v1/machines/{machine_id}/power", {"action": "cycle", **sooner})
    await lab.machine("flagged", power_cycle=True)
    (begun,) = await lab.store.power_commands(machine_id="begun")
    assert await listed(lab) == ["begun", "expired", "flagged", "waiting"]
    accepted = {"command_id": begun.command.id, "machine_id": "begun", "status": "accepted"}
    accepted |= {"at": NOW.isoformat(), "agent": "new"}
    await lab.store.apply_power([PowerStep.model_validate(accepted)], now=NOW)
    lab.clock.advance(timedelta(seconds=5))
    assert await listed(lab) == ["flagged", "waiting"]


async def test_completing_ends_the_command_at_once_for_everybody(lab: Lab) -> None:
    await lab.machine(power_cycle_state="available")
    record = await ordered(lab)
    async with watching(lab, f"/api/v1/machines/{ID}/watch") as client:
        await client.until("synced")
        await post(lab, COMPLETE)
        shown = Description.model_validate_json((await client.next()).data)
    assert (shown.power_cycle, shown.power_status) == (False, "done")
    ended = await lab.store.power_command(record["command"]["id"])
    assert ended is not None
    assert (ended.status, ended.agent) == (PowerStatus.DONE, "local")
    assert (await lab.store.take(limit=100))[-1].message.key == ID


async def test_completing_what_nobody_wished_for_is_fine(lab: Lab) -> None:
    await lab.machine(power_cycle_state="available")
    await post(lab, COMPLETE)
    record = await ordered(lab, "off")
    await post(lab, COMPLETE)
    still = await lab.store.power_command(record["command"]["id"])
    assert still is not None
    assert still.status is PowerStatus.QUEUED


async def test_a_machine_that_nobody_knows_cannot_be_completed_or_toggled(lab: Lab) -> None:
    await post(lab, COMPLETE, status=404)
    await post(lab, TOGGLE, status=404)


# --- down bots ---------------------------------------------------------------------------------------------------------
async def test_machines_that_are_silent_or_miss_their_device_are_listed_with_the_host_that_can_help(
    lab: Lab,
) -> None:
    await lab.machine("b-silent", dimensions={"id": ["b-silent"], "os": ["Linux", "Debian"]}, **SILENT)
    await lab.machine("a-lost", **LOST)
    await lab.machine("c-both", **SILENT, **LOST)
    await lab.machine("hot", recovering="Too hot.", recovery_start=NOW)
    await lab.machine("well")
    await lab.machine("unwired", **SILENT)
    for machine_id in ("b-silent", "a-lost", "hot", "well"):
        await outlet(lab, machine_id)
    await outlet(lab, "c-both", agent="jumphost-rack-9")

    bots = await down_bots(lab)

    assert [(each["bot_id"], each["host_id"], each["status"]) for each in bots] == [
        ("a-lost", "jumphost-rack4", "Device Missing"),
        ("b-silent", "jumphost-rack4", "Host Missing"),
        ("c-both", "jumphost-rack-9", "Host Missing"),
    ]
    assert bots[0]["since"] == "2026-03-01T11:51:00Z"
    assert bots[1]["since"] == "2026-03-01T11:55:00Z"
    assert {"key": "os", "value": ["Linux", "Debian"]} in bots[1]["dimensions"]
    assert not any(each["silenced"] for each in bots)


async def told_by_old_agent(lab: Lab, **states: str) -> None:
    machines = [
        {"MachineID": name.replace("_", "-"), "PowerCycleState": state} for name, state in states.items()
    ]
    await post(lab, "/json/v1/powercycle/state/update", {"Machines": machines})


async def test_machines_of_old_agents_are_listed_with_the_host_that_its_token_names(
    tokens: tuple[Path, dict[str, dict[str, str]]],
) -> None:
    """The old server says once, at its start, what it has: however long ago that is, it has it."""
    path, headers = tokens
    async with running(tokens=path, headers=headers["agent"]) as lab:
        for machine_id in ("failing", "given-up", "silent"):
            await lab.machine(machine_id, **SILENT)
        await lab.machine("lost", **LOST)
        await told_by_old_agent(lab, silent="available", failing="in_error", given_up="not_available")
        await told_by_old_agent(lab, lost_device="available", silent="available")
        lab.clock.advance(timedelta(days=30))

        bots = await down_bots(lab)

        assert [(each["bot_id"], each["host_id"], each["status"]) for each in bots] == [
            ("failing", "jumphost-rack4", "Host Missing"),
            ("lost", "jumphost-rack4", "Device Missing"),
            ("silent", "jumphost-rack4", "Host Missing"),
        ]


async def test_a_machine_that_an_old_agent_had_before_we_kept_names_is_listed_without_a_host(
    lab: Lab,
) -> None:
    await lab.machine(power_cycle_state="available", **SILENT)
    (bot,) = await down_bots(lab)
    assert (bot["bot_id"], bot["host_id"]) == (ID, "")


async def test_what_an_old_agent_has_can_be_cycled_by_whoever_has_it_then(lab: Lab) -> None:
    """No command is kept from a new agent, and nobody is said to be away, though it was long ago that it said so."""
    await told_by_old_agent(lab, rack4_07="available")
    await lab.machine()
    lab.clock.advance(timedelta(days=1))
    assert (await ordered(lab))["command"]["agent"] == ""
    _, now, _ = await ask(lab, "GET", POWER)
    assert now["agent_silent_s"] is None
    assert (now["outlet"]["controller"], now["outlet"]["port"]) == ("older-agent/local", "")
    assert await listed(lab) == [ID]


async def test_a_new_agent_that_is_there_keeps_a_machine_that_an_old_one_tells_of(lab: Lab) -> None:
    await lab.machine(**SILENT)
    claimed = metrics.POWER_OUTLETS_CLAIMED_TWICE.labels("rack4")._value.get()
    await told_by_old_agent(lab, rack4_07="available")
    await outlet(lab)
    assert metrics.POWER_OUTLETS_CLAIMED_TWICE.labels("rack4")._value.get() == claimed
    await told_by_old_agent(lab, rack4_07="in_error")
    (bot,) = await down_bots(lab)
    assert bot["host_id"] == "jumphost-rack4"

    lab.clock.advance(timedelta(minutes=11))
    await told_by_old_agent(lab, rack4_07="available")
    (bot,) = await down_bots(lab)
    assert bot["host_id"] == "jumphost-local"


async def test_no_down_bots_are_an_empty_list(lab: Lab) -> None:
    assert await down_bots(lab) == []


async def test_a_device_with_an_outlet_of_its_own_is_its_agents(lab: Lab) -> None:
    await lab.machine(**LOST)
    await outlet(lab, f"{ID}-device", agent="phones")
    (bot,) = await down_bots(lab)
    assert (bot["bot_id"], bot["host_id"]) == (ID, "jumphost-phones")


@pytest.mark.parametrize(
    ("machine", "pool", "lasts", "silenced"),
    [
        ("*", "*", True, True),
        ("rack4-*", "PoolNot*", True, True),
        ("RACK4-*", "*", True, False),
        ("rack5-*", "*", True, False),
        ("*", "Other", True, False),
        ("*", "*", False, False),
    ],
)
async def test_a_silence_that_lasts_and_matches_says_to_leave_a_machine_alone(
    lab: Lab, machine: str, pool: str, lasts: bool, silenced: bool
) -> None:
    await lab.machine(**SILENT)
    await outlet(lab)
    end = NOW + timedelta(hours=1 if lasts else -1)
    wish = Silence(owner="olga", reason="x", machine=machine, pool=pool, starts_at=ZERO_TIME, ends_at=end)
    await lab.store.add_silence(wish)
    (bot,) = await down_bots(lab)
    assert bot["silenced"] is silenced


async def test_a_machine_in_maintenance_is_to_be_left_alone(lab: Lab) -> None:
    await lab.machine(maintenance_mode="eve x", **SILENT)
    await outlet(lab)
    (bot,) = await down_bots(lab)
    assert bot["silenced"]


async def test_down_bots_are_not_known_while_the_store_is_away() -> None:
    async with running(store=AwayStore()) as lab:
        await outlet(lab)
        async with lab.http.get("/down_bots") as response:
            assert (response.status, await response.text()) == (500, "Failed to read from datastore\n")


# --- powercycled bots --------------------------------------------------------------------------------------------------
async def test_what_was_cycled_past_us_is_kept_and_audited(
    lab: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    await lab.machine(power_cycle_state="available")
    await lab.machine("phone")
    await lab.machine("real-device")
    bots = [ID, "phone-device", "phone", "real-device", "stranger", "no such/id", ID]
    await post(lab, "/powercycled_bots", {"powercycled_bots": bots}, 202)
    for machine_id in (ID, "phone", "real-device"):
        (record,) = await lab.store.power_commands(machine_id=machine_id)
        assert (record.status, record.agent, record.command.who) == ("done", "local", "local")
        machine = await lab.store.get(machine_id)
        assert (machine.power_action, machine.power_status) == ("cycle", "done")
        assert machine.power_cycle is False
        assert (await lab.store.history(machine_id))[0].kind == "power"
    assert len(await lab.store.power_commands()) == 3
    lines = [line for line in capsys.readouterr().out.splitlines() if "action=powercycled-bot" in line]
    assert len(lines) == 6
    _, now, _ = await ask(lab, "GET", POWER)
    assert now["record"]["status"] == "done"


@pytest.mark.parametrize(
    "document", [None, [], {}, {"powercycled_bots": "x"}, {"powercycled_bots": ["x" * 201]}]
)
async def test_a_report_that_is_none_is_a_bad_request(lab: Lab, document: Any) -> None:
    await post(lab, "/powercycled_bots", document, 400)


async def test_very_many_bots_at_once_are_refused(lab: Lab) -> None:
    await post(lab, "/powercycled_bots", {"powercycled_bots": ["x"] * 1001}, 400)


async def test_a_stranger_hears_in_plain_words_that_a_token_is_needed(
    tokens: tuple[Path, dict[str, dict[str, str]]],
) -> None:
    path, _ = tokens
    async with running(tokens=path) as lab, lab.http.get("/down_bots") as response:
        assert (response.status, response.content_type) == (401, "text/plain")
