"""The Redfish driver and its fake service: systems with basic authentication, outlets with sessions."""

from __future__ import annotations

from typing import Final

from consumers.powercycle_agent.drivers.redfish import KIND
from tests.contract.power_devices.harness import Harness
from tests.contract.power_devices.web import starter
from tests.power_devices.redfish import OUTLETS, SYSTEMS, USER, FakeRedfish

LOGIN: Final = {"user": USER, "password_env": "PLUG_PASSWORD"}
NO_OUTLET: Final = OUTLETS[0].replace("A1", "A9")

HARNESSES: Final = (
    Harness("redfish-systems", starter(lambda: FakeRedfish(SYSTEMS, has_sessions=False), KIND, LOGIN, "3")),
    Harness(
        "redfish-outlets",
        starter(
            lambda: FakeRedfish(OUTLETS, has_sessions=True), KIND, LOGIN | {"auth": "session"}, NO_OUTLET
        ),
    ),
)
