"""The drivers of smart plugs and services that speak HTTP, and their fake devices."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

from consumers.powercycle_agent.drivers import esphome, homeassistant, shelly, tasmota, webhook
from consumers.powercycle_agent.drivers.protocol import DriverKind
from consumers.powercycle_agent.drivers.secrets import Secrets
from tests.contract.power_devices.harness import Case, Harness
from tests.power_devices.esphome import FakeEsphome
from tests.power_devices.homeassistant import TOKEN, FakeHomeAssistant
from tests.power_devices.relay_service import FakeRelayService
from tests.power_devices.shelly import FakeShelly1, FakeShelly2
from tests.power_devices.tasmota import FakeTasmota
from tests.power_devices.web_device import PASSWORD, WRONG_PASSWORD, WebPowerDevice

CONFIRM_S = 0.5
LOGIN = {"user": "admin", "password_env": "PLUG_PASSWORD"}


def starter(
    make: Callable[[], WebPowerDevice],
    kind: DriverKind,
    entry: Mapping[str, Any],
    no_port: str,
    *,
    base: str = "",
) -> Callable[[Path], AbstractAsyncContextManager[Case]]:
    """`entry`: without address and ports, which are the device's; `base`: what follows its address."""

    @asynccontextmanager
    async def start(_: Path) -> AsyncIterator[Case]:
        device = make()
        await device.start()
        first, second = device.states

        def settings(limit_s: float) -> Any:
            limits = {"limit_s": limit_s, "confirm_s": CONFIRM_S}
            named = {"address": device.address + base, "ports": {"one": first, "two": second}}
            return kind.settings.model_validate({**limits, **named, **entry})

        secrets = Secrets({"PLUG_PASSWORD": PASSWORD, "TOKEN": TOKEN}, Path("/nonexistent"))
        try:
            hidden = (PASSWORD, TOKEN, WRONG_PASSWORD)
            yield Case(device, kind, settings, secrets, (first, second), no_port, secret_texts=hidden)
        finally:
            await device.stop()

    return start


WEBHOOK = {
    "password_env": "PLUG_PASSWORD",
    "headers": {"X-Token": "{password}"},
    "on": {"method": "PUT", "path": "/relays/{port}", "body": '{"relay": "{port}", "on": true}'},
    "off": {"method": "PUT", "path": "/relays/{port}", "body": '{"relay": "{port}", "on": false}'},
    "status": {"path": "/relays/{port}", "pointer": "/relay/is~1on"},
}

HARNESSES = (
    Harness("tasmota", starter(FakeTasmota, tasmota.KIND, LOGIN, "3")),
    Harness("shelly-1", starter(FakeShelly1, shelly.KIND, LOGIN | {"generation": 1}, "2")),
    Harness("shelly-2", starter(FakeShelly2, shelly.KIND, LOGIN | {"generation": "auto"}, "2")),
    Harness(
        "homeassistant",
        starter(FakeHomeAssistant, homeassistant.KIND, {"token_env": "TOKEN"}, "switch.rack4_plug_3"),
    ),
    Harness("esphome", starter(lambda: FakeEsphome(wants_digest=True), esphome.KIND, LOGIN, "relay_3")),
    Harness("webhook", starter(FakeRelayService, webhook.KIND, WEBHOOK, "k3", base="/api")),
)
