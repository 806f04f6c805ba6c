"""Simulated machines can be switched, by the driver that switches real plugs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import pytest

from consumers.powercycle_agent.configuration import read_inventory
from consumers.powercycle_agent.drivers.errors import UnknownPort
from consumers.powercycle_agent.drivers.protocol import PortState, PowerDriver
from consumers.powercycle_agent.drivers.secrets import Secrets
from consumers.powercycle_agent.registry import Registry, open_driver
from pipeline.clock import ManualClock
from pipeline.errors import Misconfigured
from producers.simulator.catalogue import furnish
from producers.simulator.life import born, lived, nature_of, switched_off, switched_on
from producers.simulator.power_strips import PowerStrips, strips_of
from producers.simulator.service import Simulator
from producers.simulator.settings import SimulatorSettings
from tests.unit.producers.simulator.test_service import Collector

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
LAB = furnish(20, seed=1)
DEADLINE_S = 60


@asynccontextmanager
async def powered(tmp_path: Path) -> AsyncIterator[tuple[Simulator, Path]]:
    simulator = Simulator(LAB, Collector(enough=1), ManualClock(NOW), SimulatorSettings(len(LAB)))
    path, stop = tmp_path / "power.json5", asyncio.Event()
    running = asyncio.create_task(PowerStrips(strips_of(LAB), simulator).run(path, stop))
    async with asyncio.timeout(DEADLINE_S):
        while not path.exists():
            await asyncio.sleep(0.005)
        yield simulator, path
        stop.set()
        await running


def driver_of(path: Path, machine_id: str) -> tuple[PowerDriver, str]:
    outlet = read_inventory(path, Registry.installed()).outlet(machine_id)
    assert outlet is not None
    return open_driver(outlet.controller, Secrets({}, path.parent / "known_hosts")), outlet.port


async def test_a_port_switches_its_machine_and_no_other(tmp_path: Path) -> None:
    async with powered(tmp_path) as (simulator, path):
        machine_id, neighbour = LAB[3].id, LAB[4].id
        driver, port = driver_of(path, machine_id)
        await driver.off(port)
        assert not simulator.has_power(machine_id)
        assert simulator.has_power(neighbour)
        assert await driver.status(port) is PortState.OFF
        await driver.on(port)
        assert simulator.has_power(machine_id)
        with pytest.raises(UnknownPort):
            await driver.status("99")
        await driver.close()


async def test_every_machine_has_a_port_of_its_own(tmp_path: Path) -> None:
    async with powered(tmp_path) as (_, path):
        inventory = read_inventory(path, Registry.installed())
    outlets = [(outlet.controller.name, outlet.port) for outlet in inventory]
    assert [outlet.machine_id for outlet in inventory] == sorted(machine.id for machine in LAB)
    assert len(set(outlets)) == len(LAB)


async def test_a_file_that_cannot_be_written_is_told() -> None:
    simulator = Simulator(LAB, Collector(enough=1), ManualClock(NOW), SimulatorSettings(len(LAB)))
    with pytest.raises(Misconfigured, match="choose another --power-config"):
        await PowerStrips(strips_of(LAB), simulator).run(Path("/no/such/folder/x.json5"), asyncio.Event())


def test_a_machine_without_power_is_silent_and_comes_back_as_after_a_boot() -> None:
    chance, machine = Random(1), LAB[0]
    nature = nature_of(machine)
    dark = switched_off(born(machine, now=NOW, chance=chance))
    later = lived(dark, nature, now=NOW + timedelta(hours=3), chance=chance)
    assert later.silent
    assert not later.busy
    booting = switched_on(later, chance)
    assert booting.silent
    assert booting.sequence == 0
    up = lived(booting, nature, now=later.at + timedelta(seconds=25), chance=chance)
    assert not up.silent
    assert up.device_uptime <= timedelta(seconds=25)
    assert switched_on(up, chance) is up
