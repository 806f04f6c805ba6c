from __future__ import annotations

from datetime import UTC, datetime

import pytest

from producers.machine_monitor.interrogation import Interrogator, TaskState
from producers.machine_monitor.probes.protocol import ProbeFailed
from schemas.description import AttachedDevice, Description
from schemas.event import Host, Standalone
from tests.unit.producers.machine_monitor.fakes import FakeProbe

HOST = Host(name="machine-1", version="v1", start_time=datetime(2026, 3, 1, tzinfo=UTC))


def interrogator(tasks: TaskState | None = None, **probes: FakeProbe) -> Interrogator:
    return Interrogator(
        HOST, {AttachedDevice[name]: probe for name, probe in probes.items()}, tasks or TaskState()
    )


@pytest.mark.parametrize("device", ["adb", "nodevice"])
async def test_what_is_attached_is_asked(device: str) -> None:
    phone, host = FakeProbe(), FakeProbe("standalone", Standalone(cores=4))
    description = Description(attached_device=device)
    event = await interrogator(ADB=phone, NONE=host).interrogate(description)
    assert event.device_kind == ("android" if device == "adb" else "standalone")
    assert len(phone.asked) + len(host.asked) == 1
    assert (event.type, event.host) == ("raw_state", HOST)


async def test_a_missing_device_leaves_the_event_without_a_part() -> None:
    phone = FakeProbe(answer=ProbeFailed("no devices/emulators found"))
    event = await interrogator(ADB=phone).interrogate(Description(attached_device="adb"))
    assert event.device_kind is None
    assert event.type == "raw_state"


@pytest.mark.parametrize("device", ["", "toaster"])
async def test_an_unknown_kind_of_device_is_not_asked(device: str) -> None:
    event = await interrogator().interrogate(Description(attached_device=device))
    assert event.device_kind is None


async def test_the_swarming_bot_is_reported() -> None:
    tasks = TaskState(running=True, launched_swarming=True)
    event = await interrogator(tasks).interrogate(Description())
    assert (event.running_swarming_task, event.launched_swarming) == (True, True)
