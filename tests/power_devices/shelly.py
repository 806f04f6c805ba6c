"""Shellys: a 2.5 (generation 1) and a Plus 2PM (generation 2)."""

from __future__ import annotations

from aiohttp import web

from consumers.powercycle_agent.drivers.protocol import PortState
from tests.power_devices.web_device import Digest, WebPowerDevice, basic

_STATES = {"on": PortState.ON, "true": PortState.ON, "off": PortState.OFF, "false": PortState.OFF}


class FakeShelly1(WebPowerDevice):
    """The first generation: basic authentication but for `/shelly`."""

    def __init__(self) -> None:
        super().__init__(("0", "1"))

    def routes(self, router: web.UrlDispatcher) -> None:
        router.add_get("/shelly", self._who)
        router.add_get("/status", self._status)
        router.add_get("/relay/{relay}", self._relay)

    def guard(self, request: web.Request) -> web.StreamResponse | None:
        return None if request.path == "/shelly" else basic(request, "admin", self.password)

    async def _who(self, _: web.Request) -> web.Response:
        return web.json_response({"type": "SHSW-25", "mac": "5ECF7F1632E8", "auth": True, "num_outputs": 2})

    async def _status(self, _: web.Request) -> web.Response:
        return web.json_response(
            {"relays": [{"ison": state is PortState.ON} for state in self.states.values()]}
        )

    async def _relay(self, request: web.Request) -> web.Response:
        relay = request.match_info["relay"]
        if relay not in self.states:
            return web.Response(status=404, text="Not Found")
        turn = request.query.get("turn")
        if turn is not None:
            self.switch(relay, _STATES[turn])
        said = self.states[relay] if turn is None else _STATES[turn]
        return web.json_response({"ison": said is PortState.ON, "has_timer": False, "source": "http"})


class FakeShelly2(WebPowerDevice):
    """The second generation: digest authentication with SHA-256 but for `/shelly`."""

    def __init__(self) -> None:
        super().__init__(("0", "1"))
        self._digest = Digest("shellyplus2pm-5443b23d81f8", "SHA-256")

    def routes(self, router: web.UrlDispatcher) -> None:
        router.add_get("/shelly", self._who)
        router.add_get("/rpc/Shelly.GetStatus", self._status)
        router.add_get("/rpc/Switch.Set", self._set)
        router.add_get("/rpc/Switch.GetStatus", self._get)

    def guard(self, request: web.Request) -> web.StreamResponse | None:
        return None if request.path == "/shelly" else self._digest.ask(request, "admin", self.password)

    async def _who(self, _: web.Request) -> web.Response:
        return web.json_response({"id": "shellyplus2pm-5443b23d81f8", "gen": 2, "auth_en": True})

    async def _status(self, _: web.Request) -> web.Response:
        return web.json_response({"sys": {}} | {f"switch:{port}": self._said(port) for port in self.states})

    async def _set(self, request: web.Request) -> web.Response:
        port = request.query["id"]
        if port not in self.states:
            return _not_found(port)
        was = self.states[port]
        self.switch(port, _STATES[request.query["on"]])
        return web.json_response({"was_on": was is PortState.ON})

    async def _get(self, request: web.Request) -> web.Response:
        port = request.query["id"]
        return web.json_response(self._said(port)) if port in self.states else _not_found(port)

    def _said(self, port: str) -> dict[str, object]:
        return {
            "id": int(port),
            "source": "HTTP_in",
            "output": self.states[port] is PortState.ON,
            "apower": 0.0,
        }


def _not_found(port: str) -> web.Response:
    return web.json_response({"code": -105, "message": f"Argument 'id', value {port} not found!"}, status=500)
