"""A relay board with the Tasmota firmware, as its version 15.5 answers over HTTP."""

from __future__ import annotations

import re

from aiohttp import web

from consumers.powercycle_agent.drivers.protocol import PortState
from tests.power_devices.web_device import WebPowerDevice


class FakeTasmota(WebPowerDevice):
    """Two relays; whoever has no password gets 401 and a hint, and it hangs up on who does not come from its own page."""

    def __init__(self) -> None:
        super().__init__(("1", "2"))

    def routes(self, router: web.UrlDispatcher) -> None:
        router.add_get("/cm", self._command)

    def guard(self, request: web.Request) -> web.StreamResponse | None:
        if not request.headers.get("Referer", "").startswith("http://127.0.0.1"):
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        if (request.query.get("user"), request.query.get("password")) == ("admin", self.password):
            return None
        return web.json_response({"WARNING": "Need user=<username>&password=<password>"}, status=401)

    async def _command(self, request: web.Request) -> web.Response:
        match = re.fullmatch(r"power(\d*)(?: (on|off))?", request.query.get("cmnd", ""), re.IGNORECASE)
        if match is None:
            return web.json_response({"Command": "Unknown"})
        relay = match[1] or "1"
        if relay not in self.states:
            return web.json_response({"Command": "Unknown"})
        told = match[2] and PortState(match[2].lower())
        if told and await self.is_due(told):
            self.switch(relay, told)
        return web.json_response({f"POWER{relay}": (told or self.states[relay]).upper()})
