"""Servers, blades and PDUs with a Redfish service: Dell iDRAC 8 and newer, HPE iLO 4 and newer, Lenovo XCC, Supermicro, OpenBMC,
and the outlets of Redfish PDUs.

Protocol: DMTF Redfish (DSP0266) over HTTPS: `#ComputerSystem.Reset` or `#Chassis.Reset` with ForceOff and On, or
`#Outlet.PowerControl`; PowerState is read back.

    redfish: {
      "rack4-bmc7": { address: "https://10.0.4.107", user: "power", password_file: "/etc/labkeeper/bmc",
                      ca_file: "/etc/labkeeper/lab-ca.pem", ports: { "rack4-07": "System.Embedded.1" } },
      "rack5-pdu": { address: "https://10.0.5.9", user: "lab", auth: "session",
                     ports: { "rack5-01": "/redfish/v1/PowerEquipment/RackPDUs/1/Outlets/A1" } },
    }

The port is a system's id, or the path of any resource that has a PowerState and one of these actions. The certificate is checked;
most BMCs come with one that nobody knows, so name it, or its authority, with `ca_file` (or, in a lab you trust, `verify: false`).
The account needs the privilege ConfigureComponents (Operator).
Manual: DMTF DSP2046, "Redfish Resource and Schema Guide"; the vendor's Redfish API guide.
"""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from typing import Annotated, Any, Final, Literal

from pydantic import Field, field_validator
from yarl import URL

from consumers.powercycle_agent.drivers.confirmation import ConfirmingDriver
from consumers.powercycle_agent.drivers.errors import DriverError, NotConfirmed, TurnedAway
from consumers.powercycle_agent.drivers.http import AccountSettings, Answer, Login, WebDevice
from consumers.powercycle_agent.drivers.protocol import DriverKind, PortState
from consumers.powercycle_agent.drivers.secrets import Secrets
from consumers.powercycle_agent.drivers.settings import Port

_ROOT: Final = "/redfish/v1/"
_SYSTEMS: Final = "/redfish/v1/Systems"
_SESSIONS: Final = "/redfish/v1/SessionService/Sessions"
_RESOURCE: Final = re.compile(r"/redfish/v1(/[A-Za-z0-9_~%-][A-Za-z0-9._~%-]*)+/?")
"""No empty segment, and none of dots: whoever answers may not lead us elsewhere."""
_ID: Final = re.compile(r"[A-Za-z0-9_~-][A-Za-z0-9._~-]*")
_WAYS: Final = {PortState.ON: ("On", "ForceOn"), PortState.OFF: ("ForceOff",)}
"""Values of ResetType, the best first."""
_GOODBYE_S: Final = 1.0


class RedfishSettings(AccountSettings):
    """One Redfish service."""

    user: Annotated[str, Field(min_length=1, max_length=200, pattern="^[^:]+$")]
    auth: Literal["basic", "session"] = "basic"
    """`session`: log in once; for services that are slow to log in, or refuse basic authentication."""
    limit_s: Annotated[float, Field(gt=0, le=300)] = 30
    confirm_s: Annotated[float, Field(gt=0, le=300)] = 20

    @field_validator("ports")
    @classmethod
    def _are_resources(cls, ports: dict[str, Port]) -> dict[str, Port]:
        for machine_id, port in ports.items():
            if not (_ID.fullmatch(port) or _RESOURCE.fullmatch(port)):
                raise ValueError(f"the port of {machine_id} must be a system's id, or a path below {_ROOT}")
        return ports


class RedfishDriver(ConfirmingDriver):
    """A `PowerDriver` for one Redfish service."""

    def __init__(self, settings: RedfishSettings, secrets: Secrets) -> None:
        super().__init__(settings.address, limit_s=settings.limit_s, confirm_s=settings.confirm_s)
        self._settings = settings
        self._secrets = secrets
        self._has_sessions = settings.auth == "session"
        self._web = WebDevice(settings, logins=None if self._has_sessions else self._login)
        self._token = ""
        self._session = ""
        """Path of our session."""

    async def tell(self, port: str, wanted: PortState) -> None:
        resource = await self._resource(port)
        target, order = self._order(port, resource, wanted)
        answer = await self._ask("POST", target, order)
        if answer.status >= 400 and _state(resource) is wanted:
            return  # some services refuse to do what is so already
        answer.confirmed()

    async def status(self, port: str) -> PortState:
        return _state(await self._resource(port))

    async def probe(self) -> None:
        path = next((_path(port) for port in self._settings.ports.values()), _SYSTEMS)
        (await self._ask("GET", path)).confirmed().json_object()

    async def close(self) -> None:
        await self._log_out()
        await self._web.close()

    async def _resource(self, port: str) -> dict[str, Any]:
        return (await self._ask("GET", _path(port))).confirmed(port=port).json_object()

    def _order(self, port: str, resource: dict[str, Any], wanted: PortState) -> tuple[str, dict[str, str]]:
        """Where the action goes, and what it says."""
        actions = resource.get("Actions")
        for name, action in actions.items() if isinstance(actions, dict) else ():
            target = action.get("target") if isinstance(action, dict) else None
            if not (isinstance(target, str) and _RESOURCE.fullmatch(target)):
                continue
            if name == "#Outlet.PowerControl":
                return target, {"PowerState": "On" if wanted is PortState.ON else "Off"}
            if name in {"#ComputerSystem.Reset", "#Chassis.Reset"}:
                offered = action.get("ResetType@Redfish.AllowableValues", _WAYS[wanted])
                if not isinstance(offered, list | tuple):
                    continue
                for way in _WAYS[wanted]:
                    if way in offered:
                        return target, {"ResetType": way}
        raise NotConfirmed(f"{self.device} offers no action that turns {port} {wanted}")

    async def _ask(self, method: str, path: str, document: dict[str, str] | None = None) -> Answer:
        if not self._has_sessions:
            return await self._web.request(method, path, document=document)
        if self._token:
            with suppress(TurnedAway):  # sessions end: log in again
                return await self._web.request(method, path, headers=self._headers(), document=document)
            await self._log_out()  # if it was not the session's end: services have few to give
        await self._log_in()
        return await self._web.request(method, path, headers=self._headers(), document=document)

    async def _log_in(self) -> None:
        login = self._login()
        document = {"UserName": login.user, "Password": login.password}
        answer = await self._web.request("POST", _SESSIONS, document=document, secret=login.password)
        answer.confirmed()
        self._token = answer.headers.get("X-Auth-Token", "")
        if not self._token:
            raise NotConfirmed(f"{self.device} began a session without a token")
        self._session = _session_path(answer.headers.get("Location", ""))

    async def _log_out(self) -> None:
        if self._session:
            with suppress(DriverError, TimeoutError):
                async with asyncio.timeout(_GOODBYE_S):
                    await self._web.request("DELETE", self._session, headers=self._headers())
        self._token = self._session = ""

    def _headers(self) -> dict[str, str]:
        return {"X-Auth-Token": self._token}

    def _login(self) -> Login:
        login = self._settings.login(self._secrets)
        assert login is not None  # user is a must
        return login


def _path(port: str) -> str:
    return port if port.startswith("/") else f"{_SYSTEMS}/{port}"


def _session_path(location: str) -> str:
    """Empty for what is no path of this service: then the session ends by itself."""
    try:
        path = URL(location).raw_path
    except ValueError:
        return ""
    return path if _RESOURCE.fullmatch(path) else ""


def _state(resource: dict[str, Any]) -> PortState:
    """PoweringOn, PoweringOff and Paused are neither."""
    return {"On": PortState.ON, "Off": PortState.OFF}.get(str(resource.get("PowerState")), PortState.UNKNOWN)


KIND = DriverKind("redfish", RedfishSettings, RedfishDriver)
