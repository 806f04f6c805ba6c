"""Events for measuring: as many as a benchmark can take, made from templates instead of from lives."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import count, cycle
from typing import Final

from producers.simulator.android import dumpsys_battery, dumpsys_thermal_service, getprop
from producers.simulator.catalogue import PHONES, Phone
from producers.simulator.reports import MONITOR_VERSION
from schemas.event import RAW_STATE, Android, Event, Host

_READ_PROPERTIES: Final = (
    "ro.build.id",
    "ro.build.product",
    "ro.build.type",
    "ro.build.version.incremental",
    "ro.product.board",
    "ro.product.brand",
    "ro.product.device",
    "ro.product.name",
    "ro.product.system.brand",
)
_MACHINE: Final = "MACHINE-ID"
_SERIAL: Final = "SERIAL-NUMBER"
_LEVEL: Final = 61
_SEQUENCE: Final = 7_777_777_777_777_777
_LEVELS: Final = (*range(100, 40, -1), *range(40, 100))


class EventSize(StrEnum):
    """About how long an event's JSON is."""

    SMALL = "1k"
    """The lines that are read of what an Android device prints, and nothing else."""
    REAL = "35k"
    """All that an Android device prints."""


def load_ids(machines: int) -> tuple[str, ...]:
    """Ids of the machines that `load_events` speaks for."""
    return tuple(f"load-{number:07}" for number in range(machines))


def load_events(machines: int, size: EventSize, *, start_time: datetime) -> Iterator[tuple[str, bytes]]:
    """Machine id and JSON of an event: machine after machine, round after round, without end.

    Every machine's sequence counts up from 0 in the monitor run that began at `start_time`. Batteries drain and are
    charged, so that every event changes its row, and never so far that a machine would recover.
    """
    templates = [_template(phone, size, start_time) for phone in PHONES]
    ids = [(machine_id, machine_id.encode()) for machine_id in load_ids(machines)]
    for sequence, level in zip(count(), cycle(_LEVELS), strict=False):
        values = {b"sequence": sequence, b"level": level}
        for (machine_id, encoded), template in zip(ids, cycle(templates), strict=False):
            values[b"id"] = encoded
            yield machine_id, template % values


def _template(phone: Phone, size: EventSize, start_time: datetime) -> bytes:
    """A format for `%` with the values `id`, `level` and `sequence`."""
    text = getprop(phone, _SERIAL)
    if size is EventSize.SMALL:
        text = "".join(line for line in text.splitlines(keepends=True) if _is_read(line))
    event = Event(
        type=RAW_STATE,
        host=Host(name=_MACHINE, version=MONITOR_VERSION, start_time=start_time),
        android=Android(
            getprop=text,
            dumpsys_battery=_battery(size),
            dumpsys_thermal_service=_thermal(size),
            uptime_ns=int(timedelta(hours=5).total_seconds()) * 1_000_000_000,
        ),
        sequence=_SEQUENCE,
    )
    return (
        event.model_dump_json()
        .replace("%", "%%")
        .replace(_MACHINE, "%(id)b")
        .replace(_SERIAL, "%(id)b")
        .replace(f"level: {_LEVEL}", "level: %(level)d")
        .replace(str(_SEQUENCE), "%(sequence)d")
        .encode()
    )


def _is_read(line: str) -> bool:
    return line.startswith(tuple(f"[{name}]" for name in _READ_PROPERTIES))


def _battery(size: EventSize) -> str:
    if size is EventSize.SMALL:
        return f"  level: {_LEVEL}\n  scale: 100\n"
    return dumpsys_battery(_LEVEL, celsius=27.5, charging=True)


def _thermal(size: EventSize) -> str:
    return "" if size is EventSize.SMALL else dumpsys_thermal_service(27.5, uptime=timedelta(hours=5))
