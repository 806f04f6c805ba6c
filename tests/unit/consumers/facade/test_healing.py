"""The façade explains what the watchdog would do, by the rules that the watchdog saved."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

from pipeline.healing.policy import Policies, Policy
from pipeline.healing.view import Totals
from pipeline.store.healing import CHECKPOINT, Rules
from pipeline.store.protocol import Checkpoint
from schemas.description import PowerCycleState
from schemas.power import ControllerReport
from tests.unit.consumers.facade.lab import NOW, Lab, running

POLICIES = Policies({"*": Policy()})


async def a_silent_machine(lab: Lab, **fields: Any) -> None:
    await lab.machine("rack4-07", down_since=NOW - timedelta(hours=1), **fields)
    report = ControllerReport(
        machine_id="rack4-07",
        state=PowerCycleState.AVAILABLE,
        agent="rack4",
        controller="edgeswitch/rack4",
        port="7",
        at=NOW,
    )
    await lab.store.apply_power([report], now=NOW)
    await lab.store.record("writer", {"0": NOW}, now=NOW)


async def save(lab: Lab, policies: Policies) -> None:
    content = Rules(policies, Totals(100, {"": 100}, {"edgeswitch/rack4": 40})).to_json()
    assert await lab.store.save_checkpoint(CHECKPOINT, Checkpoint(1, content), owner="a watchdog")


async def explained(lab: Lab) -> Any:
    async with lab.http.get(f"{lab.url}/api/v1/machines/rack4-07/healing") as response:
        assert response.status == 200
        return await response.json()


async def test_a_machine_that_would_be_cycled_has_passed_every_check(lab: Lab) -> None:
    await save(lab, POLICIES)
    await a_silent_machine(lab)

    document = await explained(lab)

    assert document["state"] == "cycling"
    assert document["would_cycle"] is True
    assert all(check["passed"] for check in document["checks"])
    assert [check["name"] for check in document["checks"]] == [
        "policy",
        "pending",
        "trouble",
        "maintenance",
        "quarantine",
        "switched off",
        "person",
        "given up",
        "pause",
        "attempts",
        "long enough",
        "task",
        "controller",
        "agent",
        "hearing",
        "outage of the lab",
        "outage of the rack",
        "pool",
        "rack",
        "dry run",
    ]


async def test_the_first_check_that_fails_is_the_reason_and_the_others_are_told_as_well(lab: Lab) -> None:
    await save(lab, POLICIES)
    await a_silent_machine(lab, is_quarantined=True, running_swarming_task=True)

    document = await explained(lab)

    assert (document["state"], document["would_cycle"]) == ("held", False)
    assert document["reason"] == "quarantined, which only a person ends"
    failed = [check["name"] for check in document["checks"] if not check["passed"]]
    assert failed == ["quarantine", "task"]


async def test_without_a_writer_at_work_silence_means_nothing(lab: Lab) -> None:
    await save(lab, POLICIES)
    await a_silent_machine(lab)
    lab.clock.advance(timedelta(minutes=1))

    document = await explained(lab)

    assert document["reason"] == "we cannot tell who is silent: no writer is at work"


async def test_where_it_is_off_the_explanation_says_so(lab: Lab) -> None:
    await a_silent_machine(lab)

    document = await explained(lab)

    assert (document["state"], document["would_cycle"]) == (None, False)
    assert document["reason"].startswith("self-healing is off for its pool")


async def test_an_unknown_machine_is_not_explained(lab: Lab) -> None:
    await save(lab, POLICIES)
    async with lab.http.get(f"{lab.url}/api/v1/machines/rack4-99/healing") as response:
        assert response.status == 404


async def test_a_machine_may_ask_about_itself(tokens: tuple[Path, dict[str, dict[str, str]]]) -> None:
    path, headers = tokens
    async with running(tokens=path) as lab:
        await a_silent_machine(lab)
        for name, status in (("rack4-07", 200), ("rack4-08", 403)):
            url = f"{lab.url}/api/v1/machines/{name}/healing"
            async with lab.http.get(url, headers=headers["machine"]) as response:
                assert response.status == status
