from __future__ import annotations

from pathlib import Path
from typing import Any

import asyncssh
import pytest
from pydantic import ValidationError

from consumers.powercycle_agent.drivers.errors import NotConfirmed, UnknownPort
from consumers.powercycle_agent.drivers.mpower import KIND, MPowerDriver, MPowerSettings
from consumers.powercycle_agent.drivers.protocol import PortState
from consumers.powercycle_agent.drivers.secrets import Secrets
from tests.power_devices.device import Mood
from tests.power_devices.mpower import FakeMPower
from tests.power_devices.ssh_device import PASSWORD, USER

pytestmark = pytest.mark.slow


def settings(**keys: Any) -> MPowerSettings:
    entry = {"address": "127.0.0.1", "user": USER, "ports": {"skia-rpi-001": 1}} | keys
    return MPowerSettings.model_validate(entry)


def driver(strip: FakeMPower, folder: Path) -> MPowerDriver:
    checked = settings(ssh_port=strip.port, password=PASSWORD, confirm_s=0.1)
    return MPowerDriver(checked, Secrets({}, strip.write_known_hosts(folder)))


async def test_a_strip_is_told_exactly_what_it_always_was(tmp_path: Path) -> None:
    strip = FakeMPower()
    await strip.start()
    driven = driver(strip, tmp_path)
    await driven.probe()
    await driven.off("2")
    await driven.on("2")
    await driven.close()
    await strip.stop()
    assert strip.commands == [
        "cat /proc/power/active_pwr1",
        "echo 0 > /proc/power/relay2",
        "cat /proc/power/relay2",
        "echo 1 > /proc/power/relay2",
        "cat /proc/power/relay2",
    ]
    assert [told.at for told in strip.log] == sorted(told.at for told in strip.log)


async def test_a_strip_whose_smoke_test_fails_says_what_it_answered(tmp_path: Path) -> None:
    strip = FakeMPower()
    await strip.start()
    strip.mood = Mood.BABBLES
    driven = driver(strip, tmp_path)
    with pytest.raises(
        NotConfirmed, match=r"performing smoke test on mpower ubnt@127\.0\.0\.1 port \d+; output: .*503"
    ):
        await driven.probe()
    await driven.close()
    await strip.stop()


async def test_nothing_but_a_number_gets_into_the_shell(tmp_path: Path) -> None:
    strip = FakeMPower()
    await strip.start()
    driven = driver(strip, tmp_path)
    for port in ("1; reboot", "../../tmp/x", "9", "0", "", "\uff11"):
        with pytest.raises(UnknownPort):
            await driven.off(port)
        with pytest.raises(UnknownPort):
            await driven.status(port)
    await driven.close()
    await strip.stop()
    assert strip.commands == []


async def test_the_fake_strip_takes_the_old_agents_script_too() -> None:
    strip = FakeMPower()
    await strip.start()
    async with asyncssh.connect(
        "127.0.0.1", strip.port, username=USER, password=PASSWORD, known_hosts=None, config=None
    ) as connection:
        done = await connection.run(input="echo 0 > /proc/power/relay3\ncat /proc/power/relay3\n")
    await strip.stop()
    assert (done.exit_status, done.stdout) == (0, "0\n")
    assert strip.states["3"] is PortState.OFF


@pytest.mark.parametrize("port", ["0", "9", "relay1", "1 "])
def test_a_strip_has_ports_one_to_eight(port: str) -> None:
    with pytest.raises(ValidationError, match=rf"invalid port for skia-rpi-001 \({port}\)"):
        settings(ports={"skia-rpi-001": port})


def test_a_strip_is_off_for_ten_seconds_and_allowed_old_algorithms() -> None:
    assert KIND.off_for.total_seconds() == 10
    assert KIND.reads_back
    assert not KIND.soft_reboot
    assert settings().legacy_ssh
    assert settings(ports={"a": 8}).ports == {"a": "8"}
