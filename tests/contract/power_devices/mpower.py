"""The mPower driver and its fake strip."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from consumers.powercycle_agent.drivers.mpower import KIND
from consumers.powercycle_agent.drivers.secrets import Secrets
from tests.contract.power_devices.harness import Case, Harness
from tests.power_devices.mpower import FakeMPower
from tests.power_devices.ssh_device import USER, key


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[Case]:
    """Logged in to by key, as ever."""
    device = FakeMPower()
    device.user_key = key("ssh-ed25519")
    device.user_key.write_private_key(folder / "id")
    await device.start()
    entry = {
        "address": "127.0.0.1",
        "user": USER,
        "ssh_port": device.port,
        "key_file": str(folder / "id"),
        "ports": {"a": 1, "b": 2},
    }

    def settings(limit_s: float) -> Any:
        return KIND.settings.model_validate(entry | {"limit_s": limit_s, "confirm_s": 0.3})

    secrets = Secrets({}, device.write_known_hosts(folder))
    try:
        yield Case(device, KIND, settings, secrets, ports=("1", "2"), no_port="8")
    finally:
        await device.stop()


HARNESSES = (Harness("mpower", running),)
