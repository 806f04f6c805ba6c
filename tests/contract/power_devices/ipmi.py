"""The IPMI driver, with the real ipmitool, and its fake management controller."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from consumers.powercycle_agent.drivers.ipmi import KIND
from consumers.powercycle_agent.drivers.secrets import Secrets
from tests.contract.power_devices.harness import Case, Harness, Trait
from tests.power_devices.ipmi import PASSWORD, PORT, USER, FakeBmc

PATIENCE_S: Final = 1.5
"""Enough for several runs of ipmitool on a busy machine, and little where nobody answers."""


@asynccontextmanager
async def start(folder: Path) -> AsyncIterator[Case]:
    if shutil.which("ipmitool") is None:
        pytest.skip("ipmitool is not installed")
    bmc = FakeBmc()
    await bmc.start()

    def settings(_: float) -> Any:
        return KIND.settings.model_validate(
            {
                "address": "127.0.0.1",
                "udp_port": bmc.udp_port,
                "user": USER,
                "password_env": "BMC_PASSWORD",
                "cipher_suite": 3,
                "ports": {"machine": PORT},
                "limit_s": PATIENCE_S,
                "confirm_s": 0.3,
            }
        )

    try:
        secrets = Secrets({"BMC_PASSWORD": PASSWORD}, folder)
        yield Case(bmc, KIND, settings, secrets, (PORT, PORT), "1", secret_texts=(PASSWORD,))
    finally:
        await bmc.stop()


HARNESSES: Final = (
    Harness(
        "ipmi",
        start,
        {
            Trait.NEIGHBOURS: "a management controller switches its own machine only",
            Trait.CONNECTION: "UDP: a lost answer looks like a lost question",
        },
        marks=(pytest.mark.integration,),
    ),
)
