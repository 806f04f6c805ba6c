"""Home Assistant's REST API, with two switches."""

from __future__ import annotations

from aiohttp import web

from consumers.powercycle_agent.drivers.protocol import PortState
from tests.power_devices.device import Mood
from tests.power_devices.web_device import WRONG_PASSWORD, WebPowerDevice

TOKEN = "eyJhbGciOi.long-lived.token"


class FakeHomeAssistant(WebPowerDevice):
    """Takes a service call for an entity that it does not know, as the real one does."""

    def __init__(self) -> None:
        super().__init__(("switch.rack4_plug_1", "switch.rack4_plug_2"))
        self.lost: set[str] = set()
        """Entities that it cannot reach."""

    @property
    def password(self) -> str:
        return WRONG_PASSWORD if self.mood is Mood.REFUSES else TOKEN

    def routes(self, router: web.UrlDispatcher) -> None:
        router.add_get("/api/", self._running)
        router.add_get("/api/states/{entity}", self._state)
        router.add_post("/api/services/homeassistant/turn_{state}", self._turn)

    def guard(self, request: web.Request) -> web.StreamResponse | None:
        if request.headers.get("Authorization") == f"Bearer {self.password}":
            return None
        return web.Response(status=401, text="401: Unauthorized")

    async def _running(self, _: web.Request) -> web.Response:
        return web.json_response({"message": "API running."})

    async def _state(self, request: web.Request) -> web.Response:
        entity = request.match_info["entity"]
        if entity not in self.states:
            return web.json_response({"message": "Entity not found."}, status=404)
        return web.json_response(self._said(entity))

    async def _turn(self, request: web.Request) -> web.Response:
        entity = (await request.json())["entity_id"]
        if entity not in self.states:
            return web.json_response([])
        self.switch(entity, PortState(request.match_info["state"]))
        return web.json_response([self._said(entity)])

    def _said(self, entity: str) -> dict[str, object]:
        state = "unavailable" if entity in self.lost else str(self.states[entity])
        return {"entity_id": entity, "state": state, "attributes": {"friendly_name": "Plug"}}
