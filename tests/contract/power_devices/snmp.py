"""The SNMP drivers: each against an agent with its vendor's MIB; between them they speak all three versions."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Final

from consumers.powercycle_agent.drivers import apc, raritan, servertech, snmp
from consumers.powercycle_agent.drivers.protocol import DriverKind, PortState
from consumers.powercycle_agent.drivers.secrets import Secrets
from tests.contract.power_devices.harness import Case, Harness, Trait
from tests.power_devices.snmp_agent import AUTH_PASSWORD, COMMUNITY, PRIV_PASSWORD, USER, Mib, SnmpAgent

ON, OFF = PortState.ON, PortState.OFF
RPDU2: Final = Mib(
    command="1.3.6.1.4.1.318.1.1.26.9.2.4.1.5.{port}",
    state="1.3.6.1.4.1.318.1.1.26.9.2.3.1.5.{port}",
    commands={1: ON, 2: OFF},
    says={OFF: 1, ON: 2},
    indices={"1": "1", "2": "2"},
)
PDU2: Final = Mib(
    command="1.3.6.1.4.1.13742.6.4.1.2.1.2.{port}",
    state="1.3.6.1.4.1.13742.6.4.1.2.1.3.{port}",
    commands={1: ON, 0: OFF},
    says={ON: 7, OFF: 8},
    indices={"3": "1.3", "2.6": "2.6"},
)
SENTRY4: Final = Mib(
    command="1.3.6.1.4.1.1718.4.1.8.5.1.2.{port}",
    state="1.3.6.1.4.1.1718.4.1.8.3.1.1.{port}",
    commands={1: ON, 2: OFF},
    says={ON: 1, OFF: 2},
    indices={"AA1": "1.1.1", "BA12": "2.1.12"},
)
POE: Final = Mib(
    command="1.3.6.1.2.1.105.1.1.1.3.1.{port}",
    state="1.3.6.1.2.1.105.1.1.1.3.1.{port}",
    commands={1: ON, 2: OFF},
    says={ON: 1, OFF: 2},
    indices={"7": "7", "8": "8"},
)
WRITER: Final = {"community": COMMUNITY}
USER_3: Final = {
    "version": "3",
    "user": USER,
    "auth": "sha256",
    "auth_password": AUTH_PASSWORD,
    "priv": "aes128",
    "priv_password": PRIV_PASSWORD,
}
PATIENCE_S: Final = 20.0
"""pysnmp compiles its MIBs for a driver's first call, which takes a while on a busy machine; who does not answer is given up
before that, after `answer_s` and one repetition."""
SILENCE: Final = "agents meet a wrong community with silence"


def harness(
    kind: DriverKind, mib: Mib, no_port: str, entry: dict[str, Any], lacks: dict[Trait, str]
) -> Harness:
    lost = {Trait.CONNECTION: "UDP: a lost answer looks like a lost question"}
    return Harness(kind.name, _starter(kind, mib, no_port, entry), {**lacks, **lost})


def _starter(
    kind: DriverKind, mib: Mib, no_port: str, entry: dict[str, Any]
) -> Callable[[Path], AbstractAsyncContextManager[Case]]:
    @asynccontextmanager
    async def start(folder: Path) -> AsyncIterator[Case]:
        agent = SnmpAgent(mib)
        await agent.start()

        def settings(limit_s: float) -> Any:
            return kind.settings.model_validate(
                {
                    "address": "127.0.0.1",
                    "udp_port": agent.udp_port,
                    "ports": {f"machine-{port}": port for port in mib.indices},
                    "answer_s": 0.3,
                    "repeats": 1,
                    "limit_s": max(limit_s, PATIENCE_S),
                    "confirm_s": 0.3,
                    **entry,
                }
            )

        first, second = mib.indices
        secrets = Secrets({}, folder / "known_hosts")
        try:
            yield Case(
                agent,
                kind,
                settings,
                secrets,
                (first, second),
                no_port,
                secret_texts=(COMMUNITY, AUTH_PASSWORD, PRIV_PASSWORD),
            )
        finally:
            await agent.stop()

    return start


HARNESSES: Final = (
    harness(apc.KIND, RPDU2, "9", USER_3, {}),
    harness(raritan.KIND, PDU2, "9", WRITER, {Trait.LOGIN: SILENCE}),
    harness(servertech.KIND, SENTRY4, "CC1", WRITER, {Trait.LOGIN: SILENCE}),
    harness(
        snmp.KIND,
        POE,
        "9",
        {**WRITER, "version": "1", "oid": "1.3.6.1.2.1.105.1.1.1.3.1.{port}", "on": 1, "off": 2},
        {Trait.LOGIN: SILENCE},
    ),
)
