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
from consumers.powercycle_agent.drivers.synaccess import KIND, SynaccessDriver, SynaccessSettings
from tests.power_devices.device import Mood
from tests.power_devices.synaccess import FakeSynaccess

pytestmark = pytest.mark.slow


def settings(address: str = "http://127.0.0.1", **keys: Any) -> SynaccessSettings:
    return SynaccessSettings.model_validate({"address": address, "ports": {"a": 1}} | keys)


def driver(unit: FakeSynaccess, environment: dict[str, str] | None = None, **keys: Any) -> SynaccessDriver:
    return SynaccessDriver(
        settings(unit.address, confirm_s=0.1, **keys), Secrets(environment or {}, Path("/nonexistent"))
    )


@pytest.fixture
async def unit() -> AsyncIterator[FakeSynaccess]:
    device = FakeSynaccess()
    await device.start()
    yield device
    await device.stop()


async def test_a_unit_is_told_exactly_what_it_always_was(unit: FakeSynaccess) -> None:
    driven = driver(unit)
    await driven.off("3")
    await driven.on("3")
    await driven.close()
    assert [each for each in unit.commands if "$A3" in each] == [
        "GET /cmd.cgi?$A3%203%200",
        "GET /cmd.cgi?$A3%203%201",
    ]


@pytest.mark.parametrize("begins_with_code", [True, False])
async def test_states_are_read_from_the_right_with_or_without_a_code(
    unit: FakeSynaccess, begins_with_code: bool
) -> None:
    unit.begins_with_code = begins_with_code
    unit.states |= {"1": PortState.OFF, "7": PortState.OFF}
    driven = driver(unit)
    states = {port: await driven.status(port) for port in unit.states}
    await driven.close()
    assert states == unit.states


async def test_an_entry_without_a_password_logs_in_with_the_factorys_as_ever(unit: FakeSynaccess) -> None:
    driven = driver(unit, {"POWERCYCLE_PASSWORD": "the switches'"})
    await driven.probe()
    await driven.close()


async def test_a_password_that_is_named_is_used(unit: FakeSynaccess) -> None:
    unit.wanted_password = "better"
    driven = driver(unit, {"UNIT": "better"}, password_env="UNIT")
    await driven.probe()
    await driven.close()
    other = driver(unit)
    with pytest.raises(TurnedAway):
        await other.probe()
    await other.close()


async def test_an_http_error_is_one(unit: FakeSynaccess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeSynaccess, "guard", lambda *_: web.Response(status=500, text="$A0"))
    driven = driver(unit)
    with pytest.raises(NotConfirmed, match="HTTP 500"):
        await driven.off("1")
    await driven.close()


async def test_a_unit_that_refuses_a_command_for_an_outlet_that_it_has_is_not_believed(
    unit: FakeSynaccess, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = FakeSynaccess._answer
    monkeypatch.setattr(
        FakeSynaccess, "_answer", lambda self, words: "$AF" if words[0] == "$A3" else answer(self, words)
    )
    driven = driver(unit)
    with pytest.raises(NotConfirmed, match="did not turn outlet 1 off"):
        await driven.off("1")
    await driven.close()
    assert unit.mood is Mood.WELL


@pytest.mark.parametrize("port", ["0", "01", "1%200", "a", "100"])
def test_an_outlet_is_a_number(port: str) -> None:
    with pytest.raises(ValidationError, match="is no outlet"):
        settings(ports={"a": port})


def test_an_outlet_is_off_for_ten_seconds() -> None:
    assert KIND.off_for.total_seconds() == 10
    assert not KIND.soft_reboot
