"""What the MQTT driver does beyond what every driver promises, on a real broker."""

from __future__ import annotations

import asyncio
import gc
import importlib.util
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiomqtt import Client
from pydantic import ValidationError

from consumers.powercycle_agent.drivers.errors import NotInstalled, TurnedAway, Unreachable
from consumers.powercycle_agent.drivers.mqtt import KIND
from consumers.powercycle_agent.drivers.protocol import PortState, PowerDriver
from consumers.powercycle_agent.drivers.secrets import Secrets
from infra.servers.kafka.certificates import Certificates
from tests.power_devices.gate import Gate
from tests.power_devices.mosquitto import Mosquitto, program
from tests.power_devices.mqtt import PASSWORD, USER, FakePlugs

pytestmark = pytest.mark.integration

COMMAND = {"topic": "lab/{port}/set", "on": '{"state": "ON"}', "off": '{"state": "OFF"}'}
STATE = {"topic": "lab/{port}", "pointer": "/state"}
QUERY = {"topic": "lab/{port}/get"}


def settings(address: str = "mqtt://broker", **keys: Any) -> Any:
    entry = {"address": address, "user": USER, "command": COMMAND, "ports": {}, "confirm_s": 0.3}
    return KIND.settings.model_validate(entry | keys)


@asynccontextmanager
async def opened(address: str, **keys: Any) -> AsyncIterator[PowerDriver]:
    secrets = Secrets({"POWERCYCLE_PASSWORD": PASSWORD}, Path("/nonexistent"))
    driver: PowerDriver = KIND.open(settings(address, **keys), secrets)
    yield driver
    await driver.close()


@pytest.fixture
async def plugs(tmp_path: Path) -> AsyncIterator[FakePlugs]:
    program()
    device = FakePlugs(tmp_path)
    await device.start()
    yield device
    await device.stop()


async def test_a_plug_that_is_away_is_not_off_because_the_broker_kept_that_it_was(plugs: FakePlugs) -> None:
    async with opened(plugs.address, state=STATE, query=QUERY) as driver:
        await driver.off("plug-1")
        await plugs.leave()
        with pytest.raises(Unreachable, match="nothing was heard on topic lab/plug-1"):
            await driver.off("plug-1")
        with pytest.raises(Unreachable, match="nothing was heard"):
            await driver.status("plug-1")
        await driver.probe()


async def test_without_a_query_the_state_is_the_last_word_that_the_broker_kept(plugs: FakePlugs) -> None:
    async with opened(plugs.address, state=STATE) as driver:
        assert await driver.status("plug-1") is PortState.UNKNOWN
        await driver.off("plug-1")
        await plugs.leave()
        assert await driver.status("plug-1") is PortState.OFF


async def test_without_a_state_nothing_is_confirmed_and_every_state_is_unknown(plugs: FakePlugs) -> None:
    async with opened(plugs.address) as driver:
        await driver.off("plug-1")
        assert await driver.status("plug-1") is PortState.UNKNOWN
        async with asyncio.timeout(10):
            while plugs.states["plug-1"] is not PortState.OFF:
                await asyncio.sleep(0.01)
        await plugs.leave()
        await driver.on("plug-1")


async def test_a_command_that_the_broker_did_not_take_is_no_success(plugs: FakePlugs) -> None:
    """Where nothing is confirmed, it counts that the broker has it."""
    gate = Gate(lambda: len(gate.bytes_at) > 1)  # it falls silent after the greeting
    await gate.open(int(plugs.address.rpartition(":")[2]))
    async with opened(f"mqtt://127.0.0.1:{gate.port}", limit_s=1) as driver:
        with pytest.raises(Unreachable):
            await driver.off("plug-1")
    await gate.shut()


async def test_the_broker_keeps_no_command(plugs: FakePlugs) -> None:
    """Else a plug that comes back after days would be told again what was meant for then."""
    async with opened(plugs.address, state=STATE, query=QUERY) as driver:
        await driver.off("plug-1")
    port = int(plugs.address.rpartition(":")[2])
    async with asyncio.timeout(10), Client("127.0.0.1", port, username=USER, password=PASSWORD) as client:
        await client.subscribe([("lab/+/set", 1), ("lab/+/get", 1), ("lab/fence", 1)])
        await client.publish("lab/fence", "all that was kept has been told", qos=1)
        first = await anext(client.messages)
    assert first.topic.value == "lab/fence"


async def test_a_broker_shows_a_certificate_that_is_checked(tmp_path: Path) -> None:
    program()
    files = Certificates.issue(tmp_path)
    options = (f"certfile {files.server_keystore}", f"keyfile {files.server_keystore}")
    broker = Mosquitto(tmp_path, [{USER: PASSWORD}], options)
    await broker.start()
    address = f"mqtts://127.0.0.1:{broker.ports[0]}"
    async with opened(address, ca_file=str(files.ca_file)) as driver:
        await driver.probe()
    async with opened(address) as driver:
        with pytest.raises(TurnedAway, match="ca_file"):
            await driver.probe()
    await broker.stop()
    with warnings.catch_warnings():  # paho forgets a socket whose handshake fails, instead of closing it
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def test_without_the_extra_it_is_said_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(NotInstalled, match=r"pip install 'labkeeper\[mqtt\]'"):
        KIND.open(settings(), Secrets({}, Path("/nonexistent")))


@pytest.mark.parametrize(
    "keys",
    [
        {"address": "http://broker"},
        {"address": "mqtt://ann:sesame@broker"},
        {"address": "mqtt://broker/topic"},
        {"command": {"topic": "lab/+/set"}},
        {"state": {"topic": "#"}},
        {"ports": {"pi-01": "+"}},
    ],
)
def test_an_entry_that_cannot_be_meant_is_refused(keys: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=r"must be an address like|is no topic"):
        settings(**keys)
