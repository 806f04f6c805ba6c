"""What a monitor needs to know before it starts. Read once, in `__main__`, and handed on by constructor."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Final

from pipeline.facade_access import Token
from producers.machine_monitor.probes.chromeos import DEFAULT_ADDRESS_FILE
from producers.machine_monitor.probes.gce import DEFAULT_HOST
from producers.machine_monitor.probes.pyocd import DEFAULT_CONFIG
from producers.machine_monitor.probes.ssh import SshSettings
from producers.machine_monitor.spool import SpoolLimits
from producers.machine_monitor.swarming import SwarmingSettings
from schemas.description import AttachedDevice

DEFAULT_PERIOD: Final = timedelta(seconds=30)
DEFAULT_PORT: Final = 11000


@dataclass(frozen=True, slots=True)
class ProbeSettings:
    """Where things are on this host that probes read or write."""

    ssh: SshSettings = field(default_factory=SshSettings)
    address_file: Path = DEFAULT_ADDRESS_FILE
    """Tells tasks the address of the ChromeOS device."""
    pyocd_config: Path = DEFAULT_CONFIG
    metadata_host: str = DEFAULT_HOST
    """GCE's metadata server."""


@dataclass(frozen=True, slots=True)
class MonitorSettings:
    """Of one monitor."""

    machine_id: str
    state_dir: Path
    """What must outlive the process: unsent events, the last Description, the last start time."""
    home: Path
    """Where tasks leave the file that asks for quarantine."""
    url: str | None = None
    """The façade: gives Descriptions, and takes events unless there is a broker. None: no façade."""
    token: Token = field(default_factory=Token)
    period: timedelta = DEFAULT_PERIOD
    """Between two interrogations that nothing triggered."""
    description_period: timedelta = timedelta(seconds=60)
    """Between two questions for the Description; changes are told sooner, this is for those that were missed."""
    attached_device: AttachedDevice | None = None
    """Overrides what the Description says."""
    port: int | None = DEFAULT_PORT
    """Of the server for the Swarming bot, on loopback; 0 is any free one, None is no server."""
    rack: str = ""
    """Told to Swarming."""
    probes: ProbeSettings = field(default_factory=ProbeSettings)
    spool: SpoolLimits = field(default_factory=SpoolLimits)
    swarming: SwarmingSettings | None = None
    """None: somebody else starts the Swarming bot."""
