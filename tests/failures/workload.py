"""What the machines of a failure test report: the same events for the same numbers, however often they are made.

Each event has a number and says it in its CloudEvents id, so that none can go missing or appear twice unnoticed. The
fleet is mixed: phones that drain and recover, devices that come and go, monitors that are restarted, old clients that send
no sequence, machines that fall silent, and now and then something that is no event at all.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any, Final

from pipeline.broker.protocol import Outgoing
from schemas.envelope import EVENT_TYPE, ID, metadata
from schemas.topics import MACHINE_EVENTS
from schemas.wire import format_time

SILENT_PREFIX: Final = "silent-"
SILENT: Final = tuple(f"{SILENT_PREFIX}{number}" for number in range(10))
"""Machines that report once, in the very beginning, and then never again."""
OLD: Final = "old-"
"""Ids of machines whose client sends no sequence begin so."""

SILENT_POOL: Final = "Quick"
POOLS: Final = ((SILENT_POOL, f"^{SILENT_PREFIX}"), ("Lab", ""))
"""The pools of the lab, as `Pools` takes them."""

_KINDS: Final = ("phone-", "phone-", OLD, "apple-", "phone-", "host-", OLD, "phone-", "board-", "apple-")
_SOURCE: Final = "/tests/failures"
_FIRST_RUN: Final = datetime(2026, 1, 1, tzinfo=UTC)
_ROUNDS_OF_A_RUN: Final = 40
_MALFORMED_EVERY: Final = 1250
_UNKNOWN_EVERY: Final = 1000
_MALFORMED: Final = (
    b"this is not JSON",
    b'{"type":"raw_state","host":{"version":"nameless"}}',
    b'{"type":"raw_state","host":{"name":"not a machine id"}}',
    b'{"type":"raw_state","host":{"name":"nul","version":"\\u0000"}}',
)
_GETPROP: Final = """\
[ro.build.id]: [RQ3A.211001.001]
[ro.build.product]: [redfin]
[ro.build.type]: [user]
[ro.build.version.incremental]: [7641976]
[ro.product.brand]: [google]
[ro.product.device]: [redfin]
[ro.product.name]: [redfin]
"""


@dataclass(frozen=True, slots=True)
class Workload:
    """So many messages from so many machines at least, one after the other, round after round."""

    messages: int = 50_000
    machines: int = 500
    rate: float = 3000.0
    """Messages a second at most."""

    def ids(self) -> Sequence[str]:
        """The machines that go on reporting."""
        return [f"{_KINDS[number % len(_KINDS)]}{number:04}" for number in range(self.machines)]

    def outgoing(self, *, start: int = 0) -> Iterator[Outgoing]:
        """The messages from that number on, without an end."""
        ids = self.ids()
        for number in count(start):
            headers = metadata(EVENT_TYPE, _SOURCE, message_id=str(number))
            if number < len(SILENT):
                machine_id, value = SILENT[number], _encoded(report(SILENT[number], 0))
            else:
                step, place = divmod(number - len(SILENT), len(ids))
                machine_id = ids[place]
                value = _value(number, machine_id, step)
            yield Outgoing(MACHINE_EVENTS, machine_id, value, headers)


def number_of(headers: Mapping[str, str]) -> int | None:
    """Which message of the workload it is; None when it is not one of it."""
    number = headers.get(ID, "")
    return int(number) if number.isdigit() else None


def report(machine_id: str, step: int) -> dict[str, Any]:
    """What a machine says in its so manieth round."""
    run, sequence = divmod(step, _ROUNDS_OF_A_RUN)
    start_time = format_time(_FIRST_RUN + run * timedelta(days=1))
    event = {
        "type": "raw_state",
        "host": {"name": machine_id, "version": f"v{run}", "start_time": start_time},
        "running_swarming_task": step % 3 == 0,
        "launched_swarming": True,
        "forced_quarantine": (_salt(machine_id) + step) % 97 == 0,
        **_device(machine_id, step),
    }
    return event if machine_id.startswith(OLD) else {**event, "sequence": sequence}


def _value(number: int, machine_id: str, step: int) -> bytes:
    if number % _MALFORMED_EVERY == 0:
        return _MALFORMED[number // _MALFORMED_EVERY % len(_MALFORMED)]
    event = report(machine_id, step)
    return _encoded({**event, "type": "from the future"} if number % _UNKNOWN_EVERY == 1 else event)


def _encoded(event: dict[str, Any]) -> bytes:
    return json.dumps(event).encode()


def _device(machine_id: str, step: int) -> dict[str, Any]:
    level = (_salt(machine_id) * 7 + step * 11) % 101
    match machine_id.partition("-")[0]:
        case "phone" | "old":
            battery = f"  level: {level}\n  scale: 100\n"
            return {
                "android": {
                    "getprop": _GETPROP,
                    "dumpsys_battery": battery,
                    "uptime": (1 + step) * 30 * 10**9,
                }
            }
        case "apple" if step % 5 != 4:
            return {"ios": {"device_type": "iPhone10,1", "version": "13.3.1", "battery": level}}
        case "board":
            return {"pyocd": {"device_type": "nucleo-f429zi"}}
        case "host":
            return {"standalone": {"cores": 8, "os_versions": ["Linux"], "cpus": ["x86-64"]}}
        case _:
            return {}


def _salt(machine_id: str) -> int:
    return int(machine_id.rpartition("-")[2])
