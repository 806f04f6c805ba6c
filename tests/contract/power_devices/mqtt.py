"""The MQTT driver, a real broker, and plugs as Zigbee2MQTT has them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from consumers.powercycle_agent.drivers.mqtt import KIND
from consumers.powercycle_agent.drivers.secrets import Secrets
from tests.contract.power_devices.harness import Case, Harness, Trait
from tests.power_devices.mosquitto import program
from tests.power_devices.mqtt import PASSWORD, USER, FakePlugs

CONFIRM_S = 0.5


@asynccontextmanager
async def start(folder: Path) -> AsyncIterator[Case]:
    program()
    device = FakePlugs(folder)
    await device.start()
    entry = {
        "address": device.address,
        "user": USER,
        "password": PASSWORD,
        "command": {"topic": "lab/{port}/set", "on": '{"state": "ON"}', "off": '{"state": "OFF"}'},
        "state": {"topic": "lab/{port}", "pointer": "/state"},
        "query": {"topic": "lab/{port}/get", "payload": '{"state": ""}'},
        "ports": {"one": "plug-1", "two": "plug-2"},
    }

    def settings(limit_s: float) -> Any:
        return KIND.settings.model_validate(entry | {"limit_s": limit_s, "confirm_s": CONFIRM_S})

    try:
        yield Case(
            device,
            KIND,
            settings,
            Secrets({}, folder / "known_hosts"),
            ("plug-1", "plug-2"),
            secret_texts=(PASSWORD,),
        )
    finally:
        await device.stop()


HARNESSES = (
    Harness(
        "mqtt",
        start,
        lacks={Trait.PORTS: "on a topic that no device listens to, there is silence"},
        marks=[pytest.mark.integration],
    ),
)
