"""Power for simulated machines: strips that speak Tasmota's HTTP, one a shelf, for a power agent to drive.

Whoever clicks `Cycle` on a demonstration sees all that would happen in a lab: an agent switches a port, the machine falls
silent, boots, and reports again.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Final, Protocol

from aiohttp import web

from pipeline import logs
from pipeline.errors import Misconfigured
from producers.simulator.catalogue import Machine

_LOOPBACK: Final = "127.0.0.1"
_OFF_FOR_S: Final = 4
"""Between off and on: nobody wants to wait for long at a demonstration."""

_command = re.compile(r"[Pp]ower(\d{0,2})(?: ([Oo]n|[Oo]ff|1|0))?")

Strips = Mapping[str, Mapping[str, int]]
"""Strip → machine → port, from 1."""


class Mains(Protocol):
    """Where simulated machines have their power from."""

    def has_power(self, machine_id: str) -> bool:
        """Whether the machine is on."""
        ...

    def switch(self, machine_id: str, *, on: bool) -> None:
        """Turn it on or off."""
        ...


def strips_of(lab: Sequence[Machine]) -> dict[str, dict[str, int]]:
    """A strip for each shelf."""
    strips: dict[str, dict[str, int]] = {}
    for machine in lab:
        rack, shelf, _ = machine.id.split("-", 2)
        ports = strips.setdefault(f"{rack}-{shelf}", {})
        ports[machine.id] = len(ports) + 1
    return strips


class PowerStrips:
    """All strips of a lab, on one port of this computer."""

    def __init__(self, strips: Strips, mains: Mains) -> None:
        self._machines = {
            (strip, port): machine for strip, ports in strips.items() for machine, port in ports.items()
        }
        self._strips = strips
        self._mains = mains

    async def run(self, configuration: Path, stop: asyncio.Event) -> None:
        """Answer until `stop` is set. Writes which machine hangs where for an agent to read. Raises `Misconfigured`."""
        app = web.Application()
        app.router.add_get("/{strip}/cm", self._answer)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=2)
        await runner.setup()
        try:
            site = web.TCPSite(runner, _LOOPBACK, 0)
            await site.start()
            await asyncio.to_thread(self._configure, configuration, runner.addresses[0][1])
            logs.get_logger().info(
                "strips_powered", strips=len(self._strips), configuration=str(configuration)
            )
            await stop.wait()
        finally:
            await runner.cleanup()

    def _configure(self, path: Path, port: int) -> None:
        entries = {
            strip: {"address": f"http://{_LOOPBACK}:{port}/{strip}", "delay": _OFF_FOR_S, "ports": ports}
            for strip, ports in self._strips.items()
        }
        new = path.with_suffix(".new")
        try:
            new.write_text(json.dumps({"tasmota": entries}, indent=2) + "\n", encoding="utf-8")
            new.replace(path)
        except OSError as error:
            raise Misconfigured(
                f"cannot write {path} ({error.strerror}): choose another --power-config"
            ) from error

    async def _answer(self, request: web.Request) -> web.Response:
        """As the firmware does: unknown commands and relays are said so, with status 200."""
        strip = request.match_info["strip"]
        if strip not in self._strips:
            return web.Response(status=HTTPStatus.NOT_FOUND)
        found = _command.fullmatch(request.query.get("cmnd", "").strip())
        number = int(found[1] or 1) if found else 0
        machine = self._machines.get((strip, number))
        if found is None or machine is None:
            return web.json_response({"Command": "Unknown"})
        if found[2] is not None:
            self._mains.switch(machine, on=found[2].lower() in ("on", "1"))
        state = "ON" if self._mains.has_power(machine) else "OFF"
        return web.json_response({f"POWER{number}": state})
