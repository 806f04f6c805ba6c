"""What the Redfish driver does beyond what every driver promises."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest
from aiohttp import web
from pydantic import ValidationError

from consumers.powercycle_agent.drivers.errors import NotConfirmed, TurnedAway
from consumers.powercycle_agent.drivers.protocol import PortState, PowerDriver
from consumers.powercycle_agent.drivers.redfish import KIND
from consumers.powercycle_agent.drivers.secrets import Secrets
from tests.power_devices.redfish import SYSTEMS, USER, FakeRedfish
from tests.power_devices.web_device import PASSWORD, WebPowerDevice

pytestmark = pytest.mark.slow

SECRETS: Final = Secrets({"POWERCYCLE_PASSWORD": PASSWORD}, Path("/nonexistent"))


ODD: Final[tuple[Any, ...]] = (5, True, {}, [[]], [{}], [None], "On")


class Scripted(WebPowerDevice):
    """Has one system, which offers what it is told to offer, and takes every order."""

    def __init__(self) -> None:
        super().__init__(("1",))
        self.actions: dict[str, Any] = {}
        self.says: dict[str, Any] = {}
        self.session = "/redfish/v1/SessionService/Sessions/7"

    def routes(self, router: web.UrlDispatcher) -> None:
        router.add_get("/redfish/v1/Systems/1", self._show)
        router.add_post("/{path:.*}", self._take)
        router.add_delete("/{path:.*}", self._end)

    async def _show(self, _: web.Request) -> web.Response:
        state = "On" if self.states["1"] is PortState.ON else "Off"
        return web.json_response({"PowerState": state, "Actions": self.actions} | self.says)

    async def _take(self, request: web.Request) -> web.Response:
        order = await request.json()
        self.note(str(order))
        self.switch("1", PortState.ON if "On" in str(order) else PortState.OFF)
        return web.Response(status=202, headers={"X-Auth-Token": "t", "Location": self.session})

    async def _end(self, _: web.Request) -> web.Response:
        return web.Response(status=204)


@pytest.fixture
async def scripted() -> AsyncIterator[Scripted]:
    device = Scripted()
    await device.start()
    yield device
    await device.stop()


def opened(device: WebPowerDevice, **keys: Any) -> PowerDriver:
    entry = {"address": device.address, "user": USER, "ports": {"machine": "1"}, "confirm_s": 0.2} | keys
    driver: PowerDriver = KIND.open(KIND.settings.model_validate(entry), SECRETS)
    return driver


@pytest.mark.parametrize(
    "target",
    [
        "http://elsewhere.example/redfish/v1/Systems/1/Actions/ComputerSystem.Reset",
        "//elsewhere.example/redfish/v1/Systems/1",
        "/redfish/v1/../admin",
        "/admin/reset",
        "@elsewhere.example/redfish/v1/x",
        7,
    ],
)
async def test_an_action_that_leads_elsewhere_is_not_taken(scripted: Scripted, target: Any) -> None:
    scripted.actions = {"#ComputerSystem.Reset": {"target": target}}
    driver = opened(scripted)
    with pytest.raises(NotConfirmed, match="offers no action"):
        await driver.off("1")
    await driver.close()
    assert not any(each.startswith("POST") for each in scripted.commands)


async def test_only_what_the_service_allows_is_ordered(scripted: Scripted) -> None:
    reset = {"target": "/redfish/v1/Systems/1/Actions/ComputerSystem.Reset"}
    scripted.actions = {
        "Oem": {},
        "#ComputerSystem.Reset": reset | {"ResetType@Redfish.AllowableValues": ["ForceOn", "ForceOff"]},
    }
    driver = opened(scripted)
    await driver.off("1")
    await driver.on("1")
    scripted.actions["#ComputerSystem.Reset"]["ResetType@Redfish.AllowableValues"] = ["GracefulShutdown"]
    with pytest.raises(NotConfirmed, match="offers no action"):
        await driver.off("1")
    await driver.close()
    orders = [each for each in scripted.commands if each.startswith("{")]
    assert orders == ["{'ResetType': 'ForceOff'}", "{'ResetType': 'ForceOn'}"]


@pytest.mark.parametrize("action", ["#ComputerSystem.Reset", "#Chassis.Reset"])
async def test_a_service_that_does_not_say_what_it_allows_is_told_the_usual(
    scripted: Scripted, action: str
) -> None:
    scripted.actions = {action: {"target": "/redfish/v1/Systems/1/Actions/Reset"}}
    driver = opened(scripted)
    await driver.off("1")
    await driver.on("1")
    await driver.close()
    orders = [each for each in scripted.commands if each.startswith("{")]
    assert orders == ["{'ResetType': 'ForceOff'}", "{'ResetType': 'On'}"]


@pytest.mark.parametrize(
    "actions",
    [
        None,
        [],
        5,
        {"#ComputerSystem.Reset": None},
        {"#ComputerSystem.Reset": {"target": []}},
        *(
            {
                "#ComputerSystem.Reset": {
                    "target": "/redfish/v1/Systems/1/Reset",
                    "ResetType@Redfish.AllowableValues": odd,
                }
            }
            for odd in ODD
        ),
    ],
)
async def test_actions_that_make_no_sense_are_none(scripted: Scripted, actions: Any) -> None:
    scripted.actions = actions
    driver = opened(scripted)
    with pytest.raises(NotConfirmed, match="offers no action"):
        await driver.off("1")
    await driver.close()


async def test_a_session_serves_many_calls_and_is_ended_in_the_end() -> None:
    service = FakeRedfish(SYSTEMS, has_sessions=True)
    await service.start()
    driver = opened(service, auth="session")
    for _ in range(3):
        assert await driver.status(SYSTEMS[0]) is PortState.ON
    assert len(service.sessions) == 1
    await driver.close()
    assert service.sessions == {}
    await service.stop()


@pytest.mark.parametrize("elsewhere", ["/admin/wipe", "/redfish/v1/../admin", "http://[", ""])
async def test_a_session_that_is_said_to_be_elsewhere_is_left_to_end_by_itself(
    scripted: Scripted, elsewhere: str
) -> None:
    scripted.session = elsewhere
    driver = opened(scripted, auth="session")
    await driver.probe()
    await driver.close()
    assert not any(each.startswith("DELETE") for each in scripted.commands)


class ReadOnly(FakeRedfish):
    """Its account may look and not touch."""

    def _turn(self, port: str, word: object) -> web.Response:
        return web.json_response({"error": {"code": "Base.1.18.InsufficientPrivilege"}}, status=403)


async def test_an_account_that_may_not_switch_does_not_use_up_sessions() -> None:
    service = ReadOnly(SYSTEMS, has_sessions=True)
    await service.start()
    driver = opened(service, auth="session")
    for _ in range(3):
        with pytest.raises(TurnedAway):
            await driver.off(SYSTEMS[0])
    assert len(service.sessions) == 1
    await driver.close()
    await service.stop()


@pytest.mark.parametrize("state", ["PoweringOn", "PoweringOff", "Paused", None])
async def test_a_system_on_its_way_is_neither_on_nor_off(scripted: Scripted, state: str | None) -> None:
    scripted.says = {"PowerState": state}
    driver = opened(scripted)
    assert await driver.status("1") is PortState.UNKNOWN
    await driver.close()


@pytest.mark.parametrize(
    "port", ["..", "/redfish/v1/../../etc", "/admin", "a/b", "http://x/redfish/v1/y", "a?b"]
)
def test_a_port_outside_of_the_service_is_refused(port: str) -> None:
    with pytest.raises(ValidationError, match="port of machine"):
        KIND.settings.model_validate({"address": "https://bmc", "user": "u", "ports": {"machine": port}})
