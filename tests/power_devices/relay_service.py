"""A home-made service with relays, as somebody would write it for a webhook."""

from __future__ import annotations

from aiohttp import web

from consumers.powercycle_agent.drivers.protocol import PortState
from tests.power_devices.web_device import WebPowerDevice


class FakeRelayService(WebPowerDevice):
    """`PUT /api/relays/<id>` with `{"on": bool, "token": …}`; a bearer token for all."""

    def __init__(self) -> None:
        super().__init__(("k1", 'k"2/b'))

    def routes(self, router: web.UrlDispatcher) -> None:
        router.add_get("/api/relays/{relay}", self._state)
        router.add_put("/api/relays/{relay}", self._set)
        router.add_get("/api/moved", self._moved)

    def guard(self, request: web.Request) -> web.StreamResponse | None:
        if request.headers.get("X-Token") == self.password:
            return None
        return web.Response(status=403, text="who are you?")

    async def _state(self, request: web.Request) -> web.Response:
        relay = request.match_info["relay"]
        if relay not in self.states:
            return web.Response(status=404, text="no such relay")
        return web.json_response({"relay": {"is/on": self.states[relay] is PortState.ON}})

    async def _set(self, request: web.Request) -> web.Response:
        relay = request.match_info["relay"]
        content = await request.json()
        if relay not in self.states:
            return web.Response(status=404, text="no such relay")
        assert content["relay"] == relay
        self.switch(relay, PortState.ON if content["on"] else PortState.OFF)
        return web.Response(status=204)

    async def _moved(self, _: web.Request) -> web.Response:
        raise web.HTTPFound("http://elsewhere.invalid/")
