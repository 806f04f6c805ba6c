from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from producers.machine_monitor.belief import Belief
from producers.machine_monitor.probes.protocol import ProbeFailed
from producers.machine_monitor.reboot import Rebooters, RebootWorker
from schemas.description import Description
from schemas.wire import Dimensions
from tests.unit.producers.machine_monitor.fakes import FakeProbe

ANDROID: Dimensions = {"android_devices": ["1"], "os": ["Android"]}
IOS: Dimensions = {"os": ["iOS", "iOS-16.2"]}


@pytest.mark.parametrize(
    ("description", "expected"),
    [
        (Description(dimensions=ANDROID), "android"),
        (Description(dimensions=IOS), "ios"),
        (Description(dimensions=IOS | {"android_devices": []}), "ios"),
        (Description(ssh_user_ip="root@device"), "ssh"),
        (Description(dimensions=ANDROID, ssh_user_ip="root@device"), "android"),
        (Description(dimensions={"os": ["Linux"]}), None),
        (Description(), None),
    ],
)
def test_the_device_to_reboot_follows_from_the_dimensions(
    description: Description, expected: str | None
) -> None:
    devices = {"android": FakeProbe(), "ios": FakeProbe(), "ssh": FakeProbe()}
    chosen = Rebooters(**devices).choose(description)
    assert chosen is (devices[expected] if expected else None)


@pytest.mark.parametrize("error", [None, ProbeFailed("no answer")])
async def test_a_reboot_is_followed_by_an_interrogation_even_when_it_fails(error: ProbeFailed | None) -> None:
    phone = FakeProbe(reboot_error=error)
    belief, interrogated = Belief(), asyncio.Event()
    belief.replace(Description(dimensions=ANDROID))
    worker = RebootWorker(Rebooters(phone, phone, phone), belief, afterwards=interrogated.set)
    running = asyncio.create_task(worker.run())
    worker.request()
    async with asyncio.timeout(60):
        await interrogated.wait()
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
    assert len(phone.rebooted) == 1
