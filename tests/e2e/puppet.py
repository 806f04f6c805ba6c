"""A power agent that does as the test says."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from pipeline.clock import SystemClock
from schemas.wire import format_time
from tests.e2e.processes import Lab

_CLOCK = SystemClock()


class Puppet:
    """Has one machine's power."""

    def __init__(
        self,
        lab: Lab,
        machine_id: str,
        *,
        agent: str = "rack1",
        controller: str = "edgeswitch/s1",
        port: str = "7",
    ) -> None:
        self._lab = lab
        self.machine_id = machine_id
        self._agent = agent
        self._place = {"controller": controller, "port": port}

    def tell(self, status: str, text: str = "", *, after: timedelta = timedelta()) -> None:
        """How far the machine's command is, or will be in a while: who looks at it later sees the time that it took."""
        record = self._lab.ask("GET", f"/api/v1/machines/{self.machine_id}/power")["record"]
        step = {"type": "step", "command_id": record["command"]["id"], "status": status, "text": text}
        _post(self._lab, [self._said({**step, "at": format_time(_CLOCK.now() + after)})])

    def find_controller(self, state: str = "available", text: str = "") -> None:
        """Whether the controller answers."""
        _post(self._lab, [self.report(state, text)])

    def report(self, state: str = "available", text: str = "") -> dict[str, Any]:
        """The same, to be told together with others."""
        return self._said({"type": "report", "state": state, **self._place, "text": text})

    def _said(self, result: dict[str, Any]) -> dict[str, Any]:
        return {
            "machine_id": self.machine_id,
            "agent": self._agent,
            "at": format_time(_CLOCK.now()),
            **result,
        }


def find_controllers(lab: Lab, puppets: Iterable[Puppet]) -> None:
    """All their controllers answer: told at once."""
    _post(lab, [puppet.report() for puppet in puppets])


def _post(lab: Lab, results: list[dict[str, Any]]) -> None:
    lab.ask("POST", "/api/v1/power/results", results)
