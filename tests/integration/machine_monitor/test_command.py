from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from schemas.event import Event
from tests.integration.machine_monitor.facade_double import FacadeDouble

pytestmark = pytest.mark.integration


@pytest.fixture
async def facade() -> AsyncIterator[FacadeDouble]:
    facade = FacadeDouble()
    await facade.come()
    yield facade
    await facade.go()


async def monitor(*arguments: str, home: Path, environment: Mapping[str, str] | None = None) -> Process:
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("LABKEEPER", "SWARMING"))
    }
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "producers.machine_monitor",
        *arguments,
        stdout=PIPE,
        stderr=PIPE,
        env={**kept, "HOME": str(home), "GCE_METADATA_HOST": "127.0.0.1:1", **(environment or {})},
    )


async def test_this_very_host_is_shown_as_an_event(tmp_path: Path) -> None:
    process = await monitor("--once", "--print", home=tmp_path, environment={"SWARMING_BOT_ID": "machine-1"})
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    assert process.returncode == 0, err
    event = Event.model_validate_json(out)
    assert event.host.name == "machine-1"
    assert event.device_kind == "standalone"
    assert event.standalone.os_versions


async def test_a_mistake_is_told_in_one_sentence(tmp_path: Path) -> None:
    process = await monitor("--once", "--print", home=tmp_path, environment={"SWARMING_BOT_ID": "a b"})
    async with asyncio.timeout(60):
        _, err = await process.communicate()
    assert process.returncode == 2
    assert err.decode().startswith("labkeeper: SWARMING_BOT_ID is 'a b', but a machine id has 1 to 128")
    assert "Traceback" not in err.decode()


async def test_a_monitor_reports_until_it_is_asked_to_stop(facade: FacadeDouble, tmp_path: Path) -> None:
    process = await monitor(
        *("--url", facade.url, "--machine-id", "machine-1", "--period", "0.2", "--port", "0"),
        home=tmp_path,
        environment={"LABKEEPER_TOKEN": "t0ken"},
    )
    await facade.got(3)
    process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(60):
        _, err = await process.communicate()
    assert process.returncode == 0, err
    assert [event.sequence for event in facade.events[:3]] == [0, 1, 2]
    assert facade.tokens == {"Bearer t0ken"}
    assert b"t0ken" not in err


async def test_a_monitor_that_is_killed_loses_nothing(facade: FacadeDouble, tmp_path: Path) -> None:
    arguments = ("--url", facade.url, "--machine-id", "machine-1", "--period", "0.1", "--port", "off")
    facade.event_status = lambda _event: 503
    spool = tmp_path / ".local" / "state" / "labkeeper" / "monitor" / "machine-1" / "spool"
    process = await monitor(*arguments, home=tmp_path, environment={"XDG_STATE_HOME": ""})
    async with asyncio.timeout(60):
        while not spool.exists() or len(list(spool.glob("*.event"))) < 3:
            await asyncio.sleep(0.02)
    process.kill()
    await process.communicate()
    waiting = len(list(spool.glob("*.event")))
    facade.event_status = lambda _event: 200
    process = await monitor(*arguments, home=tmp_path, environment={"XDG_STATE_HOME": ""})
    events = await facade.got(waiting + 1)
    process.terminate()
    await process.communicate()
    runs = [(event.host.start_time, event.sequence or 0) for event in events]
    assert runs == sorted(set(runs))
    assert [sequence for _, sequence in runs[:waiting]] == list(range(waiting))
