"""What is decided about single machines, and in which turn."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pipeline.healing.decision import Decision, decide, explain
from pipeline.healing.policy import Policies, Policy
from pipeline.healing.situation import most_together
from pipeline.healing.view import Machine, Totals, View
from schemas.description import Description, TaskRequest
from schemas.healing import HealingState
from schemas.ids import new_ulid
from schemas.power import PowerAction, PowerCommand, PowerMoment, PowerRecord, PowerStatus

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
POLICIES = Policies({"*": Policy(rack_machines=9, pool_percent=50)})
TOTALS = Totals(100, {"Lab": 100}, {"": 100})
MISSING = 'Device ["redfin"] has gone missing'


def minutes(number: float) -> timedelta:
    return timedelta(minutes=number)


def machine(machine_id: str = "m", *records: PowerRecord, down_for: float = 60, **fields: Any) -> Machine:
    """One that is silent, unless told otherwise."""
    silent = (
        {"down_since": NOW - minutes(down_for), "last_updated": NOW - minutes(down_for)} if down_for else {}
    )
    about = Description(
        dimensions={"id": [machine_id], "pool": ["Lab"]}, power_cycle_state="available", last_updated=NOW
    )
    return Machine(machine_id, about.evolve({**silent, **fields}), records)


def record(
    ago: float,
    status: PowerStatus = PowerStatus.DONE,
    who: str = "labkeeper",
    took: float = 1,
    action: PowerAction = PowerAction.CYCLE,
) -> PowerRecord:
    asked = NOW - minutes(ago)
    command = PowerCommand(
        id=new_ulid(),
        machine_id="m",
        action=action,
        who=who,
        requested_at=asked,
        expires_at=asked + minutes(10),
    )
    steps = [PowerMoment(status=PowerStatus.QUEUED, at=asked)]
    if not status.is_pending:
        steps.append(PowerMoment(status=status, at=asked + minutes(took)))
    return PowerRecord(command=command, status=status, steps=steps)


def switched_off(ago: float | None, **fields: Any) -> Machine:
    """One that somebody switched off, and that is silent since an hour ago; `ago`: None if nobody knows when."""
    status = {"power_action": "off", "power_status": "done", **fields}
    order = [] if ago is None else [record(ago, who="jo", took=0.1, action=PowerAction.OFF)]
    return machine("m", *order, **status)


def decided(*machines: Machine, policies: Policies = POLICIES, deaf: str = "") -> list[Decision]:
    return decide(View(machines, TOTALS, deaf=deaf), policies, NOW)


def about(one: Machine, **options: Any) -> tuple[HealingState | None, bool]:
    (decision,) = decided(one, **options)
    return decision.state, decision.order is not None


WAITING, HELD, CYCLING = HealingState.WAITING, HealingState.HELD, HealingState.CYCLING
GAVE_UP, HEALED = HealingState.GAVE_UP, HealingState.HEALED


@pytest.mark.parametrize(
    ("one", "state", "orders"),
    [
        pytest.param(machine(), CYCLING, True, id="silent"),
        pytest.param(machine(down_for=9.9), WAITING, False, id="not-for-long"),
        pytest.param(
            machine(down_for=0, recovering=MISSING, recovery_start=NOW - minutes(11)),
            CYCLING,
            True,
            id="device",
        ),
        pytest.param(
            machine(down_for=0, recovering="Too hot.", recovery_start=NOW - minutes(99)),
            None,
            False,
            id="hot",
        ),
        pytest.param(machine(maintenance_mode="jo@example.com x"), HELD, False, id="maintenance"),
        pytest.param(machine(is_quarantined=True), HELD, False, id="quarantine"),
        pytest.param(switched_off(ago=59), HELD, False, id="switched-off"),
        pytest.param(switched_off(ago=59, power_status="failed"), HELD, False, id="perhaps-off"),
        pytest.param(switched_off(ago=59, power_status="expired"), CYCLING, True, id="never-off"),
        pytest.param(switched_off(ago=59, power_action="on"), CYCLING, True, id="on-again"),
        pytest.param(switched_off(ago=60.9), HELD, False, id="switched-off-with-a-report-on-its-way"),
        pytest.param(switched_off(ago=63), CYCLING, True, id="switched-on-by-hand"),
        pytest.param(switched_off(ago=None), CYCLING, True, id="switched-on-by-hand-long-after"),
        pytest.param(switched_off(ago=None, down_for=3000), HELD, False, id="switched-off-long-ago"),
        pytest.param(machine(running_swarming_task=True), HELD, False, id="task-before-silence"),
        pytest.param(machine(running_swarming_task=True, down_for=121), CYCLING, True, id="task-long-ago"),
        pytest.param(machine(task_request=TaskRequest(name="x")), HELD, False, id="task-wanted"),
        pytest.param(
            machine(
                down_for=0, recovering=MISSING, recovery_start=NOW - minutes(999), running_swarming_task=True
            ),
            HELD,
            False,
            id="task-now",
        ),
        pytest.param(machine(power_cycle_state="in_error"), HELD, False, id="controller-in-error"),
        pytest.param(machine(power_cycle_state=""), HELD, False, id="no-controller"),
        pytest.param(machine("m", record(1, PowerStatus.OFF)), CYCLING, False, id="ours-pending"),
        pytest.param(machine("m", record(1, PowerStatus.QUEUED, "jo")), WAITING, False, id="theirs-pending"),
        pytest.param(machine("m", record(10)), CYCLING, False, id="pause"),
        pytest.param(machine("m", record(11.1)), CYCLING, True, id="pause-over"),
        pytest.param(machine("m", record(31), record(50)), CYCLING, True, id="longer-pause-over"),
        pytest.param(machine("m", record(20), record(50)), CYCLING, False, id="longer-pause"),
        pytest.param(machine("m", record(8), down_for=7), WAITING, False, id="pause-of-trouble-before"),
        pytest.param(machine("m", record(9, who="jo")), WAITING, False, id="person-a-moment-ago"),
        pytest.param(machine("m", record(12, who="jo")), CYCLING, True, id="person-a-while-ago"),
        pytest.param(machine("m", record(60), record(120), record(180)), GAVE_UP, False, id="used-up"),
        pytest.param(
            machine("m", record(60), record(120), record(180, PowerStatus.REFUSED)),
            CYCLING,
            True,
            id="refused",
        ),
        pytest.param(
            machine("m", record(60), record(120), record(180, PowerStatus.EXPIRED)),
            GAVE_UP,
            False,
            id="expired",
        ),
        pytest.param(machine("m", record(60), record(120), record(24 * 60)), CYCLING, True, id="long-ago"),
        pytest.param(machine("m", healing="gave up: x"), GAVE_UP, False, id="given-up"),
        pytest.param(
            machine("m", record(30, who="jo"), record(90), healing="gave up: x"),
            CYCLING,
            True,
            id="person-tried",
        ),
        pytest.param(
            machine("m", record(5), down_for=0, healing="cycling: x"), HEALED, False, id="well-after-ours"
        ),
        pytest.param(
            machine("m", record(5), down_for=0, healing="healed: x"), HEALED, False, id="healed-stays-so"
        ),
        pytest.param(machine("m", record(5), down_for=0, healing="waiting: x"), None, False, id="by-itself"),
        pytest.param(machine(down_for=0, healing="healed: x"), None, False, id="healed-long-ago"),
        pytest.param(
            machine("m", record(5, took=9), down_for=0, healing="cycling: x", last_updated=NOW - minutes(3)),
            CYCLING,
            False,
            id="said-well-before-its-power-went",
        ),
    ],
)
def test_each_machine_is_judged_by_itself(one: Machine, state: HealingState | None, orders: bool) -> None:
    assert about(one) == (state, orders)


def test_nothing_is_ordered_while_we_cannot_hear() -> None:
    assert about(machine(), deaf="writer") == (HELD, False)


def test_a_dry_run_orders_nothing_and_takes_no_place_from_others() -> None:
    policies = Policies(
        {"*": Policy(rack_machines=1, pool_percent=50), "Dry": Policy(dry_run=True, rack_machines=1)}
    )
    dry = machine("a", down_for=99, dimensions={"id": ["a"], "pool": ["Dry"]})
    also_dry = machine("b", down_for=98, dimensions={"id": ["b"], "pool": ["Dry"]})
    real = machine("c", down_for=50)

    decisions = decided(real, dry, also_dry, policies=policies)

    assert [(each.machine.id, each.state, each.order is not None) for each in decisions] == [
        ("a", HELD, False),
        ("b", HELD, False),
        ("c", CYCLING, True),
    ]
    assert decisions[0].reason == "dry run: it would be cycled now"
    assert decisions[1].reason.startswith("of pool Dry at most 1")


def test_those_longest_in_trouble_get_the_places() -> None:
    policies = Policies({"*": Policy(pool_percent=2, rack_machines=9)})
    machines = [machine(f"m{ago}", down_for=ago) for ago in (20, 60, 40, 30)]

    decisions = decided(*machines, policies=policies)

    assert [each.machine.id for each in decisions if each.order] == ["m60", "m40"]
    assert decided(*reversed(machines), policies=policies) == decisions


def test_an_explanation_is_what_the_next_round_decides() -> None:
    view = View([machine(f"m{ago}", down_for=ago) for ago in range(11, 19)], TOTALS)
    policies = Policies({"*": Policy(pool_percent=3, rack_machines=9)}, lab_percent=90)

    for decision in decide(view, policies, NOW):
        explanation = explain(view, policies, NOW, decision.machine.id)
        assert explanation.decision == decision
        failed = [check.text for check in explanation.checks if not check.passed]
        assert failed[:1] == ([] if decision.order else [decision.reason])


def test_an_order_says_why_and_is_the_same_for_whoever_decides_it() -> None:
    (first,) = decided(machine(running_swarming_task=True, down_for=130))
    (again,) = decided(machine(running_swarming_task=True, down_for=130))
    (later,) = decided(machine("m", record(60), running_swarming_task=True, down_for=130))

    assert first.order is not None
    assert later.order is not None
    assert first.order == again.order
    assert first.order.why == "self-healing: silent since 2026-03-01T09:50:00Z, try 1 of 3"
    assert first.order.force
    assert later.order.why.endswith("try 2 of 3")
    assert later.order.idempotency_key != first.order.idempotency_key


def test_a_wrong_clock_of_an_agent_does_not_hold_a_machine_for_long() -> None:
    assert about(machine("m", record(41, took=60 * 24))) == (CYCLING, True)


def test_what_lies_within_one_span_was_lost_together() -> None:
    moments = [NOW + minutes(number) for number in (0, 1, 2, 9, 10, 11, 12, 30)]
    assert most_together(moments, minutes(3)) == 4
    assert most_together([], minutes(3)) == 0
