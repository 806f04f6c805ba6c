"""Power commands of people."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from schemas.description import Description, TaskRequest
from schemas.ids import new_ulid
from schemas.power import ControllerReport, PowerCommand, PowerStatus, PowerStep
from schemas.topics import POWER_COMMANDS
from tests.unit.consumers.facade.lab import NOW, Lab, running, watching

ID = "rack4-07"
POWER = f"/api/v1/machines/{ID}/power"
COMMANDS = "/api/v1/power/commands"


async def ask(
    lab: Lab, method: str, path: str, sent: Any = None, **headers: str
) -> tuple[int, Any, dict[str, str]]:
    """Status, document and headers."""
    spelled = {name.replace("_", "-"): value for name, value in headers.items()}
    async with lab.http.request(method, path, json=sent, headers=spelled) as response:
        text = await response.read()
        return response.status, json.loads(text) if text else None, dict(response.headers)


async def ordered(lab: Lab, action: str = "cycle", **wish: Any) -> Any:
    status, record, _ = await ask(lab, "PUT", POWER, {"action": action, **wish})
    assert status == 202, record
    return record


async def step(lab: Lab, record: Any, status: PowerStatus, text: str = "") -> None:
    """What the description writer does with an agent's step."""
    told = PowerStep(
        command_id=record["command"]["id"],
        machine_id=ID,
        status=status,
        at=NOW,
        agent="rack4",
        text=text,
    )
    await lab.store.apply_power([told], now=NOW, announce=True)


async def outlet(lab: Lab, machine_id: str = ID, agent: str = "rack4") -> None:
    report = {"machine_id": machine_id, "state": "available", "agent": agent, "port": "3"}
    report |= {"controller": "edgeswitch/switch-1", "at": NOW.isoformat()}
    await lab.store.apply_power([ControllerReport.model_validate(report)], now=NOW, announce=True)


# --- ordering ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("method", ["PUT", "POST"])
async def test_a_command_is_queued_published_and_shown_at_once(lab: Lab, method: str) -> None:
    await lab.machine(power_cycle_state="available")
    async with watching(lab, f"/api/v1/machines/{ID}/watch") as client:
        await client.until("synced")
        status, record, headers = await ask(
            lab, method, POWER, {"action": "cycle", "delay_s": 7, "why": "stuck in fastboot"}
        )
        shown = Description.model_validate_json((await client.next()).data)  # nobody has relayed anything yet
    assert status == 202
    assert headers["Location"] == f"{COMMANDS}/{record['command']['id']}"
    assert (record["status"], record["steps"][0]["status"]) == ("queued", "queued")
    assert (shown.power_cycle, shown.power_action, shown.power_status) == (True, "cycle", "queued")
    assert shown.annotation.message == 'Requested powercycle for "rack4-07"'

    await lab.relay()
    (message,) = await lab.broker.fetch(POWER_COMMANDS)
    command = PowerCommand.model_validate_json(message.value)
    assert (message.key, command.id) == (ID, record["command"]["id"])
    assert (command.who, command.why, command.delay_s) == ("local", "stuck in fastboot", 7)
    assert command.expires_at == NOW + timedelta(minutes=10)
    assert (await lab.store.history(ID))[0].why == "stuck in fastboot"


async def test_a_second_wish_gets_the_command_that_is_pending(lab: Lab) -> None:
    await lab.machine(power_cycle_state="available")
    first = await ordered(lab)
    status, again, headers = await ask(lab, "PUT", POWER, {"action": "off"})
    assert (status, again) == (200, first)
    assert "Location" not in headers


async def test_a_command_that_has_expired_is_not_in_the_way_of_a_new_one(lab: Lab) -> None:
    await lab.machine(power_cycle_state="available")
    first = await ordered(lab)
    lab.clock.advance(timedelta(minutes=10))
    second = await ordered(lab, "off")
    assert second["command"]["action"] == "off"
    _, ended, _ = await ask(lab, "GET", f"{COMMANDS}/{first['command']['id']}")
    assert ended["status"] == "expired"


async def test_an_idempotency_key_finds_its_command_also_when_it_has_ended(lab: Lab) -> None:
    await lab.machine(power_cycle_state="available")
    status, first, _ = await ask(lab, "POST", POWER, {"action": "cycle"}, Idempotency_Key="k-1")
    assert status == 202
    await step(lab, first, PowerStatus.DONE)
    status, again, _ = await ask(lab, "POST", POWER, {"action": "cycle"}, Idempotency_Key="k-1")
    assert (status, again["command"]["id"], again["status"]) == (200, first["command"]["id"], "done")
    status, other, _ = await ask(lab, "POST", POWER, {"action": "cycle"}, Idempotency_Key="k-2")
    assert (status, other["command"]["id"] == first["command"]["id"]) == (202, False)


@pytest.mark.parametrize(
    ("field", "value"),
    [("action", "off"), ("delay_s", 8), ("why", "other"), ("force", True), ("expires_in_s", 601)],
)
async def test_an_idempotency_key_with_another_body_is_refused_with_what_is_different(
    lab: Lab, field: str, value: Any
) -> None:
    await lab.machine(power_cycle_state="available")
    body = {"action": "cycle", "delay_s": 7, "why": "stuck"}
    _, first, _ = await ask(lab, "PUT", POWER, body, Idempotency_Key="k-1")

    status, problem, headers = await ask(lab, "PUT", POWER, {**body, field: value}, Idempotency_Key="k-1")

    assert (status, problem["reason"]) == (422, "idempotency_key_reused")
    assert headers["Content-Type"] == "application/problem+json"
    assert f"(different: {field})" in problem["detail"]
    assert "new key" in problem["detail"]
    spelled_out = {**body, "force": False, "expires_in_s": 600}
    status, again, _ = await ask(lab, "PUT", POWER, spelled_out, Idempotency_Key="k-1")
    assert (status, again) == (200, first)
    assert len(await lab.store.power_commands()) == 1


@pytest.mark.parametrize("key", ["", "x" * 201, "a b", "käse", "tab\tbed"])
async def test_an_idempotency_key_that_is_none_is_refused(lab: Lab, key: str) -> None:
    await lab.machine(power_cycle_state="available")
    status, problem, _ = await ask(lab, "PUT", POWER, {"action": "cycle"}, Idempotency_Key=key)
    assert (status, problem["errors"][0]["field"]) == (422, "Idempotency-Key")
    assert not (await lab.store.get(ID)).power_cycle


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({}, "no_controller"),
        ({"power_cycle_state": "in_error"}, "controller_in_error"),
        ({"power_cycle_state": "available", "maintenance_mode": "eve 2026-01-01T00:00:00Z"}, "maintenance"),
        ({"power_cycle_state": "available", "running_swarming_task": True}, "task_running"),
        ({"power_cycle_state": "available", "task_request": TaskRequest(name="t")}, "task_running"),
    ],
)
async def test_a_command_that_must_not_be_is_refused_with_a_reason_and_force_helps_where_it_can(
    lab: Lab, fields: dict[str, Any], reason: str
) -> None:
    await lab.machine(**fields)
    status, problem, _ = await ask(lab, "PUT", POWER, {"action": "cycle"})
    assert (status, problem["title"], problem["reason"]) == (409, "Conflict", reason)
    assert ID in problem["detail"]
    status, _, _ = await ask(lab, "PUT", POWER, {"action": "cycle", "force": True})
    assert status == (409 if reason == "no_controller" else 202)


async def test_switching_on_disturbs_no_task(lab: Lab) -> None:
    await lab.machine(power_cycle_state="available", running_swarming_task=True)
    await ordered(lab, "on")


async def test_a_machine_that_nobody_knows_has_no_power(lab: Lab) -> None:
    for method, sent in (("PUT", {"action": "cycle"}), ("GET", None), ("DELETE", None)):
        status, problem, _ = await ask(lab, method, POWER, sent)
        assert (status, problem["title"]) == (404, "Not Found")


@pytest.mark.parametrize(
    ("sent", "field"),
    [
        ({}, "action"),
        ({"action": "explode"}, "action"),
        ({"action": "cycle", "delay_s": 0}, "delay_s"),
        ({"action": "cycle", "delay_s": 601}, "delay_s"),
        ({"action": "cycle", "delay_s": "5"}, "delay_s"),
        ({"action": "cycle", "expires_in_s": 0.5}, "expires_in_s"),
        ({"action": "cycle", "expires_in_s": 86_401}, "expires_in_s"),
        ({"action": "cycle", "force": 1}, "force"),
        ({"action": "cycle", "why": "x" * 2001}, "why"),
        ({"action": "cycle", "why": "\x00"}, "why"),
        ({"action": "cycle", "colour": "red"}, "colour"),
        ([], "body"),
    ],
)
async def test_a_wish_that_makes_no_sense_is_refused_by_the_name_of_its_field(
    lab: Lab, sent: Any, field: str
) -> None:
    await lab.machine(power_cycle_state="available")
    status, problem, _ = await ask(lab, "PUT", POWER, sent)
    assert (status, problem["errors"][0]["field"]) == (422, field)


async def test_a_wish_can_expire_sooner(lab: Lab) -> None:
    await lab.machine(power_cycle_state="available")
    record = await ordered(lab, expires_in_s=30)
    assert record["command"]["expires_at"] == "2026-03-01T12:00:30Z"


async def test_each_command_leaves_a_line_for_the_audit(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    await lab.machine()
    await ask(lab, "PUT", POWER, {"action": "off"})
    lines = [line for line in capsys.readouterr().out.splitlines() if "audit" in line]
    assert "action=power-off" in lines[0]
    assert "machine=rack4-07" in lines[0]
    assert "outcome=failed" in lines[0]


# --- following and withdrawing -----------------------------------------------------------------------------------------
async def test_the_latest_command_and_the_outlet_are_told(lab: Lab) -> None:
    await lab.machine()
    status, told, _ = await ask(lab, "GET", POWER)
    assert (status, told) == (200, {"record": None, "outlet": None, "agent_silent_s": None})
    await outlet(lab)
    record = await ordered(lab)
    await step(lab, record, PowerStatus.ACCEPTED)
    await step(lab, record, PowerStatus.FAILED, "the switch says no")
    _, told, _ = await ask(lab, "GET", POWER)
    assert [each["status"] for each in told["record"]["steps"]] == ["queued", "accepted", "failed"]
    assert (told["record"]["text"], told["record"]["agent"]) == ("the switch says no", "rack4")
    assert (told["outlet"]["controller"], told["outlet"]["port"]) == ("edgeswitch/switch-1", "3")


@pytest.mark.parametrize(("minutes", "told_s"), [(10, None), (12, 720.0)])
async def test_an_agent_that_is_silent_for_long_is_told_of(
    lab: Lab, minutes: int, told_s: float | None
) -> None:
    await lab.machine()
    await outlet(lab)
    lab.clock.advance(timedelta(minutes=minutes))
    _, told, _ = await ask(lab, "GET", POWER)
    assert told["agent_silent_s"] == told_s


async def test_an_outlet_is_told_before_its_machine_has_reported(lab: Lab) -> None:
    await outlet(lab)
    status, told, _ = await ask(lab, "GET", POWER)
    assert (status, told["outlet"]["agent"]) == (200, "rack4")
    _, told, _ = await ask(lab, "GET", "/api/v1/power/outlets")
    assert [each["machine_id"] for each in told["outlets"]] == [ID]


async def test_a_command_that_waits_can_be_withdrawn_and_is_then_told_to_agents(lab: Lab) -> None:
    await lab.machine(power_cycle_state="available")
    record = await ordered(lab)
    status, ended, _ = await ask(lab, "DELETE", POWER)
    assert (status, ended["status"], ended["command"]["cancelled"]) == (200, "cancelled", True)
    assert not (await lab.store.get(ID)).power_cycle
    assert (await ask(lab, "DELETE", POWER))[:2] == (204, None)
    await lab.relay()
    told = [PowerCommand.model_validate_json(each.value) for each in await lab.broker.fetch(POWER_COMMANDS)]
    assert [(each.id, each.cancelled) for each in told] == [
        (record["command"]["id"], False),
        (record["command"]["id"], True),
    ]


async def test_a_command_that_has_begun_cannot_be_withdrawn(lab: Lab) -> None:
    await lab.machine(power_cycle_state="available")
    await step(lab, await ordered(lab), PowerStatus.ACCEPTED)
    status, problem, _ = await ask(lab, "DELETE", POWER)
    assert status == 409
    assert problem["reason"]


async def test_withdrawing_takes_a_flag_down_that_stands_by_itself(lab: Lab) -> None:
    await lab.machine(power_cycle=True)
    async with watching(lab, f"/api/v1/machines/{ID}/watch") as client:
        await client.until("synced")
        assert (await ask(lab, "DELETE", POWER))[0] == 204
        assert not Description.model_validate_json((await client.next()).data).power_cycle


async def test_commands_are_listed_newest_first_by_pages_and_by_state(lab: Lab) -> None:
    await lab.machine(power_cycle_state="available")
    await lab.machine("other", power_cycle_state="available")
    ids = []
    for _ in range(3):
        record = await ordered(lab)
        ids.append(record["command"]["id"])
        await step(lab, record, PowerStatus.DONE)
    _, pending, _ = await ask(lab, "PUT", "/api/v1/machines/other/power", {"action": "off"})

    _, page, _ = await ask(lab, "GET", f"{COMMANDS}?machine={ID}&limit=2")
    listed = [each["command"]["id"] for each in page["commands"]]
    _, page, _ = await ask(lab, "GET", f"{COMMANDS}?machine={ID}&limit=2&before={page['next_before']}")
    listed += [each["command"]["id"] for each in page["commands"]]
    assert (set(listed), listed, page["next_before"]) == (set(ids), sorted(ids, reverse=True), None)
    _, page, _ = await ask(lab, "GET", f"{COMMANDS}?state=pending")
    assert page["commands"] == [pending]
    _, page, _ = await ask(lab, "GET", f"{COMMANDS}?state=ended")
    assert len(page["commands"]) == 3
    _, one, _ = await ask(lab, "GET", f"{COMMANDS}/{pending['command']['id']}")
    assert one == pending
    for unknown in (new_ulid(), "nonsense"):
        assert (await ask(lab, "GET", f"{COMMANDS}/{unknown}"))[0] == 404


@pytest.mark.parametrize(
    ("query", "field"),
    [("machine=../x", "machine"), ("state=old", "state"), ("limit=0", "limit"), ("before=x", "before")],
)
async def test_a_listing_that_makes_no_sense_is_refused(lab: Lab, query: str, field: str) -> None:
    status, problem, _ = await ask(lab, "GET", f"{COMMANDS}?{query}")
    assert (status, problem["errors"][0]["field"]) == (422, field)


async def test_the_routes_are_in_the_documents(lab: Lab) -> None:
    _, api, _ = await ask(lab, "GET", "/openapi.json")
    operation = api["paths"]["/api/v1/machines/{id}/power"]["put"]
    assert {"200", "202", "404", "409", "412"} <= operation["responses"].keys()
    assert "Idempotency-Key" in {each["name"] for each in operation["parameters"]}
    assert operation["responses"]["200"]["content"] == operation["responses"]["202"]["content"]
    assert "content" not in api["paths"]["/api/v1/machines/{id}/power"]["delete"]["responses"]["204"]
    assert "parameters" not in api["paths"]["/api/v1/power/watch"]["get"]
    assert "power-cycle" not in json.dumps(api)


async def test_a_command_is_given_in_the_callers_name(
    tokens: tuple[Path, dict[str, dict[str, str]]],
) -> None:
    path, headers = tokens
    async with running(tokens=path, headers=headers["operator"]) as lab:
        await lab.machine(
            power_cycle_state="available", maintenance_mode="olga@example.org 2026-01-01T00:00:00Z"
        )
        assert (await ordered(lab))["command"]["who"] == "olga@example.org"
