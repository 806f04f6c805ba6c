"""The mPower driver and its fake strip."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from consumers.powercycle_agent.drivers.mpower import KIND
from consumers.powercycle_agent.drivers.secrets import Secrets
from tests.contract.power_devices.harness import Case, Harness
from tests.power_devices.mpower import FakeMPower
from tests.power_devices.ssh_device import PASSWORD, USER, key


@asynccontextmanager
async def with_key(folder: Path) -> AsyncIterator[Case]:
    """Logged in to by key, as ever."""
    device = FakeMPower()
    device.user_key = key("ssh-ed25519")
    device.user_key.write_private_key(folder / "id")
    async with _running(device, folder, {"key_file": str(folder / "id")}, {}) as case:
        yield case


@asynccontextmanager
async def with_password(folder: Path) -> AsyncIterator[Case]:
    """Logged in to by a password from a variable."""
    async with _running(
        FakeMPower(), folder, {"password_variable": "STRIP_PASSWORD"}, {"STRIP_PASSWORD": PASSWORD}
    ) as case:
        yield case


@asynccontextmanager
async def _running(
    device: FakeMPower, folder: Path, login: dict[str, str], environment: dict[str, str]
) -> AsyncIterator[Case]:
    await device.start()
    entry = {"address": "127.0.0.1", "user": USER, "ssh_port": device.port, "ports": {"a": 1, "b": 2}} | login

    def settings(limit_s: float) -> Any:
        return KIND.settings.model_validate(entry | {"timeout": limit_s})

    secrets = Secrets(environment, device.write_known_hosts(folder))
    try:
        yield Case(device, KIND, settings, secrets, ports=("1", "2"), no_port="8", secret_texts=(PASSWORD,))
    finally:
        await device.stop()


OLD_ALGORITHMS = pytest.mark.filterwarnings("ignore:Diffie-Hellman over finite fields")
"""The strips know no others."""

HARNESSES = (
    Harness("mpower", with_key, marks=[OLD_ALGORITHMS]),
    Harness("mpower-password", with_password, marks=[OLD_ALGORITHMS]),
)
