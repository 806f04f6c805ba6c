"""A rack as it stands in a lab: a strip, switches and boards on loopback that speak their real protocols, a machine that can be
asked to reboot, and the old `powercycle.json5` that says which machine hangs where.

The devices live in a thread of their own: the browser needs the test's, and asyncio runs in one of both only.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import AsyncExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

from consumers.powercycle_agent.drivers.protocol import PortState
from tests.power_devices.device import PowerDevice
from tests.power_devices.edgeswitch import FakeEdgeSwitch
from tests.power_devices.mpower import FakeMPower
from tests.power_devices.ssh_device import PASSWORD, USER, key
from tests.power_devices.tasmota import FakeTasmota
from tests.power_devices.web_device import PASSWORD as WEB_PASSWORD
from tests.unit.consumers.powercycle_agent.machine import Machine

BOARDS: Final = 20
RELAYS: Final = 10
ON_SWITCH: Final = "rack4-pi-07"
"""On port 7."""
NEXT_ON_SWITCH: Final = "rack4-pi-08"
"""On port 8."""
ON_STRIP: Final = "rack4-pi-02"
"""On port 2."""
REBOOTABLE: Final = "127.0.0.1"
"""A machine's id is its host name; this one has an SSH server."""
_START_S: Final = 30

_OLD_ENTRIES: Final = """\
  // The strips know us by our key, the switches by their password.
  mpower: {
    "rack4-strip1": {
      address: "127.0.0.1", ssh_port: %(strip)d,
      user: "%(user)s",
      ports: { "%(on_strip)s": 2 },
      delay: 1, limit_s: 60,
    },
  },
  edgeswitch: {
    "rack4-switch1": {
      address: "127.0.0.1", ssh_port: %(switch)d,
      user: "%(user)s", password: "%(password)s",
      ports: { "%(on_switch)s": 7, "%(next_on_switch)s": 8 },
      delay: 1, limit_s: 60, soft_reboot: false,
    },
    "rack4-switch2": {
      address: "127.0.0.1", ssh_port: %(spare)d,
      user: "%(user)s", password: "%(password)s",
      ports: { "%(rebootable)s": 3 },
      soft_reboot: %(soft_reboot)s,
    },
  },
"""


class Rack:
    """The devices, and the files of the host that drives them, in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.switch = FakeEdgeSwitch()
        self.strip = FakeMPower()
        self.strip.user_key = key("ssh-ed25519")
        self.spare = FakeEdgeSwitch()
        self.machine = Machine()
        self.machine.on_reboot = partial(self.machine.reboot, dark=1)
        self.boards = [Board() for _ in range(BOARDS)]
        self.config = folder / "powercycle.json5"
        self._folder = folder

    @property
    def environment(self) -> Mapping[str, str]:
        """Of the host's processes."""
        return {"HOME": str(self._folder), "LABKEEPER_POWERCYCLE_STATE": str(self._folder / "state")}

    @property
    def hall(self) -> Sequence[str]:
        """The machines on the boards."""
        return [machine for board in self._boards().values() for machine in board["ports"]]

    @property
    def fingerprints(self) -> Sequence[str]:
        """What the devices' labels say, once each."""
        shown = {device.host_key.get_fingerprint() for device in (self.switch, self.strip, self.spare)}
        return sorted(shown)

    @contextmanager
    def running(self) -> Iterator[None]:
        """All are there, and so is the configuration."""
        up: Future[Callable[[], object]] = Future()
        with ThreadPoolExecutor(1) as pool:
            serving = pool.submit(asyncio.run, self._serve(up))
            either: list[Future[Any]] = [up, serving]
            wait(either, timeout=_START_S, return_when=FIRST_COMPLETED)
            if not up.done():
                serving.result(0)  # raises what went wrong
            end = up.result(0)
            try:
                yield
            finally:
                end()
                serving.result()

    async def _serve(self, up: Future[Callable[[], object]]) -> None:
        over = asyncio.Event()
        async with AsyncExitStack() as stack:
            for device in self._devices:
                await device.start()
                stack.push_async_callback(device.stop)
            await stack.enter_async_context(self.machine.up())
            self._write_files()
            up.set_result(partial(asyncio.get_running_loop().call_soon_threadsafe, over.set))
            await over.wait()

    @property
    def _devices(self) -> Sequence[PowerDevice]:
        return (self.switch, self.strip, self.spare, *self.boards)

    def _write_files(self) -> None:
        keys = self._folder / ".ssh"
        keys.mkdir(mode=0o700)
        key("ssh-ed25519").write_private_key(keys / "id_ed25519")
        (self._folder / "web").write_text(WEB_PASSWORD)
        old = _OLD_ENTRIES % {
            "strip": self.strip.port,
            "switch": self.switch.port,
            "spare": self.spare.port,
            "user": USER,
            "password": PASSWORD,
            "on_strip": ON_STRIP,
            "on_switch": ON_SWITCH,
            "next_on_switch": NEXT_ON_SWITCH,
            "rebootable": REBOOTABLE,
            "soft_reboot": self.machine.settings(self._folder).model_dump_json(exclude_unset=True),
        }
        self.config.write_text("{\n" + old + f"  tasmota: {json.dumps(self._boards())},\n}}\n")
        self.config.chmod(0o600)

    def _boards(self) -> Mapping[str, Any]:
        return {
            f"board{number}": {
                "address": board.address,
                "password_file": str(self._folder / "web"),
                "ports": {f"hall-{number}-{relay}": int(relay) for relay in board.states},
                "delay": 0.2,
                "limit_s": 60,
            }
            for number, board in enumerate(self.boards)
        }


class Board(FakeTasmota):
    """One with ten relays."""

    def __init__(self) -> None:
        super().__init__()
        self.states = {str(number): PortState.ON for number in range(1, RELAYS + 1)}
