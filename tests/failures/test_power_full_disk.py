"""The disk under the agent's journal is full: what has begun ends well, and nothing else begins."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from schemas.power import PowerStatus
from tests.failures.power.agent import AgentProcess, Plan
from tests.failures.power.lab import PowerLab, until
from tests.failures.power.switch import OFF, ON, LineSwitch
from tests.small_disk import small_disk

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]


async def test_on_a_full_disk_a_cycle_ends_and_the_next_is_refused_before_anything_is_switched(
    tmp_path: Path,
) -> None:
    lab, switch = PowerLab(), LineSwitch()
    with small_disk(tmp_path / "disk") as disk:
        async with lab.running(), switch.running():
            await lab.add("first", "second")
            ports = (("a", "first", "a/1"), ("b", "second", "b/1"))
            agent = AgentProcess(Plan(lab.url, "rack", disk.path, switch.port, ports))
            try:
                gate = switch.hold["off a/1"] = asyncio.Event()
                begun = await lab.order("first")
                await until(lambda: switch.switched("a/1") == [OFF], "the first port is off")
                await asyncio.to_thread(disk.fill)
                refused = await lab.reached(await lab.order("second"), PowerStatus.REFUSED)
                gate.set()
                done = await lab.reached(begun, PowerStatus.DONE)

                assert "No space left" in refused.text
                assert switch.switched("b/1") == []
                assert switch.switched("a/1") == [OFF, ON]
                assert [moment.status for moment in done.steps][1:] == [
                    *(PowerStatus.ACCEPTED, PowerStatus.OFF, PowerStatus.ON, PowerStatus.DONE)
                ]

                await asyncio.to_thread(disk.make_room)
                await lab.reached(await lab.order("second"), PowerStatus.DONE)
                assert switch.switched("b/1") == [OFF, ON]
                await agent.stop()
            finally:
                agent.put_away()
