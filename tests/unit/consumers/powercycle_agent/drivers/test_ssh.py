from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncssh
import pytest
from pydantic import ValidationError

from consumers.powercycle_agent.drivers import ssh
from consumers.powercycle_agent.drivers.errors import DriverError, NotConfirmed, TurnedAway, Unreachable
from consumers.powercycle_agent.drivers.mpower import KIND
from consumers.powercycle_agent.drivers.protocol import PortState, PowerDriver
from consumers.powercycle_agent.drivers.secrets import Secrets
from consumers.powercycle_agent.drivers.ssh import host_key
from consumers.powercycle_agent.drivers.ssh_settings import SshSettings
from tests.power_devices.device import Mood
from tests.power_devices.mpower import FakeMPower
from tests.power_devices.ssh_device import PASSWORD, USER, key

pytestmark = pytest.mark.slow

MANY_TRIES = 50


@pytest.fixture
async def strip() -> AsyncIterator[FakeMPower]:
    device = FakeMPower()
    await device.start()
    yield device
    await device.stop()


@pytest.fixture
async def drivers(strip: FakeMPower, tmp_path: Path) -> AsyncIterator[Drivers]:
    made = Drivers(strip, tmp_path)
    yield made
    for driver in made.open:
        await driver.close()


class Drivers:
    """Makes drivers of the strip."""

    def __init__(self, strip: FakeMPower, folder: Path) -> None:
        self.known_hosts = strip.write_known_hosts(folder)
        self.environment: dict[str, str] = {}
        self.open: list[PowerDriver] = []
        self._strip = strip

    def entry(self, **keys: Any) -> dict[str, Any]:
        return {"address": "127.0.0.1", "user": USER, "ssh_port": self._strip.port, "ports": {"a": 1}} | keys

    def __call__(self, **keys: Any) -> PowerDriver:
        settings = KIND.settings.model_validate(self.entry(**({"password": PASSWORD} | keys)))
        driver: PowerDriver = KIND.open(settings, Secrets(self.environment, self.known_hosts))
        self.open.append(driver)
        return driver


async def refusal(driver: PowerDriver) -> str:
    with pytest.raises(TurnedAway) as caught:
        await driver.off("1")
    return str(caught.value)


async def test_a_host_that_is_not_known_is_not_spoken_to(strip: FakeMPower, drivers: Drivers) -> None:
    drivers.known_hosts.unlink()
    text = await refusal(drivers())
    assert "labkeeper power trust" in text
    assert strip.host_key.get_fingerprint() in text
    assert strip.logins == 0
    assert strip.states["1"] is PortState.ON


async def test_another_key_than_the_known_one_is_refused(strip: FakeMPower, drivers: Drivers) -> None:
    other = key("ecdsa-sha2-nistp256").export_public_key().decode()
    drivers.known_hosts.write_text(f"[127.0.0.1]:{strip.port} {other}")
    assert "host key" in await refusal(drivers())
    assert strip.logins == 0


async def test_a_key_that_has_changed_is_told_from_one_that_is_not_known(
    strip: FakeMPower, drivers: Drivers
) -> None:
    other = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode()
    drivers.known_hosts.write_text(f"[127.0.0.1]:{strip.port} {other}")
    text = await refusal(drivers())
    assert "has CHANGED" in text
    assert "labkeeper power trust --replace" in text
    assert strip.host_key.get_fingerprint() in text
    drivers.known_hosts.write_text(f"127.0.0.1 {other}")  # of what listens on port 22 there
    assert "is not known" in await refusal(drivers())
    assert strip.logins == 0


def test_an_address_with_a_scheme_is_told_what_it_should_be(drivers: Drivers) -> None:
    with pytest.raises(ValidationError, match="must be a host name or an IP address"):
        SshSettings.model_validate(drivers.entry(address="http://10.0.0.5"))


async def test_an_empty_file_of_known_hosts_is_not_the_users_own(
    strip: FakeMPower, drivers: Drivers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "known_hosts").write_text(strip.known_hosts_line)
    monkeypatch.setenv("HOME", str(tmp_path))
    drivers.known_hosts.write_text("")
    assert "labkeeper power trust" in await refusal(drivers())


async def test_known_hosts_that_make_no_sense_are_said_to(drivers: Drivers) -> None:
    drivers.known_hosts.write_text("what\n")
    assert str(drivers.known_hosts) in await refusal(drivers())


@pytest.mark.parametrize("form", ["line", "fingerprint"])
async def test_a_pinned_key_needs_no_known_hosts(strip: FakeMPower, drivers: Drivers, form: str) -> None:
    drivers.known_hosts.unlink()
    line = strip.host_key.export_public_key().decode().strip()
    await drivers(host_key=line if form == "line" else strip.host_key.get_fingerprint()).off("1")
    assert strip.states["1"] is PortState.OFF


async def test_a_pinned_key_counts_more_than_a_known_one(drivers: Drivers) -> None:
    other = key("ecdsa-sha2-nistp256")
    for pinned in (other.get_fingerprint(), other.export_public_key().decode().strip()):
        text = await refusal(drivers(host_key=pinned))
        assert "not the one in its entry" in text
        assert "change host_key there" in text


def test_what_is_no_key_is_not_pinned(drivers: Drivers) -> None:
    with pytest.raises(ValidationError, match="neither a public key nor a fingerprint"):
        SshSettings.model_validate(drivers.entry(host_key="ssh-rsa nonsense"))


async def test_the_key_that_a_device_shows_can_be_asked_for_without_logging_in(
    strip: FakeMPower, drivers: Drivers
) -> None:
    shown = await host_key(SshSettings.model_validate(drivers.entry()))
    assert strip.known_hosts_line.startswith(shown.line)
    assert shown.fingerprint == strip.host_key.get_fingerprint()
    assert strip.logins == 0
    await strip.stop()
    with pytest.raises(Unreachable):
        await host_key(SshSettings.model_validate(drivers.entry()))


async def test_old_algorithms_are_used_only_where_they_are_asked_for(
    strip: FakeMPower, drivers: Drivers, tmp_path: Path
) -> None:
    await strip.stop()
    strip.age()
    await strip.start()
    strip.write_known_hosts(tmp_path)
    text = await refusal(drivers(legacy_ssh=False))
    assert "legacy_ssh" in text
    shown = await host_key(SshSettings.model_validate(drivers.entry(legacy_ssh=True)))
    assert shown.fingerprint == strip.host_key.get_fingerprint()
    assert strip.logins == 0
    await drivers().off("1")
    assert strip.states["1"] is PortState.OFF


async def test_the_password_comes_from_the_environment_or_a_file(
    strip: FakeMPower, drivers: Drivers, tmp_path: Path
) -> None:
    drivers.environment["STRIP"] = PASSWORD
    await drivers(password=None, password_env="STRIP").off("1")
    (tmp_path / "secret").write_text(f"{PASSWORD}\n")
    await drivers(password=None, password_file=str(tmp_path / "secret")).on("1")
    assert strip.logins == 2


async def test_a_missing_password_or_key_is_named_before_anybody_is_spoken_to(
    strip: FakeMPower, drivers: Drivers, tmp_path: Path
) -> None:
    assert "set STRIP" in await refusal(drivers(password=None, password_env="STRIP"))
    assert "/nowhere" in await refusal(drivers(password=None, key_file="/nowhere"))
    (tmp_path / "broken").write_text("no key")
    assert "broken" in await refusal(drivers(password=None, key_file=str(tmp_path / "broken")))
    assert strip.gate.connected_at == []


def test_a_password_is_not_shown_with_the_settings(drivers: Drivers) -> None:
    assert PASSWORD not in repr(SshSettings.model_validate(drivers.entry(password=PASSWORD)))


async def test_one_connection_serves_many_calls(strip: FakeMPower, drivers: Drivers) -> None:
    driver = drivers()
    for _ in range(5):
        await driver.off("1")
        await driver.on("1")
    assert strip.logins == 1


async def test_a_warm_connection_brings_a_command_to_the_device_at_once(
    strip: FakeMPower, drivers: Drivers
) -> None:
    driver = drivers()
    await driver.probe()
    for _ in range(MANY_TRIES):  # one is enough: on a busy computer most come late
        began = time.monotonic()
        strip.gate.bytes_at.clear()
        await driver.off("1")
        if strip.gate.bytes_at[0] - began < 0.05:
            break
    else:
        pytest.fail("no command came at once")
    assert strip.logins == 1


@pytest.fixture
def half_a_second_for_an_old_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """And all the rest of the limit, which is ten seconds, for the new one."""
    monkeypatch.setattr(ssh, "_FIRST_TRY", 0.05)


@pytest.mark.usefixtures("half_a_second_for_an_old_connection")
async def test_a_connection_that_went_silent_costs_part_of_the_limit_only(
    strip: FakeMPower, drivers: Drivers
) -> None:
    driver = drivers()
    await driver.probe()
    strip.gate.mute()
    await driver.off("1")
    assert strip.states["1"] is PortState.OFF
    assert strip.logins == 2


@pytest.mark.usefixtures("half_a_second_for_an_old_connection")
async def test_a_refused_login_does_not_say_that_nothing_was_switched_if_a_command_may_have_gone_out(
    strip: FakeMPower, drivers: Drivers
) -> None:
    driver = drivers()
    await driver.probe()
    strip.gate.mute()
    strip.mood = Mood.REFUSES
    with pytest.raises(NotConfirmed, match="refuses the login"):
        await driver.off("1")


async def test_an_idle_connection_is_given_back(strip: FakeMPower, drivers: Drivers) -> None:
    driver = drivers(keep_open=0.05)
    await driver.probe()
    async with asyncio.timeout(10):
        while strip.gate.connections:
            await asyncio.sleep(0.01)
    await driver.probe()
    assert strip.logins == 2


async def test_no_connection_is_kept_where_the_device_has_few(strip: FakeMPower, drivers: Drivers) -> None:
    driver = drivers(keep_open=0)
    await driver.probe()
    await driver.probe()
    assert strip.logins == 2


@pytest.mark.parametrize(
    "greeting",
    [
        b"HTTP/1.0 400 Bad Request\r\n\xff\xfe\r\n" * 100,
        b"SSH-2.0-old\r\n" + b"\0\0\0\x14\x08\x14" + b"\0" * 18,
        b"SSH-2.0-old\r\n" + b"\xff" * 1000,
        b"SSH-2.0-old\r\n" + b"\0\0\0\x0c\x0b" + b"\0" * 11,
        b"SSH-1.5-older\r\n",
    ],
    ids=["http", "half a packet", "a packet too long", "an empty packet", "version 1"],
)
async def test_a_server_that_speaks_no_ssh_is_an_error_of_the_driver(
    drivers: Drivers, greeting: bytes
) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        await reader.read()  # until the driver has had enough
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    driver = drivers(ssh_port=server.sockets[0].getsockname()[1], limit_s=1)
    with pytest.raises(DriverError):
        await driver.off("1")
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize("address", ["a" * 70 + ".lab", "..", "::1"])
async def test_an_address_that_leads_nowhere_is_unreachable(drivers: Drivers, address: str) -> None:
    with pytest.raises(Unreachable, match="cannot connect to"):
        await drivers(address=address, ssh_port=1).off("1")


@pytest.mark.parametrize("address", ["-oProxyCommand=x", "a b", "a;b", "$(a)", "a/b", "\n"])
def test_an_address_is_a_name_or_a_number(drivers: Drivers, address: str) -> None:
    with pytest.raises(ValidationError):
        SshSettings.model_validate(drivers.entry(address=address))


@pytest.mark.parametrize("missing", ["address", "user"])
def test_user_and_address_must_be_given(drivers: Drivers, missing: str) -> None:
    entry = drivers.entry()
    del entry[missing]
    with pytest.raises(ValidationError, match="You must specify a user and ip address"):
        SshSettings.model_validate(entry)
