"""A fake Synaccess netBooter: `/cmd.cgi` behind basic authentication."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import unquote

from aiohttp import web

from consumers.powercycle_agent.drivers.protocol import PortState
from tests.power_devices.device import Mood
from tests.power_devices.web_device import WebPowerDevice, basic

_OUTLETS = ("1", "2", "3", "4", "5", "6", "7", "8")
FACTORY_PASSWORD = "admin"


class FakeSynaccess(WebPowerDevice):
    """Eight outlets on firmware that begins its answers with `$A0`, or that leaves that out of `$A5`."""

    def __init__(self, ports: Sequence[str] = _OUTLETS) -> None:
        super().__init__(ports)
        self.begins_with_code = True
        self.wanted_password = FACTORY_PASSWORD

    @property
    def password(self) -> str:
        return "changed meanwhile" if self.mood is Mood.REFUSES else self.wanted_password

    def routes(self, router: web.UrlDispatcher) -> None:
        router.add_get("/", self._page)
        router.add_get("/cmd.cgi", self._command)

    def guard(self, request: web.Request) -> web.StreamResponse | None:
        return basic(request, "admin", self.password)

    async def _page(self, _: web.Request) -> web.Response:
        return web.Response(text="<html><title>Synaccess Networks</title></html>", content_type="text/html")

    async def _command(self, request: web.Request) -> web.Response:
        return web.Response(text=self._answer(unquote(request.rel_url.raw_query_string).split(" ")))

    def _answer(self, words: list[str]) -> str:
        match words:
            case ["$A3", port, "0" | "1" as value] if port in self.states:
                self.switch(port, PortState.ON if value == "1" else PortState.OFF)
                return "$A0\r\n\r\n\r\n"
            case ["$A5"]:
                states = "".join("1" if state is PortState.ON else "0" for state in self.states.values())
                return f"{'$A0,' if self.begins_with_code else ''}{states[::-1]},0.15,XX\r\n\r\n\r\n"
            case _:
                return "$AF\r\n\r\n\r\n"
