"""A relay board with the ESPHome firmware: the `web_server` component's REST API."""

from __future__ import annotations

import asyncio

from aiohttp import web

from consumers.powercycle_agent.drivers.protocol import PortState
from tests.power_devices.web_device import Digest, WebPowerDevice, basic

LOOP_S = 0.02
"""The firmware switches in its main loop, after it has answered."""


class FakeEsphome(WebPowerDevice):
    """Two switches."""

    def __init__(self, *, wants_digest: bool) -> None:
        """Digest authentication is what it wants on an ESP8266, basic on an ESP32."""
        super().__init__(("relay_1", "Relay Nº 2"))
        self._digest = Digest("asyncesp", "MD5") if wants_digest else None

    def routes(self, router: web.UrlDispatcher) -> None:
        router.add_get("/", self._page)
        router.add_get("/switch/{switch}", self._state)
        router.add_post("/switch/{switch}/turn_{state}", self._turn)

    def guard(self, request: web.Request) -> web.StreamResponse | None:
        if self._digest is not None:
            return self._digest.ask(request, "admin", self.password)
        return basic(request, "admin", self.password)

    async def _page(self, _: web.Request) -> web.Response:
        return web.Response(text="<!DOCTYPE html><html><esp-app></esp-app></html>", content_type="text/html")

    async def _state(self, request: web.Request) -> web.Response:
        switch = request.match_info["switch"]
        if switch not in self.states:
            return web.Response(status=404)
        is_on = self.states[switch] is PortState.ON
        return web.json_response(
            {"id": f"switch-{switch}", "value": is_on, "state": "ON" if is_on else "OFF"}
        )

    async def _turn(self, request: web.Request) -> web.Response:
        switch, state = request.match_info["switch"], PortState(request.match_info["state"])
        if switch not in self.states:
            return web.Response(status=404)
        if self.states[switch] is not state:
            asyncio.get_running_loop().call_later(LOOP_S, self.switch, switch, state)
        return web.Response()
