"""The EdgeSwitch driver, with a fake EdgeSwitch and a fake UniFi switch."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

from consumers.powercycle_agent.drivers.edgeswitch import KIND
from consumers.powercycle_agent.drivers.secrets import Secrets
from tests.contract.power_devices.harness import Case, Harness
from tests.power_devices.edgeswitch import FakeEdgeSwitch, FakeUniFi
from tests.power_devices.ssh_device import PASSWORD, USER


def running(make: Callable[[], FakeEdgeSwitch]) -> Callable[[Path], AbstractAsyncContextManager[Case]]:
    """A switch that is logged in to by password."""

    @asynccontextmanager
    async def start(folder: Path) -> AsyncIterator[Case]:
        device = make()
        await device.start()
        entry = {
            "address": "127.0.0.1",
            "user": USER,
            "ssh_port": device.port,
            "password": PASSWORD,
            "ports": {"a": 3, "b": 4},
        }

        def settings(limit_s: float) -> Any:
            return KIND.settings.model_validate(entry | {"limit_s": limit_s, "confirm_s": 0.3})

        secrets = Secrets({}, device.write_known_hosts(folder))
        try:
            yield Case(
                device, KIND, settings, secrets, ports=("3", "4"), no_port="25", secret_texts=(PASSWORD,)
            )
        finally:
            await device.stop()

    return start


HARNESSES = (Harness("edgeswitch", running(FakeEdgeSwitch)), Harness("unifi", running(FakeUniFi)))
