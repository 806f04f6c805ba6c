"""What the webhook driver does beyond what every driver promises."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from pydantic import ValidationError

from consumers.powercycle_agent.drivers.errors import NotConfirmed, TurnedAway
from consumers.powercycle_agent.drivers.protocol import PortState
from consumers.powercycle_agent.drivers.secrets import Secrets
from consumers.powercycle_agent.drivers.webhook import KIND, WebhookDriver
from tests.power_devices.web_device import PASSWORD, WebPowerDevice, basic

pytestmark = pytest.mark.slow

BLIND = {
    "on": {"path": "/on/{port}"},
    "off": {"path": "/off/{port}", "method": "GET"},
    "probe": {"path": "/"},
}


class Listener(WebPowerDevice):
    """Remembers what it was sent, and is content with all of it but `/broken/…`."""

    def __init__(self) -> None:
        super().__init__(("k1",))
        self.bodies: list[bytes] = []
        self.headers: list[dict[str, str]] = []
        self.user: str | None = None

    def routes(self, router: web.UrlDispatcher) -> None:
        router.add_route("*", "/{path:.*}", self._hear)

    def guard(self, request: web.Request) -> web.StreamResponse | None:
        return basic(request, self.user, self.password) if self.user else None

    async def _hear(self, request: web.Request) -> web.Response:
        self.bodies.append(await request.read())
        self.headers.append(dict(request.headers))
        is_broken = request.path.startswith("/broken")
        return web.Response(status=500 if is_broken else 200, text=f"{request.path}: the relay is on")


@pytest.fixture
async def listener() -> AsyncIterator[Listener]:
    device = Listener()
    await device.start()
    yield device
    await device.stop()


def open_driver(address: str, **keys: Any) -> WebhookDriver:
    entry = {"address": address, "ports": {"pi-01": "k1"}} | BLIND | keys
    secrets = Secrets({"HOOK": PASSWORD}, Path("/nonexistent"))
    return WebhookDriver(KIND.settings.model_validate(entry), secrets)  # type: ignore[arg-type]  # its own


async def test_without_a_status_nothing_is_confirmed_and_every_state_is_unknown(listener: Listener) -> None:
    driver = open_driver(listener.address)
    await driver.on("k1")
    await driver.off("k 1/../x")
    assert await driver.status("k1") is PortState.UNKNOWN
    await driver.probe()
    await driver.close()
    assert listener.commands == ["POST /on/k1", "GET /off/k%201%2F..%2Fx", "GET /"]


async def test_a_service_that_fails_is_an_error_also_when_nothing_is_read_back(listener: Listener) -> None:
    driver = open_driver(listener.address, off={"path": "/broken/{port}"})
    with pytest.raises(NotConfirmed, match="HTTP 500"):
        await driver.off("k1")
    await driver.close()


async def test_a_probe_asks_for_the_first_ports_state_by_default(listener: Listener) -> None:
    driver = open_driver(listener.address, probe=None, status={"path": "/{port}", "pattern": "is (on|off)"})
    await driver.probe()
    assert await driver.status("k1") is PortState.ON
    await driver.close()
    assert listener.commands == ["GET /k1", "GET /k1"]


async def test_port_and_password_are_written_as_their_place_wants_them(listener: Listener) -> None:
    on = {"path": "/on?key={password}", "body": '{"relay": "{port}", "key": "{password}"}'}
    off = {"path": "/off", "body": "{port} {password}", "headers": {"content-type": "text/plain"}}
    driver = open_driver(
        listener.address, on=on, off=off, headers={"X-Key": "Key {password}"}, password_env="HOOK"
    )
    await driver.on('"k1"')
    await driver.off('"k1"')
    await driver.close()
    escaped = PASSWORD.replace("ä", "\\u00e4").replace('"', '\\"')
    assert listener.bodies == [
        f'{{"relay": "\\"k1\\"", "key": "{escaped}"}}'.encode(),
        f'"k1" {PASSWORD}'.encode(),
    ]
    assert listener.commands[0] == "POST /on?key=p%C3%A4%20ss%26w%22ord%2F%231"
    assert [headers["X-Key"] for headers in listener.headers] == [f"Key {PASSWORD}"] * 2


async def test_a_password_in_the_path_is_in_no_error(listener: Listener) -> None:
    driver = open_driver(listener.address, on={"path": "/broken/{password}"}, password_env="HOOK")
    with pytest.raises(NotConfirmed) as caught:
        await driver.on("k1")
    await driver.close()
    assert PASSWORD not in str(caught.value)


async def test_a_user_logs_in_as_the_service_wants_it(listener: Listener) -> None:
    listener.user = "lab"
    driver = open_driver(listener.address, user="lab", password_env="HOOK")
    await driver.on("k1")
    await driver.close()
    stranger = open_driver(listener.address)
    with pytest.raises(TurnedAway):
        await stranger.on("k1")
    await stranger.close()


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"probe": None}, "needs status, or a probe"),
        ({"probe": None, "ports": {}, "status": {"path": "/{port}"}}, "needs status, or a probe"),
        ({"on": {"path": "https://elsewhere/on"}}, "pattern"),
        ({"on": {"path": "/on", "method": "CONNECT"}}, "GET"),
        ({"headers": {"X-Key": "a\r\nHost: b"}}, "pattern"),
        ({"on": {"path": "/on", "verb": "GET"}}, "Extra"),
    ],
)
def test_an_entry_that_cannot_be_meant_is_refused(keys: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        open_driver("http://hook", **keys)
