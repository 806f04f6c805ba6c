"""What power controllers tell of many machines at once."""

from __future__ import annotations

import json

from structlog.testing import capture_logs

from tests.unit.consumers.facade.lab import Lab


async def test_machine_ids_that_can_be_no_machines_are_skipped_like_unknown_ones(lab: Lab) -> None:
    await lab.machine("first")
    await lab.machine("last")
    names = ["first", "", "no such/id", "x" * 5000, "stranger", "last"]
    states = [{"MachineID": name, "PowerCycleState": "available"} for name in names]
    with capture_logs() as lines:
        body = json.dumps({"Machines": states})
        async with lab.http.post("/json/v1/powercycle/state/update", data=body) as response:
            assert (response.status, await response.read()) == (200, b"")
    for name in ("first", "last"):
        assert (await lab.store.get(name)).power_cycle_state == "available"
    skipped = [each["machine"] for each in lines if each["event"] == "malformed_machine_id_skipped"]
    assert skipped == ["", "no such/id", "x" * 200]
    assert [each["machine"] for each in lines if each["event"] == "unknown_machine_skipped"] == ["stranger"]
