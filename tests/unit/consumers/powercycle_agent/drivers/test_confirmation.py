from __future__ import annotations

import pytest

from consumers.powercycle_agent.drivers.confirmation import confirm
from consumers.powercycle_agent.drivers.errors import DriverError, NotConfirmed, TurnedAway, UnknownPort
from consumers.powercycle_agent.drivers.protocol import PortState

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("error", [TurnedAway("who are you?"), UnknownPort("no such port")])
async def test_a_device_that_took_the_command_and_then_refuses_to_answer_may_have_switched(
    error: DriverError,
) -> None:
    """`TurnedAway` and `UnknownPort` mean that nothing was switched: the port would be left off."""

    async def status(_port: str) -> PortState:
        raise error

    with pytest.raises(NotConfirmed, match=f"the device was told, and then: {error}"):
        await confirm(status, "1", PortState.OFF, device="the switch")
