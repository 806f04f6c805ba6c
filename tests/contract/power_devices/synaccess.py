"""The Synaccess driver and its fake unit."""

from __future__ import annotations

from consumers.powercycle_agent.drivers.synaccess import KIND
from tests.contract.power_devices.harness import Harness
from tests.contract.power_devices.web import starter
from tests.power_devices.synaccess import FakeSynaccess

HARNESSES = (Harness("synaccess", starter(lambda: FakeSynaccess(("1", "2")), KIND, {}, "3")),)
