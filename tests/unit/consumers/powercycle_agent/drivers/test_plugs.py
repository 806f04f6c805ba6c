"""What the drivers of smart plugs do beyond what every driver promises."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from pydantic import ValidationError

from consumers.powercycle_agent.drivers import esphome, homeassistant, shelly, tasmota
from consumers.powercycle_agent.drivers.errors import DriverError, NotConfirmed, TurnedAway
from consumers.powercycle_agent.drivers.protocol import DriverKind, PortState, PowerDriver
from consumers.powercycle_agent.drivers.secrets import Secrets
from tests.power_devices.esphome import FakeEsphome
from tests.power_devices.homeassistant import TOKEN, FakeHomeAssistant
from tests.power_devices.shelly import FakeShelly1, FakeShelly2
from tests.power_devices.tasmota import FakeTasmota
from tests.power_devices.web_device import PASSWORD, WebPowerDevice

pytestmark = pytest.mark.slow

SECRETS = Secrets({"POWERCYCLE_PASSWORD": PASSWORD, "TOKEN": TOKEN}, Path("/nonexistent"))


class Scripted(WebPowerDevice):
    """Answers every request with the same JSON."""

    def __init__(self, answer: Any) -> None:
        super().__init__(("1",))
        self.answer = answer

    def routes(self, router: web.UrlDispatcher) -> None:
        router.add_get("/{path:.*}", self._say)

    async def _say(self, _: web.Request) -> web.Response:
        return web.json_response(self.answer)


@pytest.fixture
async def scripted() -> AsyncIterator[Scripted]:
    device = Scripted({})
    await device.start()
    yield device
    await device.stop()


def open_driver(kind: DriverKind, address: str, **keys: Any) -> PowerDriver:
    entry = {"address": address, "ports": {}, "confirm_s": 0.1} | keys
    driver: PowerDriver = kind.open(kind.settings.model_validate(entry), SECRETS)
    return driver


async def test_a_tasmota_with_one_relay_leaves_its_number_out(scripted: Scripted) -> None:
    scripted.answer = {"POWER": "OFF"}
    driver = open_driver(tasmota.KIND, scripted.address)
    await driver.off("1")
    assert await driver.status("1") is PortState.OFF
    with pytest.raises(NotConfirmed, match="relay 2"):
        await driver.status("2")
    await driver.close()


@pytest.mark.parametrize(
    ("kind", "device", "port"),
    [(tasmota.KIND, FakeTasmota, "2"), (shelly.KIND, FakeShelly1, "1"), (shelly.KIND, FakeShelly2, "1")],
)
async def test_who_names_a_password_and_no_user_is_admin(
    kind: DriverKind, device: type[FakeTasmota | FakeShelly1 | FakeShelly2], port: str
) -> None:
    plug = device()
    await plug.start()
    driver = open_driver(kind, plug.address, password_env="POWERCYCLE_PASSWORD", confirm_s=5)
    await driver.off(port)
    await driver.close()
    await plug.stop()
    assert plug.states[port] is PortState.OFF


async def test_a_tasmota_without_a_password_is_told_none(scripted: Scripted) -> None:
    scripted.answer = {"POWER1": "ON"}
    driver = open_driver(tasmota.KIND, scripted.address)
    await driver.on("1")
    await driver.close()
    assert scripted.commands[0] == "GET /cm?cmnd=Power1+On"


async def test_an_old_tasmota_turns_away_with_a_warning(scripted: Scripted) -> None:
    scripted.answer = {"WARNING": "Need user=<username>&password=<password>"}
    driver = open_driver(tasmota.KIND, scripted.address)
    with pytest.raises(TurnedAway):
        await driver.off("1")
    await driver.close()


async def test_a_tasmota_that_logs_too_little_to_answer_may_have_switched(scripted: Scripted) -> None:
    scripted.answer = {"WARNING": "Enable weblog 2 if response expected"}
    driver = open_driver(tasmota.KIND, scripted.address)
    with pytest.raises(NotConfirmed, match="weblog 2"):
        await driver.off("1")
    await driver.close()


ODD: tuple[Any, ...] = (None, [], 5, "odd", {}, [{}], {"": {}}, 1e400)
KEYS = (
    "Command",
    "WARNING",
    "POWER1",
    "ison",
    "output",
    "gen",
    "type",
    "code",
    "state",
    "entity_id",
    "message",
)


@pytest.mark.parametrize(
    ("kind", "keys"),
    [
        (tasmota.KIND, {}),
        (shelly.KIND, {"generation": 1}),
        (shelly.KIND, {"generation": 2}),
        (shelly.KIND, {}),
        (esphome.KIND, {}),
        (homeassistant.KIND, {"token_env": "TOKEN"}),
    ],
)
async def test_whatever_is_answered_is_a_drivers_error_or_unknown(
    scripted: Scripted, kind: DriverKind, keys: dict[str, Any]
) -> None:
    driver = open_driver(kind, scripted.address, **keys)
    for answer in (*ODD, *({key: odd} for key in KEYS for odd in ODD)):
        scripted.answer = answer
        with suppress(DriverError):
            assert await driver.status("1") is PortState.UNKNOWN
    await driver.close()


@pytest.mark.parametrize("port", [0, "all", "1 Off; Restart 1", 100])
def test_a_port_that_would_do_something_else_at_a_tasmota_is_refused(port: Any) -> None:
    with pytest.raises(ValidationError, match="no relay"):
        open_driver(tasmota.KIND, "http://plug", ports={"pi-01": port})


async def test_a_shelly_says_of_which_generation_it_is() -> None:
    device = FakeShelly1()
    await device.start()
    driver = open_driver(shelly.KIND, device.address, user="admin")
    await driver.off("1")
    await driver.on("1")
    await driver.close()
    await device.stop()
    assert [each for each in device.commands if each == "GET /shelly"] == ["GET /shelly"]
    assert "GET /relay/1?turn=off" in device.commands


class Impostor(FakeShelly2):
    """Stands where a Shelly was, and would like to know its password."""

    def __init__(self) -> None:
        super().__init__()
        self.given: list[str] = []

    def guard(self, request: web.Request) -> web.StreamResponse | None:
        if request.path == "/shelly":
            return None
        self.given.append(request.headers.get("Authorization", ""))
        return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="shelly"'})


async def test_a_shelly_that_knows_digests_is_never_told_the_password_itself() -> None:
    impostor = Impostor()
    await impostor.start()
    driver = open_driver(shelly.KIND, impostor.address, user="admin")
    with pytest.raises(TurnedAway):
        await driver.on("0")
    await driver.close()
    await impostor.stop()
    assert set(impostor.given) == {""}


@pytest.mark.parametrize("answer", [{}, {"gen": "2"}, {"gen": 0}])
async def test_what_does_not_say_which_shelly_it_is_is_told_nothing(scripted: Scripted, answer: Any) -> None:
    scripted.answer = answer
    driver = open_driver(shelly.KIND, scripted.address)
    with pytest.raises(NotConfirmed, match="generation"):
        await driver.on("0")
    await driver.close()
    assert scripted.commands == ["GET /shelly"]


@pytest.mark.parametrize("port", ["0/settings", "-1", "٣"])
def test_a_port_that_is_no_number_is_refused_for_a_shelly(port: str) -> None:
    with pytest.raises(ValidationError, match="no relay"):
        open_driver(shelly.KIND, "http://plug", ports={"pi-01": port})


async def test_an_entity_that_home_assistant_has_lost_is_unknown_and_not_off() -> None:
    device = FakeHomeAssistant()
    await device.start()
    entity = next(iter(device.states))
    driver = open_driver(homeassistant.KIND, device.address, token_env="TOKEN")
    device.lost.add(entity)
    assert await driver.status(entity) is PortState.UNKNOWN
    with pytest.raises(NotConfirmed, match="unknown, not off"):
        await driver.off(entity)
    await driver.close()
    await device.stop()


def test_home_assistant_needs_a_token() -> None:
    with pytest.raises(ValidationError, match="token_file"):
        open_driver(homeassistant.KIND, "http://ha:8123")


@pytest.mark.parametrize("port", ["plug", "switch.../config", "switch.a/../../config"])
def test_a_port_that_is_no_entity_is_refused(port: str) -> None:
    with pytest.raises(ValidationError, match="no entity"):
        open_driver(homeassistant.KIND, "http://ha:8123", token_env="TOKEN", ports={"pi-01": port})


async def test_an_esphome_that_wants_basic_authentication_gets_it() -> None:
    device = FakeEsphome(wants_digest=False)
    await device.start()
    driver = open_driver(esphome.KIND, device.address, user="admin", confirm_s=5)
    await driver.off("Relay Nº 2")
    await driver.close()
    await device.stop()
    assert device.states["Relay Nº 2"] is PortState.OFF


async def test_an_esphome_that_wants_a_password_turns_away_who_has_none() -> None:
    device = FakeEsphome(wants_digest=True)
    await device.start()
    driver = open_driver(esphome.KIND, device.address)
    with pytest.raises(TurnedAway):
        await driver.probe()
    await driver.close()
    await device.stop()
