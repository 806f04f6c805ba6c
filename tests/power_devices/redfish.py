"""A Redfish service on loopback with two systems and two outlets, as DMTF's schemas have them."""

from __future__ import annotations

import secrets

from aiohttp import web

from consumers.powercycle_agent.drivers.protocol import PortState
from tests.power_devices.device import Mood
from tests.power_devices.web_device import WebPowerDevice, basic

USER = "power"
SYSTEMS = ("437XR1138R2", "System.Embedded.2")
OUTLETS = tuple(f"/redfish/v1/PowerEquipment/RackPDUs/1/Outlets/{name}" for name in ("A1", "A2"))
_WORDS = {"On": PortState.ON, "ForceOff": PortState.OFF, "Off": PortState.OFF}


class FakeRedfish(WebPowerDevice):
    """Its ports are systems, or outlets. It refuses to turn on what is on, and off what is off, as iLO does.

    With sessions, it takes no basic authentication; `break_off` ends all sessions, as a restart does.
    """

    def __init__(self, ports: tuple[str, ...], *, has_sessions: bool) -> None:
        super().__init__(ports)
        self._has_sessions = has_sessions
        self.sessions: dict[str, str] = {}
        """Token → id."""

    def routes(self, router: web.UrlDispatcher) -> None:
        router.add_get("/redfish/v1/Systems", self._systems)
        router.add_get("/redfish/v1/Systems/{id}", self._system)
        router.add_post("/redfish/v1/Systems/{id}/Actions/ComputerSystem.Reset", self._reset)
        pdu = "/redfish/v1/PowerEquipment/RackPDUs/1/Outlets/{id}"
        router.add_get(pdu, self._outlet)
        router.add_post(pdu + "/Outlet.PowerControl", self._control)
        router.add_post("/redfish/v1/SessionService/Sessions", self._log_in)
        router.add_delete("/redfish/v1/SessionService/Sessions/{id}", self._log_out)

    async def break_off(self) -> None:
        self.sessions.clear()
        await super().break_off()

    def guard(self, request: web.Request) -> web.StreamResponse | None:
        if not self._has_sessions:
            return basic(request, USER, self.password)
        if request.path.endswith("/Sessions") or self.mood is Mood.WELL or self.mood is Mood.IDLES:
            known = request.headers.get("X-Auth-Token") in self.sessions
            return None if known or request.path.endswith("/Sessions") else _failed(401, "NoValidSession")
        return _failed(401, "NoValidSession") if self.mood is Mood.REFUSES else None

    async def _systems(self, _: web.Request) -> web.Response:
        members = [{"@odata.id": f"/redfish/v1/Systems/{each}"} for each in self.states]
        return web.json_response({"Members": members, "Members@odata.count": len(members)})

    async def _system(self, request: web.Request) -> web.Response:
        name = request.match_info["id"]
        if name not in self.states:
            return _failed(404, "ResourceMissingAtURI")
        reset = {
            "target": f"/redfish/v1/Systems/{name}/Actions/ComputerSystem.Reset",
            "ResetType@Redfish.AllowableValues": ["On", "ForceOff", "GracefulShutdown", "ForceRestart"],
        }
        return self._resource(
            name, "#ComputerSystem.v1_20_0.ComputerSystem", {"#ComputerSystem.Reset": reset}
        )

    async def _outlet(self, request: web.Request) -> web.Response:
        if request.path not in self.states:
            return _failed(404, "ResourceMissingAtURI")
        control = {"target": request.path + "/Outlet.PowerControl"}
        return self._resource(request.path, "#Outlet.v1_4_0.Outlet", {"#Outlet.PowerControl": control})

    async def _reset(self, request: web.Request) -> web.Response:
        return self._turn(request.match_info["id"], (await request.json()).get("ResetType"))

    async def _control(self, request: web.Request) -> web.Response:
        port = request.path.removesuffix("/Outlet.PowerControl")
        return self._turn(port, (await request.json()).get("PowerState"))

    async def _log_in(self, request: web.Request) -> web.Response:
        if await request.json() != {"UserName": USER, "Password": self.password}:
            return _failed(401, "NoValidSession")
        token, name = secrets.token_hex(8), secrets.token_hex(4)
        self.sessions[token] = name
        path = f"/redfish/v1/SessionService/Sessions/{name}"
        return web.json_response({"Id": name}, status=201, headers={"X-Auth-Token": token, "Location": path})

    async def _log_out(self, request: web.Request) -> web.Response:
        ended = request.match_info["id"]
        self.sessions = {token: name for token, name in self.sessions.items() if name != ended}
        return web.Response(status=204)

    def _resource(self, port: str, kind: str, actions: dict[str, object]) -> web.Response:
        state = "On" if self.states[port] is PortState.ON else "Off"
        return web.json_response(
            {"@odata.type": kind, "Id": port.rpartition("/")[2], "PowerState": state, "Actions": actions}
        )

    def _turn(self, port: str, word: object) -> web.Response:
        state = _WORDS.get(str(word))
        if port not in self.states or state is None:
            return _failed(400, "ActionParameterNotSupported")
        if self.states[port] is state:
            return _failed(400, "InvalidOperationForSystemState")
        self.switch(port, state)
        return web.Response(status=204)


def _failed(status: int, message: str) -> web.Response:
    error = {
        "code": "Base.1.18.GeneralError",
        "@Message.ExtendedInfo": [{"MessageId": f"Base.1.18.{message}"}],
    }
    return web.json_response({"error": error}, status=status)
