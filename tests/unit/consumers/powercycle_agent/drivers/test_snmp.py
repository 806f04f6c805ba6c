"""What the SNMP drivers do beyond what every driver promises."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from pydantic import ValidationError
from pysnmp.hlapi.v3arch.asyncio import SnmpEngine

from consumers.powercycle_agent.drivers import apc, raritan, servertech, snmp, snmp_session
from consumers.powercycle_agent.drivers.errors import TurnedAway, Unreachable
from consumers.powercycle_agent.drivers.protocol import DriverKind, PortState, PowerDriver
from consumers.powercycle_agent.drivers.secrets import Secrets
from tests.power_devices.device import Mood
from tests.power_devices.snmp_agent import (
    AUTH_PASSWORD,
    COMMUNITY,
    PRIV_PASSWORD,
    READER,
    USER,
    Mib,
    SnmpAgent,
)

pytestmark = pytest.mark.slow

ON, OFF = PortState.ON, PortState.OFF
SECRETS: Final = Secrets({"POWERCYCLE_PASSWORD": COMMUNITY}, Path("/nonexistent"))
USER_3: Final = {"version": "3", "user": USER, "auth": "sha256", "auth_password": AUTH_PASSWORD}
RPDU: Final = Mib(
    command="1.3.6.1.4.1.318.1.1.12.3.3.1.1.4.{port}",
    state="1.3.6.1.4.1.318.1.1.12.3.5.1.1.4.{port}",
    commands={1: ON, 2: OFF},
    says={ON: 1, OFF: 2},
    indices={"24": "24"},
)
MASTERSWITCH: Final = Mib(
    command="1.3.6.1.4.1.318.1.1.4.4.2.1.3.{port}",
    state="1.3.6.1.4.1.318.1.1.4.4.2.1.3.{port}",
    commands={1: ON, 2: OFF},
    says={ON: 1, OFF: 2},
    indices={"8": "8"},
)
SENTRY3: Final = Mib(
    command="1.3.6.1.4.1.1718.3.2.3.1.11.{port}",
    state="1.3.6.1.4.1.1718.3.2.3.1.5.{port}",
    commands={1: ON, 2: OFF},
    says={ON: 1, OFF: 0, PortState.UNKNOWN: 2},
    indices={"BA3": "2.1.3"},
)
RELAY: Final = Mib(
    command="1.3.6.1.4.1.19865.1.2.1.1.0",
    state="1.3.6.1.4.1.19865.1.2.1.1.0",
    commands={1: ON, 0: OFF},
    says={ON: 1, OFF: 0},
    indices={"1.3.6.1.4.1.19865.1.2.1.1.0": ""},
)


@asynccontextmanager
async def driven(kind: DriverKind, outlets: Mib, **keys: Any) -> AsyncIterator[tuple[SnmpAgent, PowerDriver]]:
    agent = SnmpAgent(outlets)
    await agent.start()
    port = next(iter(outlets.indices))
    entry = {"address": "127.0.0.1", "udp_port": agent.udp_port, "ports": {"machine": port}, "confirm_s": 0.3}
    driver: PowerDriver = kind.open(
        kind.settings.model_validate({**entry, "answer_s": 0.5, "repeats": 1, **keys}), SECRETS
    )
    try:
        yield agent, driver
    finally:
        await driver.close()
        await agent.stop()


@pytest.mark.parametrize(
    ("kind", "mib", "keys"),
    [
        pytest.param(apc.KIND, RPDU, {"mib": "rpdu", "version": "1"}, id="rpdu"),
        pytest.param(apc.KIND, MASTERSWITCH, {"mib": "masterswitch", "version": "1"}, id="masterswitch"),
        pytest.param(servertech.KIND, SENTRY3, {"mib": "sentry3"}, id="sentry3"),
        pytest.param(snmp.KIND, RELAY, {"on": 1, "off": 0}, id="port by port"),
    ],
)
async def test_outlets_are_where_the_other_mibs_have_them(
    kind: DriverKind, mib: Mib, keys: dict[str, Any]
) -> None:
    port = next(iter(mib.indices))
    async with driven(kind, mib, **keys) as (agent, driver):
        await driver.off(port)
        assert agent.states[port] is OFF
        assert await driver.status(port) is OFF
        await driver.on(port)
        assert agent.states[port] is ON


@pytest.mark.parametrize(("version", "number"), [("1", 0), ("2c", 1)])
async def test_a_message_says_of_which_version_it_is(version: str, number: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind(("127.0.0.1", 0))
        entry = {
            "address": "127.0.0.1",
            "udp_port": listener.getsockname()[1],
            "version": version,
            "answer_s": 0.1,
            "repeats": 0,
            "ports": {},
        }
        driver: PowerDriver = apc.KIND.open(apc.KIND.settings.model_validate(entry), SECRETS)
        with pytest.raises(Unreachable):
            await driver.probe()
        await driver.close()
        sequence, _, *rest = listener.recv(1000)
    assert (sequence, rest[:3]) == (0x30, [2, 1, number])


async def test_an_outlet_that_is_on_its_way_is_neither_on_nor_off() -> None:
    async with driven(servertech.KIND, SENTRY3, mib="sentry3") as (agent, driver):
        agent.states["BA3"] = PortState.UNKNOWN
        assert await driver.status("BA3") is PortState.UNKNOWN


async def test_a_community_that_may_only_read_is_turned_away_when_it_switches() -> None:
    async with driven(apc.KIND, RPDU, mib="rpdu", community=READER) as (agent, driver):
        assert await driver.status("24") is ON
        with pytest.raises(TurnedAway, match="write"):
            await driver.off("24")
        assert agent.states["24"] is ON


async def test_silence_is_said_to_look_like_a_wrong_community() -> None:
    async with driven(apc.KIND, RPDU, mib="rpdu", community="guessed") as (_, driver):
        with pytest.raises(Unreachable, match="wrong community"):
            await driver.status("24")


@pytest.mark.parametrize(
    "keys",
    [
        pytest.param({"auth_password": "not this one"}, id="password"),
        pytest.param({"user": "somebody"}, id="user"),
        pytest.param({"priv": None, "priv_password": None}, id="level"),
        pytest.param({"auth_password": "short"}, id="too short"),
    ],
)
async def test_a_wrong_account_of_version_3_is_turned_away(keys: dict[str, Any]) -> None:
    account = {**USER_3, "priv": "aes128", "priv_password": PRIV_PASSWORD, **keys}
    given = {key: value for key, value in account.items() if value is not None}
    async with driven(apc.KIND, RPDU, mib="rpdu", **given) as (agent, driver):
        with pytest.raises(TurnedAway):
            await driver.off("24")
        assert agent.states["24"] is ON


async def test_a_cancelled_command_is_not_repeated_later() -> None:
    """SNMP repeats what is not answered; a late "off" would darken a port that has been turned on since."""
    async with driven(apc.KIND, RPDU, mib="rpdu", answer_s=0.2, repeats=3) as (agent, driver):
        await driver.probe()
        agent.mood = Mood.HANGS
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await driver.off("24")
        heard = agent.heard
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.6):
                await until(lambda: agent.heard > heard)


async def test_a_call_that_is_cut_off_by_the_making_of_an_engine_leaves_it_to_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else a slow computer under a short limit would make one engine after the other, and never ask."""
    made: list[SnmpEngine] = []

    def slow() -> SnmpEngine:
        time.sleep(0.1)  # as compiling MIBs does: nothing else happens meanwhile
        made.append(SnmpEngine())
        return made[-1]

    monkeypatch.setattr(snmp_session, "SnmpEngine", slow)
    monkeypatch.setattr(snmp_session.SnmpSession, "_idle", {})
    async with driven(apc.KIND, RPDU, mib="rpdu") as (agent, driver):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await driver.off("24")
        assert agent.heard == 0
        await driver.probe()
    assert len(made) == 1


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    ("kind", "keys", "said"),
    [
        (apc.KIND, {"ports": {"m": "AA1"}}, "port of m"),
        (apc.KIND, {"ports": {"m": 0}}, "port of m"),
        (raritan.KIND, {"ports": {"m": "1.2.3"}}, "port of m"),
        (servertech.KIND, {"ports": {"m": "ZZ9"}}, "port of m"),
        (apc.KIND, {"version": "3"}, "needs a user"),
        (apc.KIND, {"user": "lab"}, "needs a user"),
        (apc.KIND, {"version": "3", "user": "lab", "community": "x"}, "community is of no use"),
        (apc.KIND, {"auth_password": "x"}, "auth_password is of no use"),
        (apc.KIND, {"comunity": "x"}, "comunity"),
        (snmp.KIND, {"on": 1, "off": 1, "oid": "1.3.6.1.4.{port}"}, "tell on from off"),
        (snmp.KIND, {"on": 1, "off": 2, "oid": "1.3.6.1.4.1"}, r"must hold \{port\}"),
        (snmp.KIND, {"on": 1, "off": 2, "ports": {"m": "7"}}, "an OID"),
        (snmp.KIND, {"on": 1, "off": 2, "oid": "1.3.6.1.4.{port}", "ports": {"m": "x"}}, "numbers"),
        (snmp.KIND, {"on": 1, "off": 2, "state_oid": "1.3.6.1.4.{port}"}, "needs an oid"),
    ],
)
def test_an_entry_that_cannot_be_meant_is_refused(kind: DriverKind, keys: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        kind.settings.model_validate({"address": "10.0.0.1", "ports": {}, **keys})
