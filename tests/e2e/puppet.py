"""A power agent that does as the test says."""

from __future__ import annotations

from typing import Any

from pipeline.clock import SystemClock
from schemas.wire import format_time
from tests.e2e.processes import Lab

_CLOCK = SystemClock()


class Puppet:
    """Has one machine's power."""

    def __init__(self, lab: Lab, machine_id: str) -> None:
        self._lab = lab
        self.machine_id = machine_id

    def tell(self, status: str, text: str = "") -> None:
        """How far the machine's command is."""
        record = self._lab.ask("GET", f"/api/v1/machines/{self.machine_id}/power")["record"]
        step = {"type": "step", "command_id": record["command"]["id"], "status": status, "text": text}
        self._post(step)

    def find_controller(self, state: str = "available", text: str = "") -> None:
        """Whether the controller answers."""
        self._post(
            {"type": "report", "state": state, "controller": "edgeswitch/s1", "port": "7", "text": text}
        )

    def _post(self, result: dict[str, Any]) -> None:
        said = {"machine_id": self.machine_id, "agent": "rack1", "at": format_time(_CLOCK.now()), **result}
        self._lab.ask("POST", "/api/v1/power/results", [said])
