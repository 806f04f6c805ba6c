"""ChromeOS devices, over SSH to the address that an operator gave the machine.

Unlike the original, a host that answers but holds none of ChromeOS's release facts counts as "not attached".
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Final

from producers.machine_monitor.files import write_whole
from producers.machine_monitor.probes.protocol import ProbeFailed
from producers.machine_monitor.probes.ssh import ConnectionEnded, SshClient
from schemas.description import Description
from schemas.event import ChromeOS, DeviceKind

DEFAULT_ADDRESS_FILE: Final = Path("/tmp/ssh_machine.json")  # noqa: S108  # the place that tasks know
_COMMENT: Final = "This file is written to by test_machine_monitor. Do not edit by hand."
_NS_PER_S: Final = 1_000_000_000
_DECIMAL = re.compile(r"\d{1,9}(\.\d{0,9})?")
_RELEASE_FACT = re.compile(
    r"CHROMEOS_RELEASE_(?P<key>VERSION|CHROME_MILESTONE|TRACK)=(?P<value>\S+)",
)


@dataclass(frozen=True, slots=True)
class Release:
    """What `/etc/lsb-release` says; what it does not say is empty."""

    version: str = ""
    milestone: str = ""
    channel: str = ""


class ChromeosProbe:
    """Asks and restarts the ChromeOS device at `SSHUserIP`, and tells tasks its address in a file."""

    def __init__(self, ssh: SshClient, *, address_file: Path = DEFAULT_ADDRESS_FILE) -> None:
        self._ssh = ssh
        self._address_file = address_file

    @property
    def kind(self) -> DeviceKind:
        return "chromeos"

    async def interrogate(self, description: Description) -> ChromeOS:
        address = _address(description)
        async with self._ssh.connect(address) as session:
            uptime_ns = parse_uptime_ns(await session.run("cat /proc/uptime"))
            release = parse_release(await session.run("cat /etc/lsb-release"))
        self._tell_tasks(address)
        return ChromeOS(
            channel=release.channel,
            milestone=release.milestone,
            release_version=release.version,
            uptime_ns=uptime_ns,
        )

    async def reboot(self, description: Description) -> None:
        async with self._ssh.connect(_address(description)) as session:
            try:
                await session.run("reboot")
            except ConnectionEnded:
                return  # what a device does that restarts

    def _tell_tasks(self, address: str) -> None:
        try:
            write_whole(self._address_file, address_file_content(address), mode=0o644)
        except OSError as error:
            raise ProbeFailed(f"{self._address_file} cannot be written: {error.strerror}") from error


def parse_uptime_ns(text: str) -> int:
    """Nanoseconds from `/proc/uptime`: `1234.5 5678.9` is 1,234,500,000,000. Raises `ProbeFailed`."""
    seconds = text.split(" ", 1)[0]
    if not _DECIMAL.fullmatch(seconds):
        raise ProbeFailed(f"/proc/uptime does not begin with a number: {text[:100]!r}")
    return int(Decimal(seconds) * _NS_PER_S)


def parse_release(text: str) -> Release:
    """The release facts in `/etc/lsb-release`. Raises `ProbeFailed` when there is none of them."""
    facts: dict[str, str] = {}
    for found in _RELEASE_FACT.finditer(text):
        facts.setdefault(found["key"], found["value"])
    if not facts:
        raise ProbeFailed("/etc/lsb-release holds no CHROMEOS_RELEASE facts: this is no ChromeOS device")
    return Release(
        version=facts.get("VERSION", ""),
        milestone=facts.get("CHROME_MILESTONE", ""),
        channel=facts.get("TRACK", ""),
    )


def address_file_content(address: str) -> bytes:
    """What tasks find in the address file."""
    return (json.dumps({"Comment": _COMMENT, "user_ip": address}, indent=2) + "\n").encode()


def _address(description: Description) -> str:
    if not description.ssh_user_ip:
        raise ProbeFailed("the machine has no SSHUserIP: an operator must supply it")
    return description.ssh_user_ip
